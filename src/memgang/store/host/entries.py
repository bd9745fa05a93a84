"""What lies in a tier, and how: an LMDB environment with its parts. Nothing here decides what may be kept or read.

    body     id -> head, media type, meta, bytes;            answer   = call key -> CRC-32, an answer
             of a large one, the stamp of its file
    mark     what was taken out of late                      age      number -> key, so that the oldest can go
    fact     counters, and how far the log was read
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import lmdb
import msgspec

from memgang.model import REF_PREFIX, Answered, Ref, Usage
from memgang.store.house import allocate

TABLE_BYTES = 128 << 10  # of the readers' table: 64 for each of about 2,000
HIGH, LOW = 0.60, 0.45  # of the map: LMDB needs room to copy pages while it writes
# age, expires (ms of the server; 0: never), span (ms from then to its end), length of type, of meta, whether it is in a file
_HEAD = struct.Struct("=QqqHHB")
_OLD = struct.Struct("=Q")  # the first field of it
_CRC = struct.Struct("=I")  # before an answer
_NUMBER = struct.Struct(">Q")  # in the order of its bytes
_MARK = struct.Struct("=dQd")
_STEPPED_MS = 1000  # further ahead than it was given for: the server's clock has stepped back


class Kept(NamedTuple):
    """A body as it is kept: itself, or (as `filed`) the stamp of the file it is in."""

    media_type: str
    body: bytes | memoryview
    meta: bytes
    filed: bool = False

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


class Remembered(msgspec.Struct, array_like=True):
    """An answer as it is kept."""

    age: int
    span: int
    ref: str
    fence: int
    expires: int
    validator: bytes
    usage: Usage
    by: str

    def answered(self, now_ms: int) -> Answered | None:
        """The answer, if it has not expired by the server's clock."""
        if _over(self.expires, self.span, now_ms):
            return None
        # What was kept was a reference: to look at its form again would be a tenth of a hit.
        return Answered(str.__new__(Ref, REF_PREFIX + self.ref), self.fence, self.expires, self.validator, self.usage, self.by)


class Mark(NamedTuple):
    """``at``: when it was taken out; what was asked for before is not kept. ``fence``: nor are answers below it. ``made``: when."""

    at: float
    fence: int
    made: float


_packed = msgspec.msgpack.Encoder().encode
_unpacked = msgspec.msgpack.Decoder(Remembered).decode


def _remembered(raw: bytes | memoryview) -> Remembered | None:
    # It has no hash of its own, as bodies do, and a fence that became larger would keep it here for ever.
    if len(raw) < _CRC.size or zlib.crc32(raw[_CRC.size:]) != _CRC.unpack_from(raw)[0]:
        return None
    return _unpacked(raw[_CRC.size:])


def body_key(ident: str) -> bytes:
    """Under which a body lies."""
    return ident.encode()


def answer_key(call: str) -> bytes:
    """Under which an answer lies; no id begins like it."""
    return b"=" + call.encode()


def is_answer(key: bytes) -> bool:
    """Whether it is the key of an answer."""
    return key[:1] == b"="


def span_of(expires: int, now_ms: int) -> int:
    """How long from now to the end."""
    return max(expires - now_ms, 0) if expires else 0


def packed_body(kept: Kept, expires: int, now_ms: int) -> bytearray:
    """A body with its head; its age is filled in, where it lies, when it is written."""
    kind = kept.media_type.encode()
    head = _HEAD.pack(0, expires, span_of(expires, now_ms), len(kind), len(kept.meta), kept.filed)
    return bytearray().join((head, kind, kept.meta, kept.body))


def kept(raw: bytes, now_ms: int) -> Kept | None:
    """The body, if it has not expired by the server's clock. None too where its head is damaged; the rest is its hash's to tell."""
    _, expires, span, kind, meta, filed = _HEAD.unpack_from(raw)
    if _over(expires, span, now_ms):
        return None
    at = _HEAD.size
    try:
        return Kept(raw[at:at + kind].decode(), raw[at + kind + meta:], raw[at + kind:at + kind + meta], bool(filed))
    except UnicodeDecodeError:
        return None


def _over(expires: int, span: int, now_ms: int) -> bool:
    return expires != 0 and not 0 < expires - now_ms <= span + _STEPPED_MS


class Entries:
    """One environment. Its methods are given the transaction they are part of."""

    def __init__(self, folder: Path, size: int) -> None:
        """Open it; `open_parts` is to follow."""
        self.size = size
        folder.mkdir(mode=0o700, exist_ok=True)
        _make_table(folder / "lock.mdb")
        # Neither synchronised (a reboot takes it anyway) nor written through the map (a full file system is then an error,
        # where it would be a SIGBUS).
        self.env = lmdb.open(str(folder), map_size=size, max_dbs=8, sync=False, metasync=False, writemap=False, mode=0o600)
        _keep_to_ourselves(folder / "data.mdb")

    def open_parts(self) -> None:
        """Open the parts, which writes: only by who may write."""
        self.bodies, self.answers, self.marks, self.ages, self.facts = (
            self.env.open_db(name) for name in (b"body", b"answer", b"mark", b"age", b"fact"))

    def raw(self, txn: lmdb.Transaction, key: bytes) -> bytes | None:
        """A body with its head."""
        return txn.get(key, db=self.bodies)  # type: ignore[return-value]  # bytes, unless buffers are asked for

    def remembered(self, txn: lmdb.Transaction, key: bytes) -> Remembered | None:
        """An answer, expired or not. One that is damaged is as good as none."""
        raw = txn.get(key, db=self.answers)
        return None if raw is None else _remembered(raw)

    def mark(self, txn: lmdb.Transaction, key: bytes) -> Mark | None:
        """The mark of what was taken out."""
        raw = txn.get(key, db=self.marks)
        return None if raw is None else Mark(*_MARK.unpack(raw))

    def set_mark(self, writing: lmdb.Transaction, key: bytes, at: float, fence: int) -> None:
        """Leave a mark."""
        writing.put(key, _MARK.pack(at, fence, time.monotonic()), db=self.marks)

    def put(self, writing: lmdb.Transaction, age: int, key: bytes, value: bytearray | Remembered) -> int:
        """Write an entry over the one there was; how many bytes more there are. ``age`` is greater than all before."""
        raw: bytes | bytearray
        if isinstance(value, Remembered):
            place, value.age = self.answers, age
            packed = _packed(value)
            raw = _CRC.pack(zlib.crc32(packed)) + packed
        else:
            place, raw = self.bodies, value
            _OLD.pack_into(raw, 0, age)
        less = 0
        if not writing.put(key, raw, overwrite=False, db=place):  # most are new: nobody looks before
            if (old := writing.get(key, db=place)) is not None:
                less = self._forget_age(writing, key, old)
            writing.put(key, raw, db=place)
        writing.put(_NUMBER.pack(age), key, append=True, db=self.ages)
        return _cost(raw) - less

    def marked(self, txn: lmdb.Transaction) -> bool:
        """Whether there is any mark."""
        return bool(txn.stat(self.marks)["entries"])

    def remove(self, writing: lmdb.Transaction, key: bytes) -> None:
        """Take an entry out, if there is one."""
        place = self.answers if is_answer(key) else self.bodies
        if (raw := writing.get(key, db=place)) is not None:
            self.set_number(writing, b"used", self.number(writing, b"used") - self._forget_age(writing, key, raw))
            writing.delete(key, db=place)

    def make_room(self, writing: lmdb.Transaction) -> None:
        """Above the high water the oldest go, down to the low one."""
        used = self.number(writing, b"used")
        if used <= self.size * HIGH:
            return
        with writing.cursor(db=self.ages) as oldest:
            more = oldest.first()
            while more and oldest.key() and used > self.size * LOW:  # behind the last one that is deleted stands an empty one
                key = bytes(oldest.value())
                place = self.answers if is_answer(key) else self.bodies
                if (raw := writing.get(key, db=place)) is not None:
                    used -= _cost(raw)
                    writing.delete(key, db=place)
                more = oldest.delete()
        self.set_number(writing, b"used", used)

    def clear(self, writing: lmdb.Transaction) -> None:
        """Everything goes."""
        for place in (self.bodies, self.answers, self.ages, self.marks, self.facts):
            writing.drop(place, delete=False)

    def forget_marks(self, writing: lmdb.Transaction, before: float) -> None:
        """Marks that were made before then go."""
        with writing.cursor(db=self.marks) as marks:
            more = marks.first()
            while more and marks.key():
                more = marks.delete() if Mark(*_MARK.unpack(marks.value())).made < before else marks.next()

    def number(self, txn: lmdb.Transaction, name: bytes, unknown: int = 0) -> int:
        """A counter."""
        raw = txn.get(name, db=self.facts)
        return int(_NUMBER.unpack(raw)[0]) if raw is not None else unknown

    def set_number(self, writing: lmdb.Transaction, name: bytes, value: int) -> None:
        """Set a counter."""
        writing.put(name, _NUMBER.pack(max(value, 0)), db=self.facts)

    def text(self, txn: lmdb.Transaction, name: bytes) -> bytes:
        """Any other fact; nothing where it is not known."""
        return bytes(txn.get(name, db=self.facts) or b"")

    def set_text(self, writing: lmdb.Transaction, name: bytes, value: bytes) -> None:
        """Set it."""
        writing.put(name, value, db=self.facts)

    def sizes(self) -> dict[str, int]:
        """What lies here: entries, bytes counted, bytes there are."""
        with self.env.begin() as reading:
            return {"bodies": reading.stat(self.bodies)["entries"], "answers": reading.stat(self.answers)["entries"],
                    "used": self.number(reading, b"used"), "size": self.size}

    def _forget_age(self, writing: lmdb.Transaction, key: bytes, raw: bytes | memoryview) -> int:
        if is_answer(key):
            age = -1 if (held := _remembered(raw)) is None else held.age  # damaged: its number stays behind, and goes with the oldest
        else:
            age = _OLD.unpack_from(raw)[0]
        if 0 <= age < 1 << 64:
            writing.delete(_NUMBER.pack(age), db=self.ages)
        return _cost(raw)


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


def _keep_to_ourselves(data: Path) -> None:
    """LMDB leaves its data file open to programs that this process starts by exec, and they would keep the memory of a tier that
    is gone for as long as they run."""
    with contextlib.suppress(OSError):
        ours = data.stat()
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):  # the one that lists them
                if os.path.samestat(os.fstat(int(name)), ours):
                    os.set_inheritable(int(name), False)


def _cost(raw: bytes | bytearray | memoryview) -> int:
    """Bytes an entry takes: itself, its keys, and what its pages leave unused; a body above half a page has pages of its own."""
    size = len(raw)
    return size + 160 if size < 2000 else (size + 4095) // 4096 * 4096 + 260
