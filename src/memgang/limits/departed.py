"""What the dead of this host still hold of a limit, given back by who waits for it.

    ticket = <incarnation>.<number>      its process is proved to be dead (store/alive.py) -> its lease ends now

Nothing rests on it: a lease that is ended early is one that has ended, and those of other hosts end by themselves. What
a dead process may have been billed for stays counted as spent.
"""

from __future__ import annotations

import time

from memgang.store.process import fresh, incarnation
from memgang.store.quotas import Quota
from memgang.store.store import Store
from memgang.store.wakeups import Ear

LOOK_S = 0.5  # how often a process looks, for all its calls that wait: each look reads all tickets of the limit


def new_ticket() -> str:
    """A ticket nobody else has, and which says whose it is."""
    return f"{incarnation()}.{fresh()}"


class Departed:
    """Looks after those who share one limit and one purse. Lives as long as the purse is known to its limiter."""

    def __init__(self, store: Store, quota: Quota) -> None:
        self._store, self._quota = store, quota
        self._next = time.monotonic() + LOOK_S  # most who wait are let in before that

    async def wait(self, ear: Ear, seconds: float) -> None:
        """Until woken, or the time is over, or something has come back."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            woken = await ear.wait(min(left, LOOK_S))
            if await self._gave_back() or woken:
                return

    async def _gave_back(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + LOOK_S
        by_process: dict[str, list[str]] = {}
        for ticket in await self._quota.tickets(self._store.wire):
            by_process.setdefault(ticket.partition(".")[0], []).append(ticket)
        gone = [ticket for process, tickets in by_process.items() if self._store.watch.dead(process) for ticket in tickets]
        if gone:
            await self._quota.lapse(self._store.wire, gone)
        return bool(gone)
