"""SIEVE: one line in order of arrival, and a hand that spares once whom it finds used."""

from __future__ import annotations

from memgang.eviction.policy import Policy


class Sieve(Policy):
    """Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024.

    A use only sets a mark. The hand goes from the oldest towards the newest and takes off marks; who has none goes,
    and the hand stays where it was. Whom it spared keeps its place, so that newcomers are sifted quickly.
    """

    name = "SIEVE"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._newer: dict[str, str | None] = {}  # the neighbours of each key in the line
        self._older: dict[str, str | None] = {}
        self._newest: str | None = None
        self._oldest: str | None = None
        self._hand: str | None = None  # None: begin at the oldest
        self._marked: set[str] = set()

    def use(self, key: str) -> None:
        """Mark it."""
        self._marked.add(key)

    def entered(self, key: str) -> None:
        """The newest in the line, without a mark."""
        self._newer[key], self._older[key] = None, self._newest
        if self._newest is None:
            self._oldest = key
        else:
            self._newer[self._newest] = key
        self._newest = key

    def victims(self) -> list[str]:
        """The first without a mark, from where the hand stands."""
        key = self._hand or self._oldest
        while key is not None and key in self._marked:
            self._marked.discard(key)
            key = self._newer[key] or self._oldest
        assert key is not None, "nothing is here, and something must go"
        self._hand = key
        self.left(key)
        return [key]

    def left(self, key: str) -> None:
        """Close the gap; a hand that stood there stands at the next newer one."""
        newer, older = self._newer.pop(key), self._older.pop(key)
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer
        if self._hand == key:
            self._hand = newer
        self._marked.discard(key)
