"""A pool of worker processes: calls go in, results come out, and a worker that dies takes nothing with it.

    call -> queue -> the worker with the least to do -> its answer
                  \\-> it died: this call again elsewhere (at most so often), the ones behind it as if never sent

A worker does one call after the other, so the first that has not been answered is the one it is at. Limits are of
that call alone: a worker over its time is killed, and the calls that waited behind it go to others uncounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from memgang.engines import child as children
from memgang.engines import functions
from memgang.engines.calls import Crashed, Item, Limits, NotThere, OverLimit, of_what, rebuilt, same
from memgang.engines.child import Child
from memgang.engines.frames import loaded_class, pack, unpack
from memgang.engines.worker import Answer, Order
from memgang.errors import MemGangError
from memgang.model import current_context
from memgang.traceparent import carried

TICK_S = 0.05
GRACE_S = 2.0  # a call that nobody waits for any more may end by itself within this
SHORT_MS = 15.0  # calls that take no longer are sent two at a time, so that a worker need not wait for us
STARTS_MAX = 3.0  # so many workers in a row that never came up, and the pool gives up


@dataclass(slots=True, eq=False)
class _Seat:
    child: Child
    sent: deque[Item] = field(default_factory=deque)
    ahead: dict[int, Item] = field(default_factory=dict)  # what it does when it has nothing else to do
    grown: bool = False  # it ends by itself after its last answer

    @property
    def busy_ahead(self) -> bool:
        """Whether it may be at something that nobody waits for."""
        return any(not item.future.done() for item in self.ahead.values())


@dataclass(slots=True)
class Counts:
    """What a pool has done: calls answered, workers started, lost, and calls tried again because of that."""

    done: int = 0
    started: int = 0
    lost: int = 0
    retried: int = 0
    over_limit: int = 0


class Pool:
    """At most ``size`` workers, for one event loop. They start when there is work, or by `start`.

    With ``patience_s`` another worker is started only when work has waited so long; 0 starts all at once.
    """

    def __init__(self, size: int, patience_s: float = 0.0) -> None:
        self.size, self.counts = size, Counts()
        self._patience_s = patience_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seats: list[_Seat] = []
        self._queue: deque[Item] = deque()
        self._ahead: dict[tuple[object, ...], Item] = {}  # begun before anybody asked, and not asked for yet
        self._lost: list[tuple[_Seat, float]] = []  # closed by themselves; why is known when they can be waited for
        self._killed: list[Child] = []
        self._mean_ms: dict[str, float] = {}
        self._ids, self._failed_starts = 0, 0.0
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop it belongs to, once it has worked."""
        return self._loop

    # ── from outside ──────────────────────────────────────────────────────────────────────────

    @property
    def up(self) -> bool:
        """Whether a worker is there that could begin at once."""
        return any(seat.child.up for seat in self._seats)

    @property
    def pids(self) -> list[int]:
        """The process numbers of its workers."""
        return [seat.child.process.pid for seat in self._seats]

    def start(self) -> None:
        """Start all workers; they come up while others work."""
        self.attach()
        while len(self._seats) < self.size:
            self._add()

    async def run(
        self, name: str, mark: str, args: Sequence[Any], kwargs: dict[str, Any] | None = None, *,
        limits: Limits | None = None, attempts: int = 3,
    ) -> Any:
        """What the function of that name makes of the arguments; what it raises is raised here.

        Raises:
            NotThere: a worker cannot find it; nothing was run.
            CodecError: the arguments have no form outside this process; nothing was run.
            OverLimit: over its limits.
            Crashed: the worker died at it, ``attempts`` times.
        """
        arguments = pack((list(args), kwargs or {}))
        self.attach()
        assert self._loop is not None
        self._ids += 1
        context = current_context.get()
        # The span under way, where there is one, so that spans of the worker are its children.
        trace = carried()
        stamp = [context.who, context.role, context.run, context.task, trace or context.trace] if context is not None else (
            ["", "", "", "", trace] if trace else None)
        order = Order("call", self._ids, name, mark, arguments, stamp,
                      limits.memory_mb if limits else 0, limits.cpu_s if limits else 0)
        if children.begun():
            self._adopt()
        item = self._begun(order, limits, attempts)
        if item is None:
            item = Item(self._ids, name, order, self._loop.create_future(), limits, attempts, began=time.monotonic())
        if not item.future.done():
            self._queue.append(item)
            self._pump()
        try:
            value = await item.future
        except asyncio.CancelledError:
            item.left = time.monotonic()
            if item in self._queue:
                self._queue.remove(item)
            raise
        return unpack(value, loaded_class)

    def _adopt(self) -> None:
        """Take over the workers that have begun already, and what they have said by now."""
        while len(self._seats) < self.size and children.begun():
            self._add()
        for seat in list(self._seats):
            self._readable(seat)

    def _begun(self, order: Order, limits: Limits | None, attempts: int) -> Item | None:
        """The same call, where it was begun ahead: done already, or now one like any other, to be made by whoever is free."""
        item = self._ahead.pop(same(order), None)
        if item is None:
            return None
        if not item.future.done():
            for seat in self._seats:
                if item.id in seat.ahead:
                    seat.child.order(Order("drop", item.id))  # too late where it is at it: then that answer will do
        item.id, item.order, item.limits, item.attempts = order.id, order, limits, attempts
        item.began = time.monotonic()
        return item

    async def aclose(self) -> None:
        """End or give back all workers. Calls under way are given up."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        seats, self._seats = self._seats, []
        busy = [seat for seat in seats if seat.sent or seat.busy_ahead or seat.grown]
        for item in [*self._queue, *(item for seat in seats for item in (*seat.sent, *seat.ahead.values()))]:
            item.future.cancel()
        self._queue.clear()
        self._ahead.clear()
        for seat in seats:
            self._unwatch(seat)
            if seat in busy:
                self._end(seat)
            else:
                children.spare(seat.child, self.size)
        for seat, _ in self._lost:
            self._end(seat)
        self._lost.clear()
        for dead in self._killed:
            dead.process.wait()  # they were killed; this is how long the system needs to take them away
        self._killed.clear()

    def abandon(self) -> None:
        """Give the workers up from outside of their loop, which is closed: its watchers have gone with it."""
        for seat in self._seats:
            if seat.sent or seat.busy_ahead or seat.grown:
                seat.child.kill()
                seat.child.process.wait()
            else:
                children.spare(seat.child, self.size)
        self._seats.clear()

    # ── workers ───────────────────────────────────────────────────────────────────────────────

    def attach(self) -> None:
        """Belong to the event loop that runs."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    def _add(self) -> None:
        assert self._loop is not None
        seat = _Seat(children.take())
        for order in seat.child.ahead:
            item = Item(order.id, order.function, order, self._loop.create_future(), None, 1)
            item.future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ever ask for it
            seat.ahead[order.id] = self._ahead[same(order)] = item
        seat.child.ahead.clear()
        self.counts.started += 1
        self._seats.append(seat)
        with contextlib.suppress(MemGangError):  # told to whoever wants a function of the main file
            seat.child.order(Order("main", function="\0".join(functions.main_of_this_process())))
        self._loop.add_reader(seat.child.fileno(), self._readable, seat)
        self._flush(seat)

    def _readable(self, seat: _Seat) -> None:
        answers, alive = seat.child.received()
        for answer in answers:
            if answer.outcome == "up":
                seat.child.up, self._failed_starts = True, 0.0
            else:
                self._answered(seat, answer)
        if not alive:
            self._unwatch(seat)
            self._seats.remove(seat)
            if seat.grown and not seat.sent:
                self._end(seat)
            else:
                self._lost.append((seat, time.monotonic()))
                self._settle_lost()
        self._pump()

    def _answered(self, seat: _Seat, answer: Answer) -> None:
        if (early := seat.ahead.pop(answer.id, None)) is not None:
            seat.grown = answer.grown
            # A failure is no answer to who will ask: for them it is made as any other call, with all its attempts.
            if answer.outcome == "done" and not early.future.done():
                early.future.set_result(answer.value)
            elif not early.future.done():
                self._ahead.pop(same(early.order), None)
            return
        if not seat.sent or seat.sent[0].id != answer.id:
            return  # of a call from before a change of hands
        item = seat.sent.popleft()
        seat.grown = answer.grown
        self.counts.done += 1
        known = self._mean_ms.get(item.name, answer.ms)
        self._mean_ms[item.name] = known + (answer.ms - known) * 0.2
        if seat.sent:
            seat.sent[0].began = time.monotonic()
        if item.future.done():
            return
        match answer.outcome:
            case "done":
                item.future.set_result(answer.value)
            case "memory":
                assert item.limits is not None
                self._over(item, f"needs more than {item.limits.memory_mb} MB of memory")
            case "unknown":
                item.future.set_exception(NotThere(str(unpack(answer.value, loaded_class))))
            case _:
                item.future.set_exception(rebuilt(answer.value))

    def _over(self, item: Item, what: str) -> None:
        self.counts.over_limit += 1
        if not item.future.done():
            item.future.set_exception(OverLimit(what))

    def _settle_lost(self) -> None:
        """Workers that closed by themselves: once their end is known, the call they were at is tried again, or failed."""
        waiting: list[tuple[_Seat, float]] = []
        for seat, since in self._lost:
            status = seat.child.ended()
            if status is None and time.monotonic() - since < 1.0:
                waiting.append((seat, since))
                continue
            self._end(seat)
            self._died(seat, of_what(status))
        self._lost = waiting
        if waiting and self._loop is not None:
            self._loop.call_later(0.002, self._settled_later)

    def _settled_later(self) -> None:
        if self._lost:
            self._settle_lost()
            self._pump()

    def _died(self, seat: _Seat, how: str) -> None:
        if not seat.child.up:
            # An exit is a mistake that the next one will make too; a signal may come from anybody.
            self._failed_starts += 1.0 if how.startswith("exit") else 0.1
            if self._failed_starts >= STARTS_MAX:
                self._give_up(how)
        elif seat.grown:  # it went as it was told to; what was sent behind was never begun
            self._again(seat.sent)
            return
        self.counts.lost += 1
        if not seat.sent:
            return
        if seat.busy_ahead:  # of that, perhaps: nothing is held against those who only waited
            self._again(seat.sent)
            return
        item = seat.sent.popleft()
        item.tried += 1
        if item.limits is not None and how == "SIGXCPU":
            self._over(item, f"was not done after {item.limits.cpu_s:g} s of work")
        elif not item.future.done() and item.tried >= item.attempts:
            item.future.set_exception(Crashed(item.name, f"its worker process was ended by {how}", item.tried))
        elif not item.future.done():
            self.counts.retried += 1
            self._queue.appendleft(item)
        self._again(seat.sent)

    def _again(self, items: deque[Item]) -> None:
        self._queue.extendleft(reversed([item for item in items if not item.future.done()]))
        items.clear()

    def _give_up(self, how: str) -> None:
        error = f"worker processes end before they have begun ({how}, and others before it)"
        while self._queue:
            item = self._queue.popleft()
            if not item.future.done():
                item.future.set_exception(Crashed(item.name, error, item.tried))
        self._failed_starts = 0.0

    def _kill(self, seat: _Seat) -> None:
        """End a worker that is over its time, or works for nobody; those that wait behind are sent to others."""
        self._unwatch(seat)
        self._seats.remove(seat)
        self._end(seat)
        seat.sent.popleft()
        self._again(seat.sent)

    def _end(self, seat: _Seat) -> None:
        seat.child.kill()
        if seat.child.ended() is None:
            self._killed.append(seat.child)

    def _unwatch(self, seat: _Seat) -> None:
        if self._loop is not None and not self._loop.is_closed() and seat.child.fileno() >= 0:
            self._loop.remove_reader(seat.child.fileno())
            self._loop.remove_writer(seat.child.fileno())

    # ── work ──────────────────────────────────────────────────────────────────────────────────

    def _pump(self) -> None:
        """Send what waits to whoever has room."""
        while self._queue:
            if self._queue[0].future.done():
                self._queue.popleft()
                continue
            self._grow()
            item = self._queue[0]
            free = [seat for seat in self._seats if seat.child.up and not seat.grown and self._room(seat, item)]
            if not free:
                return
            seat = min(free, key=lambda seat: len(seat.sent))
            self._queue.popleft()
            if not seat.sent:
                item.began = time.monotonic()
            seat.sent.append(item)
            seat.child.order(self._placed(seat, item.order))
            self._flush(seat)

    def _grow(self) -> None:
        if len(self._seats) >= self.size:
            return
        if not self._patience_s:
            self.start()
        elif not self._seats or time.monotonic() - self._queue[0].began > self._patience_s:
            self._add()

    def _room(self, seat: _Seat, item: Item) -> bool:
        if not seat.sent:
            return True
        if len(seat.sent) >= 2 or seat.child.waiting:
            return False
        first = seat.sent[0]
        return all(self._mean_ms.get(one.name, 1e9) < SHORT_MS for one in (first, item))

    def _placed(self, seat: _Seat, order: Order) -> Order:
        """The order, with the folder to work in where that has changed."""
        try:
            here = os.getcwd()
        except OSError:  # it was removed
            return order
        if here == seat.child.folder:
            return order
        seat.child.folder = here
        return msgspec.structs.replace(order, folder=here)

    def _flush(self, seat: _Seat) -> None:
        assert self._loop is not None
        seat.child.flush()
        if seat.child.waiting:
            self._loop.add_writer(seat.child.fileno(), self._flush, seat)
        elif seat.child.fileno() >= 0:
            self._loop.remove_writer(seat.child.fileno())

    def _tick(self) -> None:
        """Look at the clock: who is over time, who works for nobody, who has gone."""
        self._ticking, now = None, time.monotonic()
        for seat in list(self._seats):
            if not seat.sent:
                continue
            item = seat.sent[0]
            if item.limits is not None and now - item.began > item.limits.wall_s:
                self._over(item, f"was not done after {item.limits.wall_s:g} s")
                self._kill(seat)
            elif item.left and now - item.left > GRACE_S:
                self._kill(seat)
        self._killed = [dead for dead in self._killed if dead.ended() is None]
        self._pump()
        if self._queue or self._killed or self._lost or any(seat.sent for seat in self._seats):
            self.attach()
