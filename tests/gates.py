"""Gates: tests own the schedule instead of sleeping through it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from memgang.space import Space


class Gate:
    """Work that says when it was reached and goes on when it is opened. Counts how often it ran."""

    def __init__(self) -> None:
        self._reached, self._open = asyncio.Event(), asyncio.Event()
        self.runs = 0

    def then(self, value: Any) -> Callable[[], Awaitable[Any]]:
        """Work that waits at the gate, then returns the value (or raises it)."""

        async def work() -> Any:
            self.runs += 1
            self._reached.set()
            await self._open.wait()
            if isinstance(value, BaseException):
                raise value
            return value

        return work

    async def reached(self) -> None:
        """Until the work stands at the gate."""
        async with asyncio.timeout(30):
            await self._reached.wait()

    def open(self) -> None:
        """Let the work go on."""
        self._open.set()


def ready(value: Any) -> Callable[[], Awaitable[Any]]:
    """Work that does not wait."""
    gate = Gate()
    gate.open()
    return gate.then(value)


async def raws(space: Space) -> list[str]:
    """The words of the log, in order."""
    return [e.raw async for e in space.events()]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Ask until it is so; a generous limit stands for the time it should take."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.005)
