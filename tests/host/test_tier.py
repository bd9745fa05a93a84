"""What one process of a host has written or read, the others have at hand; and what is gone, nobody has."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from memgang.errors import IntegrityError, UnknownReference
from memgang.model import NO_USAGE, Answered, Ref
from memgang.settings import Settings
from memgang.space import Space
from memgang.store.host import Tier, enter
from memgang.store.host import home as homes
from memgang.store.keys import STORE_ID
from tests.gates import until
from tests.host.conftest import place, written

Opened = Callable[..., Any]


def at_hand(space: Space, ref: Ref) -> bool:
    """Whether this process can read it without asking the server."""
    return space.store.objects.at_hand(ref) is not None


async def when(condition: Callable[[], bool]) -> None:
    async def met() -> bool:
        return condition()

    await until(met)


def trips(space: Space) -> int:
    return space.store.wire.round_trips


# ── reading and writing ──────────────────────────────────────────────────────────────────────────


async def test_what_one_has_put_the_other_reads_without_asking_the_server(opened: Opened) -> None:
    """Text, records and bytes; the read is logged all the same."""
    async with opened() as writer, opened() as reader:
        refs = [await writer.put(value) for value in ("text", {"a": [1]}, b"bytes", "x" * 100_000)]
        await written()
        before = reader.store.wire.commands
        assert await reader.get_many(refs) == ["text", {"a": [1]}, b"bytes", "x" * 100_000]
        assert [await reader.get(ref) for ref in refs] == ["text", {"a": [1]}, b"bytes", "x" * 100_000]
        assert reader.store.wire.commands == before
        await reader.flush()
        raws = [event.raw async for event in writer.events()]
        assert raws.count("read") == 8


async def test_an_answer_is_recalled_without_asking_the_server(opened: Opened) -> None:
    """The hit is logged with what it saved, and its value is at hand too."""
    async with opened() as one, opened() as other:
        @one.once(ttl="1h")
        async def double(n: int) -> int:
            return 2 * n

        double_there = other.once(ttl="1h")(double.__wrapped__)
        assert await double(21) == 42
        await written()
        before = other.store.wire.commands
        assert await double_there(21) == 42
        assert other.store.wire.commands == before
        await other.flush()
        assert (await one.stats())["hits"] == 1


async def test_without_a_tier_everything_is_as_it_was(opened: Opened, tmp_path: Path) -> None:
    """Switched off, or with no room for it."""
    async with opened(host_tier="off") as off, opened(host_bytes=1 << 20, space="small") as small:
        for space in (off, small):
            assert space.store.tier is None
            ref = await space.put("text")
            assert await space.get(ref) == "text"


# ── what is gone ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.catalogue("B12")
async def test_what_is_forgotten_is_gone_on_this_host_before_it_is_acknowledged(opened: Opened) -> None:
    """By any process, for all, without waiting for anybody to read the log."""
    async with opened() as one, opened() as other:
        for i in range(50):
            ref = await one.put(f"secret {i}")
            await other.get(ref)
            await one.forget(ref)
            assert not at_hand(other, ref) and not at_hand(one, ref)
            with pytest.raises(UnknownReference):
                await other.get(ref)


@pytest.mark.catalogue("B12")
async def test_what_another_host_forgets_is_gone_here_within_a_second(opened: Opened, tmp_path: Path) -> None:
    """Another host is one with a directory of its own."""
    async with opened(host_dir=tmp_path / "here") as here, opened(host_dir=tmp_path / "there") as there:
        assert here.store.tier is not there.store.tier
        kept = await here.put("stays")
        ref = await here.put("goes")
        assert await there.get(ref) == "goes" and at_hand(there, ref)
        await here.forget(ref)
        async with asyncio.timeout(10):
            await when(lambda: not at_hand(there, ref))
        assert at_hand(here, kept)
        with pytest.raises(UnknownReference):
            await there.get(ref)


async def test_an_answer_that_was_dropped_elsewhere_is_computed_again(opened: Opened, tmp_path: Path) -> None:
    """A cascade on one host takes the answers of the other along."""
    async with opened(host_dir=tmp_path / "here") as here, opened(host_dir=tmp_path / "there") as there:
        source = await here.put("source")
        computed = []

        async def derive() -> str:
            computed.append(1)
            return str(await there.get(source)) + " derived"

        from memgang.model import Call

        call = Call("function", "derive", "1")
        first = await there.recall(call, derive)
        assert (await there.recall(call, derive)).how == "hit" and len(computed) == 1
        assert await here.forget(source, cascade=True)
        key = there.key(call)
        await when(lambda: there.store.tier.answer(key, there.store.log.server_ms()) is None)
        assert not at_hand(there, first.ref)


async def test_who_refreshes_is_not_given_the_old_answer_by_this_host(opened: Opened) -> None:
    """Computed anew by one process, the new answer is what every other one of the host is given at once."""
    async with opened() as one, opened() as other:
        from memgang.model import Call

        call, number = Call("function", "count", "1"), iter(range(10))

        async def count() -> int:
            return next(number)

        assert await (await one.recall(call, count)).value() == 0
        assert await (await other.recall(call, count)).value() == 0
        assert await (await one.recall(call, count, mode="refresh")).value() == 1
        assert await (await other.recall(call, count)).value() == 1


async def test_an_object_at_hand_ends_when_it_ends(opened: Opened) -> None:
    """By the server's clock, as everywhere."""
    async with opened() as space:
        ref = await space.put("short", ttl=0.3)
        await written()
        assert at_hand(space, ref)
        await when(lambda: not at_hand(space, ref))
        with pytest.raises(UnknownReference):
            await space.get(ref)


async def test_what_was_asked_for_before_it_was_forgotten_is_not_kept(tier: Tier) -> None:
    """The race of the head of tier.py: the reply is late, the mark is younger than the question."""
    asked = time.monotonic()
    tier.take_out(["a"], ["call"])
    tier.keep_body("a", "text/plain", b"late", b"", 0, 0, asked)
    tier.keep_answer("call", Answered(Ref("mg:" + "a" * 32), 5, 0, b"", NO_USAGE), 0, asked)
    assert tier.body("a", 0) is None and tier.answer("call", 0) is None  # not even before it would be written
    await written()
    assert tier.body("a", 0) is None and tier.answer("call", 0) is None
    tier.keep_body("a", "text/plain", b"put again", b"", 0, 0, time.monotonic())
    await written()
    assert tier.body("a", 0) is not None


async def test_an_older_answer_never_takes_the_place_of_a_newer_one(tier: Tier) -> None:
    """Whichever is kept last."""
    def answer(fence: int) -> Answered:
        return Answered(Ref("mg:" + "abcd"[fence % 4] * 32), fence, 0, b"", NO_USAGE)

    for order in ((3, 2), (2, 3)):
        for fence in order:
            tier.keep_answer("call", answer(fence), 0, time.monotonic())
            await written()
        found = tier.answer("call", 0)
        assert found is not None and found.fence == 3
        for fence in order:
            tier.keep_answer("other", answer(fence), 0, time.monotonic())  # in one turn
        found = tier.answer("other", 0)
        assert found is not None and found.fence == 3
    tier.take_out(overtaken={"call": 4})  # somebody claims, on another host
    assert tier.answer("call", 0) is None
    tier.keep_answer("call", answer(3), 0, time.monotonic())  # a late reply to a question from before
    await written()
    assert tier.answer("call", 0) is None
    tier.keep_answer("call", answer(4), 0, time.monotonic())
    await written()
    assert tier.answer("call", 0) is not None


async def test_nobody_reads_a_tier_whose_log_nobody_has_read_for_a_second(tier: Tier) -> None:
    tier.keep_body("a", "text/plain", b"x", b"", 0, 0, time.monotonic())
    await written()
    assert tier.body("a", 0) is not None
    tier.flags.live = time.monotonic() - 1.5
    assert tier.body("a", 0) is None


async def test_a_log_that_was_cut_or_a_server_that_lost_its_data_empties_the_tier(opened: Opened) -> None:
    """What happened in between is not known."""
    async with opened() as space:
        tier, keys = space.store.tier, space.store.keys
        ref = await space.put("x")
        await written()
        assert at_hand(space, ref)
        seq = await space.store.wire.call("HGET", keys.at(0, "u"), "seq")
        await when(lambda: place(tier).seq == int(seq))
        await space.store.wire.call("HSET", keys.at(0, "u"), "seq", "0")
        await when(lambda: not tier.holds(ref.id))
        await space.store.wire.call("HSET", keys.at(0, "u"), "seq", seq)
        other = await space.put("y")
        await when(lambda: tier.holds(other.id))
        await space.store.wire.call("HINCRBY", keys.at(0, "u"), "seq", 5)  # entries that were trimmed before we saw them
        await when(lambda: not tier.holds(other.id))


async def test_when_the_server_has_lost_its_data_the_tier_is_emptied_for_all(opened: Opened) -> None:
    """Told by another id, though its log may have come further than before; those who were there and those who come share it."""
    async with opened() as before:
        ref = await before.put("x")
        await written()
        assert at_hand(before, ref)
        was = await before.store.wire.call("GET", STORE_ID)
        try:
            await before.store.wire.call("SET", STORE_ID, "f" * 32)
            async with opened() as after:  # it may be its turn to read the log: it has never seen another id
                assert after.store.tier is before.store.tier
                await when(lambda: not before.store.tier.holds(ref.id))
                assert await before.get(ref) == "x"
                await when(lambda: at_hand(after, ref))
        finally:
            await before.store.wire.call("SET", STORE_ID, was)


# ── bytes that are not what they should be ───────────────────────────────────────────────────────


@pytest.mark.catalogue("A22")
@pytest.mark.parametrize("verify", ["once", "always"])
async def test_a_flipped_bit_is_seen_and_the_server_is_asked(opened: Opened, verify: str) -> None:
    """The first time a process sees an entry, or every time; what is wrong is thrown out."""
    chance = random.Random(22)
    async with opened(verify=verify) as one:
        refs = {await one.put(f"text {i} " * 20): f"text {i} " * 20 for i in range(50)}
        await written()
        tier: Tier = one.store.tier
        with tier.entries.env.begin(write=True, db=tier.entries.bodies) as writing:
            for ref in refs:
                raw = bytearray(writing.get(ref.id.encode()))
                at = chance.randrange(len(raw) - 100, len(raw))
                raw[at] ^= 1 << chance.randrange(8)
                writing.put(ref.id.encode(), bytes(raw))
        one.store.objects._verified.clear()
        for ref, text in refs.items():
            assert await one.get(ref) == text
        async with opened(verify=verify) as other:
            for ref, text in refs.items():
                assert await other.get(ref) == text


@pytest.mark.catalogue("A22")
async def test_of_a_thousand_flipped_bits_none_is_handed_out(opened: Opened) -> None:
    """Anywhere in an entry, its head too, before and behind what is hashed: right bytes each time, and no error of a read."""
    chance = random.Random(2200)
    async with opened(verify="always") as space:
        texts = {await space.put(f"text {i} " * 20): f"text {i} " * 20 for i in range(200)}
        flipped = 0
        while flipped < 1000:
            await space.get_many(list(texts))  # what was thrown out is kept again, where nobody takes something out just then
            await asyncio.sleep(0)
            entries = space.store.tier.entries
            with entries.env.begin(write=True, db=entries.bodies) as writing:
                for ref in texts:
                    if (found := writing.get(ref.id.encode())) is not None:
                        raw = bytearray(found)
                        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
                        writing.put(ref.id.encode(), bytes(raw))
                        flipped += 1
            for ref, text in texts.items():
                assert await space.get(ref) == text

        async def whole() -> bool:
            values = await space.get_many(list(texts))
            await asyncio.sleep(0)
            return values == list(texts.values()) and all(at_hand(space, ref) for ref in texts)

        await until(whole)


@pytest.mark.catalogue("A22")
async def test_a_flipped_bit_in_an_answer_is_no_error_and_no_other_answer(opened: Opened) -> None:
    """It names nothing that is there, or is no answer at all: then it is asked for, kept again, and can be taken out."""
    from memgang.model import Call

    chance = random.Random(22)
    async with opened() as space:
        async def answer(number: int) -> str:
            return f"answer {number}"

        calls = {number: Call("function", "number", "1", {"n": number}) for number in range(100)}
        for number, call in calls.items():
            await space.recall(call, lambda number=number: answer(number))
        await asyncio.sleep(0)
        entries, now = space.store.tier.entries, space.store.log.server_ms()
        right = {number: space.store.tier.answer(space.key(call), now) for number, call in calls.items()}
        assert all(right.values())
        for _ in range(10):
            with entries.env.begin(write=True, db=entries.answers) as writing:
                for call in calls.values():
                    key = b"=" + space.key(call).encode()
                    if (found := writing.get(key)) is not None:
                        raw = bytearray(found)
                        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
                        writing.put(key, bytes(raw))
            for number, call in calls.items():
                assert space.store.tier.answer(space.key(call), now) in (None, right[number])
                got = await space.recall(call, lambda: answer(-1))
                assert got.how == "hit" and await got.value() == f"answer {number}"
            await asyncio.sleep(0)
        space.store.tier.take_out(answers=[space.key(call) for call in calls.values()])
        assert not space.store.tier.flags.poisoned and entries.sizes()["answers"] == 0


@pytest.mark.catalogue("A22")
async def test_of_a_thousand_bits_flipped_in_the_server_each_is_seen(opened: Opened) -> None:
    """A body in the server is checked against its reference: refused, never handed out; with its bytes back it is read again."""
    chance = random.Random(22)
    async with opened(verify="always", host_tier="off") as space:
        refs = await space.put_many([f"text {i} " * 20 for i in range(1000)])
        wire, keys = space.store.wire, space.store.keys
        for ref in refs:
            key, bit = keys.body(ref), chance.randrange(8 * 140)
            await wire.call("SETBIT", key, bit, 1 - int(await wire.call("GETBIT", key, bit)))
            with pytest.raises(IntegrityError):
                await space.get(ref)
            await wire.call("SETBIT", key, bit, 1 - int(await wire.call("GETBIT", key, bit)))
        assert await space.get_many(refs) == [f"text {i} " * 20 for i in range(1000)]


async def test_a_body_damaged_in_the_server_is_refused_where_the_host_has_none(opened: Opened, tmp_path: Path) -> None:
    async with opened(host_dir=tmp_path / "here") as here, opened(host_dir=tmp_path / "there") as there:
        ref = await here.put("hello")
        await here.store.wire.call("SET", here.store.keys.body(ref), b"jello")
        with pytest.raises(IntegrityError):
            await there.get(ref)


# ── writers that are stopped, room that is used up ───────────────────────────────────────────────


@pytest.mark.catalogue("A25")
async def test_a_writer_that_is_stopped_holds_up_nobody_and_what_must_go_is_read_by_nobody(tier: Tier) -> None:
    """Keeping is left out; taking out, which cannot be, forbids all reading until everything is gone."""
    for ident in ("a", "b"):
        tier.keep_body(ident, "text/plain", b"x", b"", 0, 0, time.monotonic())
    await written()
    other = os.open(tier.folder / "write", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)  # as a process holds it that is stopped inside a write
    tier.keep_body("c", "text/plain", b"x", b"", 0, 0, time.monotonic())
    await written()
    assert tier.body("c", 0) is None and tier.body("a", 0) is not None
    tier.take_out(["a"])
    assert tier.flags.poisoned and tier.body("a", 0) is None and tier.body("b", 0) is None
    asked = time.monotonic()
    assert not tier.clear({"a00": 7})  # still not to be had
    os.close(other)
    assert tier.clear({"a00": 7}) and not tier.flags.poisoned and place(tier).seq == 7
    assert tier.body("a", 0) is None and tier.body("b", 0) is None
    tier.keep_body("a", "text/plain", b"late", b"", 0, 0, asked)
    await written()
    assert tier.body("a", 0) is None


@pytest.mark.catalogue("A26")
async def test_a_reader_for_whom_there_is_no_room_asks_the_server(opened: Opened) -> None:
    """Every place in the table of readers is taken, beyond the 200th: nobody's get, put or forget fails of it."""
    async with opened() as space:
        ref, gone = await space.put("x"), await space.put("goes")
        await written()
        tier, taken = space.store.tier, list[lmdb.Transaction]()
        try:
            with pytest.raises(lmdb.ReadersFullError):
                while True:
                    taken.append(tier.entries.env.begin())
                    if len(taken) == 200:
                        assert at_hand(space, ref), "there is room for many more"
            print(f"{len(taken)} readers at once")
            before = space.store.wire.commands
            assert await space.get(ref) == "x"
            assert await space.get_many([ref, ref]) == ["x", "x"]
            assert space.store.wire.commands > before
            other = await space.put("y")
            await space.forget(gone)
            await written()
            assert not tier.holds(ref.id)
        finally:
            taken.clear()
        await when(lambda: at_hand(space, ref))
        assert at_hand(space, other) and not at_hand(space, gone)


FULL = """
import asyncio, os, sys
import memgang
from memgang.store.host import ring

async def main():
    async with memgang.open(space="full", agent="full") as space:  # a server of its own, elsewhere
        folder = space.store.home.folder.parent
        said = [space.store.tier is not None, space.store.log._ring is not None]
        with open(folder / "rest", "wb", buffering=0) as rest:  # to the last byte, and then some more is wanted
            try:
                while True:
                    rest.write(bytes(1 << 16))
            except OSError:
                pass
        refs = {await space.put(f"{i} " * 5_000): f"{i} " * 5_000 for i in range(200)}
        for _ in range(2):
            for ref, text in refs.items():
                assert await space.get(ref) == text
        async with memgang.open(space="another", agent="full") as another:  # whose files find no room any more
            assert await another.get(await another.put("x")) == "x"
            said.append(another.store.tier is None)
        gone = next(iter(refs))
        await space.forget(gone)
        assert space.store.objects.at_hand(gone) is None
        os.unlink(folder / "rest")
        for ref in list(refs)[1:]:
            await space.get(ref)
            await asyncio.sleep(0)
        while space.store.objects.at_hand(ref) is None:
            await space.get(ref)
            await asyncio.sleep(0.01)
        print(said, flush=True)
asyncio.run(main())
"""


@pytest.mark.catalogue("A26")
def test_a_full_file_system_costs_the_tier_and_nothing_else(tmp_path: Path) -> None:
    """A shared memory of 48 MB is filled to the last byte: no SIGBUS, no get that fails; with room again things are kept again."""
    place, own = tmp_path / "shm", ("unshare", "--mount", "--map-root-user")
    place.mkdir()
    mounted = [*own, "sh", "-c", f'mount -t tmpfs -o size=48m,mode=700 tmpfs "{place}" && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own")
    done = subprocess.run(
        [*mounted, sys.executable, "-c", FULL], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "MEMGANG_HOST_DIR": str(place),
             "MEMGANG_STATE_DIR": str(tmp_path / "state"), "MEMGANG_RUNTIME_DIR": str(tmp_path / "run")})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[True, True, True]\n"


@pytest.mark.catalogue("A26")
async def test_a_full_map_lets_the_oldest_go(tmp_path: Path) -> None:
    """Ten times what there is room for; the newest are there, the count is right, and no write fails for good."""
    tier = Tier(tmp_path, 4 << 20)
    tier.flags.live = time.monotonic() + 3600
    try:
        for i in range(1000):
            tier.keep_body(f"k{i}", "text/plain", bytes(40_000), b"", 0, 0, time.monotonic())
            await written()
        assert tier.body("k999", 0) is not None and tier.body("k0", 0) is None
        sizes = tier.entries.sizes()
        assert 10 < sizes["bodies"] < 100 and sizes["used"] <= sizes["size"]
        with tier.entries.env.begin() as reading:
            real = sum(len(value) for _, value in reading.cursor(db=tier.entries.bodies))
            assert reading.stat(tier.entries.ages)["entries"] == sizes["bodies"]
        assert real <= sizes["used"] < real * 1.2
        tier.take_out([f"k{i}" for i in range(1000)])
        assert tier.entries.sizes()["used"] == 0
    finally:
        tier.close()


async def test_a_transaction_that_fails_costs_a_question_and_nothing_else(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room in the file system: what was to be kept is not, and the next is."""
    def full(*_: Any, **__: Any) -> Any:
        raise lmdb.DiskError("no room")

    monkeypatch.setattr(tier.entries, "make_room", full)
    tier.keep_body("a", "text/plain", b"x", b"", 0, 0, time.monotonic())
    await written()
    assert tier.body("a", 0) is None
    monkeypatch.undo()
    tier.keep_body("a", "text/plain", b"x", b"", 0, 0, time.monotonic())
    await written()
    assert tier.body("a", 0) is not None


# ── coming and going ─────────────────────────────────────────────────────────────────────────────


def test_the_last_one_out_removes_it_and_the_first_one_in_wipes_what_was_left(tmp_path: Path) -> None:
    """What a killed process left is not looked at."""
    one = enter("store", "space", base=tmp_path, bytes_max=16 << 20)
    two = enter("store", "space", base=tmp_path, bytes_max=16 << 20)
    assert one is not None and two is one
    one.leave()
    assert one.folder.exists() and not one.tier.off
    one.leave()
    assert list(one.folder.parent.iterdir()) == [] and one.tier.off
    left = one.folder
    left.mkdir()
    (left / "rubbish").touch()
    again = enter("store", "space", base=tmp_path, bytes_max=16 << 20)
    assert again is not None and not (left / "rubbish").exists()
    again.leave()


@pytest.mark.catalogue("A3")
def test_tiers_of_processes_that_were_killed_are_removed_by_whoever_comes_next(tmp_path: Path) -> None:
    """Also those of other spaces; one in which somebody is stays."""
    mine = tmp_path / f"memgang-{os.geteuid()}"
    lives = enter("store", "lives", base=tmp_path, bytes_max=16 << 20)
    assert lives is not None
    dead = mine / "store-dead"
    dead.mkdir()
    (dead / "data").write_bytes(bytes(1000))
    dead.with_name("store-dead.in").touch()
    other = enter("store", "other", base=tmp_path, bytes_max=16 << 20)
    assert other is not None and not dead.exists() and lives.folder.exists()
    for home in (lives, other):
        home.leave()
    assert list(mine.iterdir()) == []


@pytest.mark.catalogue("A3")
@pytest.mark.parametrize("left", [("door",), ("in",), ("in", "door"), ("in", "door", "")])
def test_whatever_of_a_tier_a_killed_process_left_is_removed(tmp_path: Path, left: tuple[str, ...]) -> None:
    """Killed while it came or left: a lock file alone, or all of it."""
    mine = tmp_path / f"memgang-{os.geteuid()}"
    mine.mkdir(mode=0o700)
    for end in left:
        if end:
            (mine / f"store-dead.{end}").touch()
        else:
            (mine / "store-dead").mkdir()
    (mine / "store-dead.ring").mkdir()
    (mine / "store-dead.ring" / "old").touch()
    os.utime(mine / "store-dead.ring" / "old", (0, 0))
    os.utime(mine / "store-dead.ring", (0, 0))
    home = enter("store", "other", base=tmp_path, bytes_max=16 << 20)
    assert home is not None and not (mine / "store-dead.ring" / "old").exists()
    (mine / "store-dead.ring").rmdir()
    home.leave()
    assert list(mine.iterdir()) == []


def test_a_door_that_was_taken_away_while_one_waited_at_it_is_no_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one out removes it: who holds a lock on nothing is not alone, and tries again."""
    real, taken = homes.try_lock, []

    def left(fd: int, **words: Any) -> bool:
        if not taken:
            taken.append((tmp_path / "x.door").unlink())
        return real(fd, **words)

    monkeypatch.setattr(homes, "try_lock", left)
    with homes._door(tmp_path / "x"):
        other = os.open(tmp_path / "x.door", os.O_RDWR)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    """Nor one that is a link: then there is no tier, and nothing fails."""
    mine = tmp_path / f"memgang-{os.geteuid()}"
    mine.mkdir()
    mine.chmod(0o777)
    assert enter("store", "space", base=tmp_path, bytes_max=16 << 20) is None
    mine.rmdir()
    mine.symlink_to("/tmp")
    assert enter("store", "space", base=tmp_path, bytes_max=16 << 20) is None


def test_too_little_room_means_no_tier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's 64 MB leave a quarter for it; a few megabytes none."""
    class Disk:
        free = 64 << 20

    monkeypatch.setattr(homes.shutil, "disk_usage", lambda _: Disk)
    small = enter("store", "space", base=tmp_path, bytes_max=0)
    assert small is not None and small.tier.entries.sizes()["size"] == 16 << 20
    small.leave()
    Disk.free = 8 << 20
    assert enter("store", "space", base=tmp_path, bytes_max=0) is None


JOINING = """
import pathlib, shutil, sys
from memgang.store.host import home

shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 20)
home_there = home.enter("server", sys.argv[2], base=pathlib.Path(sys.argv[1]), bytes_max=0)
print(home_there is not None and home_there.tier.holds("a" * 32))
"""


async def test_who_comes_when_there_is_no_room_for_a_tier_shares_the_one_there_is(tmp_path: Path) -> None:
    """It takes none: what fills the file system may be that tier, and large bodies. A new one is not made."""
    first = enter("server", "s", base=tmp_path, bytes_max=16 << 20)
    assert first is not None
    first.tier.keep_body("a" * 32, "text/plain", b"x", b"", 0, 0, time.monotonic())
    await written()
    try:
        for space, there in (("s", "True"), ("other", "False")):
            done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", JOINING, str(tmp_path), space],
                                           capture_output=True, text=True, timeout=60)
            assert done.stdout.strip() == there, done.stderr
        assert not [path.name for path in first.folder.parent.iterdir() if "other" in path.name]
    finally:
        first.leave()


@pytest.mark.catalogue("A14")
def test_a_forked_child_has_no_part_in_the_tier_of_its_parent(tmp_path: Path) -> None:
    """It asks the server instead, and the parent's readers and writers are not disturbed."""
    home = enter("store", "space", base=tmp_path, bytes_max=16 << 20)
    assert home is not None
    pid = os.fork()
    if not pid:
        status = 1
        try:
            own = enter("store", "space", base=tmp_path, bytes_max=16 << 20)
            status = 0 if home.tier.off and home.tier.body("a", 0) is None and own is None else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    home.tier.take_out(cursors={"a00": 7})
    assert home.folder.exists() and place(home.tier).seq == 7
    home.leave()
    assert not home.folder.exists()


def test_the_settings_of_the_tier_are_checked() -> None:
    from memgang.errors import ConfigError

    with pytest.raises(ConfigError, match="host_bytes"):
        Settings(host_bytes=-1)
