"""The checker: were I1-I12 kept, by what all workers say they saw and what the space's log says was done?

It knows nothing of how MemGang works inside. Its facts are the workers' lines (`worker.py`) and the raw
entries of the log as a witness read them (`witness.py`). I8 (streams) has its own tests; all else is here.
``test_history.py`` plants a breach of each and sees it found.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memgang.codec import encode, ref_of
from memgang.store.host.tier import FRESH_S

# The server stamps with its cached clock, the workers with their own: of one host, a few ms apart.
SLACK_S = 0.05
# How long before the death of a server without persistence what it did may have escaped the witness.
UNSEEN_S = 1.0


@dataclass(frozen=True, slots=True)
class Breach:
    """One promise that was not kept."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass(slots=True)
class Op:
    """One operation of a worker. ``t1`` is None when it never returned."""

    n: str
    op: str
    worker: str
    pid: int
    t0: float
    t1: float | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.t1 is not None and "error" not in self.told


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log of changes."""

    seq: int
    e: str
    at: float  # seconds of the server's clock
    id: str
    x: str = ""
    who: str = ""


@dataclass(slots=True)
class Life:
    """The log of one life of the data: it ends when the server comes back empty. ``ended`` is monotonic, None: it lives."""

    entries: list[Entry] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    ended: float | None = None


@dataclass(slots=True)
class Facts:
    """All that is known of one run."""

    ops: list[Op] = field(default_factory=list)
    begins: list[dict[str, Any]] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)  # what the witness had seen and was gone later, in one life
    sizes: dict[str, int] | None = None  # at the end, when all is quiet
    totals: dict[str, int] | None = None
    owners: dict[str, str] = field(default_factory=dict)  # who wrote each of them first
    dead: set[int] = field(default_factory=set)  # pids that were killed: what they did not return is no hang
    hosts: dict[str, str] = field(default_factory=dict)  # of each worker; unknown: all of one
    stood: list[tuple[int, float, float]] = field(default_factory=list)  # pid, from, to: SIGSTOP
    wall: float = 0.0  # wall clock - monotonic clock, of this host
    lease_s: float = 0.3
    bound_s: float = 30.0  # every call ends within this, stops not counted


def load(paths: Iterable[Path], facts: Facts) -> None:
    """Read the workers' files into the facts. A torn last line of a killed worker is left out."""
    open_ops: dict[str, Op] = {}
    begun: dict[str, dict[str, Any]] = {}
    for path in paths:
        for line in path.read_bytes().split(b"\n"):
            try:
                told = json.loads(line)
            except ValueError:
                continue
            match told["e"]:
                case "invoke":
                    op = Op(told["n"], told["op"], told["w"], told["pid"], told["t"], asked=told)
                    open_ops[told["n"]] = op
                    facts.ops.append(op)
                case "return":
                    op = open_ops[told["n"]]
                    op.t1, op.told = told["t"], told
                case "begin":
                    facts.begins.append(told)
                    begun[told["attempt"]] = told
                case "end":
                    begun[told["attempt"]]["ended"] = told["t"]
    facts.ops.sort(key=lambda o: o.t0)


def check(facts: Facts) -> list[Breach]:
    """All breaches, each with what is needed to look for it."""
    looks = (_flights, _answers, _work, _ends, _integrity, _log, _names, _totals, _gone)
    return [breach for look in looks for breach in look(facts)]


@dataclass(slots=True)
class _Epoch:
    """An answer of a call, from its commit until something replaced it."""

    ref: str
    begun: float
    ended: float = float("inf")


def _epochs(life: Life) -> dict[str, list[_Epoch]]:
    found = defaultdict[str, list[_Epoch]](list)
    for entry in life.entries:
        if entry.e == "committed":
            found[entry.id].append(_Epoch("mg:" + entry.x.split()[0], entry.at))
        elif entry.e in ("claimed", "dropped") and found.get(entry.id):
            found[entry.id][-1].ended = min(found[entry.id][-1].ended, entry.at)
    return found


def _flights(facts: Facts) -> Iterator[Breach]:
    """I1, I3-I6 by the order of the log."""
    highest: dict[str, int] = {}
    for life in facts.lives:
        state: dict[str, str] = {}  # running | open (released or failed: anybody may claim) | done | error
        fence: dict[str, int] = {}
        claimed_at: dict[str, float] = {}
        there: dict[str, bool] = {}
        for entry in life.entries:
            ck, now = entry.id, state.get(entry.id, "")
            match entry.e:
                case "put":
                    there[entry.id] = True
                case "forgotten" | "expired" | "evicted":
                    there[entry.id] = False
                case "claimed" | "taken":
                    new = int(entry.x)
                    if new <= highest.get(ck, 0):
                        yield Breach("I3", f"call {ck}: fence {new} after {highest[ck]} (log {entry.seq})")
                    if entry.e == "claimed" and now in ("running", "open"):
                        yield Breach("I5", f"call {ck}: claimed by {new} while {fence[ck]} was running (log {entry.seq})")
                    if entry.e == "taken" and now == "running" and entry.at - claimed_at[ck] < facts.lease_s - 0.002:
                        yield Breach("I5", f"call {ck}: {new} took over from {fence[ck]} before one lease had passed (log {entry.seq})")
                    highest[ck] = max(new, highest.get(ck, 0))
                    state[ck], fence[ck], claimed_at[ck] = "running", new, entry.at
                case "committed":
                    ref, by = entry.x.split()[:2]
                    if now == "done":
                        yield Breach("I1", f"call {ck}: a second commit, by {by}, in the epoch of {fence.get(ck)} (log {entry.seq})")
                    elif now not in ("running", "open") or int(by) != fence.get(ck):
                        yield Breach("I4", f"call {ck}: commit of {by}, the last claim was {fence.get(ck)}, "
                                           f"state {now or 'none'} (log {entry.seq})")
                    if not there.get(ref):
                        yield Breach("I6", f"call {ck}: answer {ref} was not there when it was committed (log {entry.seq})")
                    state[ck] = "done"
                case "failed":
                    state[ck] = "error" if entry.x == "permanent" else "open"
                case "exhausted":
                    state[ck] = "error"
                case "released" | "died":
                    state[ck] = "open"
                case "dropped":
                    state.pop(ck, None)


def _unseen(facts: Facts, op: Op) -> bool:
    """Whether what this operation did may have been lost, unseen, with a server that keeps nothing."""
    assert op.t1 is not None
    return any(life.ended is not None and op.t0 <= life.ended and op.t1 >= life.ended - UNSEEN_S for life in facts.lives)


def _answers(facts: Facts) -> Iterator[Breach]:
    """I2, and that each value is one computed for what was asked."""
    attempts = {b["attempt"]: b for b in facts.begins}
    epochs = [_epochs(life) for life in facts.lives]
    for op in facts.ops:
        if op.op != "recall" or not op.good or op.told.get("value") is None:
            continue
        value, ref, key, t1 = op.told["value"], op.told["ref"], op.asked["key"], op.t1 or 0.0
        if value.get("key") != key:
            yield Breach("value", f"{op.n} asked {key} and got {value}")
            continue
        attempt = attempts.get(value.get("by", ""))
        if attempt is None or attempt["key"] != key or attempt["t"] > t1:
            yield Breach("value", f"{op.n} got {value}, which nobody computed for {key}")
            continue
        if op.told["degraded"] or attempt["pid"] == op.pid:
            continue  # computed here without a server, or overtaken here and remembered nowhere
        cks = {op.asked["ck"], attempt["ck"]}  # a newcomer's secret may have replaced the old one while this was asked
        found = [e for by_call in epochs for ck in cks for e in by_call.get(ck, ()) if e.ref == ref]
        if not found:
            if not _unseen(facts, op) and not any(
                    life.ended is not None and life.ended - UNSEEN_S <= t1 for life in facts.lives):
                yield Breach("I2", f"{op.n} got {ref} for {key}, which was never committed")
        # A host may say for a second what was so: B12, "answers replaced within 1 s".
        elif not any(e.begun - SLACK_S <= t1 + facts.wall and op.t0 + facts.wall <= e.ended + FRESH_S + SLACK_S for e in found):
            yield Breach("I2", f"{op.n} got {ref} for {key}, whose epoch was over before it asked")


def _work(facts: Facts) -> Iterator[Breach]:
    """I3 again, by the fences the work itself was given: also over restarts that left no log."""
    by_call = defaultdict[str, list[dict[str, Any]]](list)
    for begin in facts.begins:
        if begin["fence"]:
            by_call[begin["ck"]].append(begin)
    for ck, begins in by_call.items():
        fences = [b["fence"] for b in begins]
        if len(set(fences)) != len(fences):
            yield Breach("I3", f"call {ck}: two attempts were given one fence: {sorted(fences)}")


def _ends(facts: Facts) -> Iterator[Breach]:
    """I7: every call ends. The time a process stood still is its own."""
    for op in facts.ops:
        if op.t1 is None:
            if op.pid not in facts.dead:
                yield Breach("I7", f"{op.n} ({op.op} {op.asked.get('key', '')}) never returned")
            continue
        stood = sum(max(0.0, min(op.t1, b) - max(op.t0, a)) for pid, a, b in facts.stood if pid == op.pid)
        if op.t1 - op.t0 - stood > facts.bound_s:
            yield Breach("I7", f"{op.n} ({op.op}) took {op.t1 - op.t0 - stood:.1f} s; the bound is {facts.bound_s:.1f} s")


def _integrity(facts: Facts) -> Iterator[Breach]:
    """I9: what a reference brings hashes to it."""
    for op in facts.ops:
        if op.op == "get" and op.good and op.told["hash"] != op.asked["ref"]:
            yield Breach("I9", f"{op.n}: {op.asked['ref']} brought the bytes of {op.told['hash']}")
        if op.op == "recall" and op.good and op.told.get("value") is not None and ref_of(*encode(op.told["value"])) != op.told["ref"]:
            yield Breach("I9", f"{op.n}: {op.told['ref']} brought {op.told['value']}")


def _log(facts: Facts) -> Iterator[Breach]:
    """I10: no gap, nothing twice, nothing taken back, an entry for everything acknowledged."""
    for lost in facts.rolled_back:
        yield Breach("I10", lost)
    entries = defaultdict[tuple[str, str], list[Entry]](list)
    for number, life in enumerate(facts.lives):
        for what, seqs in (("changes", [e.seq for e in life.entries]), ("reads", life.reads)):
            wrong = [s for i, s in enumerate(seqs, 1) if s != i][:1]
            if wrong:
                yield Breach("I10", f"life {number}: the log of {what} has a gap before {wrong[0]}")
        seen: set[tuple[str, str]] = set()
        for entry in life.entries:
            entries[entry.e, entry.id].append(entry)
            # Written again for a lost reply: a write has one entry, however often its command arrived. (`known` may
            # repeat: a put whose object was written by another in between logs again; readers merge equal ops.)
            mark = entry.x if entry.e in ("named", "claimed", "taken") else entry.x if entry.e == "put" and entry.x.endswith("new") else ""
            if mark and (entry.e, entry.id + mark) in seen:
                yield Breach("I10", f"life {number}: {entry.e} {entry.id} {mark} is in the log twice")
            seen.add((entry.e, entry.id + mark))
    for op in facts.ops:
        if not op.good or (op.t1 is not None and _unseen(facts, op)):
            continue
        ref = str(op.told.get("ref") or "")[3:]
        if op.op in ("put", "name") and ref and not entries["put", ref]:
            yield Breach("I10", f"{op.n}: put of {ref} was acknowledged and is not in the log")
        if op.op == "forget" and op.told["was"] and not entries["forgotten", str(op.asked["ref"])[3:]]:
            yield Breach("I10", f"{op.n}: forget of {op.asked['ref']} was acknowledged and is not in the log")


def _names(facts: Facts) -> Iterator[Breach]:
    """Names: each acknowledged write is there once, on top of what its writer saw; no read goes back behind one."""
    named = {int(e.x.split()[-1]): (e, life) for life in facts.lives for e in life.entries if e.e == "named"}
    before: dict[int, int] = {}
    for life in facts.lives:
        last: dict[str, int] = {}
        for entry in life.entries:
            if entry.e == "named":
                version = int(entry.x.split()[-1])
                before[version], last[entry.id] = last.get(entry.id, 0), version
    writes = [op for op in facts.ops if op.op == "name" and op.good and op.told.get("version")]
    versions = defaultdict[int, list[str]](list)
    for op in writes:
        version = op.told["version"]
        versions[version].append(op.n)
        if version not in named:
            if not _unseen(facts, op):
                yield Breach("I10", f"{op.n}: version {version} of {op.asked['name']} was acknowledged and is not in the log")
        elif before[version] != op.told["saw"]:
            yield Breach("I10", f"{op.n}: wrote {version} over {before[version]}, having seen {op.told['saw']}: an update is lost")
    for version, ops in versions.items():
        if len(ops) > 1:
            yield Breach("I10", f"version {version} was acknowledged to {ops}")
    if len(facts.lives) == 1:
        for look in facts.ops:
            if look.op == "look" and look.good:
                known = max((w.told["version"] for w in writes
                             if w.asked["name"] == look.asked["name"] and (w.t1 or 0) < look.t0), default=0)
                if look.told["version"] < known:
                    yield Breach("I12", f"{look.n}: {look.asked['name']} was at {known} and is seen at {look.told['version']}")


def _totals(facts: Facts) -> Iterator[Breach]:
    """I11: when all is quiet the totals are the sum of what is there."""
    if facts.sizes is not None and facts.totals is not None:
        there = {"bytes": sum(facts.sizes.values()), "count": len(facts.sizes)}
        said = {k: facts.totals.get(k, 0) for k in there}
        if said != there:
            yield Breach("I11", f"the totals say {said}, there are {there}")
        owned: dict[str, int] = defaultdict(int)
        for ident, size in facts.sizes.items():
            if size:
                owned["b:" + facts.owners.get(ident, "")] += size
        told = {k: held for k, held in facts.totals.items() if k.startswith("b:")}
        if told != owned:
            yield Breach("I11", f"by agent the totals say {told}, there are {dict(owned)}")


def _gone(facts: Facts) -> Iterator[Breach]:
    """I12, B12: no read after an acknowledged forget or an expiry, unless it was put again."""
    put_after = defaultdict[str, list[float]](list)
    lifetimes: dict[str, float] = {}
    for op in facts.ops:
        if op.op == "put" and op.good:
            ttl = op.asked.get("ttl")
            lifetimes["mg:" + op.told["ref"][3:]] = (op.t1 or 0.0) + ttl if ttl else float("inf")
    for life in facts.lives:
        for entry in life.entries:
            if entry.e == "put":
                put_after["mg:" + entry.id].append(entry.at)
    forgets = defaultdict[str, list[Op]](list)
    for op in facts.ops:
        if op.op == "forget" and op.good and op.told["was"]:
            forgets[op.asked["ref"]].append(op)
    for op in facts.ops:
        if op.op != "get" or not op.good:
            continue
        ref = op.asked["ref"]
        for gone in forgets[ref]:
            # On its own host it is gone before it is acknowledged, on others a second later: P9.
            late = 0.0 if facts.hosts.get(op.worker) == facts.hosts.get(gone.worker) else FRESH_S + SLACK_S
            if (gone.t1 or 0) + late < op.t0 and not any(at >= gone.t0 + facts.wall - SLACK_S for at in put_after[ref]):
                yield Breach("I12", f"{op.n} read {ref} after {gone.n} had forgotten it")
        if op.t0 > lifetimes.get(ref, float("inf")) + SLACK_S:
            yield Breach("I12", f"{op.n} read {ref} after it had expired")


def takeovers(facts: Facts, kills: dict[int, float], downs: list[tuple[float, float]]) -> list[float]:
    """Seconds from the kill of a leader until the next attempt of its call began, where somebody was waiting for it
    all the while and the server was there."""
    waits = [o for o in facts.ops if o.op == "recall"]
    by_call = defaultdict[str, list[dict[str, Any]]](list)
    for begin in facts.begins:
        by_call[begin["ck"]].append(begin)
    out = []
    for pid, at in kills.items():
        for begin in facts.begins:
            if begin["pid"] != pid or not begin["fence"] or begin["t"] > at or begin.get("ended", at) < at:
                continue
            following = [b for b in by_call[begin["ck"]] if b["fence"] > begin["fence"]]
            if not following:
                continue
            after = min(following, key=lambda b: b["fence"])
            if after["t"] < at or any(a < after["t"] and b > at for a, b in downs):
                continue
            if any(o.asked["ck"] == begin["ck"] and o.t0 < at and (o.t1 is None or o.t1 > after["t"])
                   and o.pid not in kills for o in waits):
                out.append(after["t"] - at)
    return out
