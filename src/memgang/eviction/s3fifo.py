"""S3-FIFO: a small line that most newcomers do not survive, a main line with second chances, and a list of ghosts."""

from __future__ import annotations

from memgang.eviction.policy import Policy

SMALL_SHARE = 0.1  # of the bytes, for newcomers
USES_MAX = 3  # two bits
GHOST_SHARE = 0.9  # ghosts of as many bytes as the main line holds


class S3Fifo(Policy):
    """Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023, counted in bytes.

    Who leaves the small line goes to the main one when it was used more than once since, else it becomes a ghost: its
    key is remembered, and if it comes back it goes to the main line at once. There the oldest that was used goes
    round again, with one use less.
    """

    name = "S3-FIFO"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._small: dict[str, int] = {}  # key -> uses, the oldest first
        self._main: dict[str, int] = {}
        self._ghosts: dict[str, int] = {}  # key -> size, the oldest first
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0

    def use(self, key: str) -> None:
        """Count up to three."""
        line = self._small if key in self._small else self._main
        line[key] = min(line[key] + 1, USES_MAX)

    def entered(self, key: str) -> None:
        """Into the small line, or into the main one if it was here not long ago."""
        if key in self._ghosts:
            self._ghost_bytes -= self._ghosts.pop(key)
            self._main[key] = 0
            self._main_bytes += self.sizes[key]
        else:
            self._small[key] = 0
            self._small_bytes += self.sizes[key]

    def victims(self) -> list[str]:
        """One from the small line while it has its share, with whom the main line pushes out meanwhile; else one from the main line."""
        if self._small and (self._small_bytes >= SMALL_SHARE * self.budget or not self._main):
            return self._from_small()
        return self._from_main()

    def _from_small(self) -> list[str]:
        gone: list[str] = []
        while self._small:
            key = next(iter(self._small))
            uses, size = self._small.pop(key), self.sizes[key]
            self._small_bytes -= size
            if uses <= 1:
                self._remember(key, size)
                return [*gone, key]
            self._main[key] = 0
            self._main_bytes += size
            if self._main_bytes > (1 - SMALL_SHARE) * self.budget:
                gone += self._from_main()
        return gone or self._from_main()

    def _from_main(self) -> list[str]:
        while True:
            key = next(iter(self._main))
            uses = self._main.pop(key)
            if not uses:
                self._main_bytes -= self.sizes[key]
                return [key]
            self._main[key] = uses - 1

    def _remember(self, key: str, size: int) -> None:
        self._ghosts[key] = size
        self._ghost_bytes += size
        while self._ghost_bytes > GHOST_SHARE * self.budget:
            self._ghost_bytes -= self._ghosts.pop(next(iter(self._ghosts)))

    def left(self, key: str) -> None:
        """Out of its line, and no ghost: it did not go for want of room."""
        if key in self._small:
            del self._small[key]
            self._small_bytes -= self.sizes[key]
        else:
            del self._main[key]
            self._main_bytes -= self.sizes[key]
