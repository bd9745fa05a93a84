"""Leaders that die, stop, hang or are told to go, in real processes; and a thousand callers of one call."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.crew import Crew, Member
from tests.chaos.history import Facts, check, load, takeovers
from tests.chaos.servers import PrivateServer
from tests.chaos.soak import quantile
from tests.chaos.witness import Witness

LEASE_S = 1.0
SETTINGS: dict[str, Any] = dict(lease_ms=1000, beat_ms=250, attempts=9)
AT_ONCE = 5  # leaders of calls of their own: a lease is waited for once for all of them


class Stage:
    """A server, a witness of its log and a crew; `verdict` when all is quiet."""

    def __init__(self, server: PrivateServer, crew: Crew) -> None:
        self.server, self.crew = server, crew
        self.facts = Facts(lease_s=LEASE_S)
        self.witness = Witness(server, "chaos")

    async def worker(self, name: str, **settings: Any) -> Member:
        """One worker, of a host of its own unless ``runtime_dir`` says otherwise: its death cannot be proved to the others."""
        return await self.crew.start(name, **{"runtime_dir": str(self.crew.folder / f"host-{name}"), **settings})

    async def began(self, *keys: str, not_by: tuple[int, ...] = ()) -> dict[str, dict[str, Any]]:
        """Wait until the work of these keys runs; the line of the attempt that leads each."""
        async with asyncio.timeout(60):
            while True:
                facts = Facts()
                load(self.crew.histories(), facts)
                found = {b["key"]: b for b in facts.begins if b["pid"] not in not_by}
                if all(k in found for k in keys):
                    return found
                await asyncio.sleep(0.01)

    async def following(self, key: str, processes: int) -> None:
        """Wait until callers in so many processes have asked for the key."""
        async with asyncio.timeout(60):
            while True:
                facts = Facts()
                load(self.crew.histories(), facts)
                if len({o.pid for o in facts.ops if o.op == "recall" and o.asked["key"] == key}) >= processes:
                    return
                await asyncio.sleep(0.01)

    async def verdict(self, kills: dict[int, float] | None = None) -> list[str]:
        """End all workers and check the whole history."""
        await self.crew.end()
        self.facts.wall = time.time() - time.monotonic()
        self.facts.dead = set(kills or {})
        load(self.crew.histories(), self.facts)
        self.witness.close(self.facts)
        return [str(b) for b in check(self.facts)]

    def words(self) -> Counter[str]:
        """How often each word is in the log."""
        return Counter(e.e for life in self.witness.lives for e in life.entries)


@pytest.fixture
async def stage(private: PrivateServer, place: Path, seed: int) -> AsyncIterator[Stage]:
    """A stage with nobody on it yet."""
    async with Crew(private.url, "chaos", place / "h", seed, **SETTINGS) as crew:
        found = Stage(private, crew)
        found.witness.start()
        yield found


@pytest.mark.catalogue("A1", "A1b")
@pytest.mark.parametrize("host", ["one host", "other hosts"])
async def test_a_killed_leader_is_replaced_once_and_all_get_one_value(
    stage: Stage, seed: int, many: Callable[[int, int], int], host: str
) -> None:
    """kill -9 at a random time, with 20 followers in 4 processes: one takes over, one commit, one value.

    On one host the lease is ten minutes, and nobody waits for it: the death is proved.
    """
    chance, kills, count = random.Random(seed), dict[int, float](), many(10, 100)
    same: dict[str, Any] = {}
    if host == "one host":
        same = {"runtime_dir": str(stage.crew.folder / "host"), "lease_ms": 600_000, "beat_ms": 150_000}
        stage.facts.lease_s = 600.0
    followers = [await stage.worker(f"f{i}", **same) for i in range(4)]
    for start in range(0, count, AT_ONCE):
        keys = [f"k{i}" for i in range(start, start + AT_ONCE)]
        leaders = [await stage.worker(f"l{k}", **same) for k in keys]
        leading = [asyncio.create_task(m.ask("callers", key=k, count=1, work_s=60.0)) for m, k in zip(leaders, keys, strict=True)]
        await stage.began(*keys)
        asked = [asyncio.create_task(f.ask("callers", key=k, count=5, work_s=0.05)) for f in followers for k in keys]
        for key in keys:
            await stage.following(key, 5)
        for leader in chance.sample(leaders, len(leaders)):
            await asyncio.sleep(chance.uniform(0, 0.1))
            kills[leader.pid] = stage.crew.lose(leader)
        async with asyncio.timeout(60):
            told = await asyncio.gather(*asked)
            await asyncio.gather(*leading)
        for i, key in enumerate(keys):
            refs = [t.get("ref", t) for group in told[i::AT_ONCE] for t in group["told"]]
            assert len(refs) == 20 and len(set(refs)) == 1, key
    assert await stage.verdict(kills) == []
    times = takeovers(stage.facts, kills, [])
    print(f"{host}: {len(times)} takeovers, p50 {quantile(times, 0.5):.3f} s, p99 {quantile(times, 0.99):.3f} s")
    words = stage.words()
    assert words["committed"] == words["taken"] == len(times) == count
    assert words["died"] == (count if same else 0)


@pytest.mark.catalogue("A4")
async def test_a_leader_stopped_past_its_lease_is_fenced_and_returns_the_winners_value(
    stage: Stage, many: Callable[[int, int], int]
) -> None:
    """SIGSTOP for three leases, then SIGCONT: its commit is refused, its caller gets what the others have."""
    count = many(5, 200)
    follower = await stage.worker("f")
    for start in range(0, count, AT_ONCE):
        keys = [f"k{i}" for i in range(start, start + AT_ONCE)]
        leaders = [await stage.worker(f"l{k}") for k in keys]
        leading = [asyncio.create_task(m.ask("callers", key=k, count=1, work_s=0.5)) for m, k in zip(leaders, keys, strict=True)]
        led = await stage.began(*keys)
        since = time.monotonic()
        for leader in leaders:
            leader.stop()
        async with asyncio.timeout(60):
            won = await asyncio.gather(*(follower.ask("callers", key=k, count=1, work_s=0.01) for k in keys))
        await asyncio.sleep(max(0.0, since + 3 * LEASE_S - time.monotonic()))
        for leader in leaders:
            leader.go_on()
            stage.facts.stood.append((leader.pid, since, time.monotonic()))
        async with asyncio.timeout(60):
            late = await asyncio.gather(*leading)
        for key, mine, theirs in zip(keys, late, won, strict=True):
            assert mine["told"][0]["ref"] == theirs["told"][0]["ref"], key
            assert mine["told"][0]["value"]["by"] != led[key]["attempt"], "the late value is visible"
        for leader in leaders:
            await leader.ask("stop")
            stage.crew.members.remove(leader)
    assert await stage.verdict() == []
    words = stage.words()
    assert words["taken"] == words["committed"] == words["fenced"] == count


@pytest.mark.catalogue("A5")
async def test_work_that_hangs_loses_the_call_when_its_hold_ends(stage: Stage) -> None:
    """Its process lives and beats; after the hold no beat is taken, and one lease later another computes."""
    hanging = await stage.worker("hanging", hold_ms=1500)
    follower = await stage.worker("follower", hold_ms=1500)
    leading = asyncio.create_task(hanging.ask("callers", key="k", count=1, work_s=3600))
    began = (await stage.began("k"))["k"]
    async with asyncio.timeout(60):
        told = await follower.ask("callers", key="k", count=5, work_s=0.01)
    assert len({t["ref"] for t in told["told"]}) == 1
    taken = await stage.began("k", not_by=(hanging.pid,))
    waited = taken["k"]["t"] - began["t"]
    print(f"taken over {waited:.2f} s after the work began; hold 1.5 s + lease 1 s")
    assert waited >= 1.5, "the hold was cut short"
    kills = {hanging.pid: stage.crew.lose(hanging)}
    await leading
    assert await stage.verdict(kills) == []


@pytest.mark.catalogue("A24")
async def test_a_leader_told_to_end_gives_its_calls_up_at_once(stage: Stage, many: Callable[[int, int], int]) -> None:
    """SIGTERM: followers take over long before a lease of ten minutes has passed; the delay is measured."""
    delays = []
    follower = await stage.worker("follower", lease_ms=600_000, poll_ms=3_600_000)
    for i in range(many(5, 50)):
        leader = await stage.worker(f"leader{i}", lease_ms=600_000)
        leading = asyncio.create_task(leader.ask("callers", key=f"k{i}", count=1, work_s=3600))
        await stage.began(f"k{i}")
        asked = asyncio.create_task(follower.ask("callers", key=f"k{i}", count=5, work_s=0.01))
        await stage.following(f"k{i}", 2)
        await asyncio.sleep(0.05)  # for the follower's ear to open: not needed for the outcome
        at = time.monotonic()
        leader.signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            told = await asked
        assert len({t["ref"] for t in told["told"]}) == 1
        delays.append((await stage.began(f"k{i}", not_by=(leader.pid,)))[f"k{i}"]["t"] - at)
        await leading
        await asyncio.to_thread(leader.process.join, 30)
        assert leader.process.exitcode == 3
        stage.crew.members.remove(leader)
    print(f"SIGTERM to takeover: p50 {quantile(delays, 0.5) * 1000:.0f} ms, max {max(delays) * 1000:.0f} ms")
    assert [b for b in await stage.verdict() if not b.startswith("I7")] == []  # the leaders' own callers left with them
    assert stage.words()["released"] == len(delays)


@pytest.mark.catalogue("E1")
async def test_a_thousand_callers_in_eight_processes_compute_once(stage: Stage, many: Callable[[int, int], int]) -> None:
    """One execution a round, one value for all; how long after the work the last waiter has it is measured."""
    members = [await stage.worker(f"w{i}") for i in range(8)]
    rounds, work_s, late = many(3, 100), 1.0, []
    for number in range(rounds):
        async with asyncio.timeout(120):
            told = await asyncio.gather(*(m.ask("callers", key=f"k{number}", count=125, work_s=work_s) for m in members))
        assert len({t["ref"] for group in told for t in group["told"]}) == 1
        late.append(max(group["t"] for group in told))
    assert await stage.verdict() == []
    began = {b["key"]: b["t"] for b in stage.facts.begins}
    after = [end - began[f"k{i}"] - work_s for i, end in enumerate(late)]
    print(f"last waiter {quantile(after, 0.5) * 1000:.0f} ms after the work (p50), {max(after) * 1000:.0f} ms at most")
    assert len(stage.facts.begins) == stage.words()["committed"] == rounds
