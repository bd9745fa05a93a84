"""Who shows wrong tokens, by address: a few a minute are told that they are wrong, further ones to wait.

Whoever shows a right one is never kept waiting, also from an address where others guess: behind one address there are many.
"""

from __future__ import annotations

import time
from collections import OrderedDict

WRONG_A_MINUTE = 5
MINUTE_S = 60
ADDRESSES_MAX = 10_000  # remembered; the one that guessed longest ago goes first


class Guesses:
    """The wrong tokens one door was shown. Belongs to one event loop."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wrong(self, address: str) -> int:
        """One more from here. 0: it may be told so; else for how many seconds nothing more is told."""
        now = time.monotonic()
        began, count = self._wrong.pop(address, (now, 0))
        if now - began > MINUTE_S:
            began, count = now, 0
        self._wrong[address] = began, count + 1
        if len(self._wrong) > ADDRESSES_MAX:
            self._wrong.popitem(last=False)
        return max(round(began + MINUTE_S - now), 1) if count >= WRONG_A_MINUTE else 0
