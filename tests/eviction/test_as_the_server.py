"""The simulated GDSF is the server's: from the log of a real space it names the same victims in the same order."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from memgang.eviction import Comparison, compare, from_events, replay
from memgang.eviction.gdsf import Gdsf
from memgang.eviction.lru import Lru
from memgang.eviction.spaced import SpacedGdsf
from memgang.model import Call, Event
from memgang.space import Space
from memgang.store import log

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

    found: Comparison = compare(from_events(events, "space"), [1_000_000, BUDGET], [Gdsf, SpacedGdsf])

    calls = {event.call for event in events if event.raw == "committed"}
    assert {o.misses for o in found.rows[0].outcomes} == {len(calls)} == {found.unlimited.misses}, f"MEMGANG_SEED={SEED}"
    assert found.rows[1].outcomes[0].misses > len(calls)
