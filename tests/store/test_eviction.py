"""A budget: what can be computed again gives way, in the order of GreedyDual-Size-Frequency; what is protected stays."""

from __future__ import annotations

import asyncio
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.gates import Gate, ready

from memgang.codec import encode
from memgang.errors import StoreFull, UnknownReference
from memgang.model import Call, Ref
from memgang.space import Space

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("MEMGANG_SEED") or random.randrange(1 << 32))
SOAK = os.environ.get("MEMGANG_SOAK") == "1"


async def stored(space: Space, size: int, number: int, cost_s: float = 0.0, keep: bool = False) -> Ref:
    """An object of exactly so many bytes, put as an answer is."""
    value = f"{number:08d}".ljust(size, "x")[:size]
    return await space.store.objects.put(encode(value, None), space.context, cost_s=cost_s, keep=keep)


async def there(space: Space, *refs: Ref) -> list[bool]:
    """Which of them are there."""
    return [record is not None for record in await space.describe_many(refs)]


async def totals(space: Space) -> tuple[int, int]:
    """Objects and bytes as the totals have them, checked against the records."""
    found = (await space.find(limit=1_000_000)).objects
    now = await space.stats()
    assert (now.get("count", 0), now.get("bytes", 0)) == (len(found), sum(o.size for o in found)), f"MEMGANG_SEED={SEED}"
    return len(found), sum(o.size for o in found)


async def test_what_is_cheap_to_compute_again_gives_way(opened: Any) -> None:
    """Of answers of one size the one of the least seconds goes; its event says so; the call is computed again."""
    async with opened(budget_bytes=3_000, guard_ms=1) as space:
        dear, cheap = await stored(space, 1_000, 1, cost_s=9.0), await stored(space, 1_000, 2, cost_s=0.5)
        middle = await stored(space, 1_000, 3, cost_s=3.0)
        await asyncio.sleep(0.02)  # the guard of 1 ms is over: the server's clock decides, and no event tells of it

        new = await stored(space, 1_000, 4, cost_s=1.0)

        assert await there(space, dear, cheap, middle, new) == [True, False, True, True]
        assert [(e.obj, e.bytes) async for e in space.events() if e.raw == "evicted"] == [(cheap.id, 1_000)]
        with pytest.raises(UnknownReference):
            await space.get(cheap)
        assert await totals(space) == (3, 3_000)


async def test_an_evicted_answer_is_computed_again(opened: Any) -> None:
    """Its flight still points at it; whoever asks finds it gone and leads."""
    async with opened(budget_bytes=3_000, guard_ms=1, lease_ms=1000, beat_ms=250) as space:
        call = Call("function", "tests:evicted", "1", {})
        first = await space.recall(call, ready("a" * 2_000))
        await asyncio.sleep(0.02)
        await space.recall(Call("function", "tests:evicted", "2", {}), ready("b" * 2_000))

        assert await there(space, first.ref) == [False]
        await asyncio.sleep(0.02)
        assert (await space.recall(call, ready("a" * 2_000))).how == "computed"


async def test_an_answer_on_its_way_stays_until_those_who_wait_have_it(opened: Any) -> None:
    """From its put on, before its commit and behind it: who presses for room takes other objects, and an agent at its limit is refused."""
    tight = dict(budget_bytes=4_000, host_tier="off", guard_ms=1)
    async with (
        opened(budget_bytes=4_000, host_tier="off", agent_budget_bytes=1_000) as leading, opened(**tight) as pressing,
        opened(**tight, lease_ms=1000, beat_ms=250) as following,
    ):
        call = Call("function", "tests:pressed", "1", {})
        put_only = await stored(leading, 1_000, 1)  # its commit never comes: as far as the server knows, it may
        with pytest.raises(StoreFull, match="agent"):
            await stored(leading, 1_000, 2)  # its own object is the cheapest there is, and on its way
        with leading.acting_as("another"):
            gate = Gate()
            leader = asyncio.create_task(leading.recall(call, gate.then("z" * 1_000)))
            await gate.reached()
            waiting = asyncio.create_task(following.recall(call, ready("other")))
            gate.open()
            first = await leader
        for n in range(20):
            await asyncio.sleep(0.003)
            await stored(pressing, 1_000, 100 + n, cost_s=1_000.0)

        assert await there(leading, put_only, first.ref) == [True, True]
        assert (await waiting).ref == first.ref
        assert (await following.recall(call, ready("other"))).how == "hit"
        assert await totals(leading) == (4, 4_000)


@pytest.mark.catalogue("B13")
async def test_what_is_pinned_guarded_or_kept_is_never_evicted(opened: Any) -> None:
    """Only the fourth goes; when nothing else is left, the put is refused and nothing was evicted in vain for it."""
    async with opened(budget_bytes=4_000, guard_ms=1) as space, opened(budget_bytes=4_000) as guarding:
        kept = await stored(space, 1_000, 1, keep=True)
        pinned = await stored(space, 1_000, 2)
        await space.pin(pinned, "1h")
        free = await stored(space, 1_000, 4, cost_s=1_000_000.0)
        guarded = await stored(guarding, 1_000, 3)
        await asyncio.sleep(0.02)

        new = await stored(guarding, 1_000, 5)
        assert await there(space, kept, pinned, guarded, free, new) == [True, True, True, False, True]
        with pytest.raises(StoreFull, match="4,000 of 4,000"):
            await stored(space, 1_000, 6)
        assert await there(space, kept, pinned, guarded, new) == [True] * 4
        await space.unpin(pinned)
        assert await there(space, await stored(space, 1_000, 6), pinned) == [True, False]


async def test_what_is_larger_than_the_budget_evicts_nothing(opened: Any) -> None:
    """No room could ever be made for it."""
    async with opened(budget_bytes=3_000, guard_ms=1) as space:
        ref = await stored(space, 1_000, 1)
        await asyncio.sleep(0.02)

        with pytest.raises(StoreFull):
            await stored(space, 3_001, 2)
        assert await there(space, ref) == [True]


async def test_what_has_expired_goes_before_anything_else(opened: Any) -> None:
    """A put into a full space does not wait for the janitor."""
    async with opened(budget_bytes=2_000, guard_ms=1, janitor_ms=3_600_000) as space:
        cheap = await stored(space, 1_000, 1)
        await space.put("y" * 1_000, ttl=0.02)
        await asyncio.sleep(0.05)

        assert await there(space, await stored(space, 1_000, 3), cheap) == [True, True]
        assert [e.raw async for e in space.events() if e.raw in ("expired", "evicted")] == ["expired"]


async def test_protected_candidates_do_not_hide_those_behind_them(opened: Any) -> None:
    """100 pinned objects of the lowest ranks stand before the one that may go."""
    async with opened(budget_bytes=11_000, guard_ms=1) as space:
        for n in range(100):
            await space.pin(await stored(space, 100, n, cost_s=0.001), "1h")
        last = await stored(space, 1_000, 1000, cost_s=1e6)
        await asyncio.sleep(0.02)

        assert await there(space, await stored(space, 1_000, 1001), last) == [True, False]


async def test_several_shards_share_one_budget(opened: Any) -> None:
    """The lowest rank of all shards goes; together they hold the budget and what was put since the last look."""
    async with opened(shards=4, budget_bytes=20_000, guard_ms=1, janitor_ms=50) as space:
        for n in range(60):
            await stored(space, 1_000, n, cost_s=1.0)
            await space.store.objects.room.measure()
            await asyncio.sleep(0.002)
        count, used = await totals(space)
        assert 15_000 <= used <= 20_000 + 1_000, count


@pytest.mark.catalogue("B13")
async def test_the_victims_are_those_of_the_algorithm(opened: Any) -> None:
    """The algorithm written out once more, over the same puts and reads, names the same victims in the same order."""
    rng = random.Random(SEED)
    budget, sizes = 20_000, [100, 300, 1_000, 2_500]
    async with opened(budget_bytes=budget, guard_ms=1, flush_ms=1) as space:
        known: dict[Ref, tuple[int, float]] = {}
        trace: list[tuple[str, Ref]] = []
        live: list[Ref] = []
        for n in range(2_000 if SOAK else 250):
            if live and rng.random() < 0.5:
                ref = rng.choice(live)
                try:
                    await space.get(ref)
                except UnknownReference:
                    live.remove(ref)
                    continue
                await space.flush()
                trace.append(("read", ref))
            else:
                size, cost = rng.choice(sizes), round(rng.uniform(0.01, 20), 3)
                await asyncio.sleep(0.003)  # beyond the guard of the last
                ref = await stored(space, size, n, cost)
                known[ref] = (size, cost)
                trace.append(("put", ref))
                live.append(ref)
        victims = [e.obj async for e in space.events() if e.raw == "evicted"]
        await totals(space)

    clock, used, evicted, expected = 0.0, 0, 0, []
    uses: dict[Ref, int] = {}
    seen: dict[Ref, int] = {}
    rank: dict[Ref, float] = {}
    for what, ref in trace:
        size, cost = known[ref]
        if what == "read":
            if evicted - seen[ref] >= used:
                uses[ref] = min(uses[ref] + 1, 4)
        else:
            while used + size > budget:
                victim = min(rank, key=lambda r: (rank[r], r))
                clock = max(clock, rank.pop(victim))
                used -= known[victim][0]
                evicted += known[victim][0]
                expected.append(victim.id)
            used += size
            uses[ref] = 1
        seen[ref] = evicted
        saved = uses[ref] * cost / size
        rank[ref] = clock + saved * math.sqrt(saved)
        clock += rank[ref] * 2**-51
    assert len(expected) > 5 and victims == expected, f"MEMGANG_SEED={SEED}"


@pytest.mark.catalogue("B6")
async def test_totals_are_exact_and_the_budget_is_kept_under_everything_at_once(opened: Any) -> None:
    """Puts, the same puts, reads, forgets, expiries, pins and evictions by several at once: sums right, budget kept."""
    budget = 30_000
    async with opened(budget_bytes=budget, guard_ms=1, janitor_ms=40) as space, opened(budget_bytes=budget, guard_ms=5) as second:
        refs: list[Ref] = []
        over = 0

        async def agent(own: Space, number: int) -> None:
            nonlocal over
            rng = random.Random(SEED * 1000 + number)
            for _ in range(400 if SOAK else 120):
                try:
                    match rng.randrange(8):
                        case 0 | 1 | 2 | 3:
                            size = rng.choice([10, 500, 2_000, 70_000 // 20])
                            refs.append(await stored(own, size, rng.randrange(60), rng.random()))
                        case 4:
                            refs.append(await own.put("t" * rng.randrange(1, 900), ttl=rng.choice([0.01, 0.05]), keep=False))
                        case 5 if refs:
                            await own.forget(rng.choice(refs))
                        case 6 if refs:
                            await own.pin(rng.choice(refs), 0.02)
                        case _ if refs:
                            await own.get(rng.choice(refs))
                except (UnknownReference, StoreFull):
                    pass
                over = max(over, int(await own.store.wire.call("HGET", own.store.keys.at(0, "u"), "bytes") or 0))

        await asyncio.gather(*(agent(own, n) for n, own in enumerate((space, second) * 6)))

        assert over <= budget, f"MEMGANG_SEED={SEED}: {over} bytes of {budget}"
        await totals(space)
        for ref in dict.fromkeys(refs):
            await space.forget(ref)
        assert await totals(space) == (0, 0)


@pytest.mark.catalogue("B6")
async def test_processes_keep_one_budget(opened: Any, space_name: str) -> None:
    """Three processes put and forget what they like; afterwards the totals are the sums, and within the budget."""
    budget = 40_000
    script = f"""
import asyncio, random, sys
import memgang
from memgang.errors import StoreFull
from tests.store.test_eviction import stored
async def main():
    rng = random.Random(int(sys.argv[1]))
    async with memgang.open(space={space_name!r}, budget_bytes={budget}, guard_ms=1) as space:
        refs = []
        for n in range({800 if SOAK else 200}):
            try:
                refs.append(await stored(space, rng.choice([100, 1500, 4000]), rng.randrange(500), rng.random()))
            except StoreFull:
                pass
            if rng.random() < 0.3:
                await space.forget(refs.pop(rng.randrange(len(refs))))
asyncio.run(main())
"""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    async with opened(budget_bytes=budget) as space:
        workers = [subprocess.Popen([sys.executable, "-c", script, str(SEED + n)], env=env, cwd=ROOT) for n in range(3)]
        try:
            for worker in workers:
                assert await asyncio.to_thread(worker.wait, 120) == 0, f"MEMGANG_SEED={SEED}"
        finally:
            for worker in workers:
                worker.kill()
        _, used = await totals(space)
        assert 0 < used <= budget


async def test_what_took_no_time_counts_a_millisecond(space: Space) -> None:
    """So that among such answers the larger goes first."""
    assert (await space.describe(await stored(space, 10, 1, cost_s=0.0))).cost_s == 0.001


async def test_known_content_is_published_on_a_server_without_memory(space: Space) -> None:
    """Its put is refused, but the object is there and the commit behind it has seen it: the caller is given the answer."""
    first = await space.recall(Call("function", "tests:known", "1", {}), ready("the same"))
    gate = Gate()
    second = asyncio.create_task(space.recall(Call("function", "tests:known", "2", {}), gate.then("the same")))
    await gate.reached()
    client = space.store.sync_client()
    try:
        client.config_set("maxmemory", 1)
        gate.open()
        assert (await second).ref == first.ref
    finally:
        client.config_set("maxmemory", 0)
        client.close()
