"""From the log of a space to what a memory of another size would have been asked for.

What counts as a request, and what does not:

- A **commit** of a call that had no answer is computed under every policy: a miss, and a put. So is one that was computed
  anew while its answer was there (a refresh, a changed file).
- A commit of a call whose answer had been *evicted* is a request that a larger memory, or another policy, might have met.
- A **hit** and a **read** of an answer are requests. A miss of theirs computes the call again.
- **joined** waited for a computation under way, which no policy changes: a use of the answer, and no request.
- What was put directly (`keep`) cannot be computed again and is never evicted: it is left out and counted apart, and so is
  an answer while it is pinned. The log does not say when a pin ends by itself; without an `unpinned` it lasts.
- **expired** and **forgotten** objects go under every policy.

What an answer costs is what the log says at best: what a hit saved (the whole call) or its commit spent (without the calls
inside). The guard of fresh objects is not simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from memgang.model import Event

LATE_MS = 1000  # a read may be logged a moment before the commit of what it read: clocks of processes differ

What = Literal["ask", "make", "use", "put", "drop"]


class Step(NamedTuple):
    """One line of a history: a request (``ask``; ``make`` is one that every policy misses), or what else happens to a key."""

    what: What
    key: str
    size: int = 1
    seconds: float = 1.0
    micro_usd: int = 0


class History(msgspec.Struct, frozen=True):
    """What a memory is asked for, in order, and what was left out of it."""

    source: str
    steps: list[Step]
    kept: int = 0  # objects that cannot be computed again
    kept_bytes: int = 0
    unsized: int = 0  # events about objects whose size the log does not say

    def requests(self) -> int:
        """How many of the steps are requests."""
        return sum(step.what in ("ask", "make") for step in self.steps)

    def sizes(self) -> dict[str, int]:
        """Every object that is ever here, and its bytes: the working set."""
        return {step.key: step.size for step in self.steps if step.what in ("ask", "make", "put")}


class _Facts:
    """What the whole log says of each object, before it is replayed."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.sizes: dict[str, int] = {}
        self.born: dict[str, int] = {}  # first commit
        self.answers: set[str] = set()  # what a call has answered, or has been evicted: not kept
        self.costs: dict[str, list[tuple[int, int]]] = {}  # of each computation in turn: ms and micro-dollars
        for event in events:
            obj = event.obj
            if event.raw in ("put", "read", "evicted", "expired"):
                self.sizes[obj] = max(self.sizes.get(obj, 0), event.bytes)
            if event.raw in ("committed", "hit", "joined", "evicted"):
                self.answers.add(obj)
            if event.raw == "committed":
                self.born.setdefault(obj, event.at)
                self.costs.setdefault(obj, []).append((event.own.ms, event.own.micro_usd))
            elif event.raw in ("hit", "joined"):  # what they saved is what the last computation cost with all calls inside it
                costs = self.costs.setdefault(obj, [])
                ms, micro_usd = costs.pop() if costs else (0, 0)
                costs.append((max(ms, event.saved.ms), max(micro_usd, event.saved.micro_usd)))

    def step(self, what: What, obj: str, computed: int) -> Step:
        """What happens to an object after so many computations of it."""
        costs = self.costs.get(obj) or [(0, 0)]
        ms, micro_usd = costs[min(max(computed, 1), len(costs)) - 1]
        return Step(what, obj, self.sizes[obj], ms / 1000, micro_usd)


class _Past:
    """What has happened so far while the log is gone through."""

    def __init__(self) -> None:
        self.answer: dict[str, str] = {}  # call -> what it answered last
        self.gone: set[str] = set()  # evicted, and not written since
        self.seen: set[str] = set()
        self.computed: Counter[str] = Counter()
        self.pinned: set[str] = set()


def from_events(events: Sequence[Event], source: str, run: str | None = None) -> History:
    """The history of a space, or of one run in it. The events are those of the whole log, in the order of a reading.

    Of a run, too, sizes and costs are told by the whole log; the memory it meets is empty.
    """
    facts, past = _Facts(events), _Past()
    steps: list[Step] = []
    kept: dict[str, int] = {}
    unsized = 0
    for event in events:
        obj = event.obj
        ours = run is None or event.run == run
        if ours and event.raw == "put" and obj not in facts.answers:
            kept[obj] = facts.sizes[obj]
        if not obj or obj not in facts.answers:
            continue
        if obj not in facts.sizes:
            unsized += ours
        elif what := _meaning(event, facts, past):
            past.seen.add(obj)
            if ours or what == "drop":
                steps.append(facts.step(what, obj, past.computed[obj]))
    return History(source, steps, len(kept), sum(kept.values()), unsized)


def _meaning(event: Event, facts: _Facts, past: _Past) -> What | None:
    """What one line of the log about an answer asks of a memory; None where it is nothing."""
    obj = event.obj
    match event.raw:
        case "evicted":
            past.gone.add(obj)
        case "expired" | "forgotten":
            past.gone.discard(obj)
            past.pinned.discard(obj)
            return "drop"
        case "pinned":
            past.pinned.add(obj)
            return "drop"
        case "unpinned" if obj in past.pinned:
            past.pinned.discard(obj)
            return "put"
        case "put" if obj not in facts.born:  # put directly, and evicted later: it was not kept
            past.gone.discard(obj)
            return "put"
        case "committed":
            lost = past.answer.get(event.call) == obj and obj in past.gone
            past.answer[event.call] = obj
            past.gone.discard(obj)
            past.computed[obj] += 1
            if obj not in past.pinned:
                return "ask" if lost else "make"
        case "hit" | "read" if obj not in past.pinned:
            early = obj not in past.seen and event.at <= facts.born.get(obj, 0) <= event.at + LATE_MS
            return "use" if early else "ask"
        case "joined":
            return "use"
    return None
