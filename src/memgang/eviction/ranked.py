"""Keys by rank, the lowest first, where ranks change often: a heap that forgets its old entries late."""

from __future__ import annotations

import heapq


class Ranked:
    """The lowest of many changing ranks in O(log n). Among equal ranks the lower ``tie``, then the lower key goes first."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, str]] = []

    def __len__(self) -> int:
        return len(self._now)

    def set(self, key: str, rank: float, tie: int = 0) -> None:
        """Give a key its rank, whether it had one or not."""
        self._now[key] = (rank, tie)
        heapq.heappush(self._heap, (rank, tie, key))
        if len(self._heap) > 64 + 4 * len(self._now):  # mostly entries of ranks that are no more
            self._heap = [(r, t, k) for k, (r, t) in self._now.items()]
            heapq.heapify(self._heap)

    def discard(self, key: str) -> None:
        """Forget a key."""
        self._now.pop(key, None)

    def pop(self) -> tuple[str, float]:
        """The key of the lowest rank, and its rank; it is forgotten.

        Raises:
            IndexError: there is none.
        """
        while True:
            rank, tie, key = heapq.heappop(self._heap)
            if self._now.get(key) == (rank, tie):
                del self._now[key]
                return key, rank
