"""Isolated against shared: the same work twice, and figures that can contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang import llms
from memgang.errors import ConfigError
from memgang.jobs import compare_pages
from memgang.jobs.compare import Comparison, compare
from memgang.settings import Settings

TOPICS = ("the budget of the harbour", "the repair of the old lighthouse", "the new ferry line", "the fish market")
QUESTIONS = [f"What was said about {topic} in meeting {n}?" for n in (1, 2) for topic in TOPICS]


@pytest.fixture
def minutes(tmp_path: Path) -> str:
    """A document long enough for several parts."""
    paragraphs = [
        f"## Item {n}\n\nThe council of the town discussed {TOPICS[n % 4]} at length in its session number {n}. "
        f"Speaker {n} said that {TOPICS[n % 4]} needs {n * 7} more workers before the summer of the year {2000 + n}. "
        f"Nobody of the council members objected to the plan for {TOPICS[n % 4]}, and a vote was taken at once.\n"
        for n in range(40)]
    path = tmp_path / "minutes.md"
    path.write_text("# Minutes of the council\n\n" + "\n".join(paragraphs))
    return str(path)


async def made(source: str, agents: int = 8) -> Comparison:
    model = llms.load("simulated:latency_ms=1", Settings.load())
    return await compare(lambda name: memgang.open(space=name), [source], QUESTIONS, model=model, agents=agents, whole=False)


async def test_eight_questions_share_one_map_to_the_call_and_the_token(minutes: str) -> None:
    """Shared physical work is the unique work, counted at the model; avoided is isolated minus shared."""
    found = await made(minutes)
    shared, isolated = found.shared, found.isolated
    assert (shared.usage.llm_calls, shared.usage.tokens) == (found.unique.llm_calls, found.unique.tokens)
    assert (shared.asked.llm_calls, shared.asked.tokens) == (found.unique.llm_calls, found.unique.tokens)
    avoided = shared.virtual - shared.usage
    assert avoided.llm_calls == isolated.usage.llm_calls - shared.usage.llm_calls > 0
    assert avoided.tokens == isolated.usage.tokens - shared.usage.tokens
    assert avoided.micro_usd == isolated.usage.micro_usd - shared.usage.micro_usd
    assert shared.usage.bytes * 8 == isolated.usage.bytes > 0
    assert found.adds_up() and found.at_lower_bound()


async def test_the_pages_say_what_the_figures_say(minutes: str) -> None:
    """Markdown, JSON and HTML hold the same figures; the page needs nothing from anywhere else and escapes names."""
    found = await made(minutes)
    calls = f"{found.shared.usage.llm_calls:,d}"
    assert f"| {calls} |" in compare_pages.markdown(found)
    assert compare_pages.as_dict(found)["shared"]["physical"]["llm_calls"] == found.shared.usage.llm_calls
    page = compare_pages.page(found)
    assert f"<td>{calls}</td>" in page and "simulated" in page
    assert "https:" not in page and "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("data-tape=") == 2 and "default-src 'none'" in page  # both sides are played, and nothing is asked for
    assert all(side.tape is not None and side.tape.records for side in (found.isolated, found.shared))


async def test_one_team_has_nobody_to_share_with(opened: Callable[..., Any]) -> None:
    """A comparison of one team is refused with what to do."""
    with pytest.raises(ConfigError, match="at least two teams"):
        await compare(lambda name: memgang.open(space=name), ["x"], ["one?"], whole=False,
                      model=llms.load("simulated", Settings.load()))
