"""The limiter: lets a call begin when all the gangs that share the limit leave it room, and says when it has ended.

    enter -> the line of this process -> (first in it) the server's script -> admitted | wait | broke
    leave -> what was really used; the next in line is woken

Only the first in a process's line asks the server, so that processes take turns and a free place wakes a handful, not
hundreds. Who waits for money that its own run or agent has reserved steps aside, here as at the server: it goes on
asking, and the next in line need not wait for it. While the server is away, each process goes on with its share of the limit (`alone.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from memgang.errors import BudgetExceeded, StoreUnavailable
from memgang.limits.alone import Alone
from memgang.limits.departed import Departed, new_ticket
from memgang.limits.terms import Limits, Need, too_large
from memgang.store.process import fresh
from memgang.store.quotas import Admitted, Broke, End, Paid, Quota, Wait
from memgang.store.store import Store

PAUSE_MAX_S = 600.0  # of what a provider asks for; then it is asked again
PURSES_MAX = 64
Answer = Admitted | Wait | Broke


@dataclass(slots=True)
class Ticket:
    """One call that may begin, or wait to."""

    id: str
    need: Need
    purse: str
    agent: str
    who: str
    alone: bool = False  # admitted without the server


@dataclass(slots=True)
class _Purse:
    """What this limiter has paid from one purse in all, and for each agent; these sums only grow."""

    quota: Quota
    departed: Departed
    payer: str  # another one when the purse is made again: its sums begin anew, and the server's would hide them
    agents: dict[str, int]
    all: int = 0
    left: int | None = None  # for everybody, as last heard


class Limiter:
    """One gang's access to a shared limit. Belongs to one event loop."""

    def __init__(self, store: Store, limits: Limits, model: str) -> None:
        self._store, self._limits, self._model = store, limits, model
        self._caps = limits.caps()
        self._name = f"{limits.name or model} {limits.per_s:g}"
        self._me = fresh()
        self._turn = asyncio.Lock()  # the line of this process: first come, first served
        # The lines before it, of those who spend the same money: of them only one may wait for it beside the line.
        self._lines: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        self._held: dict[str, Ticket] = {}
        self._purses: OrderedDict[str, _Purse] = OrderedDict()
        self._alone = Alone(limits)
        self._sharers = 1
        self._paused_until = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def paused_s(self) -> float:
        """For how long nobody begins, as far as is known here."""
        return max(self._paused_until - time.monotonic(), 0.0)

    async def enter(self, need: Need, *, run: str, who: str) -> Ticket:
        """Wait until the call may begin, and take what it needs. Give the ticket back with `leave`.

        Raises:
            CallTooLarge: it needs more tokens than fit into a whole window.
            BudgetExceeded: its worst case is more than is left to spend.
        """
        most = self._limits.tokens_per_minute
        if most and need.tokens > most:
            raise too_large("this call", need.tokens, most)
        agent = who.rpartition("/")[2] if self._limits.usd_per_agent is not None else ""
        ticket = Ticket(new_ticket(), need, f"name {self._limits.name}" if self._limits.name else f"run {run}", agent, who)
        async with self._line(ticket), contextlib.AsyncExitStack() as turn:
            await turn.enter_async_context(self._turn)
            try:
                await self._admitted(ticket, aside=turn.aclose)
            except StoreUnavailable:
                if self._store.settings.fail == "closed":
                    raise
                await turn.aclose()  # whether it has stepped aside or not: alone, all stand in one line
                await turn.enter_async_context(self._turn)
                await self._admitted_alone(ticket)
        self._alone.began(need)
        self._held[ticket.id] = ticket
        if not ticket.alone and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())
        return ticket

    async def leave(self, ticket: Ticket, how: End, *, tokens: int, micro_usd: int, retry_after_s: float = 0.0) -> None:
        """The call has ended. ``tokens`` and ``micro_usd`` are what it used, or may have used where nobody knows."""
        if self._held.pop(ticket.id, None) is None:
            return
        self._alone.ended(ticket.need, micro_usd, ticket.alone)
        self._pay(ticket, micro_usd)
        if how == "limited":
            retry_after_s = min(retry_after_s, PAUSE_MAX_S)
            self._paused_until = max(self._paused_until, time.monotonic() + (retry_after_s or 1.0))
        ending = asyncio.create_task(self._settle(ticket, how, tokens, retry_after_s))
        self._tasks.add(ending)
        ending.add_done_callback(self._tasks.discard)
        if how == "limited":
            await asyncio.shield(ending)  # nobody here asks again before all have been told to stop

    async def aclose(self) -> None:
        """Tell of all that has ended. What is still under way is given back when its lease has passed."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    # ── with the server ───────────────────────────────────────────────────────────────────────

    def _line(self, ticket: Ticket) -> contextlib.AbstractAsyncContextManager[Any]:
        if not self._limits.counts_money:
            return contextlib.nullcontext()
        return self._lines.setdefault((ticket.purse, ticket.agent), asyncio.Lock())

    async def _admitted(self, ticket: Ticket, aside: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ask until admitted; a turn of this process's line, up to stepping ``aside``. Cancelled, it leaves nothing behind."""
        asked = asyncio.ensure_future(self._ask(ticket))
        try:
            if self._let_in(ticket, await asyncio.shield(asked)):
                return
            async with self._store.wakeups.listen(self._purse(ticket).quota.channel) as ear:
                while True:
                    # Asked once more with the ear open: a place that became free in between has woken nobody.
                    asked = asyncio.ensure_future(self._ask(ticket))
                    answer = await asyncio.shield(asked)
                    if self._let_in(ticket, answer):
                        return
                    assert isinstance(answer, Wait)
                    if answer.why == "paused":
                        self._paused_until = max(self._paused_until, time.monotonic() + answer.ms / 1000)
                    if answer.why == "money":
                        await aside()
                    await self._purse(ticket).departed.wait(ear, (answer.ms + random.uniform(1, 20)) / 1000)
        except BaseException as error:
            if not isinstance(error, BudgetExceeded):
                self._give_back(ticket, asked)
            raise

    def _let_in(self, ticket: Ticket, answer: Answer) -> bool:
        if isinstance(answer, Broke):
            scope = f"agent {ticket.agent}" if answer.whose == "agent" else ticket.purse
            raise BudgetExceeded(self._model, scope, answer.paid, answer.reserved, answer.limit, ticket.need.micro_usd)
        return isinstance(answer, Admitted)

    async def _ask(self, ticket: Ticket) -> Answer:
        """The server's word. An admission that came too late to begin within the margin of the window is given back."""
        purse, began = self._purse(ticket), time.monotonic()
        answer = await purse.quota.admit(
            self._store.wire, self._caps, ticket.id, who=ticket.who, lease_ms=self._store.settings.lease_ms,
            tokens=ticket.need.tokens, cost=ticket.need.micro_usd, paid=self._paid(ticket))
        if isinstance(answer, Admitted):
            if time.monotonic() - began > self._limits.margin_s / 2:
                await self._settle(ticket, "unsent", 0, 0.0)
                ticket.id = new_ticket()
                return Wait(0, "late")
            purse.left = answer.left if answer.left >= 0 else None
            self._alone.back()
        return answer

    def _give_back(self, ticket: Ticket, asked: asyncio.Future[Answer]) -> None:
        """Behind what was asked last, which may be under way: its answer must not come after we have left."""
        async def work() -> None:
            with contextlib.suppress(Exception):
                await asked
            await self._settle(ticket, "unsent", 0, 0.0)

        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, ticket: Ticket, how: End, tokens: int, retry_after_s: float) -> None:
        if ticket.alone:
            return  # what it cost is told with the next call
        with contextlib.suppress(StoreUnavailable):  # its lease ends it
            paused_ms = await self._purse(ticket).quota.settle(
                self._store.wire, self._caps, ticket.id, how, who=ticket.who, reserved=ticket.need.tokens, used=tokens,
                retry_ms=round(retry_after_s * 1000), paid=self._paid(ticket))
            self._paused_until = max(self._paused_until, time.monotonic() + paused_ms / 1000)

    async def _renew(self) -> None:
        """While calls are under way: keep their leases, and hear how many gangs share the limit."""
        lease_ms = self._store.settings.lease_ms
        while self._held:
            by_purse: dict[str, list[str]] = {}
            for ticket in self._held.values():
                if not ticket.alone:
                    by_purse.setdefault(ticket.purse, []).append(ticket.id)
            with contextlib.suppress(StoreUnavailable):
                for purse, tickets in by_purse.items():
                    self._sharers = await self._quota(purse).renew(
                        self._store.wire, tickets, who="", lease_ms=lease_ms, sharer=self._me)
            await asyncio.sleep(lease_ms / 4000)

    # ── without the server ────────────────────────────────────────────────────────────────────

    async def _admitted_alone(self, ticket: Ticket) -> None:
        """Within this process's share, by its own clock."""
        ticket.alone = True
        purse = self._purse(ticket)
        left = purse.left
        if left is None and self._limits.usd is not None:
            left = max((self._caps.money or 0) - purse.all, 0)
        short = await self._alone.wait(ticket.need, max(self._sharers, 1), left, lambda: self.paused_s)
        if short is not None:
            raise BudgetExceeded(self._model, "this process while the server is away", purse.all, 0,
                                 purse.all + short, ticket.need.micro_usd)

    # ── money ─────────────────────────────────────────────────────────────────────────────────

    def _quota(self, purse: str) -> Quota:
        return Quota(self._store.keys, self._name, purse)

    def _purse(self, ticket: Ticket) -> _Purse:
        purse = self._purses.get(ticket.purse)
        if purse is None:
            quota = self._quota(ticket.purse)
            purse = self._purses[ticket.purse] = _Purse(quota, Departed(self._store, quota), fresh(), {})
            if len(self._purses) > PURSES_MAX:
                self._purses.popitem(last=False)
        self._purses.move_to_end(ticket.purse)
        return purse

    def _pay(self, ticket: Ticket, micro_usd: int) -> None:
        purse = self._purse(ticket)
        purse.all += micro_usd
        if ticket.agent:
            purse.agents[ticket.agent] = purse.agents.get(ticket.agent, 0) + micro_usd

    def _paid(self, ticket: Ticket) -> Paid:
        purse = self._purse(ticket)
        return Paid(purse.payer, ticket.agent, purse.all, purse.agents.get(ticket.agent, 0))
