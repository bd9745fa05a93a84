"""Recall: of all who ask one computes, and nobody is left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from memgang.errors import ModelError, StoreUnavailable, WorkFailed
from memgang.model import Call, Usage, current_work
from memgang.space import Space
from tests.gates import Gate, raws, ready, until


def call(what: object = "plan") -> Call:
    return Call("function", "tests:work", "1", {"what": what})


async def expire_lease(space: Space, key: str) -> None:
    """Moves the lease of a flight into the past, as a leader that was stopped would find it."""
    await space.store.wire.call("HSET", space.store.keys.flight(key), "until", 1)


async def test_many_callers_of_two_processes_share_one_computation(opened: Callable[..., Any]) -> None:
    """Fifty callers in each of two spaces (two would-be processes): one run, the same answer for all."""
    gate = Gate()
    async with opened(agent="one") as one, opened(agent="two") as two:
        asks = [asyncio.create_task(s.recall(call(), gate.then({"x": 1}))) for s in (one, two) for _ in range(50)]
        await gate.reached()
        gate.open()
        answers = await asyncio.gather(*asks)
        assert gate.runs == 1
        assert {a.ref for a in answers} == {answers[0].ref}
        assert [await a.value() for a in answers] == [{"x": 1}] * 100
        assert sum(a.how == "computed" for a in answers) == 1
        hit = await two.recall(call(), gate.then("never"))
        assert hit.how == "hit" and gate.runs == 1


async def test_callers_get_values_they_may_change(space: Space) -> None:
    """A list given to one caller is not the list of another."""
    first = await space.recall(call(), ready([1, 2]))
    second = await space.recall(call(), ready([9]))
    (await first.value()).append(3)
    assert await second.value() == [1, 2] and await first.value() == [1, 2]


async def test_late_holder_cannot_overwrite_its_successor(opened: Callable[..., Any]) -> None:
    """A holder that slept past its lease is fenced, and everybody keeps the newer answer."""
    slow, quick = Gate(), Gate()
    # Its beats come once in an hour: nothing renews the lease that is moved into the past.
    async with opened(lease_ms=20_000_000, beat_ms=3_600_000) as first, opened() as second:
        late = asyncio.create_task(first.recall(call(), slow.then("old")))
        await slow.reached()
        await expire_lease(second, second.key(call()))
        newer = asyncio.create_task(second.recall(call(), quick.then("new")))
        await quick.reached()
        quick.open()
        assert await (await newer).value() == "new"
        slow.open()
        assert await (await late).value() == "new"  # fenced, so it was given the answer that won
        assert await (await second.recall(call(), ready("never"))).value() == "new"
        log = await raws(second)
        assert log.count("fenced") == 1 and log.count("committed") == 1 and log.count("taken") == 1


async def test_an_overtaken_leader_still_returns_when_its_successor_is_at_work(opened: Callable[..., Any]) -> None:
    """The own value is returned and not remembered; the successor's is what stays."""
    slow, quick = Gate(), Gate()
    async with opened(lease_ms=20_000_000, beat_ms=3_600_000) as first, opened() as second:
        late = asyncio.create_task(first.recall(call(), slow.then("old")))
        await slow.reached()
        await expire_lease(second, second.key(call()))
        newer = asyncio.create_task(second.recall(call(), quick.then("new")))
        await quick.reached()
        slow.open()
        assert await (await late).value() == "old"
        quick.open()
        assert await (await newer).value() == "new"
        assert await (await first.recall(call(), ready("never"))).value() == "new"


async def test_beats_keep_a_lease_while_the_event_loop_is_blocked(opened: Callable[..., Any]) -> None:
    """Work that holds the loop for longer than its lease is not taken over."""
    async with opened(lease_ms=400, beat_ms=100) as space:
        started = asyncio.get_running_loop().time()

        async def hog() -> str:
            while asyncio.get_running_loop().time() - started < 1.2:  # three leases without giving the loop back
                pass
            return "done"

        assert await (await space.recall(call(), hog)).value() == "done"
        log = await raws(space)
        assert "taken" not in log and "fenced" not in log and log.count("committed") == 1


async def test_hanging_work_is_not_renewed_for_ever(opened: Callable[..., Any]) -> None:
    """After `hold` the beats are refused and somebody else may lead, though the leader still beats."""
    stuck = Gate()
    async with opened(lease_ms=300, beat_ms=50, hold_ms=400) as first, opened(lease_ms=300, beat_ms=50) as second:
        hanging = asyncio.create_task(first.recall(call(), stuck.then("late")))
        await stuck.reached()
        async with asyncio.timeout(30):
            answer = await second.recall(call(), ready("fresh"))
        assert await answer.value() == "fresh"
        assert first.store.beats.lost == 1
        stuck.open()
        assert await (await hanging).value() == "fresh"


async def test_a_permanent_error_reaches_all_who_wait_and_is_remembered_briefly(opened: Callable[..., Any]) -> None:
    """Followers in this process and in others get WorkFailed with the code; nobody repeats it at once."""
    gate = Gate()
    async with opened() as one, opened() as two:
        asks = [asyncio.create_task(s.recall(call(), gate.then(ValueError("bad sk-12345678 input")))) for s in (one, one, two)]
        await gate.reached()
        gate.open()
        errors = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(e, WorkFailed) and e.kind == "permanent" and e.code == "ValueError" for e in errors)
        assert all("sk-12345678" not in str(e) for e in errors)
        with pytest.raises(WorkFailed):
            await two.recall(call(), ready("never"))
        assert gate.runs == 1


async def test_a_transient_error_is_tried_again_and_then_given_up(space: Space) -> None:
    """Two timeouts, then an answer; a call that always times out ends after three attempts."""
    runs = 0

    async def shaky() -> str:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise TimeoutError("slow")
        return "there"

    assert await (await space.recall(call(1), shaky)).value() == "there"
    assert runs == 3

    async def hopeless() -> str:
        raise TimeoutError("always")

    with pytest.raises(WorkFailed, match="transient.*TimeoutError"):
        await space.recall(call(2), hopeless)
    assert (await raws(space)).count("failed") == 5


async def test_the_callers_own_fault_is_shared_with_nobody(opened: Callable[..., Any]) -> None:
    """A wrong key is raised to its owner; the next caller computes."""
    async with opened() as one, opened() as two:
        with pytest.raises(ModelError):
            await one.recall(call(), ready(ModelError("m", "caller", "401", "wrong key")))
        assert await (await two.recall(call(), ready("fine"))).value() == "fine"
        assert "released" in await raws(two)


async def test_one_impatient_caller_does_not_cancel_what_others_wait_for(space: Space) -> None:
    """Cancelling one of two callers leaves the work and the other."""
    gate = Gate()
    leaving = asyncio.create_task(space.recall(call(), gate.then("value")))
    await gate.reached()
    staying = asyncio.create_task(space.recall(call(), gate.then("never")))
    await asyncio.sleep(0)
    leaving.cancel()
    gate.open()
    assert await (await staying).value() == "value"
    assert gate.runs == 1


async def test_abandoned_work_is_cancelled_where_asked_and_given_up_at_once(opened: Callable[..., Any]) -> None:
    """With on_abandon="cancel" the last caller to leave releases the flight; the next one leads without waiting."""
    gate = Gate()
    async with opened(on_abandon="cancel") as one, opened() as two:
        only = asyncio.create_task(one.recall(call(), gate.then("value")))
        await gate.reached()
        only.cancel()
        await asyncio.gather(only, return_exceptions=True)

        async def released() -> bool:
            return "released" in await raws(two)

        await until(released)
        assert await (await two.recall(call(), ready("mine"))).value() == "mine"


async def test_a_follower_hears_a_commit_at_any_moment(opened: Callable[..., Any]) -> None:
    """200 commits close to the follower's check, polling switched off: no wake-up is missed."""
    async with opened() as leader, opened(poll_ms=3_600_000) as follower:
        async with asyncio.timeout(60):
            for i in range(200):
                gate = Gate()
                lead = asyncio.create_task(leader.recall(call(i), gate.then(i)))
                await gate.reached()
                follow = asyncio.create_task(follower.recall(call(i), gate.then("never")))
                for _ in range(i % 40):
                    await asyncio.sleep(0)
                gate.open()
                assert (await follow).ref == (await lead).ref


async def test_an_answer_whose_object_is_gone_is_computed_again(space: Space) -> None:
    """Forgetting the object of an answer makes the next ask a computation, not a dead reference."""
    first = await space.recall(call(), ready("one"))
    await space.forget(first.ref)
    again = await space.recall(call(), ready("one"))
    assert again.how == "computed" and await again.value() == "one"


async def test_an_answer_that_fails_its_check_is_replaced(space: Space) -> None:
    """The validator kept with an answer decides; a stale one is computed anew and the new validator kept."""
    version = [b"v1"]

    async def check(kept: bytes) -> bool:
        return kept == version[0]

    async def ask(value: str) -> str:
        got = await space.recall(call(), ready(value), check=check, validate=lambda: version[0])
        return f"{got.how} {await got.value()}"

    assert [await ask("a"), await ask("b")] == ["computed a", "hit a"]
    version[0] = b"v2"
    assert [await ask("c"), await ask("d")] == ["computed c", "hit c"]


async def test_an_answer_expires(space: Space) -> None:
    """After its time to live the call is computed again."""
    await space.recall(call(), ready("one"), ttl=0.02)

    async def again() -> bool:
        return (await space.recall(call(), ready("two"), ttl=0.02)).how == "computed"

    await until(again)


async def test_usage_of_a_hit_is_that_of_all_calls_inside(space: Space) -> None:
    """A hit on the outer call saves its own work and that of the call inside it, to the token."""

    async def inner() -> str:
        work = current_work.get()
        assert work is not None
        work.own = work.own + Usage(llm_calls=1, tokens_in=100, tokens_out=7, micro_usd=30)
        return "answer"

    async def outer() -> str:
        return await (await space.recall(Call("llm", "model", "1", {}), inner)).value() + "!"

    first = await space.recall(call(), outer)
    hit = await space.recall(call(), outer)
    assert hit.how == "hit"
    assert (hit.usage.calls, hit.usage.llm_calls, hit.usage.tokens_in, hit.usage.tokens_out, hit.usage.micro_usd) == (2, 1, 100, 7, 30)
    assert first.usage == hit.usage


async def test_what_a_computation_read_becomes_its_parents(space: Space) -> None:
    """Recorded by the store, not claimed by the agent; the place is the mean of the parents'."""
    a, b = await space.put("a", pos=0.2), await space.put("b", pos=0.4)

    async def work() -> str:
        return await space.get(a) + await space.get(b)

    done = await space.recall(call(), work)
    record = await space.describe(done.ref)
    assert set(record.parents) == {a, b} and record.meta["pos"] == pytest.approx(0.3)
    assert record.call == space.key(call())


async def test_once_recalls_functions_and_tells_arguments_apart(space: Space) -> None:
    """Plain and async functions; 1, 1.0 and True are three calls; defaults are arguments."""
    runs: list[object] = []

    @space.once(ttl="1h")
    async def rate(day: object, base: str = "EUR") -> list[object]:
        runs.append(day)
        return [day, base]

    @space.once
    def plain(x: int) -> int:
        return x + 1

    assert await rate(1) == [1, "EUR"] == await rate(1, "EUR") == await rate(1, base="EUR")
    await rate(1.0)
    await rate(True)
    assert len(runs) == 3
    assert await plain(1) == await plain(1) == 2


async def test_without_a_server_the_work_is_done_and_marked(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """fail="open" computes and says degraded; fail="closed" raises."""
    async with opened() as space:
        async def away(*_: object, **__: object) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr("memgang.store.scripts.claim", away)
        got = await space.recall(call(), ready("value"))
        assert got.degraded and await got.value() == "value"
    async with opened(fail="closed") as space:
        with pytest.raises(StoreUnavailable):
            await space.recall(call(), ready("value"))
