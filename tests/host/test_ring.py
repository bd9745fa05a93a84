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
