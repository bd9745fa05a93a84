"""The verbs of a space, on a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memgang.errors import ConfigError, Conflict, IntegrityError, StoreFull, TooLarge, UnknownReference
from memgang.model import Ref
from memgang.space import Space
from tests.gates import until


@dataclasses.dataclass
class Finding:
    what: str
    score: float


async def test_what_was_put_is_what_is_got(space: Space) -> None:
    """Every kind of value comes back equal, in one batch."""
    values: list[Any] = ["", "text", b"", b"\x00\xff", None, 1, 1.0, True, {"a": [1, {"b": None}]}, Finding("x", 0.5)]
    refs = await space.put_many(values)
    back = await space.get_many(refs)
    assert back == values
    assert [type(v) for v in back] == [type(v) for v in values]
    assert len(set(refs)) == len(values)  # 1, 1.0 and True, '' and b'' are different objects


async def test_arrays_and_tables_come_back(space: Space) -> None:
    """NumPy arrays and Arrow tables keep type and shape; arrays are read-only."""
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    back = await space.get(await space.put(array))
    assert back.dtype == array.dtype and (back == array).all() and not back.flags.writeable
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    assert (await space.get(await space.put(table))).equals(table)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, 40 << 20])
@pytest.mark.catalogue("C4")
async def test_bodies_of_all_sizes_round_trip(space: Space, size: int) -> None:
    """Inline, laid and laid in parts: the borders and both sides of them."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    ref = await space.put(body)
    assert await space.get(ref) == body
    assert (await space.describe(ref)).size == size


async def test_a_body_over_the_limit_is_refused_with_the_numbers(opened: Callable[..., Any]) -> None:
    """TooLarge names size and limit, nothing is written, and the refusal is in the log."""
    async with opened(body_bytes_max=1000, inline_bytes_max=100) as space:
        with pytest.raises(TooLarge, match=r"1,001 bytes; the limit is 1,000"):
            await space.put(b"x" * 1001)
        assert (await space.stats()).get("count", 0) == 0
        assert [e.text async for e in space.events() if e.raw == "refused"] == ["TooLarge"]


async def test_a_full_space_refuses_and_keeps_what_it_has(opened: Callable[..., Any]) -> None:
    """Over its budget a put is StoreFull; what is there stays, known content is still welcome."""
    async with opened(budget_bytes=100) as space:
        first = await space.put(b"x" * 90)
        with pytest.raises(StoreFull, match="90 of 100 bytes"):
            await space.put(b"y" * 20)
        assert await space.put(b"x" * 90) == first
        assert await space.get(first) == b"x" * 90


async def test_same_content_from_two_agents_is_one_object_with_two_writers(opened: Callable[..., Any]) -> None:
    """One reference, one body, both names on it."""
    async with opened(agent="ann") as ann, opened(agent="bob") as bob:
        ref = await ann.put("the same")
        assert await bob.put("the same") == ref
        found = await ann.describe(ref)
        assert [w.rpartition("/")[2] for w in found.writers] == ["ann", "bob"]
        assert (await ann.stats())["count"] == 1
        writes = [e.known async for e in ann.events() if e.raw == "put"]
        assert writes == [False, True]


async def test_an_expired_object_is_never_served_and_its_end_is_in_the_log(space: Space) -> None:
    """The server's clock decides; the reader who finds it expired is told so, and so is the log."""
    ref = await space.put("short", ttl=0.05)

    async def gone() -> bool:
        try:
            await space.get(ref)
        except UnknownReference:
            return True
        return False

    await until(gone)
    assert [e.obj for e in [e async for e in space.events()] if e.raw == "expired"] == [ref.id]
    assert await space.describe_many([ref]) == [None]
    assert (await space.find()).objects == []


async def test_the_longer_life_wins(space: Space) -> None:
    """Put again without a time to live, an object stays for ever."""
    ref = await space.put("x", ttl="1h")
    assert (await space.describe(ref)).expires > 0
    await space.put("x")
    assert (await space.describe(ref)).expires == 0


async def test_forgotten_is_gone(space: Space) -> None:
    """No read after forget, the totals go down, and forgetting twice says it was not there."""
    ref = await space.put("secret")
    assert await space.forget(ref, "asked to")
    with pytest.raises(UnknownReference):
        await space.get(ref)
    assert not await space.forget(ref)
    assert (await space.stats())["bytes"] == 0


async def test_an_empty_object_can_be_forgotten(space: Space) -> None:
    """Its size is taken from the totals like any other; Redis 7.0 refuses to add minus zero."""
    ref = await space.put("")

    assert await space.forget(ref)
    assert (await space.stats())["bytes"] == 0


async def test_pins_are_shown_and_end(space: Space) -> None:
    """A pin names its holder until it is taken away; there is no pin on nothing."""
    ref = await space.put("x")
    await space.pin(ref, "1h", holder="ann")
    assert (await space.describe(ref)).pins == ("@ann",)
    await space.unpin(ref, holder="ann")
    assert (await space.describe(ref)).pins == ()
    await space.forget(ref)
    with pytest.raises(UnknownReference):
        await space.pin(ref)


async def test_a_name_moves_only_from_the_version_seen(space: Space) -> None:
    """Compare-and-set: 0 is new, a wrong version is Conflict with both versions, None takes it away."""
    one, two = await space.put_many(["one", "two"])
    first = await space.set_name("notes/audit", one, expect=0)
    with pytest.raises(Conflict) as caught:
        await space.set_name("notes/audit", two, expect=0)
    assert (caught.value.expected, caught.value.version, caught.value.ref) == (0, first, one)
    second = await space.set_name("notes/audit", two, expect=first)
    assert second > first and await space.get("notes/audit") == "two"
    await space.set_name("notes/audit", None, expect=second)
    with pytest.raises(UnknownReference):
        await space.get("notes/audit")
    assert [v.ref for v in await space.history("notes/audit")] == [None, two, one]
    assert await space.names() == {}


async def test_a_name_cannot_point_at_nothing(space: Space) -> None:
    """Object before name."""
    with pytest.raises(UnknownReference):
        await space.set_name("x", Ref("mg:" + "a" * 32))


@pytest.mark.parametrize("name", ["", "a b", "../x", "a//b", "a/./b", "a" * 65, "{x}", "a*", "a\nb", "ü", "/".join("abcdefghi")])
@pytest.mark.catalogue("C7")
async def test_names_outside_the_pattern_are_refused(space: Space, name: str) -> None:
    """Nothing that a key pattern or a path could misread."""
    with pytest.raises(ConfigError):
        await space.put("x", name=name)


async def test_a_prefix_resolves_when_it_is_unique(space: Space) -> None:
    """Eight characters are enough; fewer, or none that fit, are refused with the reason."""
    ref = await space.put("x")
    assert await space.resolve(ref[:11]) == ref
    with pytest.raises(UnknownReference, match="at least 8"):
        await space.resolve(ref[:10])
    with pytest.raises(UnknownReference):
        await space.resolve("mg:" + "a" * 12)
    with pytest.raises(UnknownReference, match="no object has this name"):
        await space.resolve("nothing")


async def test_find_filters_and_goes_on_where_it_stopped(space: Space) -> None:
    """The newest first, page by page without a gap or a double, also for objects of one millisecond."""
    refs = await space.put_many([f"v{i}" for i in range(25)], tags=["t"], kind="fact")
    await space.put("other")
    seen, cursor = [], ""
    while True:
        page = await space.find(tag="t", limit=4, cursor=cursor)
        seen += [o.ref for o in page.objects]
        if not (cursor := page.cursor):
            break
    assert sorted(seen) == sorted(refs) and len(seen) == 25
    assert len((await space.find(kind="fact", agent="tester", media_type="text/plain")).objects) == 25
    assert (await space.find(agent="nobody")).objects == []


async def test_bytes_that_are_not_their_id_are_never_handed_out(opened: Callable[..., Any]) -> None:
    """A changed byte in the server is an IntegrityError, not another value."""
    async with opened(host_tier="off") as writer, opened(host_tier="off") as reader:
        ref = await writer.put("hello")
        store = writer.store
        await store.wire.call("SET", store.keys.body(ref), b"jello")
        with pytest.raises(IntegrityError):
            await reader.get(ref)


async def test_every_write_and_read_is_one_event(space: Space) -> None:
    """put, get, name, pin, forget: one line each, with who and what."""
    ref = await space.put("x", kind="fact", pos=0.25)
    await space.get(ref)
    await space.set_name("n", ref)
    await space.pin(ref)
    await space.forget(ref)
    lines = [(e.raw, e.agent) async for e in space.events() if e.raw != "overhead"]
    assert sorted(lines) == sorted((w, "tester") for w in ("put", "read", "named", "pinned", "forgotten"))
    write = next(e for e in [e async for e in space.events()] if e.raw == "put")
    assert (write.obj, write.kind, write.pos, write.bytes, write.op) == (ref.id, "fact", 0.25, 1, "write")


async def test_strict_audit_logs_a_read_before_it_returns(opened: Callable[..., Any]) -> None:
    """With audit="strict" the line is on the server when the value is in hand."""
    async with opened(audit="strict", flush_ms=3_600_000) as space:
        await space.get(await space.put("x"))
        store = space.store
        assert await store.wire.call("XLEN", store.keys.at(0, "h")) == 1


async def test_a_space_with_many_shards_does_everything(opened: Callable[..., Any]) -> None:
    """Sixteen shards: every verb finds its keys, listings and events merge them."""
    async with opened(shards=16) as space:
        refs = await space.put_many([f"value {i}" for i in range(60)], tags=["t"])
        assert await space.get_many(refs) == [f"value {i}" for i in range(60)]
        for i, ref in enumerate(refs[:10]):
            await space.set_name(f"n/{i}", ref)
        assert len(await space.names("n/")) == 10
        assert len((await space.find(tag="t", limit=100)).objects) == 60
        events = [e async for e in space.events()]
        assert sum(e.raw == "put" for e in events) == 60 and sum(e.raw == "read" for e in events) == 60
        assert [e.at for e in events] == sorted(e.at for e in events)
        assert (await space.stats())["count"] == 60


async def test_key_names_hold_no_names_and_no_secret(space: Space) -> None:
    """What a scan of the server shows gives away neither names nor the secret of the space."""
    await space.put("x", name="very/private-name")
    keys = await space.store.wire.call("KEYS", "*")
    assert not [k for k in keys if b"private" in k]
    assert not [k for k in keys if not re.match(rb"mg:(store|\{[a-z0-9.-]+\}:)", k)]


async def test_cancelled_callers_never_cross_replies(space: Space) -> None:
    """Of 2,000 reads half are cancelled under way; every other gets its own value."""
    refs = await space.put_many([f"value {i}" for i in range(50)])
    tasks = [asyncio.create_task(space.get(refs[i % 50])) for i in range(2000)]
    for i, task in enumerate(tasks):
        if i % 2:
            task.cancel()
        elif i % 100 == 0:
            await asyncio.sleep(0)
    got = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(got[i] == f"value {i % 50}" for i in range(0, 2000, 2))
    assert await space.get(refs[7]) == "value 7"


async def test_an_erased_space_leaves_no_key(opened: Callable[..., Any]) -> None:
    """Objects, names, answers and logs of the space are gone, also over shards; other spaces are untouched."""
    async with opened(shards=4) as space, opened(space="other-space") as other:
        kept = await other.put("kept")
        refs = await space.put_many([f"v{i}" for i in range(20)], tags=["t"])
        await space.set_name("a/b", refs[0])
        await space.get(refs[1])

        @space.once
        async def work(x: int) -> int:
            return x

        await work(1)
        await space.erase()
        left = [k for k in await space.store.wire.call("KEYS", "*") if b"{" + space.name.encode() in k]
        assert left == []
        assert await other.get(kept) == "kept"
