"""Many calls on one event loop, so many at a time and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

START_TOGETHER = 4


async def run_all(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], concurrency: int, *,
    stop: Callable[[Exception], bool] = lambda error: False,
    settled: Callable[[int, R | Exception], None] = lambda place, outcome: None,
) -> list[R | Exception]:
    """The work done for each item, at most ``concurrency`` at a time; results, or what was raised, in order.

    Workers draw from one iterator, so a million items are not a million tasks. ``settled`` is told each
    outcome with its place as soon as there is one. An error for which ``stop`` is true ends all and is
    raised; cancelling this call cancels all and waits for them.
    """
    places = enumerate(items)
    outcomes: dict[int, R | Exception] = {}

    async def worker(number: int) -> None:
        # They start some turns of the loop apart: all in one turn would be ready together, ask together, be
        # answered together, and the first answer would come only when the last of them had asked.
        for _ in range(number // START_TOGETHER):
            await asyncio.sleep(0)
        for place, item in places:
            outcome: R | Exception
            try:
                outcome = await work(item)
            except Exception as error:
                if stop(error):
                    raise
                outcome = error
            outcomes[place] = outcome
            settled(place, outcome)

    await together(worker(number) for number in range(max(1, concurrency)))
    return [outcomes[place] for place in range(len(outcomes))]


async def together(works: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """All results in order. The first error cancels the rest, waits for them, and is raised as it is."""
    failed: BaseException
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
        return [task.result() for task in tasks]
    except BaseExceptionGroup as errors:
        failed = errors
    while isinstance(failed, BaseExceptionGroup):  # raised outside the handler, so that its own cause stays
        failed = failed.exceptions[0]
    raise failed
