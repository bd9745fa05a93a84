"""The simulated GDSF is the server's: from the log of a real space it names the same victims in the same order."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from memgang.codec import encode
from memgang.eviction import Comparison, compare, from_events, replay
from memgang.eviction.gdsf import Gdsf
from memgang.eviction.lru import Lru
from memgang.eviction.plain_gdsf import PlainGdsf
from memgang.model import Call, Event, Ref
from memgang.space import Space
from memgang.store import log, scripts
from memgang.store.replies import pairs

SEED = int(os.environ.get("MEMGANG_SEED") or random.randrange(1 << 32))
BUDGET = 6_000
# The host tier may still serve what the server has just evicted; here the server alone decides.
ALONE: dict[str, Any] = dict(budget_bytes=BUDGET, guard_ms=1, flush_ms=1, host_tier="off")


async def at_work(space: Space, rounds: int) -> list[Event]:
    """Calls of different sizes and seconds, recalled and read in an order that is drawn; the log of it.

    The log is read after each step and not at the end, where what this process logs is put in order by its own estimate
    of the server's clock: on a busy machine that may be off by more than a step takes.
    """
    events: list[Event] = []
    cursor = ""

    async def seen() -> None:
        nonlocal cursor
        await space.flush()  # the server ranks a read when it is told of it
        events.extend([event async for event in space.events(cursor)])
        cursor = await log.end(space.store.wire, space.store.keys)

    rng = random.Random(SEED)
    sizes, lengths = [100, 300, 800, 1_500, 800] * 5, [0.0, 0.001, 0.003, 0.009, 0.001] * 5
    rng.shuffle(sizes)
    rng.shuffle(lengths)

    async def work(n: int) -> str:
        await asyncio.sleep(lengths[n])  # what the call costs, as the log will say
        return f"{n:04d}".ljust(sizes[n], "x")

    for _ in range(rounds):
        n = min(int(rng.expovariate(1 / 8)), 24)
        found = await space.recall(Call("function", "tests:sized", str(n), {}), lambda n=n: work(n))  # type: ignore[misc]
        await seen()
        if rng.random() < 0.4:
            await space.get(found.ref)
            await seen()
        await asyncio.sleep(0.003)  # beyond the guard of 1 ms: the server's clock decides, and no event tells of it
    return events


async def test_the_same_log_gives_the_same_victims(opened: Any) -> None:
    """The server evicted; the simulator, told only what was asked, evicts the same."""
    async with opened(**ALONE) as space:
        events = await at_work(space, 150)
    of_the_server = [event.obj for event in events if event.raw == "evicted"]
    history = from_events(events, "space")

    victims: list[str] = []
    found = replay(history, Gdsf(BUDGET), victims)

    assert len(of_the_server) > 10 and victims == of_the_server, f"MEMGANG_SEED={SEED}"
    assert found.misses == sum(event.raw == "committed" for event in events), f"MEMGANG_SEED={SEED}"
    others: list[str] = []
    replay(history, Lru(BUDGET), others)
    assert others != of_the_server, "the log tells no policy from another"


async def test_a_larger_memory_on_paper_answers_what_the_server_computed_again(opened: Any) -> None:
    """With room for all, every call is computed once."""
    async with opened(**ALONE) as space:
        events = await at_work(space, 80)

    found: Comparison = compare(from_events(events, "space"), [1_000_000, BUDGET], [Gdsf, PlainGdsf])

    calls = {event.call for event in events if event.raw == "committed"}
    assert {o.misses for o in found.rows[0].outcomes} == {len(calls)} == {found.unlimited.misses}, f"MEMGANG_SEED={SEED}"
    assert found.rows[1].outcomes[0].misses > len(calls)


async def test_any_sequence_gives_the_same_ranks_to_the_last_bit(opened: Any) -> None:
    """Puts, puts of known content, reads in batches, forgets and evictions, drawn: the same victims, ranks, uses and clock as on paper."""
    rng = random.Random(SEED)
    policy, victims = Gdsf(BUDGET), list[str]()
    async with opened(**ALONE) as space:
        store = space.store
        keys, made = store.keys, list[tuple[Ref, str, float]]()

        async def put(value: str, cost: float) -> Ref:
            await asyncio.sleep(0.002)  # beyond the guard of 1 ms
            return await store.objects.put(encode(value, None), space.context, cost_s=cost, keep=False)

        for number in range(500):
            here = [one for one in made if one[0].id in policy]
            chance = rng.random()
            if here and chance < 0.45:  # a batch, in which some are read several times
                reads = {ref: rng.choice((1, 1, 5)) for ref, _, _ in rng.sample(here, min(len(here), rng.randrange(1, 4)))}
                assert await scripts.touch(store.wire, keys, 0, who="t/t", contexts=b"{}", inc="test", number=number + 1, events=b"",
                                           counters={}, reads=reads)
                for ref in reads:
                    policy.use(ref.id)
            elif here and chance < 0.5:
                ref = rng.choice(here)[0]
                await space.forget(ref)
                policy.drop(ref.id)
            elif here and chance < 0.6:
                ref, value, cost = rng.choice(here)
                assert await put(value, cost / 2) == ref
                policy.put(ref.id, len(value), cost / 2)
            else:
                value, cost = f"{number:04d}".ljust(rng.choice((100, 300, 800, 1500)), "x"), 10 ** rng.uniform(-3, 2)
                ref = await put(value, cost)
                victims += policy.put(ref.id, len(value), cost)
                made.append((ref, value, cost))
        gone = [event.obj async for event in space.events() if event.raw == "evicted"]
        ranks = dict(pairs(await store.wire.call("ZRANGE", keys.at(0, "r"), 0, -1, "WITHSCORES")))
        clock, evicted = await store.wire.call("HMGET", keys.at(0, "u"), "clock", "evicted_bytes")
        uses = {ref.id: await store.wire.call("HGET", keys.record(ref), "uses") for ref, _, _ in made if ref.id in policy}

    assert len(gone) > 50 and gone == victims, f"MEMGANG_SEED={SEED}"
    assert {ident.decode(): float(rank) for ident, rank in ranks.items()} == {key: rank for key, (rank, _) in policy._ranks._now.items()}
    assert (float(clock), int(evicted)) == (policy.clock, policy._evicted), f"MEMGANG_SEED={SEED}"
    assert {ident: int(count or 1) for ident, count in uses.items()} == policy._uses, f"MEMGANG_SEED={SEED}"
    assert max(policy._uses.values()) > 1, f"MEMGANG_SEED={SEED}: nothing was used apart"
