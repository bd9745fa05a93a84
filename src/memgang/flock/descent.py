"""Descent: from what an object of a run was made, what was made from it, and which chain of objects the run had to wait for.

Parents are what the log names at a write: at most 64 of them, which is noted (`Light.src`). Nothing is guessed: an object without
parents in the log has none here.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from memgang.flock.fold import Fold, Light

Family = Mapping[str, list[str]]


class Step(NamedTuple):
    """One object of a chain. ``after_ms`` is the time from its last parent (or the start of the run) to its own being written."""

    light: Light
    after_ms: int


def children(fold: Fold) -> Family:
    """For each object those that were made from it, in the order they were first seen."""
    made: defaultdict[str, list[str]] = defaultdict(list)
    for light in fold.lights.values():
        for parent in light.src:
            made[parent].append(light.id)
    return made


def up(fold: Fold, ident: str) -> dict[str, int]:
    """All that this object rests on, and how many steps away; itself not."""
    return _reached(ident, lambda at: fold.lights[at].src if at in fold.lights else ())


def down(fold: Fold, ident: str, family: Family | None = None) -> dict[str, int]:
    """All that rests on this object, and how many steps away: what would go with it. ``family``: of `children`, if at hand."""
    made = children(fold) if family is None else family
    return _reached(ident, lambda at: made.get(at, ()))


def unused(fold: Fold) -> list[Light]:
    """Objects written and never read, reused, or made into anything; answers, which are meant for people, are not among them."""
    parents = {parent for light in fold.lights.values() for parent in light.src}
    return [light for light in fold.lights.values()
            if light.written and not light.reads and not light.reuses and light.ring != "ans" and light.id not in parents]


def critical_path(fold: Fold, ident: str | None = None) -> list[Step]:
    """The chain that decided when the object (None: the last answer, else the last object) was there, the first first.

    Each object can begin when the last of its parents is there; so the chain goes from an object to the parent that came last
    (the longest path of a graph of tasks whose times are given; J. E. Kelley, "Critical-Path Planning and Scheduling", 1961).
    """
    at = fold.lights.get(ident) if ident is not None else _last(fold)
    chain: list[Step] = []
    seen: set[str] = set()
    while at is not None and at.id not in seen:
        seen.add(at.id)
        before = max((light for parent in at.src if (light := fold.lights.get(parent)) is not None and light.written
                      and light.born <= at.born and light.id not in seen), key=lambda light: light.born, default=None)
        chain.append(Step(at, at.born - (before.born if before is not None else min(0, at.born))))
        at = before
    return chain[::-1]


def _last(fold: Fold) -> Light | None:
    written = [light for light in fold.lights.values() if light.written]
    answers = [light for light in written if light.ring == "ans"] or written
    return max(answers, key=lambda light: light.born, default=None)


def _reached(start: str, further: Callable[[str], Iterable[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    ahead = deque([(start, 0)])
    while ahead:
        at, steps = ahead.popleft()
        for other in further(at):
            if other != start and other not in found:
                found[other] = steps + 1
                ahead.append((other, steps + 1))
    return found
