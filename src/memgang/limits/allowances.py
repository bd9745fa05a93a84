"""What agents may ask of a door and spend by it, as one process of the door keeps it: all processes share the numbers.

    request  -> entered (requests in a time, requests at once) ............................ the place is given back
    its call -> spending (tokens, dollars put aside), if a provider is asked at all ........ what it did cost is paid

Without the server each process counts requests by its own clock, and nobody spends from a budget: what is left of it is
not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from memgang.errors import AllowanceExceeded, StoreUnavailable
from memgang.store.allowances import Account, Allowance, Short
from memgang.store.process import fresh
from memgang.store.store import Store

LEASE_MS = 60_000  # of places and of what is put aside, when a process dies with them
RENEW_S = 15.0
AGENTS_MAX = 10_000  # counted here while the server is away; the oldest goes first

assert RENEW_S * 3_000 < LEASE_MS, "two lost renewals must not cost a place that is in use"


@dataclass(slots=True)
class Bill:
    """What a call is taken to cost until its end is known: then whoever made it writes here what it did."""

    tokens: int
    money: int


@dataclass(slots=True)
class _Alone:
    """The requests of one agent here: under way, and when they came in."""

    under_way: int = 0
    recent: deque[float] = field(default_factory=deque)


class Allowances:
    """The allowances a door keeps. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {}  # ticket -> what keeps its lease
        self._alone: dict[tuple[str, str], _Alone] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def entered(self, agent: str, scope: str, allows: Allowance) -> AsyncIterator[None]:
        """A request of this agent is under way.

        Raises:
            AllowanceExceeded: too many were made, or are under way.
            StoreUnavailable: the server is away, and nothing goes on without it (``fail="closed"``).
        """
        if not allows.counts_requests:
            yield
            return
        account, ticket, alone = Account(self._store.keys, scope, agent), fresh(), self._alone_of(agent, scope)
        try:
            short = await account.enter(self._store.wire, allows, ticket, lease_ms=LEASE_MS)
        except StoreUnavailable:
            if self._store.settings.fail == "closed":
                raise
            short, ticket = _short_alone(alone, allows), ""
        except BaseException:  # the caller has left, and may have been let in
            self._let_go(ticket, account.leave(self._store.wire, ticket))
            raise
        if short is not None:
            raise _exceeded(agent, short, allows)
        alone.under_way += 1
        if allows.requests:
            alone.recent.append(time.monotonic())
            if len(alone.recent) > allows.requests:
                alone.recent.popleft()
        if ticket:
            self._hold(ticket, lambda: account.stay(self._store.wire, ticket, lease_ms=LEASE_MS))
        try:
            yield
        finally:
            alone.under_way -= 1
            if ticket:
                self._let_go(ticket, account.leave(self._store.wire, ticket))

    @contextlib.asynccontextmanager
    async def spending(self, agent: str, scope: str, allows: Allowance, *, tokens: int, money: int) -> AsyncIterator[Bill]:
        """A call that may cost so much is made. What the bill says at the end is paid.

        Raises:
            AllowanceExceeded: it does not fit into what is left.
            StoreUnavailable: the server is away.
        """
        bill = Bill(tokens, money)
        if not allows.counts_spending:
            yield bill
            return
        account, ticket = Account(self._store.keys, scope, agent), fresh()
        try:
            short = await account.reserve(self._store.wire, allows, ticket, tokens=tokens, money=money, lease_ms=LEASE_MS)
        except BaseException:  # it may have been put aside
            self._let_go(ticket, account.pay(self._store.wire, ticket, tokens=0, money=0))
            raise
        if short is not None:
            raise _exceeded(agent, short, allows)
        self._hold(ticket, lambda: account.defer(self._store.wire, ticket, lease_ms=LEASE_MS))
        try:
            yield bill
        finally:
            # Behind its back: an answer is not held up by its bill. What cannot be told ends with the lease, and counts as put aside.
            self._let_go(ticket, account.pay(self._store.wire, ticket, tokens=bill.tokens, money=bill.money))

    async def aclose(self) -> None:
        """Give back and pay what is not yet."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    # ── leases ────────────────────────────────────────────────────────────────────────────────

    def _hold(self, ticket: str, renew: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._held[ticket] = renew
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())

    def _let_go(self, ticket: str, work: Coroutine[Any, Any, None]) -> None:
        self._held.pop(ticket, None)

        async def tell() -> None:
            with contextlib.suppress(StoreUnavailable):
                await work

        task = asyncio.create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(RENEW_S)
            for ticket, renew in list(self._held.items()):
                if ticket in self._held:  # else it has ended meanwhile, and a late renewal would hold it for a lease
                    with contextlib.suppress(StoreUnavailable):
                        await renew()

    # ── without the server ────────────────────────────────────────────────────────────────────

    def _alone_of(self, agent: str, scope: str) -> _Alone:
        alone = self._alone.pop((agent, scope), None) or _Alone()
        self._alone[agent, scope] = alone
        if len(self._alone) > AGENTS_MAX:
            del self._alone[next(iter(self._alone))]
        return alone


def _short_alone(alone: _Alone, allows: Allowance) -> Short | None:
    if allows.places and alone.under_way >= allows.places:
        return Short("places", alone.under_way, 0, allows.places, 1_000)
    if allows.requests and len(alone.recent) >= allows.requests:
        rest_ms = round((alone.recent[-allows.requests] - time.monotonic()) * 1000) + allows.window_ms
        if rest_ms > 0:
            return Short("requests", allows.requests, 0, allows.requests, rest_ms)
    return None


def _exceeded(agent: str, short: Short, allows: Allowance) -> AllowanceExceeded:
    return AllowanceExceeded(agent, short.what, short.spent, short.held, short.limit,
                             allows.window_ms / 1000 if short.what == "requests" else 0.0, short.ms / 1000)
