"""Events of one process that wait to be written, in a mapped file: what was logged before a kill -9 is not lost with it.

    <header: counters, two pages> <frames: length, CRC-32, msgpack> ... used round and round

The file is locked for as long as its process lives, so a lock that can be had proves that nobody writes to it any more, and
whoever has it writes what is left to the log. The header says what was in transit then, and under which numbers; the
server knows a number it has seen, so nothing is written twice.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from memgang.errors import StoreUnavailable
from memgang.model import Context
from memgang.store.house import allocate, close_lock, open_lock, private_directory, try_lock

PAGE = 8192
ROOM = 1 << 20  # bytes of frames; what finds no room is kept in the process alone
OLD_S = 7 * 24 * 3600.0  # rings of a server that nobody of this host has asked for so long are of no use
EMPTY_S = 3600.0
_MAGIC = b"mgring1\0"
_WORD = struct.Struct("=Q")
_FRAME = struct.Struct("=II")
_HEAD, _BANK, _TRANSIT, _MOST, _SOURCE = 8, 16, 24, 32, 40
_BANKS = (1024, 4096)  # tail, then the last number of each shard. One is in force (`_BANK`) while the other is written
_FRAME_BYTES = _FRAME.size
_pack, _frame, _word_out = msgspec.msgpack.Encoder().encode, _FRAME.pack, _WORD.pack
# Shard, context (who, role, run, task, trace), line: as `Ring.add` is given them. The shortest line is that of a read.
_event = msgspec.msgpack.Decoder(tuple[
    Annotated[int, msgspec.Meta(ge=0, lt=256)], tuple[str, str, str, str, str], Annotated[list[Any], msgspec.Meta(min_length=7)]]).decode
_forks = 0  # how often this process was forked from one that had a ring, which is not ours


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Ring:
    """The ring of one log. One thread writes; it may be read by nobody else while its process lives."""

    def __init__(self, folder: Path, source: str, most: int) -> None:
        private_directory(folder)
        self.path = folder / source
        self._fd = open_lock(self.path)
        try:
            if not try_lock(self._fd) or not os.fstat(self._fd).st_nlink:
                raise OSError(f"{self.path} belongs to another process")
            allocate(self._fd, PAGE + ROOM)
            # Of another descriptor: the map keeps a copy of it, and with one of ours a forked child would hold the lock.
            other = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._map = mmap.mmap(other, PAGE + ROOM)
            finally:
                os.close(other)
        except BaseException:
            self.path.unlink(missing_ok=True)
            close_lock(self._fd)
            raise
        self._closed, self._touched = False, time.monotonic()
        self._head = self._tail = self._bank = 0
        self._map[_SOURCE:_SOURCE + len(source)] = source.encode()
        self._set(_MOST, most)
        self._map[:8] = _MAGIC
        self._born = _forks
        self._context: Context | None = None
        self._packed = msgspec.Raw(b"")

    def add(self, shard: int, context: Context, line: list[Any]) -> int:
        """Keep one event; the place where it ends, or 0 where there was no room for it."""
        return self.add_many(context, ((shard, line),))[0]

    def add_many(self, context: Context, lines: Sequence[tuple[int, list[Any]]]) -> list[int]:
        """`add` of events of one context; all are there, or none if the process ends in between."""
        if self._born != _forks or self._closed:
            return [0] * len(lines)
        if context is not self._context:  # an agent's events come one after the other
            self._context = context
            self._packed = msgspec.Raw(_pack([context.who, context.role, context.run, context.task, context.trace]))
        packed, ring, tail, head, ends = self._packed, self._map, self._tail, self._head, []
        for shard, line in lines:
            body = _pack((shard, packed, line))
            need, at, after = _FRAME_BYTES + len(body), head % ROOM, head
            if at + need > ROOM:  # frames are not cut: the rest is left out
                after += ROOM - at
            if after + need - tail > ROOM:
                ends.append(0)
                continue
            if after != head and ROOM - at >= _FRAME_BYTES:
                ring[PAGE + at:PAGE + at + _FRAME_BYTES] = bytes(_FRAME_BYTES)
            at = PAGE + after % ROOM
            ring[at:at + need] = _frame(len(body), zlib.crc32(body)) + body
            head = after + need
            ends.append(head)
        self._head = head
        ring[_HEAD:_HEAD + 8] = _word_out(head)  # last: what is before it is whole
        return ends

    def sending(self, upto: int) -> None:
        """What ends there is in transit now, and numbered on from what was confirmed last."""
        self._set(_TRANSIT, upto)

    def confirmed(self, upto: int, numbers: dict[int, int]) -> None:
        """It has arrived, and these are the last numbers of each shard. Both are in force in one step. ``upto`` 0: only what
        had no place here has arrived."""
        upto = upto or self._tail
        if time.monotonic() - self._touched > 3600:  # what is written to a map does not change the age of its file
            self._touched = time.monotonic()
            os.utime(self._fd)
        self._bank = 1 - self._bank
        at = _BANKS[self._bank]
        self._set(at, upto)
        for shard, number in numbers.items():
            self._set(at + 8 + 8 * shard, number)
        self._tail = upto
        self._set(_BANK, self._bank)

    def close(self) -> None:
        """All is written: the file goes."""
        self._closed = True
        if self._born == _forks:
            self.path.unlink(missing_ok=True)
            self.leave()
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()  # if it is the last

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def leave(self) -> None:
        """What is in it could not be written: whoever comes writes it."""
        self._closed = True
        if self._born == _forks:
            self._map.close()
            close_lock(self._fd)

    def _set(self, at: int, value: int) -> None:
        _WORD.pack_into(self._map, at, value)


class Left:
    """What a dead process left: whose it was, its numbers, and its events with the places where they end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.source = data[_SOURCE:_SOURCE + 200].split(b"\0")[0].decode("ascii", "replace")
        self.most = max(1, _word(data, _MOST))
        self.transit = _word(data, _TRANSIT)
        bank = _BANKS[_word(data, _BANK) & 1]
        self.numbers = {shard: number for shard in range(256) if (number := _word(data, bank + 8 + 8 * shard))}
        self.events = list(_frames(data, _word(data, bank), _word(data, _HEAD)))


def left_by_the_dead(folder: Path) -> Iterator[Left]:
    """Rings whose processes are gone, one after the other; each is removed when the next is asked for."""
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        with contextlib.suppress(OSError, StoreUnavailable):
            if not path.is_file() or path.is_symlink():
                continue
            fd = open_lock(path)
            try:
                if not try_lock(fd) or not os.fstat(fd).st_nlink:  # alive; or somebody else was quicker
                    continue
                data = os.pread(fd, PAGE + ROOM, 0)
                if len(data) == PAGE + ROOM and data[:8] == _MAGIC:
                    yield Left(path, data)
                path.unlink(missing_ok=True)  # also one that was being made
            finally:
                close_lock(fd)
    with contextlib.suppress(OSError):
        folder.rmdir()  # if it is empty


def tidy(base: Path) -> None:
    """Remove rings that nobody has come for in a week, and folders that have long been empty."""
    for path in base.glob("*.ring/*"):
        with contextlib.suppress(OSError, StoreUnavailable):
            if time.time() - path.stat().st_mtime > OLD_S:
                fd = open_lock(path)
                try:
                    if try_lock(fd):
                        path.unlink()
                finally:
                    close_lock(fd)
    for folder in base.glob("*.ring"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > EMPTY_S:  # a younger one may be about to get its first ring
                folder.rmdir()


def _word(data: bytes, at: int) -> int:
    return int(_WORD.unpack_from(data, at)[0])


def _frames(data: bytes, tail: int, head: int) -> Iterator[tuple[int, int, tuple[str, ...], list[Any]]]:
    while tail < head <= tail + ROOM:
        left = ROOM - tail % ROOM
        if left < _FRAME.size:
            tail += left
            continue
        at = PAGE + tail % ROOM
        size, crc = _FRAME.unpack_from(data, at)
        if not size:
            tail += left
            continue
        body = data[at + _FRAME.size:at + _FRAME.size + size]
        if len(body) != size or zlib.crc32(body) != crc:
            return  # not by us: nothing behind it can be told
        tail += _FRAME.size + size
        try:
            shard, context, line = _event(body)
        except msgspec.MsgspecError:
            return
        yield tail, shard, context, line
