"""One space for the two halves of a library's interface: methods that are awaited, and methods that block.

Libraries call both from wherever they like. A space lives on one event loop; this brings the work there.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from memgang.blocking import BlockingSpace, refuse_of_parent, waited
from memgang.errors import ConfigError
from memgang.space import Space

T = TypeVar("T")

# Each waits for a model, for minutes perhaps, and there are never more than callers who block.
_WAITING_MAX = 1_000
_threads: ThreadPoolExecutor


def _fresh() -> None:
    global _threads
    _threads = ThreadPoolExecutor(_WAITING_MAX, "memgang-model")  # which starts its threads when they are needed


_fresh()
os.register_at_fork(after_in_child=_fresh)  # threads are not in the child


class Bridge:
    """The way to a space from any thread and any event loop. Lives as long as the space, which it does not close."""

    def __init__(self, space: Space | BlockingSpace) -> None:
        """``space``: that of `memgang.connect`, which serves both halves anywhere; or an open one, in its own event loop.

        Raises:
            ConfigError: it is neither, or an open `Space` is given outside its event loop.
        """
        if isinstance(space, BlockingSpace):
            self.space, self.loop = space.awaited, space.loop
        elif isinstance(space, Space):
            try:
                self.space, self.loop = space, asyncio.get_running_loop()
            except RuntimeError:
                raise ConfigError("make it inside `async with memgang.open() as space`, or give it a space of "
                                  "memgang.connect(), which serves code with and without an event loop") from None
        else:
            raise ConfigError(f"a space of memgang.connect() or memgang.open() is needed, not {type(space).__name__}")

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of the work, waited for in the caller's thread.

        Raises:
            ConfigError: the caller's thread is the one that would have to do it.
        """
        return waited(work, self.loop, "a method that blocks was called in the event loop of its own space: await its other form "
                      "(aget for get, ainvoke for invoke), or give it a space of memgang.connect()")

    async def here(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of the work, awaited in the caller's event loop, whichever that is."""
        return await at(self.loop, work)


async def at(home: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """The outcome of work that belongs to another event loop than a space's: a client there, with its connections."""
    if asyncio.get_running_loop() is home:
        return await work
    refuse_of_parent(work, home)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))


async def in_a_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """As `asyncio.to_thread`, for calls that wait for a model.

    Not in the threads of the event loop, of which there are four more than cores: the store, files and hashes need those, and
    would wait behind models.
    """
    work = functools.partial(contextvars.copy_context().run, function, *args, **options)
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
