"""The language model for CrewAI: real crews with CrewAI's own client against a provider on a port; it is asked once.

CrewAI wants older versions of the OpenAI SDK and of MCP than MemGang's other extras, and brings a gigabyte, so it is tested in an
environment of its own: `docs/adapters.md` has the commands.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("crewai") is None:  # before the variables are set: they hold for the whole process
    pytest.skip("CrewAI is tested in an environment of its own: see docs/adapters.md", allow_module_level=True)
# Before it is imported: it would tell its makers of each run, and keep files below the home directory.
os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false"}

from concurrent.futures import ThreadPoolExecutor

import httpx
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

import memgang
from memgang.adapters.crewai import MemGangLLM
from memgang.errors import ConfigError
from memgang.savings import fold
from tests.adapters.provider import Provider


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Provider]:
    """A provider of its own."""
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))
    found = Provider()
    yield found
    found.close()


def llm(provider: Provider, space: Any, **more: Any) -> MemGangLLM:
    """Without randomness: else each ask of a named agent, as the one of these spaces is, is for a sample of its own."""
    options = {"temperature": 0} | more
    inner = LLM(model="openai/gpt-4.1-mini", api_key="sk-mine-12345678", base_url=provider.url + "/v1", **options)
    return MemGangLLM(inner, space)


def crew(model: Any, **more: Any) -> Crew:
    agent = Agent(role="Reviewer", goal="To review", backstory="You review.", llm=model, verbose=False, **more)
    return Crew(agents=[agent], tasks=[Task(description="Say hello.", expected_output="A greeting.", agent=agent)], verbose=False)


def test_eight_crews_at_once_ask_once(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """In threads; each is given the answer of the one call, and so is the bill."""
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: crew(llm(provider, blocking)).kickoff().raw, range(8)))
    assert len(provider.asked) == 1 and len(set(results)) == 1 and "SAY HELLO" in results[0]
    asyncio.run_coroutine_threadsafe(blocking.awaited.flush(), blocking.loop).result()
    savings = fold(list(blocking.events()))
    assert savings.physical.tokens_in == 1000 and savings.avoided_total.tokens_in == 7000


async def test_a_crew_that_is_awaited_shares_too(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """With the plain ones."""
    first = (await crew(llm(provider, blocking)).akickoff()).raw
    assert (await asyncio.to_thread(crew(llm(provider, blocking)).kickoff)).raw == first and len(provider.asked) == 1


def test_tool_calls_survive(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """The tool runs for each crew with the arguments of the one answer; the turn after it is shared."""
    looked: list[int] = []

    @tool("look")
    def look(at: int) -> str:
        """Look at a place."""
        looked.append(at)
        provider.toolless = True  # the next turn answers
        return "seen"

    model = llm(provider, blocking)
    said = {"name": "look", "description": "Look", "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}}}
    for _ in range(2):
        [call] = model.call([{"role": "user", "content": "hello"}], tools=[{"type": "function", "function": said}])
        assert call["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert len(provider.asked) == 1
    for _ in range(2):
        provider.toolless = False
        assert "SEEN" in crew(model, tools=[look]).kickoff().raw
    assert looked == [1, 1] and len(provider.asked) == 3


def test_another_question_is_another_call(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """Settings and messages are part of it, the key is not; what runs tools itself is not shared."""
    for model, text in ((llm(provider, blocking), "a"), (llm(provider, blocking), "a"), (llm(provider, blocking, max_tokens=5), "a"),
                        (llm(provider, blocking), "b")):
        assert model.call(text) == text.upper()
    assert len(provider.asked) == 3
    for _ in range(2):
        llm(provider, blocking).call("a", available_functions={"look": lambda at: at})
    assert len(provider.asked) == 5


def test_a_setting_that_has_no_json_form_does_not_take_the_others_out_of_the_key(
    blocking: memgang.BlockingSpace, provider: Provider
) -> None:
    """Beside an object what differs still differs; what nobody can describe is shared with nobody."""
    def client(place: str) -> dict[str, Any]:
        return {"timeout": httpx.Timeout(30), "organization": place}

    for place in ("a", "b", "a"):
        assert llm(provider, blocking, client_params=client(place)).call("hello") == "HELLO"
    assert len(provider.asked) == 2
    for _ in range(2):
        assert llm(provider, blocking, client_params=client("c") | {"_strict_response_validation": Odd()}).call("hello") == "HELLO"
    assert len(provider.asked) == 4


class Odd:
    """False, and nothing JSON knows."""

    def __bool__(self) -> bool:
        return False


def test_usage_and_limits_are_those_of_the_wrapped_model(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """Its counters hold what was really spent."""
    model = llm(provider, blocking)
    for _ in range(2):
        model.call("hello")
    used = model.get_token_usage_summary()
    assert (used.prompt_tokens, used.completion_tokens, used.cached_prompt_tokens, used.successful_requests) == (1000, 100, 400, 1)
    assert model.get_context_window_size() > 8_192 and model.supports_function_calling()


def test_an_error_is_the_models_own(blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """The next to ask asks."""
    provider.fails = [401]
    with pytest.raises(Exception, match="401"):
        llm(provider, blocking).call("hello")
    assert llm(provider, blocking).call("hello") == "HELLO"


def test_what_is_no_model_is_refused(blocking: memgang.BlockingSpace) -> None:
    """The message says what takes names."""
    with pytest.raises(ConfigError, match=r"crewai\.LLM takes names"):
        MemGangLLM("gpt-5-mini", blocking)  # type: ignore[arg-type]
