"""Four words in memory that all processes of a host share. Each is written whole, eight bytes at an aligned place."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from memgang.store.house import allocate

PAGE = 4096
_word = struct.Struct("=d")
_words = struct.Struct("=dddd")
LIVE, CLEARED, POISONED, RETIRED = 0, 8, 16, 24


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
        live, _, poisoned, retired = _words.unpack_from(self._page)
        return not poisoned and not retired and now - live <= fresh_s

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
    def poisoned(self) -> bool:
        """Something could not be taken out, so nothing may be read until all has been."""
        return bool(_word.unpack_from(self._page, POISONED)[0])

    @poisoned.setter
    def poisoned(self, so: bool) -> None:
        _word.pack_into(self._page, POISONED, float(so))

    @property
    def retired(self) -> bool:
        """The server has lost its data since: whoever comes now has another tier, and those in this one ask the server."""
        return bool(_word.unpack_from(self._page, RETIRED)[0])

    @retired.setter
    def retired(self, so: bool) -> None:
        _word.pack_into(self._page, RETIRED, float(so))

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()
