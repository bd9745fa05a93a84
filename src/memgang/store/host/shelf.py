"""A shelf: one directory of sealed files, by their ids.

    <root>/<first character of the id>/<id>     the files; the directory itself is what is locked
          /gone/                                removed while somebody had them mapped, until nobody has

Who puts a file here holds its directory's lock, shared, until its record is written. Who removes holds it alone, and asks
meanwhile whether there is a record:

    A: links x                                     B: forgets x at the server
    A: writes the record of x (anew)               B: removes the file of x     <- and A's reference has no body

What is removed while it is mapped stays in `gone`, under another name: its bytes are still taken, and `used` counts them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from memgang.codec import Encoded
from memgang.model import Ref
from memgang.store.host.sealed import Draft, Sealed, Stamp, mapped, unlinked
from memgang.store.house import private_directory
from memgang.store.process import fresh

LOCK_S = 1.0  # who puts waits so long for who removes; longer than a round trip takes
COUNTED_S = 1.0  # between two countings of what lies here
_ID = re.compile(r"[a-z2-7]{32}")


class Laid(NamedTuple):
    """A file that has its name, and maybe no record yet: nobody removes it before `done`."""

    ref: Ref
    stamp: Stamp
    lock: int

    def done(self) -> None:
        """Its record is written, or will not be."""
        os.close(self.lock)


class Busy(Exception):
    """A directory is held by somebody who does not let go: a process that was stopped."""


class Item(NamedTuple):
    """A file as it lies here."""

    ident: str
    size: int  # bytes it takes
    made: float  # seconds since 1970


class Shelf:
    """Sealed files below one root. Safe to be used by any number of processes and threads."""

    def __init__(self, root: Path, *, lasting: bool = False) -> None:
        """``lasting``: what lies here is on a disk, and outlives the machine's being switched off."""
        self.root, self.lasting = root, lasting
        self._root = str(root)
        self._counted = -COUNTED_S
        self._used = 0

    def path(self, ident: str) -> Path:
        """Where the file of this id lies, or would."""
        return self.root / ident[0] / ident

    def lay(self, value: Encoded, known: Stamp | None = None) -> Laid:
        """Write a value, and give it its name; see `publish`.

        Raises:
                OSError: there is no room, or no such place.
            Busy, StoreUnavailable: the place is held, or not ours.
        """
        self.make()
        draft = Draft(self.root, value.media_type, value.size)
        try:
            draft.fill(value)
            draft.seal(lasting=self.lasting)
            return self.publish(draft, draft.ref(), known)
        finally:
            draft.close()

    def make(self) -> None:
        """Make the root, for its owner only. StoreUnavailable: there is one that is not ours alone."""
        private_directory(self.root)

    def publish(self, draft: Draft, ref: Ref, known: Stamp | None = None) -> Laid:
        """Give a sealed draft its name, or take the file that has it: where it is ``known`` by its stamp, or holds the same.

        The directory stays locked until `Laid.done`.

        Raises:
            OSError, Busy: as `lay`.
        """
        lock = self._locked(ref.id, shared=True, patience_s=LOCK_S)
        if lock is None:
            raise Busy(f"{self.path(ref.id).parent} has been held for {LOCK_S:.0f} s")
        try:
            if (stamp := draft.publish(lock, ref.id)) is None:
                there = mapped(self.path(ref.id))
                if there is not None and (there.stamp == known or _same(draft, there)):
                    stamp = there.stamp
                else:
                    stamp = draft.replace(lock, ref.id)
            if self.lasting:
                os.fsync(lock)
            self._used += draft.size
            return Laid(ref, stamp, lock)
        except BaseException:
            os.close(lock)
            raise

    def at(self, ident: str) -> str:
        """`path` as text, for who maps: to make a path of it takes as long as to open the file."""
        return f"{self._root}/{ident[0]}/{ident}"

    def find(self, ident: str) -> Sealed | None:
        """Map the file of this id, if it is here. What it holds is not looked at. OSError: as `mapped`."""
        return mapped(self.at(ident))

    # ── removing ──────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def alone(self, ident: str) -> Iterator[bool]:
        """Within the block nobody puts a file of this id here. False: somebody is about to."""
        lock = self._locked(ident, shared=False, patience_s=0.0)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    @contextlib.contextmanager
    def held(self, ident: str) -> Iterator[None]:
        """Within the block nobody removes a file of this id. Busy, OSError: somebody is at it."""
        lock = self._locked(ident, shared=True, patience_s=LOCK_S)
        if lock is None:
            raise Busy(f"{self.path(ident).parent} has been held for {LOCK_S:.0f} s")
        try:
            yield
        finally:
            os.close(lock)

    def let_go(self, ident: str) -> bool:
        """Take away its file if nobody has it mapped; whether that made room."""
        self._counted = -COUNTED_S
        try:
            return unlinked(self.path(ident))
        except OSError:
            return False

    def remove(self, ident: str) -> None:
        """Take away its file, if there is one."""
        path = self.path(ident)
        with contextlib.suppress(OSError):
            if not unlinked(path):
                (self.root / "gone").mkdir(mode=0o700, exist_ok=True)
                path.rename(self.root / "gone" / f"{ident}.{fresh()}")
            self._counted = -COUNTED_S

    def bury(self) -> None:
        """Remove for good what nobody has mapped any more, and what writers that were killed have left."""
        for path in [*(self.root / "gone").glob("*"), *self.root.glob(".*"), *self.root.glob("?/.*")]:
            with contextlib.suppress(OSError):
                if unlinked(path):
                    self._counted = -COUNTED_S

    def clear(self) -> None:
        """Everything goes, at once."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._counted = -COUNTED_S

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def items(self) -> Iterator[Item]:
        """All that lies here."""
        for directory in _entries(self.root):
            if len(directory.name) == 1:
                for entry in _entries(directory.path):
                    with contextlib.suppress(OSError):
                        about = entry.stat(follow_symlinks=False)
                        if _ID.fullmatch(entry.name):
                            yield Item(entry.name, about.st_blocks * 512, about.st_mtime)

    def used(self) -> int:
        """Bytes taken, with those of what was removed and is still mapped. Counted once a second, and when something is removed."""
        now = time.monotonic()
        if now - self._counted >= COUNTED_S:
            self._used, self._counted = sum(_sizes(self.root / "gone")) + sum(item.size for item in self.items()), now
        return self._used

    def _locked(self, ident: str, *, shared: bool, patience_s: float) -> int | None:
        ends = time.monotonic() + patience_s
        directory = self.path(ident).parent
        while True:
            try:
                directory.mkdir(mode=0o700)
            except FileExistsError:
                pass
            except FileNotFoundError:
                if not shared:
                    raise
                self.make()  # it was taken away since
                continue
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:  # else it was removed, with the shelf, before we had it
                    return fd
            except BlockingIOError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            if time.monotonic() >= ends:
                return None
            time.sleep(0.001)


def _same(draft: Draft, there: Sealed) -> bool:
    """Whether a file holds what a sealed draft does."""
    if there.stamp.size != draft.size:
        return False
    at = 0
    while piece := os.pread(draft.fd, 4 << 20, at):
        if piece != there.view[at:at + len(piece)]:
            return False
        at += len(piece)
    return True


def _sizes(folder: Path) -> Iterator[int]:
    for entry in _entries(folder):
        with contextlib.suppress(OSError):
            yield entry.stat(follow_symlinks=False).st_blocks * 512


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError:
        return []
