"""GDSF that counts only uses apart from each other: proposed for the server, which does not do it."""

from __future__ import annotations

from memgang.eviction.gdsf import Gdsf

# A use counts when so much of what is here has been replaced since the last one. Chosen on two traces (docs/eviction.md).
SPACING = 2 / 3
# More uses than these tell nothing more; chosen on the same.
USES_MAX = 4
# By how much of one turnover the clock gains in one turnover of uses: enough to order them, too little to matter.
CREEP = 0.001


class SpacedGdsf(Gdsf):
    """GDSF with three changes, each against a way in which the plain one keeps what nobody will use again.

    - Uses shortly after each other are one (the correlated reference period of O'Neil, O'Neil, Weikum, "The LRU-K Page
      Replacement Algorithm", SIGMOD 1993): a burst of reads says that an object is used now, not that it will be later.
      Short is measured in bytes evicted meanwhile, not in time.
    - It counts to four: who was used a hundred times need not stay for as many turnovers when it is used no more.
    - Every use moves the clock on by a trace, so that of equal objects the longest unused goes: LRU where all cost the same.

    A rank is still one number that is written at each use: what it needs beside the server's fields is the number of
    bytes evicted so far, in the totals and, as of its last use, in each record.
    """

    name = "GDSF spaced"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._evicted = 0  # bytes so far
        self._last: dict[str, int] = {}  # what that was at the last use of each

    def use(self, key: str) -> None:
        """One use more, if it is apart from the last."""
        if self._evicted - self._last[key] >= SPACING * self.used:
            self._uses[key] = min(self._uses[key] + 1, USES_MAX)
        self.renewed(key)

    def renewed(self, key: str) -> None:
        """The rank from now on, and the clock a trace further."""
        self._last[key] = self._evicted
        self._ranks.set(key, self.clock + self.worth(key, self._uses[key]))
        self.clock += CREEP * self.worth(key, 1) * self.sizes[key] / max(self.used, 1)

    def victims(self) -> list[str]:
        """The lowest rank."""
        gone = super().victims()
        for key in gone:
            self._evicted += self.sizes[key]
            del self._last[key]
        return gone

    def left(self, key: str) -> None:
        """Nothing of it stays."""
        super().left(key)
        del self._last[key]
