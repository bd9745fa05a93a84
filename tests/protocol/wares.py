"""Objects and names in the simulation: clients that use them at random, and the judge of what the server made of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.protocol.calls import Request
from tests.protocol.checks import require
from tests.protocol.client import SLEEP, Process, Steps
from tests.protocol.keyspace import State

IDENTS = ("aa", "bb", "cc")
BODIES = {"aa": "x" * 10, "bb": "y" * 30, "cc": "z" * 50}
LIMIT = 85  # not all three fit
SHARE = 60  # of one agent: not the two largest


def user(p: Process, turns: int) -> Steps:
    """Puts, reads, pins, names and forgets."""
    luck, shard = p.luck, p.shard
    batch, versions = 0, dict[str, str]()
    for _ in range(turns):
        yield SLEEP, luck.choice((1, 5, 100, 700))
        chance, ident = luck.random(), luck.choice(IDENTS)
        if chance < 0.3:
            body = BODIES[ident] + ("!" if luck.random() < 0.05 else "")
            yield shard.put(ident, p.who, p.fresh(), body, luck.choice((0, 300, 2000)), limit=LIMIT, guard=luck.choice((0, 200)),
                            keep=luck.random() < 0.2, share=SHARE)
        elif chance < 0.37:
            some = [(one, BODIES[one]) for one in luck.sample(IDENTS, 2)]
            yield shard.put_many(some, p.who, p.fresh(), luck.choice((0, 300, 2000)), limit=LIMIT, guard=luck.choice((0, 200)),
                                 keep=luck.random() < 0.2, share=SHARE)
        elif chance < 0.5:
            yield shard.get(*luck.sample(IDENTS, luck.choice((1, 2))))
        elif chance < 0.6:
            yield shard.forget([ident], p.who, "", p.fresh())
        elif chance < 0.68:
            yield shard.pin(ident, p.who, "@" + p.who, luck.choice((0, 300, 3000)))
        elif chance < 0.8:
            batch += 1
            yield shard.touch(p.inc, batch, [(ident, 1)])
        else:
            reply = yield shard.name("n", p.who, p.fresh(), luck.choice((ident, ident, "")), luck.choice(("*", versions.get("n", "0"))))
            versions["n"] = reply[1] if reply[0] == "named" else reply[2]
    return "done", ""


def janitor(p: Process, turns: int) -> Steps:
    """Sweeps, and evicts."""
    for _ in range(turns):
        yield SLEEP, p.luck.choice((50, 400))
        if p.luck.random() < 0.6:
            yield p.shard.sweep(IDENTS)
        else:
            yield p.shard.evict(p.luck.sample(IDENTS, 3), p.luck.choice((1, 60)), of=p.luck.choice(("", "u/p0", "u/p1")))
    return "done", ""


class Ware:
    """The history of one object."""

    __slots__ = ("body", "ends", "guarded", "keep", "op", "pins", "steps", "ttl", "who")

    def __init__(self, body: str, who: str) -> None:
        self.body = body
        self.who = who  # who wrote it first
        self.op = ""
        self.ends: float | None = None  # in true time; None: never
        self.ttl = 0
        self.keep = False
        self.pins: dict[str, int] = {}
        self.guarded = 0
        self.steps = 0  # of the clock, when it was put


class Warden:
    """Judges every call of a script on objects and names."""

    def __init__(self) -> None:
        self.wares: dict[str, Ware] = {}
        self.seen: Counter[str] = Counter()
        self.entries: Counter[str] = Counter()
        self.batches: dict[str, int] = {}  # inc -> the newest
        self.hits = 0
        self.named: list[tuple[str, str, str]] = []  # op, version, id
        self.steps = 0
        self.calls: dict[str, Any] = {}

    def lost_data(self) -> None:
        """The server came back empty."""
        self.wares.clear()
        self.entries.clear()
        self.batches.clear()
        self.hits = 0
        self.named.clear()

    def stepped(self, by_ms: int, now_ms: int) -> None:
        """The server's clock was moved."""
        self.steps += 1

    def judge(self, r: Request, reply: list[Any], state: State, existed: bool, true_ms: float, now_ms: int) -> None:
        """One call of a script."""
        word = reply[0]
        self.seen[f"{r.script} {word}"] += 1
        ident = r.keys[2].rpartition(":")[2]
        getattr(self, r.script)(r, reply, word, ident, self.wares.get(ident), state, true_ms, now_ms)
        self.totals(state, r)

    def totals(self, state: State, r: Request) -> None:
        u = state.db.get(r.keys[0], {})
        used = sum(len(w.body) for w in self.wares.values())
        require(int(u.get("bytes", 0)) == used and int(u.get("count", 0)) == len(self.wares), "I11",
                f"totals {u.get('bytes')} of {u.get('count')}, there are {used} of {len(self.wares)}")
        require(used <= LIMIT, "I11", f"{used} bytes where {LIMIT} are allowed")
        owned = Counter[str]()
        for ware in self.wares.values():
            owned[ware.who] += len(ware.body)
        told = {field[2:]: int(value) for field, value in u.items() if field.startswith("b:")}
        require(told == owned, "I11", f"by agent the totals say {told}, there are {dict(owned)}")
        require(all(mine <= SHARE for mine in owned.values()), "I11", f"{dict(owned)} bytes where each may have {SHARE}")

    def put(
        self, r: Request, reply: list[Any], word: str, ident: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        body, ttl = r.args[6], int(r.args[7])
        if word == "conflict":
            require(ware is not None and len(ware.body) != len(body), "I9", "a conflict with itself")
            return
        if word == "full":
            mine = [w for w in self.wares.values() if len(reply) == 3 or w.who == reply[3]]
            require(ware is None and sum(len(w.body) for w in mine) + len(body) > reply[2] == (LIMIT if len(reply) == 3 else SHARE), "full",
                    "there was room")
            return
        require(ware is None or len(ware.body) == len(body), "I9",
                f"{ident} was {len(ware.body if ware else '')} bytes and is put with {len(body)}")
        if ware is not None and ware.op == r.args[2]:
            require(reply[1] == "replay", "repeat", f"put of {ident} was done twice")
            return
        require(reply[1] == ("known" if ware else "new"), "put", f"{reply} where it was {'known' if ware else 'new'}")
        ends = true_ms + ttl if ttl else None
        if ware is None:
            ware = self.wares[ident] = Ware(body, r.args[0])
            ware.ends, ware.ttl, ware.steps = ends, ttl, self.steps
        elif ware.ends is None or ends is None:
            ware.ends = None
        else:
            ware.ends, ware.ttl = max(ware.ends, ends), max(ttl, ware.ttl)
        ware.op = r.args[2]
        ware.keep = ware.keep or r.args[11] == "1"
        ware.guarded = now_ms + int(r.args[10])
        self.entries["put"] += 1

    def put_many(
        self, r: Request, reply: list[Any], word: str, _: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        op, ttl, who = r.args[2], int(r.args[3]), r.args[0]
        room = min(LIMIT - sum(len(w.body) for w in self.wares.values()),
                   SHARE - sum(len(w.body) for w in self.wares.values() if w.who == who))
        for n, said in enumerate(reply[2:]):
            ident, body = r.keys[5 + 2 * n].rpartition(":")[2], r.args[11 + 4 * n]
            ware = self.wares.get(ident)
            if said == "left":
                require(ware is not None or len(body) > room, "full", f"{ident} is left, there was room")
            elif said == "replay":
                require(ware is not None and ware.op == op, "repeat", f"{ident} was put by another")
            else:
                require(ware is None, "put", f"{ident} is new where it was there")
                require(len(body) <= room, "full", f"{ident} has no room")
                ware = self.wares[ident] = Ware(body, who)
                ware.ends, ware.ttl, ware.steps = true_ms + ttl if ttl else None, ttl, self.steps
                ware.op, ware.keep, ware.guarded = op, r.args[7] == "1", now_ms + int(r.args[6])
                room -= len(body)
                self.entries["put"] += 1

    def get(
        self, r: Request, reply: list[Any], _: str, first: str, __: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        for n, found in enumerate(reply[1:]):
            ident = r.keys[2 + 2 * n].rpartition(":")[2]
            self.got(ident, self.wares.get(ident), found, true_ms, now_ms)

    def got(self, ident: str, ware: Ware | None, reply: list[Any], true_ms: float, now_ms: int) -> None:
        word = reply[0]
        if word == "here":
            require(ware is not None and reply[6] == ware.body, "I12", f"read {ident}, which is {'other' if ware else 'not there'}")
            if ware is not None and ware.steps == self.steps:
                require(ware.ends is None or true_ms <= ware.ends + 1, "I12", f"{ident} read after its end")
            if ware is not None and ware.ends is not None:
                require(reply[3] <= now_ms + ware.ttl, "I12", f"{ident} is said to live for {reply[3] - now_ms} ms, its ttl is {ware.ttl}")
        elif word == "expired":
            require(ware is not None and ware.ends is not None, "get", f"{ident} never ends")
            if ware is not None and ware.ends is not None and ware.steps == self.steps:
                require(true_ms >= ware.ends - 1, "get", f"{ident} has not ended")
        else:
            require(word == "absent" and ware is None, "I12", f"{ident} is {word}")

    def forget(
        self, r: Request, reply: list[Any], word: str, _: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        ident = r.keys[5].rpartition(":")[2]
        gone = self.wares.pop(ident, None)
        require(not gone or reply[1] == len(gone.body), "forget", f"{reply} for {len(gone.body if gone else '')} bytes")
        require(not any(key in state.db for key in r.keys[5:8]), "I12", f"{ident} was forgotten and is there")
        self.entries["forgotten"] += gone is not None

    def pin(
        self, r: Request, reply: list[Any], word: str, ident: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        require((word == "absent") == (ware is None), "pin", f"{word} where it is {'there' if ware else 'not'}")
        if ware is not None:
            ware.pins.pop(r.args[2], None)
            if word == "pinned":
                ware.pins[r.args[2]] = reply[1]

    def sweep(
        self, r: Request, reply: list[Any], word: str, _: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        for ident in [i for i in self.wares if f"{r.keys[5].rpartition(':')[0]}:{i}" not in state.db]:
            gone = self.wares.pop(ident)
            require(gone.ends is not None, "sweep", f"{ident} never ends and was swept")
            if gone.ends is not None and gone.steps == self.steps:
                require(true_ms >= gone.ends - 1, "sweep", f"{ident} was swept {gone.ends - true_ms:.0f} ms before its end")
            self.entries["expired"] += 1

    def evict(
        self, r: Request, reply: list[Any], word: str, _: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        for ident in reply[3:]:
            gone = self.wares.pop(ident)
            require(not gone.keep, "evict", f"{ident} is kept and was evicted")
            require(r.args[3] in ("", gone.who), "evict", f"{ident} is of {gone.who} and was evicted for {r.args[3]}")
            require(all(deadline <= now_ms for deadline in gone.pins.values()), "I12", f"{ident} is pinned and was evicted")
            require(gone.guarded <= now_ms or gone.steps != self.steps, "evict", f"{ident} is guarded and was evicted")
            self.entries["evicted"] += 1

    def touch(
        self, r: Request, reply: list[Any], word: str, _: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        inc, batch = r.args[2], int(r.args[3])
        require((word == "replay") == (batch <= self.batches.get(inc, 0)), "repeat", f"batch {batch} of {inc} is {word}")
        if word == "touched":
            self.batches[inc] = batch
            self.hits += 1
        require(int(state.db.get(r.keys[0], {}).get("hits", 0)) == self.hits, "repeat", "hits are counted twice")

    def name(
        self, r: Request, reply: list[Any], word: str, _: str, ware: Ware | None, state: State, true_ms: float, now_ms: int
    ) -> None:
        op, ident, expect = r.args[2:5]
        known = next((version for o, version, _ in self.named[-16:] if o == op), None)
        if known is not None:
            require(word == "named" and reply[1] == known, "repeat", f"op {op} wrote {known} and is told {reply}")
            return
        at, now = (self.named[-1][1], self.named[-1][2]) if self.named else ("0", "")
        seen = at if now else "0"
        if word == "named":
            require(expect in ("*", seen), "CAS", f"written at {seen}, expected was {expect}")
            require(int(reply[1]) > int(at), "CAS", f"version {reply[1]} after {at}")
            self.named.append((op, reply[1], ident))
            self.entries["named"] += 1
        else:
            require(expect not in ("*", seen) and reply[1:] == [now, seen], "CAS", f"{reply} at {seen}, expected was {expect}")

    def finish(self, state: State, totals: str, log: str) -> None:
        """At the end: the log has every change once and no gap."""
        told = state.db.get(log, [])
        require([int(entry[:-2]) for entry, _ in told] == list(range(1, len(told) + 1)), "I10", "the log has gaps")
        counted = Counter(f[1] for _, f in told)
        for event in ("put", "forgotten", "expired", "evicted", "named"):
            require(counted[event] == self.entries[event], "I10", f"{event}: {counted[event]} in the log, there were {self.entries[event]}")
