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
LIVE, CLEARED, POISONED = 0, 8, 16


class Flags:
    """Instants of the host's monotonic clock, in seconds; 0: never."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < PAGE:
                allocate(fd, PAGE)
            self._page = mmap.mmap(fd, PAGE)
        finally:
            os.close(fd)

    def good(self, now: float, fresh_s: float) -> bool:
        """Whether what is in the tier is known to be true: one look at all words, for it is asked at every read."""
        try:
            live, _, poisoned = _words.unpack_from(self._page)
        except ValueError:  # closed by another thread
            return False
        return not poisoned and now - live <= fresh_s

    @property
    def live(self) -> float:
        """When the log of changes was last read to its end: what is in the tier was true then."""
        return float(_word.unpack_from(self._page, LIVE)[0])

    @live.setter
    def live(self, at: float) -> None:
        _word.pack_into(self._page, LIVE, at)

    @property
    def cleared(self) -> float:
        """What was asked of the server before this may have been forgotten since, and nobody knows: it is not kept."""
        return float(_word.unpack_from(self._page, CLEARED)[0])

    @cleared.setter
    def cleared(self, at: float) -> None:
        _word.pack_into(self._page, CLEARED, at)

    @property
    def poisoned(self) -> float:
        """Since when something could not be taken out, so that nothing may be read until all has been."""
        return float(_word.unpack_from(self._page, POISONED)[0])

    @poisoned.setter
    def poisoned(self, at: float) -> None:
        _word.pack_into(self._page, POISONED, at)

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()
