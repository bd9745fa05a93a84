"""Large bodies of one space on this host: on which shelf a new one goes, where one is found, and what gives way.

    ours     in shared memory, and nowhere else (`placement="host"`); it outlives the processes, not the machine
    copies   in shared memory, of what the server has too; removed with the tier
    spilled  on the disk: what was ours when the last process left, or found no room in memory

A body is looked for on all of them. Who finds none asks the server, which may have it. Bytes are hashed as they are written, once on a
host; whoever maps them later sees by their stamp (the tier keeps it) that nobody has touched the file since, which takes a
microsecond where 100 MiB of hashing take 26 ms. A file of which no stamp is known, or with another one, is hashed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

from memgang.codec import Encoded, digest, is_of
from memgang.errors import IntegrityError, StoreFull, StoreUnavailable
from memgang.model import Ref
from memgang.store.host.headroom import headroom
from memgang.store.host.sealed import Draft, Sealed, Stamp
from memgang.store.host.shelf import Busy, Laid, Shelf

SHARE, OF_MEMORY = 0.25, 0.10  # of the file system, of the machine's memory
SPARE = 1.05  # this much must be free for each byte that is written
HIGH, LOW = 0.80, 0.70  # of the limit: above the one, the oldest are spilled down to the other
LOOKED_S = 1.0  # between two looks at what the control group leaves, which take longer than a small put
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG)


class Files:
    """The shelves of one space. Safe to be used from any thread, and by any number of processes."""

    def __init__(self, ours: Path, spilled: Path, copies: Path | None, limit: int = 0) -> None:
        """``copies`` None: nothing is kept of what the server has. ``limit``: bytes in memory; 0: a quarter of the file
        system, at most a tenth of the machine's memory."""
        self.ours, self.spilled = Shelf(ours), Shelf(spilled, lasting=True)
        self.copies = Shelf(copies) if copies is not None else None
        self.shelves = [self.ours, *filter(None, [self.copies]), self.spilled]  # in the order of looking
        self._limit = limit
        self._headroom, self._looked = 0, -LOOKED_S
        # By their stamps: under one name there can be another file by now.
        self._maps: weakref.WeakValueDictionary[Stamp, mmap.mmap] = weakref.WeakValueDictionary()

    @property
    def limit(self) -> int:
        """Bytes that all files in memory may take."""
        if not self._limit:
            room = shutil.disk_usage(_there(self.ours.root))
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            self._limit = max(1, int(min(room.total * SHARE, memory * OF_MEMORY)))
        return self._limit

    def host(self) -> str:
        """A name of this host, as far as its shared memory goes: a container with its own is another."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            boot = os.uname().nodename
        return digest(f"{boot} {os.stat(_there(self.ours.root)).st_dev}".encode())[:10]

    # ── putting ───────────────────────────────────────────────────────────────────────────────

    def lay(self, value: Encoded) -> Laid:
        """Write what nobody else will have. Its directory stays locked until `Laid.done`.

        Raises:
            StoreFull: neither memory nor the disk has room for it.
        """
        for shelf in (self.ours, self.spilled):
            if not self._room(shelf, value.size):
                continue
            try:
                return shelf.lay(value)
            except Busy:
                continue
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise StoreUnavailable(f"{shelf.root} cannot be written to: {error.strerror}") from error
        what = f"{value.size:,} bytes in {self.ours.root}, and on the disk in {self.spilled.root} neither"
        raise StoreFull(what, self._in_memory(), self.limit)

    def keep(self, media_type: str | None, size: int) -> Draft | None:
        """A draft (see there) for a copy of what the server has; None where there is no room for one."""
        if self.copies is None or not self._room(self.copies, size):
            return None
        with contextlib.suppress(OSError, StoreUnavailable):
            self.copies.make()
            return Draft(self.copies.root, media_type, size)
        return None

    def _room(self, shelf: Shelf, size: int) -> bool:
        """Whether so many bytes more may go there. Copies give way for it."""
        needed = int(size * SPARE)
        free = shutil.disk_usage(_there(shelf.root)).free
        if shelf is self.spilled:
            return free >= needed
        if time.monotonic() - self._looked > LOOKED_S:
            self._headroom, self._looked = headroom(), time.monotonic()
        over = max(self._in_memory() + size - self.limit, needed - free, needed - self._headroom)
        if over > 0 and not self._let_copies_go(over):
            return False
        self._headroom -= size
        return True

    def _in_memory(self) -> int:
        return self.ours.used() + (self.copies.used() if self.copies is not None else 0)

    def _let_copies_go(self, needed: int) -> bool:
        """Remove the oldest copies that nobody has mapped; whether that made enough room."""
        if self.copies is None:
            return False
        for item in sorted(self.copies.items(), key=lambda item: item.made):
            if needed <= 0:
                break
            if self.copies.let_go(item.ident):
                needed -= item.size
        return needed <= 0

    # ── finding ───────────────────────────────────────────────────────────────────────────────

    def mapped(self, ident: str, stamp: Stamp) -> memoryview | None:
        """The file with this stamp, mapped: it is what it was when its bytes were hashed."""
        held = self._maps.get(stamp)
        for shelf in self.shelves:
            if held is not None:
                with contextlib.suppress(OSError):
                    if Stamp.of(os.stat(shelf.at(ident), follow_symlinks=False)) == stamp:
                        return memoryview(held)
            elif (found := self._find(shelf, ident)) is not None and found.stamp == stamp:
                return self._shared(found)
        return None

    def find(self, ref: Ref, media_type: str) -> Sealed | None:
        """Look for a body and hash what is found. Takes 0.3 ms for each MiB.

        Raises:
            IntegrityError: what there is, is damaged; it was put aside.
            StoreUnavailable: it cannot be mapped.
        """
        damaged = 0
        for shelf in self.shelves:
            found = self._find(shelf, ref.id)
            if found is None:
                continue
            if is_of(ref, media_type, found.view):
                self._shared(found)
                return found
            damaged = found.stamp.size
            self.put_aside(shelf, ref.id, found.stamp)
        if damaged:
            raise IntegrityError(ref, f"a file of {damaged:,} bytes, which was damaged and has been put aside")
        return None

    def put_aside(self, shelf: Shelf, ident: str, damaged: Stamp) -> None:
        """Take a damaged file away, unless somebody has put a new one in its place."""
        with contextlib.suppress(OSError), shelf.alone(ident) as alone:
            if alone and Stamp.of(os.stat(shelf.path(ident), follow_symlinks=False)) == damaged:
                shelf.remove(ident)

    def has(self, ident: str) -> bool:
        """Whether there is a file of this id. What it holds is not looked at."""
        return any(os.access(shelf.at(ident), os.F_OK) for shelf in self.shelves)

    def _find(self, shelf: Shelf, ident: str) -> Sealed | None:
        try:
            return shelf.find(ident)
        except OSError as error:
            hint = ": every large body in use takes one; let go of values, or raise `ulimit -n`" if error.errno == errno.EMFILE else ""
            raise StoreUnavailable(f"{shelf.path(ident)} cannot be mapped: {error.strerror}{hint}") from error

    def _shared(self, found: Sealed) -> memoryview:
        """So that all who have it in this process have one mapping, and one descriptor."""
        assert isinstance(found.view.obj, mmap.mmap)
        self._maps[found.stamp] = found.view.obj
        return found.view

    # ── giving way ────────────────────────────────────────────────────────────────────────────

    def drop_copies(self, idents: Sequence[str] | None) -> None:
        """They are gone at the server, or (None) all may be: the copies go. For what only this host has, see `Large.remove`."""
        if self.copies is not None and self.copies.root.is_dir():
            for ident in idents if idents is not None else [item.ident for item in self.copies.items()]:
                self.copies.remove(ident)

    def spill(self, down_to: int = 0) -> None:
        """Move the oldest of what only memory has to the disk, until so many bytes are left. What finds no room there stays."""
        items = sorted(self.ours.items(), key=lambda item: item.made)
        left = max(self.ours.used(), sum(item.size for item in items))  # what others have put in the last second is not counted yet
        for item in items:
            if left <= down_to:
                break
            with contextlib.suppress(OSError, StoreUnavailable, Busy):
                self._move(item.ident)
                left -= item.size

    def _move(self, ident: str) -> None:
        with self.ours.held(ident):  # nobody takes it for one without a record, and removes only one of the two
            found = self.ours.find(ident)
            if found is None:
                return
            self.spilled.make()
            draft = Draft(self.spilled.root, None, found.stamp.size)
            try:
                draft.fill(Encoded("", found.view))
                draft.seal(lasting=True)
                self.spilled.publish(draft, Ref("mg:" + ident)).done()
            finally:
                draft.close()
                del found
            self.ours.remove(ident)

    def leave(self) -> None:
        """The last process leaves the host's memory: what only it has goes to the disk."""
        self.ours.bury()
        self.spill()
        if not next(self.ours.items(), None):
            self.ours.clear()

    def clear(self) -> None:
        """Everything goes: the space is removed."""
        for shelf in self.shelves:
            shelf.clear()

    @contextlib.contextmanager
    def alone(self, ident: str) -> Iterator[list[Shelf] | None]:
        """Within the block nobody puts a file of this id on these shelves. None: somebody is about to."""
        shelves = [shelf for shelf in self.shelves if shelf.root.is_dir()]  # none comes to be where one was not looked for
        with contextlib.ExitStack() as held:
            try:
                had = [held.enter_context(shelf.alone(ident)) for shelf in shelves]
            except FileNotFoundError:  # a shelf was taken away meanwhile
                had = [False]
            yield shelves if all(had) else None

    def tidy(self) -> list[str]:
        """Bury what is gone and spill above the high water; the ids of all that only this host has, to be compared with the server.

        Nothing where another process of the host is at it, or there is nothing to look after.
        """
        root = next((shelf.root for shelf in self.shelves if shelf.root.is_dir()), None)  # with `network`, only that of copies is
        with contextlib.suppress(OSError):
            if root is None:
                return []
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # One at a time; the kernel frees it when that one dies.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for shelf in self.shelves:
                    shelf.bury()
                if self.ours.used() > self.limit * HIGH:
                    self.spill(int(self.limit * LOW))
            finally:
                os.close(fd)
            return sorted(item.ident for shelf in (self.ours, self.spilled) for item in shelf.items())
        return []

    def sizes(self) -> dict[str, int]:
        """Bytes on each shelf, and the most in memory."""
        return {"ours": self.ours.used(), "copies": self.copies.used() if self.copies is not None else 0,
                "spilled": self.spilled.used(), "limit": self.limit}


def _there(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
