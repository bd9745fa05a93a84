"""What is to be trimmed from the log goes into files first, where somebody has asked for it (``log_export_dir``).

    <log_export_dir>/<space>/                    0700
        .lock                                    held by the process that exports to this folder, for as long as it lives
        <number>-<epoch>-<random>/               one life of the server's data: it may lose them, or come back with older ones
            a00-000000000001-000000001000.jsonl  changes of shard 0, from seq 1 to 1000; never written to again
            h00-000000000001-000000000042.parquet  reads of shard 0

Names have their seqs, so a gap or a double would show in them, and nobody needs to keep a count elsewhere: who comes after
a kill -9 goes on behind the last name there is. A file is written under another name, forced to disk, and gets its own
in one step; only then does the server hear of it, and only then may the janitor trim. Whatever fails, a full disk or
PyArrow that is missing, is said once, and the log is not trimmed until it is mended.

A row is an event as it stands in the log (`rows.py`), in the order of its log; ``id`` has log, seq and place. Files may be moved
away when they have their names: what was exported is in the server's mark too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from redis.exceptions import OutOfMemoryError

from memgang.errors import MemGangError
from memgang.model import Event
from memgang.settings import Settings
from memgang.store import log as logs
from memgang.store import rows, sealmarks, seals
from memgang.store.counters import count_of
from memgang.store.house import close_lock, open_lock, private_directory, try_lock
from memgang.store.keys import STORE_ID, Keys
from memgang.store.replies import pairs
from memgang.store.rolled import sync_names
from memgang.store.sealmarks import Told
from memgang.store.through import through
from memgang.store.trimming import PAGE, overdue, seq_of
from memgang.store.wire import Wire

ENTRIES = 1_000  # a file is written when so many are to go,
ROWS = 20_000  # or so many rows are in them,
LATE_MS = 3_600_000  # or the oldest should have gone an hour ago: a slow log does not make a thousand files a day
TELL_MS = 60_000
GROUP = 10_000  # rows of one row group

_LIFE = re.compile(r"(\d{4,})-([0-9a-f]{12})-[0-9a-f]{8}")
_FILE = re.compile(r"([ah][0-9a-f]{2})-(\d{12})-(\d{12})\.(?:jsonl|parquet)")

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Life(NamedTuple):
    """The folder of one life of the server's data."""

    folder: Path
    number: int
    epoch: str


class Segment(NamedTuple):
    """What becomes one file."""

    log: str
    first: int
    last: int
    events: list[Event]


class _Stopped(Exception):
    """A file could not be written; it was said."""


class Exporter:
    """One process's part in exporting one space's log. The kernel hands the folder on when the process that has it dies."""

    def __init__(self, wire: Wire, keys: Keys, settings: Settings) -> None:
        assert settings.log_export_dir is not None
        self._wire, self._keys, self._settings = wire, keys, settings
        self.folder = settings.log_export_dir.expanduser().absolute() / keys.space
        self._lock: int | None = None
        self._life: Life | None = None
        self._had: set[str] = set()  # lives of which this process has told
        self._upto: dict[str, int] = {}
        self._told = Told()
        self._said = ""

    @property
    def standing(self) -> Mapping[str, Told]:
        """How far this process has come with its folder; nothing where another one has it."""
        return {self._life.folder.name: self._told} if self._lock is not None and self._life is not None else {}

    async def round(self, now: int) -> int:
        """Export what is to be trimmed, if this folder is ours; how many entries. A failure of the files is said and not raised.

        Raises:
            RedisError, StoreUnavailable: the server does not answer.
        """
        done = 0
        with contextlib.suppress(_Stopped):
            if not await self._file(self._enter) or not await self._in_this_life():
                return 0
            # Before the first page is looked at: else whoever keeps house does not know that it is wanted.
            await self._tell(now)
            ends = time.monotonic() + self._settings.janitor_ms / 1000  # the house is kept by the same task
            for log in self._keys.logs():
                while time.monotonic() < ends and (segment := await self._due(log, now)) is not None:
                    await self._file(functools.partial(self._write, segment))
                    self._upto[log] = segment.last
                    await self._tell(now)
                    done += segment.last - segment.first + 1
            self._said = ""
        return done

    def close(self) -> None:
        """Let the folder go."""
        self._life, self._told = None, Told()
        if self._lock is not None:
            close_lock(self._lock)
            self._lock = None

    async def _file(self, work: Callable[[], T]) -> T:
        """What is done with files, seen through; what goes wrong is said, once for each reason, and everything is looked at anew."""
        try:
            return await through(work)
        except (MemGangError, OSError, ValueError) as error:
            self.close()
            if str(error) != self._said:
                _log.warning("the log of space %s is not trimmed now, for what is to go cannot be exported to %s: %s",
                             self._keys.space, self.folder, error)
                self._said = str(error)
            raise _Stopped from error

    # ── whose turn, and where ─────────────────────────────────────────────────────────────────

    def _enter(self) -> bool:
        """Whether the folder is ours; what stands in it is read when it becomes so."""
        if self._lock is not None:
            return True
        private_directory(self.folder.parent, exact=False)
        private_directory(self.folder)
        fd = open_lock(self.folder / ".lock")
        if not try_lock(fd):
            close_lock(fd)
            return False
        self._lock, self._upto = fd, {}
        if found := lives(self.folder):
            self._life = found[-1]
            for part in self._life.folder.glob(".*.part"):
                part.unlink()
            self._upto = exported(self._life.folder)
        return True

    async def _in_this_life(self) -> bool:
        """See that the folder is one of the server's data as they are now."""
        names = self._keys.logs()
        store_id, *counters = await asyncio.gather(
            self._wire.call("GET", STORE_ID), *(count_of(self._wire, self._keys, log) for log in names))
        if not store_id:
            return False  # it was lost just now, and is put back by whoever looks first
        epoch = seals.epoch_of(store_id, self._keys.secret)[:12]
        if self._life is not None and not self._told.at:
            told = await self._wire.call("HGET", Keys.exported(self._keys.space), sealmarks.field_of(self._life.folder.name))
            before = sealmarks.told(told or b"") or Told()
            self._upto = {log: max(self._upto.get(log, 0), before.upto.get(log, 0)) for log in {*self._upto, *before.upto}}
        counts = {log: counter.value for log, counter in zip(names, counters, strict=True)}
        # Fewer than were exported: an older state came back, and what is written from now on has numbers that were given before.
        back = any((count := counts.get(log)) is not None and count < upto for log, upto in self._upto.items())
        if self._life is None or self._life.epoch != epoch or back:
            await self._file(lambda: self._begin(epoch))
        assert self._life is not None
        if not self._told.at:
            now = self._life.folder.name
            gone = {life.folder.name for life in await self._file(lambda: lives(self.folder))} | self._had
            self._had = {now}
            if gone := gone - {now}:  # nobody is to wait for them
                await self._wire.call("HDEL", Keys.exported(self._keys.space), *map(sealmarks.field_of, gone))
        return True

    def _begin(self, epoch: str) -> None:
        number = max((life.number for life in lives(self.folder)), default=0) + 1
        folder = self.folder / f"{number:04d}-{epoch}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        sync_names(folder)
        self._life, self._upto, self._told = Life(folder, number, epoch), {}, Told()

    async def _tell(self, now: int) -> None:
        """Tell whoever trims how far it is exported. Only after the files are on disk."""
        assert self._life is not None
        if self._told.upto == self._upto and 0 <= now - self._told.at < TELL_MS:
            return
        self._told = Told(now, dict(self._upto))
        with contextlib.suppress(OutOfMemoryError):  # a full server: this process trims by what it knows itself
            await self._wire.call("HSET", Keys.exported(self._keys.space), sealmarks.field_of(self._life.folder.name),
                                  msgspec.json.encode(self._told))

    # ── what is to go ─────────────────────────────────────────────────────────────────────────

    async def _due(self, log: str, now: int) -> Segment | None:
        """The next file's worth of what is to be trimmed, if it is worth one."""
        key, shard, settings = self._keys.log(log), int(log[1:], 16), self._settings
        oldest, length = await asyncio.gather(self._wire.call("XRANGE", key, "-", "+", "COUNT", 1), self._wire.call("XLEN", key))
        if not oldest:
            return None
        begins, upto = seq_of(oldest[0]), self._upto.get(log, 0)
        if upto and begins > upto + 1:
            _log.warning("of log %s of space %s the entries %d to %d were trimmed before they were exported to %s",
                         log, self._keys.space, upto + 1, begins - 1, self.folder)
        upto = max(upto, begins - 1)
        left, events, taken, late = int(length) - (upto - begins + 1), list[Event](), list[Any](), False
        while len(taken) < ENTRIES and len(events) < ROWS:
            page = await self._wire.call("XRANGE", key, f"{upto + 1}-0", "+", "COUNT", PAGE)
            some = overdue(page, now, settings, left - len(taken))
            if some and not taken:
                late = bool(overdue(some[:1], now - LATE_MS, settings, left))
            for entry in some:
                upto, fields = seq_of(entry), dict(pairs(entry[1]))
                events += [logs.change(shard, upto, fields)] if log[0] == "a" else logs.batch(shard, upto, fields)
            taken += some
            if len(some) < PAGE:
                break
        # A log that may have few entries must not grow by a thousand.
        enough = len(taken) >= min(ENTRIES, max(1, settings.log_entries_max // 10)) or len(events) >= ROWS or late
        return Segment(log, seq_of(taken[0]), upto, events) if taken and enough else None

    def _write(self, segment: Segment) -> None:
        assert self._life is not None
        name = f"{segment.log}-{segment.first:012d}-{segment.last:012d}.{self._settings.log_export_format}"
        path = self._life.folder / name
        part = path.with_name(f".{name}.part")
        try:
            file = rows.KINDS[path.suffix](part)
            with contextlib.closing(file):
                for at in range(0, len(segment.events), GROUP):
                    file.add(segment.events[at:at + GROUP])
            fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fchmod(fd, 0o600)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(part, path)
            sync_names(path)
        finally:
            part.unlink(missing_ok=True)


class Outcome(NamedTuple):
    """What a folder holds of one space: files of all lives, their bytes, and up to where each log stands in the latest."""

    folder: Path
    files: int
    bytes: int
    upto: dict[str, int]
    missing: str  # what has to be installed before anything can be exported


def outcome(settings: Settings, space: str) -> Outcome | None:
    """What was exported of a space. None: nobody has asked for it here.

    Raises:
        OSError: the folder cannot be looked into.
    """
    if settings.log_export_dir is None:
        return None
    folder = settings.log_export_dir.expanduser().absolute() / space
    found = lives(folder)
    sizes = [path.stat().st_size for life in found for path in life.folder.iterdir() if _FILE.fullmatch(path.name)]
    missing = "memgang[arrow]" if settings.log_export_format == "parquet" and not importlib.util.find_spec("pyarrow") else ""
    return Outcome(folder, len(sizes), sum(sizes), exported(found[-1].folder) if found else {}, missing)


def lives(folder: Path) -> list[Life]:
    """The lives that have a folder there, the latest last."""
    with contextlib.suppress(FileNotFoundError):
        found = [(path, _LIFE.fullmatch(path.name)) for path in folder.iterdir()]
        return sorted((Life(path, int(match[1]), match[2]) for path, match in found if match), key=lambda life: life.number)
    return []


def exported(folder: Path) -> dict[str, int]:
    """Up to which seq the files of one life go, by logs."""
    upto: dict[str, int] = {}
    for path in folder.iterdir():
        if match := _FILE.fullmatch(path.name):
            upto[match[1]] = max(upto.get(match[1], 0), int(match[3]))
    return upto
