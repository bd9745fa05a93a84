"""The ledger adds up, in any order, and says what it does not know."""

import json
import random
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from memgang.model import NO_USAGE, Event, Usage
from memgang.savings import CAUSES, Row, fold, table
from memgang.space import Space
from memgang.why import Miss, explain

small = st.integers(0, 10**6)
usages = st.builds(Usage, small, small, small, small, small, small, small, small, st.booleans())
events = st.lists(st.one_of(
    st.builds(Event, raw=st.sampled_from(["committed", "failed", "released", "fenced"]), own=usages,
              agent=st.sampled_from(["", "a1", "a2"]), role=st.sampled_from(["", "map", "reduce"])),
    st.builds(Event, raw=st.sampled_from(["hit", "joined", "reference"]), saved=usages, why=st.sampled_from(["", *CAUSES]),
              agent=st.sampled_from(["", "a1", "a2"]), role=st.sampled_from(["", "map", "reduce"]),
              dur_ms=st.integers(0, 1000)),
), max_size=30)


@given(events, st.randoms(use_true_random=False))
def test_the_figures_add_up_in_any_order(found: list[Event], shuffler: random.Random) -> None:
    """Sums by agent, by role and by cause equal the totals, however the events arrive."""
    savings = fold(found)
    assert savings.adds_up() and savings.virtual == savings.physical + savings.saved
    shuffler.shuffle(found)
    assert fold(found) == savings
    assert json.loads(json.dumps(savings.as_dict()))["adds_up"]
    assert "from the ledger" in table(savings)


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
    savings = fold([Event(raw="put", bytes=10), Event(raw="put", bytes=10, known=True)])
    assert (savings.writes, savings.known_writes, savings.written_bytes) == (1, 1, 10)


def test_waits_takeovers_and_overhead_have_their_own_lines() -> None:
    """A joined call's length is the wait it ended; overhead is in no other sum."""
    savings = fold([Event(raw="waits"), Event(raw="joined", dur_ms=2.5), Event(raw="taken"),
                    Event(raw="overhead", overhead_us=7), Event(raw="read", bytes=3)])
    assert (savings.waits, savings.waited_ms, savings.takeovers, savings.read_bytes) == (1, 2.5, 1, 3)
    assert savings.overhead_us == 7 and savings.virtual == NO_USAGE


def test_estimated_figures_are_marked() -> None:
    """Token counts that no provider reported carry a ~ in the table."""
    savings = fold([Event(raw="committed", own=Usage(1, 1, 1234, estimated=True))])
    assert savings.physical.estimated and "~1,234" in table(savings)


def test_books_that_do_not_add_up_are_seen() -> None:
    """A row that was lost or changed is noticed."""
    savings = fold([Event(raw="committed", own=Usage(1), agent="a")])
    savings.by_agent["a"] = Row()
    assert not savings.adds_up()


def claim(call: str, outline: dict[str, object]) -> Event:
    """A claim of one function."""
    return Event(raw="claimed", call=call, fn="work.summarise", agent="a", outline=json.dumps(outline))


async def told(*events: Event, which: str = "") -> list[Miss]:
    """What `explain` says of a log."""

    async def log() -> AsyncIterator[Event]:
        for event in events:
            yield event

    return await explain(log(), which)


async def test_why_names_the_first_place_where_the_nearest_call_differs() -> None:
    """Of two older calls the more alike is compared."""
    newest, *_ = await told(
        claim("ccc", {"version": "2", "arguments": ["p", "q"]}), claim("bbb", {"version": "1", "arguments": ["x", "z"]}),
        claim("aaa", {"version": "1", "arguments": ["x", "y"]}), which="summarise")
    assert (newest.call, newest.nearest, newest.place) == ("aaa", "bbb", "arguments[1]")
    assert (newest.mine, newest.other) == ('"y"', '"z"')


async def test_why_says_what_became_of_the_same_call() -> None:
    """A call claimed twice is explained by what happened between."""
    newest, *_ = await told(claim("aaa", {}), Event(raw="dropped", call="aaa"), claim("aaa", {}), which="aa")
    assert "made before: its answer was forgotten" in newest.reason


async def test_why_of_an_unknown_call_is_nothing_and_of_a_lone_call_says_so() -> None:
    """Nothing is made up."""
    assert await told(claim("aaa", {}), which="bbb") == []
    only, = await told(claim("aaa", {}))
    assert only.nearest == "" and "first call of this function" in only.reason


async def test_why_works_on_the_log_that_recall_writes(space: Space) -> None:
    """Two calls that differ in one argument: the log of a real space is enough to say which."""

    @space.once(version="1")
    async def double(number: int) -> int:
        return 2 * number

    await double(1)
    await double(2)
    newest, *_ = await explain(space.events())
    assert newest.nearest and newest.place == "arguments.number", newest


async def test_the_ledger_of_a_real_space_adds_up(space: Space) -> None:
    """One computation and two hits of it: one call physical, three virtual."""

    @space.once(version="1")
    async def double(number: int) -> int:
        return 2 * number

    for _ in range(3):
        assert await double(4) == 8
    savings = fold([event async for event in space.events()])
    assert savings.adds_up()
    assert (savings.physical.calls, savings.saved.calls, savings.virtual.calls, savings.hits) == (1, 2, 3, 2)
