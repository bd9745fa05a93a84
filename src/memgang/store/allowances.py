"""What an agent may ask of a door and spend by it, kept at the server: requests in a time, requests at once, tokens, dollars.

    enter     a request comes in: counted, and given a place, by one script; `leave` gives the place back
    reserve   a call that is paid for begins: what it may cost is put aside; `pay` says what it did cost
    hold      either is still under way: its lease is renewed, if it is there

All keys are of shard 00. What was spent does not expire: it belongs to the agent of a scope, whatever token it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from memgang.store.keys import Keys
from memgang.store.replies import carried, number
from memgang.store.scripts import _run, _surprise
from memgang.store.wire import Wire


class Allowance(msgspec.Struct, frozen=True):
    """What is allowed. ``requests`` in any ``window_ms`` and ``places`` at once: 0 is no limit; tokens and micro-dollars: None."""

    requests: int = 0
    window_ms: int = 60_000
    places: int = 0
    tokens: int | None = None
    money: int | None = None

    @property
    def counts_requests(self) -> bool:
        """Whether a request must ask before it comes in."""
        return bool(self.requests or self.places)

    @property
    def counts_spending(self) -> bool:
        """Whether a call that is paid for must ask before it is made."""
        return self.tokens is not None or self.money is not None


class Short(msgspec.Struct, frozen=True):
    """What is not allowed now: ``spent`` and ``held`` of ``limit``; try again after ``ms``, 0: it does not get better by itself."""

    what: Literal["requests", "places", "tokens", "money"]
    spent: int
    held: int
    limit: int
    ms: int = 0


class Spent(msgspec.Struct, frozen=True):
    """What an agent has spent in all, and what is put aside for calls under way. Money in micro-dollars."""

    tokens: int = 0
    money: int = 0
    held_tokens: int = 0
    held_money: int = 0


HELD_MS = 1_000  # when to ask again for what calls under way have put aside: nobody knows when they end


@dataclass(frozen=True, slots=True)
class Account:
    """The keys of one agent of one scope."""

    keys: Keys
    scope: str
    agent: str

    def _of(self, *parts: str) -> list[str]:
        base = self.keys.allowance(f"{self.scope}/{self.agent}")
        return [*self.keys.head(0), *(base + part for part in parts)]

    async def enter(self, wire: Wire, allows: Allowance, ticket: str, *, lease_ms: int) -> Short | None:
        """Let a request in, or say why not. Repeated with its ticket it keeps the place, and counts once."""
        match await _run(wire, "enter", self._of(f":w{allows.window_ms}", ":p"),
                         ["", b"", ticket, lease_ms, allows.requests, allows.window_ms, allows.places]):
            case [b"entered"]:
                return None
            case [b"wait", ms, b"requests", used]:
                return Short("requests", int(used), 0, allows.requests, max(int(ms), 1))
            case [b"wait", ms, b"places", taken]:
                return Short("places", int(taken), 0, allows.places, int(ms))
            case reply:
                raise _surprise("enter", reply)

    async def stay(self, wire: Wire, ticket: str, *, lease_ms: int) -> bool:
        """Keep the place for another lease. False: it is not there any more."""
        return await self._hold(wire, ":p", ticket, lease_ms)

    async def leave(self, wire: Wire, ticket: str) -> None:
        """Give the place back. Safe to repeat."""
        await carried(wire.call("ZREM", self._of(":p")[2], ticket), "leave")

    async def reserve(self, wire: Wire, allows: Allowance, ticket: str, *, tokens: int, money: int, lease_ms: int) -> Short | None:
        """Put aside what a call may cost, or say why not. Repeated with its ticket it stays put aside, once."""
        match await _run(wire, "reserve", self._of("", ":r"), [
                "", b"", ticket, lease_ms, tokens, money,
                *("" if cap is None else cap for cap in (allows.tokens, allows.money))]):
            case [b"reserved"]:
                return None
            case [b"held" | b"broke" as how, what, spent, held, limit]:
                return Short("tokens" if what == b"tokens" else "money", int(spent), int(held), int(limit),
                             HELD_MS if how == b"held" else 0)
            case reply:
                raise _surprise("reserve", reply)

    async def defer(self, wire: Wire, ticket: str, *, lease_ms: int) -> bool:
        """Keep put aside what is, for another lease. False: it is not any more."""
        return await self._hold(wire, ":r", ticket, lease_ms)

    async def pay(self, wire: Wire, ticket: str, *, tokens: int, money: int) -> None:
        """Say what a call did cost. Safe to repeat."""
        await _run(wire, "pay", self._of("", ":r"), ["", b"", ticket, tokens, money])

    async def _hold(self, wire: Wire, part: str, ticket: str, lease_ms: int) -> bool:
        match await _run(wire, "hold", self._of(part), ["", b"", ticket, lease_ms]):
            case [b"held"]:
                return True
            case [b"gone"]:
                return False
            case reply:
                raise _surprise("hold", reply)

    async def spent(self, wire: Wire) -> Spent:
        """What it has spent by now."""
        found = await carried(wire.call("HMGET", self._of("")[2], "tokens", "money", "held_tokens", "held_money"), "read")
        return Spent(*(number(text or b"0") or 0 for text in found))
