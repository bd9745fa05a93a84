"""What every policy is: a set of keys that never takes more bytes than its budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar


class Policy(ABC):
    """Who stays in a memory of ``budget`` bytes. A subclass keeps its own order of the keys and names whom it would let go.

    Lives as long as one replay. An object larger than the budget is never taken in, and nothing goes for it.
    """

    name: ClassVar[str]

    def __init__(self, budget: int) -> None:
        if budget < 1:
            raise ValueError(f"a budget of {budget} bytes holds nothing")
        self.budget = budget
        self.used = 0
        self.evictions = 0
        self.sizes: dict[str, int] = {}  # of the keys that are here
        self.costs: dict[str, float] = {}  # seconds to compute each of them again

    def __contains__(self, key: str) -> bool:
        return key in self.sizes

    def put(self, key: str, size: int, cost: float) -> list[str]:
        """The object is written, or written once more; who had to go for it, in order. A use it is not."""
        if key in self.sizes:
            self.costs[key] = max(self.costs[key], cost)
            self.renewed(key)
            return []
        if size > self.budget:
            return []
        gone: list[str] = []
        while self.used + size > self.budget:
            for victim in self.victims():
                self._take_out(victim)
                gone.append(victim)
        self.evictions += len(gone)
        self.sizes[key], self.costs[key] = size, cost
        self.used += size
        self.entered(key)
        return gone

    def drop(self, key: str) -> None:
        """The object goes for a reason of its own: it has expired, or was forgotten."""
        if key in self.sizes:
            self.left(key)
            self._take_out(key)

    def _take_out(self, key: str) -> None:
        self.used -= self.sizes.pop(key)
        del self.costs[key]

    @abstractmethod
    def use(self, key: str) -> None:
        """A key that is here was asked for."""

    @abstractmethod
    def entered(self, key: str) -> None:
        """A key is new here; its size and cost stand in the tables."""

    @abstractmethod
    def victims(self) -> list[str]:
        """Take at least one key, or more, out of the own order: those that go next. There is at least one."""

    @abstractmethod
    def left(self, key: str) -> None:
        """A key that is here goes, and not by our choice: take it out of the own order."""

    def renewed(self, key: str) -> None:
        """A key that is here was written once more. Policies that know no difference take it as a use."""
        self.use(key)
