"""Spans: what each agent did from when to when, and how the savings grew; for the pages that show a run along its time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from memgang.flock.fold import CAUSES, Fold

INSTANT_MS = 20  # how long something without a length is shown: a read, a write
LLM_CALLS, TOKENS_IN, TOKENS_OUT, MICRO_USD = 1, 2, 3, 5  # places in a usage


class Span(NamedTuple):
    """An agent was at something. Times are ms since the run began."""

    agent: str
    role: str
    state: str  # think work wait read write reuse error
    start: int
    end: int
    obj: str = ""
    call: str = ""
    fn: str = ""
    by: str = ""


class Moment(NamedTuple):
    """How far the run was at one time: what was spent by then, and what was not, for each cause. Calls are of language models."""

    t: int
    calls: int
    tokens: int
    micro_usd: int
    saved_calls: dict[str, int]
    saved_tokens: dict[str, int]
    saved_micro_usd: dict[str, int]


def spans(records: Iterable[dict[str, Any]]) -> list[Span]:
    """What agents did, in the order in which it ended. Whatever is still under way at the end of the records ends there."""
    under_way: dict[tuple[str, str], Span] = {}
    found: list[Span] = []
    last = 0
    for rec in records:
        t, op, agent = rec["t"], rec["op"], rec.get("agent", "")
        last = max(last, t)
        if not agent:
            continue
        call = rec.get("call", "")
        about = Span(agent, rec.get("role", ""), "", t, t, rec.get("obj", ""), call, rec.get("fn", ""), rec.get("by", ""))
        match op:
            case "think_start" | "lease":
                if rec.get("raw") == "taken":
                    _cut_off(under_way, found, call, t)
                under_way[agent, call] = about._replace(state="think" if op == "think_start" else "work")
            case "think_end" | "done":
                if (begun := under_way.pop((agent, call), None)) is not None:
                    failed = rec.get("raw") == "failed"
                    found.append(begun._replace(end=t, obj=rec.get("obj", begun.obj), state="error" if failed else begun.state))
            case "error" if rec.get("raw") in ("died", "exhausted"):  # told by somebody else
                _cut_off(under_way, found, call, t)
            case "error":
                begun = under_way.pop((agent, call), about)
                found.append(begun._replace(end=max(t, begun.start + INSTANT_MS), state="error"))
            case "hit" if rec.get("raw") == "joined":
                found.append(about._replace(state="wait", start=t - round(rec.get("ms", 0))))
                found.append(about._replace(state="reuse", end=t + INSTANT_MS))
            case "hit" if rec.get("raw", "hit") == "hit":  # a reference that was never opened is no call
                found.append(about._replace(state="reuse", end=t + INSTANT_MS))
            case "read" | "write":
                found.append(about._replace(state=op, end=t + INSTANT_MS))
    return found + [begun._replace(end=max(last, begun.start)) for begun in under_way.values()]


def busy(found: Iterable[Span], states: Sequence[str] = ("think", "wait", "work")) -> dict[str, dict[str, int]]:
    """How long each agent was in each of these states, ms. Where several hold at once, the one named first counts: an agent's work
    contains the questions it asks, and it does not do two things in that time."""
    edges: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for one in found:
        if one.state in states and one.end > one.start:
            edges[one.agent] += [(one.start, 1, one.state), (one.end, -1, one.state)]
    times: dict[str, dict[str, int]] = {}
    for agent, changes in edges.items():
        held, spent, before = Counter[str](), Counter[str](), 0
        for at, step, state in sorted(changes):
            holding = next((name for name in states if held[name]), None)
            if holding is not None:
                spent[holding] += at - before
            held[state] += step
            before = at
        times[agent] = {name: spent[name] for name in states if spent[name]}
    return times


def _cut_off(under_way: dict[tuple[str, str], Span], found: list[Span], call: str, t: int) -> None:
    """Whoever was at this call has died, or was overtaken: it was at it until now at most."""
    for key in [key for key in under_way if key[1] == call]:
        begun = under_way.pop(key)
        found.append(begun._replace(end=max(t, begun.start), state="error"))


def growth(records: Sequence[dict[str, Any]], points: int = 200) -> list[Moment]:
    """What was spent and saved by so many equally distant times, the run's end last."""
    if not records:
        return []
    ordered = sorted(records, key=lambda rec: rec["t"])
    first, last = min(0, ordered[0]["t"]), ordered[-1]["t"]
    fold, place, moments = Fold(), 0, []
    for point in range(1, points + 1):
        until = first + (last - first) * point / points
        while place < len(ordered) and ordered[place]["t"] <= until:
            fold.apply(ordered[place])
            place += 1
        moments.append(_moment(fold, round(until)))
    return moments


def _moment(fold: Fold, t: int) -> Moment:
    spent = fold.physical.figures
    avoided = {cause: fold.avoided[cause].figures for cause in CAUSES}
    return Moment(
        t, spent[LLM_CALLS], spent[TOKENS_IN] + spent[TOKENS_OUT], spent[MICRO_USD],
        {cause: figures[LLM_CALLS] for cause, figures in avoided.items()},
        {cause: figures[TOKENS_IN] + figures[TOKENS_OUT] for cause, figures in avoided.items()},
        {cause: figures[MICRO_USD] for cause, figures in avoided.items()})
