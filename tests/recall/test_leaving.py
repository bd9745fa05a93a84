"""Callers, leaders and spaces that leave; leases that are lost; calls that wait for themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.gates import Gate, raws, ready, until

from memgang.errors import ModelError, StoreFull, StoreUnavailable, WorkFailed
from memgang.model import Call, current_work
from memgang.recall import flights
from memgang.space import Space

pytestmark = pytest.mark.core
ROOT = Path(__file__).parents[2]
LONG = {"lease_ms": 600_000, "beat_ms": 100_000}


def call(what: object = "plan") -> Call:
    return Call("function", "tests:leaving", "1", {"what": what})


async def waits(space: Space, count: int = 1) -> None:
    """Until so many follow somebody."""

    async def waiting() -> bool:
        return (await raws(space)).count("waits") >= count

    await until(waiting)


class Stubborn:
    """Work that takes no notice of being cancelled until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.cancelled = 0

    async def work(self) -> str:
        self.begun.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        return "late"


# ── callers ───────────────────────────────────────────────────────────────────────────────────


async def test_when_the_last_caller_leaves_the_work_is_finished_and_kept(opened: Callable[..., Any]) -> None:
    """on_abandon="finish": all callers are cancelled, the answer is there for the next one all the same."""
    gate = Gate()
    async with opened() as space:
        asks = [asyncio.create_task(space.recall(call(), gate.then("value"))) for _ in range(3)]
        await gate.reached()
        for ask in asks:
            ask.cancel()
        assert all(isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*asks, return_exceptions=True))
        gate.open()
        got = await space.recall(call(), ready("never"))
        assert await got.value() == "value" and gate.runs == 1


async def test_only_the_last_to_leave_cancels_the_work(opened: Callable[..., Any]) -> None:
    """on_abandon="cancel": two of three leave and nothing happens; with the third the work ends."""
    gate = Gate()
    async with opened(on_abandon="cancel", **LONG) as space:
        asks = [asyncio.create_task(space.recall(call(), gate.then("value"))) for _ in range(3)]
        await gate.reached()
        for ask in asks[:2]:
            ask.cancel()
        await asyncio.wait(asks[:2])
        assert "released" not in await raws(space)
        asks[2].cancel()
        await asyncio.wait(asks)

        async def released() -> bool:
            return "released" in await raws(space)

        await until(released)


async def test_work_that_will_not_be_cancelled_does_not_hold_the_call(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Abandoned and deaf: after its time its claim is given up over its head, in this process and in others."""
    monkeypatch.setattr(flights, "CANCEL_S", 0.05)
    deaf = Stubborn()
    async with opened(on_abandon="cancel", **LONG) as one, opened(**LONG) as two:
        only = asyncio.create_task(one.recall(call(), deaf.work))
        await deaf.begun.wait()
        only.cancel()
        await asyncio.wait([only])
        async with asyncio.timeout(30):
            # A newcomer of the same process does not join what is being cancelled.
            assert await (await one.recall(call(), ready("mine"))).value() == "mine"
            assert (await two.recall(call(), ready("never"))).how == "hit"
        assert deaf.cancelled == 1
        deaf.go.set()
    async with opened() as three:
        log = await raws(three)
    assert log.count("released") == 1 and log.count("committed") == 1


async def test_a_follower_that_leaves_in_the_moment_it_is_to_lead_gives_the_call_up(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim was won, and it was cancelled while it took its ear from the channel: the next one need not wait for the lease."""
    gate, leaving = Gate(), asyncio.Event()
    async with opened(**LONG) as one, opened(on_abandon="cancel", **LONG) as two, opened(**LONG) as three:
        leading = asyncio.create_task(one.recall(call(), gate.then(ModelError("m", "caller", "401", "no"))))
        await gate.reached()
        following = asyncio.create_task(two.recall(call(), ready("two")))
        await waits(two)
        real = two.store.wakeups._send

        async def send(*command: str) -> None:
            if command[0] == "SUNSUBSCRIBE" and not leaving.is_set():
                leaving.set()
                await asyncio.Event().wait()
            await real(*command)

        monkeypatch.setattr(two.store.wakeups, "_send", send)
        gate.open()
        with pytest.raises(ModelError):
            await leading
        async with asyncio.timeout(30):
            await leaving.wait()
            following.cancel()
            await asyncio.wait([following])
            assert await (await three.recall(call(), ready("three"))).value() == "three"


async def test_a_leader_that_cannot_keep_its_answer_gives_the_call_up(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgotten before the commit, and no room to put it again: its caller is told, and nobody waits for the lease."""
    async with opened(**LONG) as one, opened(**LONG) as two:
        real, puts = one.store.objects.put_then, 0

        async def put_then(*args: Any, **told: Any) -> Any:
            nonlocal puts
            puts += 1
            if puts > 1:
                raise StoreFull("5 bytes", 100, 100)
            ref, _ = await real(*args, **told)
            await one.forget(ref)
            return ref, None

        monkeypatch.setattr(one.store.objects, "put_then", put_then)
        with pytest.raises(StoreFull):
            await one.recall(call(), ready("mine"))
        async with asyncio.timeout(30):
            assert await (await two.recall(call(), ready("theirs"))).value() == "theirs"


# ── closing and stopping ──────────────────────────────────────────────────────────────────────


@pytest.mark.catalogue("A24")
async def test_closing_gives_up_at_once_what_will_not_be_cancelled(opened: Callable[..., Any]) -> None:
    """A24: deaf work holds up neither its followers nor, for long, the close."""
    deaf = Stubborn()
    async with opened(poll_ms=3_600_000, **LONG) as two, opened(**LONG) as one:
        leading = asyncio.create_task(one.recall(call(), deaf.work))
        await deaf.begun.wait()
        following = asyncio.create_task(two.recall(call(), ready("mine")))
        await waits(two)
        closing, began = asyncio.create_task(one.aclose()), time.perf_counter()
        async with asyncio.timeout(30):
            won = await following
            assert await won.value() == "mine"
        print(f"taken over {(time.perf_counter() - began) * 1000:.0f} ms after the close began")
        assert not closing.done()  # it still waits for the work
        deaf.go.set()
        await closing
        assert (await leading).ref == won.ref  # it came too late, and is told who was faster


@pytest.mark.catalogue("A24")
async def test_closing_gives_up_all_that_is_led(opened: Callable[..., Any]) -> None:
    """A24: thirty flights, in the foreground and the background; their followers in another process lead at once."""
    gate = Gate()
    async with opened(poll_ms=3_600_000, **LONG) as two:
        async with opened(**LONG) as one:
            leading = [asyncio.create_task(one.recall(call(i), gate.then("value"))) for i in range(30)]

            async def all_led() -> bool:
                return gate.runs == 30

            await until(all_led)
            following = [asyncio.create_task(two.recall(call(i), ready(i))) for i in range(30)]
            await waits(two, 30)
        began = time.perf_counter()
        async with asyncio.timeout(30):
            assert [await (await f).value() for f in following] == list(range(30))
        print(f"all taken over {(time.perf_counter() - began) * 1000:.0f} ms after the close")
        ended = await asyncio.gather(*leading, return_exceptions=True)
        assert {type(e) for e in ended} == {StoreUnavailable}
        assert (await raws(two)).count("released") == 30


LEADER = """
import asyncio, sys
import memgang
from memgang.model import Call

async def main():
    async def work():
        print("leading", flush=True)
        await asyncio.Event().wait()
    async with memgang.open(space=sys.argv[1], lease_ms=600_000, beat_ms=100_000) as space:
        await space.recall(Call("function", "tests:leaving", "1", {"what": "plan"}), work)

asyncio.run(main())
"""


async def test_a_dead_leader_on_this_host_is_replaced_long_before_its_lease(opened: Callable[..., Any], space_name: str) -> None:
    """kill -9 with a lease of ten minutes: the kernel's word is proof, and the follower does not wait."""
    leader = subprocess.Popen([sys.executable, "-c", LEADER, space_name], cwd=ROOT, stdout=subprocess.PIPE,
                              env={**os.environ, "PYTHONPATH": "src"})
    try:
        assert leader.stdout is not None and await asyncio.to_thread(leader.stdout.readline) == b"leading\n"
        async with opened(poll_ms=3_600_000) as space:
            following = asyncio.create_task(space.recall(call(), ready("mine")))
            await waits(space)
            leader.send_signal(signal.SIGKILL)
            async with asyncio.timeout(30):
                assert await (await following).value() == "mine"
            assert "died" in await raws(space)
    finally:
        leader.kill()
        leader.communicate()


# ── leases that are lost ──────────────────────────────────────────────────────────────────────


async def move_lease(space: Space, attempt: int = 0) -> None:
    """Into the past, as a leader that was stopped for longer would find it; only that of an attempt, if one is named."""
    script = "if ARGV[1] == '0' or redis.call('HGET', KEYS[1], 'attempt') == ARGV[1] then redis.call('HSET', KEYS[1], 'until', 1) end"
    await space.store.wire.call("EVAL", script, 1, space.store.keys.flight(space.key(call())), attempt)


@pytest.mark.catalogue("A4", "A5")
@pytest.mark.parametrize("then", ["finish", "cancel"])
async def test_work_whose_lease_is_lost_goes_on_or_stops_as_set(opened: Callable[..., Any], then: str) -> None:
    """Its beat is refused; "finish": the work ends by itself, is fenced and gives the winner's answer; "cancel": it is stopped."""
    slow, seen = Gate(), list[Any]()
    async with opened(on_lease_lost=then, lease_ms=1000, beat_ms=50) as first, opened(**LONG) as second:
        one = slow.then("old")

        async def work() -> Any:
            try:
                return await one()
            finally:
                work = current_work.get()
                assert work is not None
                seen.append(work.lead)

        late = asyncio.create_task(first.recall(call(), work))
        await slow.reached()

        async def taken() -> bool:
            # Until the second has got in between two beats of the first.
            await move_lease(second, attempt=1)
            return "taken" in await raws(second)

        quick = Gate()
        newer = asyncio.create_task(second.recall(call(), quick.then("new")))
        await until(taken)
        await quick.reached()

        async def lost() -> bool:
            return first.store.beats.lost == 1

        await until(lost)
        if then == "cancel":
            async def stopped() -> bool:
                return bool(seen)

            await until(stopped)
        quick.open()
        assert await (await newer).value() == "new"
        slow.open()
        assert await (await late).value() == "new"
        assert seen == [None]  # it led no longer when it ended
        log = await raws(second)
        assert log.count("fenced") == (1 if then == "finish" else 0) and log.count("committed") == 1
        assert (await first.stats()).get("fenced", 0) == log.count("fenced")


@pytest.mark.catalogue("A5")
async def test_hanging_work_is_stopped_and_tried_again_where_set(opened: Callable[..., Any]) -> None:
    """A5: its leader beats on, `hold` ends that; with "cancel" the same process tries again and gets through."""
    runs = 0

    async def hangs_once() -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()
        return "there"

    async with opened(on_lease_lost="cancel", lease_ms=300, beat_ms=50, hold_ms=300) as space:
        async with asyncio.timeout(30):
            got = await space.recall(call(), hangs_once)
        assert await got.value() == "there" and runs == 2
        log = await raws(space)
        assert log.count("taken") == 1 and log.count("committed") == 1


@pytest.mark.catalogue("A5")
async def test_fences_of_moved_leases_only_rise_and_one_answer_is_seen(opened: Callable[..., Any]) -> None:
    """A4, A5: ten leaders, each overtaken before it ends, end in a random order: one commit, one answer, fences in order."""
    gates = [Gate() for _ in range(10)]
    async with opened(attempts=100, lease_ms=20_000_000, beat_ms=3_600_000) as reader:
        tasks, spaces = [], []
        for i, gate in enumerate(gates):
            space = opened(attempts=100, agent=f"leader-{i}", lease_ms=20_000_000, beat_ms=3_600_000)
            spaces.append(space)
            tasks.append(asyncio.create_task((await space.__aenter__()).recall(call(), gate.then(f"of {i}"))))
            await gate.reached()
            await move_lease(reader)
        gates[-1].open()
        assert await (await tasks[-1]).value() == "of 9"
        for gate in gates:
            gate.open()
        assert {await (await t).value() for t in tasks} == {"of 9"}
        assert await (await reader.recall(call(), ready("never"))).value() == "of 9"
        events = [e async for e in reader.events()]
        fences = [e.fence for e in events if e.raw in ("claimed", "taken")]
        assert fences == sorted(set(fences)) and len(fences) == 10
        assert [e.raw for e in events].count("committed") == 1
        assert (await reader.stats())["fenced"] == 9
        for space in spaces:
            await space.__aexit__(None, None, None)


# ── calls that wait for themselves ────────────────────────────────────────────────────────────


async def test_a_call_that_recalls_itself_fails_instead_of_waiting(space: Space) -> None:
    """Directly, through another, in a task of its own, and privately."""

    async def itself() -> Any:
        return await (await space.recall(call("a"), itself)).value()

    async def other() -> Any:
        return await (await space.recall(call("c"), back)).value()

    async def back() -> Any:
        return await (await space.recall(call("b"), other)).value()

    async def aside() -> Any:
        return await asyncio.create_task(space.recall(call("d"), aside))

    async def alone() -> Any:
        return await (await space.recall(call("e"), alone, mode="private")).value()

    async with asyncio.timeout(30):
        for what, work, mode in (("a", itself, "share"), ("b", other, "share"), ("d", aside, "share"), ("e", alone, "private")):
            with pytest.raises(WorkFailed, match="recalls_itself.*asks for that answer"):
                await space.recall(call(what), work, mode=mode)  # type: ignore[arg-type]


async def test_two_calls_that_wait_for_each_other_fail_instead_of_waiting(space: Space) -> None:
    """Neither is inside the other: each was begun by itself, and then asks for the other."""
    both = asyncio.Barrier(2)

    async def asks(what: str) -> Any:
        await both.wait()
        return await (await space.recall(call(what), ready("never"))).value()

    async with asyncio.timeout(30):
        ended = await asyncio.gather(
            space.recall(call("x"), lambda: asks("y")), space.recall(call("y"), lambda: asks("x")), return_exceptions=True)
    assert all(isinstance(e, WorkFailed) and e.code == "recalls_itself" for e in ended)


async def test_a_call_may_wait_for_what_others_wait_for(space: Space) -> None:
    """Many that need the same two are no circle."""
    async def base() -> int:
        await asyncio.sleep(0)
        return 1

    async def middle() -> int:
        return 1 + int(await (await space.recall(call("base"), base)).value())

    async def top(i: int) -> int:
        one, two = await asyncio.gather(space.recall(call("middle"), middle), space.recall(call("base"), base))
        return i + int(await one.value()) + int(await two.value())

    got = await asyncio.gather(*(space.recall(call(("top", i)), lambda i=i: top(i)) for i in range(20)))  # type: ignore[misc]
    assert [await g.value() for g in got] == [i + 3 for i in range(20)]
