"""The clients of the OpenAI and Anthropic SDK, wrapped: what they promise holds, and the provider is asked once."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="the OpenAI SDK is not installed: pip install 'memgang[openai]'")

import httpx2
import openai

import memgang
from memgang.adapters.bridge import Bridge
from memgang.adapters.calling import Asked, Calls, Whole
from memgang.adapters.transport import Exchanges, _instead
from memgang.errors import ConfigError, WorkFailed
from memgang.model import Call
from memgang.savings import fold
from tests.adapters.provider import Provider
from tests.gates import raws, until

# Without randomness: else each ask of a named agent, as the one of these spaces is, is for a sample of its own.
ASK: dict[str, Any] = {"model": "gpt-5-mini", "temperature": 0, "messages": [{"role": "user", "content": "hello"}]}
_made: list[Any] = []


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of its own."""
    found = Provider()
    yield found
    found.close()


@pytest.fixture(autouse=True)
async def clients_are_closed() -> AsyncIterator[None]:
    """In the event loop they were used in."""
    yield
    while _made:
        await _made.pop().close()


def awaited(provider: Provider, space: Any, key: str = "sk-mine-12345678") -> Any:
    """A wrapped client."""
    _made.append(memgang.wrap(openai.AsyncOpenAI(api_key=key, base_url=provider.url + "/v1", max_retries=0), space))
    return _made[-1]


def plain(provider: Provider, space: Any) -> Any:
    return memgang.wrap(openai.OpenAI(api_key="sk-mine-12345678", base_url=provider.url + "/v1", max_retries=0), space)


async def text_of(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def test_an_answer_is_the_providers_own_and_is_asked_for_once(space: memgang.Space, provider: Provider) -> None:
    """Text, tool calls, usage and id, the SDK's own types; another question, model or tool is another call."""
    client = awaited(provider, space)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    first = await client.chat.completions.create(**ASK, tools=tools)
    second = await client.chat.completions.create(**ASK, tools=tools, user="somebody", metadata={"a": "b"})

    assert second == first and isinstance(first, openai.types.chat.ChatCompletion)
    assert first.choices[0].message.content == "HELLO" and first.choices[0].message.tool_calls[0].function.name == "look"
    assert first.usage.prompt_tokens == 1000 and len(provider.asked) == 1
    await client.chat.completions.create(**ASK)
    await client.chat.completions.create(**ASK | {"model": "other"}, tools=tools)
    assert len(provider.asked) == 3


async def test_many_who_ask_at_once_ask_the_provider_once(space: memgang.Space, provider: Provider, opened: Any) -> None:
    """Plain and streams, over two spaces of their own; the log knows the tokens to the last."""
    async with opened() as other:
        provider.gate.clear()
        clients = [awaited(provider, one) for one in (space, other)]
        asking = [asyncio.create_task(client.chat.completions.create(**ASK)) for client in clients for _ in range(10)]
        assert await asyncio.to_thread(provider.reached.wait, 30)
        await until(lambda: waits(space))
        provider.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*asking), 60)
        await other.flush()

    assert len(provider.asked) == 1 and all(answer == answers[0] for answer in answers)
    await space.flush()
    savings = fold([event async for event in space.events()])
    savings.check()
    assert (savings.physical.tokens_in, savings.physical.tokens_out, savings.physical.tokens_cached) == (1000, 100, 400)
    assert savings.avoided_total.tokens_in == 19 * 1000 and savings.physical.micro_usd > 0


async def waits(space: memgang.Space) -> bool:
    await space.flush()
    return "waits" in await raws(space)


async def test_a_stream_is_followed_from_its_first_byte_and_live(space: memgang.Space, provider: Provider, opened: Any) -> None:
    """Who comes late is given what there is before the end is there; chunks as the provider cut them; then from memory."""
    provider.gate.clear()
    options = {"stream_options": {"include_usage": True}, "stream": True}
    async with opened() as other:
        streams = [await asyncio.wait_for(awaited(provider, one).chat.completions.create(**ASK, **options), 60) for one in (space, other)]
        firsts = [await asyncio.wait_for(anext(stream), 60) for stream in streams]
        assert [first.choices[0].delta.content for first in firsts] == ["HE", "HE"]
        provider.gate.set()
        rests = [[chunk async for chunk in stream] for stream in streams]
        again = [chunk async for chunk in await awaited(provider, other).chat.completions.create(**ASK, **options)]

    assert rests[0] == rests[1] and again == [firsts[0], *rests[0]] and len(provider.asked) == 1
    assert again[-1].usage.total_tokens == 1100
    savings = fold([event async for event in space.events()])
    assert savings.physical.tokens_in == 1000


@pytest.mark.parametrize("block", [1, 2, 7])
async def test_a_stream_is_one_wherever_the_network_cuts_it(space: memgang.Space, provider: Provider, block: int) -> None:
    """Also where a block begins with a brace, as an answer in one piece does: live, and from memory."""
    provider.block = block
    client = awaited(provider, space)
    for _ in range(2):
        events = [event async for event in await client.responses.create(model="m", input="hi {you}", temperature=0, stream=True)]
        assert [event.type for event in events] == ["response.output_text.delta", "response.completed"]
        assert events[-1].response.output_text == "HI {YOU}"
        assert await text_of(await client.chat.completions.create(**ASK, stream=True)) == "HELLO"
    assert len(provider.asked) == 2


async def test_the_helpers_of_the_sdk_work_on_what_is_recalled(space: memgang.Space, provider: Provider) -> None:
    """Raw responses, `stream`, the Responses interface plain and streamed, embeddings; the rest passes through."""
    client = awaited(provider, space)
    raw = [await client.chat.completions.with_raw_response.create(**ASK) for _ in range(2)]
    assert [r.headers["x-memgang-cache"] for r in raw] == ["computed", "hit"] and raw[1].parse().choices[0].message.content == "HELLO"
    for _ in range(2):
        async with client.chat.completions.stream(**ASK) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content == "HELLO"
        assert (await client.responses.create(model="m", input="hi", temperature=0)).output_text == "HI"
        events = [event async for event in await client.responses.create(model="m", input="hi", temperature=0, stream=True)]
        types = [event.type for event in events]
        assert "response.output_text.delta" in types and types[-1] == "response.completed"
        assert (await client.embeddings.create(model="e", input="hi", encoding_format="float")).data[0].embedding == [0.5, 0.25]
    assert len(provider.asked) == 3
    await client.models.list()
    await client.models.list()
    assert len(provider.asked) == 5


def test_a_client_that_blocks_does_the_same(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """Plain, streamed, from threads."""
    client = plain(provider, blocking)
    for _ in range(2):
        assert client.chat.completions.create(**ASK).choices[0].message.content == "HELLO"
        with client.chat.completions.create(**ASK, stream=True) as stream:
            assert [chunk.choices[0].delta.content for chunk in stream if chunk.choices] == ["HELLO", None]
    other = ASK | {"model": "other"}
    with client.chat.completions.create(**other, stream=True) as stream:
        assert [chunk.choices[0].delta.content for chunk in stream if chunk.choices] == ["HE", "LLO", None]
    assert client.chat.completions.create(**other).choices[0].message.content == "HELLO"
    assert len(provider.asked) == 2


MANY = 40  # an event loop has threads of its own for at most 32


async def test_clients_that_block_wait_in_threads_of_their_own(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """However many models are waited for, all have been asked, and the event loop's own threads are free for files and hashes."""
    client = plain(provider, blocking)
    provider.gate.clear()

    def ask(number: int) -> Any:
        said = ASK | {"messages": [{"role": "user", "content": f"q{number}"}]}
        return client.chat.completions.create(**said).choices[0].message.content

    async def all_asked() -> bool:
        return len(provider.asked) == MANY

    with ThreadPoolExecutor(MANY) as threads:
        asking = [asyncio.wrap_future(threads.submit(ask, number)) for number in range(MANY)]
        try:
            await until(all_asked)
            free = asyncio.run_coroutine_threadsafe(asyncio.to_thread(str, "free"), blocking.loop)
            assert await asyncio.wait_for(asyncio.wrap_future(free), 30) == "free"
        finally:
            provider.gate.set()
            answers = await asyncio.gather(*asking)
    assert answers == [f"Q{number}" for number in range(MANY)]


def test_models_of_frameworks_that_block_wait_there_too(blocking: memgang.BlockingSpace) -> None:
    """All of many are asked at once, with the context variables of who asks."""
    calls, all_there, mine = Calls(blocking, "default"), threading.Barrier(MANY), contextvars.ContextVar("mine", default=-1)

    def ask(number: int) -> bytes:
        def answered() -> Whole:
            all_there.wait(30)
            return Whole(b"%d" % mine.get(), "m")

        mine.set(number)
        return calls.whole_blocking(Asked(Call("llm", "f", "1", {"number": number}), False), answered)

    with ThreadPoolExecutor(MANY) as threads:
        assert list(threads.map(ask, range(MANY))) == [b"%d" % number for number in range(MANY)]


async def test_an_awaited_client_may_use_the_space_of_plain_code(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """Its HTTP stays in the event loop of its user."""
    client = awaited(provider, blocking)
    assert (await client.chat.completions.create(**ASK)).choices[0].message.content == "HELLO"
    other = ASK | {"model": "other"}
    assert [await text_of(await client.chat.completions.create(**other, stream=True)) for _ in range(2)] == ["HELLO", "HELLO"]
    assert len(provider.asked) == 2


@pytest.mark.parametrize(("status", "error"), [(400, "BadRequestError"), (401, "AuthenticationError"), (404, "NotFoundError")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_the_sdks_own_error(space: memgang.Space, provider: Provider, status: int, error: str, stream: bool) -> None:
    """With the provider's status and words; the next to ask the same, once it may be asked again, asks."""
    provider.fails = [status]
    with pytest.raises(getattr(openai, error), match=f"no: {status}"):
        await awaited(provider, space).chat.completions.create(**ASK, stream=stream)
    assert len(provider.asked) == 1


async def test_a_wrong_request_is_told_to_all_and_a_wrong_key_to_its_owner_alone(
    space: memgang.Space, provider: Provider, opened: Any
) -> None:
    """400: the one who waits is told so too, and nothing is sent again. 401: the one who waits sends its own."""
    async with opened() as other:
        for status, sent in ((400, 1), (401, 2)):
            provider.fails, provider.asked = [status], []
            ask = ASK | {"messages": [{"role": "user", "content": f"q{status}"}]}
            first, second = await asyncio.gather(
                *(awaited(provider, one).chat.completions.create(**ask) for one in (space, other)), return_exceptions=True)
            failed = [got for got in (first, second) if isinstance(got, openai.APIStatusError)]
            assert len(provider.asked) == sent and len(failed) == 3 - sent
            assert all(got.status_code == status and "sk-mine" not in str(got) for got in failed)


async def test_what_may_pass_is_tried_again_under_the_claim(space: memgang.Space, provider: Provider) -> None:
    """A 500 and a broken connection: others wait meanwhile, and nobody sees it if it passes."""
    provider.fails = [500, 503]
    assert (await awaited(provider, space).chat.completions.create(**ASK)).choices[0].message.content == "HELLO"
    assert len(provider.asked) == 3
    provider.fails = [500] * 3
    with pytest.raises(openai.InternalServerError):
        await awaited(provider, space).chat.completions.create(**ASK | {"model": "down"})
    assert len(provider.asked) == 6
    provider.close()
    with pytest.raises(openai.APIConnectionError):
        await awaited(provider, space).chat.completions.create(**ASK | {"model": "away"})


async def test_an_answer_that_is_not_whole_is_not_kept(space: memgang.Space, provider: Provider) -> None:
    """No choices: who asked is given what came, the next one asks. A stream that is cut: another attempt goes on with it."""
    client = awaited(provider, space)
    provider.fails = ["garbage"]
    assert (await client.chat.completions.create(**ASK)).choices == []
    assert (await client.chat.completions.create(**ASK)).choices[0].message.content == "HELLO" and len(provider.asked) == 2
    provider.fails = ["cut"]
    streamed = await client.responses.create(model="m", input="hi", temperature=0, stream=True)
    assert [event.type async for event in streamed] == ["response.output_text.delta", "response.completed"]
    assert len(provider.asked) == 4


async def test_a_stream_that_begins_again_otherwise_breaks_off(space: memgang.Space, provider: Provider) -> None:
    """Ids of the second attempt differ: never a splice, an error; and nothing incomplete is replayed."""
    client = awaited(provider, space)
    provider.fails = ["cut"]
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        await text_of(await client.chat.completions.create(**ASK, stream=True))
    assert await text_of(await client.chat.completions.create(**ASK, stream=True)) == "HELLO"


async def test_the_caller_may_ask_anew_or_for_itself_alone(space: memgang.Space, provider: Provider) -> None:
    """`Cache-Control` as people know it."""
    client = awaited(provider, space)
    ids = [(await client.chat.completions.create(**ASK, extra_headers=headers)).id
           for headers in ({}, {"cache-control": "no-store"}, {}, {"cache-control": "no-cache"}, {})]
    assert ids == ["chat-1", "chat-2", "chat-1", "chat-3", "chat-3"]


async def test_a_stream_may_be_asked_anew_and_one_that_must_not_be_stored_passes_through(
    space: memgang.Space, provider: Provider
) -> None:
    """Anew: for all who ask from then on. Not stored: neither given to others nor taken from them."""
    client = awaited(provider, space)

    async def ident(control: str) -> str:
        headers = {"cache-control": control} if control else {}
        chunks = [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True, extra_headers=headers)]
        return str(chunks[0].id)

    assert [await ident(control) for control in ("no-store", "", "no-cache", "", "no-store")] == [f"chat-{n}" for n in (1, 2, 3, 3, 4)]
    assert len(provider.asked) == 4


TOOLS: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_plain_and_streamed_requests_share_one_answer(space: memgang.Space, provider: Provider, streamed_first: bool) -> None:
    """Text, finish reason, tool calls and usage are the same, whichever form came; who did not ask for the usage of a stream has none."""
    client, ask = awaited(provider, space), ASK | {"tools": TOOLS}

    async def plain_one() -> Any:
        return await client.chat.completions.create(**ask)

    async def streamed_one(**options: Any) -> list[Any]:
        return [chunk async for chunk in await client.chat.completions.create(**ask, stream=True, **options)]

    if streamed_first:
        streamed, answer = await streamed_one(), await plain_one()
    else:
        answer, streamed = await plain_one(), await streamed_one()
    with_usage = await streamed_one(stream_options={"include_usage": True})

    assert len(provider.asked) == 1
    choice = answer.choices[0]
    assert (answer.object, choice.finish_reason, choice.message.content) == ("chat.completion", "stop", "HELLO")
    call = choice.message.tool_calls[0]
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "look", '{"at": 1}')
    assert answer.usage.total_tokens == 1100 and answer.usage.prompt_tokens_details.cached_tokens == 400
    parts = [part.delta.tool_calls for chunk in streamed for part in chunk.choices if part.delta.tool_calls]
    assert "".join(one.function.arguments or "" for many in parts for one in many) == '{"at": 1}' and parts[0][0].id == "call_1"
    assert all(chunk.usage is None and chunk.choices for chunk in streamed) and with_usage[-1].usage.total_tokens == 1100
    assert {chunk.id for chunk in streamed} == {answer.id}
    await space.flush()
    assert fold([event async for event in space.events()]).physical.tokens_in == 1000


async def test_a_plain_request_joins_a_stream_and_the_other_way_round(
    space: memgang.Space, provider: Provider, opened: Any
) -> None:
    """Both forms at once, over two spaces: one request is sent, and whoever asked is given the form asked for."""
    async with opened() as other:
        for first, second in ((True, False), (False, True)):
            provider.gate.clear()
            provider.reached.clear()
            provider.asked = []
            ask = ASK | {"model": f"first {first}"}
            leading = asyncio.create_task(said(awaited(provider, space), ask, first))
            assert await asyncio.to_thread(provider.reached.wait, 30)
            joining = [asyncio.create_task(said(awaited(provider, one), ask, second)) for one in (space, other)]
            await until(lambda: waits(other))
            provider.gate.set()
            assert await asyncio.wait_for(asyncio.gather(leading, *joining), 60) == ["HELLO"] * 3
            assert len(provider.asked) == 1


async def said(client: Any, ask: dict[str, Any], stream: bool) -> str:
    answer = await client.chat.completions.create(**ask, stream=stream)
    return await text_of(answer) if stream else answer.choices[0].message.content


async def test_a_server_that_knows_no_usage_in_streams_is_asked_without(space: memgang.Space, provider: Provider) -> None:
    """It refuses the option that the caller has not set; the caller is given its stream all the same."""
    provider.refuses_options = True
    client = awaited(provider, space)
    assert await text_of(await client.chat.completions.create(**ASK, stream=True)) == "HELLO"
    assert [("stream_options" in asked) for asked in provider.asked] == [True, False]
    provider.refuses_options, provider.fails = False, [400]
    with pytest.raises(openai.BadRequestError, match="no: 400"):
        await client.chat.completions.create(**ASK | {"model": "wrong"}, stream=True)


async def test_who_waits_for_another_does_so_within_its_own_time(space: memgang.Space, provider: Provider, opened: Any) -> None:
    """The SDK's error for it; the one who asked first is given its answer all the same."""
    async with opened() as other:
        provider.gate.clear()
        first = asyncio.create_task(awaited(provider, space).chat.completions.create(**ASK))
        assert await asyncio.to_thread(provider.reached.wait, 30)
        with pytest.raises(openai.APITimeoutError):
            await awaited(provider, other).with_options(timeout=0.2).chat.completions.create(**ASK)
        provider.gate.set()
        assert (await first).choices[0].finish_reason == "stop" and len(provider.asked) == 1


async def test_a_named_agent_that_asks_again_is_given_another_sample(space: memgang.Space, provider: Provider) -> None:
    """Its i-th ask shares the i-th answer of others; with a temperature of 0 all asks share one."""
    client = awaited(provider, space)

    async def ids(agent: str, **more: Any) -> list[str]:
        with space.acting_as(agent=agent):
            return [(await client.chat.completions.create(**ASK | more)).id for _ in range(2)]

    assert await ids("one", temperature=1) == await ids("two", temperature=1) == ["chat-1", "chat-2"]
    assert await ids("one") == await ids("two") == ["chat-3", "chat-3"]


async def test_keys_are_nowhere_in_the_space(space: memgang.Space, provider: Provider) -> None:
    """Not in what is kept, not in the log; and another key shares the answer, since the space is what is shared."""
    await awaited(provider, space).chat.completions.create(**ASK)
    await awaited(provider, space, "sk-other").chat.completions.create(**ASK)
    assert len(provider.asked) == 1
    kept = [await space.get(record.ref) for record in (await space.find()).objects]
    assert not any(b"sk-mine" in bytes(value) for value in kept) and "sk-mine" not in str([e async for e in space.events()])


async def test_credentials_in_a_request_are_readable_nowhere_and_those_of_tools_are_told_apart(
    space: memgang.Space, provider: Provider
) -> None:
    """What a tool is let in with decides what it sees, so another's is another call; and its text is in no event."""
    client = awaited(provider, space)
    for token in ("sk-mine-of-a-tool", "sk-mine-of-a-tool", "sk-mine-of-another"):
        tool = {"type": "mcp", "server_label": "m", "server_url": "http://h", "authorization": token, "headers": {"x-a": token}}
        await client.responses.create(model="m", input="hi", temperature=0, tools=[tool], extra_body={"more": {"api_key": "sk-mine"}})
    await space.flush()
    assert len(provider.asked) == 2 and "sk-mine" not in str([e async for e in space.events()])


ASKER = """
import sys, openai, memgang
with memgang.connect(space=sys.argv[1]) as space:
    client = memgang.wrap(openai.OpenAI(api_key="k", base_url=sys.argv[2] + "/v1"), space)
    ask = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    assert client.chat.completions.create(**ask).choices[0].message.content == "HELLO"
"""


async def test_processes_share_what_one_of_them_has_asked(space: memgang.Space, space_name: str, provider: Provider) -> None:
    """Three of them, at once."""
    processes = [subprocess.Popen([sys.executable, "-c", ASKER, space_name, provider.url], cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [await asyncio.to_thread(process.wait, 120) for process in processes] == [0, 0, 0] and len(provider.asked) == 1


async def test_a_client_of_anthropic_shares_too(space: memgang.Space, provider: Provider) -> None:
    """Messages, plain and streamed, are one call with its tools and thoughts; what was cached counts among the input."""
    anthropic = pytest.importorskip("anthropic", reason="the Anthropic SDK is not installed: pip install anthropic")
    client = memgang.wrap(anthropic.AsyncAnthropic(api_key="k", base_url=provider.url), space)
    _made.append(client)
    for number, plain_first in enumerate((True, False)):
        ask: dict[str, Any] = {"model": f"claude-{number}", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
        said: list[Any] = []
        for agent in ("one", "two"):  # its models take no temperature: the first ask of each shares
            with space.acting_as(agent=agent):
                if plain_first == (agent == "one"):
                    said.append(await client.messages.create(**ask))
                else:
                    async with client.messages.stream(**ask) as stream:
                        said.append(await stream.get_final_message())
        assert len(provider.asked) == number + 1
        for one in said:
            assert [block.type for block in one.content] == ["thinking", "text", "tool_use"] and one.stop_reason == "end_turn"
            assert (one.content[0].thinking, one.content[0].signature, one.content[1].text) == ("hm", "sig", "HELLO")
            assert one.content[2].input == {"at": 1} and (one.usage.input_tokens, one.usage.output_tokens) == (10, 5)
    savings = fold([event async for event in space.events()])
    assert savings.physical.tokens_in == 2 * 14 and savings.physical.tokens_cached == 2 * 4


async def test_a_message_that_ends_amid_its_arguments_is_an_answer_in_both_forms(space: memgang.Space, provider: Provider) -> None:
    """It is whole, with ``max_tokens`` as its reason to stop: who has asked for one piece is given it with the input as it began."""
    anthropic = pytest.importorskip("anthropic", reason="the Anthropic SDK is not installed: pip install anthropic")
    client = memgang.wrap(anthropic.AsyncAnthropic(api_key="k", base_url=provider.url, max_retries=0), space)
    _made.append(client)
    provider.fails = ["max_tokens"]
    ask: dict[str, Any] = {"model": "claude", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
    with space.acting_as(agent="one"):
        events = [event async for event in await client.messages.create(**ask, stream=True)]
    with space.acting_as(agent="two"):
        plain = await client.messages.create(**ask)
    assert events[-1].type == "message_stop" and plain.stop_reason == "max_tokens" and len(provider.asked) == 1
    assert [block.type for block in plain.content] == ["thinking", "text", "tool_use"] and plain.content[2].input == {}


@pytest.mark.parametrize("code", ["\u00b2", "50\u00b2", "words"])
def test_what_a_server_calls_its_error_is_never_taken_for_a_status(code: str) -> None:
    """A superscript is a digit and no number; the error stays the one it is."""
    with pytest.raises(WorkFailed, match="broke off"):
        _instead(WorkFailed("f", "transient", code, "it broke off", 1))


async def test_a_stream_that_is_left_gives_its_connection_back_at_once(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """When leaving it is over, the provider's response is closed, whoever still holds what was read of it."""
    held, closed = [], []

    async def blocks() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: {}\n\n"
        finally:
            closed.append(True)

    def pieces(_: httpx2.Response) -> AsyncGenerator[bytes, None]:
        held.append(blocks())
        return held[-1]

    async def send(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200)

    monkeypatch.setattr(type(space), "stream", lambda _, call, produce, **more: produce())  # nobody follows it from elsewhere
    exchanges = Exchanges(Bridge(space), "default")
    body = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    request = httpx2.Request("POST", "http://h/v1/chat/completions", json=body)
    wanted = exchanges.asked(request)
    assert wanted is not None
    status, _, coming = await exchanges.streamed(wanted, request, send, pieces)
    assert status == 200 and await anext(coming) == b"data: {}\n\n"
    await coming.aclose()  # type: ignore[attr-defined]
    assert closed == [True] and len(held) == 1


def test_what_is_no_client_is_refused() -> None:
    """The message says what is wanted."""
    with pytest.raises(ConfigError, match="openai or anthropic"):
        memgang.wrap(object())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("waits", [True, False])
async def test_an_answer_there_is_no_room_for_is_given_to_who_has_paid_for_it(
    opened: Any, provider: Provider, stream: bool, waits: bool
) -> None:
    """The memory is full: it keeps nothing, and the SDK has its answer, as it would without the memory."""
    async with opened(budget_bytes=100) as space:
        if waits:
            found = await awaited(provider, space).chat.completions.create(**ASK, stream=stream)
            said = await text_of(found) if stream else found.choices[0].message.content
        else:
            said = await asyncio.to_thread(said_by, plain(provider, space), stream)

    assert said == "HELLO" and len(provider.asked) == 1


def said_by(client: Any, stream: bool) -> str:
    found = client.chat.completions.create(**ASK, stream=stream)
    return "".join(c.choices[0].delta.content or "" for c in found if c.choices) if stream else str(found.choices[0].message.content)


async def test_a_model_of_a_framework_gives_the_answer_there_is_no_room_for(opened: Any) -> None:
    """In one piece and as lines: it is paid for, and who has asked has it."""
    async def ask() -> Whole:
        return Whole(b"x" * 200, "m")

    async def stream() -> AsyncIterator[bytes | Whole]:
        yield b"first"
        yield await ask()

    async with opened(budget_bytes=100) as space:
        calls, asked = Calls(space, "default"), [Asked(Call("llm", "f", "1", number), False) for number in range(2)]

        assert await calls.whole(asked[0], ask) == b"x" * 200
        assert [line async for line in calls.lines(asked[1], stream)] == [b"first", b"x" * 200]
