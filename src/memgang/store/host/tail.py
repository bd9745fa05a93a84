"""Reading the log of changes behind the tier: what it says is gone is taken out, and how long ago that was is known to all.

One process of the host does it, whichever has the lock; the kernel hands it on when that one dies, and the next goes on from
where the tier was mended last. Where that one is stopped, or has no turn, another does it as well: it does no harm
twice. Nobody reads the tier when nobody has done this for a second.

In a thread: an agent that only reads what is at hand never gives the event loop a turn.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import redis
from redis.exceptions import RedisError

from memgang.codec import digest
from memgang.errors import MemGangError
from memgang.store.host.tier import FRESH_S, MARK_S, Place, Tier
from memgang.store.house import close_lock, open_lock, try_lock
from memgang.store.keys import STORE_ID, Keys
from memgang.store.replies import number, pairs

_log = logging.getLogger(__name__)

Entry = tuple[bytes, list[bytes]]  # its id; names and values in turn

EVERY_S = 0.25
PAGE = 1000
_LOCK = "tail"
_PUT = [b"e", b"put"]

assert EVERY_S * 3 < FRESH_S, "a look that comes a little late would make everybody ask the server"


class Tail:
    """The tail of one space's log, as one process of the host follows it. Lives as long as the Space."""

    def __init__(
        self, tier: Tier, client: Callable[[], redis.Redis], keys: Keys, dropped: Callable[[Sequence[str] | None], None],
    ) -> None:
        """``dropped`` is told of bodies that were taken out, and (None) that all were: copies in files go as well."""
        self._tier, self._make, self._keys, self._dropped = tier, client, keys, dropped
        self._lock: int | None = None
        self._mended = 0.0
        self._ended, self._looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="memgang-tail", daemon=True)
        self._thread.start()

    def begun(self, patience_s: float) -> None:
        """Wait for the first look: what is kept before it would not be kept for long."""
        self._looked.wait(patience_s)

    def close(self) -> None:
        """Stop. Blocks for as long as a look under way takes."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        client = self._make()
        try:
            while not self._tier.off and not self._ended.is_set():
                # Best effort: while the server is away nobody is told that the tier is good, and so nobody reads it. Whatever
                # else it is, this thread goes on: without it the tier would be silent for good.
                try:
                    if self._ours() or time.monotonic() - self._tier.flags.live > 2 * EVERY_S:
                        self.look(client)
                except (MemGangError, RedisError, OSError, lmdb.Error):
                    pass
                except Exception:
                    _log.exception("the tail of the log was not read")
                self._looked.set()
                self._ended.wait(EVERY_S)
        finally:
            client.close()
            if self._lock is not None:
                close_lock(self._lock)

    def _ours(self) -> bool:
        if self._lock is None:
            fd = open_lock(self._tier.folder / _LOCK)
            if not try_lock(fd):
                close_lock(fd)
                return False
            self._lock = fd
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)  # for who wants to know; the lock is what counts
        return True

    def look(self, client: redis.Redis) -> None:
        """Read what is new to its end, take out what it says, and say when that was."""
        client.set_response_callback("XRANGE", _as_it_came)
        logs = [log for log in self._keys.logs() if log[0] == "a"]
        while not self._ended.is_set():
            began = time.monotonic()
            # Before the server is asked, and all of it together: two may look at the same time.
            places, known = self._tier.places(logs)
            cursors = {log: place.seq for log, place in places.items()}
            asking = client.pipeline(transaction=False)
            asking.get(STORE_ID)
            for log, cursor in cursors.items():
                # The count first: entries that come between the two are in the page, and never counted without being there.
                asking.hget(self._keys.at(int(log[1:], 16), "u"), "seq")
                # From the entry read last on, which must be what it was: a server that came back with less, and has written as
                # much again since, would pass unseen.
                asking.xrange(self._keys.log(log), f"{cursor or 1}-0", "+", count=PAGE if cursor is not None else 1)
            server, *replies = asking.execute()
            counts = [number(count or b"0") for count in replies[::2]]
            if any(count is None for count in counts):
                return  # somebody has written over it: nothing is known
            ends = {log: count or 0 for log, count in zip(logs, counts, strict=True)}
            pages: dict[str, list[Entry]] = dict(zip(logs, replies[1::2], strict=True))
            # Another id: it has lost its data, however far its log has come again since.
            if self._tier.flags.poisoned or known != (server or b"") or any(_lost(places[log], ends[log], pages[log]) for log in logs):
                if not self._tier.clear(ends, server or b""):
                    return
                self._dropped(None)
                continue
            gone, more, new = _Gone(), False, dict[str, bytes]()
            for log, page in pages.items():
                for entry, fields in page:
                    if (seq := _seq(entry)) != cursors[log]:
                        gone.read(fields)
                    cursors[log] = seq
                if page and (standing := _digest(page[-1])) != places[log].line:
                    new[log] = standing
                more = more or len(page) == PAGE
            if new:
                # Of the logs in which there was anything new: in the others somebody may have read on meanwhile, and a place of
                # before would not belong to the line that stands there now.
                self._tier.take_out(gone.bodies, gone.answers, overtaken=gone.overtaken, replaced=gone.replaced,
                                    cursors={log: seq for log, seq in cursors.items() if log in new and seq is not None}, lasts=new)
                self._dropped(gone.bodies)
            if not more:
                if not self._tier.flags.poisoned:
                    self._tier.flags.live = max(began, self._tier.flags.live)
                break
        if time.monotonic() - self._mended > MARK_S / 2:
            self._mended = time.monotonic()
            self._tier.tidy()


def follower(folder: Path) -> int:
    """The number of the process that has the role in this tier; 0: nobody."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return 0
        return number(os.pread(fd, 20, 0)) or 0
    finally:
        os.close(fd)


def _as_it_came(reply: Any, **_: Any) -> Any:
    """Entries as they were read: to make a dict of each, most of which nobody looks at, is most of what a look costs."""
    return reply


def _lost(place: Place, end: int, page: list[Entry]) -> bool:
    """Whether anything may have happened that this log does not tell: never read before, rolled back, or trimmed."""
    cursor, last = place
    if cursor is None or end < cursor:
        return True
    if last:
        if not page or _seq(page[0][0]) != cursor or _digest(page[0]) != last:
            return True
    elif (after := next((_seq(entry) for entry, _ in page if _seq(entry) > cursor), None)) is not None and after != cursor + 1:
        return True  # just emptied: of what stood there nothing is known, and it may have been trimmed
    return len(page) < PAGE and max(cursor, _seq(page[-1][0]) if page else 0) < end  # counted, and not there


def _seq(entry: bytes) -> int:
    return int(entry.split(b"-")[0])


def _digest(entry: Entry) -> bytes:
    return digest(msgspec.msgpack.encode((entry[0], sorted(dict(pairs(entry[1])).items())))).encode()


class _Gone:
    """What some entries of the log say is no longer so."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.answers: list[str] = []
        self.overtaken: dict[str, int] = {}
        self.replaced: dict[str, int] = {}

    def read(self, words: list[bytes]) -> None:
        """Take in one entry."""
        if words[:2] == _PUT:  # most are, and nothing goes with them
            return
        fields = dict(pairs(words))
        about, extra = fields.get(b"id", b"").decode("utf-8", "replace"), fields.get(b"x", b"")
        match fields.get(b"e"):
            case b"forgotten" | b"expired" | b"evicted":
                self.bodies.append(about)
            case b"dropped":
                self.answers.append(about)
            case b"claimed" | b"taken":
                self.overtaken[about] = number(extra.partition(b" ")[0]) or 0
            case b"committed":
                self.replaced[about] = number(extra.partition(b" ")[2]) or 0
