"""Other ways to be answered: anew, alone, early, late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.gates import Gate, raws, ready, until

from memgang.errors import ConfigError, WorkFailed
from memgang.model import NO_USAGE, Answered, Call, Ref, Usage, current_work
from memgang.recall import Terms
from memgang.recall.renewing import due
from memgang.space import Space

pytestmark = pytest.mark.core


def call(what: object = "plan") -> Call:
    return Call("function", "tests:modes", "1", {"what": what})


async def renewing(space: Space, gate: Gate, value: Any, **told: Any) -> None:
    """Ask until one of the asks has begun to compute anew; by the clocks the very first may be too early."""

    async def begun() -> bool:
        assert (await space.recall(call(), gate.then(value), ttl="1h", refresh_early=1.0, **told)).how == "hit"
        return gate.runs > 0

    await until(begun)


async def test_refreshing_computes_anew_and_replaces_the_answer(opened: Callable[..., Any]) -> None:
    """The old answer is not given to who refreshes, and nobody is given it afterwards."""
    async with opened() as one, opened() as two:
        await one.recall(call(), ready("old"))
        anew = await two.recall(call(), ready("new"), mode="refresh")
        assert (anew.how, await anew.value()) == ("computed", "new")
        hit = await one.recall(call(), ready("never"))
        assert (hit.how, await hit.value()) == ("hit", "new")


async def test_those_who_refresh_at_once_compute_once(opened: Callable[..., Any]) -> None:
    """Forty in two would-be processes: one run; and who does not refresh meanwhile is given the new answer too."""
    gate = Gate()
    async with opened() as one, opened() as two:
        await one.recall(call(), ready("old"))
        asks = [asyncio.create_task(s.recall(call(), gate.then("new"), mode="refresh")) for s in (one, two) for _ in range(20)]
        await gate.reached()
        sharing = asyncio.create_task(two.recall(call(), ready("never")))

        async def waiting() -> bool:
            return (await raws(two)).count("waits") >= 2

        await until(waiting)
        gate.open()
        assert {await (await a).value() for a in [*asks, sharing]} == {"new"} and gate.runs == 1


async def test_private_work_is_kept_nowhere_and_shared_with_nobody(space: Space) -> None:
    """Computed for each caller; no flight, no object; an error is the same error, a passing one tried again."""
    before = await space.stats()
    got = await space.recall(call(), ready("mine"), mode="private")
    assert (got.how, got.degraded, await got.value()) == ("computed", False, "mine")
    assert await space.store.wire.call("EXISTS", space.store.keys.flight(space.key(call()))) == 0
    assert await space.stats() == before
    assert (await space.recall(call(), ready("shared"))).how == "computed"
    assert await (await space.recall(call(), ready("mine"), mode="private")).value() == "mine"
    with pytest.raises(WorkFailed, match="permanent.*ValueError"):
        await space.recall(call(), ready(ValueError("no")), mode="private")
    runs = 0

    async def shaky() -> str:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise TimeoutError("slow")
        return "there"

    assert await (await space.recall(call(), shaky, mode="private")).value() == "there"


async def test_what_private_work_spends_is_spent_by_the_call_around_it(space: Space) -> None:
    """No line of the log tells of it, so the outer call's own usage does: nothing that was paid is lost."""

    async def inner() -> str:
        work = current_work.get()
        assert work is not None
        work.own = work.own + Usage(llm_calls=1, tokens_in=100)
        return "answer"

    async def outer() -> str:
        return await (await space.recall(call("inner"), inner, mode="private")).value() + "!"

    got = await space.recall(call(), outer)
    assert (got.usage.calls, got.usage.llm_calls, got.usage.tokens_in) == (1, 1, 100)
    committed = [e async for e in space.events() if e.raw == "committed"]
    assert len(committed) == 1 and committed[0].own.tokens_in == 100


async def test_an_answer_is_renewed_by_one_while_all_are_served_with_it(opened: Callable[..., Any]) -> None:
    """Within its last part: everybody gets the old answer at once, one computes in the background, then all get the new."""
    gate = Gate()
    async with opened() as one, opened() as two:
        await one.recall(call(), ready("old"), ttl="1h")
        await renewing(one, gate, "new")
        asks = [await s.recall(call(), gate.then("new"), ttl="1h", refresh_early=1.0) for s in (one, two) for _ in range(10)]
        assert {(a.how, a.stale, await a.value()) for a in asks} == {("hit", False, "old")}
        plain = await two.recall(call(), ready("never"))  # also who knows nothing of renewing
        assert (plain.how, await plain.value()) == ("hit", "old")
        gate.open()

        async def renewed() -> bool:
            return await (await two.recall(call(), ready("never"))).value() == "new"

        await until(renewed)
        assert gate.runs == 1


async def test_renewing_that_fails_takes_nothing_away(space: Space) -> None:
    """The old answer is served to its end, whether the work failed for good or its leader went away."""
    await space.recall(call(), ready("old"), ttl="1h")
    failing = Gate()
    await renewing(space, failing, ValueError("no"))
    failing.open()

    async def failed() -> bool:
        return "failed" in await raws(space)

    await until(failed)
    got = await space.recall(call(), ready("never"))
    assert (got.how, await got.value()) == ("hit", "old")


async def test_who_found_the_old_answer_wrong_is_not_given_it_while_it_is_renewed(opened: Callable[..., Any]) -> None:
    """A check that fails, or a refresh, waits for the new answer."""
    gate = Gate()

    async def check(validator: bytes) -> bool:
        return validator == b"v2"

    async with opened() as one, opened() as two:
        await one.recall(call(), ready("old"), ttl="1h", validate=lambda: b"v1")
        await renewing(one, gate, "new", validate=lambda: b"v2")
        asks = [asyncio.create_task(two.recall(call(), ready("never"), check=check)),
                asyncio.create_task(two.recall(call(), ready("never"), mode="refresh"))]

        async def waiting() -> bool:
            return (await raws(two)).count("waits") == 2

        await until(waiting)
        gate.open()
        assert [await (await a).value() for a in asks] == ["new", "new"]


async def test_a_stale_answer_is_served_where_asked_while_one_computes(opened: Callable[..., Any]) -> None:
    """Past its end: marked stale, at once, from the leader's own process and others; who did not ask for it waits."""
    gate = Gate()
    late = dict(ttl=0.05, stale="1h")
    async with opened() as one, opened() as two:
        first = await one.recall(call(), ready("old"), **late)
        key = one.store.keys.flight(one.key(call()))

        async def ended() -> bool:
            expires = int(await one.store.wire.call("HGET", key, "expires"))
            return one.store.log.server_ms() > expires + 20

        await until(ended)
        stale = [await s.recall(call(), gate.then("new"), **late) for s in (one, one, two, two)]
        assert {(a.how, a.stale, a.ref) for a in stale} == {("hit", True, first.ref)}
        assert await stale[-1].value() == "old"  # the object lives as long
        await gate.reached()
        waits = asyncio.create_task(two.recall(call(), ready("never"), ttl="1h"))

        async def waiting() -> bool:
            return "waits" in await raws(two)

        await until(waiting)
        gate.open()
        fresh = await waits
        assert (fresh.how, fresh.stale, await fresh.value()) == ("joined", False, "new") and gate.runs == 1


async def test_a_stale_answer_is_served_though_the_new_attempt_failed(space: Space) -> None:
    """While the failure is remembered: who asked for stale answers gets the old one, everybody else the error."""
    late = dict(ttl=0.05, stale="1h", negative_ttl="1h")
    await space.recall(call(), ready("old"), **late)
    await asyncio.sleep(0.1)  # past its end by any clock

    async def failed() -> bool:
        return "failed" in await raws(space)

    assert (await space.recall(call(), ready(ValueError("no")), **late)).stale
    await until(failed)
    again = await space.recall(call(), ready("never"), **late)
    assert again.stale and await again.value() == "old"
    with pytest.raises(WorkFailed):
        await space.recall(call(), ready("never"))


async def test_an_answer_older_than_that_is_not_served(space: Space) -> None:
    """When the stale time has passed too, the call is computed as if there had been nothing."""
    await space.recall(call(), ready("old"), ttl=0.02, stale=0.02)
    await asyncio.sleep(0.1)
    got = await space.recall(call(), ready("new"), ttl=0.02, stale=0.02)
    assert (got.how, got.stale, await got.value()) == ("computed", False, "new")


async def test_who_takes_no_stale_answers_is_not_given_one_by_joining(space: Space) -> None:
    """Two in one process, one of whom takes stale answers: the other gets what is computed."""
    gate = Gate()
    await space.recall(call(), ready("old"), ttl=0.02, stale="1h")
    await asyncio.sleep(0.1)
    takes, strict = (asyncio.create_task(space.recall(call(), gate.then("new"), ttl=0.02, stale=stale)) for stale in ("1h", None))
    assert (await takes).stale
    await gate.reached()
    gate.open()
    got = await strict
    assert not got.stale and await got.value() == "new"


def test_the_moment_of_renewing() -> None:
    """By fraction it is a line in time; by XFetch it is early the more often the longer the work takes."""
    def answer(left_ms: int, cost_ms: int = 0) -> Answered:
        return Answered(Ref("mg:" + "a" * 32), 1, 1_000_000 + left_ms, b"", NO_USAGE + Usage(ms=cost_ms))

    tenth, drawn = Terms(100_000, refresh_early=0.1), Terms(100_000, refresh_early=True)
    assert [due(answer(left), tenth, 1_000_000) for left in (10_001, 10_000)] == [False, True]
    assert not due(answer(1), Terms(100_000), 1_000_000)
    for cost, most, least in ((100, 0, 0), (10_000, 500, 200), (1_000_000, 1000, 950)):
        early = sum(due(answer(10_000, cost), drawn, 1_000_000) for _ in range(1000))
        assert least <= early <= most, (cost, early)  # exp(-left / cost): 0, 0.37 and 0.99 of them


@pytest.mark.parametrize("wrong", [{"mode": "never"}, {"refresh_early": 1.5}, {"refresh_early": -1}, {"ttl": None, "refresh_early": 0.5}])
async def test_an_option_that_is_none_is_refused(space: Space, wrong: dict[str, Any]) -> None:
    """By name, and before anything is computed."""
    gate = Gate()
    with pytest.raises(ConfigError, match="mode|refresh_early"):
        await space.recall(call(), gate.then("never"), **wrong)
    assert gate.runs == 0
