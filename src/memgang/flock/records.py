"""Records: the events of a run as pictures need them, compact enough to send 100,000 of them to a browser.

A record is a JSON object; a field that is empty or 0 is left out. Ids of objects, calls and tasks are cut to `ID`
characters, which is what the log keeps of parents too, and what is accepted wherever a person types a reference.

    id     the event's id in the log: who has seen it drops it          t      ms since the run began, at the server
    op     what happened, one of `OPS`                                  raw    the log's own word, where it differs
    agent role task                                                     obj    object it was done to
    ring   where such an object stands in the dial, one of `RINGS`      pos    place in the document, 0..1
    kind   the object's kind as its writer called it                    tok bytes
    ms     how long it took, for `hit` the wait that it ended           src    what it was made from, at most 64
    call fn ck   the call: its key, function, and kind of call          by     whose work was reused, who is waited for
    why    of a hit: hit joined read reference prefix; else the reason  model
    own saved   usage: calls, llm calls, tokens in, out, of in cached, micro-dollars, ms, bytes, 1 if estimated;
           zeros at the end are left out
    known  1: the object was there already                              text   name of a phase, number planned, title
    us     MemGang's own time, microseconds

Content never gets here, but titles, names of agents and errors do: they are untrusted text, to be escaped before they are shown.
"""

from __future__ import annotations

from typing import Any

import msgspec

from memgang.model import NO_USAGE, Event, Usage

ID = 10
SOURCES_MAX = 64
TEXT_MAX = 200

FIELDS = frozenset(
    "id t op raw agent role task obj ring pos kind tok bytes ms src call fn ck by why model own saved known text us".split())

# From the rim to the centre: how far from the answer a memory object is.
RINGS = ("src", "map", "fact", "part", "red", "ans")
_RING_OF = {
    "part": "src", "document": "src", "page": "src", "chunk": "src", "source": "src", "fetched": "src", "file": "src",
    "fact": "fact", "note": "fact", "memory": "fact",
    "partition": "part", "parents": "part", "shard": "part",
    "summary": "red", "report": "ans", "run": "",
}
OPS = ("run_start", "phase", "planned", "join", "leave", "read", "think_start", "think_end", "lease", "done", "wait", "hit",
       "write", "name", "evict", "expire", "error", "agg", "run_end", "other")
# By the log's own word, where the wider class says too little: to pin an object is not to write it.
_BY_WORD = {"named": "name", "pinned": "other", "unpinned": "other"}
_BY_CLASS = {"committed": "done", "released": "done", "fenced": "done"}


def record(event: Event, began: int) -> dict[str, Any]:
    """One event as a record. ``began``: the run's start, ms of the server's clock."""
    op = _BY_WORD.get(event.raw) or _BY_CLASS.get(event.op, event.op)
    op = op if op in OPS else "other"
    stands = ring(event.kind, event.role) if event.kind else ""
    seen = stands or not event.kind  # a run's own record is no memory of the gang's
    fields: dict[str, Any] = {
        "id": event.id, "t": event.at - began, "op": op, "raw": event.raw if event.raw != op else "",
        "agent": event.agent, "role": event.role, "task": event.task[:ID], "obj": event.obj[:ID] if seen else "",
        "ring": stands, "pos": event.pos, "kind": event.kind, "tok": event.tok,
        "bytes": event.bytes, "ms": round(event.dur_ms, 3), "src": [parent[:ID] for parent in event.src[:SOURCES_MAX]],
        "call": event.call[:ID], "fn": event.fn, "ck": event.call_kind, "by": event.by, "why": event.why[:TEXT_MAX],
        "model": event.model, "own": usage(event.own), "saved": usage(event.saved), "known": int(event.known),
        "text": event.text[:TEXT_MAX], "us": event.overhead_us,
    }
    return {name: value for name, value in fields.items() if value or (name == "t" or (name == "pos" and value is not None))}


def ring(kind: str, role: str) -> str:
    """Where an object of this kind stands; "" is nowhere. What a model said is a result of the map, but for the last answers."""
    if kind == "answer":
        return "red" if role in ("answer", "overview", "volume", "section", "reduce", "verify") else "map"
    return _RING_OF.get(kind, "map")


def usage(figures: Usage) -> list[int]:
    """A usage as a list, without the zeros at its end."""
    if figures is NO_USAGE:
        return []
    numbers = [int(number) for number in msgspec.structs.astuple(figures)]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers
