"""What is got or put at the same time travels together, and one of them takes nothing from the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.gates import raws

import memgang
from memgang.errors import CodecError, StoreFull, StoreUnavailable, TooLarge, UnknownReference
from memgang.model import Ref
from memgang.space import Space
from memgang.store import gets, puts, scripts

Opened = Callable[..., Any]
AWAY = Ref("mg:" + "a" * 32)


@contextmanager
def scripts_sent(space: Space) -> Iterator[Counter[str]]:
    """The scripts that are sent meanwhile, by name. Others may be sent too, by who keeps house."""
    names = {sha: name for name, (_, sha) in scripts._sources().items()}
    sent, call = Counter[str](), space.store.wire.call

    def counted(*command: Any) -> asyncio.Future[Any]:
        sent[names.get(command[1], command[0]) if len(command) > 1 else command[0]] += 1
        return call(*command)

    space.store.wire.call = counted  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        del space.store.wire.call


async def forgotten_scripts(space: Space) -> None:
    """The server no longer knows any script."""
    await space.store.wire.call("SCRIPT", "FLUSH", "SYNC")


# ── gets ─────────────────────────────────────────────────────────────────────────────────────────


async def test_gets_that_wait_together_are_one_script_for_each_few_dozen(opened: Opened) -> None:
    """Each caller has its own value."""
    async with opened(host_tier="off", flush_ms=60_000) as space:
        refs = await space.put_many([f"text {i}" for i in range(60)])
        with scripts_sent(space) as sent:
            found = await asyncio.gather(*(space.get(ref) for ref in refs))
        assert sent["get"] == -(-60 // gets.MOST)
        assert found == [f"text {i}" for i in range(60)]


async def test_who_asks_the_same_while_it_waits_shares_the_reply_and_who_leaves_takes_nothing(opened: Opened) -> None:
    """Also where it is the first of them that leaves."""
    async with opened(host_tier="off", flush_ms=60_000) as space:
        ref = await space.put("shared")
        with scripts_sent(space) as sent:
            asking = [asyncio.ensure_future(space.get(ref)) for _ in range(8)]
            await asyncio.sleep(0)  # all have asked, and nothing was sent
            asking[0].cancel()
            assert await asyncio.gather(*asking[1:]) == ["shared"] * 7
        assert sent["get"] == 1 and asking[0].cancelled()


async def test_who_asks_after_it_was_sent_is_told_of_a_later_state(opened: Opened) -> None:
    """A read on its way is from before the question."""
    async with opened(host_tier="off", flush_ms=60_000) as space:
        ref = await space.put("old")
        asks = space.store.objects._gets
        with scripts_sent(space) as sent:
            first = asks.ask(ref)
            while not sent["get"]:
                await asyncio.sleep(0)
            assert not first.done()  # on its way
            await asyncio.gather(first, asks.ask(ref))
        assert sent["get"] == 2


async def test_what_another_program_has_written_over_is_refused_alone(opened: Opened) -> None:
    """The script cannot read one of the records; the others come all the same."""
    async with opened(host_tier="off") as space:
        refs = await space.put_many([f"text {i}" for i in range(9)])
        record = space.store.keys.record(refs[4])
        await space.store.wire.call("DEL", record)
        await space.store.wire.call("SET", record, "not a hash")
        found = await asyncio.gather(*(space.get(ref) for ref in [*refs, AWAY]), return_exceptions=True)
        assert [f for i, f in enumerate(found) if i not in (4, 9)] == [f"text {i}" for i in range(9) if i != 4]
        assert isinstance(found[4], StoreUnavailable) and isinstance(found[9], UnknownReference)


async def test_a_reply_is_no_longer_than_its_bound_and_the_rest_comes_after(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than the bound itself is fetched piece by piece."""
    monkeypatch.setattr(gets, "BYTES", 3_000)
    async with opened(host_tier="off", flush_ms=60_000) as space:
        values = [bytes([i]) * 1_000 for i in range(7)] + [b"large" * 2_000]
        refs = [await space.put(value) for value in values]
        with scripts_sent(space) as sent:
            assert await asyncio.gather(*(space.get(ref) for ref in refs)) == values
        assert sent["get"] == 3


@pytest.mark.parametrize("shards", [1, 7])
async def test_a_server_that_has_forgotten_its_scripts_is_given_them_again(opened: Opened, shards: int) -> None:
    """Gets and puts of many, in one shard and in several."""
    async with opened(host_tier="off", shards=shards) as space:
        await forgotten_scripts(space)
        refs = await space.put_many([f"text {i}" for i in range(40)])
        await forgotten_scripts(space)
        assert await asyncio.gather(*(space.get(ref) for ref in refs)) == [f"text {i}" for i in range(40)]
        assert await space.get_many(refs) == [f"text {i}" for i in range(40)]


async def test_of_many_reads_those_that_are_there_are_logged_though_one_is_not(space: Space) -> None:
    """The refusal names the one."""
    refs = await space.put_many([f"text {i}" for i in range(3)])
    with pytest.raises(UnknownReference, match=AWAY[:13]):
        await space.get_many([*refs, AWAY])
    words = Counter(await raws(space))
    assert (words["read"], words["refused"]) == (3, 1)


# ── puts ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keep", [True, False])
async def test_many_puts_leave_what_one_put_each_would_have_left(opened: Opened, space_name: str, keep: bool) -> None:
    """Records, totals, indexes and events."""
    values = [f"text {i}" * i for i in range(70)]
    said: dict[str, Any] = dict(ttl="1h", tags=("a", "b"), kind="note", keep=keep)
    places = [i / 100 if i % 2 else None for i in range(70)]
    seen = []
    for name in ("one", "many"):
        async with memgang.open(space=f"{space_name}-{name}", agent="tester") as space:
            parent = await space.put("parent")
            if name == "one":
                refs = [await space.put(v, pos=p, parents=[parent], **said) for v, p in zip(values, places, strict=True)]
            else:
                with scripts_sent(space) as sent:
                    refs = await space.put_many(values, pos=places, parents=[parent], **said)
                assert sent["put_many"] == sent["EXISTS"] == -(-70 // puts.MOST) and not sent["put"]
            records = await space.describe_many(refs)
            keys, call = space.store.keys, space.store.wire.call
            fields = [dict(zip(f[::2], f[1::2], strict=True)) for f in [await call("HGETALL", keys.record(r)) for r in refs]]
            for each in fields:
                for instant in (b"op", b"at", b"expires", b"guard"):
                    assert each.pop(instant)
            ranks = await call("ZCARD", keys.at(0, "r"))
            ends = await call("ZCARD", keys.at(0, "x"))
            events = [(e.raw, e.obj, e.bytes, e.kind, e.pos, e.src, e.known) async for e in space.events()]
            totals = {k: v for k, v in (await space.stats()).items() if k != "overhead_us"}
            assert all(r is not None and r.expires for r in records)
            seen.append((refs, fields, ranks, ends, sorted(events, key=str), totals, await space.get_many(refs)))
            await space.erase()
    assert seen[0] == seen[1]


async def test_what_is_known_already_and_what_comes_twice_is_put_as_known(space: Space) -> None:
    """It gains a writer, and its event says so."""
    with space.acting_as(agent="first"):
        known = await space.put("known")
    refs = await space.put_many(["new", "known", "twice", "twice"])
    assert refs[1] == known and refs[2] == refs[3]
    assert [w.rpartition("/")[2] for w in (await space.describe(known)).writers] == ["first", "tester"]
    told = Counter([(e.obj, e.known) async for e in space.events() if e.raw == "put"])
    assert told == {(known.id, False): 1, (known.id, True): 1, (refs[0].id, False): 1, (refs[2].id, False): 1, (refs[2].id, True): 1}
    assert (await space.stats())["count"] == 3


async def test_one_that_is_refused_takes_no_other_with_it(opened: Opened) -> None:
    """All that can be stored are; then the first refusal is raised, and each is in the log."""
    async with opened(body_bytes_max=1_000) as space:
        with pytest.raises(CodecError):
            await space.put_many(["one", object(), "x" * 2_000, "two"])
        with pytest.raises(TooLarge):
            await space.put_many(["three", "x" * 2_000])
        assert (await space.stats())["count"] == 3
        assert Counter(await raws(space))["refused"] == 2


async def test_many_puts_keep_to_the_budget_and_make_room_as_one_does(opened: Opened) -> None:
    """What fits is stored, what must give way does, and who finds no room is told."""
    async with opened(budget_bytes=10_000, guard_ms=1) as space:
        await space.put_many([f"{i:04}" + "k" * 996 for i in range(8)], keep=True)
        with pytest.raises(StoreFull):
            await space.put_many([f"{i:04}" + "l" * 996 for i in range(10, 15)], keep=True)
        totals = await space.stats()
        assert (totals["count"], totals["bytes"]) == (10, 10_000)


async def test_a_key_of_another_program_refuses_one_of_many_puts(space: Space) -> None:
    """The script stops before its first write; then each is put by itself."""
    refs = await space.put_many([f"text {i}" for i in range(5)])
    record = space.store.keys.record(refs[2])
    for ref in refs:
        await space.forget(ref)
    await space.store.wire.call("SET", record, "not a hash")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE|wrong kind"):
        await space.put_many([f"text {i}" for i in range(5)])
    assert (await space.stats())["count"] == 4
    assert Counter(await raws(space))["put"] == 5 + 4


@pytest.mark.parametrize("shards", [1, 5])
async def test_what_was_made_of_something_forgotten_is_taken_back_from_many_puts(opened: Opened, shards: int) -> None:
    """As from one: the cascade has passed, and will not look again."""
    async with opened(shards=shards) as space:
        part, other = await space.put("part"), await space.put("other")
        await space.forget(part, cascade=True)
        with pytest.raises(UnknownReference, match=part):
            await space.put_many([f"made of it {i}" for i in range(40)], parents=[part, other])
        assert (await space.stats())["count"] == 1
        assert len(await space.put_many([f"made of the other {i}" for i in range(40)], parents=[other])) == 40


async def test_many_parents_and_large_bodies_go_one_by_one(opened: Opened) -> None:
    """And come out as any."""
    async with opened(inline_bytes_max=1_000) as space:
        parents = await space.put_many([f"part {i}" for i in range(70)])
        refs = await space.put_many(["small", "x" * 5_000], parents=parents)
        assert await space.get_many(refs) == ["small", "x" * 5_000]
        assert len((await space.describe(refs[0])).parents) == 64
