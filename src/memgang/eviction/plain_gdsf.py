"""GreedyDual-Size-Frequency as the paper has it. What the server does is made from it: `gdsf.py`."""

from __future__ import annotations

from memgang.eviction.policy import Policy
from memgang.eviction.ranked import Ranked

# What took no time counts a millisecond, as in the store: so its size and uses count all the same. A test compares the two.
COST_MIN_S = 0.001


class PlainGdsf(Policy):
    """Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998;
    after Cao and Irani, "Cost-Aware WWW Proxy Caching Algorithms", USITS 1997.

    rank = clock + uses x seconds / bytes, written at each use; the lowest goes and the clock follows it. Equal
    ranks go in the order of their keys, which are digests, so by no order of ours.
    """

    name = "GDSF plain"

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.clock = 0.0
        self._uses: dict[str, int] = {}
        self._ranks = Ranked()

    def worth(self, key: str, uses: float) -> float:
        """What a byte of it saves with so many uses."""
        return uses * max(self.costs[key], COST_MIN_S) / max(self.sizes[key], 1)

    def use(self, key: str) -> None:
        """One use more, and the rank from now on."""
        self._uses[key] += 1
        self.renewed(key)

    def renewed(self, key: str) -> None:
        """The rank from now on; who writes the same again has not used it."""
        self._ranks.set(key, self.clock + self.worth(key, self._uses[key]))

    def entered(self, key: str) -> None:
        """Used once: by who wrote it."""
        self._uses[key] = 1
        self.renewed(key)

    def victims(self) -> list[str]:
        """The lowest rank, which the clock follows."""
        key, rank = self._ranks.pop()
        self.clock = max(self.clock, rank)
        del self._uses[key]
        return [key]

    def left(self, key: str) -> None:
        """Its uses go with it; the clock stays."""
        self._ranks.discard(key)
        del self._uses[key]
