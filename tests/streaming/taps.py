"""Taps: producers whose pieces the test hands out, and readers whose progress it can await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from memgang.model import Call
from memgang.space import Space


def call(n: int = 0) -> Call:
    """A call that stands for a question to a model."""
    return Call("function", "tests:stream", "1", {"n": n})


class Tap:
    """A producer that gives what it is told, then ends or fails. Runs one script after the other, the last for ever."""

    def __init__(self) -> None:
        self.runs = 0
        self.closed = 0
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def give(self, *pieces: Any) -> Tap:
        """The next pieces."""
        for piece in pieces:
            self._queue.put_nowait(piece)
        return self

    def end(self, error: Exception | None = None) -> Tap:
        """The end of this run, or its failure."""
        self._queue.put_nowait(error or StopAsyncIteration())
        return self

    async def __call__(self) -> AsyncIterator[Any]:
        """One run."""
        self.runs += 1
        try:
            while True:
                piece = await self._queue.get()
                if isinstance(piece, StopAsyncIteration):
                    return
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed += 1


class Reader:
    """Somebody who reads a stream to its end; what it was delivered so far is in ``got``."""

    def __init__(self, space: Space, produce: Any, n: int = 0, **options: Any) -> None:
        self.got: list[Any] = []
        self.stream = space.stream(call(n), produce, **options)
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> Any:
        async for piece in self.stream:
            self.got.append(piece)
            self._more.set()
        return self.text

    @property
    def text(self) -> Any:
        """All that was delivered, joined."""
        return (b"" if self.got and isinstance(self.got[0], bytes) else "").join(self.got)

    async def reached(self, pieces: int) -> Reader:
        """Until so many pieces were delivered."""
        async with asyncio.timeout(30):
            while len(self.got) < pieces:
                self._more.clear()
                more = asyncio.ensure_future(self._more.wait())
                await asyncio.wait({more, self.task}, return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
                if self.task.done() and len(self.got) < pieces:
                    raise AssertionError(f"the stream ended with {len(self.got)} pieces") from self.task.exception()
        return self

    async def done(self) -> Any:
        """All of it; raises what the stream raises."""
        async with asyncio.timeout(30):
            return await self.task


async def never() -> AsyncIterator[str]:
    """A producer that must not run."""
    raise AssertionError("this reader was to be given what another made")
    yield ""
