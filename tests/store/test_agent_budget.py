"""What each agent may have in a space: counted for who was first to write, made room for among its own, refused with its figures."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.store.test_eviction import SEED, SOAK, there

from memgang.codec import encode
from memgang.errors import StoreFull, UnknownReference
from memgang.model import Ref
from memgang.space import Space
from memgang.store import share
from memgang.store.room import swept


async def written(space: Space, size: int, number: int, cost_s: float = 1.0, keep: bool = False) -> Ref:
    """An object of exactly so many bytes, put as an answer is, by whoever acts; the guard of the last is over."""
    await asyncio.sleep(0.003)
    value = f"{number:08d}".ljust(size, "x")[:size]
    return await space.store.objects.put(encode(value, None), space.context, cost_s=cost_s, keep=keep)


async def owned(space: Space) -> dict[str, int]:
    """Bytes by agent, checked against the records, whose first writer it is, and against the totals."""
    summed: dict[str, int] = {}
    for found in (await space.find(limit=1_000_000)).objects:
        if found.size:
            summed[found.writers[0]] = summed.get(found.writers[0], 0) + found.size
    told = await space.bytes_by_agent()
    assert told == summed, f"MEMGANG_SEED={SEED}"
    assert sum(told.values()) == (await space.stats()).get("bytes", 0), f"MEMGANG_SEED={SEED}"
    return {who.partition("/")[2]: held for who, held in told.items()}


async def test_an_agent_at_its_limit_makes_room_among_its_own(opened: Any) -> None:
    """What it has that is cheapest to compute again goes; what others have, cheaper still, stays."""
    limit = dict(agent_budget_bytes=3_000, guard_ms=1)
    async with opened(**limit, agent="one") as one, opened(**limit, agent="two") as two:
        others = [await written(two, 1_000, n, cost_s=0.01) for n in range(3)]
        dear, cheap, middle = [await written(one, 1_000, 10 + n, cost_s=cost) for n, cost in enumerate((9.0, 1.0, 3.0))]

        new = await written(one, 1_000, 20, cost_s=2.0)

        assert await there(one, *others, dear, cheap, middle, new) == [True, True, True, True, False, True, True]
        assert [(e.obj, e.who) async for e in one.events() if e.raw == "evicted"] == [(cheap.id, "janitor/eviction")]
        assert await owned(one) == {"one": 3_000, "two": 3_000}


async def test_who_can_make_no_room_is_told_its_own_figures(opened: Any) -> None:
    """Kept and pinned objects count and stay; what is larger than the share evicts nothing; the error names agent, figures and setting."""
    async with opened(agent_budget_bytes=3_000, guard_ms=1, agent="one") as space, opened(guard_ms=1, agent="two") as free:
        kept, pinned = await written(space, 1_000, 1, keep=True), await written(space, 1_000, 2)
        await space.pin(pinned, "1h")
        loose = await written(space, 900, 3)
        for n in range(100, 105):
            await written(free, 1_000, n)  # who sets no limit has none

        with pytest.raises(StoreFull, match=r"no room for 3,001 bytes: agent \S+/one has 2,900 of the 3,000 bytes") as told:
            await written(space, 3_001, 4)
        assert "agent_budget_bytes" in told.value.hint and told.value.agent.endswith("/one")
        assert await there(space, loose) == [True]
        await written(space, 1_000, 5)
        with pytest.raises(StoreFull, match=r"agent \S+/one has 2,000 of the 3,000 bytes"):
            await written(space, 1_001, 6)  # all that may go has gone
        assert await there(space, kept, pinned, loose) == [True, True, False]
        assert await owned(space) == {"one": 2_000, "two": 5_000}


async def test_known_content_is_charged_to_who_wrote_it_first(opened: Any) -> None:
    """A second writer takes nothing of its share, and gives nothing back when it goes."""
    async with opened(agent_budget_bytes=2_000, agent="one") as one, opened(agent_budget_bytes=2_000, agent="two") as two:
        refs = [await written(one, 1_000, n) for n in range(2)]
        assert [await written(two, 1_000, n) for n in range(2)] == refs
        mine = await written(two, 2_000, 9)
        assert await owned(one) == {"one": 2_000, "two": 2_000}

        await two.forget(refs[0])
        assert await owned(one) == {"one": 1_000, "two": 2_000}
        await one.forget(refs[1])
        await one.forget(mine)
        assert await owned(one) == {}


async def test_workers_of_a_process_have_shares_of_their_own(opened: Any) -> None:
    """An agent is a whole name, not a process."""
    async with opened(agent_budget_bytes=1_000, guard_ms=1, agent="both") as space:
        for name in ("a", "b"):
            with space.acting_as(name):
                first, second = await written(space, 600, ord(name)), await written(space, 600, ord(name) + 10)
                assert await there(space, first, second) == [False, True]
        assert await owned(space) == {"a": 600, "b": 600}


async def test_what_stands_before_its_own_is_passed_over_for_so_long(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 cheaper objects of another are more than a page; with no more looks than a page it is told that it is full."""
    async with opened(guard_ms=1, agent="many") as many, opened(agent_budget_bytes=1_000, guard_ms=1, agent="one") as one:
        for n in range(300):
            await many.store.objects.put(encode(f"{n:010d}", None), many.context, cost_s=0.001, keep=False)
        first = await written(one, 1_000, 1, cost_s=100.0)
        monkeypatch.setattr(share, "LOOKED_MAX", share.PAGE)
        with pytest.raises(StoreFull):
            await written(one, 1_000, 2)
        monkeypatch.undo()

        second = await written(one, 1_000, 3)
        assert await there(one, first, second) == [False, True]
        assert await owned(one) == {"many": 3_000, "one": 1_000}


async def test_room_is_made_over_many_pages_at_once(opened: Any) -> None:
    """600 small objects make room for one: those that went do not move the others out of sight."""
    async with opened(agent_budget_bytes=6_000, guard_ms=1, agent="one") as space:
        for n in range(600):
            await space.store.objects.put(encode(f"{n:010d}", None), space.context, cost_s=1.0, keep=False)
        await asyncio.sleep(0.003)
        mine = space.store.objects.shares.of(space.context.who)
        assert await mine.make(6_000, Ref("mg:" + "a" * 32), 6_000) and await mine.measure() == 0


async def test_an_eviction_of_one_agent_hardly_makes_old_what_others_have(opened: Any) -> None:
    """The clock follows the victim by the share of the space that the agent has: a tenth, of what would make all others equal."""
    async with opened(guard_ms=1, agent="many") as many, opened(agent_budget_bytes=1_000, guard_ms=1, agent="one") as one:
        await written(many, 9_000, 1)
        await written(one, 1_000, 2, cost_s=50.0)
        before, rank = float(await clock(one)), (50.0 / 1_000) ** 1.5
        await written(one, 1_000, 3)
        assert rank * 0.099 < float(await clock(one)) - before < rank * 0.101


async def clock(space: Space) -> bytes:
    """The clock of a space of one shard."""
    return await space.store.wire.call("HGET", space.store.keys.at(0, "u"), "clock")  # type: ignore[no-any-return]


async def test_several_shards_share_what_an_agent_may_have(opened: Any) -> None:
    """Its lowest rank of all shards goes; together they hold its share."""
    async with opened(shards=4, agent_budget_bytes=20_000, guard_ms=1, janitor_ms=50, agent="one") as space:
        for n in range(60):
            await written(space, 1_000, n)
        held = await owned(space)
        assert 15_000 <= held["one"] <= 21_000
        again = await space.store.objects.shares.of(space.context.who).measure()
        assert again == held["one"]


async def test_objects_of_before_are_counted_from_their_next_use_on(opened: Any) -> None:
    """A record without `seen` is in nobody's sum, and its end takes nothing off; a read or put counts it once; many reads are four uses."""
    async with opened(guard_ms=1, flush_ms=1, agent="one", host_tier="off") as space:
        store = space.store
        refs = [await written(space, 1_000, n) for n in range(4)]
        for ref in refs:  # as version 0.1 left them
            await store.wire.call("HDEL", store.keys.record(ref), "seen", "uses")
            await store.wire.call("HSET", store.keys.record(ref), "freq", 900)
        await store.wire.call("HDEL", store.keys.at(0, "u"), "b:" + space.context.who)

        await space.forget(refs[0])
        assert await space.bytes_by_agent() == {}
        for _ in range(2):
            await space.get(refs[1])
            await space.flush()
            assert await written(space, 1_000, 2) == refs[2]
        assert await space.bytes_by_agent() == {space.context.who: 2_000}
        ranks = [float(await store.wire.call("ZSCORE", store.keys.at(0, "r"), ref.id)) for ref in refs[1:]]
        assert ranks[0] == pytest.approx(8 * 1e-3 ** 1.5, rel=0.01) == ranks[1]
        for ref in refs[1:3]:
            await space.forget(ref)
        assert await space.bytes_by_agent() == {}
        await written(space, 1_000, 3)
        assert await owned(space) == {"one": 1_000}


@pytest.mark.catalogue("B6")
async def test_sums_by_agent_are_exact_under_everything_at_once(opened: Any) -> None:
    """Puts, the same puts, reads, forgets, expiries, pins and evictions by five agents: each within its share, each sum right."""
    limit = dict(agent_budget_bytes=8_000, budget_bytes=30_000, janitor_ms=40, guard_ms=1)
    async with opened(**limit, agent="one") as space, opened(**limit, agent="two") as second:
        refs: list[Ref] = []

        async def at_work(own: Space, number: int) -> None:
            rng = random.Random(SEED * 1000 + number)
            with own.acting_as(f"a{number % 5}"):
                for _ in range(300 if SOAK else 80):
                    try:
                        match rng.randrange(8):
                            case 0 | 1 | 2 | 3:
                                refs.append(await written(own, rng.choice([0, 500, 2_000, 3_500]), rng.randrange(60), rng.random()))
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

        await asyncio.gather(*(at_work(own, n) for n, own in enumerate((space, second) * 5)))

        while await space.store.wire.call("ZCARD", space.store.keys.at(0, "x")):
            await swept(space.store.wire, space.store.keys)  # what has expired is in no listing, and in the totals until it goes
        assert all(held <= 8_000 for held in (await owned(space)).values()), f"MEMGANG_SEED={SEED}"
        assert [e async for e in space.events() if e.raw == "evicted"]
        for ref in dict.fromkeys(refs):
            await space.forget(ref)
        assert await owned(space) == {}
