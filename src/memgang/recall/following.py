"""Asking who computes a call, whether an answer may still be used, and waiting for the one who is at it."""

from __future__ import annotations

import asyncio
import random
import time

from memgang.model import Answered, Backoff, Claimed, Follow, Outcome
from memgang.recall.order import Order, waited_for
from memgang.store import scripts
from memgang.store.process import incarnation
from memgang.store.store import Store


class Follower:
    """What one Space asks of the flights of all processes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(
        self, order: Order, owner: str, unusable: Answered | None = None, keep_ms: int = 0, *, first: bool = True
    ) -> Outcome:
        """Who computes this call. ``unusable`` is refused; ``keep_ms`` is how long past its end an old answer is good."""
        s, tier, since = self._store.settings, self._store.tier, time.monotonic()
        outcome = await scripts.claim(
            self._store.wire, self._store.keys, order.key, who=order.context.who, note=order.note(order.call.model),
            owner=owner, inc=incarnation(), lease_ms=s.lease_ms, attempts=s.attempts, hold_ms=s.hold_ms,
            unusable=unusable, keep_ms=keep_ms, first=first)
        if tier is not None:
            if isinstance(outcome, Answered):
                tier.keep_answer(order.key, outcome, self._store.log.server_ms(), since)
            elif isinstance(outcome, Claimed):
                tier.overtake(order.key, outcome.fence)  # refused, or computed anew: nobody here is given the old one
        return outcome

    async def usable(self, order: Order, answer: Answered) -> bool:
        """Whether the world is still as it was when the answer was given, and the object is still there."""
        if order.check is not None:
            # What nobody can check is shared with those who waited while it was computed, and with nobody afterwards.
            waited = 0 < order.followed <= answer.fence
            if not answer.validator and not waited:
                return False
            token = waited_for.set(waited)
            try:
                if answer.validator and not await order.check(answer.validator):
                    return False
            finally:
                waited_for.reset(token)
        return await self._store.objects.there(answer.ref)

    async def follow(
        self, order: Order, owner: str, unusable: Answered | None, keep_ms: int, outcome: Follow | Backoff
    ) -> Outcome:
        """Wait until the flight has moved on; what claim says then.

        Listen before asking, not after being told to wait:

          A: claim  -> claimed
          B: claim  -> follow A
          A: commit, "done" is published
          B: listen                  <- hears nothing, sleeps out the whole lease

        With the ear open first, either the message is already queued for us or the claim itself
        brings the answer.
        """
        store, began = self._store, time.perf_counter()
        latest: Outcome = outcome
        if isinstance(outcome, Follow):
            order.followed = outcome.fence
            store.log.add("waits", order.context, call=order.key, by=outcome.by, fn=order.call.function, kind=order.call.kind)
        try:
            async with store.wakeups.listen(store.keys.flight(order.key)) as ear:
                while True:
                    # Behind the results of others: who polls needs no connection kept for those who begin.
                    latest = await self.claim(order, owner, unusable, keep_ms, first=False)
                    if not isinstance(latest, Follow | Backoff):
                        return latest
                    leader = latest.leader if isinstance(latest, Follow) else ""
                    if leader and store.watch.dead(leader):  # a process of this host: nobody need wait for its lease
                        await scripts.release_dead(store.wire, store.keys, order.key, who=order.context.who,
                                                   note=order.note(), inc=leader)
                        continue
                    if isinstance(latest, Follow):
                        order.followed = latest.fence
                    poll_ms = store.settings.poll_ms * random.uniform(0.8, 1.2)  # spreads, hides nothing
                    with store.watch.over(leader, ear):
                        woken = await ear.wait(min(latest.ms + random.uniform(1, 20), poll_ms) / 1000)
                    if woken:
                        # Released or taken over: all followers were woken, and only one of them is needed.
                        await asyncio.sleep(random.uniform(0, 0.002))
        except BaseException:
            if isinstance(latest, Claimed):  # won, and cancelled before anybody began: nobody else would end it
                scripts.release_soon(store.wire, store.keys, order.key, who=order.context.who, note=order.note(),
                                     owner=owner, fence=latest.fence)
            raise
        finally:
            order.waiting_s += time.perf_counter() - began
