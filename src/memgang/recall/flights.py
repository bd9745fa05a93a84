"""Flights of this process: all who ask for one key at once share one task.

A caller that is cancelled leaves, the task goes on for the others. What becomes of it when the last one has left
is a setting. The key is free again when the task ends, so a failure reaches those who wait already and never
those who ask later.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from memgang.errors import StoreUnavailable, WorkFailed
from memgang.recall.failures import OF_THE_CALLER
from memgang.recall.order import Check, OfTheAsker, Order, Recalled

CANCEL_S = 5.0  # how long cancelled work may take to end before its claim is given up over its head
CLOSE_S = 2.0  # the same when the space is closed
TOLD_S = 0.1  # who has waited so long for a flight of this process is told of, while it waits
TOLD_MAX = 64  # of one flight: more say nothing new, and a crowd of 10,000 would be as many lines and timers
AT_ONCE_S = 0.05  # work that ends within this gives its claim up itself, with all it has spent

# The key of the call that is being computed here, if any.
computing: contextvars.ContextVar[str] = contextvars.ContextVar("memgang_computing", default="")


@dataclass(slots=True)
class Flight:
    """One task, what it was ordered to do, and how many wait for it."""

    task: asyncio.Task[Recalled]
    order: Order
    waiters: int = 0
    checked: asyncio.Task[bool] | None = None  # whether the world is as the result says; one look for all who joined


class Flights:
    """The flights of one Space. ``give_up`` ends the claims an order still holds, ``waits`` is told who has waited long for
    whom. Belongs to one event loop."""

    def __init__(
        self, on_abandon: Literal["finish", "cancel"], give_up: Callable[[Order], Awaitable[None]],
        waits: Callable[[Order, str], None],
    ) -> None:
        self._on_abandon = on_abandon
        self._give_up = give_up
        self._told = waits
        self.running: dict[str, Flight] = {}
        self._others: dict[asyncio.Task[Any], Order] = {}  # that nobody waits for: abandoned, or in the background
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: defaultdict[str, list[str]] = defaultdict(list)  # call being computed -> calls it waits for
        self.closed = False

    async def share(self, name: str, order: Order, fly: Callable[[Order], Coroutine[Any, Any, Recalled]]) -> tuple[Recalled, str]:
        """The result of the flight of this name, begun if there is none; and who was joined, '' where nobody was."""
        caller = asyncio.current_task()
        assert caller is not None
        cancelled = caller.cancelling()
        while True:
            if self.closed:
                raise StoreUnavailable("this space is closed")
            flight = self.running.get(name)
            # One that has just ended is not joined, though its callback is still to come: awaiting it gives
            # nobody a turn, so its failure would be met again and again, for ever.
            leading = flight is None or flight.task.done()
            if flight is None or flight.task.done():
                flight = Flight(asyncio.create_task(fly(order)), order)
                self.running[name] = flight
                flight.task.add_done_callback(functools.partial(self._landed, name))
            flight.waiters += 1
            began = time.perf_counter()
            told = None
            if not leading and flight.waiters <= TOLD_MAX:
                told = caller.get_loop().call_later(TOLD_S, self._told, order, flight.order.context.who)
            try:
                # Shielded: one impatient caller must not cancel what the others wait for.
                result = await asyncio.shield(flight.task)
            except asyncio.CancelledError:
                if flight.task.cancelled() and caller.cancelling() == cancelled:  # it was, we were not
                    if self.closed:
                        raise StoreUnavailable("this space was closed while the work was under way") from None
                    if not leading:
                        continue  # ask again
                if flight.waiters == 1 and self._on_abandon == "cancel":
                    self._abandon(name, flight)
                raise
            except OF_THE_CALLER:
                if leading:
                    raise
                continue  # the leader's own key or quota; ours may be good
            finally:
                flight.waiters -= 1
                if told is not None:
                    told.cancel()
            if leading:
                return result, ""
            order.waiting_s += time.perf_counter() - began
            if result.stale and not order.terms.stale_ms:
                await asyncio.sleep(0)  # its callback first, which takes it out of the way
                continue  # good enough for who began it, not for us
            if result.validator and order.check is not None and not await self._still(flight, order.check, result.validator):
                continue  # what it was made from changed before it was there, perhaps before we asked
            return result, flight.order.context.who

    @staticmethod
    async def _still(flight: Flight, check: Check, validator: bytes) -> bool:
        if isinstance(check, OfTheAsker):
            return await check(validator)
        if flight.checked is None:  # looks once, later than everybody has joined
            flight.checked = asyncio.ensure_future(check(validator))
        return await asyncio.shield(flight.checked)

    def _landed(self, name: str, task: asyncio.Task[Recalled]) -> None:
        if name in self.running and self.running[name].task is task:
            del self.running[name]
        if not task.cancelled():
            task.exception()  # seen: all who waited may have left

    def aside(self, work: Coroutine[Any, Any, Any], order: Order) -> asyncio.Task[Any]:
        """Work that goes on while its caller does not wait for it. Its errors are in its flight, not here."""
        task = asyncio.create_task(work)
        self._keep(task, order)
        return task

    def _keep(self, task: asyncio.Task[Any], order: Order) -> None:
        self._others[task] = order
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._others.pop(task, None)
        if not task.cancelled():
            task.exception()

    # ── waiting in a circle ───────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def waiting_for(self, order: Order) -> Iterator[None]:
        """Within the block, the call being computed here waits for another.

        Raises:
            WorkFailed: that other waits, directly or not, for the one being computed: neither would ever end.
        """
        here = computing.get()
        if not here:
            yield
            return
        if self._reaches(order.key, here):
            raise WorkFailed(order.call.function, "permanent", "recalls_itself",
                             "to compute its answer it asks for that answer, itself or through another call")
        self._waits[here].append(order.key)
        try:
            yield
        finally:
            self._waits[here].remove(order.key)
            if not self._waits[here]:
                del self._waits[here]

    def _reaches(self, start: str, goal: str) -> bool:
        seen, ahead = {start}, [start]
        while ahead:
            key = ahead.pop()
            if key == goal:
                return True
            for further in self._waits.get(key, ()):
                if further not in seen:
                    seen.add(further)
                    ahead.append(further)
        return False

    # ── leaving ───────────────────────────────────────────────────────────────────────────────

    def _abandon(self, name: str, flight: Flight) -> None:
        """The last caller has left: cancel the work, and do not let it hold the call if it will not end."""
        if self.running.get(name) is flight:
            del self.running[name]  # who asks from now on is not given what is being cancelled
        flight.task.cancel()
        self._keep(flight.task, flight.order)
        task = asyncio.create_task(self._see_off(flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_off(self, flight: Flight) -> None:
        await asyncio.wait([flight.task], timeout=CANCEL_S)
        if not flight.task.done():
            await self._give_up(flight.order)

    async def settle(self) -> None:
        """Wait until nothing is under way, those included that nobody waits for."""
        while tasks := [flight.task for flight in self.running.values()] + list(self._others):
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # their callbacks, which take them out of the way

    async def aclose(self) -> None:
        """Cancel what is under way and give its claims up at once, so that nobody waits for their leases."""
        self.closed = True
        running: dict[asyncio.Task[Any], Order] = {f.task: f.order for f in self.running.values()} | self._others
        for task in running:
            task.cancel()
        if running:
            _, late = await asyncio.wait(running, timeout=AT_ONCE_S)
            # Those that will not end, and those that were cancelled before they began.
            await asyncio.gather(*(self._give_up(order) for order in running.values() if order.claims))
            if late:
                await asyncio.wait(late, timeout=CLOSE_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
