"""Answers that are made outside: caches of other libraries ask, make what is missing themselves, and bring it back.

    look  -> there                 the value
          -> nobody is at it       None, and the call is claimed for the one who looked
          -> somebody is at it     waits: for the value, for the claim, or for so long
    settle -> the value is kept, and all who wait are given it

A look is a recall of the call whose work is to wait for `settle`; so lease, beats, fences and wake-ups are those of every
recall, and a leader whose process dies holds nobody up longer than its lease.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from memgang.adapters.bridge import Bridge
from memgang.blocking import BlockingSpace
from memgang.codec import TTL, parse_ttl
from memgang.errors import ConfigError, ModelError, StoreFull, StoreUnavailable, TooLarge, UnknownReference, WorkFailed
from memgang.model import NO_USAGE, Call, Usage, current_work
from memgang.recall import Recalled
from memgang.space import Space

SETTLE_S = 5.0  # how long a value that nobody has claimed waits for whoever is at the same call; then it is not kept
Asker = asyncio.Task[Any] | int | None  # a task, or the number of a thread


class _Made(NamedTuple):
    value: bytes
    usage: Usage
    until: int  # ms of the server's clock, 0: as long as it is kept


@dataclass(slots=True, eq=False)
class _Lead:
    """A call claimed for somebody who looked."""

    key: str
    by: Asker
    made: asyncio.Future[_Made]
    timer: asyncio.TimerHandle
    recall: asyncio.Task[Recalled] | None = None
    result: _Made | None = None


class Looks:
    """The looks of one cache. Safe from many threads, tasks and event loops; lives as long as its space."""

    def __init__(
        self, space: Space | BlockingSpace, *, wait_s: float, ttl: TTL, tag: str, kind: str = "cache", one_at_a_time: bool = False,
    ) -> None:
        """``wait_s``: how long a look waits for another's value, and how long a claim is held for who does not settle.
        ``ttl`` is how long values are kept at most. ``one_at_a_time``: a thread that looks again has ended what it was at.

        Raises:
            ConfigError: one of them is wrong.
        """
        if not wait_s > 0:
            raise ConfigError(f"wait_s={wait_s} must be more than 0 seconds")
        if ttl != "default":
            parse_ttl(ttl)
        self.bridge = Bridge(space)
        self._wait_s, self._ttl, self._tag, self._kind, self._one = wait_s, ttl, tag, kind, one_at_a_time
        self._leads: dict[str, _Lead] = {}
        self._tied: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    # ── from wherever the library calls ───────────────────────────────────────────────────────

    def look(self, call: Call, tags: Sequence[str] = ()) -> bytes | None:
        """The value, or None: make it and `settle`. Blocks. Raises StoreUnavailable where ``fail="closed"``."""
        return self.bridge.wait(self._look(call, threading.get_ident(), tags))

    async def alook(self, call: Call, tags: Sequence[str] = (), *, tied: bool = True) -> bytes | None:
        """As `look`, awaited. Where it is ``tied``, and the task that asks ends without a value, its claims are given up at once."""
        asker = asyncio.current_task()
        found = await self.bridge.here(self._look(call, asker, tags))
        if tied and found is None and asker is not None and asker not in self._tied:
            self._tied.add(asker)
            asker.add_done_callback(self._asker_ended)
        return found

    def settle(self, call: Call, value: bytes, *, ttl_s: float | None = None, usage: Usage = NO_USAGE, tags: Sequence[str] = ()) -> None:
        """Keep the value for all. Where there is no room or no server it is not kept; who made it has it all the same."""
        self.bridge.wait(self._settle(call, value, ttl_s, usage, tags))

    async def asettle(
        self, call: Call, value: bytes, *, ttl_s: float | None = None, usage: Usage = NO_USAGE, tags: Sequence[str] = ()
    ) -> None:
        """As `settle`, awaited."""
        await self.bridge.here(self._settle(call, value, ttl_s, usage, tags))

    def leave(self, call: Call) -> None:
        """There is no value to keep: give up the claim that was had on the call here, if any."""
        self.bridge.loop.call_soon_threadsafe(self._end, self.bridge.space.key(call))

    async def clear(self, tag: str = "") -> None:
        """Forget all that is kept under this tag, or all of the cache; to be run on the bridge."""
        space, cursor = self.bridge.space, ""
        while True:
            page = await space.find(tag=tag or self._tag, limit=500, cursor=cursor)
            for record in page.objects:
                try:
                    await space.forget(record.ref, "cleared")
                except UnknownReference:  # somebody else was faster
                    pass
            if not (cursor := page.cursor):
                return

    # ── on the event loop of the space ────────────────────────────────────────────────────────

    async def _look(self, call: Call, asker: Asker, tags: Sequence[str]) -> bytes | None:
        space, loop = self.bridge.space, asyncio.get_running_loop()
        key = space.form(call).key
        if (mine := self._leads.get(key)) is not None and mine.by == asker:
            return None  # what it had begun came to nothing, and it begins again
        if self._one and isinstance(asker, int):
            self._end_of(asker)
        claimed: asyncio.Future[None] = loop.create_future()
        left = False
        lead: _Lead | None = None

        async def compute() -> bytes:
            nonlocal lead
            if left:  # the flight went on without the one who looked, and nobody would settle
                raise _ended(call)
            lead = _Lead(key, asker, loop.create_future(), loop.call_later(self._wait_s, self._end, key), recall)
            self._leads[key] = lead
            if not claimed.done():  # it is, where the lease was lost meanwhile and had again
                claimed.set_result(None)
            try:
                made = lead.result = await lead.made
            finally:
                lead.timer.cancel()
                if self._leads.get(key) is lead:
                    del self._leads[key]
            if (work := current_work.get()) is not None:
                work.own = work.own + made.usage
            return made.value

        def validator() -> bytes:
            return b"%d" % (lead.result.until if lead is not None and lead.result is not None else 0)

        recall = asyncio.create_task(space.recall(
            call, compute, ttl=self._ttl, kind=self._kind, tags=(self._tag, *tags), check=self._current, validate=validator))
        recall.add_done_callback(_seen)
        either: list[asyncio.Future[Any]] = [recall, claimed]
        try:
            await asyncio.wait(either, timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            left = True
            recall.cancel()
            if lead is not None:
                self._end(key)
            raise
        if claimed.done():
            return None
        if not recall.done():
            left = True
            recall.cancel()
            return None
        value = await (await recall).value()
        return value if isinstance(value, bytes) else None

    async def _current(self, validator: bytes) -> bool:
        """Whether a value is still to be used: the one who brought it said until when."""
        return validator.isdigit() and (validator == b"0" or self.bridge.space.store.log.server_ms() < int(validator))

    async def _settle(self, call: Call, value: bytes, ttl_s: float | None, usage: Usage, tags: Sequence[str]) -> None:
        space = self.bridge.space
        until = 0 if ttl_s is None else space.store.log.server_ms() + max(1, round(ttl_s * 1000))
        made = _Made(value, usage, until)
        lead = self._leads.pop(space.form(call).key, None)
        try:
            if lead is not None and not lead.made.done():
                lead.made.set_result(made)
                assert lead.recall is not None
                await asyncio.shield(lead.recall)
                return

            async def compute() -> bytes:
                if (work := current_work.get()) is not None:
                    work.own = work.own + usage
                return value

            async with asyncio.timeout(SETTLE_S):
                await space.recall(call, compute, ttl=self._ttl, kind=self._kind, tags=(self._tag, *tags), mode="refresh",
                                   check=self._current, validate=lambda: b"%d" % until)
        except (StoreFull, TooLarge, StoreUnavailable, WorkFailed, TimeoutError):
            pass  # a cache may lose what it is given: the answer itself is with who made it, and the log has the refusal

    def _end(self, key: str) -> None:
        """Give a claim up: the next one who asks, or waits, may have it."""
        if (lead := self._leads.pop(key, None)) is not None and not lead.made.done():
            lead.made.set_exception(ModelError(self._tag, "caller", "left", "the one who had claimed it brought no value"))

    def _end_of(self, asker: Asker) -> None:
        for lead in [lead for lead in self._leads.values() if lead.by == asker]:
            self._end(lead.key)

    def _asker_ended(self, task: asyncio.Task[Any]) -> None:
        """Called in the event loop of the task that had looked."""
        try:
            self.bridge.loop.call_soon_threadsafe(functools.partial(self._end_of, task))
        except RuntimeError:
            pass  # the space is closed, and its claims with it


def _ended(call: Call) -> ModelError:
    return ModelError(call.function, "caller", "left", "the one who had asked waits no longer")


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # the one who looked may have left
