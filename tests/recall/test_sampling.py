"""Samples: a retry or a vote of one agent is given fresh answers, and agents share them all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.gates import ready

from memgang import Gang
from memgang.errors import ConfigError, WorkFailed
from memgang.model import Call, Completion, Prompt
from memgang.recall.occurrences import IDLE_S, Occurrences
from memgang.space import Space

pytestmark = pytest.mark.core


class Dice:
    """A model that says something else each time it is asked."""

    name = price_name = "dice"
    version = "1"

    def __init__(self, **parameters: Any) -> None:
        self.parameters: dict[str, Any] = parameters
        self.asked = 0

    async def complete(self, prompt: Prompt) -> Completion:
        self.asked += 1
        return Completion(text=f"answer {self.asked}", tokens_in=10, tokens_out=2)

    async def aclose(self) -> None:
        """Nothing to give back."""


async def votes(gang: Gang, agents: int, asks: int) -> list[list[str]]:
    """What each of some agents was answered when it asked one prompt so often."""

    @gang.agent(role="vote", agents=2, version="1")  # fewer workers than calls: who was free must not matter
    async def vote(agent: int) -> list[str]:
        return [await gang.llm("heads or tails?") for _ in range(asks)]

    refs = await gang.map(vote, range(agents), on_error="raise")
    found: list[list[str]] = await gang.space.get_many([r for r in refs if r is not None])
    return found


@pytest.mark.catalogue("B10")
@pytest.mark.parametrize("parameters", [{"temperature": 1}, {}])
async def test_five_agents_that_vote_five_times_share_five_samples(space: Space, parameters: dict[str, Any]) -> None:
    """5 x 5 asks: the model is asked 5 times, 20 are recalled; each agent has 5 different answers, all have the same."""
    model = Dice(**parameters)
    gang = Gang(space, model)
    async with gang.run():
        answers = await votes(gang, 5, 5)
    assert len(set(answers[0])) == 5 and all(a == answers[0] for a in answers)
    assert model.asked == 5
    events = [e async for e in space.events(run=gang.run_id)]
    assert sum(e.raw == "committed" and e.call_kind == "llm" for e in events) == 5
    assert sum(e.raw in ("hit", "joined") and e.model == "" and e.fn == "dice" for e in events) == 20
    told = await gang.savings()
    assert (told.physical.llm_calls, told.virtual.llm_calls) == (5, 25)


@pytest.mark.catalogue("B10")
@pytest.mark.parametrize("parameters", [{"temperature": 0}, {"temperature": 1, "seed": 7}])
async def test_what_does_not_sample_is_one_answer_for_all(space: Space, parameters: dict[str, Any]) -> None:
    """At temperature 0, or with a seed: 25 asks, one answer."""
    model = Dice(**parameters)
    gang = Gang(space, model)
    async with gang.run():
        answers = await votes(gang, 5, 5)
    assert {a for row in answers for a in row} == {"answer 1"} and model.asked == 1


@pytest.mark.catalogue("B10")
async def test_who_has_no_identity_asks_for_the_first_sample(opened: Callable[..., Any]) -> None:
    """No agent named: all asks are one; named by acting_as: the second ask is fresh, and shared with another's second."""
    async with opened(agent="") as space:
        model = Dice(temperature=1)
        gang = Gang(space, model)
        assert [await gang.llm("?") for _ in range(3)] == ["answer 1"] * 3
        for agent in ("ann", "bob"):
            with space.acting_as(agent=agent, run="r"):
                assert [await gang.llm("?") for _ in range(2)] == ["answer 1", "answer 2"]
        with space.acting_as(agent="ann", run="another"):
            assert await gang.llm("?") == "answer 1"  # counted anew in each run
        assert model.asked == 2


@pytest.mark.catalogue("B10")
async def test_a_fresh_sample_is_given_to_nobody_else(space: Space) -> None:
    """Each is computed, and none of them answers a later ask, fresh or not."""
    model = Dice(temperature=1)
    gang = Gang(space, model)
    assert len({await gang.llm("?", sample="fresh") for _ in range(3)}) == 3
    assert await gang.llm("?") == "answer 4" and await gang.llm("?", sample=0) == "answer 4"
    assert await gang.llm("?", sample=1) == "answer 5" and model.asked == 5


@pytest.mark.catalogue("B10")
async def test_a_lost_counter_begins_with_the_first_sample(opened: Callable[..., Any]) -> None:
    """Another process of the same identity shares from sample 0: too little variety, never a wrong answer."""
    model = Dice(temperature=1)
    async with opened() as one:
        assert [await Gang(one, model).llm("?") for _ in range(2)] == ["answer 1", "answer 2"]
    async with opened() as two:
        assert [await Gang(two, model).llm("?") for _ in range(3)] == ["answer 1", "answer 2", "answer 3"]
    assert model.asked == 3


async def test_the_retry_of_an_agent_call_is_given_fresh_samples(space: Space) -> None:
    """An agent that could not use an answer and is tried again does not get the same one again."""
    model = Dice(temperature=1)
    gang = Gang(space, model)
    seen: list[str] = []

    @gang.agent(role="parse", version="1")
    async def parse(text: str) -> str:
        seen.append(await gang.llm(text))
        if len(seen) < 3:
            raise TimeoutError("not what I can use")
        return seen[-1]

    assert await parse("give me JSON") == "answer 3" and seen == ["answer 1", "answer 2", "answer 3"]


async def test_asks_at_the_same_time_are_different_asks(space: Space) -> None:
    """Five votes gathered at once are five samples, not one that was joined."""
    model = Dice(temperature=1)
    gang = Gang(space, model)
    with space.acting_as(agent="ann"):
        answers = await asyncio.gather(*(gang.llm("?") for _ in range(5)))
    assert Counter(answers) == Counter(f"answer {i}" for i in range(1, 6))


async def test_functions_can_be_sampled_by_occurrence(space: Space) -> None:
    """`once` and `recall` take the same option; what is no sample is refused."""
    runs: list[int] = []

    @space.once(sample="occurrence", version="1")
    async def draw() -> int:
        runs.append(1)
        return len(runs)

    assert [await draw(), await draw()] == [1, 2]
    with space.acting_as(agent="another"):
        assert [await draw(), await draw(), await draw()] == [1, 2, 3]
    for wrong in (-1, True, "often", 1.5):
        with pytest.raises(ConfigError, match="sample="):
            await space.recall(Call("function", "f", "1", {}), ready(1), sample=wrong)  # type: ignore[arg-type]


async def test_a_failing_ask_is_counted_once(space: Space) -> None:
    """What was asked and failed for good is not asked again as the same sample by the same agent."""
    with pytest.raises(WorkFailed):
        await space.recall(Call("function", "f", "1", {}), ready(ValueError("no")), sample="occurrence")
    got = await space.recall(Call("function", "f", "1", {}), ready("fine"), sample="occurrence")
    assert got.how == "computed"


def test_counters_are_bounded_and_forgotten_with_their_run() -> None:
    """A run idle for a day begins anew; when there are too many, the run idle longest goes, or the oldest half of one."""
    counters = Occurrences(most=10)
    assert [counters.next("a", "ann", "x", now=0.0) for _ in range(3)] == [0, 1, 2]
    assert counters.next("b", "ann", "x", now=IDLE_S) == 0
    assert counters.next("a", "ann", "x", now=IDLE_S) == 3
    assert counters.next("b", "ann", "y", now=2 * IDLE_S + 1) == 0
    assert counters.next("a", "ann", "x", now=2 * IDLE_S + 2) == 0  # idle for more than a day
    for i in range(30):
        counters.next("b", "ann", f"z{i}", now=2 * IDLE_S + 3)
    assert sum(len(run.asked) for run in counters._runs.values()) <= 10 == counters._most
    assert counters._count == sum(len(run.asked) for run in counters._runs.values())
    assert counters.next("b", "ann", "z29", now=2 * IDLE_S + 3) == 1  # the newest are kept
