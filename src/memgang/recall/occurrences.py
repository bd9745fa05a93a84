"""Which sample an ask is for: the i-th ask of the same request by one identity within one run has sample i.

    one agent's second ask       sample 1: a fresh answer, for a retry or a vote
    another agent's second ask   sample 1: the same answer, shared

The counters are this process's own, and losing one restarts it at sample 0, whose answer is shared: too little
variety then, never a wrong answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

IDLE_S = 24 * 3600.0
COUNTERS_MAX = 100_000  # about 25 MB; above it the runs that were idle longest are dropped


@dataclass(slots=True)
class _Run:
    last: float
    asked: dict[tuple[str, str], int] = field(default_factory=dict)


class Occurrences:
    """The counters of one Space."""

    def __init__(self, most: int = COUNTERS_MAX) -> None:
        self._runs: OrderedDict[str, _Run] = OrderedDict()  # the one idle longest first
        self._most = most
        self._count = 0

    def next(self, run: str, identity: str, request: str, now: float | None = None) -> int:
        """How often this identity has asked this request in this run before."""
        now = time.monotonic() if now is None else now
        known = self._runs.get(run)
        if known is None:
            known = self._runs[run] = _Run(now)
        known.last = now
        self._runs.move_to_end(run)
        number = known.asked.get((identity, request), 0)
        if number == 0:
            self._count += 1
        known.asked[identity, request] = number + 1
        self._tidy(now)
        return number

    def _tidy(self, now: float) -> None:
        while len(self._runs) > 1:
            oldest = next(iter(self._runs))
            if self._count <= self._most and now - self._runs[oldest].last <= IDLE_S:
                return
            self._count -= len(self._runs.pop(oldest).asked)
        if self._count > self._most:
            asked = next(iter(self._runs.values())).asked
            for entry in list(asked)[: len(asked) // 2]:  # one run alone fills it: its oldest half
                del asked[entry]
            self._count = len(asked)
