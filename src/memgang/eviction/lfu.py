"""LFU: who has been used least often since it came goes first."""

from __future__ import annotations

from memgang.eviction.policy import Policy
from memgang.eviction.ranked import Ranked


class Lfu(Policy):
    """Least frequently used, counted while the object is here; among equals the longest unused goes (Aho, Denning, Ullman 1971).

    The count ends with the object, so one that comes back begins at 1; nothing ages, so old favourites stay.
    """

    name = "LFU"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._uses: dict[str, int] = {}
        self._ranks = Ranked()
        self._moment = 0

    def use(self, key: str) -> None:
        """One use more."""
        self._uses[key] = self._uses.get(key, 0) + 1
        self._moment += 1
        self._ranks.set(key, self._uses[key], self._moment)

    def entered(self, key: str) -> None:
        """Used once: by who wrote it."""
        self.use(key)

    def victims(self) -> list[str]:
        """The one of the fewest uses."""
        key, _ = self._ranks.pop()
        del self._uses[key]
        return [key]

    def left(self, key: str) -> None:
        """Its count goes with it."""
        self._ranks.discard(key)
        del self._uses[key]
