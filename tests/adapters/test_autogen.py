"""The model client for AutoGen: its real agents around its own interface; the wrapped client is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

pytest.importorskip("autogen_core", reason="AutoGen is not installed: pip install 'memgang[autogen]'")
pytest.importorskip("autogen_agentchat", reason="its agents are not installed: pip install autogen-agentchat")

from autogen_agentchat.agents import AssistantAgent
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, ModelFamily, RequestUsage

import memgang
from memgang.adapters.autogen import MemGangClient
from memgang.errors import ConfigError
from memgang.savings import fold
from tests.adapters.provider import Provider

INFO: Any = {"vision": False, "function_calling": True, "json_output": True, "family": ModelFamily.UNKNOWN, "structured_output": True}


class Counted(ChatCompletionClient):
    """A client as people write their own: answers in capitals, calls a tool where it may, counts, waits at a gate."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: list[Exception] = []
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def _answer(self, messages: Any, tools: Any) -> CreateResult:
        self.asked.append(str(messages[-1].content))
        self.reached.set()
        await self.gate.wait()
        if self.fails:
            raise self.fails.pop()
        content: Any = str(messages[-1].content).upper()
        if tools and messages[-1].type == "UserMessage":
            content = [FunctionCall(id="call_1", name="look", arguments='{"at": 1}')]
        return CreateResult(finish_reason="stop", content=content, usage=RequestUsage(1000, 100), cached=False, thought="hm")

    async def create(self, messages: Any, *, tools: Any = (), **_: Any) -> CreateResult:
        return await self._answer(messages, tools)

    async def create_stream(self, messages: Any, *, tools: Any = (), **_: Any) -> AsyncGenerator[str | CreateResult, None]:
        yield "HE"
        result = await self._answer(messages, tools)
        yield "LLO"
        yield result

    async def close(self) -> None:
        pass

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    total_usage = actual_usage

    def count_tokens(self, messages: Any, *, tools: Any = ()) -> int:
        return 7

    remaining_tokens = count_tokens

    @property
    def capabilities(self) -> Any:
        return INFO

    @property
    def model_info(self) -> Any:
        return INFO


def wrapped(client: Counted, space: Any) -> MemGangClient:
    return MemGangClient(client, space, name="counted")


def agent(client: MemGangClient, **more: Any) -> AssistantAgent:
    return AssistantAgent("reviewer", model_client=client, **more)


async def test_eight_agents_at_once_ask_once(space: memgang.Space, opened: Any) -> None:
    """Over two spaces; texts and usage are those of the one call, and so is the bill."""
    client = Counted()
    async with opened() as other:
        async def run(number: int) -> Any:
            one = (space, other)[number % 2]
            with one.acting_as(agent=f"agent-{number}"):
                return await agent(wrapped(client, one)).run(task="hello")

        results = await asyncio.gather(*(run(number) for number in range(8)))
        await other.flush()
    last = [result.messages[-1] for result in results]
    assert client.asked == ["hello"] and [message.content for message in last] == ["HELLO"] * 8
    assert all(message.models_usage == RequestUsage(1000, 100) for message in last)
    await space.flush()
    savings = fold([event async for event in space.events()])
    assert savings.physical.tokens_in == 1000 and savings.avoided_total.tokens_in == 7000


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_plain_and_streamed_calls_share(space: memgang.Space, streamed_first: bool) -> None:
    """Chunks are those of the stream where there was one; who has not computed is told so."""
    from autogen_core.models import UserMessage

    counted = Counted()
    client, ask = wrapped(counted, space), [UserMessage(content="hello", source="user")]

    async def streamed(name: str) -> list[Any]:
        with space.acting_as(agent=name):
            return [chunk async for chunk in client.create_stream(ask)]

    async def plain(name: str) -> CreateResult:
        with space.acting_as(agent=name):
            return await client.create(ask)

    if streamed_first:
        chunks, result = await streamed("one"), await plain("two")
    else:
        result, chunks = await plain("one"), await streamed("two")
    assert len(counted.asked) == 1 and chunks[:-1] == (["HE", "LLO"] if streamed_first else ["HELLO"])
    assert [chunks[-1].cached, result.cached] == ([False, True] if streamed_first else [True, False])
    assert chunks[-1].model_copy(update={"cached": False}) == result.model_copy(update={"cached": False}) and result.thought == "hm"


async def test_tool_calls_survive(space: memgang.Space) -> None:
    """The tool runs for each agent, and the turn after it is shared too."""
    counted, looked = Counted(), []

    async def look(at: int) -> str:
        """Look."""
        looked.append(at)
        return "seen"

    for name in ("one", "two"):
        with space.acting_as(agent=name):
            result = await agent(wrapped(counted, space), tools=[look], reflect_on_tool_use=True).run(task="hello")
            assert "SEEN" in str(result.messages[-1].content)
    assert looked == [1, 1] and len(counted.asked) == 2


async def test_who_cancels_leaves_and_the_others_are_given_the_answer(space: memgang.Space, opened: Any) -> None:
    """The token of one ends its own waiting."""
    counted, token = Counted(), CancellationToken()
    counted.gate.clear()
    async with opened() as other:
        first = asyncio.create_task(agent(wrapped(counted, space)).run(task="hello", cancellation_token=token))
        await counted.reached.wait()
        second = asyncio.create_task(agent(wrapped(counted, other)).run(task="hello"))
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        counted.gate.set()
        assert (await second).messages[-1].content == "HELLO"  # type: ignore[union-attr]


async def test_an_error_is_the_clients_own_and_nothing_is_kept_of_it(space: memgang.Space) -> None:
    """The next to ask asks."""
    counted = Counted()
    counted.fails = [RuntimeError("no quota")]
    with pytest.raises(RuntimeError, match="no quota"):
        await agent(wrapped(counted, space)).run(task="hello")
    with space.acting_as(agent="other"):
        assert (await agent(wrapped(counted, space)).run(task="hello")).messages[-1].content == "HELLO"  # type: ignore[union-attr]
    assert len(counted.asked) == 2


async def test_a_client_that_cannot_be_described_needs_a_name(space: memgang.Space) -> None:
    """Two that answer otherwise must not be taken for one."""
    with pytest.raises(ConfigError, match="give it a name="):
        MemGangClient(Counted(), space)


async def test_whose_key_it_is_is_no_part_of_the_call(space: memgang.Space) -> None:
    """Two keys share an answer, and neither is in the log."""
    from autogen_core.models import UserMessage

    counted = Counted()
    for key in ("sk-mine-1", "sk-mine-2"):
        said: dict[str, Any] = {"temperature": 0, "extra_body": {"routes": [{"x-api-key": key}]}, "api_key": key}
        await wrapped(counted, space).create([UserMessage(content="hello", source="user")], extra_create_args=said)
    await space.flush()
    assert len(counted.asked) == 1 and "sk-mine" not in str([event async for event in space.events()])


async def test_a_space_of_plain_code_serves_agents(blocking: memgang.BlockingSpace) -> None:
    """The client stays in the event loop of its user."""
    counted = Counted()
    one = agent(wrapped(counted, blocking), model_client_stream=True)
    assert (await one.run(task="hello")).messages[-1].content == "HELLO"  # type: ignore[union-attr]
    assert wrapped(counted, blocking).count_tokens([]) == 7


async def test_autogens_own_client_is_known_by_its_configuration(space: memgang.Space) -> None:
    """Another temperature is another call, another key is not; no key is in the space."""
    pytest.importorskip("autogen_ext.models.openai", reason="its client of OpenAI is not installed: pip install 'autogen-ext[openai]'")
    from autogen_core.models import UserMessage
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    provider = Provider()
    try:
        for key, temperature in (("sk-mine-12345678", 0), ("sk-other-1234567", 0), ("sk-mine-12345678", 0.5)):
            client = OpenAIChatCompletionClient(
                model="gpt-4.1-mini", api_key=key, base_url=provider.url + "/v1", temperature=temperature, model_info=INFO)
            result = await MemGangClient(client, space).create([UserMessage(content="hello", source="user")])
            assert result.content == "HELLO" and result.usage == RequestUsage(1000, 100)
            await client.close()
    finally:
        provider.close()
    assert len(provider.asked) == 2
    kept = [await space.get(record.ref) for record in (await space.find()).objects]
    assert not any(b"sk-" in bytes(value) for value in kept) and "sk-" not in str([event async for event in space.events()])
