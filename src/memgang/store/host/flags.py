"""Three words in memory that all processes of a host share. Each is written whole, eight bytes at an aligned place."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from memgang.store.house import allocate

PAGE = 4096
_word = struct.Struct("d")  # native: written in one piece
_words = struct.Struct("ddd")


class _Instant:
    """One word: an instant of the host's monotonic clock, in seconds; 0: never."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, flags: Flags, kind: type[Flags]) -> float:
        return float(_word.unpack_from(flags.page, self._place)[0])

    def __set__(self, flags: Flags, at: float) -> None:
        _word.pack_into(flags.page, self._place, at)


class Flags:
    """What all who share a tier know of it.

    ``live``: when the log of changes was last read to its end; what is in the tier was true then. ``cleared``: what was
    asked of the server before this may have been forgotten since, and nobody knows; it is not kept. ``poisoned``: since
    when something could not be taken out, so that nothing may be read until all has been.
    """

    live = _Instant(0)
    cleared = _Instant(8)
    poisoned = _Instant(16)

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < PAGE:
                allocate(fd, PAGE)
            self.page = mmap.mmap(fd, PAGE)
        finally:
            os.close(fd)

    def good(self, now: float, fresh_s: float) -> bool:
        """Whether what is in the tier is known to be true: one look at all words, for it is asked at every read."""
        try:
            live, _, poisoned = _words.unpack_from(self.page)
        except ValueError:  # closed by another thread
            return False
        return not poisoned and now - live <= fresh_s

    def close(self) -> None:
        """Let go of the page."""
        self.page.close()
