"""The progress of several gangs shown as that of one: a sum, made a few times a second and not at every call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

from memgang.agents import Step
from memgang.gang import Gang

EVERY_S = 0.05  # a call may take less than adding up what all have done

Phase = Callable[[str], Awaitable[None]]


@contextlib.contextmanager
def shown_together(whole: Gang, parts: Sequence[Gang]) -> Iterator[Phase]:
    """Within the block the progress of ``whole`` is the sum of its parts', at most `EVERY_S` old; at its end it is exact.

    What it gives tells the phase the whole has come to, with exact figures.
    """
    loop = asyncio.get_running_loop()
    due: asyncio.TimerHandle | None = None

    def changed(_: object) -> None:
        nonlocal due
        if due is None:
            due = loop.call_later(EVERY_S, tell)

    def tell() -> None:
        nonlocal due
        due = None
        _add_up(whole, parts)
        if whole.on_progress is not None:
            whole.on_progress(whole.progress)

    async def phase(name: str) -> None:
        _add_up(whole, parts)
        await whole.phase(name)

    for part in parts:
        part.on_progress = changed
    try:
        yield phase
    finally:
        for part in parts:
            part.on_progress = None
        if due is not None:
            due.cancel()
        _add_up(whole, parts)


def _add_up(whole: Gang, parts: Sequence[Gang]) -> None:
    progress, each = whole.progress, [part.progress for part in parts]
    for name in ("active", "done", "hits", "joined", "computed", "failed"):
        setattr(progress, name, sum(getattr(part, name) for part in each))
    progress.spent = sum((part.spent for part in each[1:]), each[0].spent)
    progress.saved = sum((part.saved for part in each[1:]), each[0].saved)
    for role in dict.fromkeys(role for part in each for role in part.roles):
        steps = [part.roles[role] for part in each if role in part.roles]
        progress.roles[role] = Step(*(sum(getattr(step, name) for step in steps)
                                      for name in ("planned", "done", "recalled", "failed")))
