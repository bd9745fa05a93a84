"""Files: believed by their stat while at rest, compared by content else, and read once for all who ask."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import ReadError, UnknownReference
from memgang.reads import Manners, Reads, disk


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From now on every file looks as if it had been written long ago."""
    return lambda: monkeypatch.setattr(sys.modules["memgang.readers.fingerprint"], "AT_REST_NS", -(1 << 62))


async def times_read(space: memgang.Space) -> int:
    """How often a file was read, by anybody."""
    return len([event async for event in space.events() if event.raw == "committed" and event.fn == "memgang.reads:file"])


async def test_a_file_is_read_once_for_all_and_again_when_it_has_changed(
    space: memgang.Space, opened: Callable[..., Any], tmp_path: Path,
) -> None:
    """Twenty callers of two openers; the same by a link; the same content is the same object."""
    path, link = tmp_path / "a.md", tmp_path / "link"
    path.write_text("one é")
    link.symlink_to(path)
    async with opened(agent="other") as other, Reads(other) as theirs, Reads(space) as ours:
        found = await asyncio.gather(*(reads.read_file(str(p)) for reads in (ours, theirs) for p in (path, link) for _ in range(5)))
        assert len({page.ref for page in found}) == 1 and await times_read(space) == 1
        assert (found[0].source, found[0].media_type, found[0].charset, found[0].size) == (str(path), "text/markdown", "utf-8", 6)
        assert await space.get(found[0].ref) == "one é"

        path.write_text("two")
        assert await other.get((await theirs.read_file(str(path))).ref) == "two"
        path.write_bytes(b"\x89PNG\0")
        assert await space.get((await ours.read_file(str(path))).ref) == b"\x89PNG\0"


async def test_a_file_at_rest_is_not_opened_and_a_touched_one_once(
    space: memgang.Space, tmp_path: Path, at_rest: Callable[[], None], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stat is enough while it is the same; where it is another, one reader compares, and its stat of now is believed after."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    async with Reads(space) as reads:
        first = await reads.read_file(str(path))
        at_rest()
        assert await reads.read_file(str(path)) == first and await times_read(space) == 1

        os.utime(path, (1, 1))
        assert await reads.read_file(str(path)) == first and await times_read(space) == 2
        monkeypatch.setattr(sys.modules["memgang.readers.fingerprint"], "_hash", lambda path: pytest.fail("it was opened"))
        assert await reads.read_file(str(path)) == first and await times_read(space) == 2


async def test_a_file_whose_body_was_forgotten_is_read_again(space: memgang.Space, tmp_path: Path) -> None:
    """By its reference, or with its source."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    async with Reads(space) as reads:
        ref = (await reads.read_file(str(path))).ref
        await space.forget(ref)
        assert await space.get((await reads.read_file(str(path))).ref) == "one"
        assert ref in (await space.invalidate(str(tmp_path))).refs
        with pytest.raises(UnknownReference):
            await space.get(ref)
        assert await space.get((await reads.read_file(str(path))).ref) == "one"


async def test_a_path_that_was_judged_is_not_followed_elsewhere(space: memgang.Space, tmp_path: Path) -> None:
    """A link in its place, or in place of a folder above it: nothing is read, so nothing of it is kept."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("outside")
    (tmp_path / "folder").symlink_to(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out" / "a")
    async with Reads(space) as reads:
        for path in ("folder/a", "link"):
            with pytest.raises(ReadError):
                await reads.read_file(str(tmp_path / path), follow=False)
        assert not (await space.find(kind="body")).objects
        assert (await reads.read_file(str(tmp_path / "out" / "a"), follow=False)).size == 7


async def test_who_may_not_read_a_file_tells_only_those_like_itself(
    space: memgang.Space, opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit of one's own, or the rights of another user on another machine: who joined asks again."""
    path, begun, going, taken = tmp_path / "a", threading.Event(), threading.Event(), disk._taken
    path.write_bytes(bytes(101))

    def waiting(*args: Any) -> Any:
        begun.set()
        going.wait(30)
        return taken(*args)

    monkeypatch.setattr(disk, "_taken", waiting)
    async with opened(agent="other") as other, Reads(space, Manners(bytes_max=100)) as narrow, Reads(space) as wide, Reads(other) as far:
        told = [asyncio.create_task(reads.read_file(str(path))) for reads in (narrow, wide, far)]
        await asyncio.to_thread(begun.wait, 30)
        going.set()
        error, page, there = await asyncio.gather(*told, return_exceptions=True)

    assert isinstance(error, ReadError) and error.code == "large"
    assert getattr(page, "size", 0) == getattr(there, "size", 0) == 101


async def test_what_is_no_file_or_too_large_is_named_and_holds_nobody_up(space: memgang.Space, tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to, nothing, a zero in the path; a limit with the numbers."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(101))
    async with Reads(space, Manners(bytes_max=100)) as reads, Reads(space) as more:
        for name, says in (("", "folder"), ("pipe", "not a regular file"), ("none", "no such file"), ("a\0b", "no path")):
            with pytest.raises(ReadError, match=says):
                await reads.read_file(f"{tmp_path}/{name}")
        assert (await more.read_file(str(tmp_path / "large"))).size == 101
        with pytest.raises(ReadError, match="has 101 bytes; the limit is 100") as told:
            await reads.read_file(str(tmp_path / "large"))
        assert told.value.code == "large"
