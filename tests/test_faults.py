"""Faults: what is promised holds when servers, connections and processes fail at the worst moment."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

import memgang
from memgang.errors import MemGangError, ModelError, StoreFull, StoreUnavailable, UnknownReference, WorkFailed
from memgang.model import Call, Context, Ref
from memgang.recall import Terms
from memgang.recall.flights import Flight
from memgang.recall.order import Order
from memgang.settings import Settings
from memgang.space import Space
from memgang.store import janitor, server
from memgang.store.keys import Keys
from memgang.store.process import incarnation
from tests.gates import Gate, raws, ready, until

pytestmark = pytest.mark.core
ROOT = Path(__file__).parent.parent


def call(what: object = "plan") -> Call:
    return Call("function", "tests:faults", "1", {"what": what})


async def assert_invariants(space: Space) -> None:
    """I3 fences rise in each flight, I10 no gap in the numbers of a log, I11 totals are the sum of what is there."""
    wire, keys = space.store.wire, space.store.keys
    for shard in range(keys.shards):
        fences = defaultdict[bytes, list[int]](list)
        for log, counter in (("a", "seq"), ("h", "reads_seq")):
            entries = await wire.call("XRANGE", keys.at(shard, log), "-", "+")
            assert [int(e[0].split(b"-")[0]) for e in entries] == list(range(1, len(entries) + 1))
            assert int(await wire.call("HGET", keys.at(shard, "u"), counter) or 0) == len(entries)
            for _, flat in entries:
                words = dict(zip(flat[::2], flat[1::2], strict=True))
                if words.get(b"e") in (b"claimed", b"taken"):
                    fences[words[b"id"]].append(int(words[b"x"]))
        assert all(list(f) == sorted(set(f)) for f in fences.values())
        listed = await wire.call("ZRANGE", keys.at(shard, "l"), 0, -1)
        sizes = [await wire.call("HGET", keys.at(shard, "o:" + i.decode()), "size") for i in listed]
        totals = [int(t or 0) for t in await wire.call("HMGET", keys.at(shard, "u"), "bytes", "count")]
        assert totals == [sum(map(int, sizes)), len(sizes)]


class Bare:
    """A server of the test's own, with everything allowed, on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.admin = redis.Redis(port=port)


@pytest.fixture
def bare(tmp_path: Path, unused_port: int) -> Iterator[Bare]:
    """A server without a log on disk, gone with the test."""
    binary = server.find_binary(Settings.load())
    process = subprocess.Popen([binary.path, "--port", str(unused_port), "--save", "", "--dir", str(tmp_path),
                                "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
    found = Bare(unused_port)
    while True:
        try:
            found.admin.ping()
            break
        except redis.ConnectionError:
            assert process.poll() is None
    yield found
    found.admin.close()
    process.kill()
    process.wait()


@pytest.fixture
def unused_port() -> int:
    """A port that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relay:
    """Stands between client and server: passes everything on, late, or loses a reply and the connection with it."""

    def __init__(self) -> None:
        self.drop_every, self.delay_s, self.replies, self.dropped, self.url = 0, 0.0, 0, 0, ""

    @asynccontextmanager
    async def to(self, space: Space) -> AsyncIterator[Relay]:
        """In front of the server of a space."""
        where = space.store.address
        tasks: set[asyncio.Task[None]] = set()

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, other: asyncio.StreamWriter, reply: bool) -> None:
            try:
                while data := await source.read(1 << 20):
                    if reply:
                        self.replies += 1
                        if self.drop_every and self.replies % self.drop_every == 0:
                            self.dropped += 1  # the server has done it, and nobody is told
                            break
                        if self.delay_s:
                            await asyncio.sleep(random.uniform(0, self.delay_s))
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()
                other.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_unix_connection(where.socket)
            for pumping in (pump(reader, back, writer, False), pump(there, writer, back, True)):
                task = asyncio.create_task(pumping)
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        login = f"{quote(where.username)}:{quote(where.password)}@" if where.password else ""
        self.url = f"redis://{login}127.0.0.1:{port}/{where.db}"
        try:
            yield self
        finally:
            listening.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


# ── the server fails ──────────────────────────────────────────────────────────────────────────


async def test_no_acknowledged_write_is_lost_when_the_server_is_killed_under_load(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    """A6: three times kill -9 while four spaces write and recall: all goes on, and what was acknowledged is there."""
    own = {"state_dir": tmp_path / "state", "runtime_dir": tmp_path / "run"}
    kept: dict[Any, str] = {}
    names: dict[str, int] = {}
    stop = asyncio.Event()
    async with opened(**own, agent="a") as a, opened(**own, agent="b") as b, opened(**own, agent="c") as c, opened(**own, agent="d") as d:

        async def work(space: Space, who: str) -> None:
            i = 0
            while not stop.is_set():
                i += 1
                kept[await space.put(f"{who} {i}")] = f"{who} {i}"
                got = await space.recall(call(i), ready(f"answer {i}"))
                assert not got.degraded and await got.value() == f"answer {i}"
                names[who] = await space.set_name(f"last/{who}", got.ref)

        workers = [asyncio.create_task(work(s, n)) for s, n in ((a, "a"), (b, "b"), (c, "c"), (d, "d"))]
        for _ in range(3):
            pid, before = server.status(Settings.load(**own)).pid, len(kept)
            os.kill(pid, signal.SIGKILL)

            async def moved(before: int = before) -> bool:
                assert not any(w.done() for w in workers)
                return len(kept) > before + 40

            await until(moved)
            assert server.status(Settings.load(**own)).pid != pid
        stop.set()
        await asyncio.gather(*workers)
        assert await a.get_many(list(kept)) == list(kept.values())
        for who, version in names.items():
            seen = await b.version(f"last/{who}")
            assert seen is not None and seen.version == version
        for space in (a, b, c, d):
            await space.flush()
        await assert_invariants(a)


async def test_a_leader_whose_server_lost_everything_still_publishes(bare: Bare, space_name: str) -> None:
    """A7: its claim is refused, it claims anew under a higher fence, and the value is right for all."""
    gate = Gate()
    async with memgang.open(bare.url, space=space_name) as one, memgang.open(bare.url, space=space_name) as two:
        key = one.key(call())
        leading = asyncio.create_task(one.recall(call(), gate.then("value")))
        await gate.reached()
        before = int(await one.store.wire.call("HGET", one.store.keys.flight(key), "fence"))
        bare.admin.flushall()
        gate.open()
        assert await (await leading).value() == "value"
        hit = await two.recall(call(), ready("never"))
        assert (hit.how, await hit.value()) == ("hit", "value")
        assert int(await one.store.wire.call("HGET", one.store.keys.flight(key), "fence")) > before
        assert "fenced" in await raws(two)
        await one.flush()
        await assert_invariants(one)


async def test_after_a_loss_all_processes_agree_on_one_secret(bare: Bare, space_name: str) -> None:
    """A7: the keeper puts the secret back; where a newcomer was faster, the others take on the newcomer's."""
    async with memgang.open(bare.url, space=space_name, janitor_ms=20) as old:
        secret = old.store.keys.secret
        bare.admin.flushall()

        async def back() -> bool:
            return bool(await old.store.wire.call("HGET", Keys.config(space_name), "secret") == secret)

        await until(back)
        pipe = bare.admin.pipeline()
        pipe.flushall()
        pipe.hset(Keys.config(space_name), mapping={"secret": b"n" * 32, "shards": 1})
        pipe.execute()

        async def taken_on() -> bool:
            return old.store.keys.secret == b"n" * 32

        await until(taken_on)
        await old.recall(call(), ready("value"))
        async with memgang.open(bare.url, space=space_name) as new:
            assert (await new.recall(call(), ready("never"))).how == "hit"


async def test_an_object_gone_between_put_and_commit_is_put_again(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer points at an object that is there, and the caller is not told of a reference to nothing."""
    keep = space.store.objects.put_then
    left = [1]

    async def then_lost(*args: Any, **words: Any) -> Any:
        ref, _ = await keep(args[0], args[1], None, **words)
        if left:
            left.pop()
            await space.forget(ref)
        return ref, None

    monkeypatch.setattr(space.store.objects, "put_then", then_lost)
    got = await space.recall(call(), ready("value"))
    assert await space.get(got.ref) == "value"
    assert (await space.recall(call(), ready("never"))).how == "hit"


async def test_work_that_was_paid_for_is_not_done_again_when_the_server_goes_away(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies between the work and its publication: the value is returned, degraded, of one run."""

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    gate = Gate()
    gate.open()
    monkeypatch.setattr(space.store.objects, "put_then", away)
    got = await space.recall(call(), gate.then("value"))
    assert got.degraded and await got.value() == "value" and gate.runs == 1


async def test_a_full_server_refuses_cleanly_and_lets_running_work_end(bare: Bare, space_name: str) -> None:
    """A18: claim, put and name are StoreFull and leave nothing; commit, fail and the sweep still work."""
    good, bad = Gate(), Gate()
    async with memgang.open(bare.url, space=space_name, janitor_ms=20) as space:
        known = await space.put("value")
        wire, keys = space.store.wire, space.store.keys
        done = asyncio.create_task(space.recall(call(1), good.then("not there yet")))
        fails = asyncio.create_task(space.recall(call(2), bad.then(ValueError("no"))))
        await good.reached()
        await bad.reached()
        record = await wire.call("HGETALL", keys.record(known))
        bare.admin.config_set("maxmemory", 1)
        with pytest.raises(StoreFull):
            await space.put("new")
        with pytest.raises(StoreFull):
            await space.put(b"x" * 200_000)
        with pytest.raises(StoreFull):
            await space.set_name("new", known)
        with pytest.raises(StoreFull):
            await space.recall(call(3), ready("never"))
        assert await wire.call("HGETALL", keys.record(known)) == record and await space.names() == {}
        assert await wire.call("EXISTS", keys.flight(space.key(call(3)))) == 0
        bad.open()
        with pytest.raises(WorkFailed):
            await fails
        good.open()
        with pytest.raises(StoreFull):
            await done  # its object cannot be written, so it gave the flight up
        assert await wire.call("HGET", keys.flight(space.key(call(1))), "until") == b"0"
        bare.admin.config_set("maxmemory", 0)
        short = await space.put("short", ttl=0.05)
        bare.admin.config_set("maxmemory", 1)

        async def swept() -> bool:
            return await wire.call("EXISTS", keys.record(short)) == 0

        await until(swept)  # a full server needs the sweep most
        bare.admin.config_set("maxmemory", 0)
        assert await (await space.recall(call(1), ready("again"))).value() == "again"
        await space.flush()
        await assert_invariants(space)


async def test_commit_itself_is_taken_by_a_full_server(bare: Bare, space_name: str) -> None:
    """A18: where the object is there, the answer is published though memory has run out since."""
    async with memgang.open(bare.url, space=space_name) as space:
        keep = space.store.objects.put_then

        async def then_full(*args: Any, **words: Any) -> Any:
            ref, _ = await keep(args[0], args[1], None, **words)
            bare.admin.config_set("maxmemory", 1)
            return ref, None

        space.store.objects.put_then = then_full  # type: ignore[method-assign]
        assert await (await space.recall(call(), ready("value"))).value() == "value"
        bare.admin.config_set("maxmemory", 0)
        assert (await space.recall(call(), ready("never"))).how == "hit"


# ── connections fail ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("every", [5, 7, 11])
async def test_lost_replies_double_nothing(space: Space, opened: Callable[..., Any], every: int) -> None:
    """A8, B14: with every n-th reply lost, each write, name, claim and batch of reads counts once."""
    relay = Relay()
    async with relay.to(space), opened(url=relay.url, flush_ms=5, janitor_ms=3_600_000) as worker:
        relay.drop_every = every
        refs = []
        for i in range(30):
            refs.append(await worker.put(f"value {i}"))
            assert await worker.get(refs[-1]) == f"value {i}"
            await worker.recall(call(i), ready(i))
            await worker.set_name("counter", refs[-1])
        await worker.flush()
        relay.drop_every = 0
        assert relay.dropped > 5
        assert len(await space.history("counter")) == 30
        counts = defaultdict[str, int](int)
        for raw in await raws(space):
            counts[raw] += 1
        assert {k: counts[k] for k in ("put", "read", "claimed", "committed", "named")} == {
            "put": 60, "read": 30, "claimed": 30, "committed": 30, "named": 30}
        entries = await space.store.wire.call("XRANGE", space.store.keys.at(0, "a"), "-", "+")  # as it is, nothing merged
        assert sum(flat[flat.index(b"e") + 1] == b"put" for _, flat in entries) == 60
        totals = await space.stats()
        assert (totals["count"], totals["executions"], totals["reads"]) == (60, 30, 30)
        await assert_invariants(space)


async def test_two_thousand_cancels_through_a_slow_relay_cross_no_replies(space: Space, opened: Callable[..., Any]) -> None:
    """A12: whoever is not cancelled gets its own value, and the wire is idle afterwards."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    relay = Relay()
    async with relay.to(space), opened(url=relay.url) as worker:
        refs = await worker.put_many([f"value {i}" for i in range(50)])
        relay.delay_s = 0.004
        for _ in range(20):
            tasks = [asyncio.create_task(worker.get(refs[i % 50])) for i in range(150)]
            for victim in chance.sample(tasks, 100):
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.uniform(0, 0.003))
                victim.cancel()
            got = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(g == f"value {i % 50}" or isinstance(g, asyncio.CancelledError) for i, g in enumerate(got))
        await worker.flush()
        wire = worker.store.wire

        async def idle() -> bool:
            return not wire._tasks and not wire._small and wire._lanes == 0

        await until(idle)
        assert await worker.get(refs[7]) == "value 7"


async def test_followers_hear_the_answer_though_their_subscription_is_killed(bare: Bare, space_name: str) -> None:
    """A11: the poll is the guarantee; with the connection of wake-ups killed again and again all get the answer."""
    gate = Gate()
    async with memgang.open(bare.url, space=space_name) as one, memgang.open(bare.url, space=space_name, poll_ms=100) as two:
        leading = asyncio.create_task(one.recall(call(), gate.then("value")))
        await gate.reached()
        following = asyncio.create_task(two.recall(call(), ready("never")))

        async def listening() -> bool:
            return bool(bare.admin.pubsub_shardchannels())

        for _ in range(3):
            await until(listening)
            bare.admin.client_kill_filter(_type="pubsub")
        gate.open()
        async with asyncio.timeout(30):
            assert await (await following).value() == "value"
        await leading


async def test_beats_go_on_when_the_server_has_forgotten_its_scripts(bare: Bare, space_name: str) -> None:
    """A restarted server knows no scripts: the next beat brings its own along, and the lease lives."""
    gate = Gate()
    async with memgang.open(bare.url, space=space_name, lease_ms=1000, beat_ms=100) as space:
        leading = asyncio.create_task(space.recall(call(), gate.then("value")))
        await gate.reached()
        flight = space.store.keys.flight(space.key(call()))
        bare.admin.script_flush()
        bare.admin.client_kill_filter(_type="normal", skipme=True)
        first = int(bare.admin.hget(flight, "until") or 0)

        async def renewed() -> bool:
            return int(bare.admin.hget(flight, "until") or 0) > first + 500

        await until(renewed)
        gate.open()
        assert await (await leading).value() == "value" and space.store.beats.lost == 0
        assert "taken" not in await raws(space)


async def test_events_that_could_not_be_written_are_written_later_and_once(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B14: a batch whose fate is unknown goes again with its number; nothing is missing, nothing doubled."""
    from memgang.store import scripts

    touch, failing = scripts.touch, [1, 1]

    async def unlucky(*args: Any, **words: Any) -> bool:
        if failing:
            if failing.pop() and len(failing) == 1:
                await touch(*args, **words)  # it arrived, and the answer did not
            raise StoreUnavailable("away")
        return await touch(*args, **words)

    monkeypatch.setattr(scripts, "touch", unlucky)
    async with opened(flush_events=1000, flush_ms=3_600_000) as space:
        for start in (0, 300):
            for i in range(start, start + 300):
                space.mark("phase", str(i))
            with pytest.raises(StoreUnavailable):
                await space.flush()
        await space.flush()
        texts = [e.text async for e in space.events() if e.raw == "phase"]
        assert sorted(texts, key=int) == [str(i) for i in range(600)]


async def test_a_cancelled_flush_loses_no_event(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked for the flush may leave between two batches of it; its lines arrive."""
    async with opened(flush_events=1000, flush_ms=3_600_000) as space:
        for i in range(900):
            space.mark("phase", str(i))
        space.store.log._most = 100  # nine batches, none of them sent yet
        from memgang.store import scripts

        touch, sent = scripts.touch, list[int]()

        async def then_cancel(*args: Any, **words: Any) -> bool:
            sent.append(1)
            if len(sent) == 2:
                flushing.cancel()
            return await touch(*args, **words)

        monkeypatch.setattr(scripts, "touch", then_cancel)
        flushing = asyncio.create_task(space.flush())
        await asyncio.gather(flushing, return_exceptions=True)
        texts = [e.text async for e in space.events() if e.raw == "phase"]
        assert sorted(texts, key=int) == [str(i) for i in range(900)]


async def test_two_spaces_of_one_process_both_reach_the_log(opened: Callable[..., Any]) -> None:
    """Each numbers its own batches: the first batch of the second is not taken for a repeat of the first's."""
    async with opened(agent="one") as one, opened(agent="two") as two:
        for space, what in ((one, "x"), (two, "y")):
            space.mark("phase", what)
            await space.flush()
        assert sorted([e.text async for e in one.events() if e.raw == "phase"]) == ["x", "y"]
    async with opened(agent="three") as three:
        three.mark("phase", "z")
        assert len([e async for e in three.events() if e.raw == "phase"]) == 3


# ── processes and callers leave ───────────────────────────────────────────────────────────────

LEADER = """
import asyncio, signal, sys
import memgang
from memgang.model import Call

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async def work():
        print("leading", flush=True)
        await asyncio.Event().wait()
    async with memgang.open(space=sys.argv[1]) as space:
        await space.recall(Call("function", "tests:faults", "1", {"what": "plan"}), work)

try:
    asyncio.run(main())
except (KeyboardInterrupt, asyncio.CancelledError):
    sys.exit(3)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopped_leader_gives_its_flight_up(opened: Callable[..., Any], space_name: str, sent: signal.Signals) -> None:
    """A24: a program that ends by cancellation releases; its follower leads long before the lease has passed."""
    leader = subprocess.Popen([sys.executable, "-c", LEADER, space_name], cwd=ROOT, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "src", "MEMGANG_LEASE_MS": "600000"})
    try:
        assert leader.stdout is not None and await asyncio.to_thread(leader.stdout.readline) == b"leading\n"
        async with opened(poll_ms=3_600_000) as space:
            following = asyncio.create_task(space.recall(call(), ready("mine")))

            async def waiting() -> bool:
                return "waits" in await raws(space)

            await until(waiting)
            leader.send_signal(sent)
            async with asyncio.timeout(30):
                assert await (await following).value() == "mine"
            assert await asyncio.to_thread(leader.wait, 30) == 3
            assert "released" in await raws(space)
    finally:
        leader.kill()
        leader.communicate()


async def test_closing_a_space_gives_up_what_it_leads_and_tells_those_who_wait(opened: Callable[..., Any]) -> None:
    """The next one leads at once; a caller that was not cancelled hears that the space is closed."""
    gate = Gate()
    async with opened(lease_ms=600_000) as two:
        async with opened(lease_ms=600_000) as one:
            asking = asyncio.create_task(one.recall(call(), gate.then("value")))
            await gate.reached()
        with pytest.raises(StoreUnavailable, match="closed"):
            await asking
        async with asyncio.timeout(30):
            assert await (await two.recall(call(), ready("mine"))).value() == "mine"
        assert gate.runs == 1


async def test_a_claim_cancelled_on_its_way_is_given_up(space: Space, opened: Callable[..., Any]) -> None:
    """Cancelled between the question and its answer, a call leaves no lease behind."""
    relay = Relay()
    async with relay.to(space), opened(url=relay.url, on_abandon="cancel", lease_ms=600_000) as worker:
        relay.delay_s = 0.05
        for i in range(20):
            asking = asyncio.create_task(worker.recall(call(i), Gate().then("never")))
            for _ in range(i):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(30):
            for i in range(20):
                assert await (await space.recall(call(i), ready(i))).value() == i


async def test_a_flight_that_has_just_failed_is_not_joined(space: Space) -> None:
    """Asked for between the end of a flight and its removal, the call is led anew instead of met for ever."""

    async def wrong() -> Any:
        raise ModelError("m", "caller", "401", "wrong key")

    ended = asyncio.create_task(wrong())
    await asyncio.wait([ended])
    order = Order(call(), space.key(call()), b"", ready("never"), Context("somebody"), Terms(0), "other", None, (), None, None)
    space._recaller._flights.running[order.key] = Flight(ended, order)
    assert await (await space.recall(call(), ready("mine"))).value() == "mine"


def _child(space_name: str, out: int) -> None:
    """What a forked child does: open the space anew, join what the parent leads, write, and say who it is."""

    async def main() -> None:
        async with memgang.open(space=space_name, agent="child") as space:
            own = await space.recall(call("child"), ready("of the child"))
            joined = await space.recall(call(), ready("never"))
            told = {"inc": incarnation(), "own": await own.value(), "joined": await joined.value(), "how": joined.how}
        os.write(out, json.dumps(told).encode() + b"\n")

    try:
        asyncio.run(main())
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("way", ["multiprocessing", "os.fork"])
async def test_a_forked_child_opens_for_itself_and_leaves_its_parent_unharmed(space: Space, way: str) -> None:
    """A14: own incarnation, own connections; the parent's lease, connections and server stay as they were."""
    gate = Gate()
    leading = asyncio.create_task(space.recall(call(), gate.then("of the parent")))
    await gate.reached()
    inbox, out = os.pipe()
    if way == "os.fork":
        if (pid := os.fork()) == 0:
            _child(space.name, out)
    else:
        process = multiprocessing.get_context("fork").Process(target=_child, args=(space.name, out))
        process.start()
        assert process.pid
        pid = process.pid
    os.close(out)

    async def waiting() -> bool:
        return "waits" in await raws(space)

    await until(waiting)
    gate.open()
    with os.fdopen(inbox) as reader:
        told = json.loads(await asyncio.to_thread(reader.readline))
    if way == "os.fork":
        await asyncio.to_thread(os.waitpid, pid, 0)
    else:
        await asyncio.to_thread(process.join, 30)
    assert told.pop("inc") != incarnation()
    assert told == {"own": "of the child", "joined": "of the parent", "how": "joined"}
    assert await (await leading).value() == "of the parent"
    refs = await space.put_many([f"value {i}" for i in range(100)])
    assert await space.get_many(refs) == [f"value {i}" for i in range(100)]
    assert (await space.recall(call("child"), ready("never"))).how == "hit"
    log = await raws(space)
    assert "taken" not in log and "fenced" not in log
    await assert_invariants(space)


def _child_of(space: Space, ref: Ref, out: int) -> None:
    """What a forked child does that does not know better: it uses the space of its parent, and says what came of it."""

    async def each(work: Callable[[], Awaitable[Any]]) -> str:
        try:
            async with asyncio.timeout(5):
                return repr(await work())
        except Exception as error:
            return type(error).__name__

    async def main() -> list[str]:
        return [await each(work) for work in (
            lambda: space.put("of the child"), lambda: space.put_many(["of", "the child"]), lambda: space.get(ref),
            lambda: space.describe(ref), lambda: space.recall(call("child"), ready("of the child")), space.stats)]

    try:
        os.write(out, json.dumps(asyncio.run(main())).encode() + b"\n")
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_child_that_uses_its_parents_space_is_told_and_sends_nothing(space: Space) -> None:
    """A14: what it sent would be answered to the parent, as the reply to whatever that one asks next, and it would wait for ever."""
    ref = await space.put("of the parent")
    inbox, out = os.pipe()
    if (pid := os.fork()) == 0:
        _child_of(space, ref, out)
    os.close(out)
    with os.fdopen(inbox) as reader:
        assert json.loads(await asyncio.to_thread(reader.readline)) == ["ConfigError"] * 6
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert await space.get(ref) == "of the parent" and (await space.describe(ref)).ref == ref


# ── keeping house ─────────────────────────────────────────────────────────────────────────────


async def test_the_janitor_removes_what_has_expired_with_an_event_each(opened: Callable[..., Any]) -> None:
    """B8: a hundred objects nobody reads again are gone, each with one event, and the totals are right."""
    async with opened(janitor_ms=20) as space:
        refs = await space.put_many([f"value {i}" for i in range(100)], ttl=0.05)
        kept = await space.put("stays", ttl="1h")

        async def swept() -> bool:
            return (await space.stats())["count"] == 1

        await until(swept)
        expired = [e.obj async for e in space.events() if e.raw == "expired"]
        assert sorted(expired) == sorted(r.id for r in refs)
        assert await space.get(kept) == "stays"
        await space.flush()
        await assert_invariants(space)


async def test_trimming_never_cuts_what_is_younger_than_ten_minutes(opened: Callable[..., Any]) -> None:
    """Too many entries: the old ones go, up to the first young one, also when the clock once stepped back."""
    async with opened(log_entries_max=5, janitor_ms=3_600_000) as space:
        store = space.store
        stream, now = store.keys.at(0, "a"), store.log.server_ms()
        ages = [11, 11, 11, 9, 11, 9, 9, 9]
        for seq, minutes in enumerate(ages, 1):
            await store.wire.call("XADD", stream, f"{seq}-0", "e", "x", "at", now - minutes * 60_000, "n", "{}")
        await janitor.one_round(store.wire, store.keys, store.objects, store.log, space.settings)
        left = [int(e[0].split(b"-")[0]) for e in await store.wire.call("XRANGE", stream, "-", "+")]
        assert left == [4, 5, 6, 7, 8]


async def test_a_value_of_any_size_near_the_border_is_remembered(space: Space) -> None:
    """Put and commit keep their order where a body with its words is just larger than a small call."""
    for size in (64_000, 65_300, 65_500, 65_536, 65_537, 70_000):
        got = await space.recall(call(size), ready(b"x" * size))
        assert got.how == "computed"
        assert (await space.recall(call(size), ready(b"never"))).how == "hit"


async def test_an_unknown_reference_is_refused_and_told_to_the_log(space: Space) -> None:
    """A read of nothing is an event too, and no error but ours comes up."""
    ref = await space.put("x")
    await space.forget(ref)
    with pytest.raises(MemGangError) as caught:
        await space.get(ref)
    assert isinstance(caught.value, UnknownReference) and isinstance(space.context, Context)
    assert "refused" in await raws(space)


async def test_a_clock_that_stepped_back_costs_one_span(opened: Callable[..., Any]) -> None:
    """Expiries an hour too far ahead are brought back to their span by the janitor's next round."""
    async with opened(janitor_ms=3_600_000) as space:
        store, ref = space.store, await space.put("x", ttl="1h")
        await janitor.one_round(store.wire, store.keys, store.objects, store.log, space.settings)
        ahead = store.log.server_ms() + 7_200_000  # as a clock that was an hour ahead would have left it
        await store.wire.call("HSET", store.keys.record(ref), "expires", ahead)
        await store.wire.call("ZADD", store.keys.at(0, "x"), ahead, ref.id)
        await store.wire.call("HSET", store.keys.at(0, "u"), "swept", ahead - 3_600_000)
        await janitor.one_round(store.wire, store.keys, store.objects, store.log, space.settings)
        assert (await space.describe(ref)).expires <= store.log.server_ms() + 3_600_000


async def test_a_large_body_ends_by_itself_from_its_first_byte_on(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer dies between a part and its expiry: what was laid is gone in a minute, not there for ever."""
    async with opened(part_bytes=1 << 20, placement="network") as space:
        wire = space.store.wire
        real = wire.call_wide

        def dies(*command: Any) -> Any:
            sent = real(*command)
            monkeypatch.setattr(wire, "call", None)  # it asks for nothing more
            return sent

        monkeypatch.setattr(wire, "call_wide", dies)
        with pytest.raises(TypeError):
            await space.put(bytes(3 << 20))
        monkeypatch.undo()
        laid = await wire.call("KEYS", f"mg:{{{space.store.keys.space}.*:t:*")
        assert laid and [await wire.call("PTTL", key) > 0 for key in laid] == [True]
