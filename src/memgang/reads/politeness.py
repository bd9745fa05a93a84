"""Politeness: places and pauses at a host, kept by all processes that use the space (`memgang.limits`).

A host that answers 429 or 503 is left alone by all of them for as long as it says.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from memgang.codec import digest
from memgang.limits import Limiter, Limits, Need
from memgang.space import Space
from memgang.store.quotas import End

HOSTS_MAX = 256  # whose limiters are kept; the server knows them all
NOTHING = Need(0, 0, 0)


class Politeness:
    """The turns of one process at all hosts. Belongs to one event loop; close it."""

    def __init__(self, space: Space, at_once: int) -> None:
        self._space, self._at_once = space, at_once
        self._limiters: OrderedDict[tuple[str, float], Limiter] = OrderedDict()

    @contextlib.asynccontextmanager
    async def turn(self, host: str, delay_s: float) -> AsyncIterator[Callable[[float], None]]:
        """Wait for a turn at this host. Call what it yields with the seconds for which the host wants no more."""
        limiter = self._limiter(host, delay_s)
        if limiter is None:
            yield lambda seconds: None
            return
        context = self._space.context
        ticket = await limiter.enter(NOTHING, run=context.run, who=context.who)
        how: End = "ok"
        asked = 0.0

        def wait(seconds: float) -> None:
            nonlocal how, asked
            how, asked = "limited", seconds

        try:
            yield wait
        finally:
            await limiter.leave(ticket, how, tokens=0, micro_usd=0, retry_after_s=asked)

    async def aclose(self) -> None:
        """Tell the server of all that has ended."""
        while self._limiters:
            await self._limiters.popitem()[1].aclose()

    def _limiter(self, host: str, delay_s: float) -> Limiter | None:
        limits = _limits(host, self._at_once, delay_s)
        if not limits.shared:
            return None
        found = self._limiters.get((host, delay_s))
        if found is None:
            # One that is pushed out goes on for those who hold it; what it has begun, it ends.
            found = self._limiters[host, delay_s] = Limiter(self._space.store, limits, "web")
            if len(self._limiters) > HOSTS_MAX:
                self._limiters.popitem(last=False)
        self._limiters.move_to_end((host, delay_s))
        return found


def _limits(host: str, at_once: int, delay_s: float) -> Limits:
    """One request in so many seconds; below a second so many in one, which comes to the same over any longer time."""
    requests = 0 if not delay_s else 1 if delay_s >= 1 else max(1, int(1 / delay_s))
    return Limits(name=f"web-{digest(host.encode())}", concurrency=at_once, requests_per_minute=requests, per_s=max(delay_s, 1.0))
