"""A space is made smaller on request: what a dry run names goes, in that order, and what is protected stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.store.test_eviction import stored, totals

from memgang.errors import ConfigError
from memgang.model import Ref
from memgang.space import Space
from memgang.store.shrink import shrink


async def filled(space: Space, count: int) -> list[Ref]:
    """Objects of 1,000 bytes, the dearest first, all beyond their guard."""
    refs = [await stored(space, 1_000, n, cost_s=float(count - n)) for n in range(count)]
    await asyncio.sleep(0.02)
    return refs


async def test_a_dry_run_names_what_then_goes_in_order(opened: Any) -> None:
    """Nothing goes before; the cheapest goes first; the totals are right afterwards."""
    async with opened(guard_ms=1) as space:
        refs = await filled(space, 10)

        planned = await shrink(space.store, 6_500, dry_run=True)
        assert await totals(space) == (10, 10_000)
        assert [g.ref for g in planned.going] == refs[:5:-1] and planned.bytes_after == 6_000 and planned.reached
        assert [(g.seconds, g.uses, g.why) for g in planned.going[:2]] == [(1.0, 1, "rank"), (2.0, 1, "rank")]

        done = await shrink(space.store, 6_500)
        assert [g.ref for g in done.going] == [g.ref for g in planned.going]
        assert (done.bytes_before, done.bytes_after, done.dry_run) == (10_000, 6_000, False)
        assert await totals(space) == (6, 6_000)
        assert [e.obj async for e in space.events() if e.raw == "evicted"] == [g.ref.id for g in planned.going]
        assert (await shrink(space.store, 6_500)).going == ()


async def test_what_is_protected_stays_and_is_told(opened: Any) -> None:
    """Down to nothing: kept and pinned objects are what is left."""
    async with opened(guard_ms=1) as space:
        refs = await filled(space, 4)
        kept = await stored(space, 500, 100, keep=True)
        await space.pin(refs[3], "1h")

        planned, done = await shrink(space.store, 0, dry_run=True), await shrink(space.store, 0)

        assert planned.protected == 1 and not done.reached
        assert {g.ref for g in planned.going} == {g.ref for g in done.going} == set(refs[:3])
        assert planned.bytes_after == done.bytes_after == 1_500
        assert [r is not None for r in await space.describe_many([kept, refs[3]])] == [True, True]


async def test_down_to_nothing_is_down_to_nothing(opened: Any) -> None:
    """The last byte goes too."""
    async with opened(guard_ms=1) as space:
        await stored(space, 1, 0)
        await asyncio.sleep(0.02)

        assert (await shrink(space.store, 0)).reached and await totals(space) == (0, 0)


async def test_what_has_expired_goes_first(opened: Any) -> None:
    """As when a put needs room."""
    async with opened(guard_ms=1, janitor_ms=3_600_000) as space:
        refs = await filled(space, 2)
        old = await space.put("y" * 1_000, ttl=0.02, keep=False)  # it has a rank too, and is counted once
        await asyncio.sleep(0.05)

        planned, done = await shrink(space.store, 1_500, dry_run=True), await shrink(space.store, 1_500)

        expected = [(old, "expired"), (refs[1], "rank")]
        assert [(g.ref, g.why) for g in planned.going] == expected == [(g.ref, g.why) for g in done.going]
        assert [r is not None for r in await space.describe_many(refs)] == [True, False]


async def test_over_several_shards_the_dry_run_goes_the_same_way(opened: Any) -> None:
    """Batch by batch, each from the shard with the lowest rank, as puts make room."""
    async with opened(shards=4, guard_ms=1) as space:
        await filled(space, 160)

        planned, done = await shrink(space.store, 50_000, dry_run=True), await shrink(space.store, 50_000)

        assert sorted(g.ref for g in planned.going) == sorted(g.ref for g in done.going)
        assert done.bytes_after == planned.bytes_after == 50_000 and await totals(space) == (50, 50_000)
        assert planned.going[0].seconds == 1.0


async def test_a_space_without_a_budget_needs_a_target(opened: Any) -> None:
    """And a target is no less than nothing."""
    async with opened() as space:
        with pytest.raises(ConfigError, match="no budget"):
            await shrink(space.store, None)
        with pytest.raises(ConfigError, match="-1 bytes are no target"):
            await shrink(space.store, -1)
    async with opened(budget_bytes=5_000) as space:
        assert (await shrink(space.store, None)).target_bytes == 5_000
