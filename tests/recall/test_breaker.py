"""Without a server: nobody waits for it, one flight in each process goes on, and its answers say so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from tests.gates import Gate, ready, until
from tests.recall.conftest import Own

import memgang
from memgang.errors import StoreUnavailable, WorkFailed
from memgang.model import Call
from memgang.space import Space
from memgang.store.breaker import Breaker
from memgang.store.wire import Wire

pytestmark = pytest.mark.core
AWAY_S = 60.0 if os.environ.get("MEMGANG_SOAK") else 3.0
WORK_S = 0.02


def call(what: object = "plan") -> Call:
    return Call("function", "tests:breaker", "1", {"what": what})


async def known_to_be_away(space: Space) -> None:
    """Until the space has noticed that its server does not answer."""

    async def noticed() -> bool:
        try:
            await space.names()
        except StoreUnavailable:
            pass
        return space.store.wire.breaker.open

    await until(noticed)


@pytest.mark.catalogue("E12")
async def test_while_the_server_is_gone_work_goes_on_in_one_flight_and_is_marked(own: Own, space_name: str) -> None:
    """E12: eight callers of one call after the other: each is computed once, degraded; afterwards all is as before."""
    took: list[float] = []
    async with memgang.open(own.url, space=space_name, patience_ms=100) as space:
        assert not (await space.recall(call("before"), ready("there"))).degraded
        own.go_away()
        until_s = time.monotonic() + AWAY_S
        number = 0
        while time.monotonic() < until_s:
            runs = 0
            number += 1

            async def work(number: int = number) -> int:
                nonlocal runs
                runs += 1
                await asyncio.sleep(WORK_S)
                return number

            began = time.perf_counter()
            got = await asyncio.gather(*(space.recall(call(number), work) for _ in range(8)))
            took.append(time.perf_counter() - began)
            assert runs == 1 and all(g.degraded for g in got)
            assert [await g.value() for g in got] == [number] * 8
        took.sort()
        p99 = took[int(len(took) * 0.99)]
        print(f"{len(took)} rounds of 8 callers in {AWAY_S:.0f} s without a server: p50 {took[len(took) // 2] * 1000:.0f} ms, "
              f"p99 {p99 * 1000:.0f} ms, most {took[-1] * 1000:.0f} ms, of which {WORK_S * 1000:.0f} ms are work")
        own.start()

        async def back() -> bool:
            return not (await space.recall(call("after"), ready("there"))).degraded

        await until(back)
        assert (await space.recall(call("after"), ready("never"))).how == "hit"


@pytest.mark.catalogue("E12")
async def test_a_space_that_must_not_work_alone_raises_at_once(own: Own, space_name: str) -> None:
    """fail="closed": StoreUnavailable, without computing; while it is known to be away without one attempt to reach it."""
    gate = Gate()
    async with memgang.open(own.url, space=space_name, patience_ms=100, fail="closed") as space:
        own.go_away()
        with pytest.raises(StoreUnavailable, match="has not answered"):
            await space.recall(call(), gate.then("never"))
        assert space.store.wire.breaker.open
        trips = space.store.wire.round_trips
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await space.recall(call(), gate.then("never"))
        assert gate.runs == 0 and space.store.wire.round_trips == trips


async def test_a_server_that_is_back_within_the_patience_is_ridden_out(own: Own, space_name: str) -> None:
    """Calls made while it is away wait for it, and none of them is degraded."""
    async with memgang.open(own.url, space=space_name, patience_ms=30_000) as space:
        own.go_away()
        asks = [asyncio.create_task(space.recall(call(i), ready(i))) for i in range(20)]

        async def failing() -> bool:
            return space.store.wire.breaker._since is not None

        await until(failing)
        await asyncio.to_thread(own.start)
        got = await asyncio.gather(*asks)
        assert not any(g.degraded for g in got) and not space.store.wire.breaker.open


async def test_work_that_fails_without_a_server_fails_as_it_does_with_one(own: Own, space_name: str) -> None:
    """For good: WorkFailed, not tried again. In passing: tried as often as is set, then WorkFailed."""
    async with memgang.open(own.url, space=space_name, patience_ms=50) as space:
        own.go_away()
        await known_to_be_away(space)
        bad, slow = Gate(), Gate()
        bad.open()
        slow.open()
        with pytest.raises(WorkFailed, match="permanent.*ValueError"):
            await space.recall(call(1), bad.then(ValueError("no")))
        with pytest.raises(WorkFailed, match="transient, attempt 3.*TimeoutError"):
            await space.recall(call(2), slow.then(TimeoutError("slow")))
        assert (bad.runs, slow.runs) == (1, 3)


async def test_a_failure_whose_recording_the_server_did_not_live_to_see_is_not_repeated(own: Own, space_name: str) -> None:
    """The work failed for good while the server died: its caller hears of that, and it is not done again."""
    gate = Gate()
    async with memgang.open(own.url, space=space_name, patience_ms=50) as space:
        asking = asyncio.create_task(space.recall(call(), gate.then(ValueError("no"))))
        await gate.reached()
        own.go_away()
        gate.open()
        with pytest.raises(WorkFailed, match="ValueError"):
            await asking
        assert gate.runs == 1


async def test_followers_do_not_wait_out_their_poll_when_the_server_goes_away(own: Own, space_name: str) -> None:
    """They are woken, compute, and say that they were alone."""
    gate = Gate()
    long = {"lease_ms": 600_000, "beat_ms": 100_000}
    async with (memgang.open(own.url, space=space_name, patience_ms=50, **long) as one,
                memgang.open(own.url, space=space_name, patience_ms=50, poll_ms=3_600_000) as two):
        leading = asyncio.create_task(one.recall(call(), gate.then("mine")))
        await gate.reached()
        following = asyncio.create_task(two.recall(call(), ready("alone")))

        async def listening() -> bool:
            return bool(own.admin.pubsub_shardchannels())

        await until(listening)
        own.go_away()
        await known_to_be_away(two)
        async with asyncio.timeout(30):
            got = await following
        assert got.degraded and await got.value() == "alone"
        gate.open()
        kept = await leading
        assert kept.degraded and await kept.value() == "mine"


async def test_a_killed_embedded_server_is_ridden_out(opened: Callable[..., Any], tmp_path: Any) -> None:
    """It is started again by whoever misses it first; no call is degraded, though the patience is far shorter than its start."""
    import signal

    from memgang.settings import Settings
    from memgang.store import server

    own: dict[str, Any] = {"state_dir": tmp_path / "state", "runtime_dir": tmp_path / "run"}
    async with opened(**own, patience_ms=1) as space:
        for i in range(3):
            os.kill(server.status(Settings.load(**own)).pid, signal.SIGKILL)
            got = await asyncio.gather(*(space.recall(call((i, k)), ready(k)) for k in range(20)))
            assert not any(g.degraded for g in got)


def connected(url: str, **options: Any) -> Wire:
    """A wire of its own."""
    client = aioredis.Redis.from_url(url, protocol=2, socket_connect_timeout=3600, retry=Retry(NoBackoff(), 0))
    return Wire(client, **{"timeout_s": 3600.0, "patience_s": 0.1, **options})


async def test_a_server_that_hangs_is_away_after_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets everybody in and answers not even a greeting: the time limit of a reply, an hour here, is not waited for."""
    monkeypatch.setattr("memgang.store.wire.HUNG_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        wire = connected(f"redis://:secret@127.0.0.1:{hung.getsockname()[1]}/0")
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable):
                await wire.call("PING")
            assert wire.breaker.open
            await wire.aclose()


async def test_a_command_that_never_ends_is_given_up_though_others_are_answered(own: Own) -> None:
    """Each answer to another call keeps the breaker closed; without a limit of its own it would be sent again for ever."""
    wire = connected(own.url, timeout_s=0.1)

    async def others() -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):  # one that is slow is none of ours
                await wire.call("PING")
            await asyncio.sleep(0.01)

    beside = asyncio.create_task(others())
    async with asyncio.timeout(30):
        with pytest.raises(StoreUnavailable):
            await wire.call_wide("BLPOP", "nothing", 0)
    beside.cancel()
    await asyncio.wait([beside])
    await wire.aclose()


async def test_the_probe_outlives_whatever_goes_wrong_with_a_start(own: Own) -> None:
    """Starting the server again raises something nobody has thought of: the server is found back all the same."""
    tried = asyncio.Event()

    async def fails() -> bool:
        tried.set()
        raise RuntimeError("not thought of")

    own.go_away()
    wire = connected(own.url, patience_s=0.0)
    with pytest.raises(StoreUnavailable):
        await wire.call("PING")
    wire._revive = fails
    async with asyncio.timeout(30):
        await tried.wait()
    own.start()

    async def back() -> bool:
        return not wire.breaker.open

    await until(back)
    await wire.aclose()


async def test_what_is_refused_while_the_server_is_away_leaves_nothing_behind(own: Own, space_name: str) -> None:
    """Commands that travel in a row are noted until they are sent; those that never are must not be noted for ever."""
    async with memgang.open(own.url, space=space_name, patience_ms=1) as space:
        part = await space.put("part")
        own.go_away()
        await known_to_be_away(space)
        for i in range(20):
            with pytest.raises(StoreUnavailable):
                await space.put(i, parents=[part])
        assert not space.store.wire._glued


def test_the_breaker_opens_after_its_patience_and_only_for_failures_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success in between begins anew; the time in which the server was being started does not count."""
    now, told = [0.0], list[int]()
    monkeypatch.setattr("memgang.store.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker(2.0, lambda: told.append(1))
    assert not breaker.failed("x")
    now[0] = 1.9
    assert not breaker.failed("x")
    breaker.reached()
    now[0] = 100.0
    assert not breaker.failed("x")
    now[0] = 101.0
    with breaker.starting() as started:
        now[0] = 106.0
        assert not breaker.failed("x")  # somebody is at it
        started(True)
    now[0] = 106.9
    assert not breaker.failed("x")
    with breaker.starting() as started:
        now[0] = 107.0
        started(False)
    assert breaker.failed("refused") and breaker.failed("refused") and told == [1] and "refused" in str(breaker)
    breaker.reached()
    assert not breaker.open and not breaker.failed("x")
