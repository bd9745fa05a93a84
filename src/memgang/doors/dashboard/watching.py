"""Watching: the one loop with the one Space that all pages and viewers of this process share, and how scripts ask it.

Streamlit runs the script of each page in a thread; whatever needs the space is handed to the loop and waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

import memgang
from memgang.doors.dashboard.live import Live
from memgang.doors.dashboard.passes import Passes
from memgang.errors import StoreUnavailable, UnknownReference
from memgang.flock import tape as tapes
from memgang.flock.fold import Fold
from memgang.flock.tape import Header, Tape
from memgang.model import Ref
from memgang.settings import Settings
from memgang.space import Space

T = TypeVar("T")

OBSERVER = "dashboard"  # who it is to the space
ASK_S = 30.0  # a page does not wait longer for the space
FRESH_S = 1.0  # how old a list of runs may be, at least
SHARE = 20  # and so many times as long as it takes to make: all names of the space are read for it
RUNS_MAX = 200  # in the list: the newest
NO_END = "no end in the log"  # the state of a run that was killed
KEPT = 4  # runs whose records scripts have in decoded form


class Watching:
    """What one dashboard watches. Used from the loop (coroutines) and from threads (`ask`, and what is built on it)."""

    def __init__(self, settings: Settings, *, allow_write: bool = False) -> None:
        self.settings, self.allow_write = settings, allow_write
        self.passes = Passes()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: Live | None = None
        self._opening: asyncio.Lock | None = None
        self._ending = contextlib.AsyncExitStack()
        self._folding = threading.Lock()
        self._taken: dict[str, tuple[str, int, list[dict[str, Any]]]] = {}  # run -> epoch, place after the last, records so far
        self._folds: dict[str, tuple[str, int, Fold]] = {}
        self._listed: tuple[float, list[Header]] = (0.0, [])  # until when it may be used
        self._known: dict[Ref, Header | None] = {}

    # ── on the loop ───────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Watch from now on, on this loop. The space is opened when it is first asked for: the server may be away now."""
        self._loop, self._opening = asyncio.get_running_loop(), asyncio.Lock()
        try:
            yield
        finally:
            await self._ending.aclose()
            self._live, self._loop = None, None

    async def live(self) -> Live:
        """The reader of the log.

        Raises:
            StoreUnavailable: the server is away and was so from the start.
        """
        assert self._opening is not None, "not open"
        async with self._opening:
            if self._live is None:
                # An observer keeps nothing on this host and writes no event of its own: a run does not grow by being watched.
                space = await self._ending.enter_async_context(memgang.open(**given(self.settings)))
                self._live = Live(space)
                self._ending.push_async_callback(self._live.aclose)
            return self._live

    async def space(self) -> Space:
        """The space itself.

        Raises:
            StoreUnavailable: see `live`.
        """
        return (await self.live()).space

    # ── from a script's thread ────────────────────────────────────────────────────────────────

    def ask(self, work: Callable[[Space], Coroutine[Any, Any, T]]) -> T:
        """Do something with the space on the loop, and wait for what comes of it. Reading only: see `Space.look`.

        Raises:
            StoreUnavailable: the server is away, or did not answer in time.
        """
        async def inside() -> T:
            return await work(await self.space())

        return self._wait(inside())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise StoreUnavailable("the dashboard is closing")
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(ASK_S)
        except TimeoutError:
            asked.cancel()
            raise StoreUnavailable(f"the server did not answer within {ASK_S:.0f} s") from None

    def headers(self) -> list[Header]:
        """The newest 200 runs, those under way first; up to a second old, or older where the space has many names."""
        until, found = self._listed
        began = time.monotonic()
        if began >= until:
            found = self.ask(lambda space: tapes.headers(space, RUNS_MAX, self._known))
            now = time.monotonic()
            self._listed = now + max(FRESH_S, SHARE * (now - began)), found
        return found

    def server_ms(self) -> int:
        """The time by the server's clock, as far as it is known."""
        live = self._live
        return int(time.time() * 1000) if live is None else live.space.store.log.server_ms()

    def under_way(self, header: Header) -> bool:
        """Whether a run can be taken to go on. The space always does, and so does a run of which nothing is known but its name."""
        return header.run == tapes.ALL or (not header.started and not header.ended) or tapes.under_way(header, self.server_ms())

    def standing(self, header: Header) -> Header:
        """The header with the state it is in now: one that was killed says nothing of its end."""
        if header.ended or self.under_way(header):
            return header
        return msgspec.structs.replace(header, state=NO_END)

    def tape(self, run: str) -> Tape:
        """The run as far as it has come. Only what is new is read.

        Raises:
            UnknownReference: there is no such run. StoreUnavailable: the server is away.
        """
        return self._tape(run)[0]

    def _tape(self, run: str) -> tuple[Tape, str, int]:
        """With the epoch of its list, and the place after its last record."""
        while True:
            header, epoch, first, start, lines = self._wait(self._lines(run))
            with self._folding:
                before, upto, records = self._taken.get(run, ("", 0, []))
                if before != epoch or upto < first:
                    upto, records = first, []
                if upto < start:  # another script has let them go meanwhile
                    continue
                records += [msgspec.json.decode(text) for text in lines[upto - start:]]
                upto = max(upto, start + len(lines))
                del records[:max(0, len(records) - (upto - first))]  # what the list has let go of
                self._taken.pop(run, None)
                self._taken[run] = epoch, upto, records
                while len(self._taken) > KEPT:
                    self._taken.pop(next(iter(self._taken)))
                return Tape(header, list(records)), epoch, upto

    async def _lines(self, run: str) -> tuple[Header, str, int, int, list[str]]:
        """Header, epoch, first place of the list, and the lines that scripts have not had yet, with the place of the first of them."""
        live = await self.live()
        async with live.watching(run) as reel:
            while not reel.whole:
                news = reel.news
                if live.away:
                    raise StoreUnavailable(live.away)
                await news.wait()
            if not reel.known and not reel.lines and run != tapes.ALL:
                raise UnknownReference(run, "there is no such run")
            epoch, upto, _ = self._taken.get(run, ("", 0, []))
            start = upto if epoch == reel.epoch and reel.first <= upto <= reel.upto else reel.first
            return reel.header, reel.epoch, reel.first, start, reel.lines[start - reel.first:]

    def fold(self, run: str, t: int | None = None) -> Fold:
        """What the run had come to at ``t`` (ms since it began; None: by now). Not to be changed: others are given the same."""
        tape, epoch, upto = self._tape(run)
        before, count, fold = self._folds.get(run, ("", -1, Fold()))
        if t is None and (before, count) == (epoch, upto):
            return fold
        fold = Fold()
        for words in tape.records:
            if t is None or words["t"] <= t:
                fold.apply(words)
        if t is None:
            self._folds[run] = epoch, upto, fold
            while len(self._folds) > KEPT:
                self._folds.pop(next(iter(self._folds)), None)
        return fold


def given(settings: Settings) -> dict[str, Any]:
    """How a dashboard opens its space."""
    return {"url": settings.url, "space": settings.space, "agent": OBSERVER, "host_tier": "off"}


_current: Watching | None = None


def watch(watching: Watching | None) -> None:
    """Make this what the scripts of this process watch."""
    global _current
    _current = watching


def current() -> Watching:
    """What the scripts of this process watch."""
    assert _current is not None, "the app is started by `memgang dashboard`"
    return _current
