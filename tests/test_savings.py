"""The ledger adds up, in any order, and says what it does not know."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.explain import explain, why
from memgang.model import NO_USAGE, Event, Usage
from memgang.savings import CAUSES, Ledger, fold, table, to_dict
from memgang.space import Space

small = st.integers(0, 10**6)
usages = st.builds(Usage, small, small, small, small, small, small, small, small, st.booleans())
events = st.lists(st.one_of(
    st.builds(Event, raw=st.sampled_from(["committed", "failed", "released", "fenced", "ended"]), own=usages,
              agent=st.sampled_from(["", "a1", "a2"]), role=st.sampled_from(["", "map", "reduce"])),
    st.builds(Event, raw=st.sampled_from(["hit", "joined", "read"]), saved=usages, why=st.sampled_from(["", *CAUSES]),
              agent=st.sampled_from(["", "a1", "a2"]), role=st.sampled_from(["", "map", "reduce"]),
              dur_ms=st.floats(0, 1000)),
), max_size=30)


@given(events, st.randoms(use_true_random=False))
def test_the_figures_add_up_in_any_order(found: list[Event], shuffler: random.Random) -> None:
    """Sums by agent, by role and by cause equal the totals, however the events arrive."""
    savings = fold(found)
    savings.check()
    shuffler.shuffle(found)
    assert fold(found) == savings
    json.dumps(to_dict(savings))
    assert "From the ledger" in table(savings)


def test_virtual_is_what_one_agent_alone_would_spend() -> None:
    """One computes for 100 and another hits it: 100 spent, 200 virtual."""
    work = Usage(1, 1, 80, 20, 0, 100, 50)
    savings = fold([Event(raw="committed", own=work, agent="a", role="map"),
                    Event(raw="hit", why="hit", saved=work, agent="b", role="map")])
    assert (savings.physical.tokens, savings.virtual.tokens, savings.avoided["hit"].micro_usd) == (100, 200, 100)
    assert savings.by_agent["b"].physical == NO_USAGE and savings.by_role["map"].virtual == savings.virtual


def test_what_failed_is_lost_and_neither_physical_nor_virtual() -> None:
    """Failed, released and fenced attempts have a line of their own."""
    savings = fold([Event(raw=raw, own=Usage(1, ms=5)) for raw in ("failed", "released", "fenced")])
    assert savings.lost == Usage(3, ms=15) and savings.virtual == NO_USAGE


def test_a_write_of_what_is_known_counts_as_deduplicated() -> None:
    """Its bytes are not bytes written."""
    counts = fold([Event(raw="put", bytes=10), Event(raw="put", bytes=10, known=True)]).counts
    assert (counts.writes, counts.known_writes, counts.bytes_written, counts.bytes_known) == (2, 1, 10, 10)


def test_waits_takeovers_and_overhead_have_their_own_lines() -> None:
    """A joined call's length is the wait it ended; overhead is in no other sum."""
    savings = fold([Event(raw="waits"), Event(raw="joined", dur_ms=2.5), Event(raw="taken"),
                    Event(raw="overhead", overhead_us=7), Event(raw="read", bytes=3)])
    counts = savings.counts
    assert (counts.waits, counts.wait_us, counts.takeovers, counts.bytes_read) == (1, 2500, 1, 3)
    assert savings.overhead_us == 7 and savings.virtual == NO_USAGE


def test_a_model_without_a_price_is_named() -> None:
    """Tokens that cost nothing because nobody knows the price are not passed off as free."""
    spent = Usage(1, 1, 10, 10)
    savings = fold([Event(raw="committed", model="openai:mystery", own=spent),
                    Event(raw="committed", model="extractive", own=spent)])
    assert savings.unpriced == ("openai:mystery",) and "openai:mystery" in table(savings)


def test_estimated_figures_are_marked() -> None:
    """Both the flag and the table say so."""
    savings = fold([Event(raw="committed", own=Usage(1, 1, 1234, estimated=True))])
    assert savings.estimated and "~1,234" in table(savings)


def test_check_names_the_line_that_does_not_add_up() -> None:
    """A ledger that lost a row is refused."""
    ledger = Ledger()
    ledger.add(Event(raw="committed", own=Usage(1), agent="a"))
    savings = ledger.savings()
    savings.by_agent.clear()
    assert ledger.savings().adds_up() and not savings.adds_up()
    with pytest.raises(AssertionError, match="physical by agent: calls"):
        savings.check()


def ended(call: str, outline: dict[str, object]) -> list[Event]:
    """A call of one function that was claimed and answered, the newest first."""
    return [Event(raw="committed", call=call, outline=json.dumps(outline)),
            Event(raw="claimed", call=call, fn="work.summarise", agent="a")]


def test_why_names_the_first_place_where_the_nearest_call_differs() -> None:
    """Of two older calls the more alike is compared."""
    found = explain([*ended("aaa", {"version": "1", "arguments": ["x", "y"]}),
                     *ended("bbb", {"version": "1", "arguments": ["x", "z"]}),
                     *ended("ccc", {"version": "2", "arguments": ["p", "q"]})], "summarise")
    assert found is not None
    assert (found.call, found.nearest, found.place) == ("aaa", "bbb", "arguments[1]")
    assert (found.mine, found.other) == ('"y"', '"z"')


def test_why_says_what_became_of_the_same_call() -> None:
    """A call claimed twice is explained by what happened between."""
    found = explain([*ended("aaa", {}), Event(raw="dropped", call="aaa", why="stale"), *ended("aaa", {})], "aa")
    assert found is not None and found.nearest == "aaa" and "dropped (stale)" in found.verdict


def test_why_of_an_unknown_call_is_none_and_of_a_lone_call_says_so() -> None:
    """Nothing is made up, for a call whose work has not ended either."""
    assert explain([], "aaa") is None
    alone, busy = explain(ended("aaa", {}), "aaa"), explain([*ended("aaa", {})[1:], *ended("bbb", {})], "aaa")
    assert alone is not None and "had to be computed" in alone.verdict
    assert busy is not None and busy.nearest == "" and "has not ended" in busy.verdict


async def test_why_works_on_the_log_that_recall_writes(space: Space) -> None:
    """Two calls that differ in one argument: the log of a real space is enough to say which."""

    async def double(number: int) -> int:
        return 2 * number

    recalled = space.once(double, version="1")
    await recalled(1)
    await recalled(2)
    newest = [event async for event in space.events() if event.raw == "claimed"][-1]
    found = await why(space.store.wire, space.store.keys, newest.call)
    assert found is not None and (found.place, found.mine, found.other) == ("arguments.number", "2", "1")


async def test_the_ledger_of_a_real_space_adds_up(space: Space) -> None:
    """One computation and two hits of it: one call physical, three virtual."""

    async def double(number: int) -> int:
        return 2 * number

    recalled = space.once(double, version="1")
    for _ in range(3):
        assert await recalled(4) == 8
    savings = fold([event async for event in space.events()])
    savings.check()
    assert (savings.physical.calls, savings.avoided["hit"].calls, savings.virtual.calls) == (1, 2, 3)
    assert savings.counts.hits == 2 and savings.counts.damaged == 0
