"""`memgang.connect`: the verbs of a space for code without an event loop. One thin wrapper, no second implementation.

    with memgang.connect() as space:
        ref = space.put("The audit found ...")
        print(space.get(ref))

All blocking spaces of a process share one event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from memgang.errors import ConfigError
from memgang.lineage import Forgotten
from memgang.model import Call, Event, MemoryObject, NameVersion, Original, Ref
from memgang.space import TTL, Found, Space, open
from memgang.store.wire import FORKED

if TYPE_CHECKING:
    from memgang.reads import Manners, Reads

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_of_parent = weakref.WeakSet[asyncio.AbstractEventLoop]()  # whose threads this process does not have: work given to them never ends


def _shared_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="memgang-loop", daemon=True).start()
        return _loop


def _forked() -> None:
    global _loop, _lock
    if _loop is not None:
        _of_parent.add(_loop)
    _loop, _lock = None, threading.Lock()  # the thread that ran it is not in the child


os.register_at_fork(after_in_child=_forked)


class _OwnLoop(ConfigError, asyncio.InvalidStateError):
    """Of both kinds: callers of LangGraph's stores expect the second where they should have awaited."""


def refuse_of_parent(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
    """ConfigError: the loop is one of `connect`, in the process that this one was forked from."""
    if loop in _of_parent:
        work.close()
        raise ConfigError(FORKED)


def waited(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, inside: str) -> T:
    """The outcome of work on another thread's loop. ConfigError: it is the caller's own (the text of ``inside``), or that thread
    is not in this process."""
    refuse_of_parent(work, loop)
    try:
        own = asyncio.get_running_loop() is loop
    except RuntimeError:
        own = False
    if own:
        work.close()
        raise _OwnLoop(inside)
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # Ctrl-C while waiting must not leave the work behind
        raise


class BlockingSpace:
    """The verbs of `Space` as plain methods, which promise and raise the same. Safe to use from many threads."""

    def __init__(self, space: Space, loop: asyncio.AbstractEventLoop) -> None:
        self._space, self._loop = space, loop
        self._reads: dict[Manners, Reads] = {}  # used on the loop alone

    @property
    def awaited(self) -> Space:
        """The space behind it, for code that has work of its own to run on `loop`. Its verbs are awaited there and nowhere else."""
        return self._space

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which the space lives, in a thread of its own."""
        return self._loop

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return waited(work, self._loop, "a blocking space was used inside its own event loop: use `async with memgang.open()` there")

    def put(self, value: Any, *, name: str | None = None, ttl: TTL = None, tags: Sequence[str] = (), kind: str = "other",
            media_type: str | None = None) -> Ref:
        """See `Space.put`."""
        return self._wait(self._space.put(value, name=name, ttl=ttl, tags=tags, kind=kind, media_type=media_type))

    def put_many(self, values: Sequence[Any], *, ttl: TTL = None, tags: Sequence[str] = (), kind: str = "other") -> list[Ref]:
        """See `Space.put_many`."""
        return self._wait(self._space.put_many(values, ttl=ttl, tags=tags, kind=kind))

    def get(self, ref: str, type: Any = None) -> Any:
        """See `Space.get`. What this host has is read in the caller's own thread."""
        if isinstance(ref, Ref) and (found := self._space.get_at_hand(ref, type, self._loop)) is not None:
            return found[0]
        return self._wait(self._space.get(ref, type))

    def get_many(self, refs: Sequence[str], type: Any = None) -> list[Any]:
        """See `Space.get_many`."""
        return self._wait(self._space.get_many(refs, type))

    def describe(self, ref: str) -> MemoryObject:
        """See `Space.describe`."""
        return self._wait(self._space.describe(ref))

    def set_name(self, name: str, ref: Ref | None, *, expect: int | None = None) -> int:
        """See `Space.set_name`."""
        return self._wait(self._space.set_name(name, ref, expect=expect))

    def resolve(self, text: str) -> Ref:
        """See `Space.resolve`."""
        return self._wait(self._space.resolve(text))

    def history(self, name: str, limit: int = 1000) -> list[NameVersion]:
        """See `Space.history`."""
        return self._wait(self._space.history(name, limit))

    def names(self, prefix: str = "") -> dict[str, Ref]:
        """See `Space.names`."""
        return self._wait(self._space.names(prefix))

    def pin(self, ref: str, ttl: TTL = "1h", holder: str | None = None) -> int:
        """See `Space.pin`."""
        return self._wait(self._space.pin(ref, ttl, holder))

    def unpin(self, ref: str, holder: str | None = None) -> None:
        """See `Space.unpin`."""
        self._wait(self._space.unpin(ref, holder))

    def forget(
        self, ref: str, reason: str = "", *, cascade: bool = False, dry_run: bool = False, remove_names: bool = False,
    ) -> Forgotten:
        """See `Space.forget`."""
        return self._wait(self._space.forget(ref, reason, cascade=cascade, dry_run=dry_run, remove_names=remove_names))

    def invalidate(
        self, source: str, reason: str = "", *, dry_run: bool = False, remove_names: bool = False,
    ) -> Forgotten:
        """See `Space.invalidate`."""
        return self._wait(self._space.invalidate(source, reason, dry_run=dry_run, remove_names=remove_names))

    def scrub(self) -> bool:
        """See `Space.scrub`."""
        return self._wait(self._space.scrub())

    def find(self, **filters: Any) -> Found:
        """See `Space.find`."""
        return self._wait(self._space.find(**filters))

    def stats(self) -> dict[str, int]:
        """See `Space.stats`."""
        return self._wait(self._space.stats())

    def bytes_by_agent(self) -> dict[str, int]:
        """See `Space.bytes_by_agent`."""
        return self._wait(self._space.bytes_by_agent())

    def events(self, cursor: str = "", *, run: str | None = None) -> Iterator[Event]:
        """See `Space.events`; all that are there now."""
        async def all_of_them() -> list[Event]:
            return [event async for event in self._space.events(cursor, run=run)]

        return iter(self._wait(all_of_them()))

    def once(self, function: Callable[..., T] | None = None, **options: Any) -> Any:
        """See `Space.once`; the decorated function is called as a plain one, also where it is async itself.

        What this host has is taken in the caller's own thread.
        """
        if function is None:
            return functools.partial(self.once, **options)
        one = self._space.remembered(function, **options)

        @functools.wraps(function)
        def waited(*args: Any, **kwargs: Any) -> Any:
            call, formed = one.asked(args, kwargs)
            if (found := one.at_hand(call, formed, self._space.context, self._loop)) is not None:
                return found[0]
            return self._wait(one.ask(call, formed, args, kwargs))

        return waited

    def stream(self, call: Call, produce: Callable[[], AsyncIterator[str | bytes]], **options: Any) -> Iterator[str | bytes]:
        """See `Space.stream`; ``produce`` runs on the shared event loop."""
        stream = self._space.stream(call, produce, **options)

        async def piece() -> str | bytes | None:
            return await anext(stream, None)

        try:
            while (found := self._wait(piece())) is not None:
                yield found
        finally:
            self._wait(stream.aclose())

    def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, max_age_s: float | None = None, manners: Manners | None = None,
    ) -> Original:
        """See `memgang.reads.Reads.fetch`; without ``manners``, the usual ones."""
        async def fetched() -> Original:
            return await self._reader(manners).fetch(url, headers=headers, max_age_s=max_age_s)

        return self._wait(fetched())

    def read_file(self, path: str, *, manners: Manners | None = None) -> Original:
        """See `memgang.reads.Reads.read_file`."""
        async def read() -> Original:
            return await self._reader(manners).read_file(path)

        return self._wait(read())

    def _reader(self, manners: Manners | None) -> Reads:
        from memgang.reads import Manners, Reads  # here: it brings the means to fetch, and most code only puts and gets

        key = manners or Manners()
        if key not in self._reads:
            self._reads[key] = Reads(self._space, key)
        return self._reads[key]

    def close(self) -> None:
        """Write what waits and leave. The memory stays. In a forked child there is nothing to leave: the space is its parent's."""
        if self._loop in _of_parent:
            return

        async def left() -> None:
            for reads in self._reads.values():
                await reads.aclose()
            await self._space.aclose()

        self._wait(left())

    def __enter__(self) -> BlockingSpace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(url: str | None = None, space: str | None = None, agent: str | None = None, **settings: Any) -> BlockingSpace:
    """Open a space for code without an event loop; use it with ``with``, or `close` it. Takes and raises what `open` does."""
    opening = open(url, space, agent, **settings)
    loop = _shared_loop()

    async def opened() -> Space:
        found: Space = await opening
        return found

    return BlockingSpace(asyncio.run_coroutine_threadsafe(opened(), loop).result(), loop)
