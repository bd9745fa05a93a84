"""The share of a limit that one process keeps while the server is away: the same rules, its own clock, a part of the numbers.

Together the processes that were there stay within the limit. One that comes while the server is away knows of nobody,
and takes the whole: then the sum may be above it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from memgang.limits.terms import Limits, Need


class Alone:
    """What this process has begun of late, whoever admitted it. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._span_s = limits.per_s + limits.margin_s
        self._recent: deque[tuple[float, int]] = deque()  # when, tokens
        self._under_way = 0
        self._left: float | None = None  # micro-dollars of our share, while the server is away
        self._changed = asyncio.Event()

    def began(self, need: Need) -> None:
        """A call has begun."""
        self._under_way += 1
        if self._limits.requests_per_minute or self._limits.tokens_per_minute:
            self._forget()
            self._recent.append((time.monotonic(), need.tokens))

    def ended(self, need: Need, micro_usd: int, alone: bool) -> None:
        """A call has ended; what it had reserved of our share (``alone``) and did not spend is given back."""
        self._under_way -= 1
        if alone:
            self._give_back(need.micro_usd - micro_usd)
        self._changed.set()

    def _give_back(self, micro_usd: int) -> None:
        if self._left is not None:
            self._left += micro_usd

    async def wait(self, need: Need, sharers: int, left: int | None, paused_s: Callable[[], float]) -> int | None:
        """Until the call fits into our share. Else the micro-dollars that are left, which are not enough."""
        if left is not None:
            if self._left is None:
                self._left = left / sharers
            if self._left < need.micro_usd:
                return int(self._left)
            self._left -= need.micro_usd
        try:
            await self._room(need, sharers, paused_s)
        except BaseException:  # it has left the line
            if left is not None:
                self._give_back(need.micro_usd)
            raise
        return None

    async def _room(self, need: Need, sharers: int, paused_s: Callable[[], float]) -> None:
        while True:
            rest = max(paused_s(), self._window_s(need, sharers))
            places = self._limits.concurrency
            if rest <= 0 and (not places or self._under_way < max(places // sharers, 1)):
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(max(rest, 0.01) if rest > 0 else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def back(self) -> None:
        """The server is back, and knows better what is left."""
        self._left = None

    def _forget(self) -> None:
        while self._recent and self._recent[0][0] <= time.monotonic() - self._span_s:
            self._recent.popleft()

    def _window_s(self, need: Need, sharers: int) -> float:
        """Seconds until the window of our share has room."""
        self._forget()
        most = max(self._limits.requests_per_minute // sharers, 1) if self._limits.requests_per_minute else 0
        tokens = self._limits.tokens_per_minute / sharers
        count, spent, rest = len(self._recent), sum(t for _, t in self._recent), 0.0
        for at, used in self._recent:
            if not (most and count >= most) and not (tokens and spent and spent + need.tokens > tokens):
                break
            rest = at + self._span_s - time.monotonic()
            count, spent = count - 1, spent - used
        return rest
