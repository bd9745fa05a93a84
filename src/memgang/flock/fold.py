"""The fold: what a run had come to after some of its records. `web/fold.js` is the same in JavaScript, line for line.

Totals, counts and what is known of objects are the same in whatever order records come (a batch may be written 100 ms
after its lines happened). What an agent does now is told by the latest line; a line that comes late does not turn it back.
Each record is to be given once: who reads a stream anew drops the ids it has had.

Money, tokens and calls are what `savings.Ledger` says of the same events; a test holds the two, and the two languages, together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from memgang.flock.records import RINGS

CAUSES = ("hit", "joined", "read", "reference", "prefix")
FIGURES = ("calls", "llm_calls", "tokens_in", "tokens_out", "tokens_cached", "micro_usd", "ms", "bytes", "estimated")
COUNTS = ("events", "reads", "hits", "joined", "writes", "known_writes", "bytes_read", "bytes_written", "bytes_known", "waits",
          "wait_us", "takeovers", "died", "failed", "refused", "expired", "damaged")
_REUSES = frozenset({"hit", "joined"})
_ENDS = {"committed": "physical", "ended": "physical", "failed": "lost", "released": "lost", "fenced": "lost"}


@dataclass(slots=True)
class Sum:
    """Usage added up; see `FIGURES`."""

    figures: list[int] = field(default_factory=lambda: [0] * len(FIGURES))

    def add(self, usage: list[int]) -> None:
        """Add one usage, as a record has it."""
        for place, number in enumerate(usage):
            self.figures[place] += number

    def told(self) -> dict[str, Any]:
        """By name."""
        return dict(zip(FIGURES, self.figures, strict=True)) | {"estimated": self.figures[-1] > 0}


@dataclass(slots=True)
class Agent:
    """One agent: what it does now, and what it has done. Times are ms since the run began."""

    name: str
    first: int
    role: str = ""
    state: str = "idle"  # idle think work read write wait reuse error gone
    obj: str = ""  # where it is at
    call: str = ""  # what it computes, or waits for
    by: str = ""  # whom it waits for, or whose work it reuses
    since: int = 0
    at: int = -1  # the latest line of it
    thinking: dict[str, int] = field(default_factory=dict)  # calls of the model under way -> since
    reads: int = 0
    writes: int = 0
    reuses: int = 0
    asked: int = 0  # calls of a language model made, failed ones too
    waits: int = 0
    wait_ms: float = 0
    errors: int = 0
    spent: Sum = field(default_factory=Sum)  # physical and lost
    saved: Sum = field(default_factory=Sum)


@dataclass(slots=True)
class Light:
    """One memory object."""

    id: str
    ring: str
    kind: str = ""
    pos: float | None = None
    by: str = ""  # who wrote it first; "" where it was written before the run
    born: int = 0
    written: bool = False
    bytes: int = 0
    tok: int = 0
    reads: int = 0
    reuses: int = 0
    saved: Sum = field(default_factory=Sum)
    src: list[str] = field(default_factory=list)
    gone: str = ""  # forgotten, evicted, expired


@dataclass(slots=True)
class Flight:
    """A call under way: who computes it, and who waits for that."""

    call: str
    fn: str
    kind: str
    agent: str
    since: int
    waiting: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Role:
    """How far one role is, in calls of its function."""

    planned: int = 0
    done: int = 0
    reused: int = 0
    failed: int = 0


class Fold:
    """The state of a run. `apply` each record once; everything else is for looking."""

    def __init__(self) -> None:
        self.t = 0
        self.title = ""
        self.phases: list[list[Any]] = []  # name, from, to (None: it goes on)
        self.ended: str = ""  # done, failed, stopped; "" while it runs
        self.running = 0  # runs that have begun and not ended: of the log of a whole space there may be several
        self.agents: dict[str, Agent] = {}
        self.lights: dict[str, Light] = {}
        self.flights: dict[str, Flight] = {}
        self.roles: dict[str, Role] = {}
        self.physical, self.lost = Sum(), Sum()
        self.avoided = {cause: Sum() for cause in CAUSES}
        self.counts = dict.fromkeys(COUNTS, 0)
        self.overhead_us = 0

    def apply(self, rec: dict[str, Any]) -> None:
        """Take one record."""
        t: int = rec["t"]
        self.t = max(self.t, t)
        raw: str = rec.get("raw") or rec["op"]
        self._count(rec, raw)
        self._book(rec, raw)
        match rec["op"]:
            case "run_start":
                self.title, self.ended = rec.get("text", ""), ""
                self.running += 1
            case "run_end":
                self._end(rec)
            case "phase":
                self._phase(rec.get("text", ""), t)
            case "planned":
                self._role(rec).planned += _whole(rec.get("text", ""))
            case op:
                self._agents_and_lights(op, raw, rec, t)

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    def _agents_and_lights(self, op: str, raw: str, rec: dict[str, Any], t: int) -> None:
        light = self._light(rec, t) if rec.get("obj") and op not in ("name", "done", "think_end") else None
        if op in ("evict", "expire"):  # by the janitor, or whoever made room: nothing an agent of the run does
            if light is not None:
                light.gone = raw
            return
        if not rec.get("agent") or op in ("name", "agg", "other"):
            return
        agent = self._agent(rec, t)
        call: str = rec.get("call", "")
        match op:
            case "join":
                self._now(agent, "idle", t)
            case "leave":
                self._now(agent, "gone", t)
            case "read":
                agent.reads += 1
                if light is not None:
                    light.reads += 1
                self._now(agent, "read", t, rec)
            case "think_start":
                self._begin(rec, call, t, raw)
                if not agent.thinking:
                    agent.since = t
                agent.thinking[call] = t
                self._now(agent, "think", t, rec)
            case "lease":
                self._begin(rec, call, t, raw)
                self._now(agent, "work", t, rec)
            case "think_end":
                self.flights.pop(call, None)
                agent.thinking.pop(call, None)
                agent.asked += 1
                agent.errors += raw == "failed"
                self._now(agent, "error" if raw == "failed" else "idle", t)
            case "done":
                self.flights.pop(call, None)
                if rec.get("ck") == "function" and raw == "committed":
                    self._role(rec).done += 1
                self._now(agent, "idle", t)
            case "wait":
                agent.waits += 1
                if (flight := self.flights.get(call)) is not None and agent.name not in flight.waiting:
                    flight.waiting.append(agent.name)
                self._now(agent, "wait", t, rec)
            case "hit":
                self._reuse(agent, light, raw, rec, t)
            case "write":
                agent.writes += 1
                if light is not None:
                    self._written(light, agent, rec, t)
                self._now(agent, "write", t, rec)
            case "error" if raw in ("died", "exhausted") and call in self.flights:
                self._leader_gone(call, t)  # told by somebody else: whoever was at it is gone
                self.flights.pop(call, None)
            case "error":
                self.flights.pop(call, None)
                agent.errors += 1
                if raw == "failed" and rec.get("ck") == "function":
                    self._role(rec).failed += 1
                self._now(agent, "error", t, rec)

    def _reuse(self, agent: Agent, light: Light | None, raw: str, rec: dict[str, Any], t: int) -> None:
        call = rec.get("call", "")
        flight = self.flights.get(call)
        if flight is not None and agent.name in flight.waiting:
            flight.waiting.remove(agent.name)
        if raw not in _REUSES:  # a reference that was never opened: bytes that did not travel, and no call
            return
        agent.reuses += 1
        if raw == "joined":
            agent.wait_ms += rec.get("ms", 0)
        agent.saved.add(rec.get("saved", []))
        if light is not None:
            light.reuses += 1
            light.saved.add(rec.get("saved", []))
        if rec.get("ck") == "function":
            role = self._role(rec)
            role.done += 1
            role.reused += 1
        self._now(agent, "reuse", t, rec)

    def _written(self, light: Light, agent: Agent, rec: dict[str, Any], t: int) -> None:
        if not light.written or t < light.born:  # who writes it again may have made it from something else
            light.by, light.born, light.src = agent.name, t, rec.get("src", light.src)
        light.written, light.gone = True, ""
        light.ring, light.kind = rec.get("ring", light.ring), rec.get("kind", light.kind)
        light.bytes, light.tok = rec.get("bytes", light.bytes), rec.get("tok", light.tok)
        if "pos" in rec:
            light.pos = rec["pos"]
        elif light.pos is None:  # it is where that is what it was made from
            there = [p.pos for p in (self.lights.get(parent) for parent in light.src) if p is not None and p.pos is not None]
            light.pos = _rounded(sum(there) / len(there), 1e6) if there else None

    def _phase(self, name: str, t: int) -> None:
        if self.phases and self.phases[-1][2] is None:
            self.phases[-1][2] = t
        self.phases.append([name, t, None])

    def _end(self, rec: dict[str, Any]) -> None:
        self.running = max(0, self.running - 1)
        if self.running:
            return
        self.ended = rec.get("text", "") or "done"
        if self.phases and self.phases[-1][2] is None:
            self.phases[-1][2] = rec["t"]
        self.flights.clear()
        for agent in self.agents.values():
            agent.thinking.clear()
            if agent.state != "gone":
                agent.state, agent.obj, agent.call, agent.by = "idle", "", "", ""

    # ── what there is ─────────────────────────────────────────────────────────────────────────

    def _agent(self, rec: dict[str, Any], t: int) -> Agent:
        name: str = rec["agent"]
        if (agent := self.agents.get(name)) is None:
            agent = self.agents[name] = Agent(name, t)
        agent.role = rec.get("role", agent.role)
        return agent

    def _light(self, rec: dict[str, Any], t: int) -> Light:
        ident: str = rec["obj"]
        if (light := self.lights.get(ident)) is None:
            light = self.lights[ident] = Light(ident, rec.get("ring", "map"), born=t)
        return light

    def _role(self, rec: dict[str, Any]) -> Role:
        return self.roles.setdefault(rec.get("role", ""), Role())

    def _begin(self, rec: dict[str, Any], call: str, t: int, raw: str) -> None:
        waiting = self.flights[call].waiting if call in self.flights else []
        if raw == "taken":
            self._leader_gone(call, t)
        self.flights[call] = Flight(call, rec.get("fn", ""), rec.get("ck", ""), rec["agent"], t, waiting)

    def _leader_gone(self, call: str, t: int) -> None:
        """Whoever led this call has died, or is overtaken: it is not at it any more."""
        flight = self.flights.get(call)
        if flight is None or (leader := self.agents.get(flight.agent)) is None:
            return
        leader.thinking.pop(call, None)
        leader.errors += 1
        if leader.call == call:
            self._now(leader, "error", t)

    def _now(self, agent: Agent, state: str, t: int, rec: dict[str, Any] | None = None) -> None:
        if t < agent.at or self.ended:  # a line that comes late
            return
        agent.at = t
        if state == "idle" and agent.thinking:
            state = "think"
        if state != agent.state:
            agent.state, agent.since = state, t
        agent.by = rec.get("by", "") if rec is not None else ""
        if rec is not None:
            agent.obj = rec.get("obj", agent.obj)
            agent.call = rec.get("call", agent.call)

    # ── what it cost ──────────────────────────────────────────────────────────────────────────

    def _book(self, rec: dict[str, Any], raw: str) -> None:
        if (own := rec.get("own")) and raw in _ENDS:
            (self.physical if _ENDS[raw] == "physical" else self.lost).add(own)
            if rec.get("agent"):
                self._agent(rec, rec["t"]).spent.add(own)
        if saved := rec.get("saved"):
            why = rec.get("why", "")
            self.avoided[why if why in CAUSES else "joined" if raw == "joined" else "hit"].add(saved)

    def _count(self, rec: dict[str, Any], raw: str) -> None:
        counts, size = self.counts, rec.get("bytes", 0)
        counts["events"] += 1
        match raw:
            case "read":
                counts["reads"] += 1
                counts["bytes_read"] += size
            case "hit":
                counts["hits"] += 1
            case "joined":
                counts["joined"] += 1
                counts["wait_us"] += int(_rounded(rec.get("ms", 0) * 1000, 1))
            case "put":
                counts["writes"] += 1
                counts["known_writes"] += rec.get("known", 0)
                counts["bytes_known" if rec.get("known") else "bytes_written"] += size
            case "waits":
                counts["waits"] += 1
            case "taken":
                counts["takeovers"] += 1
            case "died" | "failed" | "refused" | "expired" | "damaged":
                counts[raw] += 1
            case "overhead":
                self.overhead_us += rec.get("us", 0)

    # ── telling ───────────────────────────────────────────────────────────────────────────────

    def totals(self) -> dict[str, Any]:
        """What was spent, avoided and lost, in the form of ``memgang stats --run RUN --json``."""
        whole = Sum()
        for cause in CAUSES:
            whole.add(self.avoided[cause].figures)
        virtual = Sum()
        virtual.add(self.physical.figures)
        virtual.add(whole.figures)
        return {
            "virtual": virtual.told(), "physical": self.physical.told(), "avoided": whole.told(), "lost": self.lost.told(),
            "avoided_by_cause": {cause: self.avoided[cause].told() for cause in CAUSES}, "counts": dict(self.counts),
            "overhead_us": self.overhead_us,
        }

    def told(self) -> dict[str, Any]:
        """Everything, as plain values: what the two languages are compared by."""
        return {
            "t": self.t, "title": self.title, "phases": self.phases, "ended": self.ended, "totals": self.totals(),
            "agents": {a.name: {
                "role": a.role, "state": a.state, "obj": a.obj, "call": a.call, "by": a.by, "since": a.since, "first": a.first,
                "thinking": dict(a.thinking), "reads": a.reads, "writes": a.writes, "reuses": a.reuses, "asked": a.asked,
                "waits": a.waits, "wait_ms": _rounded(a.wait_ms, 1e3), "errors": a.errors, "spent": a.spent.told(), "saved": a.saved.told(),
            } for a in self.agents.values()},
            "lights": {o.id: {
                "ring": o.ring, "kind": o.kind, "pos": o.pos, "by": o.by, "born": o.born, "written": o.written, "bytes": o.bytes,
                "tok": o.tok, "reads": o.reads, "reuses": o.reuses, "saved": o.saved.told(), "src": o.src, "gone": o.gone,
            } for o in self.lights.values()},
            "flights": {f.call: {"fn": f.fn, "kind": f.kind, "agent": f.agent, "since": f.since, "waiting": f.waiting}
                        for f in self.flights.values()},
            "roles": {name: {"planned": r.planned, "done": r.done, "reused": r.reused, "failed": r.failed}
                      for name, r in self.roles.items()},
            "rings": {ring: sum(1 for o in self.lights.values() if o.ring == ring and o.written) for ring in RINGS},
        }


def _rounded(number: float, parts: float) -> float:
    """Halves up, as JavaScript does; Python's own `round` goes to the even one."""
    return math.floor(number * parts + 0.5) / parts


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else 0
