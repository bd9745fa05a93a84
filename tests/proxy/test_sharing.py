"""What one has asked the others recall: plain and streamed, at once and later, unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.proxy.conftest import KEY, Set
from tests.proxy.upstream import USAGE, WORDS, Upstream, served

TEXT = "".join(WORDS)
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Say it."}], "temperature": 0}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
RESPOND: dict[str, Any] = {"model": "m", "input": "Say it.", "temperature": 0}


async def raw(proxy: Set, body: dict[str, Any], path: str = "/chat/completions", **headers: str) -> httpx.Response:
    """A request as it is, and the reply with its bytes."""
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.post(proxy.url + path, json=body, headers=headers)


async def streamed(client: Any, **ask: Any) -> tuple[str, list[Any]]:
    """The text of a streamed answer, and its chunks."""
    chunks = [chunk async for chunk in await client.chat.completions.create(**ask, stream=True)]
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks


async def test_a_repeated_request_is_a_hit_with_the_same_answer(proxy: Set) -> None:
    """The second asks nobody, is given the same bytes, and is told what that saved."""
    first, second = await raw(proxy, ASK), await raw(proxy, ASK)

    assert first.status_code == 200 and first.headers["x-memgang-cache"] == "miss"
    assert second.headers["x-memgang-cache"] == "hit" and second.content == first.content
    assert second.headers["x-memgang-saved-tokens"] == "18"
    assert second.headers["x-memgang-key"] == first.headers["x-memgang-key"]
    assert await proxy.space.get(second.headers["x-memgang-ref"])
    assert len(proxy.upstream.calls) == 1


async def test_the_plain_answer_made_of_events_is_what_the_provider_would_have_said(proxy: Set) -> None:
    """Content, reasoning, finish reason, usage and unknown fields are there, as the client reads them."""
    answer = await proxy.client.chat.completions.create(**ASK)

    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].message.reasoning_content == "Let me see."
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.model_dump(exclude_none=True) == USAGE and answer.system_fingerprint == "fp_1"


@pytest.mark.parametrize("first", ["plain", "streamed"])
async def test_a_plain_and_a_streamed_request_share_one_call(proxy: Set, first: str) -> None:
    """Whichever comes first, the other is a hit, and says the same."""
    for how in (first, "streamed" if first == "plain" else "plain"):
        if how == "plain":
            assert (await proxy.client.chat.completions.create(**ASK)).choices[0].message.content == TEXT
        else:
            assert (await streamed(proxy.client, **ASK))[0] == TEXT

    assert len(proxy.upstream.calls) == 1


async def test_a_replayed_stream_has_the_chunks_of_the_first(proxy: Set) -> None:
    """Chunk boundaries, tool calls, reasoning and ids survive; the bytes of both streams are equal."""
    ask = ASK | {"tools": TOOLS, "stream": True, "stream_options": {"include_usage": True}}
    first, second = await raw(proxy, ask), await raw(proxy, ask)

    assert second.headers["x-memgang-cache"] == "hit" and second.content == first.content
    _, chunks = await streamed(proxy.client, **ASK, tools=TOOLS, stream_options={"include_usage": True})
    assert [c.choices[0].delta.reasoning_content for c in chunks[1:3]] == ["Let me", " see."]
    assert chunks[-1].usage.total_tokens == 18
    plain = await proxy.client.chat.completions.create(**ASK, tools=TOOLS)
    calls = plain.choices[0].message.tool_calls
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("call_1a", "add", '{"a": 1, "b": 2}'), ("call_1b", "sub", "{}")]
    assert "index" not in calls[0].model_dump(exclude_none=True) and plain.choices[0].finish_reason == "tool_calls"
    assert len(proxy.upstream.calls) == 1


async def test_usage_is_streamed_to_those_who_asked_for_it_and_to_nobody_else(proxy: Set) -> None:
    """The proxy always asks for it, since it is the bill; the caller's stream is as the caller wanted it."""
    _, chunks = await streamed(proxy.client, **ASK)

    assert all(c.choices for c in chunks)
    assert proxy.upstream.calls[0][2]["stream_options"] == {"include_usage": True}


async def test_a_late_joiner_has_the_stream_from_its_first_byte_and_then_live(proxy: Set) -> None:
    """It is shown what has come while the provider still holds the rest back."""
    proxy.upstream.gate = asyncio.Event()
    leader = await proxy.client.chat.completions.create(**ASK, stream=True)
    first = await anext(aiter(leader))

    joiner = await proxy.client.chat.completions.with_raw_response.create(**ASK, stream=True)
    stream = joiner.parse()
    joined = await anext(aiter(stream))

    assert joiner.headers["x-memgang-cache"] == "joined" and joined == first
    proxy.upstream.gate.set()
    rest = [[c async for c in one] for one in (leader, stream)]
    assert rest[0] == rest[1] and rest[0][-1].choices[0].finish_reason == "stop"
    assert len(proxy.upstream.calls) == 1


async def test_a_stream_joins_a_plain_request_under_way(proxy: Set) -> None:
    """The plain leader's answer is streamed by the provider, so who joins it sees it come."""
    proxy.upstream.gate = asyncio.Event()
    plain = asyncio.create_task(proxy.client.chat.completions.create(**ASK))
    while not proxy.upstream.calls:
        await asyncio.sleep(0.01)

    stream = await proxy.client.chat.completions.create(**ASK, stream=True)

    assert (await anext(aiter(stream))).choices[0].delta.role == "assistant"
    assert not plain.done()
    proxy.upstream.gate.set()
    assert (await plain).choices[0].message.content == "".join([c.choices[0].delta.content or "" async for c in stream]) == TEXT
    assert len(proxy.upstream.calls) == 1


async def test_a_caller_who_leaves_does_not_end_what_is_paid_for(proxy: Set) -> None:
    """The stream goes on without readers, and the next is a hit."""
    proxy.upstream.gate = asyncio.Event()
    stream = await proxy.client.chat.completions.create(**ASK, stream=True)
    await anext(aiter(stream))
    await stream.close()
    proxy.upstream.gate.set()

    assert (await proxy.client.chat.completions.create(**ASK)).choices[0].message.content == TEXT
    assert len(proxy.upstream.calls) == 1


async def test_responses_are_shared_plain_and_streamed(proxy: Set) -> None:
    """The Responses interface through the client's own stream helper and without it."""
    ask = RESPOND | {"tools": [{"type": "function", "name": "add", "parameters": {}, "strict": False}]}
    async with proxy.client.responses.stream(**ask) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    plain = await proxy.client.responses.create(**ask)

    assert plain.output_text == final.output_text == TEXT and plain.id == final.id
    assert plain.output[1].arguments == '{"a": 1}' and plain.usage.total_tokens == 18
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert len(proxy.upstream.calls) == 1


async def test_embeddings_are_shared(proxy: Set) -> None:
    """The same texts have the same vectors without a second call; other texts do not."""
    first = await proxy.client.embeddings.create(model="e", input=["a", "b"])
    second = await proxy.client.embeddings.create(model="e", input=["a", "b"])
    await proxy.client.embeddings.create(model="e", input=["a", "c"])

    assert first == second and len(first.data) == 2
    assert len(proxy.upstream.calls) == 2


async def test_an_upstream_that_does_not_stream_is_asked_without(proxy: Set) -> None:
    """Its refusal is remembered, and both kinds of callers are answered from the plain answer."""
    proxy.upstream.next_.append("no_stream")

    assert (await streamed(proxy.client, **ASK))[0] == TEXT
    assert (await proxy.client.chat.completions.create(**ASK)).usage.total_tokens == 18
    await proxy.client.chat.completions.create(**ASK | {"seed": 2})
    assert [body.get("stream", False) for _, _, body in proxy.upstream.calls] == [True, False, False]


async def test_a_response_in_one_piece_is_streamed_as_the_client_expects(proxy: Set) -> None:
    """Where the provider ignores the wish for a stream, the client's helper still finds all events in order."""
    proxy.upstream.next_.append("plain")
    tools = [{"type": "function", "name": "add", "parameters": {}, "strict": False}]
    async with proxy.client.responses.stream(**RESPOND, tools=tools) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()

    assert final.output_text == TEXT and final.output[1].arguments == '{"a": 1}'


@pytest.mark.parametrize(("one", "other", "same"), [
    (ASK, dict(reversed(ASK.items())), True),
    (ASK, ASK | {"user": "u", "metadata": {"a": "b"}, "prompt_cache_key": "k"}, True),
    (ASK, ASK | {"n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "stop": None, "temperature": 0.0}, True),
    (ASK, ASK | {"api_base": "http://evil.example", "base_url": "http://evil.example", "api_key": "k"}, True),
    (ASK, ASK | {"temperature": 0.5}, False), (ASK, ASK | {"n": 2}, False), (ASK, ASK | {"tools": TOOLS}, False),
    (ASK, ASK | {"model": "m2"}, False), (ASK, ASK | {"response_format": {"type": "json_object"}}, False),
    (ASK, ASK | {"max_tokens": 5}, False), (ASK, ASK | {"unknown": 1}, False), (ASK, ASK | {"cache": {"namespace": "x"}}, False),
])
async def test_what_makes_two_requests_the_same(proxy: Set, one: Any, other: Any, same: bool) -> None:
    """Order, defaults without effect and who pays do not count; everything that may change the answer does."""
    await raw(proxy, one)
    second = await raw(proxy, other)

    assert second.headers["x-memgang-cache"] == ("hit" if same else "miss")
    assert not any("evil" in json.dumps(body) or "cache" in body for _, _, body in proxy.upstream.calls)


async def test_ids_that_providers_draw_do_not_part_two_conversations(proxy: Set) -> None:
    """Tool calls are known by their order; which result belongs to which call still counts."""
    def turns(a: str, b: str, first: str, second: str) -> list[dict[str, Any]]:
        calls = [{"id": i, "type": "function", "function": {"name": "add", "arguments": "{}"}} for i in (a, b)]
        return [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": first, "content": "1"}, {"role": "tool", "tool_call_id": second, "content": "2"}]

    hows = [(await raw(proxy, ASK | {"messages": turns(*ids)})).headers["x-memgang-cache"]
            for ids in (("p", "q", "p", "q"), ("r", "s", "r", "s"), ("r", "s", "s", "r"))]

    assert hows == ["miss", "hit", "miss"]
    assert proxy.upstream.calls[0][2]["messages"][2]["tool_call_id"] == "p"  # sent as it came


async def test_samples_are_shared_by_occurrence(proxy: Set) -> None:
    """One agent's second ask is fresh, another agent's second ask is given that; without identity the first counts."""
    ask = {k: v for k, v in ASK.items() if k != "temperature"}
    ids: dict[str, list[str]] = {}
    for agent in ("a", "b", ""):
        client = proxy.other(**({"x-memgang-agent": agent, "x-memgang-run": "r"} if agent else {}))
        ids[agent] = [(await client.chat.completions.create(**ask)).id for _ in range(2)]

    assert ids == {"a": ["chatcmpl-1", "chatcmpl-2"], "b": ["chatcmpl-1", "chatcmpl-2"], "": ["chatcmpl-1", "chatcmpl-1"]}


async def test_everything_else_is_passed_through_untouched(proxy: Set) -> None:
    """Other paths, methods, queries and bodies reach the provider as they are, with its key and not with the caller's."""
    assert [m.id async for m in proxy.client.models.list()] == ["m"]
    async with httpx.AsyncClient() as http:
        reply = await http.request("PUT", proxy.url + "/files/a%20b?x=1&api_base=http%3A%2F%2Fevil", content=b"\x00\x01")

    assert reply.json()["method"] == "PUT" and reply.headers["x-memgang-cache"] == "bypass" and reply.headers["x-request-id"] == "r1"
    assert proxy.upstream.others[-1] == ("PUT", "/v1/files/a%20b?x=1", b"\x00\x01")
    await raw(proxy, ASK)
    assert proxy.upstream.calls[-1][1]["authorization"] == f"Bearer {KEY}"


async def test_the_bill_is_the_ledger(proxy: Set) -> None:
    """What the provider counted is what the totals of the space say was spent, and what was saved beside it."""
    for temperature in (0, 0, 0.0):
        await raw(proxy, ASK | {"temperature": temperature})
    await raw(proxy, ASK | {"tools": TOOLS, "stream": True})
    spent = [e.own for e in [e async for e in proxy.space.events()] if e.own.llm_calls]
    saved = [e.saved for e in [e async for e in proxy.space.events()] if e.raw == "hit"]

    assert sum(u.tokens for u in spent) == 18 * len(proxy.upstream.calls) == 36
    assert sum(u.tokens_cached for u in spent) == 8
    assert sum(u.tokens for u in saved) == 36


@pytest.mark.catalogue("D9")
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/responses", "/completions", "/models"])
async def test_a_request_cannot_choose_its_server(proxy: Set, path: str) -> None:
    """By body, query and headers, on routes that share and on those that do not."""
    evil = Upstream()
    async with served(evil) as there, httpx.AsyncClient() as http:
        body = ASK | {"input": "x", "api_base": there, "base_url": there, "api_key": "theirs"}
        reply = await http.post(
            f"{proxy.url}{path}?api_base={there}&base_url={there}", json=body,
            headers={"x-forwarded-host": there[7:-3], "forwarded": f"host={there[7:-3]}", "api-base": there,
                     "authorization": "Bearer theirs"})

    assert reply.status_code == 200 and not evil.calls and not evil.others
    assert there not in repr(proxy.upstream) and "theirs" not in repr(proxy.upstream)


async def test_models_are_sent_where_their_prefix_says(proxied: Callable[..., Any], upstream: tuple[Any, str]) -> None:
    """Each upstream has its own key; a prefix with a slash is taken off; a model nobody serves is refused."""
    async with proxied((f"far/={upstream[1]}", f"near-={upstream[1]}"), keys="far/=sk-far") as proxy:
        for model in ("far/m", "near-m"):
            await raw(proxy, ASK | {"model": model})
        refused = await raw(proxy, ASK | {"model": "elsewhere"})

    assert [(body["model"], headers.get("authorization")) for _, headers, body in proxy.upstream.calls] == [
        ("m", "Bearer sk-far"), ("near-m", None)]
    assert refused.status_code == 404 and refused.json()["error"]["code"] == "model_not_found"
