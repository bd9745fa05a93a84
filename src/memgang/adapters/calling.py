"""Calls of a framework's own model interface, recalled: what stands between such an interface and a space.

    model of the framework -> ask -> Calls -> recall or stream -> (on a miss) the model that is wrapped

A wrapper says what is asked as a `Call`, and puts its library's objects into lines of JSON and back: any number of lines
while the answer comes, and a last one with all of it. Whoever has asked for the whole answer reads the last line, so plain and
streamed calls for the same share one answer; one that came without a stream has that one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from memgang.adapters.bridge import Bridge, at, in_a_thread
from memgang.adapters.exchange import classified
from memgang.adapters.spending import spent
from memgang.blocking import BlockingSpace
from memgang.codec import TTL, parse_ttl
from memgang.errors import MemGangError, ModelError, StoreFull, StreamRestarted, TooLarge, WorkFailed
from memgang.model import Call, current_work
from memgang.space import Space


class Whole(NamedTuple):
    """The last line, and what the answer cost. ``keep`` False: it is not whole, and is for who has asked alone."""

    line: bytes
    model: str
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    keep: bool = True


class Asked(NamedTuple):
    """What a wrapper is asked. ``samples``: the same may be answered otherwise each time."""

    call: Call
    samples: bool


Ask = Callable[[], Awaitable[Whole]]
AskStream = Callable[[], AsyncIterator[bytes | Whole]]


class _Unkept(ModelError):
    """The answer is not whole. Who has asked is given it all the same, others ask for themselves."""

    def __init__(self, whole: Whole) -> None:
        super().__init__(whole.model, "caller", "unfinished", "the answer is not whole, so it is not shared")
        self.line = whole.line


class Calls:
    """The calls of one wrapper. Safe from many tasks, threads and event loops; lives as long as its space."""

    def __init__(self, space: Space | BlockingSpace, ttl: TTL) -> None:
        """Raises ConfigError: no such space, or the time to live is none."""
        if ttl != "default":
            parse_ttl(ttl)
        self.bridge, self._ttl = Bridge(space), ttl

    async def whole(self, asked: Asked, ask: Ask) -> bytes:
        """The last line of the answer. Raises what the wrapped model raises, or what is told of it by who had asked."""
        return await self.bridge.here(self._whole(asked, _Home(), ask))

    def whole_blocking(self, asked: Asked, ask: Callable[[], Whole]) -> bytes:
        """As `whole`, where the caller blocks; the wrapped model is asked in a thread, with the caller's context variables."""
        context = contextvars.copy_context()

        async def away() -> Whole:
            return await in_a_thread(context.run, ask)

        return self.bridge.wait(self._whole(asked, None, away))

    async def lines(self, asked: Asked, ask: AskStream) -> AsyncGenerator[bytes, None]:
        """The lines of the answer: those that are there, then as they come. Raises as `whole` does."""
        lines = self._lines(asked, _Home(), ask)
        try:
            while (line := await self.bridge.here(_next(lines))) is not None:
                yield line
        finally:
            await self.bridge.here(lines.aclose())

    # ── on the event loop of the space ────────────────────────────────────────────────────────

    async def _whole(self, asked: Asked, home: _Home | None, ask: Ask) -> bytes:
        made: bytes | None = None

        async def compute() -> bytes:
            nonlocal made
            with _told(asked):
                answer = await (home.run(ask) if home is not None else ask())
            self._spend(answer)
            made = answer.line
            return made + b"\n"

        try:
            recalled = await self.bridge.space.recall(
                asked.call, compute, ttl=self._ttl, kind="llm", sample="occurrence" if asked.samples else None)
        except _Unkept as unkept:
            return unkept.line
        except (WorkFailed, ModelError) as error:
            raise _own(error) from error.__cause__
        except (StoreFull, TooLarge):
            if made is None:
                raise
            return made  # paid for, though there is no room for it
        kept: bytes = await recalled.value()
        return kept.rstrip(b"\n").rpartition(b"\n")[2]

    async def _lines(self, asked: Asked, home: _Home, ask: AskStream) -> AsyncGenerator[bytes, None]:
        made = False

        async def produce() -> AsyncIterator[bytes]:
            nonlocal made
            answer: Whole | None = None
            with _told(asked):
                async with contextlib.aclosing(home.brought(ask)) as source:
                    async for line in source:
                        if isinstance(line, Whole):
                            answer = line
                        else:
                            yield line + b"\n"
            if answer is None:
                raise ModelError(asked.call.model, "caller", "cut", "the stream ended without its end")
            self._spend(answer)
            yield answer.line + b"\n"
            made = True

        stream = self.bridge.space.stream(
            asked.call, produce, ttl=self._ttl, kind="llm", sample="occurrence" if asked.samples else None)
        rest = b""
        try:
            async for piece in stream:
                rest += piece if isinstance(piece, bytes) else piece.encode()
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    yield line
        except _Unkept as unkept:
            yield unkept.line
        except StreamRestarted:
            raise
        except (WorkFailed, ModelError) as error:
            raise _own(error) from error.__cause__
        except (StoreFull, TooLarge):
            if not made:  # else all of it was delivered and is paid for, though there is no room for it
                raise
        finally:
            await stream.aclose()

    def _spend(self, answer: Whole) -> None:
        """Count what it cost. Raises _Unkept where it is not to be kept."""
        if (work := current_work.get()) is not None:
            work.own = work.own + spent(self.bridge.space.settings, answer.model, tokens_in=answer.tokens_in,
                                        tokens_out=answer.tokens_out, tokens_cached=answer.tokens_cached)
        if not answer.keep:
            raise _Unkept(answer)


@contextlib.contextmanager
def _told(asked: Asked) -> Any:
    """What the wrapped model raises, as an error that others can be told; it is raised from that one.

    A request that is wrong is wrong for everybody. All else may concern the caller alone, so others ask for themselves: the
    library has tried as often as it tries, and is not made to try again for this.
    """
    try:
        yield
    except MemGangError:
        raise
    except Exception as error:
        status = getattr(error, "status_code", None)
        body = getattr(error, "body", None)
        kind = "caller"
        if isinstance(status, int) and classified(status, json.dumps({"error": body}, default=str).encode()) == "permanent":
            kind = "permanent"
        raise ModelError(asked.call.model, kind, str(status or type(error).__name__), str(error)[:500]) from error


def _own(error: MemGangError) -> Exception:
    """The wrapped model's own error, where it was asked here; else what is told of it."""
    cause: BaseException | None = error
    while isinstance(cause, MemGangError):
        cause = cause.__cause__
    return cause if isinstance(cause, Exception) else error


async def _next(lines: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(lines, None)


class _Home:
    """Where the wrapped model belongs: the caller's event loop, with the caller's context variables (traces, spans)."""

    def __init__(self) -> None:
        self._loop, self._context = asyncio.get_running_loop(), contextvars.copy_context()

    async def run(self, ask: Ask) -> Whole:
        """The outcome of asking there."""
        async def asking() -> Whole:
            return await self._loop.create_task(_awaited(ask), context=self._context)

        if asyncio.get_running_loop() is self._loop:
            return await ask()
        return await at(self._loop, asking())

    async def brought(self, ask: AskStream) -> AsyncGenerator[bytes | Whole, None]:
        """The lines of a source there, all of it run by one task: libraries set context variables in their streams, and
        can put them back only in the task that has set them."""
        here = asyncio.get_running_loop()
        if here is self._loop:
            source = ask()
            try:
                async for found in source:
                    yield found
            finally:
                if isinstance(source, AsyncGenerator):
                    await source.aclose()
            return
        queue: asyncio.Queue[bytes | Whole | None] = asyncio.Queue()

        async def bring() -> None:
            try:
                async for found in ask():
                    here.call_soon_threadsafe(queue.put_nowait, found)
            finally:
                here.call_soon_threadsafe(queue.put_nowait, None)

        async def bringing() -> None:
            await self._loop.create_task(bring(), context=self._context)

        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(bringing(), self._loop))
        try:
            while (line := await queue.get()) is not None:
                yield line
            await future
        finally:
            future.cancel()


async def _awaited(ask: Ask) -> Whole:
    return await ask()
