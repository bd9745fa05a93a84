"""Passes: what a page shows to be given the records of one run. Made by the script, which only those see who were let in.

    <end, seconds since 1970>.<HMAC-SHA256 of run and end>      for one run, for ten minutes

The key is of this process alone, so a pass ends with it; a page that reconnects has its script run again, and gets a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

LIFE_S = 600
RENEW_S = 300  # what has less than this left is not handed out again
TEXT_MAX = 200


class Passes:
    """Makes and checks them. ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._last: dict[str, tuple[int, str]] = {}

    def of(self, run: str) -> str:
        """A pass for a run: the one made last while it is good for some minutes, so that a page that is drawn again is not changed."""
        now = int(self._clock())
        end, text = self._last.get(run, (0, ""))
        if end - now < RENEW_S:
            end = now + LIFE_S
            text = f"{end}.{self._sign(run, end)}"
            self._last = {name: one for name, one in self._last.items() if one[0] > now}  # those that have ended go
            self._last[run] = end, text
        return text

    def opens(self, text: str, run: str) -> bool:
        """Whether this is a pass for this run that has not ended."""
        end, _, signed = text[:TEXT_MAX].partition(".")
        if not (end.isascii() and end.isdigit() and len(end) < 12):
            return False
        # Compared in constant time, and before the time is looked at: how much of a guess was right is not to be seen.
        right = hmac.compare_digest(signed.encode("utf-8", "surrogatepass"), self._sign(run, int(end)).encode())
        return right and self._clock() < int(end)

    def _sign(self, run: str, end: int) -> str:
        return hmac.new(self._key, f"{end} {run}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
