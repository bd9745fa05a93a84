"""The stream of a running attempt: sent by its leader, read by whoever follows on another process.

    entry 1-0   k=head  d=<fence>
    entry n-0   k=data  d=<the pieces of one batch, as a msgpack list>
    last entry  k=end

Readers ask with XRANGE from their cursor, after a wake-up or a poll: XREAD BLOCK would cost each of them a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError

from memgang.errors import CodecError, MemGangError
from memgang.model import Lead
from memgang.store.keys import Keys
from memgang.store.replies import translated
from memgang.store.scripts import _answer, _flight, _run, _sources, _surprise
from memgang.store.wire import Argument, Command, Wire

Kind = Literal["head", "data", "end"]
Piece = str | bytes

STREAM_BYTES_MAX = 8 * 1024 * 1024
BATCH_MS = 20  # a piece waits at most this long for others to travel with it
BATCH_BYTES = 4 * 1024  # and not at all when there are so many
ENTRY_BYTES = 64 * 1024  # a batch that has grown while the server was slow is cut into entries of about this size
AT_ONCE = 2  # entries of one leader that are under way
PAGE = 64  # entries
WIDE_BYTES = 64 * 1024  # beyond it, a batch does not hold up the small calls
_pieces = msgspec.msgpack.Decoder(list)


@dataclass(frozen=True, slots=True)
class Written:
    """The entry is in the stream, by this call or by the one it repeats."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody newer leads, or the claim was given up. Nothing was written."""

    newest: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries before this one are missing (a server that lost its last second): go on behind ``last``."""

    last: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """There is another entry with this number."""


@dataclass(frozen=True, slots=True)
class Full:
    """The stream has reached its limit; who follows is given the object at the end."""

    size: int


Appended = Written | Lost | Gap | Conflict | Full


@dataclass(frozen=True, slots=True)
class Page:
    """What a follower finds behind its cursor. ``fence`` tells which attempt it is of."""

    fence: int
    last: int  # cursor for the next page
    pieces: list[Piece]
    ended: bool
    more: bool  # another page is there at once


def packed(pieces: Sequence[Piece]) -> bytes:
    """A batch as the stream holds it; where one piece ends and the next begins is kept."""
    return msgspec.msgpack.encode(pieces)


async def append(
    wire: Wire, keys: Keys, call: str, *, who: str, owner: str, fence: int, seq: int, kind: Kind, data: bytes,
    limit: int = STREAM_BYTES_MAX,
) -> Appended:
    """Append one entry and wake who follows. May be repeated: a number that is there is written once.

    Raises:
        StoreFull, StoreUnavailable: the server has no memory for it, or is away.
    """
    args: list[Argument] = [who, b"", owner, str(fence), seq, kind, data, limit, 1]
    names = _flight(keys, call)
    if len(data) > WIDE_BYTES:
        command: Command = ("EVALSHA", _sources()["chunk"][1], len(names), *names, *args)
        reply = await _answer(wire, "chunk", command, wire.call_wide(*command))
    else:
        reply = await _run(wire, "chunk", names, args)
    match reply:
        case [b"written"]:
            return Written()
        case [b"lost", newest]:
            return Lost(int(newest))
        case [b"gap", last]:
            return Gap(int(last))
        case [b"conflict"]:
            return Conflict()
        case [b"full", size]:
            return Full(int(size))
    raise _surprise("chunk", reply)


async def read(wire: Wire, keys: Keys, call: str, *, fence: int = 0, after: int = 0) -> Page | None:
    """The entries behind ``after`` of the attempt with this fence; from the beginning of whichever there is if it is 0.

    None: there is no stream (any more), or it is of another attempt: begin at 0 again.

    A new attempt has a stream of its own under the same key, with numbers from 1. So the page is asked for first and
    the head behind it: a head that still has our fence proves that the page before it was of our attempt too.

    Raises:
        StoreUnavailable: the server is away.
        CodecError: an entry is damaged.
    """
    key = keys.at(keys.shard_of(call), f"s:{call}")
    try:
        if fence:
            row = wire.row(("XRANGE", key, f"({after}-0", "+", "COUNT", PAGE), ("XRANGE", key, "1-0", "1-0"))
            entries, first = await asyncio.gather(*row)
        else:
            entries = await wire.call("XRANGE", key, "-", "+", "COUNT", PAGE)
            first = entries[:1]
            after = 0
    except RedisError as error:
        raise translated(error, "read a stream") from error
    found = _head(first)
    if found is None or (fence and found != fence):
        return None
    pieces: list[Piece] = []
    ended = False
    for entry, fields in entries:
        after = int(entry.partition(b"-")[0])
        kind, data = fields[1], fields[3]
        if kind == b"data":
            pieces += _unpacked(call, data)
        ended = ended or kind == b"end"
    return Page(found, after, pieces, ended, len(entries) == PAGE)


def _unpacked(call: str, data: bytes) -> list[Piece]:
    try:
        pieces: list[Any] = _pieces.decode(data)
    except msgspec.DecodeError as error:
        raise CodecError(f"the stream of call {call} holds what no leader has written: {error}") from error
    if not all(isinstance(piece, str | bytes) for piece in pieces):
        raise CodecError(f"the stream of call {call} holds what no leader has written: neither str nor bytes")
    return pieces


def _head(entries: Any) -> int | None:
    match entries:
        case [[b"1-0", [b"k", b"head", b"d", fence]]]:
            return int(fence)
    return None


class Sender:
    """The leader's end of a stream: numbers the entries, sends them in batches, repeats what the server has lost.

    Lives for one attempt. It never slows the leader, and no trouble of its own ends the work: where entries cannot
    be written, those who follow are given the object at the end. Only ``Lost`` is worth stopping for.
    """

    def __init__(self, wire: Wire, keys: Keys, lead: Lead, *, who: str, limit: int = STREAM_BYTES_MAX) -> None:
        self._wire, self._keys, self._lead, self._who, self._limit = wire, keys, lead, who, limit
        self._entries: list[tuple[Kind, bytes]] = [("head", str(lead.fence).encode())]
        self._batch: list[Piece] = []
        self._size = 0
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._closing = False
        # Whole: all is acknowledged. None: it was cut short, by the limit or by a server that is full or away.
        self.task: asyncio.Task[Literal["whole"] | Lost | None] = asyncio.create_task(self._send())

    def add(self, piece: Piece) -> None:
        """Send a piece with the next batch."""
        if self.task.done():
            return  # cut short: nothing is kept for nobody
        self._batch.append(piece)
        self._size += len(piece)
        self._some.set()
        if self._size >= BATCH_BYTES:
            self._enough.set()

    def finish(self) -> None:
        """There are no more pieces: send what is left and the end."""
        self._closing = True
        self._some.set()
        self._enough.set()

    async def end(self) -> Literal["whole"] | Lost | None:
        """Finish; return when all of it is acknowledged, or why it never will be."""
        self.finish()
        return await self.task

    async def _send(self) -> Literal["whole"] | Lost | None:
        acknowledged, due = 0, 0.0
        while True:
            if acknowledged == len(self._entries) and not await self._fill(due):
                return "whole"
            due = time.monotonic() + BATCH_MS / 1000
            try:
                # The last pieces and the end travel together: who leads waits for both. Should the end arrive first, that is a gap.
                outcomes = await asyncio.gather(*(
                    append(self._wire, self._keys, self._lead.call, who=self._who, owner=self._lead.owner, fence=self._lead.fence,
                           seq=acknowledged + 1 + number, kind=kind, data=data, limit=self._limit)
                    for number, (kind, data) in enumerate(self._entries[acknowledged:acknowledged + AT_ONCE])))
            except MemGangError:
                return None  # full, away, or not allowed to us: it is the stream that ends, not the work
            for number, outcome in enumerate(outcomes):
                match outcome:
                    case Written():
                        acknowledged += 1
                    case Gap(last):
                        if number == 0:
                            acknowledged = last  # the server came back without its last second
                        break  # else it may have overtaken what it is behind: sent again, it is told which
                    case Lost():
                        return outcome
                    case _:
                        return None

    async def _fill(self, due: float) -> bool:
        """Make entries of what has come, at ``due`` or when it is enough. False: the end is sent, too."""
        if self._entries[-1][0] == "end":
            return False
        await self._some.wait()
        wait = due - time.monotonic()
        if wait > 0 and not self._enough.is_set():
            try:
                async with asyncio.timeout(wait):
                    await self._enough.wait()
            except TimeoutError:
                pass
        batch, self._batch, self._size = self._batch, [], 0
        if not self._closing:
            self._some.clear()
            self._enough.clear()
        while batch:
            count = size = 0
            while count < len(batch) and (count == 0 or size + len(batch[count]) <= ENTRY_BYTES):
                size += len(batch[count])
                count += 1
            self._entries.append(("data", packed(batch[:count])))
            del batch[:count]
        if self._closing:
            self._entries.append(("end", b""))
        return True
