"""Recall: ask for a call's answer. It is there (hit), somebody is at it (joined), or we lead (computed).

    call -> flight of this process -> claim -> answered | follow | backoff | claimed -> compute -> put -> commit -> wake

Of everybody who asks at once, in this process and in all others, one computes. A leader that dies is
replaced when its lease has passed; a leader that was replaced is fenced and given the answer that won.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from memgang.canonical import call_key, canonical, outline
from memgang.codec import Encoded, decode, encode, ref_of
from memgang.errors import (
    CodecError,
    ConfigError,
    Fenced,
    MemGangError,
    ModelError,
    StoreFull,
    StoreUnavailable,
    TooLarge,
    UnknownReference,
    WorkFailed,
)
from memgang.model import (
    NO_USAGE,
    Answered,
    Backoff,
    Call,
    Claimed,
    Context,
    Failed,
    Follow,
    Lead,
    Outcome,
    Ref,
    Usage,
    Work,
    current_work,
)
from memgang.store import scripts
from memgang.store.events import note, spent
from memgang.store.process import fresh, incarnation
from memgang.store.store import Store
from memgang.store.wire import Command

How = Literal["hit", "joined", "computed"]
Check = Callable[[bytes], Awaitable[bool]]

# An answer's object outlives the answer by this, so that no answer points at what has just expired.
OUTLIVES_MS = 60_000
BACKOFF_MS = 200
CLOSE_S = 5.0
PUT_AGAIN = 3  # times, where an object is gone before the answer points at it
ERROR_BYTES_MAX = 1_000
_SECRET = re.compile(r"(?i)\b(sk-[A-Za-z0-9_-]{6,}|bearer\s+\S+|(?:api[_-]?key|token|password)\s*[=:]\s*\S+)")


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a recall brought: the reference, how it came, and what the whole call costs an agent alone."""

    ref: Ref
    how: How
    usage: Usage
    degraded: bool = False  # the server was away: computed here, remembered nowhere
    by: str = ""  # whose work it is
    pos: float | None = None
    encoded: Encoded | None = None
    fetch: Callable[[Ref], Awaitable[tuple[str, bytes, dict[str, Any]]]] | None = None

    async def value(self, type: Any = None) -> Any:
        """The answer itself, decoded afresh for every caller."""
        pos = self.pos
        if self.encoded is not None:
            kind, body = self.encoded
        else:
            assert self.fetch is not None
            kind, body, meta = await self.fetch(self.ref)
            pos = meta.get("pos")
        if (work := current_work.get()) is not None:
            work.read[self.ref] = pos
        return decode(kind, body, type)


@dataclass(slots=True)
class _Order:
    """One call as it is asked for here."""

    call: Call
    key: str
    canonical: bytes
    compute: Callable[[], Awaitable[Any]]
    context: Context
    ttl_ms: int
    kind: str
    pos: float | None
    tags: tuple[str, ...]
    check: Check | None
    validate: Callable[[], bytes] | None
    waiting_s: float = 0.0
    own: Usage = NO_USAGE  # of the attempt under way, as far as it came
    made: tuple[Any, Usage, Usage, Work] | None = None  # what was paid for: not paid again when the server goes away

    def note(self, model: str = "", own: Usage = NO_USAGE, outline: str = "") -> bytes:
        """What the log is told of this call. Its outline goes with the end of the work, not with each claim:
        most claims are answered, and nobody asks why a hit missed."""
        told: dict[str, Any] = {"fn": self.call.function, "call": self.call.kind}
        if model:
            told["model"] = model
        if own is not NO_USAGE:
            told |= spent(own)
        if outline:
            told["outline"] = outline
        return note(self.context, told)


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Recalled]
    who: str
    waiters: int = 0


class Formed(NamedTuple):
    """A call in canonical form, and its key."""

    canonical: bytes
    key: str


class Recaller:
    """All recalls of one Space; in front of the server, the flights of this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._settings = store.settings
        self._running: dict[str, _Flight] = {}
        self._closed = False

    async def aclose(self) -> None:
        """Cancel the work that is led here and give its claims up, so that nobody waits for their leases."""
        self._closed = True
        running = [flight.task for flight in self._running.values()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CLOSE_S)  # work that will not be cancelled is left to its lease

    def form(self, call: Call) -> Formed:
        """The canonical form of a call, and its key: keyed with the secret of the space, so that it cannot be guessed."""
        form = canonical(call, self._store.keys.space)
        return Formed(form, call_key(form, self._store.keys.secret))

    async def recall(
        self, call: Call, compute: Callable[[], Awaitable[Any]], *, context: Context, ttl_ms: int, kind: str = "other",
        pos: float | None = None, tags: tuple[str, ...] = (), check: Check | None = None,
        validate: Callable[[], bytes] | None = None, formed: Formed | None = None,
    ) -> Recalled:
        """The answer of the call, computed by at most one of all who ask.

        Raises:
            WorkFailed: the work failed, for good or as often as is tried; its error is the cause.
            ModelError: the caller's own key or quota; never shared with others.
            StoreUnavailable: the server is away and ``fail="closed"``.
        """
        started = time.perf_counter()
        form, key = formed or self.form(call)
        order = _Order(call, key, form, compute, context, ttl_ms, kind, pos, tags,
                       check, validate)
        work = current_work.get()
        result = await self._share(order)
        elapsed = time.perf_counter() - started
        if work is not None:
            work.inner = work.inner + result.usage
            work.inner_ms += elapsed * 1000
        return result

    async def _share(self, order: _Order) -> Recalled:
        """Collapse the calls of this process for one key into one; its key is free again when it ends."""
        caller = asyncio.current_task()
        assert caller is not None
        cancelled = caller.cancelling()
        while True:
            if self._closed:
                raise StoreUnavailable("this space is closed")
            flight = self._running.get(order.key)
            # One that has just ended is not joined, though its callback is still to come: awaiting it gives
            # nobody a turn, so its failure would be met again and again, for ever.
            leading = flight is None or flight.task.done()
            if flight is None or flight.task.done():
                flight = _Flight(asyncio.create_task(self._fly(order)), order.context.who)
                self._running[order.key] = flight
                flight.task.add_done_callback(functools.partial(self._landed, order.key))
            flight.waiters += 1
            began = time.perf_counter()
            try:
                # Shielded: one impatient caller must not cancel what the others wait for.
                result = await asyncio.shield(flight.task)
            except asyncio.CancelledError:
                if flight.task.cancelled() and caller.cancelling() == cancelled:  # it was, we were not
                    if self._closed:
                        raise StoreUnavailable("this space was closed while the work was under way") from None
                    if not leading:
                        continue  # ask again
                if flight.waiters == 1 and self._settings.on_abandon == "cancel":
                    flight.task.cancel()
                raise
            except (ModelError, StoreFull, TooLarge, CodecError, ConfigError):
                if leading:
                    raise
                continue  # the leader's own key or quota; ours may be good
            finally:
                flight.waiters -= 1
            if leading:
                return result
            order.waiting_s += time.perf_counter() - began
            self._told(order, "joined", result.ref, result.usage, flight.who, waited=order.waiting_s)
            return Recalled(result.ref, "joined", result.usage, result.degraded, flight.who, result.pos,
                            result.encoded, self._store.objects.get)

    def _landed(self, key: str, task: asyncio.Task[Recalled]) -> None:
        if key in self._running and self._running[key].task is task:
            del self._running[key]

    async def _fly(self, order: _Order) -> Recalled:
        try:
            return await self._ask(order)
        except StoreUnavailable:
            if self._settings.fail == "closed" or self._closed:
                raise
            # Without a server there is still one flight in this process, and its answer is marked.
            value, usage, _own, work = order.made or await self._compute(order)
            encoded = encode(value)
            return Recalled(ref_of(*encoded), "computed", usage, True, order.context.who, self._place(order, work), encoded)

    async def _ask(self, order: _Order) -> Recalled:
        store = self._store
        owner, unusable = fresh(), None
        outcome: Outcome = await self._claim(order, owner, unusable)
        while True:
            match outcome:
                case Answered():
                    if await self._usable(order, outcome):
                        how: How = "joined" if order.waiting_s else "hit"
                        self._told(order, how, outcome.ref, outcome.usage, outcome.by, waited=order.waiting_s)
                        return Recalled(outcome.ref, how, outcome.usage, by=outcome.by, fetch=store.objects.get)
                    unusable = outcome
                    outcome = await self._claim(order, owner, unusable)
                case Claimed():
                    led = await self._lead(order, owner, outcome)
                    if led is not None:
                        return led
                    owner, unusable = fresh(), None
                    outcome = await self._claim(order, owner, unusable)
                case Failed():
                    raise self._failed(order, outcome.error)
                case Follow() | Backoff():
                    outcome = await self._follow(order, owner, unusable, outcome)

    async def _claim(self, order: _Order, owner: str, unusable: Answered | None) -> Outcome:
        call, s = order.call, self._settings
        return await scripts.claim(
            self._store.wire, self._store.keys, order.key, who=order.context.who, note=order.note(call.model),
            owner=owner, inc=incarnation(), lease_ms=s.lease_ms, attempts=s.attempts, hold_ms=s.hold_ms, unusable=unusable)

    async def _usable(self, order: _Order, answer: Answered) -> bool:
        """Whether the world is still as it was when the answer was given, and the object is still there."""
        if order.check is not None and not (answer.validator and await order.check(answer.validator)):
            return False
        return bool(await self._store.wire.call("EXISTS", self._store.keys.record(answer.ref)))

    async def _follow(self, order: _Order, owner: str, unusable: Answered | None, outcome: Follow | Backoff) -> Outcome:
        """Wait until the flight has moved on; what claim says then.

        Listen before asking, not after being told to wait:

          A: claim  -> claimed
          B: claim  -> follow A
          A: commit, "done" is published
          B: listen                  <- hears nothing, sleeps out the whole lease

        With the ear open first, either the message is already queued for us or the claim itself
        brings the answer.
        """
        began = time.perf_counter()
        if isinstance(outcome, Follow):
            self._store.log.add("waits", order.context, call=order.key, by=outcome.by, fn=order.call.function)
        try:
            async with self._store.wakeups.listen(self._store.keys.flight(order.key)) as ear:
                while True:
                    latest = await self._claim(order, owner, unusable)
                    if not isinstance(latest, Follow | Backoff):
                        return latest
                    poll_ms = self._settings.poll_ms * random.uniform(0.8, 1.2)  # spreads, hides nothing
                    if await ear.wait(min(latest.ms + random.uniform(1, 20), poll_ms) / 1000):
                        # Released or taken over: all followers were woken, and only one of them is needed.
                        await asyncio.sleep(random.uniform(0, 0.002))
        finally:
            order.waiting_s += time.perf_counter() - began

    async def _compute(self, order: _Order, lead: Lead | None = None) -> tuple[Any, Usage, Usage, Work]:
        """Do the work: its value, its whole usage, its own usage, and what it read."""
        work = Work(order.context, lead)
        token = current_work.set(work)
        began = time.perf_counter()
        try:
            value = await order.compute()
        finally:
            elapsed = time.perf_counter() - began
            current_work.reset(token)
            order.own = own = work.own + Usage(calls=1, ms=max(0, round(elapsed * 1000 - work.inner_ms)))
        return value, own + work.inner, own, work

    async def _lead(self, order: _Order, owner: str, claimed: Claimed) -> Recalled | None:
        """Compute and publish. None: the attempt failed and may be tried again, or an overtaken one must ask again."""
        store, context = self._store, order.context
        store.beats.keep(order.key, who=context.who, owner=owner, fence=claimed.fence)
        try:
            order.made = None
            value, usage, own, work = order.made = await self._compute(order, Lead(order.key, owner, claimed.fence))
            encoded = encode(value)
            validator = order.validate() if order.validate is not None else b""

            def commit(ref: Ref, by: str = owner, fence: int = claimed.fence, spent: Usage = own) -> Command:
                return scripts.commit_command(
                    store.keys, order.key, who=context.who, owner=by, fence=fence, answer=ref, ttl_ms=order.ttl_ms,
                    note=order.note(order.call.model, spent, outline(order.canonical, store.keys.secret)),
                    own=spent, validator=validator, usage=usage)

            # In one shard put and commit travel together: the commit sees by itself whether the object is there.
            together = store.keys.shards == 1
            ref, sent = await self._keep(order, encoded, work, usage, commit if together else None)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            await self._release(order, owner, claimed)
            raise
        except StoreUnavailable:
            raise
        except Exception as error:
            await self._fell(order, owner, claimed, error)
            return None
        finally:
            store.beats.leave(owner)
        fence, command, gone = claimed.fence, commit(ref), 0
        while True:
            try:
                await scripts.commit(store.wire, command, order.key, fence, sent)
                return Recalled(ref, "computed", usage, by=context.who, pos=self._place(order, work), encoded=encoded,
                                fetch=store.objects.get)
            except UnknownReference:
                # Forgotten by somebody, or lost with the server's data, before the answer could point at it.
                if gone == PUT_AGAIN:
                    raise
                gone += 1
                await self._keep(order, encoded, work, usage, None)
                sent = None
            except Fenced:
                # Paid for, and overtaken: the winner's answer counts. Where nobody won yet we publish ours
                # under a new fence; where somebody is at it, ours is returned and not remembered.
                owner = fresh()
                match await self._claim(order, owner, None):
                    case Answered() as won:
                        return Recalled(won.ref, "computed", usage, by=won.by, fetch=store.objects.get)
                    case Claimed() as again:
                        fence, sent = again.fence, None
                        command = commit(ref, owner, fence, NO_USAGE)  # the work was counted where it was paid
                    case _:
                        return Recalled(ref, "computed", usage, by=context.who, encoded=encoded)

    async def _keep(
        self, order: _Order, encoded: Encoded, work: Work, usage: Usage, then: Callable[[Ref], Command] | None
    ) -> tuple[Ref, asyncio.Future[Any] | None]:
        pos = self._place(order, work)
        place = {} if pos is None else {"pos": pos}
        meta: dict[str, Any] = {"kind": order.kind, **place}
        if order.context.run:
            meta["run"] = order.context.run
        if order.tags:
            meta["tags"] = list(order.tags)
        return await self._store.objects.put_then(
            encoded, order.context, then, ttl_ms=order.ttl_ms + OUTLIVES_MS if order.ttl_ms else 0,
            cost_s=usage.ms / 1000, keep=False, call=order.key, parents=list(work.read), meta=meta,
            words={"kind": order.kind, "tok": usage.tokens_out, **place})

    @staticmethod
    def _place(order: _Order, work: Work) -> float | None:
        """Where the result stands in its document: as said, else the mean of what it was made from."""
        if order.pos is not None:
            return order.pos
        places = [p for p in work.read.values() if p is not None]
        return round(sum(places) / len(places), 4) if places else None

    async def _release(self, order: _Order, owner: str, claimed: Claimed) -> None:
        task = asyncio.create_task(scripts.release(
            self._store.wire, self._store.keys, order.key, who=order.context.who, owner=owner, fence=claimed.fence,
            note=order.note(own=order.own)))
        with contextlib.suppress(MemGangError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(2.0):  # if it fails, the lease ends it
                await asyncio.shield(task)

    async def _fell(self, order: _Order, owner: str, claimed: Claimed, error: Exception) -> None:
        """The work raised: the caller's own fault is released, the rest recorded for those who wait."""
        kind, code = classified(error)
        if kind == "caller":
            await self._release(order, owner, claimed)
            raise error
        pause = self._settings.negative_ttl_ms
        if kind == "transient":
            asked = error.retry_after_s * 1000 if isinstance(error, ModelError) else 0.0
            pause = round(max(asked, BACKOFF_MS * 2 ** (claimed.attempt - 1) * random.uniform(0.8, 1.2)))
        told = {"class": kind, "code": code, "message": redacted(str(error)), "attempt": claimed.attempt,
                "writer": order.context.who}
        await scripts.fail(
            self._store.wire, self._store.keys, order.key, who=order.context.who, owner=owner, fence=claimed.fence,
            kind="permanent" if kind == "permanent" else "transient", error=msgspec.json.encode(told), pause_ms=pause,
            note=order.note(order.call.model, order.own, outline(order.canonical, self._store.keys.secret)))
        if kind == "permanent":
            raise WorkFailed(order.call.function, "permanent", code, redacted(str(error)), claimed.attempt) from error

    @staticmethod
    def _failed(order: _Order, stored: bytes) -> WorkFailed:
        try:
            told = msgspec.json.decode(stored or b"{}", type=dict[str, Any])
        except msgspec.DecodeError:
            told = {}
        return WorkFailed(order.call.function, str(told.get("class", "transient")), str(told.get("code", "unknown")),
                          str(told.get("message", "")), int(told.get("attempt", 1)))

    def _told(self, order: _Order, how: How, ref: Ref, usage: Usage, by: str, *, waited: float) -> None:
        """The event of a hit, with what it saved: what an agent alone would have spent on the whole call."""
        read = order.call.kind in ("read", "tool")
        self._store.log.add(
            how, order.context, obj=ref.id, call=order.key, us=round(waited * 1e6), why="read" if read else how,
            saved=usage, by=by, fn=order.call.function)


def classified(error: Exception) -> tuple[Literal["permanent", "transient", "caller"], str]:
    """The class of an error and its code: who may be told, and whether trying again can help."""
    if isinstance(error, ModelError):
        kind = error.kind if error.kind in ("permanent", "transient", "caller") else "permanent"
        return kind, error.code  # type: ignore[return-value]  # narrowed by the line above
    code = type(error).__name__
    if isinstance(error, WorkFailed):
        return ("transient" if error.kind == "transient" else "permanent"), error.code
    if isinstance(error, MemoryError | StoreFull | TooLarge | CodecError | ConfigError):
        return "caller", code
    if isinstance(error, TimeoutError | ConnectionError | InterruptedError):
        return "transient", code
    return "permanent", code


def redacted(text: str) -> str:
    """An error's text without what looks like a secret, at most 1 KB."""
    return _SECRET.sub("[redacted]", text)[:ERROR_BYTES_MAX]
