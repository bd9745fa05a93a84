"""The model wrapper of the OpenAI Agents SDK: real runs against a provider on a port; it is asked once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

pytest.importorskip("agents", reason="the OpenAI Agents SDK is not installed: pip install 'memgang[agents]'")

import openai
from agents import (
    Agent,
    Model,
    ModelProvider,
    ModelResponse,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIProvider,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    Usage,
    function_tool,
)
from openai._models import construct_type
from openai.types.responses import ResponseOutputMessage

import memgang
from memgang.adapters.agents import MemGangModel, MemGangProvider
from memgang.errors import ConfigError
from memgang.savings import fold
from tests.adapters.provider import Provider

QUIET = RunConfig(tracing_disabled=True)
MODELS = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}


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


def agent(model: Any, **more: Any) -> Any:
    """Without randomness: else each ask of a named agent, as the one of these spaces is, is for a sample of its own."""
    return Agent(name="reviewer", instructions="Be short.", model=model, model_settings=ModelSettings(temperature=0), **more)


async def streamed(one: Any, text: str) -> tuple[list[Any], Any]:
    """The raw events of a streamed run, and its result."""
    result = Runner.run_streamed(one, text, run_config=QUIET)
    return [event.data async for event in result.stream_events() if event.type == "raw_response_event"], result


@pytest.mark.parametrize("kind", MODELS)
async def test_eight_runs_at_once_ask_once(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI, opened: Any, kind: str
) -> None:
    """Over two spaces; output and usage of each are those of the one call, and so is the bill."""
    async with opened() as other:
        agents = [agent(MemGangModel(MODELS[kind]("gpt-5-mini", client), one)) for one in (space, other)]
        results = await asyncio.gather(*(Runner.run(agents[n % 2], "hello", run_config=QUIET) for n in range(8)))
        await other.flush()
    assert len(provider.asked) == 1
    assert len({result.final_output for result in results}) == 1 and "HELLO" in results[0].final_output
    usages = [result.context_wrapper.usage for result in results]
    assert {usage.total_tokens for usage in usages} == {1100 if kind == "chat" else 15} and all(usage.requests == 1 for usage in usages)
    await space.flush()
    savings = fold([event async for event in space.events()])
    assert savings.physical.tokens_in == (1000 if kind == "chat" else 10)
    assert savings.avoided_total.tokens_in == 7 * savings.physical.tokens_in


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("streamed_first", [True, False])
async def test_plain_and_streamed_runs_share(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI, kind: str, streamed_first: bool
) -> None:
    """Whichever came first: the same output and usage, with deltas of the text for who streams."""
    one = agent(MemGangModel(MODELS[kind]("m", client), space))
    if streamed_first:
        (events, stream), plain = await streamed(one, "hello"), await Runner.run(one, "hello", run_config=QUIET)
    else:
        plain, (events, stream) = await Runner.run(one, "hello", run_config=QUIET), await streamed(one, "hello")
    again, _ = await streamed(one, "hello")
    assert len(provider.asked) == 1 and "HELLO" in plain.final_output
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == plain.final_output
    assert plain.final_output == stream.final_output and [event.type for event in again] == [event.type for event in events]
    assert stream.context_wrapper.usage.input_tokens == plain.context_wrapper.usage.input_tokens > 0


async def test_tool_calls_survive(space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI) -> None:
    """The tool runs for each run with the arguments of the one answer; the turn that tells its outcome is shared too."""
    looked: list[int] = []

    @function_tool
    def look(at: int) -> str:
        """Look."""
        looked.append(at)
        return "seen"

    one = agent(MemGangModel(OpenAIChatCompletionsModel("m", client), space), tools=[look], tool_use_behavior="stop_on_first_tool")
    for _ in range(2):
        assert (await Runner.run(one, "hello", run_config=QUIET)).final_output == "seen"
        _, result = await streamed(one, "hello")
        assert result.final_output == "seen"
    assert looked == [1] * 4 and len(provider.asked) == 1


async def test_another_question_is_another_call(space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI) -> None:
    """Model, instructions, tools, settings and the form of the output are part of it; who has asked and for what run is not."""
    @function_tool
    def look() -> str:
        """Look."""
        return ""

    model = MemGangModel(OpenAIChatCompletionsModel("m", client), space)
    base = agent(model)
    keyed = ModelSettings(temperature=0, extra_args={"prompt_cache_key": "a"}, extra_body={"api-key": "sk-mine"})
    for one in (base, base.clone(name="other"), base.clone(model_settings=keyed),
                agent(MemGangModel(OpenAIChatCompletionsModel("n", client), space)),
                base.clone(instructions="Be long."), base.clone(model_settings=ModelSettings(temperature=0, max_tokens=5)),
                base.clone(tools=[look], model_settings=ModelSettings(temperature=0, tool_choice="none"))):
        await Runner.run(one, "hello", run_config=QUIET, max_turns=1) if not one.tools else await _turn(one)
    await space.flush()
    assert len(provider.asked) == 5 and "sk-mine" not in str([event async for event in space.events()])


async def _turn(one: Any) -> None:
    with pytest.raises(Exception, match="Max turns"):
        await Runner.run(one, "hello", run_config=QUIET, max_turns=1)


async def test_a_conversation_that_the_provider_keeps_is_nobody_elses(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI
) -> None:
    """It changes with each turn; plain and streamed go to the wrapped model."""
    one = agent(MemGangModel(OpenAIResponsesModel("m", client), space))
    for _ in range(2):
        await Runner.run(one, "hello", run_config=QUIET, conversation_id="conv_1")
    result = Runner.run_streamed(one, "hello", run_config=QUIET, conversation_id="conv_1")
    assert [event async for event in result.stream_events()] and len(provider.asked) == 3 and not (await space.find()).objects


async def test_a_provider_gives_models_by_name(space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI) -> None:
    """For a whole run, also where the agents name their models as text."""
    config = RunConfig(tracing_disabled=True, model_provider=MemGangProvider(OpenAIProvider(openai_client=client), space))
    for _ in range(2):
        assert "HELLO" in (await Runner.run(agent("gpt-5-mini"), "hello", run_config=config)).final_output
    assert len(provider.asked) == 1


async def test_a_space_of_plain_code_serves_runs(blocking: memgang.BlockingSpace, provider: Provider, client: openai.AsyncOpenAI) -> None:
    """The client stays in the event loop of its user; plain and streamed."""
    one = agent(MemGangModel(OpenAIResponsesModel("m", client), blocking))
    events, _ = await streamed(one, "hello")
    assert events[-1].type == "response.completed"
    assert "HELLO" in (await Runner.run(one, "hello", run_config=QUIET)).final_output and len(provider.asked) == 1


async def test_errors_are_the_sdks_own_and_a_wrong_key_is_nobody_elses(
    space: memgang.Space, provider: Provider, client: openai.AsyncOpenAI, opened: Any
) -> None:
    """A refused key is told to its owner alone; who waits asks for itself. What was cut is not kept."""
    provider.fails = [401]
    async with opened() as other:
        agents = [agent(MemGangModel(OpenAIChatCompletionsModel("m", client), one)) for one in (space, other)]
        both = await asyncio.gather(*(Runner.run(one, "hello", run_config=QUIET) for one in agents), return_exceptions=True)
        failed = [one for one in both if isinstance(one, BaseException)]
        assert len(failed) == 1 and isinstance(failed[0], openai.AuthenticationError) and len(provider.asked) == 2
        provider.fails = ["cut"]
        with pytest.raises(Exception):  # whatever the SDK makes of a stream without its end
            await streamed(agent(MemGangModel(OpenAIResponsesModel("m", client), space)), "hello")
        _, result = await streamed(agent(MemGangModel(OpenAIResponsesModel("m", client), space)), "hello")
        assert "HELLO" in result.final_output


class Own(Model):
    """A model as people write their own, which nothing tells from another of its class."""

    def __init__(self, says: str) -> None:
        self.says = says

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        said = construct_type(type_=ResponseOutputMessage, value={
            "id": "m", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": self.says, "annotations": []}]})
        return ModelResponse(output=[said], usage=Usage(), response_id=None)  # type: ignore[list-item]

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


async def test_models_that_nothing_tells_apart_need_a_name(space: memgang.Space) -> None:
    """Two of one class must not answer for each other; with names they do not, also where a provider gives them."""
    with pytest.raises(ConfigError, match="give it a name="):
        MemGangModel(Own("one"), space)
    for says in ("one", "two", "one"):
        assert (await Runner.run(agent(MemGangModel(Own(says), space, name=says)), "hello", run_config=QUIET)).final_output == says

    class Gives(ModelProvider):
        def get_model(self, model_name: str | None) -> Model:
            return Own(str(model_name))

    for name in ("one", "two"):
        config = RunConfig(tracing_disabled=True, model_provider=MemGangProvider(Gives(), space, name="ours"))
        assert (await Runner.run(agent(name), "hello", run_config=config)).final_output == name


def test_what_is_no_model_is_refused(blocking: memgang.BlockingSpace) -> None:
    """The message says what takes names."""
    with pytest.raises(ConfigError, match="MemGangProvider takes names"):
        MemGangModel("gpt-5-mini", blocking)  # type: ignore[arg-type]
