"""Proof of death on one host: a file that a living process holds locked.

    <runtime_dir>/alive/<incarnation>      locked exclusively from before it has this name until the process ends

The kernel frees the lock however the process dies, and keeps it while the process is stopped (SIGSTOP). So
a lock that can be had proves that its process is dead, also where process numbers repeat; a file that is not
there proves nothing (another host, another user, a tidied directory), and then the lease decides as ever.
Correctness never rests on this: it only spares the living the wait for a dead leader's lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from memgang.errors import StoreUnavailable
from memgang.store.house import close_lock, open_lock, private_directory, try_lock
from memgang.store.process import incarnation
from memgang.store.wakeups import Ear

CHECK_S = 0.1  # how often a follower looks after its leader
FORGOTTEN_S = 3600.0  # a dead process's file is kept so long after it was found dead, for others who follow it

NEW_S = 60.0  # a file without its name yet may still be about to be locked

_held: set[tuple[Path, str]] = set()  # the files this process holds locked
_seen: dict[tuple[Path, str], tuple[float, bool]] = {}


def folder(runtime_dir: Path) -> Path:
    """Where the living of one host and user sign in."""
    return runtime_dir / "alive"


def sign_in(runtime_dir: Path) -> None:
    """Hold this process's file for as long as it lives. Where that cannot be, its death is seen by its lease."""
    place, me = folder(runtime_dir), incarnation()
    if (place, me) in _held:
        return
    with contextlib.suppress(OSError, StoreUnavailable):
        private_directory(runtime_dir, exact=False)
        private_directory(place)
        # Locked under another name first: under its own it would look like that of a dead process for a moment.
        new = place / f".{me}"
        fd = open_lock(new)
        if try_lock(fd):
            new.rename(place / me)
            _held.add((place, me))
        else:
            close_lock(fd)
        _tidy(place)


def dead(runtime_dir: Path, inc: str) -> bool:
    """Whether the process of this incarnation is proved to be dead. Asked at most every 100 ms for each."""
    place = folder(runtime_dir)
    if (place, inc) in _held or not inc.isalnum():
        return False
    now = time.monotonic()
    at, found = _seen.get((place, inc), (-1.0, False))
    if found or now - at < CHECK_S * 0.9:
        return found
    if len(_seen) > 10_000:
        _seen.clear()
    found = unlocked(place / inc)
    _seen[place, inc] = now, found
    return found


class Watch:
    """Looks after leaders of this host for all who follow them here. Lives as long as the Store.

    One task for however many follow: a follower of its own would ask ten times a second for each call.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._place = runtime_dir
        self._ears: dict[str, set[Ear]] = {}
        self._task: asyncio.Task[None] | None = None

    def dead(self, inc: str) -> bool:
        """Whether this process is proved to be dead."""
        return dead(self._place, inc)

    @contextlib.contextmanager
    def over(self, inc: str, ear: Ear) -> Iterator[None]:
        """Within the block, the ear is woken when this process is found dead. Nobody is looked after where none is named."""
        if not inc:
            yield
            return
        self._ears.setdefault(inc, set()).add(ear)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            if inc in self._ears:
                self._ears[inc].discard(ear)
                if not self._ears[inc]:
                    del self._ears[inc]

    async def _look(self) -> None:
        while self._ears:
            await asyncio.sleep(CHECK_S)
            for inc in [inc for inc in self._ears if dead(self._place, inc)]:
                for ear in self._ears.pop(inc):
                    ear.wake()

    def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()


def unlocked(path: Path) -> bool:
    """Whether nobody has this file locked. False too where it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Shared is enough as proof, and two who look at once do not take each other for the living.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _tidy(place: Path) -> None:
    """Take away the files of those long dead: marked when first found so, removed an hour later."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            path = Path(entry.path)
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if entry.name.startswith(".") and time.time() - status.st_mtime < NEW_S or not unlocked(path):
                    continue
                if status.st_mode & 0o777 != 0o400:
                    os.utime(path)
                    path.chmod(0o400)
                elif time.time() - status.st_mtime > FORGOTTEN_S:
                    path.unlink()


def _after_fork() -> None:
    _held.clear()  # the child has an incarnation of its own; `open_lock` has let go of the parent's file
    _seen.clear()


os.register_at_fork(after_in_child=_after_fork)
