"""FIFO: who came first goes first, used or not."""

from __future__ import annotations

from memgang.eviction.policy import Policy


class Fifo(Policy):
    """First in, first out: the floor under every policy that looks at uses."""

    name = "FIFO"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._order: dict[str, None] = {}  # the oldest first

    def use(self, key: str) -> None:
        """Changes nothing."""

    def entered(self, key: str) -> None:
        """Last in line."""
        self._order[key] = None

    def victims(self) -> list[str]:
        """The oldest."""
        key = next(iter(self._order))
        del self._order[key]
        return [key]

    def left(self, key: str) -> None:
        """Out of the line."""
        del self._order[key]
