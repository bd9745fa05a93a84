"""Each policy is what its paper says: the same as a slow and plain form of it, and as examples worked by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.eviction.slowly import Op, slowly

from memgang.eviction import POLICIES, Policy, replay
from memgang.eviction.gdsf import Gdsf
from memgang.eviction.history import History, Step
from memgang.eviction.plain_gdsf import COST_MIN_S, PlainGdsf
from memgang.eviction.s3fifo import S3Fifo
from memgang.eviction.sieve import Sieve
from memgang.store.objects import COST_MIN_S as OF_THE_STORE

EVERY = pytest.mark.parametrize("kind", POLICIES, ids=lambda kind: kind.name)

KEYS = st.sampled_from([f"k{n}" for n in range(14)])
OPS = st.lists(st.tuples(st.sampled_from(["ask"] * 6 + ["put", "drop"]), KEYS), max_size=250)
SIZES = st.lists(st.integers(0, 9) | st.just(30), min_size=14, max_size=14)
COSTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0, 32.0]), min_size=14, max_size=14)


def do(policy: Policy, op: Op) -> tuple[bool, list[str]]:
    """One operation, in the words of the slow form."""
    what, key, size, cost = op
    if what == "drop":
        policy.drop(key)
        return False, []
    if what == "ask" and key in policy:
        policy.use(key)
        return True, []
    return False, policy.put(key, size, cost)


@EVERY
@given(told=OPS, sizes=SIZES, costs=COSTS, budget=st.integers(1, 40))
def test_a_policy_is_what_its_slow_form_is(
    kind: type[Policy], told: list[tuple[str, str]], sizes: list[int], costs: list[float], budget: int
) -> None:
    """The same hits and the same victims in the same order; and never a byte more than the budget."""
    quick, slow = kind(budget), slowly(kind.name, budget)
    for what, key in told:
        at = int(key[1:])
        op = (what, key, sizes[at], costs[at])

        assert do(quick, op) == slow.do(op)
        assert quick.used == sum(quick.sizes.values()) <= budget
        assert quick.sizes.keys() == quick.costs.keys()


@EVERY
@pytest.mark.parametrize("seed", range(4))
def test_a_policy_is_what_its_slow_form_is_for_long(kind: type[Policy], seed: int) -> None:
    """The same over thousands of skewed requests with phases, where lines go round and marks, counts and ghosts matter."""
    rng = random.Random(seed)
    budget = (10, 40, 100, 100)[seed]
    quick, slow = kind(budget), slowly(kind.name, budget)
    for n in range(3_000):
        at = int(rng.paretovariate(0.6)) % 60 + n // 1_000 * 5
        what = rng.choices(["ask", "put", "drop"], [30, 2, 1])[0]
        op = (what, f"k{at * 7919 % 997:03d}", 1 if seed < 2 else at % 5 + 1, rng.choice([0.0, 1.0, 4.0]))

        assert do(quick, op) == slow.do(op), f"request {n:,}"
        assert quick.used == sum(quick.sizes.values()) <= budget


@EVERY
@given(told=OPS, sizes=SIZES, costs=COSTS, budget=st.integers(1, 40))
def test_the_totals_of_a_replay_add_up(
    kind: type[Policy], told: list[tuple[str, str]], sizes: list[int], costs: list[float], budget: int
) -> None:
    """Hits and misses are the requests; what is saved is within what is asked; a larger object than the budget is never a hit."""
    steps = [Step({"put": "make"}.get(what, what), key, sizes[int(key[1:])], costs[int(key[1:])], 7) for what, key in told]  # type: ignore[arg-type]
    victims: list[str] = []
    found = replay(History("drawn", steps), kind(budget), victims)

    asked = [s for s in steps if s.what in ("ask", "make")]
    assert found.hits + found.misses == found.requests == len(asked)
    assert found.bytes_hit <= found.bytes_asked == sum(s.size for s in asked)
    assert found.seconds_saved <= found.seconds_asked == pytest.approx(sum(s.seconds for s in asked))
    assert (found.micro_usd_saved, found.micro_usd_asked) == (7 * found.hits, 7 * len(asked))
    assert found.too_large == sum(s.size > budget for s in asked)
    assert found.evictions == len(victims)


@EVERY
def test_what_is_computed_all_the_same_is_a_miss_though_it_is_here(kind: type[Policy]) -> None:
    """A refresh saves nothing, and what was asked for before and after it does."""
    steps = [Step("ask", "k"), Step("ask", "k"), Step("make", "k"), Step("use", "k"), Step("use", "none"), Step("put", "other"),
             Step("ask", "k"), Step("drop", "k"), Step("ask", "k")]
    found = replay(History("by hand", steps), kind(5))

    assert (found.requests, found.hits, found.misses) == (5, 2, 3)


def asked(policy: Policy, keys: str) -> str:
    """Ask for keys of one byte and one second; who went, in order."""
    return "".join("".join(do(policy, ("ask", key, 1, 1.0))[1]) for key in keys)


@pytest.mark.parametrize(("name", "victims"), [
    ("FIFO", "ABC"),  # the uses of A and B help nobody
    ("LRU", "CBA"),  # B was used before A, and never again
    ("LFU", "CDE"),  # A and B have two uses, and newcomers push each other out
    ("SIEVE", "CAB"),  # the hand spares A and B, takes C, has passed the newest and finds A and B without marks
])
def test_six_requests_worked_by_hand(name: str, victims: str) -> None:
    """Room for three: A B C, then A... are used, then D, E and F come."""
    kind = next(kind for kind in POLICIES if kind.name == name)

    assert asked(kind(3), "ABCBADEF") == victims


def test_the_hand_of_sieve_stays_where_it_was() -> None:
    """It goes on from the last victim, and who was spared keeps its place, unlike in CLOCK, which would let E go before B."""
    policy = Sieve(4)

    assert asked(policy, "ABCDAC" + "E") == "B"  # A is spared, B goes, the hand stands at C
    assert asked(policy, "A" + "F") == "D"  # C is spared; A, marked again, lies behind the hand
    assert asked(policy, "GH") == "EF"  # on to the newest
    assert asked(policy, "I") == "G"


def test_s3_fifo_forgets_most_newcomers_and_knows_them_when_they_come_back() -> None:
    """Ten places, one of them small: who came and was not used again goes first, and comes back to the main line."""
    policy = S3Fifo(10)

    assert asked(policy, "AAABCDEFGHIJ") == ""
    assert asked(policy, "K") == "B"  # A was used twice since it came: it moved on
    assert asked(policy, "B") == "C"
    assert {"A", "B"} <= policy._main.keys() and "C" in policy._ghosts
    assert asked(policy, "LMNOPQ") == "DEFGHI"
    assert "A" in policy and "B" in policy


def test_plain_gdsf_weighs_seconds_uses_and_bytes() -> None:
    """10 s in 10 bytes are worth as much as 1 s in 1 byte; two uses are worth two such; the clock overtakes old worth."""
    policy = PlainGdsf(20)
    policy.put("large", 10, 10.0)  # rank 1
    policy.put("small", 1, 0.5)  # 0.5
    policy.put("used", 5, 5.0)  # 1
    policy.use("used")  # 2

    assert policy.put("next", 5, 1.0) == ["small"] and policy.clock == 0.5  # next: 0.5 + 0.2
    assert policy.put("more", 10, 30.0) == ["next", "large"] and policy.clock == 1.0  # more: 1 + 3
    assert policy.put("last", 20, 1.0) == ["used", "more"] and policy.clock == 4.0


def test_what_took_no_time_counts_as_in_the_store() -> None:
    """The smallest cost has two homes, for the room of policies does not see the store."""
    assert COST_MIN_S == OF_THE_STORE


def test_a_burst_of_uses_is_one_use_and_a_use_apart_counts() -> None:
    """Room for four: the dear one outlives a whole turnover of cheap ones, and only its use after that is counted; to four."""
    policy = Gdsf(4)
    policy.put("dear", 1, 100.0)
    for n in range(3):
        policy.put(f"0 {n}", 1, 1.0)
    for turn in range(1, 8):
        for _ in range(9):
            policy.use("dear")
        assert policy._uses["dear"] == min(turn, 4)
        for n in range(4):
            policy.put(f"{turn} {n}", 1, 1.0)


def test_reading_much_makes_nothing_old() -> None:
    """A cheap object that is read a hundred thousand times, with nothing evicted meanwhile, still goes before one a little dearer."""
    policy = Gdsf(3)
    policy.put("dearer", 1, 1.1)
    policy.put("cheap", 1, 1.0)
    policy.put("cheapest", 1, 0.9)
    for _ in range(100_000):
        policy.use("cheap")

    assert asked(policy, "AB") == "cheapest" + "cheap" and "dearer" in policy


def test_what_is_worth_more_stays_longer_than_in_proportion() -> None:
    """Four times the worth is eight times the rank: it outlives four turnovers in the plain form, and seven here: the clock has crept."""
    outlived = {}
    for kind in (PlainGdsf, Gdsf):
        policy = kind(100)
        policy.put("dear", 1, 4.0)
        count = 0
        while "dear" in policy:
            count += 1
            policy.put(f"{count:06d}", 1, 1.0)
        outlived[kind.name] = count / 99 - 1  # turnovers behind the one that fills it
    assert outlived["GDSF plain"] == pytest.approx(4, abs=0.1) and outlived["GDSF"] == pytest.approx(7, abs=0.1), outlived


@given(keys=st.lists(st.integers(0, 12), max_size=400), room=st.integers(1, 8), cost=st.sampled_from([0.0, 0.3, 1.0, 7e5]),
       clock=st.sampled_from([0.0, 1.0, 1e9, 1e30]))
def test_where_all_cost_the_same_it_is_lru(keys: list[int], room: int, cost: float, clock: float) -> None:
    """The same victims in the same order, in a young space and in one whose clock is so far on that a whole worth vanishes beside it."""
    ours, lru = Gdsf(room), POLICIES[0](room)
    ours.clock = clock
    for key in keys:
        assert do(ours, ("ask", f"{key:02d}", 1, cost)) == do(lru, ("ask", f"{key:02d}", 1, cost))
        assert max(ours._uses.values()) == 1


@EVERY
def test_a_budget_of_nothing_is_refused(kind: Any) -> None:
    """It holds nothing, and no rate could be told of it."""
    with pytest.raises(ValueError, match="0 bytes holds nothing"):
        kind(0)
