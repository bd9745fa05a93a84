"""Live: one reader of the log for all who watch, and for each watched run one list of encoded records.

    the log --one reading, from its cursor on--> Reel (of a run) <-- viewers, each with a place of its own

A viewer is a number: how many records of the list it has been sent. There is no queue for each, so who is slow lags behind and
costs nothing. The number means something in that one list only: lines are in the order in which they came, and whoever reads the log
again has another order. So each list has a name of its own, the epoch. A server that goes away and comes back is read from the cursor
on; what a reading gives twice is known by its ids. Runs nobody watches are let go after a while, and the log is not read while nobody
watches at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import AsyncIterator

import msgspec

from memgang.errors import MemGangError
from memgang.flock.records import record
from memgang.flock.tape import ALL, Header, completed, header_of
from memgang.model import Event
from memgang.space import Space
from memgang.store import log as logs

ALL_MAX = 50_000  # records of the whole space that are kept: the newest; of a single run all are
LINGER_S = 60.0  # how long the records of a run stay when nobody watches it any more
AGAIN_S = (0.5, 8.0)  # how soon a server that is away is asked again: first, and at most
LOOK_S = 1.0  # how often it is asked whether it still has what was read

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class Reel:
    """One run as it is sent: its header, and its records as JSON, in the order in which they were read."""

    def __init__(self, header: Header, known: bool, epoch: str) -> None:
        self.edition = 0  # of the header
        self.viewers = 0
        self._most = ALL_MAX if header.run == ALL else 0
        self._news = asyncio.Event()
        self.begin(header, known, epoch)

    def begin(self, header: Header, known: bool, epoch: str) -> None:
        """An empty list, with a name that no list has had before."""
        self.header, self.known, self.epoch = header, known, epoch  # known: the run has a record
        self.lines: list[str] = []
        self.first = 0  # the place of the first line: how many were let go of
        self.whole = False  # all there was has been read
        self._ids: dict[str, None] = {}  # of the lines, in their order
        self._past: dict[str, tuple[int, ...]] = {}  # log and shard -> the place in it of the last line that was let go of

    @property
    def upto(self) -> int:
        """The place after the last line."""
        return self.first + len(self.lines)

    @property
    def news(self) -> asyncio.Event:
        """Set at the next change. To be taken before looking at what there is, so that no change is missed in between."""
        return self._news

    def changed(self) -> None:
        """Wake whoever waits."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def take(self, event: Event) -> None:
        """Add an event, if it is new."""
        if event.id in self._ids or (self._past and self._was_let_go(event.id)):
            return
        self._ids[event.id] = None
        if not self.header.began or event.raw in ("run_start", "run_end") or (event.model and not self.header.model):
            header = completed(self.header, [event])
            if header != self.header:
                self.header, self.edition = header, self.edition + 1
        self.lines.append(_encode(record(event, self.header.began)).decode())
        if self._most and len(self.lines) >= self._most + self._most // 10:  # many at a time: to take one off the front costs as much
            self._let_go(len(self.lines) - self._most)

    def _let_go(self, count: int) -> None:
        for ident in list(itertools.islice(self._ids, count)):
            log, place = _place(ident)
            self._past[log] = place
            del self._ids[ident]
        del self.lines[:count]
        self.first += count

    def _was_let_go(self, ident: str) -> bool:
        """Whether this line was there before: a reading that goes back gives it again. Each log is read in the order of its places."""
        log, place = _place(ident)
        return place <= self._past.get(log, ())


def _place(ident: str) -> tuple[str, tuple[int, ...]]:
    """An event's log and shard, and its place there."""
    log, *place = ident.split("-")
    return log, tuple(map(int, place))


class Live:
    """The reels of one space. Lives on one event loop, from `open` to `aclose`."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.away = ""  # why the server cannot be read; '': it can
        self._reels: dict[str, Reel] = {}
        self._process, self._generation, self._lists = secrets.token_hex(4), 0, 0
        self._opening = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._forget()

    def _epoch(self) -> str:
        """A name for a list: this process, how often the log was lost, and which of its lists it is. A place in another list means
        nothing; ids mean something else only where the log was lost."""
        self._lists += 1
        return f"{self._process}-{self._generation}-{self._lists}"

    def _forget(self) -> None:
        self._cursor, self._reading, self._caught_up = "", logs.Reading(), False
        self._began: dict[str, str] = {}  # run -> a cursor before its first event

    @contextlib.asynccontextmanager
    async def watching(self, run: str) -> AsyncIterator[Reel]:
        """The run's reel, which is kept up to date meanwhile.

        Raises:
            StoreUnavailable: the server is away, and it is not known yet.
        """
        async with self._opening:  # who asks for the same run at the same time gets the same reel
            reel = self._reels.get(run)
            if reel is None:
                header = None if run == ALL else await header_of(self.space, run)
                reel = self._reels[run] = Reel(header or Header(run, self.space.name), header is not None, self._epoch())
                self._seek(run, reel)
            reel.viewers += 1
        if (timer := self._leaving.pop(run, None)) is not None:
            timer.cancel()
        if self._reader is None or self._reader.done():
            self._start()
        try:
            yield reel
        finally:
            reel.viewers -= 1
            if not reel.viewers:
                self._leaving[run] = asyncio.get_running_loop().call_later(LINGER_S, self._let_go, run)

    def _seek(self, run: str, reel: Reel) -> None:
        """Have the reader go back to where the run began, if it is past that."""
        start = "" if run == ALL else self._began.get(run)
        if not self._cursor:  # it will read everything anyway
            return
        if start is None:  # nothing of it has come so far
            reel.whole = self._caught_up
            return
        self._cursor, self._reading = logs.earlier(self._cursor, start), self._reading.again()
        self._start()

    def _let_go(self, run: str) -> None:
        self._leaving.pop(run, None)
        if (reel := self._reels.get(run)) is not None and not reel.viewers:
            del self._reels[run]
        if not self._reels and self._reader is not None:
            self._reader.cancel()
            self._reader, self._caught_up = None, False

    # ── the one reader ────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        # A page is taken without waiting for anything, so a reader that is cancelled has taken it or has not.
        if self._reader is not None:
            self._reader.cancel()
        self._caught_up = False
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        wait = AGAIN_S[0]
        while True:
            try:
                while await self.space.has_lost_events(self._cursor, self._reading):
                    await self._anew()
                self._told("")
                looking = asyncio.create_task(self._look())  # only from here on: it must not break off what begins anew
                try:
                    async with contextlib.aclosing(self.space.event_pages(self._cursor, self._reading)) as pages:
                        async for page in pages:
                            self._take(page)
                            wait = AGAIN_S[0]
                finally:
                    looking.cancel()
            except MemGangError as error:
                self._told(str(error))
            except Exception:  # a fault of ours must not leave every page with a picture that stands still
                _log.exception("the log could not be followed")
                self._told("the log cannot be read; the dashboard's own output says why")
            await asyncio.sleep(wait)
            wait = min(wait * 2, AGAIN_S[1])

    async def _look(self) -> None:
        """Begin anew when the log was lost: one that comes back empty within the patience of a call is never seen to be away."""
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(MemGangError):  # whoever reads meets it too, and tells
                if await self.space.has_lost_events(self._cursor, self._reading):
                    self._start()

    def _take(self, page: logs.Page) -> None:
        everything = self._reels.get(ALL)
        touched: set[str] = set()
        for event in page.events:
            if event.run and event.run not in self._began:
                self._began[event.run] = self._cursor
            if everything is not None:
                everything.take(event)
                touched.add(ALL)
            if (reel := self._reels.get(event.run)) is not None:
                reel.take(event)
                touched.add(event.run)
        self._cursor, self._caught_up = page.cursor, self._caught_up or page.whole
        for run, reel in self._reels.items():
            if page.whole and not reel.whole:
                reel.whole = True
                touched.add(run)
            if run in touched:
                reel.changed()

    async def _anew(self) -> None:
        """The server came back with an older log: what is gone is gone, and what comes may bear the same ids."""
        async with self._opening:  # no list is begun from the old log meanwhile
            headers = {run: None if run == ALL else await header_of(self.space, run) for run in list(self._reels)}
            # From here on nothing is waited for: the server may go away again, and then all lists are the old ones or all are new.
            self._forget()
            self._generation += 1
            for run, reel in self._reels.items():
                header = headers.get(run)
                reel.begin(header or Header(run, self.space.name), header is not None, self._epoch())
                reel.edition += 1

    def _told(self, why: str) -> None:
        if why != self.away:
            self.away = why
            for reel in self._reels.values():
                reel.changed()

    async def aclose(self) -> None:
        """Stop reading."""
        for timer in self._leaving.values():
            timer.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
