"""What a gang may use of a language model, kept at the server: places, requests, tokens, dollars, and the line before them.

One script answers whether a call may begin (`admit`), one takes its end (`settle`), one says that calls are still
under way (`renew`). All keys of all limits are of shard 00; they expire when nobody uses them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError

from memgang.store.keys import Keys
from memgang.store.replies import translated
from memgang.store.scripts import _run, _surprise
from memgang.store.wakeups import Wakeups
from memgang.store.wire import Wire

End = Literal["ok", "unsent", "limited", "slow", "failed"]


class Caps(msgspec.Struct, frozen=True):
    """What is allowed, 0 or None: no limit. Money in micro-dollars."""

    places: int = 0
    requests: int = 0
    tokens: int = 0
    window_ms: int = 60_000
    money: int | None = None
    money_of_agent: int | None = None

    @property
    def counts_money(self) -> bool:
        """Whether anything is said about money."""
        return self.money is not None or self.money_of_agent is not None


class Paid(msgspec.Struct, frozen=True):
    """Who pays, and what it has paid in all since it began: these sums only grow."""

    payer: str
    agent: str = ""
    all: int = 0
    of_agent: int = 0


class Admitted(msgspec.Struct, frozen=True):
    """The call may begin now. ``left``: micro-dollars nobody has spent or reserved, -1 where none are counted."""

    left: int


class Wait(msgspec.Struct, frozen=True):
    """Not yet: ask again after ``ms``, or when woken. ``why`` is money: of its own, and nobody else is held up."""

    ms: int
    why: str


class Broke(msgspec.Struct, frozen=True):
    """It would cost more than is left. ``whose``: all | agent."""

    whose: str
    paid: int
    reserved: int
    limit: int


@dataclass(frozen=True, slots=True)
class Quota:
    """The keys of one limit and of one purse. ``name`` and ``purse`` are free text; keys hold their hashes alone."""

    keys: Keys
    name: str
    purse: str

    @property
    def channel(self) -> str:
        """Where those who wait are woken."""
        return self.keys.limit(self.name)

    def _all(self, caps: Caps) -> list[str]:
        head, limit = self.keys.head(0), self.keys.limit(self.name)
        money = self.keys.purse(self.purse)
        return [*head, limit, f"{limit}:w{caps.window_ms}", f"{limit}:p", f"{limit}:q", money, f"{money}:r"]

    async def admit(
        self, wire: Wire, caps: Caps, ticket: str, *, who: str, lease_ms: int, tokens: int, cost: int, paid: Paid,
    ) -> Admitted | Wait | Broke:
        """Ask for all a call needs. Safe to repeat with its ticket."""
        def cap(money: int | None) -> str:
            return "" if money is None else str(money)

        reply = await _run(wire, "admit", self._all(caps), [
            who, b"", ticket, lease_ms, caps.places, caps.requests, caps.tokens, caps.window_ms, tokens,
            cap(caps.money), cap(caps.money_of_agent), cost, paid.payer, paid.agent, paid.all, paid.of_agent])
        match reply:
            case [b"admitted", left]:
                return Admitted(int(left))
            case [b"wait", ms, why]:
                return Wait(int(ms), why.decode())
            case [b"broke", whose, spent, held, limit]:
                return Broke(whose.decode(), int(spent), int(held), int(limit))
        raise _surprise("admit", reply)

    async def settle(
        self, wire: Wire, caps: Caps, ticket: str, how: End, *, who: str, reserved: int, used: int, retry_ms: int, paid: Paid,
    ) -> int:
        """The end of a call, or of the wait for it; for how many ms nobody begins now. Safe to repeat."""
        payer = paid.payer if caps.counts_money else ""
        reply: list[Any] = await _run(wire, "settle", self._all(caps), [
            who, b"", ticket, how, reserved, used, retry_ms, caps.places, payer, paid.agent, paid.all, paid.of_agent])
        return int(reply[1])

    async def renew(self, wire: Wire, tickets: Sequence[str], *, who: str, lease_ms: int, sharer: str) -> int:
        """These calls are under way; how many share the limit."""
        limit, money = self.keys.limit(self.name), self.keys.purse(self.purse)
        sharers = 1
        for start in range(0, max(len(tickets), 1), 1000):
            reply = await _run(wire, "renew", [*self.keys.head(0), limit, f"{limit}:p", f"{money}:r", f"{limit}:s", money],
                                      [who, b"", lease_ms, sharer, *tickets[start:start + 1000]])
            sharers = int(reply[1])
        return sharers

    async def tickets(self, wire: Wire) -> set[str]:
        """The tickets of all who hold a place or money, or stand in the line."""
        limit, money = self.keys.limit(self.name), self.keys.purse(self.purse)
        try:
            held = await asyncio.gather(*(wire.call("ZRANGE", key, 0, -1) for key in (f"{limit}:p", f"{limit}:q", f"{money}:r")))
        except RedisError as error:
            raise translated(error, "look after a limit") from error
        return {ticket.decode() for tickets in held for ticket in tickets}

    async def lapse(self, wire: Wire, tickets: Sequence[str]) -> None:
        """The leases of these end now, and they leave the line: `admit` does the rest, as if their time had passed."""
        limit, money = self.keys.limit(self.name), self.keys.purse(self.purse)
        over = [word for ticket in tickets for word in (0, ticket)]
        try:
            await asyncio.gather(
                wire.call("ZADD", f"{limit}:p", "XX", *over), wire.call("ZADD", f"{money}:r", "XX", *over),
                wire.call("ZREM", f"{limit}:q", *tickets), wire.call("HDEL", limit, *(f"w:{ticket}" for ticket in tickets)))
            await wire.call("SPUBLISH", self.channel, "moved")
        except RedisError as error:
            raise translated(error, "look after a limit") from error


# ── the prefix gate ────────────────────────────────────────────────────────────────────────────


async def first_through(wire: Wire, wakeups: Wakeups, key: str, *, wait_ms: int, warm_ms: int) -> bool:
    """Whether the caller is the first of all at a gate. Else wait until the first is through, or for ``wait_ms``.

    The key says ``going``, and expires when whoever went first is not heard of; then ``warm``.
    """
    try:
        if await wire.call("SET", key, "going", "NX", "PX", wait_ms):
            return True
        until = time.monotonic() + wait_ms / 1000
        async with wakeups.listen(key) as ear:
            while (left := until - time.monotonic()) > 0:
                if await wire.call("SET", key, "going", "NX", "PX", max(round(left * 1000), 1)):
                    return True
                if await wire.call("GET", key) == b"warm":
                    await wire.call("PEXPIRE", key, warm_ms)
                    return False
                await ear.wait(min(left, 1.0) * random.uniform(0.8, 1.0))
        return False
    except RedisError as error:
        raise translated(error, "pass a gate") from error


async def opened(wire: Wire, key: str, warm_ms: int) -> None:
    """Let those wait no longer who wait at a gate: it is warm for ``warm_ms``, or (0) another may go first."""
    try:
        if warm_ms:
            await wire.call("SET", key, "warm", "PX", warm_ms)
        else:
            await wire.call("UNLINK", key)
        await wire.call("SPUBLISH", key, "opened")
    except RedisError as error:
        raise translated(error, "open a gate") from error
