"""LRU: who has not been used for longest goes first."""

from __future__ import annotations

from memgang.eviction.fifo import Fifo


class Lru(Fifo):
    """Least recently used, the measure of all others (Belady, "A study of replacement algorithms", IBM Systems Journal 1966).

    The line of FIFO, in which a use leads back to the end.
    """

    name = "LRU"

    def use(self, key: str) -> None:
        """To the end of the line."""
        self.left(key)
        self.entered(key)
