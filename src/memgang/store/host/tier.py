"""Bodies and finished answers of one space, in an LMDB environment in shared memory (`lmdb`, 1-4 us a read).

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
import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from memgang.errors import StoreUnavailable
from memgang.model import Answered, Ref, Usage
from memgang.store.host.flags import Flags
from memgang.store.house import allocate, close_lock, open_lock

BODY_MAX = 1 << 20
TABLE_BYTES = 128 << 10  # of the readers' table: 64 for each of about 2,000
FRESH_S = 1.0  # how old the last look at the log may be
TAKE_S = 0.05  # how long who must take something out tries to
MARK_S = 120.0  # a mark is kept longer than any question is under way
HIGH, LOW = 0.60, 0.45  # of the map: LMDB needs room to copy pages while it writes
_HEAD = struct.Struct("=QqqHH")  # age, expires (ms of the server; 0: never), span (ms from then to its end), length of type, of meta
_AGE = struct.Struct(">Q")
_MARK = struct.Struct("=dQd")  # when it was taken out; the fence below which an answer is not kept; when this was written


class Kept(NamedTuple):
    """A body as it is kept."""

    media_type: str
    body: bytes
    meta: bytes

    @property
    def place(self) -> float | None:
        """Where it stands in its document, if its writer has said so. Not part of what is hashed: damaged, it is not known."""
        if b'"pos"' not in self.meta:
            return None
        try:
            return msgspec.json.decode(self.meta, type=_Place).pos
        except msgspec.MsgspecError:
            return None


class _Place(msgspec.Struct):
    pos: float | None = None


class _Answer(msgspec.Struct, array_like=True):
    age: int
    span: int
    ref: str
    fence: int
    expires: int
    validator: bytes
    usage: Usage
    by: str


_answer_out = msgspec.msgpack.Encoder().encode
_answer_in = msgspec.msgpack.Decoder(_Answer).decode


class Tier:
    """One environment, for all spaces of this name in this process. Safe to be read from any thread."""

    def __init__(self, folder: Path, size: int) -> None:
        self._size = size
        self.flags = Flags(folder / "flags")
        self._lock = open_lock(folder / "write")
        self.folder = folder
        (folder / "tier").mkdir(mode=0o700, exist_ok=True)
        _make_table(folder / "tier" / "lock.mdb")
        # Neither synchronised (a reboot takes it anyway) nor written through the map (a full file system is then an error,
        # where it would be a SIGBUS).
        self._env = lmdb.open(str(folder / "tier"), map_size=size, max_dbs=8, sync=False, metasync=False,
                              writemap=False, mode=0o600)
        try:
            # Opening a part writes: not without our lock, for LMDB's own has no time limit.
            if not self._may_write(TAKE_S):
                raise StoreUnavailable(f"{folder} cannot be written to: a process is stopped while it writes")
            self._bodies, self._answers, self._marks, self._ages, self._facts = (
                self._env.open_db(name) for name in (b"body", b"answer", b"mark", b"age", b"fact"))
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        except BaseException:
            self._env.close()
            self.flags.close()
            close_lock(self._lock)
            raise
        self._waiting: dict[bytes, tuple[float, Any]] = {}
        self._turn = threading.Lock()
        self._scheduled = False
        self.off = False  # closed, or another process's

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    @property
    def readable(self) -> bool:
        """Whether what is here is known to be true."""
        return not self.off and self.flags.good(time.monotonic(), FRESH_S)

    def body(self, ident: str, now_ms: int) -> Kept | None:
        """The body with this id, if it is here and has not expired by the server's clock (``now_ms``)."""
        if not self.readable:
            return None
        key = ident.encode()
        try:
            with self._env.begin(db=self._bodies) as reading:
                waiting = self._waiting.get(key)
                found = reading.get(key) if waiting is None else self._still(reading, key, *waiting)
        except lmdb.Error:  # more readers than there is room for, or it is being closed: the server has it too
            return None
        if found is None:
            return None
        _, expires, span, kind, meta = _HEAD.unpack_from(found)
        if expires and not 0 < expires - now_ms <= span + 1000:  # past it; or the server's clock has stepped back
            return None
        at = _HEAD.size
        return Kept(found[at:at + kind].decode(), found[at + kind + meta:], found[at + kind:at + kind + meta])

    def _still(self, reading: lmdb.Transaction, key: bytes, since: float, value: Any) -> Any:
        """What waits to be written, unless it was taken out here after it was asked for."""
        if (mark := reading.get(key, db=self._marks)) is None:
            return value
        at, fence, _ = _MARK.unpack(mark)
        return value if since > at and (not isinstance(value, _Answer) or value.fence >= fence) else None

    def holds(self, ident: str) -> bool:
        """Whether the body is here. Its time may be over."""
        if ident.encode() in self._waiting:
            return True
        try:
            with self._env.begin(db=self._bodies) as reading:
                return reading.get(ident.encode()) is not None
        except lmdb.Error:
            return False

    def answer(self, call: str, now_ms: int) -> Answered | None:
        """The answer to the call with this key, as `body`."""
        if not self.readable:
            return None
        key = b"=" + call.encode()
        try:
            with self._env.begin(db=self._answers) as reading:
                waiting = self._waiting.get(key)
                raw = reading.get(key)
                found = _answer_in(raw) if raw is not None else None
                if waiting is not None and (late := self._still(reading, key, *waiting)) is not None:
                    found = late if found is None or late.fence >= found.fence else found
        except lmdb.Error:
            return None
        if found is None:
            return None
        if found.expires and not 0 < found.expires - now_ms <= found.span + 1000:
            return None
        return Answered(Ref("mg:" + found.ref), found.fence, found.expires, found.validator, found.usage, found.by)

    # ── keeping ───────────────────────────────────────────────────────────────────────────────

    def keep_body(self, ident: str, media_type: str, body: bytes, meta: bytes, expires: int, now_ms: int, since: float) -> None:
        """Keep what the server was asked for, or given, at ``since`` (monotonic seconds)."""
        if self.off or len(body) > BODY_MAX or self.flags.poisoned or time.monotonic() - since > MARK_S / 2:
            return
        kind = media_type.encode()
        head = _HEAD.pack(0, expires, max(expires - now_ms, 0) if expires else 0, len(kind), len(meta))
        self._waiting[ident.encode()] = since, b"".join((head, kind, meta, body))
        self._schedule()

    def keep_answer(self, call: str, answer: Answered, now_ms: int, since: float) -> None:
        """The same for the answer of a call."""
        if self.off or self.flags.poisoned or time.monotonic() - since > MARK_S / 2:
            return
        key, span = b"=" + call.encode(), max(answer.expires - now_ms, 0) if answer.expires else 0
        if (waiting := self._waiting.get(key)) is not None and waiting[1].fence > answer.fence:
            return
        self._waiting[key] = since, _Answer(
            0, span, answer.ref.id, answer.fence, answer.expires, answer.validator, answer.usage, answer.by)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            # With whatever else is kept in this turn of the loop: one transaction costs as much as ten entries.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write_out)

    def _write_out(self) -> None:
        self._scheduled = False
        if not self._turn.acquire(blocking=False):  # somebody takes something out, and may have to wait: not with us
            self._waiting.clear()
            return
        try:
            # Not taken out of the way before they are written: a reader of this process finds them here or there.
            waiting = list(self._waiting.items())  # each entry is known by its identity
            if not waiting or self.off:
                return
            if self._may_write(0.0):
                try:
                    with self._env.begin(write=True) as writing:
                        age, used = self._fact(writing, b"age"), self._fact(writing, b"used")
                        for key, entry in waiting:
                            if self._waiting.get(key) is entry:  # else: taken out meanwhile
                                age += 1
                                used += self._put(writing, age, key, *entry)
                        self._set_fact(writing, b"age", age)
                        self._set_fact(writing, b"used", used)
                        self._make_room(writing)
                except lmdb.Error:
                    pass  # no room in the file system, or in the map: it is asked for again
                finally:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
            for key, entry in waiting:
                if self._waiting.get(key) is entry:
                    del self._waiting[key]
        finally:
            self._turn.release()

    def _put(self, writing: lmdb.Transaction, age: int, key: bytes, since: float, value: Any) -> int:
        """Write one entry, unless something is known against it; how many bytes more there are."""
        # Older than marks are kept: what was forgotten since left none that could still be found.
        if since <= self.flags.cleared or time.monotonic() - since > MARK_S / 2:
            return 0
        answer = isinstance(value, _Answer)
        if (mark := writing.get(key, db=self._marks)) is not None:
            at, fence, _ = _MARK.unpack(mark)
            if since <= at or (answer and value.fence < fence):
                return 0
        place, less = self._answers if answer else self._bodies, 0
        if (old := writing.get(key, db=place)) is not None:
            if answer and _answer_in(old).fence > value.fence:
                return 0
            less = self._forget_age(writing, old, answer)
        if answer:
            value.age = age
            raw = _answer_out(value)
        else:
            raw = _AGE_NATIVE.pack(age) + value[8:]
        writing.put(key, raw, db=place)
        writing.put(_AGE.pack(age), key, db=self._ages)
        return _cost(raw) - less

    def _forget_age(self, writing: lmdb.Transaction, raw: bytes | memoryview, answer: bool) -> int:
        age = _answer_in(raw).age if answer else _AGE_NATIVE.unpack_from(raw)[0]
        writing.delete(_AGE.pack(age), db=self._ages)
        return _cost(raw)

    def _make_room(self, writing: lmdb.Transaction) -> None:
        """Above the high water the oldest go, down to the low one."""
        used = self._fact(writing, b"used")
        if used <= self._size * HIGH:
            return
        with writing.cursor(db=self._ages) as oldest:
            more = oldest.first()
            while more and oldest.key() and used > self._size * LOW:
                key = oldest.value()
                place = self._answers if key[:1] == b"=" else self._bodies
                if (raw := writing.get(key, db=place)) is not None:
                    used -= _cost(raw)
                    writing.delete(key, db=place)
                more = oldest.delete()
        self._set_fact(writing, b"used", used)

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
        keys = [ident.encode() for ident in bodies] + [b"=" + call.encode() for call in answers]
        with self._turn:
            for key in keys:
                self._waiting.pop(key, None)
            for call, fence in (overtaken or {}).items():
                entry = self._waiting.get(b"=" + call.encode())
                if entry is not None and entry[1].fence < fence:
                    del self._waiting[b"=" + call.encode()]
            # Nobody waits again for a writer that is known to be stopped.
            if not self._may_write(0.0 if self.flags.poisoned else TAKE_S):
                self.flags.poisoned = time.monotonic()
                return
            try:
                with self._env.begin(write=True) as writing:
                    now = time.monotonic()
                    for key in keys:
                        self._remove(writing, key)
                        writing.put(key, _MARK.pack(now, 0, now), db=self._marks)
                    for fences, other in ((overtaken or {}, False), (replaced or {}, True)):
                        for call, fence in fences.items():
                            self._overtake(writing, b"=" + call.encode(), fence, other)
                    for log, seq in (cursors or {}).items():
                        self._set_fact(writing, log.encode(), seq)
                    for log, digest in (lasts or {}).items():
                        writing.put(b"last " + log.encode(), digest, db=self._facts)
            except lmdb.Error:
                self.flags.poisoned = time.monotonic()
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def overtake(self, call: str, fence: int) -> None:
        """A claim of this host: an older answer is not to be had here any more. Most calls have none, which costs a look."""
        if self.off:
            return
        key = b"=" + call.encode()
        try:
            with self._env.begin(db=self._answers) as reading:
                if reading.get(key) is None and key not in self._waiting:
                    return
        except lmdb.Error:
            pass  # it may be there
        self.take_out(overtaken={call: fence})

    def _overtake(self, writing: lmdb.Transaction, key: bytes, fence: int, other: bool) -> None:
        raw = writing.get(key, db=self._answers)
        if raw is not None:
            held = _answer_in(raw).fence
            if held >= fence:
                return
            self._remove(writing, key)
        if not other:
            mark = writing.get(key, db=self._marks)
            at, least, _ = _MARK.unpack(mark) if mark is not None else (0.0, 0, 0.0)
            writing.put(key, _MARK.pack(at, max(least, fence), time.monotonic()), db=self._marks)

    def _remove(self, writing: lmdb.Transaction, key: bytes) -> None:
        answer = key[:1] == b"="
        raw = writing.get(key, db=self._answers if answer else self._bodies)
        if raw is not None:
            used = self._fact(writing, b"used") - self._forget_age(writing, raw, answer)
            writing.delete(key, db=self._answers if answer else self._bodies)
            self._set_fact(writing, b"used", used)

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
                with self._env.begin(write=True) as writing:
                    for place in (self._bodies, self._answers, self._ages, self._marks, self._facts):
                        writing.drop(place, delete=False)
                    for log, seq in cursors.items():
                        self._set_fact(writing, log.encode(), seq)
                    writing.put(b"server", server, db=self._facts)
                if self.flags.poisoned == was:  # else somebody could not take something out meanwhile
                    self.flags.poisoned = 0.0
                return True
            except lmdb.Error:
                self.flags.poisoned = time.monotonic()
                return False
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def tidy(self) -> None:
        """Let go of what killed readers held, and of marks so old that no question from before them is under way any more."""
        with self._turn:
            if self.off or not self._may_write(0.0):
                return
            try:
                self._env.reader_check()
                with self._env.begin(write=True) as writing, writing.cursor(db=self._marks) as marks:
                    least, more = time.monotonic() - MARK_S, marks.first()
                    while more and marks.key():  # behind the last one that is deleted stands an empty one
                        more = marks.delete() if _MARK.unpack(marks.value())[2] < least else marks.next()
            except lmdb.Error:
                pass  # the next time
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def cursor(self, log: str) -> int | None:
        """How far this log was read when the tier was last mended. None: never."""
        with self._env.begin(db=self._facts) as reading:
            raw = reading.get(log.encode())
        return None if raw is None else int(_AGE.unpack(raw)[0])

    def last(self, log: str) -> bytes:
        """What stood where the log was read to; nothing: it is not known."""
        with self._env.begin(db=self._facts) as reading:
            return bytes(reading.get(b"last " + log.encode()) or b"")

    def server(self) -> bytes:
        """The id of the data of which this is the tier."""
        with self._env.begin(db=self._facts) as reading:
            return bytes(reading.get(b"server") or b"")

    # ── small things ──────────────────────────────────────────────────────────────────────────

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

    def _fact(self, txn: lmdb.Transaction, name: bytes) -> int:
        raw = txn.get(name, db=self._facts)
        return int(_AGE.unpack(raw)[0]) if raw is not None else 0

    def _set_fact(self, writing: lmdb.Transaction, name: bytes, value: int) -> None:
        writing.put(name, _AGE.pack(max(value, 0)), db=self._facts)

    def sizes(self) -> dict[str, int]:
        """What lies here: entries, bytes counted, bytes there are."""
        with self._env.begin() as reading:
            return {"bodies": reading.stat(self._bodies)["entries"], "answers": reading.stat(self._answers)["entries"],
                    "used": self._fact(reading, b"used"), "size": self._size}

    def close(self) -> None:
        """Let go. Whoever reads from now on finds nothing."""
        with self._turn:
            if not self.off:
                self.off = True
                self._waiting.clear()
                self._env.close()
                self.flags.close()
                close_lock(self._lock)

    def abandon(self) -> None:
        """In a child of fork: all of it is the parent's, and is not touched."""
        self.off = True


def _make_table(path: Path) -> None:
    """The table of readers, with all its room: LMDB makes a sparse file, and a page of it that a full file system cannot give
    would be a SIGBUS. Before the environment is opened and never again: to close another descriptor of the file would
    give up the locks that LMDB has on it."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            allocate(fd, TABLE_BYTES)
        finally:
            os.close(fd)


_AGE_NATIVE = struct.Struct("=Q")


def _cost(raw: bytes | memoryview) -> int:
    """Bytes an entry takes: itself, its keys, and what its pages leave unused; a body above half a page has pages of its own."""
    size = len(raw)
    return size + 160 if size < 2000 else (size + 4095) // 4096 * 4096 + 260

