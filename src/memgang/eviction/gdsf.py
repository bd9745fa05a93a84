"""GreedyDual-Size-Frequency in the form of the server (`put.lua`, `touch.lua`, `evict.lua`, and the functions of `_prelude.lua`)."""

from __future__ import annotations

import math

from memgang.eviction.plain_gdsf import PlainGdsf

# Uses count when as much as is here was evicted since the last one. Not chosen: it is what makes this LRU where all cost the same.
SPACING = 1
# More uses than these tell nothing more. Chosen on two traces, as the exponent in `worth` (docs/eviction.md).
USES_MAX = 4
# The clock gains two units of the last place of a rank with each use, so that two uses of equal objects never have equal ranks. More would
# age what is seldom used where much is read: a thousandth of a turnover for a turnover of uses already did, where few things are evicted.
CREEP = 2.0**-51


class Gdsf(PlainGdsf):
    """GDSF with four changes, each against a way in which the plain one keeps the wrong things.

    - A use counts only when as much as is here was evicted since the last one (the correlated reference period of O'Neil,
      O'Neil, Weikum, "The LRU-K Page Replacement Algorithm", SIGMOD 1993): a burst of reads says that an object is used
      now, not that it will be later. To be still here after that, it must be worth more than others.
    - It counts to four: who was used a hundred times need not stay for as many turnovers when it is used no more.
    - The worth is raised to 3/2. In the plain form what is worth ten times as much stays ten times as long after its last use,
      and much room is taken by what is hardly worth it; the steeper, the more of the dear stays. From 2 on what was dear and
      is used no more stays too long.
    - Every use moves the clock on by the least there is, so that of equal objects the longest unused goes.

    Where all objects have one size and one cost this is LRU, to the last hit. All of them then have one rank beside the
    clock of their last use, so they go in the order of that; and whatever is used with as much evicted since as is here
    would have gone by then, so no use is ever counted.

    A rank is one number, written at each use, and never brought up to date: whoever stays behind is overtaken by the
    clock. The clock only grows, by a typical worth in each turnover of the memory, so it has lost twenty of its 52 bits
    after a million turnovers. What is worth less than its last place is not told from other such things by its worth any
    more, but by its last use, for the clock never gains less than that place; so nothing has to be renormalised.
    """

    name = "GDSF"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._evicted = 0  # bytes so far
        self._last: dict[str, int] = {}  # what that was at the last use of each

    def worth(self, key: str, uses: float) -> float:
        """What a byte of it saves with so many uses, to the power of 3/2. Computed as the scripts do: rounding decides near ties."""
        saved = super().worth(key, uses)
        return saved * math.sqrt(saved)

    def use(self, key: str) -> None:
        """One use more, if it is apart from the last."""
        if self._evicted - self._last[key] >= SPACING * self.used:
            self._uses[key] = min(self._uses[key] + 1, USES_MAX)
        self.renewed(key)

    def renewed(self, key: str) -> None:
        """The rank from now on, and the clock a trace further; who writes the same again has not used it."""
        self._last[key] = self._evicted
        rank = self.clock + self.worth(key, self._uses[key])
        self._ranks.set(key, rank)
        self.clock += rank * CREEP

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
