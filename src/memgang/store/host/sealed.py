"""One sealed file: a body that every process of the host maps, and nobody changes.

    1  a file without a name (O_TMPFILE)        5  the lock of its directory, shared: nobody removes meanwhile
    2  written in pieces, hashed as written     6  linked: now it has its name, and is whole
    3  its bytes are those of its reference     7  its record is written at the server
    4  sealed: mode 0400                        8  the lock is let go

Whoever is killed before 6 leaves nothing at all, and before 7 a file without a record, which the next who keeps house
removes. It is written, not mapped and filled: a full file system is then an error, where it would be a SIGBUS. It is never cut
short afterwards, for the same reason; to remove a name is safe.

A reader maps it under a shared lock of the file, which lives as long as the mapping (`mmap` keeps a copy of the
descriptor). So whether anybody still has it, in any process and however that one died, is one question to the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from memgang.codec import Encoded, Hashing
from memgang.model import Ref
from memgang.store.process import fresh

PIECE = 2 << 20  # fits a cache, and outweighs what it costs to pass on
HASHED_ASIDE_FROM = 4 * PIECE  # below, a thread costs more than it gives
_STAMP = struct.Struct("=QQQqq")



class Stamp(NamedTuple):
    """By which a file is known to be the one that was hashed, and as it was then: whoever writes to it changes these."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, about: os.stat_result) -> Stamp:
        """What the file system says of it."""
        return cls(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)

    def packed(self) -> bytes:
        """As bytes."""
        return _STAMP.pack(*self)

    @classmethod
    def unpacked(cls, raw: bytes | memoryview) -> Stamp:
        """From them."""
        return cls(*_STAMP.unpack(raw))


class Sealed(NamedTuple):
    """A file as it is mapped here: a read-only view on it, which keeps the mapping, and its stamp."""

    view: memoryview
    stamp: Stamp


class Draft:
    """A body on its way to be a sealed file. To be closed; without `publish` it leaves nothing."""

    def __init__(self, folder: Path, media_type: str | None, size: int) -> None:
        """``media_type`` None: its reference is known, and it is not hashed. OSError: it cannot be made there."""
        self.size, self.written = size, 0
        self._hashing = Hashing(media_type, size) if media_type is not None else None
        self._named: Path | None = None
        self._sealed = False
        try:
            # No O_EXCL: it is to be linked.
            self.fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
            if not folder.is_dir():
                raise
            # No such thing here (macOS, some file systems): a name that says whose it is, locked while it is written.
            self._named = folder / f".{fresh()}"
            self.fd = os.open(self._named, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.fd, fcntl.LOCK_EX)

    def add(self, piece: bytes | bytearray | memoryview) -> None:
        """Write the next piece, and hash it. OSError: there is no room."""
        self._write(piece)
        if self._hashing is not None:
            self._hashing.add(piece)

    def fill(self, value: Encoded) -> None:
        """Write all of a value. What is hashed is what is written, also where the value changes meanwhile."""
        body, fixed = memoryview(value.body), memoryview(value.body).readonly
        self.add(value.head)
        if len(body) < HASHED_ASIDE_FROM or self._hashing is None:
            for start in range(0, len(body), PIECE):
                piece = body[start:start + PIECE]
                self.add(piece if fixed else bytes(piece))
            return
        spare = [bytearray(PIECE), bytearray(PIECE)]
        hashed: list[Future[None] | None] = [None, None]
        with ThreadPoolExecutor(1, "memgang-hash") as aside:
            for turn, start in enumerate(range(0, len(body), PIECE)):
                if (before := hashed[turn % 2]) is not None:
                    before.result()  # its room is used again
                piece = body[start:start + PIECE]
                if not fixed:
                    room = memoryview(spare[turn % 2])[:len(piece)]
                    room[:] = piece
                    piece = room
                hashed[turn % 2] = aside.submit(self._hashing.add, piece)
                self._write(piece)
            for last in hashed:
                if last is not None:
                    last.result()

    def _write(self, piece: bytes | bytearray | memoryview) -> None:
        view = memoryview(piece)
        while view:
            done = os.write(self.fd, view)
            self.written += done
            view = view[done:]

    def seal(self, *, lasting: bool) -> None:
        """From now on it is not written to. ``lasting``: it is on the disk when this returns.

        Raises:
            ValueError: there is less of it than there was to be, or more.
        """
        if self.written != self.size:
            raise ValueError(f"{self.written:,} bytes of {self.size:,}")
        os.fchmod(self.fd, 0o400)
        if lasting:
            os.fsync(self.fd)
        self._sealed = True

    def ref(self) -> Ref:
        """The reference of what was written."""
        assert self._hashing is not None, "it was known before"
        return self._hashing.ref()

    def publish(self, directory: int, name: str) -> Stamp | None:
        """Give it its name in a directory (a descriptor). None: there is a file of this name."""
        assert self._sealed, "what is not whole never has a name"
        try:
            if self._named is not None:
                os.link(self._named, name, dst_dir_fd=directory)
            else:
                os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError:
            return None
        self._forget_name()
        return Stamp.of(os.fstat(self.fd))  # not before: a link changes it

    def replace(self, directory: int, name: str) -> Stamp:
        """Give it the name of another, which is damaged."""
        beside = f".{fresh()}"
        assert self.publish(directory, beside) is not None, "nobody else has such a name"
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
        return Stamp.of(os.fstat(self.fd))

    def _forget_name(self) -> None:
        if self._named is not None:
            with contextlib.suppress(OSError):
                self._named.unlink()
            self._named = None

    def close(self) -> None:
        """Let go of it."""
        self._forget_name()
        os.close(self.fd)


def mapped(path: Path | str) -> Sealed | None:
    """Map a sealed file. None: it is not there (any more), or is none of ours.

    Raises:
        OSError: too many files are open, or it cannot be mapped.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES, errno.ENOTDIR):
            return None
        raise
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None  # it is being removed
        about = os.fstat(fd)
        # Without a name: removed between the two calls above. The mode and the owner: else anybody may cut it short under us.
        if (not about.st_nlink or not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid()
                or about.st_mode & 0o777 != 0o400 or not about.st_size):
            return None
        whole = mmap.mmap(fd, about.st_size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(fd)  # the mapping has a copy of it, and so the lock
    return Sealed(memoryview(whole), Stamp.of(about))


def unlinked(path: Path) -> bool:
    """Remove a file that nobody has mapped, in any process. False: somebody has."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        # Held until the name is gone: who opens it meanwhile does not get the lock, or finds it without a name.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
