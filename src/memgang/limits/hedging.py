"""Hedging: when a second attempt of a slow call is worth its price, and how many there may be.

After "The Tail at Scale" (Dean and Barroso, CACM 2013): the second request is sent when the first has been out for longer
than nearly all others take. The bound on their number is a bucket that every call fills by its share.
"""

from __future__ import annotations

from collections import deque

SAMPLES_MIN, SAMPLES = 20, 200
# The 95th percentile would be the natural border, and is the wrong one where one call in twenty is slow: it then lies now
# on this, now on that side of the slow ones.
QUANTILE, FACTOR = 0.90, 1.25
CREDIT_MAX = 10.0
BASE_TOKENS = 50  # of a call's time that does not depend on the length of its answer, in tokens


class Hedger:
    """Watches how long calls take, in relation to the answers asked for. Belongs to one event loop."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 1.0 if share else 0.0
        self._paces: deque[float] = deque(maxlen=SAMPLES)
        self.calls, self.hedged = 0, 0

    def began(self) -> None:
        """A call has begun."""
        self.calls += 1
        self._credit = min(self._credit + self._share, CREDIT_MAX)

    def took(self, seconds: float, tokens: int) -> None:
        """An attempt that ended with an answer took so long, where so many tokens were expected."""
        self._paces.append(seconds / (BASE_TOKENS + tokens))

    def delay_s(self, tokens: int) -> float | None:
        """After how long a call is unusually slow; None while too few have been seen."""
        if not self._share or len(self._paces) < SAMPLES_MIN:
            return None
        paces = sorted(self._paces)
        return paces[int(len(paces) * QUANTILE)] * FACTOR * (BASE_TOKENS + tokens)

    def take(self) -> bool:
        """Whether a second attempt may be made; it is counted."""
        if self._credit < 1:
            return False
        self._credit -= 1
        self.hedged += 1
        return True
