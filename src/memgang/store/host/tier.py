"""Bodies and finished answers of one space, read in microseconds by all processes of a host.

What was asked of the server is kept only if nothing was taken out meanwhile:

    A: asks the server for x                       B: forgets x at the server
    A: has x                                       B: takes x out here, leaves a mark with the time
    A: keeps x  <- the mark is younger than A's question: it is not kept

Writers take a lock of ours first, and never wait for it: LMDB's own has no time limit, and a process that is
stopped inside a write would stop all others. Who cannot have it does not keep, which costs a question later. Who
must take something out and cannot, forbids all reading instead (`Flags.poisoned`) until everything has been.
"""

from __future__ import annotations

import asyncio
import fcntl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from memgang.errors import StoreUnavailable
from memgang.model import Answered
from memgang.store.host import entries
from memgang.store.host.entries import Entries, Kept, Remembered, answer_key, body_key
from memgang.store.host.flags import Flags
from memgang.store.house import close_lock, open_lock

BODY_MAX = 1 << 20
FRESH_S = 1.0  # how old the last look at the log may be
TAKE_S = 0.05  # how long who must take something out tries to
COME_S = 1.0  # how long who comes tries to: once, and never again for as long as it lives
KEEP_S = 0.001  # what is kept is written within this
KEEP_MOST = 64  # or when so many entries wait
LATE_S = 1.0  # a loop that is later than this may have ended: another, of another thread, writes
MARK_S = 120.0  # a mark is kept longer than any question is under way


class Place(NamedTuple):
    """How far a log was read: the last seq (None: it never was), and a digest of the line that stood there (nothing: not known)."""

    seq: int | None
    line: bytes


class Tier:
    """One tier, for all spaces of its name in this process. Safe to be read from any thread."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.flags = Flags(folder / "flags")
        self._lock = open_lock(folder / "write")
        try:
            self.entries = Entries(folder / "tier", size)
        except BaseException:
            self.flags.close()
            close_lock(self._lock)
            raise
        try:
            if not self._may_write(COME_S):
                raise StoreUnavailable(f"{folder} cannot be written to: a process is stopped while it writes")
            self.entries.open_parts()
            self._written()
        except BaseException:
            self.entries.env.close()
            self.flags.close()
            close_lock(self._lock)
            raise
        self._waiting: dict[bytes, tuple[float, Any]] = {}  # to be written: since when it is so, and what; known by its identity
        self._turn = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self.off = False  # closed, or another process's

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    @property
    def readable(self) -> bool:
        """Whether what is here is known to be true."""
        return not self.off and self.flags.good(time.monotonic(), FRESH_S)

    def body(self, ident: str, now_ms: int, *, asked: bool = False) -> Kept | None:
        """The body with this id, if it is here and has not expired by the server's clock (``now_ms``); of a large one, where it is.

        ``asked``: the server has just said that it is there, so it does not matter whether that is known here.
        """
        if self.off or not (asked or self.readable):
            return None
        key = body_key(ident)
        try:
            reading = self.entries.env.begin()
            try:
                waiting = self._waiting.get(key)
                found = reading.get(key, db=self.entries.bodies) if waiting is None else self._still(reading, key, *waiting)
            finally:
                reading.abort()
        except lmdb.Error:  # more readers than there is room for, or it is being closed: the server has it too
            return None
        return None if found is None else entries.kept(bytes(found), now_ms)

    def bodies(self, idents: Sequence[str], now_ms: int) -> list[Kept | None]:
        """`body` of many, by one look at the tier."""
        if not self.readable:
            return [None] * len(idents)
        out: list[Kept | None] = []
        place, waits = self.entries.bodies, self._waiting
        try:
            with self.entries.env.begin() as reading:
                for ident in idents:
                    key = body_key(ident)
                    waiting = waits.get(key)
                    found = reading.get(key, db=place) if waiting is None else self._still(reading, key, *waiting)
                    out.append(None if found is None else entries.kept(bytes(found), now_ms))
        except lmdb.Error:
            out += [None] * (len(idents) - len(out))
        return out

    def holds(self, ident: str) -> bool:
        """Whether the body is here. Its time may be over."""
        key = body_key(ident)
        if key in self._waiting:
            return True
        try:
            with self.entries.env.begin() as reading:
                return self.entries.raw(reading, key) is not None
        except lmdb.Error:
            return False

    def answer(self, call: str, now_ms: int) -> Answered | None:
        """The answer to the call with this key, as `body`."""
        if not self.readable:
            return None
        try:
            with self.entries.env.begin() as reading:
                found = self._answer(reading, answer_key(call))
        except lmdb.Error:
            return None
        return None if found is None else found.answered(now_ms)

    def recalled(self, call: str, now_ms: int) -> tuple[Answered, Kept] | None:
        """The answer to the call and the body it points at, if both are here, by one look."""
        if not self.readable:
            return None
        try:
            reading = self.entries.env.begin()
            try:
                if (held := self._answer(reading, answer_key(call))) is None or (answer := held.answered(now_ms)) is None:
                    return None
                key = body_key(held.ref)
                waiting = self._waiting.get(key)
                found = reading.get(key, db=self.entries.bodies) if waiting is None else self._still(reading, key, *waiting)
            finally:
                reading.abort()  # sooner than `with`: nothing is to be committed
        except lmdb.Error:
            return None
        kept = None if found is None else entries.kept(bytes(found), now_ms)
        return None if kept is None else (answer, kept)

    def _answer(self, reading: lmdb.Transaction, key: bytes) -> Remembered | None:
        waiting = self._waiting.get(key)
        found = self.entries.remembered(reading, key)
        if waiting is not None and (late := self._still(reading, key, *waiting)) is not None:
            found = late if found is None or late.fence >= found.fence else found
        return found

    def _still(self, reading: lmdb.Transaction, key: bytes, since: float, value: Any) -> Any:
        """What waits to be written, unless it, or all there was, was taken out here after it was asked for."""
        try:
            # All: the marks went too, by which anything forgotten meanwhile would be known.
            return value if since > self.flags.cleared and self._may_keep(reading, key, since, value) else None
        except ValueError:  # closed by another thread
            return None

    def _may_keep(self, txn: lmdb.Transaction, key: bytes, since: float, value: bytearray | Remembered) -> bool:
        if (mark := self.entries.mark(txn, key)) is None:
            return True
        return since > mark.at and (not isinstance(value, Remembered) or value.fence >= mark.fence)

    # ── keeping ───────────────────────────────────────────────────────────────────────────────

    def keep_body(
        self, ident: str, media_type: str, body: bytes, meta: bytes, expires: int, now_ms: int, since: float, *, filed: bool = False,
    ) -> None:
        """Keep what the server was asked for, or given, at ``since`` (monotonic seconds). ``filed``: see `Kept`."""
        if len(body) <= BODY_MAX and self._takes(since):
            self._waiting[body_key(ident)] = since, entries.packed_body(Kept(media_type, body, meta, filed), expires, now_ms)
            if filed:
                self.write_out()  # who does not find its stamp has all of it to hash, which takes longer than any transaction
            else:
                self._schedule()

    def keep_answer(self, call: str, answer: Answered, now_ms: int, since: float) -> None:
        """The same for the answer of a call."""
        key = answer_key(call)
        if not self._takes(since) or ((waiting := self._waiting.get(key)) is not None and waiting[1].fence > answer.fence):
            return
        self._waiting[key] = since, Remembered(
            0, entries.span_of(answer.expires, now_ms), answer.ref.id, answer.fence, answer.expires, answer.validator,
            answer.usage, answer.by)
        self._schedule()

    def _takes(self, since: float) -> bool:
        """Whether anything from then is kept. Older than marks are: what was forgotten since left none that could be found."""
        return not self.off and not self.flags.poisoned and time.monotonic() - since <= MARK_S / 2

    def _schedule(self) -> None:
        # Not at once: a transaction costs as much as a round trip, and most of it once for all that is in it. Who reads in
        # this process finds what waits; who is quicker than that in another asks the server.
        if self._timer is None or time.monotonic() > self._timer.when() + LATE_S:
            self._timer = asyncio.get_running_loop().call_later(KEEP_S, self.write_out)
        elif len(self._waiting) == KEEP_MOST:
            self._timer.cancel()
            loop = asyncio.get_running_loop()
            # In the turn after the next: in the next, whoever keeps it sends what it has to ask of the server, which then
            # has work while we write.
            self._timer = loop.call_later(0.0, loop.call_soon, self.write_out)

    def write_out(self) -> None:
        """Write what waits. By the event loop alone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._turn.acquire(blocking=False):  # somebody takes something out, and may have to wait: not with us
            self._waiting.clear()
            return
        try:
            # Not taken out of the way before they are written: a reader of this process finds them here or there.
            waiting = list(self._waiting.items())
            if not waiting or self.off:
                return
            if self._may_write(0.0):
                try:
                    with self.entries.env.begin(write=True) as writing:
                        self._write(writing, waiting)
                except lmdb.Error:
                    pass  # no room in the file system, or in the map: it is asked for again
                finally:
                    self._written()
            for key, entry in waiting:
                if self._waiting.get(key) is entry:
                    del self._waiting[key]
        finally:
            self._turn.release()

    def _write(self, writing: lmdb.Transaction, waiting: list[tuple[bytes, tuple[float, Any]]]) -> None:
        if self.flags.poisoned:
            return
        age, used = self.entries.number(writing, b"age"), self.entries.number(writing, b"used")
        # Who clears the tier from now on waits for us, and takes this out as well.
        oldest, marked = max(self.flags.cleared, time.monotonic() - MARK_S / 2), self.entries.marked(writing)
        for key, entry in waiting:
            since, value = entry
            if (self._waiting.get(key) is not entry  # taken out meanwhile
                    or since <= oldest or (marked and not self._may_keep(writing, key, since, value))):
                continue
            if isinstance(value, Remembered) and (old := self.entries.remembered(writing, key)) is not None and old.fence > value.fence:
                continue
            age += 1
            used += self.entries.put(writing, age, key, value)
        self.entries.set_number(writing, b"age", age)
        self.entries.set_number(writing, b"used", used)
        self.entries.make_room(writing)

    # ── taking out ────────────────────────────────────────────────────────────────────────────

    def take_out(
        self, bodies: Iterable[str] = (), answers: Iterable[str] = (), *, overtaken: Mapping[str, int] | None = None,
        replaced: Mapping[str, int] | None = None, cursors: Mapping[str, int] | None = None,
        lasts: Mapping[str, bytes] | None = None,
    ) -> None:
        """Take out bodies and answers now, and let nobody keep what was asked for before.

        ``overtaken``: of these calls, answers with a smaller fence; ``replaced``: with another one. ``cursors``: how far the
        log was read when this was known; ``lasts``: what stood there (a digest).
        """
        if self.off:
            return
        keys = [*map(body_key, bodies), *map(answer_key, answers)]
        with self._turn:
            for key in keys:
                self._waiting.pop(key, None)
            for call, fence in (overtaken or {}).items():
                if (entry := self._waiting.get(answer_key(call))) is not None and entry[1].fence < fence:
                    del self._waiting[answer_key(call)]
            # Nobody waits again for a writer that is known to be stopped.
            if not self._may_write(0.0 if self.flags.poisoned else TAKE_S):
                self.flags.poisoned = time.monotonic()
                return
            try:
                with self.entries.env.begin(write=True) as writing:
                    for key in keys:
                        self.entries.remove(writing, key)
                        self.entries.set_mark(writing, key, time.monotonic(), 0)
                    for call, fence in (overtaken or {}).items():
                        self._overtake(writing, answer_key(call), fence)
                    for call, fence in (replaced or {}).items():
                        self._remove_below(writing, answer_key(call), fence)
                    for log, seq in (cursors or {}).items():
                        self.entries.set_number(writing, log.encode(), seq)
                    for log, last in (lasts or {}).items():
                        self.entries.set_text(writing, b"last " + log.encode(), last)
            except lmdb.Error:
                self.flags.poisoned = time.monotonic()
            finally:
                self._written()

    def overtake(self, call: str, fence: int) -> None:
        """A claim of this host: an older answer is not to be had here any more. Most calls have none, which costs a look."""
        if self.off:
            return
        key = answer_key(call)
        try:
            with self.entries.env.begin() as reading:
                if self.entries.remembered(reading, key) is None and key not in self._waiting:
                    return
        except lmdb.Error:
            pass  # it may be there
        self.take_out(overtaken={call: fence})

    def _overtake(self, writing: lmdb.Transaction, key: bytes, fence: int) -> None:
        if self._remove_below(writing, key, fence):
            mark = self.entries.mark(writing, key)
            self.entries.set_mark(writing, key, mark.at if mark else 0.0, max(mark.fence if mark else 0, fence))

    def _remove_below(self, writing: lmdb.Transaction, key: bytes, fence: int) -> bool:
        """Remove an answer with a smaller fence. False: there is one with this or a greater."""
        if (held := self.entries.remembered(writing, key)) is not None and held.fence >= fence:
            return False
        self.entries.remove(writing, key)
        return True

    def clear(self, cursors: Mapping[str, int], server: bytes = b"") -> bool:
        """Everything goes, and nobody keeps what was asked for before now. False: another process is writing.

        ``server`` is the id of the server's data, of which the tier is from now on.
        """
        if self.off:
            return False
        with self._turn:
            self._waiting.clear()
            self.flags.cleared = time.monotonic()
            if not self._may_write(TAKE_S):
                self.flags.poisoned = time.monotonic()
                return False
            was = self.flags.poisoned
            try:
                with self.entries.env.begin(write=True) as writing:
                    self.entries.clear(writing)
                    for log, seq in cursors.items():
                        self.entries.set_number(writing, log.encode(), seq)
                    self.entries.set_text(writing, b"server", server)
                if self.flags.poisoned == was:  # else somebody could not take something out meanwhile
                    self.flags.poisoned = 0.0
                return True
            except lmdb.Error:
                self.flags.poisoned = time.monotonic()
                return False
            finally:
                self._written()

    def tidy(self) -> None:
        """Let go of what killed readers held, and of marks so old that no question from before them is under way any more."""
        with self._turn:
            if self.off or not self._may_write(0.0):
                return
            try:
                self.entries.env.reader_check()
                with self.entries.env.begin(write=True) as writing:
                    self.entries.forget_marks(writing, time.monotonic() - MARK_S)
            except lmdb.Error:
                pass  # the next time
            finally:
                self._written()

    # ── how far the log was read ──────────────────────────────────────────────────────────────

    def places(self, logs: Iterable[str]) -> tuple[dict[str, Place], bytes]:
        """How far each log was read when the tier was last mended, and the id of the data of which this is the tier.

        By one look: another process may mend it at any moment, and its line of another place would pass for a lost log.
        """
        with self.entries.env.begin() as reading:
            found = {}
            for log in logs:
                seq = self.entries.number(reading, log.encode(), -1)
                found[log] = Place(None if seq < 0 else seq, self.entries.text(reading, b"last " + log.encode()))
            return found, self.entries.text(reading, b"server")

    # ── whose turn it is ──────────────────────────────────────────────────────────────────────

    def _may_write(self, patience_s: float) -> bool:
        ends = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() >= ends:
                    return False
                time.sleep(0.0005)

    def _written(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go. Whoever reads from now on finds nothing."""
        with self._turn:
            if not self.off:
                self.off = True
                self._waiting.clear()
                self.entries.env.close()
                self.flags.close()
                close_lock(self._lock)

    def abandon(self) -> None:
        """In a child of fork: all of it is the parent's, and is not touched."""
        self.off = True
