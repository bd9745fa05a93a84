"""LRU: who has not been used for longest goes first."""

from __future__ import annotations

from memgang.eviction.policy import Policy


class Lru(Policy):
    """Least recently used, the measure of all others (Belady, "A study of replacement algorithms", IBM Systems Journal 1966)."""

    name = "LRU"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._order: dict[str, None] = {}  # the longest unused first

    def use(self, key: str) -> None:
        """To the end of the line."""
        del self._order[key]
        self._order[key] = None

    def entered(self, key: str) -> None:
        """To the end of the line."""
        self._order[key] = None

    def victims(self) -> list[str]:
        """The one that was not used for longest."""
        key = next(iter(self._order))
        del self._order[key]
        return [key]

    def left(self, key: str) -> None:
        """Out of the line."""
        del self._order[key]
