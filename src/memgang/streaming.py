"""Streams joined in flight: an answer that comes piece by piece is followed by any number of readers on any process.

    reader -> recall of the same call --- leads here ---> produce -> pieces of this process -> readers
                  |                                          └-> batches of 20 ms or 4 KB -> chunks on the server
                  └--- somebody else leads -> woken -> page of chunks -> pieces of this process -> readers

What is under way in this process is one `Feed` for each call: a list of pieces that is shared and only grows, so a
slow reader holds up nobody and costs nothing. Pieces are a preview; what a stream *is*, the recall decides at its
end: a reader that was delivered something else than the beginning of the answer is told so.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Literal

from memgang.codec import encode, ref_of
from memgang.errors import CodecError, ConfigError, MemGangError, StreamRestarted, WorkFailed
from memgang.model import Lead, Ref, current_work
from memgang.recall import Recalled
from memgang.store import chunks
from memgang.store.chunks import Piece
from memgang.store.store import Store

Restart = Literal["error", "marker"]
Produce = Callable[[], AsyncIterator[Piece]]
Compute = Callable[[], Awaitable[Any]]

# A hit needs no chunks, and neither does a leader: whoever has become neither by then begins to follow.
GRACE_S = 0.005
TURN = 64  # pieces after which a producer that never waits lets the readers run


class _Marker(str):
    """An empty text that is told from every other by identity."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "RESTARTED"


RESTARTED = _Marker()  # what ``restart="marker"`` delivers: all pieces before it are void


class Attempt:
    """The pieces of one attempt, as far as this process has them. Only ever grows; shared by all its readers."""

    __slots__ = ("_hashed", "cursor", "fence", "pieces")

    def __init__(self, fence: int, pieces: list[Piece] | None = None) -> None:
        self.fence = fence  # 0: led here without a server; -1: nobody's yet
        self.cursor = 0  # the last entry read from the server; 0: led here
        self.pieces: list[Piece] = pieces if pieces is not None else []
        self._hashed: tuple[int, Ref] | None = None

    def whole(self) -> Piece:
        """All pieces as one."""
        if self.pieces and isinstance(self.pieces[0], bytes):
            return b"".join(self.pieces)  # type: ignore[arg-type]  # of one kind: checked where they come in
        return "".join(self.pieces)  # type: ignore[arg-type]

    def ref(self) -> Ref:
        """The reference of what is there so far."""
        if self._hashed is None or self._hashed[0] != len(self.pieces):
            self._hashed = (len(self.pieces), ref_of(*encode(self.whole())))
        return self._hashed[1]


class Crossing:
    """Whether a new attempt begins with exactly what was delivered of an old one; compared as it comes."""

    def __init__(self, old: list[Piece], delivered: int, new: Attempt) -> None:
        self._old, self._delivered, self.new = old, delivered, new
        self._i = self._in_old = self._j = self._in_new = 0

    def compare(self) -> bool | None:
        """True: all of it is there again. False: it differs. None: not enough has come yet."""
        while self._i < self._delivered:
            if self._j == len(self.new.pieces):
                return None
            old, new = self._old[self._i], self.new.pieces[self._j]
            if type(old) is not type(new):
                return False
            size = min(len(old) - self._in_old, len(new) - self._in_new)
            if old[self._in_old:self._in_old + size] != new[self._in_new:self._in_new + size]:
                return False
            self._in_old, self._in_new = self._in_old + size, self._in_new + size
            if self._in_old == len(old):
                self._i, self._in_old = self._i + 1, 0
            if self._in_new == len(new):
                self._j, self._in_new = self._j + 1, 0
        return True

    def rest(self) -> tuple[int, Piece | None]:
        """After True: the next whole piece of the new attempt, and before it the rest of one that was cut otherwise."""
        if self._in_new:
            return self._j + 1, self.new.pieces[self._j][self._in_new:]
        return self._j, None


class Feed:
    """One call's stream in this process. Lives while it has readers or is led here."""

    def __init__(self, store: Store, call: str, name: str, gone: Callable[[Feed], None]) -> None:
        self._store, self.call, self.name, self._gone = store, call, name, gone
        self.attempt = Attempt(-1)
        self.answer: Attempt | None = None  # the object, where the pieces were not all of it
        self._waiting: list[asyncio.Future[None]] = []
        self._readers = self._led = 0
        self._tail: asyncio.Task[None] | None = None

    # ── readers ───────────────────────────────────────────────────────────────────────────────

    def enter(self) -> None:
        """One more reader."""
        self._readers += 1
        self._settle()

    def leave(self) -> None:
        """One reader less."""
        self._readers -= 1
        self._settle()

    def grown(self, waiter: asyncio.Future[None]) -> None:
        """Resolve the future when the next piece or attempt is there."""
        self._waiting.append(waiter)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _settle(self) -> None:
        """Follow the chunks if somebody reads and nobody leads here; go when there is neither."""
        if self._readers and not self._led:
            if self._tail is None or self._tail.done():
                self._tail = asyncio.create_task(self._follow())
        elif self._tail is not None:
            self._tail.cancel()
            self._tail = None
        if not self._readers and not self._led:
            self._gone(self)

    async def aclose(self) -> None:
        """Stop following."""
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)

    # ── leading ───────────────────────────────────────────────────────────────────────────────

    async def lead(self, produce: Produce) -> Piece:
        """The work of the recall: produce, hand each piece on, and return the whole.

        Raises:
            WorkFailed: somebody newer leads, so the rest is not produced; whoever reads here follows the newer one.
        """
        work = current_work.get()
        lead = work.lead if work is not None else None
        self._led += 1
        self._settle()
        attempt = self.attempt = Attempt(lead.fence if lead is not None else 0)
        self._wake()
        sender = chunks.Sender(self._store.wire, self._store.keys, lead, who=work.context.who) if work and lead is not None else None
        pump = asyncio.create_task(self._pump(produce, attempt, sender))
        try:
            if sender is not None and lead is not None:
                await asyncio.wait({pump, sender.task}, return_when=asyncio.FIRST_COMPLETED)
                if not pump.done() and isinstance(lost := sender.task.result(), chunks.Lost):
                    raise overtaken(lead, lost)
            await pump
            if sender is not None:
                await sender.end()  # lost or cut short by now: the work is done and paid for, and the commit decides
            return attempt.whole()
        finally:
            ending = [pump, *([sender.task] if sender is not None else [])]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            self._led -= 1
            self._settle()

    async def _pump(self, produce: Produce, attempt: Attempt, sender: chunks.Sender | None) -> None:
        source = produce()
        try:
            async for piece in source:
                if type(piece) is not str and type(piece) is not bytes:
                    raise CodecError(f"a stream is made of str or bytes, not of {type(piece).__name__}")
                if attempt.pieces and type(piece) is not type(attempt.pieces[0]):
                    raise CodecError("a stream is made of str or of bytes, not of both")
                if not piece:
                    continue
                attempt.pieces.append(piece)
                if self._waiting:
                    self._wake()
                if sender is not None:
                    sender.add(piece)
                if len(attempt.pieces) % TURN == 0:
                    await asyncio.sleep(0)
            if sender is not None:
                sender.finish()  # here, so that the end goes out with the last pieces
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    # ── following ─────────────────────────────────────────────────────────────────────────────

    async def _follow(self) -> None:
        """Read the chunks of whoever leads, once for all readers of this process."""
        await asyncio.sleep(GRACE_S)
        store, again = self._store, False
        async with store.wakeups.listen(store.keys.flight(self.call), chunks=True) as ear:
            while True:
                known = self.attempt
                fence, after = (known.fence, known.cursor) if known.cursor and not again else (0, 0)
                try:
                    page = await chunks.read(store.wire, store.keys, self.call, fence=fence, after=after)
                except MemGangError:
                    page = None  # the server is away or an entry is damaged: the answer itself is still to come
                if page is not None and self._take(page, continued=fence != 0) and page.more:
                    again = False
                    continue
                again = page is None and fence != 0 and not again  # another attempt's by now: from its beginning
                if not again:
                    await ear.wait(store.settings.poll_ms * random.uniform(0.8, 1.2) / 1000)

    def _take(self, page: chunks.Page, *, continued: bool) -> bool:
        """Add a page to its attempt. False: it holds nothing new."""
        if not continued:
            if page.fence <= self.attempt.fence:  # fences only rise: it is what we know, or older
                return False
            self.attempt = Attempt(page.fence)
        if len({type(piece) for piece in (*self.attempt.pieces[:1], *page.pieces)}) > 1:
            return False  # no leader sends both; the answer itself is still to come
        self.attempt.pieces += page.pieces
        self.attempt.cursor = page.last
        self._wake()
        return True


def overtaken(lead: Lead, lost: chunks.Lost) -> WorkFailed:
    """Transient: the recall asks again, and finds the one who leads now."""
    return WorkFailed(lead.call, "transient", "overtaken", f"fence {lead.fence} was overtaken by {lost.newest}")


class Stream:
    """One reader of a stream: ``async for piece in stream``. Nothing is asked before the first piece is.

    Belongs to the task that iterates it. Leaving early (``break``, `aclose`, cancellation) leaves all other readers
    alone; what happens to work whose last reader has left, the setting ``on_abandon`` says.
    """

    def __init__(self, streams: Streams, key: str, produce: Produce, recall: Callable[[Compute], Awaitable[Recalled]],
                 restart: Restart, name: str) -> None:
        self.key, self._name = key, name
        self.recalled: Recalled | None = None  # at the end: the reference, how it came, and what it costs
        self._streams, self._produce, self._recall, self._restart = streams, produce, recall, restart
        self._waiter: asyncio.Future[None] | None = None
        self._seen = Attempt(-1)
        self._last: Attempt | None = None  # that which was newest when the recall ended
        self._pieces = self._read()

    @property
    def degraded(self) -> bool:
        """The server is away: what comes is computed here, and remembered nowhere."""
        return self.recalled.degraded if self.recalled is not None else self._seen.fence == 0

    def __aiter__(self) -> Stream:
        return self

    def __anext__(self) -> Awaitable[Piece]:
        return self._pieces.__anext__()

    async def aclose(self) -> None:
        """Leave."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[Piece, None]:
        feed = self._streams.feed(self.key, self._name)
        recall = asyncio.ensure_future(self._recall(functools.partial(feed.lead, self._produce)))
        recall.add_done_callback(functools.partial(self._ended, feed))
        feed.enter()
        seen = self._seen = feed.attempt
        at, answer, crossing = 0, None, None
        try:
            while True:
                failed = recall.done() and (recall.cancelled() or recall.exception() is not None)
                newest = (failed and self._last) or answer or feed.attempt
                # What went wrong is told behind all that came: who reads slowly is given no less than who keeps up.
                if answer is None and recall.done() and not (failed and (newest is not seen or at < len(seen.pieces))):
                    newest = answer = await self._answer(feed, seen, recall.result())
                if newest is not seen:
                    # What was delivered is a prefix of one attempt, and another has taken its place: go on in that
                    # one where it begins with the same, never with its middle.
                    if crossing is None or crossing.new is not newest:
                        crossing = Crossing(seen.pieces, at, newest)
                    same = crossing.compare()
                    if same is None and answer is None:
                        if failed:
                            recall.result()  # raises: there is nothing behind what was delivered
                        await self._grown(feed, recall)
                        continue
                    if same:
                        seen = self._seen = newest
                        at, rest = crossing.rest()
                        if rest is not None:
                            yield rest
                    elif self._restart == "marker":
                        seen = self._seen = newest
                        at = 0
                        yield RESTARTED
                    else:
                        raise StreamRestarted(self.key, sum(map(len, seen.pieces[:at])))
                    crossing = None
                elif at < len(seen.pieces):
                    at += 1
                    yield seen.pieces[at - 1]
                elif answer is not None:
                    return
                else:
                    await self._grown(feed, recall)
        finally:
            recall.cancel()
            feed.leave()

    async def _answer(self, feed: Feed, seen: Attempt, recalled: Recalled) -> Attempt:
        """The attempt that became the answer: one whose pieces hash to it, else the object in one piece."""
        self.recalled = recalled
        for attempt in (seen, feed.attempt, feed.answer):
            if attempt is not None and attempt.ref() == recalled.ref:
                if (work := current_work.get()) is not None:
                    work.read[recalled.ref] = recalled.pos
                return attempt
        value = await recalled.value()
        if not isinstance(value, str | bytes):
            raise CodecError(f"the answer of {self.key} is no text and no bytes but {type(value).__name__}: recall it instead")
        feed.answer = Attempt(0, [value] if value else [])
        return feed.answer

    async def _grown(self, feed: Feed, recall: asyncio.Future[Recalled]) -> None:
        if recall.done():
            return
        self._waiter = asyncio.get_running_loop().create_future()
        feed.grown(self._waiter)
        await self._waiter

    def _ended(self, feed: Feed, recall: asyncio.Future[Recalled]) -> None:
        self._last = feed.attempt  # before anybody else begins one
        if not recall.cancelled():
            recall.exception()  # seen: the reader may have left
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Streams:
    """All streams of one Space, by call key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._feeds: dict[str, Feed] = {}

    def open(
        self, key: str, produce: Produce, recall: Callable[[Compute], Awaitable[Recalled]], restart: str, *, anew: bool = False,
    ) -> Stream:
        """A reader of the call with this key. ``recall`` recalls it with the work it is given.

        ``anew``: the recall refuses the answer there is. Its pieces are shown to nobody who would take that answer.

        Raises:
            ConfigError: no such policy.
        """
        if restart not in ("error", "marker"):
            raise ConfigError(f"restart={restart!r} must be one of error, marker")
        return Stream(self, key, produce, recall, restart, f"{key} anew" if anew else key)  # type: ignore[arg-type]  # narrowed above

    def feed(self, key: str, name: str) -> Feed:
        """What of this call is under way in this process, under this name."""
        if name not in self._feeds:
            self._feeds[name] = Feed(self._store, key, name, self._gone)
        return self._feeds[name]

    def _gone(self, feed: Feed) -> None:
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]

    async def aclose(self) -> None:
        """Stop following. Readers that are left are ended by their recalls."""
        await asyncio.gather(*(feed.aclose() for feed in list(self._feeds.values())))
