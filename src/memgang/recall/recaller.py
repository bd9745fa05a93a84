"""Recaller: all recalls of one Space."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from memgang.canonical import call_key, canonical
from memgang.codec import decode
from memgang.errors import ConfigError, StoreUnavailable
from memgang.model import (
    REF_PREFIX,
    Answered,
    Backoff,
    Call,
    Claimed,
    Context,
    Failed,
    Follow,
    Outcome,
    Ref,
    Usage,
    Work,
    current_work,
)
from memgang.recall.failures import retold
from memgang.recall.flights import Flights
from memgang.recall.following import Follower
from memgang.recall.leading import Leader
from memgang.recall.occurrences import Occurrences
from memgang.recall.order import Check, Formed, How, Order, Recalled, Terms
from memgang.recall.renewing import due
from memgang.store.host import Kept
from memgang.store.process import fresh
from memgang.store.store import Store

Sample = int | Literal["occurrence", "fresh"] | None


class Recaller:
    """All recalls of one Space; in front of the server, the flights of this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._settings = store.settings
        self._follower = Follower(store)
        self._leader = Leader(store, self._follower)
        self._flights = Flights(store.settings.on_abandon, self._leader.give_up, self._waits)
        self._occurrences = Occurrences()
        self._renewing: set[str] = set()

    async def settle(self) -> None:
        """Wait until nothing is under way here."""
        await self._flights.settle()

    async def aclose(self) -> None:
        """Cancel the work that is led here and give its claims up, so that nobody waits for their leases."""
        await self._flights.aclose()

    def form(self, call: Call) -> Formed:
        """The canonical form of a call, and its key: keyed with the secret of the space, so that it cannot be guessed."""
        form = canonical(call, self._store.keys.space)
        return Formed(form, call_key(form, self._store.keys.secret))

    def sampled(self, call: Call, sample: Sample, run: str, identity: str) -> Call:
        """The call with the sample that is meant: a number, the next of this identity in this run, or one of its own.

        Raises:
            ConfigError: ``sample`` is none of these.
        """
        match sample:
            case None:
                return call
            case "occurrence":
                call = msgspec.structs.replace(call, sample=0)
                number = self._occurrences.next(run, identity, self.form(call).key) if identity else 0
                return msgspec.structs.replace(call, sample=number) if number else call
            case "fresh":
                # Below 0 there are no other samples; nobody will ask for this one again.
                return msgspec.structs.replace(call, sample=-1 - secrets.randbits(52))
            case int() if sample >= 0 and not isinstance(sample, bool):
                return msgspec.structs.replace(call, sample=sample)
            case _:
                raise ConfigError(f"sample={sample!r} must be a number from 0, 'occurrence' or 'fresh'")

    async def recall(
        self, call: Call, compute: Callable[[], Awaitable[Any]], *, context: Context, terms: Terms, kind: str = "other",
        pos: float | None = None, tags: tuple[str, ...] = (), check: Check | None = None,
        validate: Callable[[], bytes] | None = None, formed: Formed | None = None,
    ) -> Recalled:
        """The answer of the call, computed by at most one of all who ask; see `Terms` for other ways.

        Raises:
            WorkFailed: the work failed, for good or as often as is tried; its error is the cause. Also where a call
                waits for itself.
            ModelError: the caller's own key or quota; never shared with others.
            StoreUnavailable: the server is away and ``fail="closed"``.
        """
        started = time.perf_counter()
        form, key = formed or self.form(call)
        order = Order(call, key, form, compute, context, terms, kind, pos, tags, check, validate)
        work = current_work.get()
        if terms.mode == "share" and (answer := await self._at_hand(order)) is not None:
            result = self._served(order, answer)
            if work is not None:
                self._count(work, order, result, (time.perf_counter() - started) * 1000)
            if self._store.log.crowded:
                await asyncio.sleep(0)
            return result
        with self._flights.waiting_for(order):
            if terms.mode == "private":
                result = await self._leader.alone(order)
            else:
                # Who refreshes is not given what somebody who does not is just being told.
                name = key if terms.mode == "share" else f"{key} anew"
                result, joined = await self._flights.share(name, order, self._fly)
                if joined:
                    self._told(order, "joined", result.ref, result.usage, joined)
                    result = Recalled(result.ref, "joined", result.usage, result.degraded, joined, result.pos,
                                      result.encoded, self._store.objects.get, result.stale, result.validator)
        if work is not None:
            self._count(work, order, result, (time.perf_counter() - started) * 1000)
        return result

    def at_hand(
        self, call: Call, formed: Formed, context: Context, type: Any, loop: asyncio.AbstractEventLoop | None = None
    ) -> tuple[Any] | None:
        """The value of an answer in a tuple, if this host has both; logged as any hit. No system call, and no turn of a loop.

        For a call whose answer may be taken as it is. ``loop``: that of the space, where the caller is in another thread.
        None: ask by `recall`.

        Raises:
            CodecError: the answer is not of this type.
        """
        found = self.answer_at_hand(call, formed, context, loop=loop)
        return (decode(found[1].media_type, found[1].body, type),) if found is not None else None

    def answer_at_hand(
        self, call: Call, formed: Formed, context: Context, *, usable: Callable[[bytes], bool] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> tuple[Answered, Kept] | None:
        """As `at_hand`, undecoded and with what is known of the answer. ``usable`` is asked about its validator."""
        started = time.perf_counter()
        if self._settings.audit == "strict" or (found := self._store.objects.answer_at_hand(formed.key)) is None:
            return None
        answer, kept = found
        if usable is not None and not usable(answer.validator):
            return None
        self._store.log.add(
            "hit", context, obj=answer.ref[len(REF_PREFIX):], call=formed.key, why="read" if call.kind in ("read", "tool") else "hit",
            saved=answer.usage, by=answer.by, fn=call.function, kind=call.kind, loop=loop)
        if (telemetry := self._store.telemetry) is not None:
            telemetry.at_hand(call, answer.ref, answer.usage, round((time.perf_counter() - started) * 1e6))
        if (work := current_work.get()) is not None:
            work.inner = work.inner + answer.usage
            work.inner_ms += (time.perf_counter() - started) * 1000
            work.read[answer.ref] = kept.place
        return found

    async def _at_hand(self, order: Order) -> Answered | None:
        """An answer that this host has, may still be used, and has its object here: the server need not be asked."""
        tier = self._store.tier
        if tier is None:
            return None
        now = self._store.log.server_ms()
        answer = tier.answer(order.key, now)
        if answer is None or not self._store.objects.held(answer.ref) or due(answer, order.terms, now):
            return None
        if order.check is not None and not (answer.validator and await order.check(answer.validator)):
            return None  # the server is told which answer is of no use any more
        return answer

    @staticmethod
    def _count(work: Work, order: Order, result: Recalled, elapsed_ms: float) -> None:
        """What a call inside another has cost, for the usage of the whole."""
        if result.how == "computed" and order.made is not None and (result.degraded or order.terms.mode == "private"):
            # No line of the log tells of it: it is part of what the outer call itself has spent.
            inside = order.made.work
            work.own = work.own + msgspec.structs.replace(order.made.own, calls=0, ms=0)
            work.inner = work.inner + inside.inner
            work.inner_ms += inside.inner_ms
        else:
            work.inner = work.inner + result.usage
            work.inner_ms += elapsed_ms

    # ── one flight ────────────────────────────────────────────────────────────────────────────

    async def _fly(self, order: Order) -> Recalled:
        try:
            owner, keep_ms = fresh(), order.terms.stale_ms
            return await self._pursue(order, owner, keep_ms, await self._follower.claim(order, owner, None, keep_ms))
        except StoreUnavailable:
            if self._settings.fail == "closed" or self._flights.closed:
                raise
            # Without a server there is still one flight in this process, and its answer is marked.
            return await self._leader.alone(order, degraded=True)

    async def _pursue(self, order: Order, owner: str, keep_ms: int, outcome: Outcome) -> Recalled:
        """From what claim says to an answer."""
        follower, unusable = self._follower, None
        anew = order.terms.mode == "refresh"
        while True:
            match outcome:
                case Answered():
                    if anew and not order.waiting_s:
                        anew = False  # the first that is seen is refused; another one was computed in between
                    elif await follower.usable(order, outcome):
                        if not order.background and due(outcome, order.terms, self._store.log.server_ms()):
                            self._renew(order, outcome)
                        return self._served(order, outcome)
                    else:
                        keep_ms = 0  # nobody should be served with what the world has left behind
                    unusable = outcome
                    outcome = await follower.claim(order, owner, unusable, keep_ms)
                case Claimed(old=old):
                    if self._may_serve(order, old):
                        aside = self._aside(order, owner, outcome)
                        if old is not None and await follower.usable(order, old):
                            return self._served(order, old, stale=True)
                        return await aside  # cancelled with us: nobody else waits for it
                    led = await self._leader.lead(order, owner, outcome)
                    if led is not None:
                        return led
                    owner, unusable = fresh(), None
                    outcome = await follower.claim(order, owner, unusable, keep_ms)
                case Follow(old=old) | Backoff(old=old) | Failed(old=old) if (
                        old is not None and self._may_serve(order, old) and await follower.usable(order, old)):
                    return self._served(order, old, stale=True)
                case Failed():
                    raise retold(order.call.function, outcome.error)
                case Follow() | Backoff():
                    outcome = await follower.follow(order, owner, unusable, keep_ms, outcome)

    @staticmethod
    def _may_serve(order: Order, old: Answered | None) -> bool:
        return old is not None and order.terms.stale_ms > 0 and order.terms.mode == "share" and not order.background

    def _aside(self, order: Order, owner: str, claimed: Claimed) -> Awaitable[Recalled]:
        """Lead in the background, while the old answer is served."""
        own = order.apart()
        own.claims[owner] = claimed.fence  # also where the space is closed before it has begun
        return self._flights.aside(self._pursue(own, owner, own.terms.stale_ms, claimed), own)

    def _renew(self, order: Order, answer: Answered) -> None:
        """Compute anew in the background what is still good, unless somebody is at it."""
        if order.key in self._renewing:
            return
        own = order.apart()

        async def renewed() -> None:
            self._renewing.add(order.key)
            try:
                owner = fresh()
                # Kept for at least a moment, so that all are served with it until the new one is there.
                keep_ms = max(1, own.terms.stale_ms)
                outcome = await self._follower.claim(own, owner, answer, keep_ms)
                if isinstance(outcome, Claimed):
                    await self._pursue(own, owner, keep_ms, outcome)
            finally:
                self._renewing.discard(order.key)

        self._flights.aside(renewed(), own)

    def _served(self, order: Order, answer: Answered, *, stale: bool = False) -> Recalled:
        how: How = "joined" if order.waiting_s else "hit"
        self._told(order, how, answer.ref, answer.usage, answer.by)
        return Recalled(answer.ref, how, answer.usage, by=answer.by, fetch=self._store.objects.get, stale=stale,
                        validator=answer.validator)

    def _waits(self, order: Order, by: str) -> None:
        """The event of a long wait for a flight of this process, while it lasts; for one of another see `Follower.follow`."""
        if not order.background:
            self._store.log.add("waits", order.context, call=order.key, by=by, fn=order.call.function, kind=order.call.kind)

    def _told(self, order: Order, how: How, ref: Ref, usage: Usage, by: str) -> None:
        """The event of a hit, with what it saved: what an agent alone would have spent on the whole call."""
        if order.background:
            return
        read = order.call.kind in ("read", "tool")
        self._store.log.add(
            how, order.context, obj=ref.id, call=order.key, us=round(order.waiting_s * 1e6), why="read" if read else how,
            saved=usage, by=by, fn=order.call.function, kind=order.call.kind)
