"""Leading: do the work, keep the object, publish the answer; and the ways in which that ends otherwise.

    compute -> put -> commit        the answer is there for all
                   -> fenced        somebody newer has claimed: their answer counts
            -> error                told to those who wait, or tried again, or the caller's own
            -> cancelled            released, so that the next one need not wait for the lease
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from memgang.canonical import outline
from memgang.codec import Encoded, encode, ref_of
from memgang.errors import Fenced, MemGangError, StoreUnavailable, UnknownReference
from memgang.model import NO_USAGE, Answered, Claimed, Lead, Ref, Usage, Work, current_work
from memgang.recall.failures import classified, pause_ms, told, work_failed
from memgang.recall.flights import computing
from memgang.recall.following import Follower
from memgang.recall.order import Made, Order, Recalled
from memgang.store import scripts
from memgang.store.process import fresh
from memgang.store.store import Store
from memgang.store.wire import Command

# An answer's object outlives the answer by this, so that no answer points at what has just expired.
OUTLIVES_MS = 60_000
RELEASE_S = 2.0  # then the lease ends it
PUT_AGAIN = 3  # times, where an object is gone before the answer points at it


class _Answer(NamedTuple):
    """What is to be published: the value as bytes, what it cost, what it was made from, and since when it is so."""

    encoded: Encoded
    made: Made
    validator: bytes
    since: float


class Leader:
    """The work of one Space."""

    def __init__(self, store: Store, follower: Follower) -> None:
        self._store = store
        self._settings = store.settings
        self._follower = follower

    async def compute(self, order: Order, lead: Lead | None = None) -> Made:
        """Do the work: its value, its whole usage, its own usage, and what it read."""
        order.work = work = Work(order.context, lead)
        tokens = current_work.set(work), computing.set(order.key)
        order.attempts += 1
        began = time.perf_counter()
        try:
            value = await order.compute()
        finally:
            elapsed = time.perf_counter() - began
            current_work.reset(tokens[0])
            computing.reset(tokens[1])
            order.own = own = work.own + Usage(calls=1, ms=max(0, round(elapsed * 1000 - work.inner_ms)))
        return Made(value, own + work.inner, own, work)

    async def alone(self, order: Order, *, degraded: bool = False) -> Recalled:
        """The work without the server: tried as often as elsewhere, kept nowhere.

        Raises:
            WorkFailed: it failed for good, or as often as is tried.
            StoreUnavailable: the work itself needs the server.
        """
        while order.made is None:
            if (error := order.failed) is not None:  # also one whose recording the server did not live to see
                order.failed = None
                kind, _ = classified(error)
                if kind == "caller":
                    raise error
                if kind == "permanent" or order.attempts >= self._settings.attempts:
                    raise work_failed(order.call.function, error, order.attempts) from error
                await asyncio.sleep(pause_ms(error, order.attempts) / 1000)
            try:
                order.made = await self.compute(order)
            except StoreUnavailable:
                raise
            except Exception as error:
                order.failed = error
        made = order.made
        value = encode(made.value)
        encoded = Encoded(value.media_type, value.whole)  # as it is now, whatever becomes of an array
        return Recalled(ref_of(*encoded), "computed", made.usage, degraded, order.context.who, order.place(made.work), encoded,
                        validator=order.validate() if order.validate is not None else b"")

    async def lead(self, order: Order, owner: str, claimed: Claimed) -> Recalled | None:
        """Compute and publish. None: the attempt failed and may be tried again, or an overtaken one must ask again."""
        store, context = self._store, order.context
        watch = _Watch(order, cancels=self._settings.on_lease_lost == "cancel")
        order.claims[owner] = claimed.fence
        store.beats.keep(order.key, who=context.who, owner=owner, fence=claimed.fence, lost=watch.lost)
        try:
            order.made = None
            try:
                made = order.made = await self.compute(order, Lead(order.key, owner, claimed.fence))
            finally:
                overtaken = watch.ended()
            answer = _Answer(encode(made.value), made, order.validate() if order.validate is not None else b"", time.monotonic())
            # In one shard put and commit travel together: the commit sees by itself whether the object is there.
            first = functools.partial(self._commit, order, answer, owner, claimed.fence, made.own)
            ref, sent = await self._keep(order, answer.encoded, made, first if store.keys.shards == 1 else None)
        except StoreUnavailable:
            raise
        except Exception as error:
            await self._fell(order, owner, claimed, error)
            return None
        except BaseException:
            if watch.cancelled and overtaken:  # by us, because the lease was lost: the newer leader's answer counts
                return None
            await self._release(order, owner, claimed.fence)
            raise
        finally:
            store.beats.leave(owner)
            order.claims.pop(owner, None)
        return await self._publish(order, answer, ref, owner, claimed.fence, sent)

    def _commit(self, order: Order, answer: _Answer, owner: str, fence: int, spent: Usage, ref: Ref) -> Command:
        keys = self._store.keys
        return scripts.commit_command(
            keys, order.key, who=order.context.who, owner=owner, fence=fence, answer=ref, ttl_ms=order.terms.ttl_ms,
            note=order.note(order.call.model, spent, outline(order.canonical, keys.secret)), own=spent,
            validator=answer.validator, usage=answer.made.usage, stale_ms=order.terms.stale_ms, kind=order.call.kind)

    async def _publish(
        self, order: Order, answer: _Answer, ref: Ref, owner: str, fence: int, sent: asyncio.Future[Any] | None
    ) -> Recalled:
        """Commit until the answer is there, ours or that of who overtook us. ``sent``: the reply of a commit under way."""
        store, made, gone = self._store, answer.made, 0
        ours = Recalled(ref, "computed", made.usage, by=order.context.who, pos=order.place(made.work),
                        # What is a view of an array is read from where it was put, as by everybody else.
                        encoded=answer.encoded if isinstance(answer.encoded.body, bytes) else None,
                        fetch=store.objects.get, validator=answer.validator)
        command = self._commit(order, answer, owner, fence, made.own, ref)
        while True:
            try:
                expires = await scripts.commit(store.wire, command, order.key, fence, sent)
                if store.tier is not None:
                    store.tier.keep_answer(order.key, Answered(ref, fence, expires, answer.validator, made.usage, order.context.who),
                                           store.log.server_ms(), answer.since)
                return ours
            except UnknownReference as error:
                # Forgotten by somebody, or lost with the server's data, before the answer could point at it.
                try:
                    if gone == PUT_AGAIN:
                        raise
                    gone += 1
                    await self._keep(order, answer.encoded, made, None)
                    sent = None
                except BaseException as last:
                    await self._release(order, owner, fence)  # still ours, and nobody would end it before its lease
                    if isinstance(last, UnknownReference):
                        raise work_failed(order.call.function, last, order.attempts) from error
                    raise
            except Fenced:
                # Paid for, and overtaken: the winner's answer counts. Where nobody won yet we publish ours
                # under a new fence; where somebody is at it, ours is returned and not remembered.
                owner = fresh()
                match await self._follower.claim(order, owner):
                    case Answered() as won:
                        return Recalled(won.ref, "computed", made.usage, by=won.by, fetch=store.objects.get,
                                        validator=won.validator)
                    case Claimed() as again:
                        fence, sent = again.fence, None
                        command = self._commit(order, answer, owner, fence, NO_USAGE, ref)  # the work was counted where it was paid
                    case _:
                        return ours

    async def _keep(
        self, order: Order, encoded: Encoded, made: Made, then: Callable[[Ref], Command] | None
    ) -> tuple[Ref, asyncio.Future[Any] | None]:
        pos, ttl_ms = order.place(made.work), order.terms.ttl_ms
        place = {} if pos is None else {"pos": pos}
        meta: dict[str, Any] = {"kind": order.kind, **place}
        if order.context.run:
            meta["run"] = order.context.run
        if order.tags:
            meta["tags"] = list(order.tags)
        return await self._store.objects.put_then(
            encoded, order.context, then, ttl_ms=ttl_ms + order.terms.stale_ms + OUTLIVES_MS if ttl_ms else 0,
            cost_s=made.usage.ms / 1000, keep=False, call=order.key, parents=list(made.work.read), meta=meta,
            words={"kind": order.kind, "tok": made.usage.tokens_out, **place})

    async def give_up(self, order: Order) -> None:
        """End the claims that an order still holds, though its work will not end: the next one may begin."""
        for owner, fence in list(order.claims.items()):
            self._store.beats.leave(owner)
            if order.work is not None:
                order.own = order.work.own
            await self._release(order, owner, fence)

    async def _release(self, order: Order, owner: str, fence: int) -> None:
        task = asyncio.create_task(scripts.release(
            self._store.wire, self._store.keys, order.key, who=order.context.who, owner=owner, fence=fence,
            note=order.note(own=order.own), own=order.own))
        with contextlib.suppress(MemGangError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(RELEASE_S):
                await asyncio.shield(task)

    async def _fell(self, order: Order, owner: str, claimed: Claimed, error: Exception) -> None:
        """The work raised: the caller's own fault is released, the rest recorded for those who wait."""
        kind, _ = classified(error)
        if kind == "caller":
            await self._release(order, owner, claimed.fence)
            raise error
        pause = order.terms.negative_ttl_ms
        if kind == "transient":
            pause = pause_ms(error, claimed.attempt)
        elif pause is None:
            pause = self._settings.negative_ttl_ms
        order.failed = error
        recorded = await scripts.fail(
            self._store.wire, self._store.keys, order.key, who=order.context.who, owner=owner, fence=claimed.fence,
            kind="permanent" if kind == "permanent" else "transient", error=told(error, claimed.attempt, order.context.who),
            pause_ms=pause, note=order.note(order.call.model, order.own, outline(order.canonical, self._store.keys.secret)),
            call_kind=order.call.kind, own=order.own)
        order.failed = None
        if kind == "permanent" and recorded:  # else somebody newer is at it, and may do better
            raise work_failed(order.call.function, error, claimed.attempt) from error


class _Watch:
    """What becomes of work whose lease is lost: it streams no more, and is cancelled where that is set."""

    def __init__(self, order: Order, *, cancels: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._order, self._cancels, self._task = order, cancels, task
        self._loop = asyncio.get_running_loop()
        self._working = True
        self._before = task.cancelling()
        self.cancelled = False

    def lost(self) -> None:
        """Called by the thread that beats."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self._working:
            return
        if self._order.work is not None:
            self._order.work.lead = None
        if self._cancels:
            self.cancelled = self._task.cancel()

    def ended(self) -> bool:
        """The work has ended. True: it was cancelled by us and by nobody else."""
        self._working = False
        return self.cancelled and self._task.uncancel() == self._before
