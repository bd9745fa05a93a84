"""The chat middleware for Microsoft Agent Framework: real agents against a provider on a port; it is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

pytest.importorskip("agent_framework", reason="Agent Framework is not installed: pip install 'memgang[agent-framework]'")
pytest.importorskip("agent_framework.openai", reason="its client of OpenAI is not installed: pip install agent-framework-openai")

import openai
from agent_framework import Agent, BaseChatClient, ChatMiddlewareLayer, ChatResponse, Message
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient

import memgang
from memgang.adapters.agent_framework import MemGangMiddleware
from memgang.savings import fold
from tests.adapters.provider import Provider

KINDS = {"chat": OpenAIChatCompletionClient, "responses": OpenAIChatClient}


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of its own."""
    found = Provider()
    yield found
    found.close()


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK's own client, unwrapped."""
    async with openai.AsyncOpenAI(api_key="sk-mine-12345678", base_url=provider.url + "/v1", max_retries=0) as found:
        yield found


def agent(space: Any, client: Any, kind: str = "chat", **more: Any) -> Any:
    """Without randomness: else each ask of a named agent, as the one of these spaces is, is for a sample of its own."""
    options = {"temperature": 0} | more.pop("options", {})
    return Agent(client=KINDS[kind](model="m", async_client=client), middleware=[MemGangMiddleware(space)], default_options=options, **more)


async def streamed(one: Any, text: str) -> tuple[list[str], Any]:
    """The texts of a streamed run's updates, and its result."""
    stream = one.run(text, stream=True)
    return [update.text async for update in stream if update.text], await stream.get_final_response()


@pytest.mark.parametrize("kind", KINDS)
async def test_eight_runs_at_once_ask_once(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI, opened: Any, kind: str
) -> None:
    """Over two spaces; text and usage of each are those of the one call, and so is the bill."""
    async with opened() as other:
        agents = [agent(one, client, kind) for one in (space, other)]
        results = await asyncio.gather(*(agents[n % 2].run("hello") for n in range(8)))
        await other.flush()
    tokens = 1000 if kind == "chat" else 10
    assert len(provider.asked) == 1 and all("HELLO" in result.text for result in results)
    assert all(result.usage_details["input_token_count"] == tokens for result in results)
    await space.flush()
    savings = fold([event async for event in space.events()])
    assert savings.physical.tokens_in == tokens and savings.avoided_total.tokens_in == 7 * tokens


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_plain_and_streamed_runs_share(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI, streamed_first: bool
) -> None:
    """Whichever came first: the same text and usage; updates are those of the stream where there was one."""
    one = agent(space, client)
    if streamed_first:
        (texts, stream), plain = await streamed(one, "hello"), await one.run("hello")
    else:
        plain, (texts, stream) = await one.run("hello"), await streamed(one, "hello")
    again, _ = await streamed(one, "hello")
    assert len(provider.asked) == 1 and plain.text == stream.text == "HELLO"
    assert texts == again == (["HE", "LLO"] if streamed_first else ["HELLO"])
    assert stream.usage_details["output_token_count"] == plain.usage_details["output_token_count"] == 100


async def test_tool_calls_survive_and_the_turns_after_them_are_shared_too(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI
) -> None:
    """The tool runs for each run; ids that the framework draws are no part of the question."""
    looked: list[int] = []

    def look(at: int) -> str:
        """Look."""
        looked.append(at)
        provider.toolless = True  # the next turn answers
        return "seen"

    one = agent(space, client, tools=[look])
    texts = []
    for _ in range(2):
        provider.toolless = False
        texts.append((await one.run("hello")).text)
    assert looked == [1, 1] and len(provider.asked) == 2 and texts[0] == texts[1] and "SEEN" in texts[0]


async def test_another_question_is_another_call(space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI) -> None:
    """Instructions and options are part of it; who has asked is not."""
    for more in ({}, {"name": "other"}, {"instructions": "Be long."}, {"options": {"max_tokens": 5}}):
        await agent(space, client, **more).run("hello")
    assert len(provider.asked) == 3


class Own(ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """A client as people write their own, which nothing tells from another of its class."""

    def __init__(self, says: str) -> None:
        super().__init__()
        self.says = says

    async def _inner_get_response(self, **_: Any) -> ChatResponse[Any]:  # type: ignore[override]
        return ChatResponse(messages=[Message("assistant", [self.says])])


async def test_clients_that_nothing_tells_apart_need_a_name(space: memgang.Space) -> None:
    """Two of one class must not answer for each other; with names they do not."""
    with pytest.raises(Exception, match="give MemGangMiddleware a name="):
        await Agent(client=Own("one"), middleware=[MemGangMiddleware(space)]).run("hello")
    for says in ("one", "two", "one"):
        one = Agent(client=Own(says), middleware=[MemGangMiddleware(space, name=says)])
        assert (await one.run("hello")).text == says


async def test_a_wrong_key_is_its_owners_alone(space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI, opened: Any) -> None:
    """The error is the client's own; who waits asks for itself."""
    provider.fails = [401]
    async with opened() as other:
        both = await asyncio.gather(*(agent(one, client).run("hello") for one in (space, other)), return_exceptions=True)
    failed = [one for one in both if isinstance(one, BaseException)]
    assert len(failed) == 1 and type(failed[0]).__module__.startswith("agent_framework") and len(provider.asked) == 2


async def test_a_space_of_plain_code_serves_agents(
    blocking: memgang.BlockingSpace, provider: Provider, client: openai.AsyncOpenAI
) -> None:
    """The client stays in the event loop of its user; plain and streamed."""
    one = agent(blocking, client)
    texts, _ = await streamed(one, "hello")
    assert texts == ["HE", "LLO"] and (await one.run("hello")).text == "HELLO" and len(provider.asked) == 1
