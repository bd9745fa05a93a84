"""Connections that lose, delay, cut and swallow; and the wake-up that must not be lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import MemGangError
from memgang.model import NO_USAGE, Claimed
from memgang.store import scripts
from memgang.store.process import fresh, incarnation
from tests.chaos.history import Facts, check
from tests.chaos.relay import Relay, Splitter, words
from tests.chaos.servers import PrivateServer
from tests.chaos.soak import quantile
from tests.chaos.witness import Witness
from tests.chaos.worker import the_call
from tests.gates import Gate, raws, ready, until


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    # Without a host tier: what is tested here is what goes over the connection.
    return {"space": "chaos", "runtime_dir": folder / "run", "lease_ms": 1000, "beat_ms": 250, "host_tier": "off", **more}


def verdict(server: PrivateServer) -> list[str]:
    """What the log and the totals say when all is quiet."""
    witness, facts = Witness(server, "chaos"), Facts(lease_s=0.0)
    witness._stop.set()
    witness._thread.start()
    witness.close(facts)
    return [str(b) for b in check(facts)]


@pytest.mark.parametrize("value", [
    b"+OK\r\n", b"-ERR no\r\n", b":7\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$3\r\na\r\n\r\n", b"*-1\r\n", b"*0\r\n",
    b"*2\r\n$1\r\nx\r\n*1\r\n:1\r\n", b"%1\r\n+a\r\n:1\r\n",
])
def test_the_relay_cuts_resp_where_a_value_ends(value: bytes) -> None:
    """Fed byte by byte, and twice in one piece, it finds the same values."""
    splitter = Splitter()
    assert [v for byte in value for v in splitter.feed(bytes([byte]))] == [value]
    assert splitter.feed(value * 2) == [value, value]
    assert words(b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n") == [b"GET", b"\r\n"]


@pytest.mark.catalogue("A8")
@pytest.mark.parametrize("every", [5, 7, 11])
async def test_a_lost_reply_of_every_nth_command_doubles_nothing(private: PrivateServer, place: Path, every: int) -> None:
    """Every write, name, claim, commit, batch of reads and pin has one entry and counts once."""
    relay = Relay()
    async with relay.to(private.socket, place / "r"), memgang.open(
            relay.url, **settings(place, janitor_ms=3_600_000, flush_ms=5)) as space:
        relay.drop_every = every
        for i in range(12):
            ref = await space.put(f"value {i}")
            assert await space.get(ref) == f"value {i}"
            large = await space.put(b"%d" % i * 70_000)
            got = await space.recall(the_call(f"k{i}"), ready(i))
            assert await got.value() == i
            await space.set_name("counter", ref)
            await space.pin(ref)
            await space.forget(large)  # False where its reply was lost: the repeat found nothing
        await space.flush()
        relay.drop_every = 0
        assert relay.dropped > 10
        entries = Counter(e.raw for e in [e async for e in space.events()])
        totals = await space.stats()
        assert len(await space.history("counter")) == 12
    with private.admin() as admin:
        raw = Counter(fields[b"e"] for _, fields in admin.xrange("mg:{chaos.00}:a", "-", "+"))  # type: ignore[union-attr]
    assert {w: raw[w.encode()] for w in ("claimed", "committed", "named", "pinned", "forgotten", "fenced", "taken")} == {
        "claimed": 12, "committed": 12, "named": 12, "pinned": 12, "forgotten": 12, "fenced": 0, "taken": 0}
    assert raw[b"put"] == 36 and entries["read"] == 12
    assert (totals["executions"], totals["reads"], totals["count"]) == (12, 12, 24)
    assert verdict(private) == []


@pytest.mark.catalogue("A8")
@pytest.mark.parametrize("every", [13, 17])
async def test_lost_replies_double_none_of_many_puts(private: PrivateServer, place: Path, every: int) -> None:
    """A script that was carried out is sent again, and knows what it has done; what it left comes by itself and once."""
    relay = Relay()
    async with relay.to(private.socket, place / "r"), memgang.open(
            relay.url, **settings(place, janitor_ms=3_600_000)) as space:
        await space.put("text 7")
        relay.drop_every = every
        refs = await space.put_many([f"text {i}" for i in range(300)])
        assert await space.get_many(refs) == [f"text {i}" for i in range(300)]
        relay.drop_every = 0
        assert relay.dropped
        words = Counter([e.raw async for e in space.events()])
        assert words["put"] == 301 and (await space.stats())["count"] == 300
    assert verdict(private) == []


@pytest.mark.catalogue("A11")
async def test_no_commit_just_after_a_followers_check_is_missed(
    private: PrivateServer, place: Path, seed: int, many: Callable[[int, int], int]
) -> None:
    """Commits within 0-1.5 ms of the follower's check, and no poll to save it: every one is heard."""
    chance, count = random.Random(seed), many(1000, 10_000)
    patient = settings(place, poll_ms=3_600_000, lease_ms=600_000)  # a lost wake-up is a hang
    async with memgang.open(private.url, **patient) as leader, memgang.open(private.url, **patient) as follower:
        checked: dict[str, asyncio.Event] = {}
        ask = follower.store.wire.call_first

        def call_first(*command: Any) -> asyncio.Future[Any]:
            future = ask(*command)
            event = checked.get(next((w.rpartition(":")[2] for w in command if isinstance(w, str) and ":f:" in w), ""))
            if event is not None:
                future.add_done_callback(lambda _: event.set())
            return future

        follower.store.wire.call_first = call_first  # type: ignore[method-assign]
        ref = await leader.put("answer")
        wire, keys = leader.store.wire, leader.store.keys

        async def one(i: int) -> None:
            call = the_call(f"k{i}")
            key, owner = leader.key(call), fresh()
            claimed = await scripts.claim(wire, keys, key, who="tester/leader", note=b"{}", owner=owner, inc=incarnation(),
                                          lease_ms=600_000, attempts=3, hold_ms=600_000)
            assert isinstance(claimed, Claimed)
            checked[key] = asyncio.Event()
            following = asyncio.create_task(follower.recall(call, ready("never")))
            await checked[key].wait()  # it has been told to follow
            await asyncio.sleep(chance.uniform(0, 0.0015))
            command = scripts.commit_command(keys, key, who="tester/leader", note=b"{}", owner=owner, fence=claimed.fence,
                                             answer=ref, ttl_ms=0, own=NO_USAGE, validator=b"",
                                             usage=NO_USAGE)
            await scripts.commit(wire, command, key, claimed.fence)
            async with asyncio.timeout(30):
                got = await following
            assert (got.ref, got.how) == (ref, "joined")
            del checked[key]

        for start in range(0, count, 8):
            await asyncio.gather(*(one(i) for i in range(start, min(start + 8, count))))


@pytest.mark.catalogue("A11")
@pytest.mark.parametrize("poll_ms", [200, 3_600_000])
async def test_with_the_listening_connection_cut_at_random_every_follower_still_hears(
    private: PrivateServer, place: Path, seed: int, many: Callable[[int, int], int], poll_ms: int
) -> None:
    """Wake-ups killed again and again: every follower ends, by the poll, and without one because a new connection asks again."""
    chance, relay = random.Random(seed), Relay()
    after = []
    own = settings(place, poll_ms=poll_ms, lease_ms=600_000)
    async with relay.to(private.socket, place / "r"), memgang.open(private.url, **own) as leader, \
            memgang.open(relay.url, **own) as follower:
        for i in range(many(40, 600)):
            gate = Gate()
            leading = asyncio.create_task(leader.recall(the_call(f"k{i}"), gate.then(i)))
            await gate.reached()
            following = [asyncio.create_task(follower.recall(the_call(f"k{i}"), ready("never"))) for _ in range(5)]
            await asyncio.sleep(chance.uniform(0, 0.006))
            relay.cut_listeners()
            await asyncio.sleep(chance.uniform(0, 0.003))
            gate.open()
            await leading
            ended = time.monotonic()
            async with asyncio.timeout(30):
                got = await asyncio.gather(*following)
            after.append(time.monotonic() - ended)
            assert {await g.value() for g in got} == {i}
    print(f"{len(after)} cuts: all had the answer after p50 {quantile(after, 0.5) * 1000:.0f} ms, max {max(after) * 1000:.0f} ms")


@pytest.mark.catalogue("A12")
async def test_calls_cancelled_at_random_through_a_slow_relay_cross_no_replies(
    private: PrivateServer, place: Path, seed: int, many: Callable[[int, int], int]
) -> None:
    """Whoever stays gets its own value; afterwards no connection is in use, and none is left behind."""
    chance, relay, calls, cancelled, kept = random.Random(seed), Relay(), many(500, 10_000), 0, 0
    async with relay.to(private.socket, place / "r"), memgang.open(relay.url, **settings(place)) as space:
        refs = await space.put_many([f"value {i}" for i in range(50)])
        await space.recall(the_call("warm"), ready("warm"))
        relay.delay_s = 0.02

        async def one(i: int) -> tuple[int, Any]:
            if i % 5 == 4:
                return i, await (await space.recall(the_call(f"r{i}"), ready(f"answer {i}"))).value()
            return i, await space.get(refs[i % 50])

        for start in range(0, calls, 125):
            tasks = [asyncio.create_task(one(i)) for i in range(start, min(start + 125, calls))]

            async def cancel(task: asyncio.Task[Any]) -> None:
                await asyncio.sleep(chance.uniform(0, 0.12))
                task.cancel()

            await asyncio.gather(*(cancel(t) for t in chance.sample(tasks, len(tasks) * 3 // 5)))
            for got in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(got, asyncio.CancelledError):
                    cancelled += 1
                else:
                    assert not isinstance(got, BaseException), got
                    i, value = got
                    kept += 1
                    assert value == (f"answer {i}" if i % 5 == 4 else f"value {i % 50}")
        relay.delay_s = 0.0
        await space.flush()
        wire = space.store.wire

        async def idle() -> bool:
            return not wire._tasks and not wire._small and not wire._first and wire._lanes == 0

        await until(idle)
        assert cancelled > calls // 10 and kept > calls // 10
        assert len(relay.links) <= 8, "connections are left behind"
    assert verdict(private) == []


@pytest.mark.catalogue("A12")
async def test_with_connections_cut_at_random_every_call_brings_its_own_value(
    private: PrivateServer, place: Path, seed: int, many: Callable[[int, int], int]
) -> None:
    """Each command may be the last of its connection, done or not: nobody is told what another asked."""
    relay = Relay(seed)
    async with relay.to(private.socket, place / "r"), memgang.open(relay.url, **settings(place, flush_ms=5, attempts=9)) as space:
        relay.cut_chance = 0.1
        for start in range(0, many(300, 3000), 50):
            got = await asyncio.gather(*(space.recall(the_call(f"k{i % 200}"), ready(i % 200)) for i in range(start, start + 50)))
            assert [await g.value() for g in got] == [i % 200 for i in range(start, start + 50)]
        relay.cut_chance = 0.0
        assert relay.cuts > 20
    assert verdict(private) == []


@pytest.mark.catalogue("A12", "A19")
async def test_a_reply_that_comes_after_its_call_gave_up_reaches_nobody(private: PrivateServer, place: Path, seed: int) -> None:
    """The network stands still for longer than a call waits, then delivers all: each call still brings its own value."""
    chance, relay = random.Random(seed), Relay()
    async with relay.to(private.socket, place / "r"), memgang.open(
            relay.url, **settings(place, socket_timeout_s=0.1, patience_ms=20_000, janitor_ms=3_600_000)) as space:
        refs = await space.put_many([f"value {i}" for i in range(40)])
        for _ in range(5):
            asked = [asyncio.create_task(space.get(ref)) for ref in refs]
            await asyncio.sleep(chance.uniform(0, 0.003))
            relay.hold_back()
            await asyncio.sleep(chance.uniform(0.12, 0.3))
            relay.let_pass()
            async with asyncio.timeout(30):
                assert await asyncio.gather(*asked) == [f"value {i}" for i in range(40)]


@pytest.mark.catalogue("A19")
async def test_a_leader_whose_network_falls_silent_is_replaced_and_told_so(
    private: PrivateServer, place: Path
) -> None:
    """No reset, no end: for three leases nothing passes, then what was held back arrives late. One commit, one answer."""
    relay, gate = Relay(), Gate()
    async with relay.to(private.socket, place / "r"), memgang.open(
            relay.url, **settings(place / "a", lease_ms=400, beat_ms=100, socket_timeout_s=1.0, attempts=9)) as cut_off, \
            memgang.open(private.url, **settings(place / "b", lease_ms=400, beat_ms=100, attempts=9)) as other:
        leading = asyncio.create_task(cut_off.recall(the_call("k"), gate.then("of the one cut off")))
        await gate.reached()
        relay.hold_back()
        gate.open()  # the work is done, and its commit is on its way for three leases
        async with asyncio.timeout(30):
            won = await other.recall(the_call("k"), ready("of the other"))
        assert await won.value() == "of the other" and won.how == "computed"
        await asyncio.sleep(0.8)
        relay.let_pass()
        began = time.monotonic()
        async with asyncio.timeout(30):
            got = await leading
        print(f"returned {time.monotonic() - began:.2f} s after the network was back")
        assert await got.value() == "of the other"
        log = await raws(other)
        assert log.count("committed") == 1 and "fenced" in log
    assert verdict(private) == []


@pytest.mark.catalogue("A19")
async def test_a_reader_in_a_silent_network_gives_up_in_time(private: PrivateServer, place: Path) -> None:
    """Blocked sockets time out: the call ends with an error of ours, and works again when the network does."""
    relay = Relay()
    async with relay.to(private.socket, place / "r"), memgang.open(
            relay.url, **settings(place, socket_timeout_s=0.5, patience_ms=500)) as space:
        ref = await space.put("value")
        relay.hold_back()
        async with asyncio.timeout(30):
            with pytest.raises(MemGangError):
                await space.get(ref)
        relay.let_pass()

        async def back() -> bool:
            try:
                return bool(await space.get(ref) == "value")
            except MemGangError:
                return False

        await until(back)
