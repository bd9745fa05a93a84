"""A file that is only appended to, in parts: the one that grows, and full ones that are never written again.

    a00.jsonl                     grows
    a00-000000067108912.jsonl     full; it ends at that place, in bytes counted over all parts

A full part can be moved to a slower disk (with a link in its place), backed up once, or made read-only. Places are counted
over all parts, so what a seal says of a place stays true. All parts are verified for ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from memgang.errors import LogBroken

PART_BYTES = 64 << 20  # a part is closed by the first write behind this


class Rolled:
    """The parts of one file. One process writes, alone; others may read meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ends(self) -> list[int]:
        """Where each full part ends, in order."""
        first, last = self.path.stem + "-", self.path.suffix
        with contextlib.suppress(FileNotFoundError):
            names = [name[len(first):-len(last)] for name in os.listdir(self.path.parent) if name.startswith(first) and name.endswith(last)]
            return sorted(int(end) for end in names if len(end) == 15 and end.isascii() and end.isdigit())
        return []

    def part(self, end: int) -> Path:
        """The full part that ends there."""
        return self.path.with_name(f"{self.path.stem}-{end:015d}{self.path.suffix}")

    def size(self) -> int:
        """The length of all parts; 0 when there is none."""
        try:
            file, base, _ = self._opened(None)
        except FileNotFoundError:
            return max(self.ends(), default=0)
        with file:
            return base + os.fstat(file.fileno()).st_size

    def read(self, start: int, size: int) -> bytes:
        """What stands at a place, less where the part ends.

        Raises:
            OSError: the part cannot be read.
        """
        file, base, end = self._opened(start)
        with file:
            file.seek(start - base)
            return file.read(size if end is None else min(size, end - start))

    def lines(self, start: int) -> Iterator[bytes]:
        """The whole lines from a place on, through all parts. A full part that cannot be read is left out: `wrong` names it."""
        while True:
            try:
                file, base, end = self._opened(start)
            except OSError as error:
                end = next((end for end in self.ends() if end > start), None)
                if end is None:
                    if isinstance(error, FileNotFoundError):
                        return
                    raise
                start = end
                continue
            with file:
                file.seek(start - base)
                for line in file:
                    if not line.endswith(b"\n") or (end is not None and start >= end):
                        break
                    yield line
                    start += len(line)
            if end is None:
                return
            start = end

    def wrong(self) -> Iterator[str]:
        """Full parts that are not as long as they were."""
        begin = 0
        for end in self.ends():
            try:
                found = self.part(end).stat().st_size
                if found != end - begin:
                    yield f"{self.part(end)} has {found:,} bytes, and was closed with {end - begin:,}"
            except OSError as error:
                yield f"{self.part(end)} cannot be read: {error.strerror}"
            begin = end

    def write(self, start: int, body: bytes) -> None:
        """Append at a known place and force it to disk; what a killed writer left behind that place goes.

        Raises:
            LogBroken: it ends before that place, or a full part ends behind it. OSError: no room; nothing was written.
        """
        base = max(self.ends(), default=0)
        if start < base:
            raise LogBroken(f"{self.part(base)} was closed at {base:,} bytes, and the seals speak of {start:,} only")
        if start - base >= PART_BYTES:
            # Cut to its end, then closed by its name. Who is killed before or behind that begins at the same place again.
            write(self.path, start - base, b"")
            os.rename(self.path, self.part(start))
            sync_names(self.path)
            base = start
        write(self.path, start - base, body)

    def _opened(self, start: int | None) -> tuple[BinaryIO, int, int | None]:
        """The part with a place (None: the one that grows), where it begins, and where it ends if it is full."""
        while True:
            ends = self.ends()
            end = None if start is None else next((end for end in ends if end > start), None)
            begin = max((other for other in ends if end is None or other < end), default=0)
            try:
                file = (self.path if end is None else self.part(end)).open("rb")
            except FileNotFoundError:
                if ends == self.ends():
                    raise
                continue
            # Was it closed between looking and opening, then this is another part than the one that was looked for.
            if ends == self.ends():
                return file, begin, end
            file.close()


def write(path: Path, start: int, body: bytes) -> None:
    """Write at the end of one file, which is at this place, and force it to disk.

    Raises:
        LogBroken: it ends before that place. OSError: no room; nothing was written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size < start:
            raise LogBroken(f"{path} ends at {size:,} bytes, and was written up to {start:,}")
        os.fchmod(fd, 0o600)
        if size > start:
            os.ftruncate(fd, start)
        try:
            done = 0
            while done < len(body):
                done += os.pwrite(fd, body[done:], start + done)
            os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, start)  # a full disk: half a line is worth nothing
            raise
    finally:
        os.close(fd)
    if size == 0:  # perhaps a new file: its name has to last too
        sync_names(path)


def sync_names(path: Path) -> None:
    """Force the name of a file to disk: what it holds is no use without it."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
