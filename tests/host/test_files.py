"""Sealed files and their shelves, without a server: whole or not there, mapped or removed, counted either way."""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memgang.codec import Encoded, Hashing, ref_of
from memgang.errors import IntegrityError, StoreFull, StoreUnavailable
from memgang.model import Ref
from memgang.store.host import Files, Stamp, sealed, shelf
from memgang.store.host import files as filed
from memgang.store.host.files import HIGH, LOW
from memgang.store.host.headroom import headroom
from memgang.store.host.sealed import PIECE, mapped
from memgang.store.host.shelf import Shelf

BYTES = "application/octet-stream"
ROUNDS = 10_000 if os.environ.get("MEMGANG_SOAK") else 2_000


def value(size: int, seed: int = 1) -> Encoded:
    return Encoded(BYTES, random.Random(seed).randbytes(size))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Shelves of their own, with room for a mebibyte in memory."""
    return Files(tmp_path / "ours", tmp_path / "disk", tmp_path / "copies", 1 << 20)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with room for 8 MB, and nothing else in it."""
    place = tmp_path / "tmpfs"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small tmpfs needs the right to mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def put(files: Files, what: Encoded) -> tuple[Ref, Stamp]:
    laid = files.lay(what)
    laid.done()
    return laid.ref, laid.stamp


# ── one file ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 70_000, PIECE, PIECE + 1, 9 * PIECE + 5])
def test_a_body_of_any_size_is_mapped_as_it_was_put(files: Files, size: int) -> None:
    """Its head stands before it; its reference is that of both."""
    files = Files(files.ours.root, files.spilled.root, None, 1 << 30)
    body = random.Random(size).randbytes(size)
    ref, stamp = put(files, Encoded(BYTES, memoryview(body), b"head"))
    assert ref == ref_of(BYTES, b"head" + body)
    view = files.mapped(ref.id, stamp)
    assert view is not None and view == b"head" + body and view.readonly
    assert os.stat(files.ours.path(ref.id)).st_mode & 0o777 == 0o400


@pytest.mark.parametrize("pieces", [1, 12])
def test_what_is_hashed_is_what_is_written_while_the_value_changes(files: Files, pieces: int) -> None:
    """An array that is written to in the middle of it is stored as something, and under the reference of that."""
    files = Files(files.ours.root, files.spilled.root, None, 1 << 30)
    numbers, ended = bytearray(pieces * PIECE), threading.Event()

    def scribble() -> None:
        while not ended.is_set():
            for at in range(0, len(numbers), 4096):
                numbers[at] = (numbers[at] + 1) % 256

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        for _ in range(60 // pieces):
            ref, stamp = put(files, Encoded(BYTES, memoryview(numbers)))
            view = files.mapped(ref.id, stamp)
            assert view is not None and ref_of(BYTES, view) == ref
    finally:
        ended.set()
        writer.join()


def test_a_piece_is_hashed_before_its_room_is_used_for_another(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that hashes is late: the third piece waits for it, and does not take the place of the first."""
    files = Files(files.ours.root, files.spilled.root, None, 1 << 30)
    written, late, real_add, real_write, calls = threading.Event(), [True], Hashing.add, os.write, [0]

    def add(self: Hashing, piece: Any) -> None:
        if len(piece) == PIECE and late:
            late.pop()
            written.wait(0.5)  # as long as it has not been written over, nobody sets it
        real_add(self, piece)

    def write(fd: int, piece: Any) -> int:
        calls[0] += len(piece) == PIECE
        if calls[0] == 3:
            written.set()
        return real_write(fd, piece)

    monkeypatch.setattr(Hashing, "add", add)
    monkeypatch.setattr(os, "write", write)
    numbers = bytearray(random.Random(3).randbytes(6 * PIECE))
    assert put(files, Encoded(BYTES, memoryview(numbers)))[0] == ref_of(BYTES, bytes(numbers))


def test_without_nameless_files_a_body_is_stored_all_the_same(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: under a name of its own until it is whole; what a killed writer leaves goes."""
    monkeypatch.delattr(os, "O_TMPFILE")
    ref, stamp = put(files, value(70_000))
    assert files.mapped(ref.id, stamp) is not None
    assert [path.name for path in files.ours.root.glob("**/*") if path.is_file()] == [ref.id]
    (files.ours.root / ".left").write_bytes(b"x")
    files.tidy()
    assert not (files.ours.root / ".left").exists()


def test_the_same_body_put_twice_is_one_file(files: Files) -> None:
    """The second finds the name taken, and takes what has it."""
    first, second = put(files, value(70_000)), put(files, value(70_000))
    assert first == second and len(list(files.ours.items())) == 1


def test_a_damaged_file_is_replaced_by_who_puts_the_same(files: Files) -> None:
    """Its bytes are compared, not its size alone."""
    ref, _ = put(files, value(70_000))
    damage(files.ours.path(ref.id))
    again, stamp = put(files, value(70_000))
    view = files.mapped(ref.id, stamp)
    assert again == ref and view is not None and ref_of(BYTES, view) == ref
    assert [path.name for path in files.ours.root.glob("?/*")] == [ref.id]


def damage(path: Path, at: int = 100) -> None:
    """As an outsider does it who may."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        was = file.read(1)
        file.seek(at)
        file.write(bytes([was[0] ^ 1]))
    path.chmod(0o400)


@pytest.mark.catalogue("A22")
@pytest.mark.parametrize("spilled", [False, True])
def test_a_flipped_bit_is_seen_wherever_it_is(files: Files, spilled: bool) -> None:
    """A thousand places: the stamp is another, and the bytes are hashed again and refused; the file is put aside."""
    chance, ref, stamp = random.Random(22), *put(files, value(70_000))
    home = files.ours
    if spilled:
        files.leave()
        home, found = files.spilled, files.find(ref, BYTES)
        assert found is not None
        stamp = found.stamp
        del found
    whole = home.path(ref.id).read_bytes()
    for n in range(1000):
        damage(home.path(ref.id), chance.randrange(len(whole)))
        assert files.mapped(ref.id, stamp) is None
        with pytest.raises(IntegrityError, match="put aside"):
            files.find(ref, BYTES)
        assert not files.has(ref.id), n
        home.path(ref.id).write_bytes(whole)
        home.path(ref.id).chmod(0o400)


def test_what_has_replaced_a_damaged_file_is_not_put_aside(files: Files) -> None:
    """Two find the damage; one of them is late, and somebody has put the same anew."""
    ref, _ = put(files, value(70_000))
    damage(files.ours.path(ref.id))
    damaged = Stamp.of(os.stat(files.ours.path(ref.id)))
    put(files, value(70_000))
    files.put_aside(files.ours, ref.id, damaged)
    assert files.find(ref, BYTES) is not None


@pytest.mark.parametrize("how", ["shorter", "empty", "writable", "link", "directory", "gone"])
def test_what_is_no_sealed_file_is_not_mapped(files: Files, how: str, tmp_path: Path) -> None:
    """Cut short, writable, or something else under its name: reading it could kill us, or change under us."""
    ref, stamp = put(files, value(70_000))
    path = files.ours.path(ref.id)
    if how in ("shorter", "empty"):
        path.chmod(0o600)
        os.truncate(path, 5 if how == "shorter" else 0)
        path.chmod(0o400)
    elif how == "writable":
        path.chmod(0o600)
    else:
        path.rename(tmp_path / "elsewhere")
        if how == "link":
            path.symlink_to(tmp_path / "elsewhere")
        elif how == "directory":
            path.mkdir()
    assert files.mapped(ref.id, stamp) is None
    if how == "shorter":
        with pytest.raises(IntegrityError, match="a file of 5 bytes"):
            files.find(ref, BYTES)
    assert files.find(ref, BYTES) is None


def test_one_process_has_one_mapping_of_a_file(files: Files) -> None:
    """Sixty agents that read the same document take one descriptor, not sixty."""
    ref, stamp = put(files, value(70_000))
    views = [files.mapped(ref.id, stamp) for _ in range(5)]
    assert len({id(view.obj) for view in views if view is not None}) == 1
    there = files.ours.path(ref.id)
    views.clear()
    assert sealed.unlinked(there)  # nobody has it any more: to keep it mapped for later would keep its bytes


def test_a_mapping_of_a_damaged_file_is_not_given_for_the_one_that_replaced_it(files: Files) -> None:
    """Who still has the old one mapped gets the new one when it asks again."""
    ref, stamp = put(files, value(70_000))
    old = files.mapped(ref.id, stamp)
    damage(files.ours.path(ref.id))
    _, stamp = put(files, value(70_000))
    new = files.mapped(ref.id, stamp)
    assert old is not None and new is not None and old != new and ref_of(BYTES, new) == ref


def test_with_too_many_files_open_it_is_said_what_to_do(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that the object is lost."""
    ref, stamp = put(files, value(70_000))
    monkeypatch.setattr(mmap, "mmap", refuse(24))
    with pytest.raises(StoreUnavailable, match="ulimit -n"):
        files.mapped(ref.id, stamp)


def refuse(number: int) -> Any:
    class Refusing(mmap.mmap):
        def __new__(cls, *_: Any, **__: Any) -> Any:
            raise OSError(number, os.strerror(number))

    return Refusing


# ── putting and removing ─────────────────────────────────────────────────────────────────────────


def test_who_removes_waits_for_who_puts(files: Files) -> None:
    """Between its name and its record a file is nobody's to remove."""
    laid = files.lay(value(70_000))
    with files.alone(laid.ref.id) as shelves:
        assert shelves is None
    laid.done()
    with files.alone(laid.ref.id) as shelves:
        assert shelves is not None and files.ours in shelves


def test_who_puts_does_not_wait_for_ever(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process that removes was stopped, the body goes to the other shelf."""
    monkeypatch.setattr(shelf, "LOCK_S", 0.0)
    ref, _ = put(files, value(70_000))
    files.ours.remove(ref.id)
    with files.ours.alone(ref.id) as alone:
        assert alone
        assert put(files, value(70_000))[0] == ref
    assert not files.ours.path(ref.id).exists() and files.spilled.path(ref.id).exists()


def test_a_shelf_that_is_cleared_meanwhile_is_made_anew(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a directory that has been removed locks nothing: it is taken again, in the new one."""
    real, calls = fcntl.flock, [0]

    def flock(fd: int, how: int) -> None:
        calls[0] += 1
        if calls[0] == 1:
            files.clear()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    files.ours.make()
    laid = files.ours.lay(value(70_000))
    with files.alone(laid.ref.id) as shelves:
        assert shelves is None and files.has(laid.ref.id)
    laid.done()


def test_a_place_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """Others may write to it: what lies there could be replaced."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for name, why in (("open", "others may write"), ("link", "symbolic link")):
        with pytest.raises(StoreUnavailable, match=why):
            Shelf(tmp_path / name).lay(value(70_000))


def test_what_is_mapped_is_taken_away_and_counted_until_nobody_has_it(files: Files) -> None:
    """It has no name any more at once; its bytes are free when the last view is gone."""
    ref, stamp = put(files, value(70_000))
    view = files.mapped(ref.id, stamp)
    files.ours.remove(ref.id)
    assert files.mapped(ref.id, stamp) is None and not files.has(ref.id)
    files.tidy()
    assert files.ours.used() >= 70_000 and view is not None and ref_of(BYTES, view) == ref
    del view
    files.tidy()
    assert files.ours.used() == 0


def test_who_leaves_last_takes_along_what_another_has_just_put(files: Files) -> None:
    """However long ago it has counted what lies there itself: a second later it would have known."""
    assert files.ours.used() == 0
    ref, _ = put(Files(files.ours.root, files.spilled.root, None, 1 << 20), value(70_000))
    files.leave()
    assert [item.ident for item in files.spilled.items()] == [ref.id] and not files.ours.root.exists()


def test_a_copy_that_was_mapped_when_it_went_is_buried_where_there_are_only_copies(files: Files) -> None:
    """As beside a server that has all bodies: without it they would fill the memory, and no copy would find room any more."""
    what = value(70_000)
    draft = files.keep(None, what.size)
    assert draft is not None and files.copies is not None
    draft.fill(what)
    draft.seal(lasting=False)
    laid = files.copies.publish(draft, ref_of(*what))
    laid.done()
    draft.close()
    view = files.mapped(laid.ref.id, laid.stamp)
    files.drop_copies([laid.ref.id])
    assert view is not None and files.copies.used() >= 70_000
    del view
    assert files.tidy() == [] and files.copies.used() == 0


@pytest.mark.catalogue("A16")
def test_bytes_are_counted_to_the_last_mapping(tmpfs: Path) -> None:
    """Mapped, evicted while it is mapped, let go, again and again: what is counted is what the file system has lost."""
    files, chance = Files(tmpfs / "ours", tmpfs / "disk", None, 1 << 30), random.Random(16)
    files.ours.make()
    free = os.statvfs(tmpfs).f_bfree * 4096
    views: list[memoryview | None] = []
    for n in range(ROUNDS):
        ref, stamp = put(files, value(65_537, n % 40))
        views.append(files.mapped(ref.id, stamp))
        if chance.random() < 0.7:
            files.ours.remove(ref.id)
        while len(views) > 20:
            views.pop(chance.randrange(len(views)))
        if n % 50 == 0:
            files.tidy()
            files.ours._counted = -1.0
            assert files.ours.used() == free - os.statvfs(tmpfs).f_bfree * 4096, n
    views.clear()
    for item in list(files.ours.items()):
        files.ours.remove(item.ident)
    files.tidy()
    assert files.ours.used() == 0 and os.statvfs(tmpfs).f_bfree * 4096 == free


def test_a_forked_child_keeps_what_was_mapped(files: Files) -> None:
    """The mapping is the child's as well: the bytes are counted until both have let go."""
    ref, stamp = put(files, value(70_000))
    view = files.mapped(ref.id, stamp)
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        os.read(ours, 1)
        os._exit(0 if view is not None and ref_of(BYTES, view) == ref else 1)
    del view
    files.ours.remove(ref.id)
    files.tidy()
    assert files.ours.used() >= 70_000
    os.write(theirs, b"x")
    assert os.waitpid(child, 0)[1] == 0
    files.tidy()
    assert files.ours.used() == 0


# ── room ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_finds_no_room_in_memory_goes_to_the_disk(files: Files) -> None:
    """And is mapped from there."""
    refs = [put(files, value(400_000, n)) for n in range(3)]
    assert len(list(files.ours.items())) == 2 and len(list(files.spilled.items())) == 1
    for ref, stamp in refs:
        view = files.mapped(ref.id, stamp)
        assert view is not None and ref_of(BYTES, view) == ref


def test_copies_give_way_to_what_nobody_else_has(files: Files) -> None:
    """The oldest first, and none that is mapped."""
    copies = [keep(files, value(200_000, n)) for n in range(5)]
    mapped_one = files.mapped(*copies[0])
    put(files, value(400_000, 9))
    assert mapped_one is not None
    assert {item.ident for item in files.copies.items()} == {copies[n][0] for n in (0, 3, 4)}  # type: ignore[union-attr]
    assert not list(files.spilled.items())


def keep(files: Files, what: Encoded) -> tuple[str, Stamp]:
    draft = files.keep(what.media_type, what.size)
    assert draft is not None and files.copies is not None
    draft.fill(what)
    draft.seal(lasting=False)
    laid = files.copies.publish(draft, draft.ref())
    laid.done()
    draft.close()
    return laid.ref.id, laid.stamp


def test_a_copy_for_which_there_is_no_room_is_not_kept(files: Files) -> None:
    put(files, value(900_000))
    assert files.keep(None, 300_000) is None


def test_above_the_high_water_the_oldest_go_to_the_disk(files: Files) -> None:
    """Down to the low one; whoever looks for one of them finds it there."""
    refs = [put(files, value(100_000, n))[0] for n in range(9)]
    for n, ref in enumerate(refs):
        os.utime(files.ours.path(ref.id), (n, n))
    assert files.ours.used() > files.limit * HIGH
    files.tidy()
    assert files.ours.used() <= files.limit * LOW
    moved = [ref for ref in refs if files.spilled.path(ref.id).exists()]
    assert moved and moved == refs[:len(moved)]
    for ref in refs:
        assert files.find(ref, BYTES) is not None
        assert not (files.ours.path(ref.id).exists() and files.spilled.path(ref.id).exists())


def test_what_is_on_its_way_to_the_disk_is_removed_by_nobody(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who would take it for one without a record removes one of two, and the other comes after."""
    ref, _ = put(files, value(100_000))
    seen, real = [], sealed.Draft.fill

    def fill(self: sealed.Draft, what: Encoded) -> None:
        with files.alone(ref.id) as shelves:
            seen.append(shelves)
        real(self, what)

    monkeypatch.setattr(sealed.Draft, "fill", fill)
    files.spill()
    assert seen == [None] and files.spilled.path(ref.id).exists()


def test_one_of_a_host_keeps_house_at_a_time(files: Files) -> None:
    """Another finds nothing to do, until that one is done or dead."""
    ref, _ = put(files, value(70_000))
    fd = os.open(files.ours.root, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert files.tidy() == []
    os.close(fd)
    assert files.tidy() == [ref.id]


@pytest.mark.catalogue("A15")
def test_a_full_file_system_spills_and_then_refuses(tmpfs: Path) -> None:
    """8 MB filled to the last page by bodies of all sizes: no signal, no half body, and the refusal says where there is no room."""
    (tmpfs / "disk").mkdir()
    files, refs, chance = Files(tmpfs / "ours", tmpfs / "disk", tmpfs / "copies", 1 << 30), [], random.Random(15)
    with pytest.raises(StoreFull, match="bytes in .*ours, and on the disk in .*disk neither"):
        for n in range(1000):
            refs.append(put(files, value(chance.randrange(65_537, 700_000), n)))
    for ref, stamp in refs:
        view = files.mapped(ref.id, stamp)
        assert view is not None and ref_of(BYTES, view) == ref
    with pytest.raises(StoreFull):
        put(files, value(8 << 20))
    (tmpfs / "filler").write_bytes(bytes(os.statvfs(tmpfs).f_bavail * 4096))
    with pytest.raises(StoreFull):
        put(files, value(70_000, 9))


@pytest.mark.catalogue("A15")
def test_room_that_goes_in_the_middle_of_a_write_is_no_half_body(tmpfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else takes it between the look and the write: the body goes to the disk, whole."""
    files = Files(tmpfs / "ours", tmp_path / "disk", None, 1 << 30)
    files.ours.make()
    monkeypatch.setattr(files, "_room", lambda *_: True)
    (tmpfs / "filler").write_bytes(bytes(7 << 20))
    ref, stamp = put(files, value(5 << 20))
    assert files.spilled.path(ref.id).exists() and not list(files.ours.items())
    view = files.mapped(ref.id, stamp)
    assert view is not None and ref_of(BYTES, view) == ref
    (tmpfs / "filler").unlink()
    assert os.statvfs(tmpfs).f_bfree * 4096 > 7 << 20  # of what was begun nothing is left


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.catalogue("A15")
def test_the_limit_of_a_control_group_is_seen(tmp_path: Path, version: int) -> None:
    """That of the group or of one above it; what the kernel would drop first does not count as used."""
    own, root = tmp_path / "own", tmp_path / "cgroup"
    names = ("memory.max", "memory.current", "inactive_file") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    base = root if version == 2 else root / "memory"
    own.write_text("0::/a/b\n" if version == 2 else "11:cpu:/x\n4:memory:/a/b\n")
    for folder, limit, used, cached in (("a/b", 1000, 700, 100), ("a", 5000, 4900, 0), ("", 0, 9, 0)):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder / names[0]).write_text(f"{limit}\n" if limit else "max\n")
        (base / folder / names[1]).write_text(f"{used}\n")
        (base / folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")
    assert headroom(root, own) == 100
    (base / "a" / names[1]).write_text("10\n")
    assert headroom(root, own) == 400
    assert headroom(root, tmp_path / "none") == headroom(tmp_path / "none", own) == sys.maxsize


def test_where_the_control_group_leaves_no_room_nothing_goes_into_memory(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process over its limit is killed, and not told before."""
    monkeypatch.setattr(filed, "headroom", lambda: 100_000)
    ref, _ = put(files, value(99_000))
    assert files.spilled.path(ref.id).exists()
    ref, _ = put(files, value(70_000))
    assert files.ours.path(ref.id).exists()
    ref, _ = put(files, value(70_001))
    assert files.spilled.path(ref.id).exists()  # what was written since the look is part of it


# ── processes that die ───────────────────────────────────────────────────────────────────────────

STEPS = ["open", "write", "write 3", "hash", "fchmod", "lock", "link", "linked", "record", "done"]


@pytest.mark.catalogue("A2")
@pytest.mark.parametrize("step", STEPS)
def test_a_writer_killed_at_any_step_leaves_a_whole_file_or_none(files: Files, tmp_path: Path, step: str) -> None:
    """The kernel takes what has no name; what has one is whole, and its directory is free."""
    files = Files(files.ours.root, files.spilled.root, None, 1 << 30)
    done = subprocess.run([sys.executable, "-m", "tests.host.sealer", str(files.ours.root), str(files.spilled.root), step],
                          cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = list(files.ours.items())
    assert len(left) == (1 if STEPS.index(step) >= STEPS.index("linked") else 0)
    for item in left:
        found = mapped(files.ours.path(item.ident))
        assert found is not None and ref_of(BYTES, found.view).id == item.ident
        del found
        with files.alone(item.ident) as shelves:  # no record: who keeps house takes it
            assert shelves is not None
            for one in shelves:
                one.remove(item.ident)
    files.ours._counted = -1.0
    assert files.ours.used() == 0 and not list(Shelf(files.ours.root).items())
    assert not list(files.ours.root.glob("**/.*"))


def test_a_spill_that_is_killed_half_way_loses_nothing(files: Files) -> None:
    """What was moved is on the disk, the rest in memory, and the next who leaves does the rest."""
    refs = [put(files, value(100_000, n))[0] for n in range(5)]
    done = subprocess.run([sys.executable, "-m", "tests.host.sealer", str(files.ours.root), str(files.spilled.root), "spill 3"],
                          cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(files.ours.items())) == 3  # two were moved, the third had its name on the disk already
    assert all(files.find(ref, BYTES) is not None for ref in refs)
    files.leave()
    assert not files.ours.root.exists() and len(list(files.spilled.items())) == 5
    assert all(files.find(ref, BYTES) is not None for ref in refs)
