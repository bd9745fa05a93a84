"""The ring of events: whole at every step, exact under every death, and never in anybody's way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.model import Context
from memgang.store.events import RECORDS_MAX, batched, written_for_the_dead
from memgang.store.host import ring
from memgang.store.host.ring import ROOM, Left, Ring, left_by_the_dead

WHO = Context("user/agent", "role", "run", "task", "")


def line(number: int, text: str = "") -> list[Any]:
    return ["mark", number, 0, "", "", 0, 0, "", [], "", text, ""]


def let_go(made: Ring) -> Path:
    """As a kill would: the file stays, the lock is free."""
    made._map.close()
    ring.close_lock(made._fd)
    return made.path.parent


def test_what_is_in_a_ring_is_its_owners_while_it_lives_and_anybodys_afterwards(tmp_path: Path) -> None:
    one = Ring(tmp_path / "r", "source", 256)
    ends = [one.add(0, WHO, line(n)) for n in range(10)]
    assert ends == sorted(set(ends)) and list(left_by_the_dead(tmp_path / "r")) == []
    let_go(one)
    [left] = left_by_the_dead(tmp_path / "r")
    assert (left.source, left.most, [event[3][1] for event in left.events]) == ("source", 256, list(range(10)))
    assert [event[0] for event in left.events] == ends
    assert list(left_by_the_dead(tmp_path / "r")) == [] and not (tmp_path / "r").exists()


@given(sizes=st.lists(st.integers(0, 3000), max_size=400), every=st.integers(1, 50), pauses=st.lists(st.booleans(), max_size=400))
def test_round_and_round_it_holds_what_was_not_confirmed(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], every: int, pauses: list[bool]
) -> None:
    """Any sizes, confirmed at any time: what is left is exactly what came after the last confirmed one and found room."""
    folder = tmp_path_factory.mktemp("ring")
    made, expected = Ring(folder, "s", 10), list[int]()
    for n, size in enumerate(sizes * 3):
        end = made.add(n % 3, WHO, line(n, "x" * size))
        if end:
            expected.append(n)
        if n % every == 0 and end and not (pauses and pauses[n % len(pauses)]):
            made.confirmed(end, {0: n, 200: 2 * n})
            expected.clear()
    data = made._map[:]
    left = Left(made.path, bytes(data))
    assert [event[3][1] for event in left.events] == expected
    assert [event[1] for event in left.events] == [n % 3 for n in expected]
    made.close()


def test_a_full_ring_takes_no_more_until_something_is_confirmed(tmp_path: Path) -> None:
    """The event is kept by its process alone, and nothing that waits is written over."""
    made = Ring(tmp_path, "s", 10)
    ends = []
    while end := made.add(0, WHO, line(len(ends), "x" * 1000)):
        ends.append(end)
    assert ROOM * 0.9 < ends[-1] <= ROOM and made.add(0, WHO, line(0, "x" * 1000)) == 0
    made.confirmed(ends[4], {0: 1})
    assert made.add(0, WHO, line(len(ends), "x" * 1000))
    left = Left(made.path, bytes(made._map[:]))
    assert [event[3][1] for event in left.events] == list(range(5, len(ends) + 1))
    made.close()


def test_a_full_ring_goes_on_behind_what_was_confirmed_and_never_over_what_was_not(tmp_path: Path) -> None:
    """In its second round and later, wherever its end and its beginning stand."""
    made, ends, confirmed = Ring(tmp_path, "s", 10), list[int](), 0
    for _ in range(12):
        while end := made.add(0, WHO, line(len(ends), "x" * 1000)):
            ends.append(end)
        left = Left(made.path, bytes(made._map[:]))
        assert [event[3][1] for event in left.events] == list(range(confirmed, len(ends)))
        confirmed += (len(ends) - confirmed) // 3 + 1
        made.confirmed(ends[confirmed - 1], {0: confirmed})
    made.close()


def test_a_confirmation_that_is_cut_off_at_any_word_is_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch ends and which numbers it had are told in one step: half of it would double events, or lose them."""
    made = Ring(tmp_path, "s", 10)
    ends = [made.add(0, WHO, line(n)) for n in range(4)]
    made.confirmed(ends[0], {0: 1, 3: 7})
    put = Ring._set

    class Killed(Exception):
        pass

    for at in range(1, 5):
        left = at

        def word(self: Ring, place: int, value: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            put(self, place, value)

        kept = bytes(made._map[:]), made._bank, made._tail
        monkeypatch.setattr(Ring, "_set", word)
        with pytest.raises(Killed):
            made.confirmed(ends[2], {0: 5, 3: 9})
        found = Left(made.path, bytes(made._map[:]))
        assert (found.numbers, [event[3][1] for event in found.events]) == ({0: 1, 3: 7}, [1, 2, 3]), at
        made._map[:], made._bank, made._tail = kept
    monkeypatch.undo()
    made.confirmed(ends[2], {0: 5, 3: 9})
    found = Left(made.path, bytes(made._map[:]))
    assert (found.numbers, [event[3][1] for event in found.events]) == ({0: 5, 3: 9}, [3])
    made.confirmed(0, {0: 6, 3: 9})  # of a batch that had no place in it
    found = Left(made.path, bytes(made._map[:]))
    assert (found.numbers, [event[3][1] for event in found.events]) == ({0: 6, 3: 9}, [3])
    made.close()


def test_a_forked_child_writes_nothing_to_its_parents_ring_and_removes_nothing(tmp_path: Path) -> None:
    made = Ring(tmp_path / "r", "s", 10)
    made.add(0, WHO, line(0))
    if not (child := os.fork()):
        status = 1
        try:
            status = made.add(0, WHO, line(1))
            made.close()
            made.leave()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.path.exists() and list(left_by_the_dead(tmp_path / "r")) == []
    assert made.add(0, WHO, line(2))
    assert [event[3][1] for event in Left(made.path, bytes(made._map[:])).events] == [0, 2]
    made.close()
    assert not made.path.exists()


def test_a_ring_that_is_removed_between_its_opening_and_its_locking_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes one finds that a lock on nothing keeps nothing; who comes for one, that somebody else was quicker."""
    real = ring.try_lock

    def quicker(fd: int, **words: Any) -> bool:
        for path in tmp_path.iterdir():
            path.unlink()
        return real(fd, **words)

    let_go(Ring(tmp_path, "dead", 10))
    monkeypatch.setattr(ring, "try_lock", quicker)
    with pytest.raises(OSError, match="belongs to another"):
        Ring(tmp_path, "new", 10)
    monkeypatch.undo()
    let_go(Ring(tmp_path, "dead", 10))
    monkeypatch.setattr(ring, "try_lock", quicker)
    assert list(left_by_the_dead(tmp_path)) == []


def test_what_says_nonsense_of_itself_is_not_believed(tmp_path: Path) -> None:
    """A file of the right size that is no ring; a head further away than a ring is long."""
    folder = tmp_path / "r"
    made = Ring(folder, "s", 10)
    made.add(0, WHO, line(0))
    made._set(ring._HEAD, 3 * ROOM)
    let_go(made)
    [left] = left_by_the_dead(folder)
    assert left.events == []
    folder.mkdir(exist_ok=True)
    (folder / "zeros").write_bytes(bytes(ring.PAGE + ROOM))
    assert list(left_by_the_dead(folder)) == [] and not folder.exists()


def test_rings_that_nobody_has_come_for_in_a_week_go_and_those_of_the_living_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old its file looks; and what is confirmed makes it young again."""
    folder = tmp_path / "x.ring"
    lives, dead, young = (Ring(folder, name, 10) for name in ("lives", "dead", "young"))
    for made in (dead, young):
        let_go(made)
    for made in (lives, dead):
        os.utime(made.path, (0, 0))
    ring.tidy(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["lives", "young"]
    touched = list[int]()
    monkeypatch.setattr(ring.os, "utime", touched.append)  # in shared memory nothing else makes it younger
    lives.confirmed(0, {})
    assert touched == []
    lives._touched -= 3601  # an hour later
    lives.confirmed(0, {})
    lives.confirmed(0, {})
    assert touched == [lives._fd]
    lives.close()


def test_a_frame_that_somebody_has_changed_ends_the_reading(tmp_path: Path) -> None:
    """What is before it is told, what is behind it cannot be found."""
    made = Ring(tmp_path / "r", "s", 10)
    ends = [made.add(0, WHO, line(n)) for n in range(5)]
    made._map[ring.PAGE + ends[2] + 12] ^= 1
    let_go(made)
    assert [event[3][1] for event in next(left_by_the_dead(tmp_path / "r")).events] == [0, 1, 2]


def test_what_is_no_ring_is_removed_and_what_is_no_file_of_ours_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "short").write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"y")
    (folder / "link").symlink_to(tmp_path / "other")
    assert list(left_by_the_dead(folder)) == []
    assert not (folder / "short").exists() and (tmp_path / "other").read_bytes() == b"y"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["read", "mark"]), st.integers(0, 300)), max_size=600),
       st.integers(1, 256))
def test_the_same_events_after_the_same_numbers_are_the_same_batches(events: list[tuple[int, int, str, int]], most: int) -> None:
    """Who writes for a dead process relies on it; no batch is larger than the script takes."""
    def made() -> list[tuple[int, Context, list[Any]]]:
        return [(shard, Context(f"u/a{who}"), [what, at, 0, f"{obj:032d}".translate(str.maketrans("0189", "abcd")), *line(0)[4:]])
                for at, (shard, who, what, obj) in enumerate(events)]

    first, after = batched(made(), {0: 5}, most)
    second, _ = batched(made(), {0: 5}, most)
    assert first == second
    flat = [line[1] for row in first.values() for batch in row for line in batch.lines]
    assert sorted(flat) == list(range(len(events)))
    for shard, row in first.items():
        assert [batch.number for batch in row] == list(range((5 if shard == 0 else 0) + 1, after[shard] + 1))
        for batch in row:
            assert len(batch.lines) <= most and len(batch.reads) <= RECORDS_MAX
            assert all(0 <= line[2] < len(batch.contexts) for line in batch.lines)


KILLED = """
import asyncio, os, sys
import memgang
from memgang.store import scripts

async def main():
    async with memgang.open(space=sys.argv[1], agent="victim", shards=int(sys.argv[3]), flush_ms=3_600_000) as space:
        at = int(sys.argv[2])
        touch, count, made = scripts.touch, 0, 0
        def die():
            print(made, flush=True)
            os.kill(os.getpid(), 9)
        async def killed(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                die()  # before it is sent
            done = await touch(*args, **kwargs)
            if -count == at:
                die()  # sent, carried out, and not confirmed
            return done
        scripts.touch = killed
        refs = [await space.put(f"text {i}") for i in range(300)]
        for _ in range(4):
            for ref in refs:
                await space.get(ref)
                made += 1
        await space.flush()
        die()
asyncio.run(main())
"""


@pytest.mark.catalogue("B14")
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("at", [1, -1, 2, -2, 3, -3, 5, -5, 99])
async def test_a_death_at_any_batch_costs_no_read_and_doubles_none(
    opened: Callable[..., Any], space_name: str, at: int, shards: int
) -> None:
    """Killed before or after the n-th batch: as many reads are in the log as were made."""
    async with opened(shards=shards) as space:
        child = subprocess.run([sys.executable, "-c", KILLED, space_name, str(at), str(shards)], check=False, timeout=120,
                               capture_output=True, text=True)
        assert child.returncode == -9, child.stderr
        await written_for_the_dead(space.store.wire, space.store.keys, space.store.home.rings)
        reads = [event async for event in space.events() if event.raw == "read"]
        assert len(reads) - int(child.stdout) in (0, 1)  # the one under way may have been read, and not counted
        assert (await space.stats())["reads"] == len(reads)
        assert at != 99 or len(reads) == 1200
        assert not [path for path in space.store.home.rings.glob("*") if path.name != space.store.log._source]


def test_folders_that_have_long_been_empty_are_removed(tmp_path: Path) -> None:
    """Of spaces whose processes were killed; one that is young, or holds a ring, stays."""
    old, young, full = (tmp_path / f"{name}.ring" for name in ("old", "young", "full"))
    for folder in (old, young, full):
        folder.mkdir()
    (full / "ring").touch()
    for folder in (old, full):
        os.utime(folder, (0, 0))
    ring.tidy(tmp_path)
    assert not old.exists() and young.exists() and (full / "ring").exists()
