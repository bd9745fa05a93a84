"""Where the tier of one space lies. Whoever comes first makes it anew, whoever leaves last removes it.

    <base>/memgang-<uid>/<server>-<space>.door    held while somebody comes or goes
                        /<server>-<space>.in      held, shared, by every process that is in
                        /<server>-<space>/        the tier itself; 0700. Large bodies that the server has too: files/
                        /<server>-<space>.files/  large bodies that only this host has; the last one out moves them to the disk
                        /<server>-<space>.ring/   events of processes, see ring.py; there until they are written

The kernel frees the lock of a process that was killed, so nobody has to be counted; and what lies there while
nobody is in is worth nothing: it is wiped by the next who comes, or by whoever comes to another tier beside it.
Nothing is left to be trusted from an earlier time, another boot, or before the server lost its data. Large bodies stay, and are
hashed before anybody is given them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb

from memgang.errors import StoreUnavailable
from memgang.store.host import ring
from memgang.store.host.tier import Tier
from memgang.store.house import close_lock, open_lock, private_directory, try_lock

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the place is the point; what lies in it is 0700 and checked
DOOR_S = 5.0
SHARE = 0.25  # of what is free there
MOST_BYTES = 1 << 30
FORM = 3  # of what is written in a tier
LEAST_BYTES = 8 << 20  # less is not worth its trouble


@dataclass(slots=True)
class Home:
    """This process's stay in one tier, shared by all its spaces of that name. Lives as long as the last of them."""

    tier: Tier
    folder: Path
    lock: int
    guests: int = 1

    @property
    def rings(self) -> Path:
        """Where events wait to be written. Not in the tier: they outlive everybody who is in."""
        return self.folder.with_name(self.folder.name + ".ring")

    def leave(self, last: Callable[[], None] = lambda: None) -> None:
        """One guest less; the last process out removes the tier, and does ``last`` before anybody else comes. Never raises."""
        with _guard:
            self.guests -= 1
            if self.guests or _homes.get(self.folder) is not self:
                return
            del _homes[self.folder]
            self.tier.close()
            with contextlib.suppress(StoreUnavailable, OSError), _door(self.folder):
                if try_lock(self.lock):
                    last()
                    shutil.rmtree(self.folder, ignore_errors=True)
                    for end in (".in", ".door"):
                        self.folder.with_name(self.folder.name + end).unlink(missing_ok=True)
            close_lock(self.lock)


_homes: dict[Path, Home] = {}
_guard = threading.RLock()


def place(server: str, space: str, base: Path | None) -> Path:
    """Where the tier of this space lies. ``base`` None: shared memory where there is any, else the directory for temporary files."""
    root = base or (SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    return root / f"memgang-{os.geteuid()}" / f"{server[:16]}-{space}"


def files_of(folder: Path) -> Path:
    """Where the large bodies lie that only this host has."""
    return folder.with_name(folder.name + ".files")


def enter(server: str, space: str, *, base: Path | None, bytes_max: int) -> Home | None:
    """Come in to the tier of this space on this server (any text that names it).

    None: there is no room for a tier, or no place that is ours alone; then every read asks the server.

    ``base``: see `place`. ``bytes_max`` 0: 1 GiB; in any case at most a quarter of what is free there.
    """
    folder = place(server, space, base)
    mine = folder.parent
    with _guard, contextlib.suppress(StoreUnavailable, OSError, ValueError, lmdb.Error):
        if (home := _homes.get(folder)) is not None:
            home.guests += 1
            return home
        private_directory(mine)
        room = shutil.disk_usage(mine)
        size = min(bytes_max or MOST_BYTES, int(room.free * SHARE))
        if size < LEAST_BYTES and not folder.is_dir():  # a tier that is there has its room already
            return None
        with contextlib.suppress(StoreUnavailable, OSError):
            _tidy(mine)
            ring.tidy(mine)
        with _door(folder):
            lock = open_lock(folder.with_name(folder.name + ".in"))
            try:
                first = try_lock(lock)
                if first:
                    shutil.rmtree(folder, ignore_errors=True)
                    if size < LEAST_BYTES:  # nobody was in it
                        raise StoreUnavailable(f"{mine} has no room for a tier")
                if not try_lock(lock, shared=True):
                    raise StoreUnavailable(f"{folder} is held by somebody who is not in it")
                private_directory(folder)
                # The first to come says how large it is, for all: in a smaller map there is nothing to be read. And in which
                # form it is written: who knows another goes without.
                if first:
                    (folder / "size").write_text(f"{size} {FORM}", encoding="ascii")
                size, form = map(int, (folder / "size").read_text("ascii").split())
                if form != FORM:
                    raise StoreUnavailable(f"{folder} is written in form {form}, and read here in form {FORM}")
                home = _homes[folder] = Home(Tier(folder, size), folder, lock)
            except BaseException:
                close_lock(lock)
                raise
            return home
    return None


@contextlib.contextmanager
def _door(folder: Path, patience_s: float = DOOR_S) -> Iterator[None]:
    """Alone while coming or going: to look whether nobody is in, and to act on it, is one step."""
    path = folder.with_name(folder.name + ".door")
    ends = time.monotonic() + patience_s
    while True:
        fd = open_lock(path)
        if try_lock(fd):
            # Whoever left last has removed the file: then ours is a lock on nothing.
            with contextlib.suppress(OSError):
                if os.fstat(fd).st_ino == os.stat(path).st_ino:
                    break
        close_lock(fd)
        if time.monotonic() > ends:
            raise StoreUnavailable(f"{path} is held: somebody comes or goes, and does not end")
        time.sleep(0.002)
    try:
        yield
    finally:
        close_lock(fd)


def _tidy(mine: Path) -> None:
    """Remove the tiers beside ours in which nobody is: of processes that were killed all at once, or while they came or left."""
    for folder in {path.with_suffix("") for path in [*mine.glob("*.in"), *mine.glob("*.door")]}:
        if folder in _homes:
            continue
        lock = folder.with_name(folder.name + ".in")
        with contextlib.suppress(StoreUnavailable, OSError), _door(folder, 0.0):
            fd = open_lock(lock)
            try:
                if try_lock(fd):
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink(missing_ok=True)
                    folder.with_name(folder.name + ".door").unlink(missing_ok=True)
            finally:
                close_lock(fd)


def _after_fork() -> None:
    # Environment, locks and pages belong to the parent. The child's copies of them are never touched again: to close an
    # environment here would take down the parent's readers (tried: they find pages missing). LMDB does not open the
    # same files twice in one process either, so as long as the parent's tier is there the child asks the server.
    global _guard
    _guard = threading.RLock()
    for home in _homes.values():
        home.tier.abandon()
    _homes.clear()


os.register_at_fork(after_in_child=_after_fork)
