"""The model wrapper of pydantic-ai: real agents against a provider on a port; it is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed: pip install 'memgang[pydantic-ai]'")

import openai
from pydantic_ai import Agent, ModelHTTPError
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import memgang
from memgang.adapters.pydantic_ai import MemGangModel
from memgang.savings import fold
from tests.adapters.provider import Provider

COLD: Any = {"temperature": 0}  # else each ask of a named agent, as the one of these spaces is, is for a sample of its own


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of its own."""
    found = Provider()
    yield found
    found.close()


@pytest.fixture
async def chat(provider: Provider) -> AsyncIterator[OpenAIChatModel]:
    """pydantic-ai's own model, unwrapped."""
    async with openai.AsyncOpenAI(api_key="sk-mine-12345678", base_url=provider.url + "/v1", max_retries=0) as client:
        yield OpenAIChatModel("gpt-4.1-mini", provider=OpenAIProvider(openai_client=client))


async def streamed(agent: Any, text: str = "hello") -> tuple[list[str], Any]:
    """The deltas of a streamed run, and its usage."""
    async with agent.run_stream(text, model_settings=COLD) as result:
        return [delta async for delta in result.stream_text(delta=True, debounce_by=None)], result.usage


async def test_eight_runs_at_once_ask_once(space: memgang.Space, provider: Provider, chat: OpenAIChatModel, opened: Any) -> None:
    """Over two spaces; output and usage of each are those of the one call, and so is the bill."""
    async with opened() as other:
        agents = [Agent(MemGangModel(chat, one), instructions="Be short.") for one in (space, other)]
        results = await asyncio.gather(*(agents[n % 2].run("hello", model_settings=COLD) for n in range(8)))
        await other.flush()
    assert len(provider.asked) == 1 and [result.output for result in results] == ["HELLO"] * 8
    assert all((result.usage.requests, result.usage.input_tokens, result.usage.cache_read_tokens) == (1, 1000, 400) for result in results)
    await space.flush()
    savings = fold([event async for event in space.events()])
    assert (savings.physical.tokens_in, savings.physical.tokens_cached) == (1000, 400)
    assert savings.avoided_total.tokens_in == 7000


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_plain_and_streamed_runs_share(
    space: memgang.Space, provider: Provider, chat: OpenAIChatModel, streamed_first: bool
) -> None:
    """Whichever came first: the same text and usage; deltas are those of the stream where there was one."""
    agent = Agent(MemGangModel(chat, space))
    if streamed_first:
        (deltas, used), plain = await streamed(agent), await agent.run("hello", model_settings=COLD)
    else:
        plain, (deltas, used) = await agent.run("hello", model_settings=COLD), await streamed(agent)
    again, used_again = await streamed(agent)
    assert len(provider.asked) == 1 and plain.output == "HELLO"
    assert deltas == again == (["HE", "LLO"] if streamed_first else ["HELLO"])
    assert used == used_again == plain.usage and used.output_tokens == 100


async def test_a_stream_is_followed_while_it_comes(space: memgang.Space, provider: Provider, chat: OpenAIChatModel, opened: Any) -> None:
    """Who comes late, at another space, has the first piece before the end is there."""
    provider.gate.clear()
    async with opened() as other:
        async def first(one: memgang.Space, seen: asyncio.Event) -> list[str]:
            async with Agent(MemGangModel(chat, one)).run_stream("hello", model_settings=COLD) as result:
                got = []
                async for delta in result.stream_text(delta=True, debounce_by=None):
                    got.append(delta)
                    seen.set()
                return got

        begun = [asyncio.Event(), asyncio.Event()]
        both = [asyncio.create_task(first(one, seen)) for one, seen in zip((space, other), begun, strict=True)]
        await asyncio.wait_for(asyncio.gather(*(seen.wait() for seen in begun)), 60)
        provider.gate.set()
        assert await asyncio.gather(*both) == [["HE", "LLO"]] * 2 and len(provider.asked) == 1


async def test_tool_calls_survive_and_the_turn_after_them_is_shared_too(space: memgang.Space) -> None:
    """Times and ids of runs are no part of the question, so a second run shares each turn of the first."""
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

    asked: list[int] = []

    def answer(messages: list[Any], info: Any) -> ModelResponse:
        asked.append(len(messages))
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("look", {"at": 1, "timestamp": "kept"}, tool_call_id="call_1")])
        return ModelResponse(parts=[TextPart(f"seen {messages[-1].parts[0].content}")])

    agent = Agent(MemGangModel(FunctionModel(answer), space))
    looked: list[Any] = []

    @agent.tool_plain
    def look(at: int, timestamp: str) -> int:
        looked.append((at, timestamp))
        return 7

    assert [(await agent.run("hello", model_settings=COLD)).output for _ in range(2)] == ["seen 7"] * 2
    assert asked == [1, 3] and looked == [(1, "kept")] * 2


async def test_another_question_is_another_call(space: memgang.Space, provider: Provider, chat: OpenAIChatModel) -> None:
    """Instructions, settings, tools and the form of the output are part of it."""
    agent, other = Agent(MemGangModel(chat, space)), Agent(MemGangModel(chat, space), instructions="Be long.")
    for one, more in ((agent, {}), (agent, {"max_tokens": 5}), (other, {}), (agent, {"timeout": 30.0})):
        await one.run("hello", model_settings=COLD | more)
    assert len(provider.asked) == 3


async def test_errors_are_the_models_own_and_a_wrong_key_is_nobody_elses(
    space: memgang.Space, provider: Provider, chat: OpenAIChatModel, opened: Any
) -> None:
    """401: the owner's. 400: everybody's, plain and streamed; others are told without asking."""
    async with opened() as other:
        agents = [Agent(MemGangModel(chat, one)) for one in (space, other)]
        for status, sent in ((401, 2), (400, 1)):
            provider.fails, provider.asked = [status], []
            both = await asyncio.gather(*(one.run(f"q{status}", model_settings=COLD) for one in agents), return_exceptions=True)
            failed = [one for one in both if isinstance(one, BaseException)]
            assert len(provider.asked) == sent and len(failed) == 3 - sent
            assert any(isinstance(one, ModelHTTPError) and one.status_code == status for one in failed)
    provider.fails = [404]
    with pytest.raises(ModelHTTPError):
        await streamed(agents[0], "streamed")


async def test_a_space_of_plain_code_serves_agents(blocking: memgang.BlockingSpace, provider: Provider, chat: OpenAIChatModel) -> None:
    """The client stays in the event loop of its user; plain and streamed."""
    agent = Agent(MemGangModel(chat, blocking))
    deltas, _ = await streamed(agent)
    assert deltas == ["HE", "LLO"] and (await agent.run("hello", model_settings=COLD)).output == "HELLO" and len(provider.asked) == 1


async def test_what_is_not_complete_or_cannot_be_described_is_not_shared(space: memgang.Space) -> None:
    """Who has asked is given it, plain and streamed; the next one asks."""
    from pydantic_ai.direct import model_request, model_request_stream
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    asked: list[str] = []

    def answer(messages: list[Any], info: Any) -> ModelResponse:
        asked.append("plain")
        return ModelResponse(parts=[TextPart("half")], state="interrupted")

    async def stream(messages: list[Any], info: Any) -> AsyncIterator[str]:
        asked.append("stream")
        yield "whole"

    model = MemGangModel(FunctionModel(answer, stream_function=stream), space)
    question = [ModelRequest(parts=[UserPromptPart("hello")])]
    for _ in range(2):
        assert (await model_request(model, question, model_settings=COLD)).parts[0].content == "half"  # type: ignore[union-attr]
    unlike = COLD | {"extra_body": object()}
    for settings in (unlike, unlike, COLD, COLD):
        async with model_request_stream(model, question, model_settings=settings) as streamed:
            assert [event async for event in streamed] and streamed.get().parts[0].content == "whole"  # type: ignore[union-attr]
    assert asked == ["plain", "plain", "stream", "stream", "stream"]


async def test_the_model_is_asked_in_the_context_of_its_caller(blocking: memgang.BlockingSpace) -> None:
    """Traces and spans hang on context variables; also where the space has an event loop of its own."""
    from pydantic_ai.messages import ModelResponse, TextPart

    span: ContextVar[str] = ContextVar("span", default="none")

    def answer(messages: list[Any], info: Any) -> ModelResponse:
        return ModelResponse(parts=[TextPart(span.get())])

    async def stream(messages: list[Any], info: Any) -> AsyncIterator[str]:
        token = span.set(span.get() + " inside")
        yield span.get()
        span.reset(token)

    span.set("mine")
    agent = Agent(MemGangModel(FunctionModel(answer, stream_function=stream), blocking))
    assert (await agent.run("plain", model_settings=COLD)).output == "mine"
    assert (await streamed(agent, "streamed"))[0] == ["mine inside"]


def test_what_is_named_like_a_secret_is_no_part_of_a_call() -> None:
    """At any depth; numbers of tokens are none."""
    from memgang.credentials import public

    secrets = {"api_key": "a", "aws_secret_access_key": "b", "azure_ad_token": "c"}
    settings = secrets | {"more": {"Authorization": "d", "top_k": 1}, "max_tokens": 5}
    assert public(settings) == {"more": {"top_k": 1}, "max_tokens": 5}
