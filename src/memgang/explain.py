"""Why a call was computed and not recalled: its nearest relative in the log, and the first place they differ.

The log holds an outline of each claimed call, with longer texts as keyed hashes; content is never needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from memgang.canonical import difference, likeness
from memgang.model import Event
from memgang.store import log
from memgang.store.keys import Keys
from memgang.store.wire import Wire

CLAIMS = 10_000  # newest ones looked at
_ENTRIES = 100_000  # newest events about calls that are kept in memory

_SAID = {
    "committed": "it was answered then: the answer has expired since, or what it pointed at was gone or unusable",
    "failed": "that attempt failed", "released": "that attempt was given up", "fenced": "that attempt came too late",
    "died": "the process of that attempt died", "dropped": "its answer was dropped",
    "exhausted": "its attempts were used up",
    "claimed": "that attempt said nothing more", "taken": "that attempt said nothing more",
}
_MEANS = {
    "version": "the function, or something in its deps=, has changed", "model": "they ask different models",
    "sample": "they are different samples of one question", "scope": "they belong to different scopes",
    "system": "their system texts differ", "messages": "their messages differ", "tools": "their tools differ",
    "parameters": "their parameters differ", "arguments": "their arguments differ",
}


class Why(msgspec.Struct, frozen=True):
    """Why a call was computed. ``nearest`` is empty where there is nothing to compare it with."""

    call: str
    fn: str
    at: int
    agent: str
    nearest: str
    place: str
    mine: str
    other: str
    verdict: str


async def why(wire: Wire, keys: Keys, text: str) -> Why | None:
    """Explain the newest claim of a call key, the beginning of one, or a function's name. None: no claim fits.

    Looks at the newest 10,000 claims that are still in the log.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    kept: deque[Event] = deque(maxlen=_ENTRIES)
    async for event in log.read(wire, keys):
        if event.raw in _SAID:
            kept.append(event)
    return explain(list(reversed(kept)), text)


def explain(newest_first: Sequence[Event], text: str) -> Why | None:
    """The same from events already read, the newest first."""
    # An outline is logged where the work ends; a call that is still under way has none yet.
    outlines = {event.call: event.outline for event in reversed(newest_first) if event.outline}
    claims = [event for event in newest_first if event.raw in ("claimed", "taken")][:CLAIMS]
    target = next((c for c in claims if text and c.call.startswith(text)), None) or next(
        (c for c in claims if text and (c.fn == text or c.fn.endswith((f".{text}", f":{text}")))), None)
    if target is None:
        return None
    older = claims[claims.index(target) + 1:]
    if any(claim.call == target.call for claim in older):
        after = newest_first[newest_first.index(target) + 1:]
        last = next(event for event in after if event.call == target.call and event.raw in _SAID)
        reason = last.why[:60] if last.raw in ("failed", "dropped") else ""
        told = _SAID[last.raw] + (f" ({reason})" if reason else "")
        return _answer(target, target.call, ("", "", ""), f"the same call was claimed before: {told}")
    # An older call could have answered this one; without any, a newer one still shows what differs.
    others = [c for c in older if c.fn == target.fn] or [
        c for c in claims if c.fn == target.fn and c.call != target.call]
    if not others:
        return _answer(target, "", ("", "", ""), "no other call of this function is in the log: it had to be computed")
    known = [other for other in others if other.call in outlines]
    if target.call not in outlines or not known:
        return _answer(target, "", ("", "", ""), "no outline to compare it by is in the log: its work has not ended")
    mine = outlines[target.call]
    nearest = max(known, key=lambda other: likeness(mine, outlines[other.call]))  # the newest of equals
    differs = difference(mine, outlines[nearest.call])
    if differs is None:
        return _answer(target, nearest.call, ("", "", ""),
                       "the outlines are equal and the calls are not: they differ in what an outline leaves out")
    part = differs[0].partition(".")[0].partition("[")[0]
    return _answer(target, nearest.call, differs, _MEANS.get(part, f"they differ in {part}"))


def _answer(claim: Event, nearest: str, differs: tuple[str, str, str], verdict: str) -> Why:
    return Why(claim.call, claim.fn, claim.at, claim.agent, nearest, *differs, verdict)
