"""The client's side of the protocol as step machines that mirror src/memgang/recall/, streaming and the beats.

Each is a generator: it yields what it wants of the world (a request to the server, a sleep, a message) and is sent
what came of it. Whoever drives it decides when, in what order, and what goes wrong between; so a scheduler can
interleave any number of them and replay every schedule from its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from tests.protocol.calls import Request, Shard

SLEEP, WAIT, LISTEN, SPAWN = range(4)  # what else than a request may be yielded: (one of these, what)
Steps = Generator[Any, Any, Any]
OUTLIVES_MS = 60_000
PUT_AGAIN = 3


class Cancelled(Exception):
    """Thrown into a task at the place where it waits."""


@dataclass(slots=True)
class Terms:
    """How the calls of a schedule are asked for."""

    lease: int = 1000
    beat: int = 250
    hold: int = 3000
    poll: int = 1000
    attempts: int = 3
    ttl: int = 0
    stale: int = 0
    negative: int = 500


@dataclass(slots=True)
class Process:
    """One process: its incarnation, and what its work comes to."""

    inc: str
    luck: random.Random
    shard: Shard
    terms: Terms
    dead_here: Callable[[str], bool]  # proof of death: only where processes share a host
    streams: bool = False  # its work comes piece by piece
    number: int = 0
    ends: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def who(self) -> str:
        return "u/" + self.inc

    def fresh(self) -> str:
        """An owner, op or answer nobody else has."""
        self.number += 1
        return f"{self.inc}.{self.number}"


@dataclass(slots=True)
class Led:
    """A lead that beats keep."""

    left: bool = False
    lost: bool = False


# ── recall: asking and following ───────────────────────────────────────────────────────────────


def recall(p: Process, call: str) -> Steps:
    """`Recaller._fly`: how it came, and the answer."""
    keep, owner = p.terms.stale, p.fresh()
    outcome = yield from claim(p, call, owner, None, keep)
    return (yield from pursue(p, call, owner, keep, outcome, False))


def claim(p: Process, call: str, owner: str, unusable: list[Any] | None, keep: int) -> Steps:
    """`scripts.claim`: one that is cancelled on its way gives up what it may have been given."""
    t = p.terms
    refused = (unusable[0], unusable[1]) if unusable else ("", "")
    request = p.shard.claim(call, p.who, owner, p.inc, t.lease, t.attempts, t.hold, refused, keep)
    try:
        return (yield request)
    except Cancelled:
        reply = yield request
        if reply[0] == "claimed":
            yield p.shard.release(call, p.who, owner, reply[1])
        raise


def pursue(p: Process, call: str, owner: str, keep: int, outcome: list[Any], background: bool) -> Steps:
    """`Recaller._pursue`: from what claim says to an answer."""
    unusable: list[Any] | None = None
    while True:
        word = outcome[0]
        if word == "answered":
            if (yield from usable(p, outcome[1])):
                return "hit", outcome[1]
            keep, unusable = 0, outcome[1:]
            outcome = yield from claim(p, call, owner, unusable, keep)
            continue
        old = outcome[OLD[word]:]
        serve = bool(old) and p.terms.stale > 0 and not background
        if word == "claimed":
            if serve:
                yield SPAWN, pursue(p, call, owner, p.terms.stale, outcome, True)
                if (yield from usable(p, old[0])):
                    return "stale", old[0]
                return (yield from pursue(p, call, p.fresh(), 0, ["follow", 1, "0", "", ""], True))
            led = yield from lead(p, call, owner, outcome)
            if led is not None:
                return led
            owner, unusable = p.fresh(), None
            outcome = yield from claim(p, call, owner, None, keep)
        elif serve and (yield from usable(p, old[0])):
            return "stale", old[0]
        elif word == "failed":
            return "failed", outcome[1]
        else:
            outcome = yield from follow(p, call, owner, unusable, keep)


OLD = {"claimed": 5, "follow": 5, "backoff": 3, "failed": 4}  # where the words of an old answer begin


def usable(p: Process, answer: str) -> Steps:
    """`Follower.usable`: the world is as it was (now and then it is not), and the object is there."""
    if p.luck.random() < 0.06:
        return False
    return (yield Request("exists", (p.shard.record(answer),), ()))


def follow(p: Process, call: str, owner: str, unusable: list[Any] | None, keep: int) -> Steps:
    """`Follower.follow`: listen first, then ask, then wait; ask again whether woken or not."""
    channel = p.shard.flight(call)[2]
    ear = yield LISTEN, channel
    try:
        while True:
            latest = yield from claim(p, call, owner, unusable, keep)
            if latest[0] not in ("follow", "backoff"):
                return latest
            if latest[0] == "follow" and p.dead_here(latest[3]):
                yield p.shard.release(call, p.who, "", latest[3])
                continue
            if (yield WAIT, min(int(latest[1]) + p.luck.randrange(1, 20), p.terms.poll)):
                yield SLEEP, p.luck.randrange(3)
    finally:
        ear.close()


# ── recall: leading ────────────────────────────────────────────────────────────────────────────


def beats(p: Process, call: str, owner: str, fence: str, led: Led) -> Steps:
    """`Beats`: until the lead is left or lost. It looks, then sends; what happens between is the script's to see."""
    while True:
        yield SLEEP, p.terms.beat
        if led.left:
            return
        if (yield p.shard.beat(call, p.who, owner, fence, p.terms.lease))[0] == "lost":
            led.lost = True
            return


def work_ms(luck: random.Random) -> int:
    """How long the work takes: mostly within a lease, sometimes beyond it, now and then beyond the hold."""
    chance = luck.random()
    return luck.randrange(1, 400) if chance < 0.7 else luck.randrange(400, 1600) if chance < 0.95 else 9000  # hangs


def lead(p: Process, call: str, owner: str, claimed: list[Any]) -> Steps:
    """`Leader.lead`: compute, put, commit. None: it failed and may be tried again."""
    fence, led, shard, t = claimed[1], Led(), p.shard, p.terms
    yield SPAWN, beats(p, call, owner, fence, led)
    try:
        ms = work_ms(p.luck)
        if p.streams and not (yield from _send(p, call, owner, fence, ms)):
            yield shard.fail(call, p.who, owner, fence, "transient", "overtaken", 200)
            return None
        if not p.streams:
            yield SLEEP, ms
        chance = p.luck.random()
        if chance < 0.12:
            kind = "caller" if chance < 0.03 else "permanent" if chance < 0.05 else "transient"
            if kind == "caller":
                yield shard.release(call, p.who, owner, fence)
                return "raised", ""
            reply = yield shard.fail(call, p.who, owner, fence, kind, f'{{"by":"{owner}"}}',
                                     t.negative if kind == "permanent" else p.luck.randrange(1, 300))
            return ("failed", f'{{"by":"{owner}"}}') if kind == "permanent" and reply[0] == "recorded" else None
        answer = p.fresh()
        yield from _put(p, call, answer)
    except Cancelled:
        led.left = True
        yield shard.release(call, p.who, owner, fence)
        raise
    finally:
        led.left = True
    gone = 0
    ms = 5  # own cost, told once: what is committed again was counted where it was paid
    while True:
        reply = yield shard.commit(call, p.who, owner, fence, answer, t.ttl, ms, stale=t.stale)
        if reply[0] == "committed":
            return "computed", answer
        if reply[0] == "absent":
            gone += 1
            if gone > PUT_AGAIN:
                return "raised", ""
            yield from _put(p, call, answer)
            continue
        owner, ms = p.fresh(), 0
        again = yield from claim(p, call, owner, None, 0)
        if again[0] == "answered":
            return "won", again[1]
        if again[0] != "claimed":
            return "own", answer
        fence = again[1]


def _put(p: Process, call: str, answer: str) -> Steps:
    t = p.terms
    ttl = t.ttl + t.stale + OUTLIVES_MS if t.ttl else 0
    yield p.shard.put(answer, p.who, p.fresh(), "b" * 8, ttl, call=call)


# ── streams ────────────────────────────────────────────────────────────────────────────────────


def _send(p: Process, call: str, owner: str, fence: str, ms: int) -> Steps:
    """`chunks.Sender`: head, pieces, end, each repeated until the server has it. False: somebody newer leads."""
    count = p.luck.randrange(1, 5)
    entries = [("head", fence), *(("data", f"{fence}/{n}") for n in range(count)), ("end", "")]
    seq = 1
    while seq <= len(entries):
        yield SLEEP, ms / len(entries)
        reply = yield p.shard.chunk(call, p.who, owner, fence, seq, *entries[seq - 1], 1000, True)
        if reply[0] == "written":
            seq += 1
        elif reply[0] == "gap":
            seq = reply[1] + 1
        elif reply[0] == "lost":
            return False
        else:
            yield SLEEP, ms * (len(entries) - seq) / len(entries)
            return True  # cut short: who follows is given the object
    return True


def tail(p: Process, call: str, wanted: Callable[[], bool], read: Callable[[str, list[str]], None]) -> Steps:
    """`Feed._follow` over `chunks.read`: the page first, the head behind it; a head that is still ours proves the page."""
    f = p.shard.flight(call)
    fence, cursor, pieces = 0, 0, list[str]()
    ear = yield LISTEN, f[2]
    try:
        while wanted():
            page = yield Request("entries", (f[3],), (str(cursor), "1000000"))
            if fence:
                first = yield Request("entries", (f[3],), ("0", "1"))
            else:
                first = page[:1]
            head = int(first[0][2]) if first and first[0][1] == "head" else None
            if head is None or (fence and head != fence):
                again, fence, cursor, pieces = bool(fence), 0, 0, []
                if again:
                    continue
            elif page:
                fence, cursor = head, page[-1][0]
                pieces += [data for _, kind, data in page if kind == "data"]
                read(str(fence), pieces)
            yield WAIT, p.terms.poll
    finally:
        ear.close()
