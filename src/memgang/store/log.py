"""The log, reading side: both logs of all shards as one stream of events, from a cursor on.

Lines are merged by time, then log, shard, seq and place in the batch. A batch may be written some
100 ms after its lines happened, so what is folded from the stream must not depend on order. A page's
cursor is the last seq of each log up to which everything was handed on; in the middle of a long
reading, going on from there may repeat lines (with the same ids), at its end it is exact.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from memgang.errors import ConfigError
from memgang.model import NO_USAGE, Event, Usage
from memgang.store.events import usage_of
from memgang.store.keys import STORE_ID, Keys
from memgang.store.replies import pairs, translated
from memgang.store.wire import Wire

PAGE = 1000  # entries of one log in one round trip
LATE_MS = 1000  # how much older than its batch a line may be and still be put in order
REMEMBERED = 100_000  # writes and claims one reading remembers
POLL_S = 0.05

_ROOT = re.compile(r"([a-z2-7]{32})(?: |\Z)")
_ENDS = frozenset({"committed", "failed", "released", "fenced"})
_OF_CALLS = frozenset({"claimed", "taken", "exhausted", "died", "dropped"}) | _ENDS
_OPS = {
    "claimed": "lease", "taken": "lease", "put": "write", "forgotten": "evict", "evicted": "evict",
    "expired": "expire", "failed": "error", "refused": "error", "exhausted": "error", "hit": "hit",
    "joined": "hit", "reference": "hit", "waits": "wait", "began": "think_start", "ended": "think_end",
    "overhead": "agg", "named": "write", "pinned": "write", "unpinned": "write", "dropped": "evict", "died": "error",
}


class Page(msgspec.Struct, frozen=True):
    """Some events in merged order, and where to go on after them. ``whole``: there were no more at that moment."""

    events: tuple[Event, ...]
    cursor: str
    whole: bool = False


# Entries of one log behind a seq and before another, at most so many, from where they were kept before they were trimmed.
Archive = Callable[[str, int, int, int], Awaitable[list[Any]]]


async def read(
    wire: Wire, keys: Keys, cursor: str = "", until: str | None = None, *, archive: Archive | None = None
) -> AsyncIterator[Event]:
    """All events after the cursor, up to ``until`` (a cursor too) or to the present end; the oldest from the archive.

    Raises:
        ConfigError: a cursor is not one of this space.
        StoreUnavailable: the server does not answer.
    """
    async for page in pages(wire, keys, cursor, until, archive=archive):
        for event in page.events:
            yield event


async def follow(wire: Wire, keys: Keys, cursor: str = "", *, archive: Archive | None = None) -> AsyncIterator[Event]:
    """All events after the cursor, then new ones as they come, for ever: the logs are asked every 50 ms.

    Raises:
        ConfigError: the cursor is not one of this space.
        StoreUnavailable: the server does not answer.
    """
    async for page in pages(wire, keys, cursor, live=True, archive=archive):
        for event in page.events:
            yield event


async def pages(
    wire: Wire, keys: Keys, cursor: str = "", until: str | None = None, *, live: bool = False, archive: Archive | None = None,
    reading: Reading | None = None,
) -> AsyncGenerator[Page, None]:
    """The events in pages, each with its cursor. The page that comes first to the present end may be empty: it has the exact cursor.

    ``reading`` is what an earlier reading up to the cursor remembers: without it, an event is completed only from what comes
    after the cursor.

    Raises:
        ConfigError: a cursor is not one of this space.
        StoreUnavailable: the server does not answer.
    """
    starts = parse_cursor(cursor, keys.shards)
    ends: Sequence[int | None] = [None] * len(starts) if until is None else parse_cursor(until, keys.shards)
    logs = [_Log("ah"[n % 2], n // 2, keys, starts[n], ends[n], archive) for n in range(len(starts))]
    reading = reading or Reading()
    waiting: list[_Waiting] = []
    told = False
    while True:
        lowest = min((log.bound for log in logs), default=math.inf)
        asked = [log for log in logs if not log.exhausted and (log.bound == lowest or len(log.entries) < PAGE)]
        for found in await asyncio.gather(*(log.fetch(wire) for log in asked)):
            waiting += found
        waiting.sort(key=_order)
        bound = min((log.bound for log in logs), default=math.inf)
        taken = next((n for n, item in enumerate(waiting) if item[0][0] >= bound), len(waiting))
        events = []
        for _, entry, event in waiting[:taken]:
            entry[1] -= 1
            if reading.take(event):
                events.append(event)
        del waiting[:taken]
        over = all(log.exhausted for log in logs)
        if events or (over and not told):
            told = told or over
            yield Page(tuple(events), "-".join(str(log.done()) for log in logs), over)
        if over:
            if not live:
                return
            await asyncio.sleep(POLL_S)
            for log in logs:
                log.reopen()


async def end(wire: Wire, keys: Keys) -> str:
    """The cursor behind everything logged so far.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    asked = [wire.call("XREVRANGE", keys.at(n // 2, "ah"[n % 2]), "+", "-", "COUNT", 1) for n in range(2 * keys.shards)]
    try:
        replies = await asyncio.gather(*asked)
    except RedisError as error:
        raise translated(error, "read the log") from error
    return "-".join(str(_seq(reply[0][0])) if reply else "0" for reply in replies)


async def lost(wire: Wire, keys: Keys, cursor: str, reading: Reading | None = None) -> bool:
    """Whether the server has lost entries before the cursor: it would give their numbers to others.

    A log that begins anew may have grown past the cursor by the time it is looked at. ``reading`` remembers which data it reads,
    from the first time it is given here on, and so knows others by their name.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    read = parse_cursor(cursor, keys.shards)
    asked = [wire.call("GET", STORE_ID), *(wire.call("HGET", keys.at(shard, "u"), "seq") for shard in range(keys.shards))]
    try:
        data, *counted = await asyncio.gather(*asked)
    except RedisError as error:
        raise translated(error, "read the log") from error
    if reading is not None and data:  # none: it was lost just now, and is put back by whoever looks first
        reading.data = reading.data or data
        if reading.data != data:
            return True
    return any(max(read[2 * shard:2 * shard + 2]) > _whole(seq or b"0") for shard, seq in enumerate(counted))


def earlier(one: str, other: str) -> str:
    """The cursor from which all is read that comes after either."""
    if not one or not other:
        return ""
    return "-".join(str(min(int(a), int(b))) for a, b in zip(one.split("-"), other.split("-"), strict=True))


def parse_cursor(cursor: str, shards: int) -> list[int]:
    """The last seq of each log: changes and reads of shard 0, of shard 1, and so on. An empty cursor is the beginning.

    Raises:
        ConfigError: it is not a cursor of a space with that many shards.
    """
    if not cursor:
        return [0] * (2 * shards)
    parts = cursor.split("-")
    if len(parts) != 2 * shards or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise ConfigError(f"{cursor[:60]!r} is not a cursor of a space with {shards} shards")
    return [int(part) for part in parts]


_Waiting = tuple[tuple[int, str, int, int, int], list[int], Event]  # order, [seq, lines not handed on yet], line


def _order(item: _Waiting) -> tuple[int, str, int, int, int]:
    return item[0]


def _seq(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


class _Log:
    """One log of one shard while it is read."""

    def __init__(self, name: str, shard: int, keys: Keys, start: int, last: int | None, archive: Archive | None) -> None:
        self.name, self.shard, self.key = name, shard, keys.at(shard, name)
        self.archive, self.ask_again = archive, True
        self.fetched = self._done = start
        self.last = last
        self.entries: deque[list[int]] = deque()
        self.reopen()

    def reopen(self) -> None:
        """There may be more now."""
        self.exhausted = self.last is not None and self.fetched >= self.last
        # Lines older than this have all been seen; newer ones wait for the next page.
        self.bound: float = math.inf if self.exhausted else -math.inf

    def done(self) -> int:
        """The last seq up to which every line was handed on."""
        while self.entries and self.entries[0][1] <= 0:
            self._done = self.entries.popleft()[0]
        return self._done

    async def fetch(self, wire: Wire) -> list[_Waiting]:
        self.done()
        upto = "+" if self.last is None else f"{self.last}-18446744073709551615"
        try:
            reply = await wire.call("XRANGE", self.key, f"{self.fetched + 1}-0", upto, "COUNT", PAGE)
        except RedisError as error:
            raise translated(error, "read the log") from error
        reply, whole = await self._with_older(reply)
        found: list[_Waiting] = []
        newest = 0
        for entry_id, words in reply:
            seq = self.fetched = _seq(entry_id)
            fields = dict(pairs(words))
            lines = [change(self.shard, seq, fields)] if self.name == "a" else batch(self.shard, seq, fields)
            entry = [seq, len(lines)]
            self.entries.append(entry)
            found += [((line.at, self.name, self.shard, seq, n), entry, line) for n, line in enumerate(lines)]
            newest = max(newest, _whole(fields.get(b"at", b"")))
        self.exhausted = len(reply) < PAGE and whole
        self.bound = math.inf if self.exhausted else newest - (LATE_MS if self.name == "h" else 0)
        return found


    async def _with_older(self, reply: list[Any]) -> tuple[list[Any], bool]:
        """The reply, or what the archive has of what was trimmed before it; and whether the end may be in it."""
        if self.archive is None or not (reply or self.ask_again):
            return reply, True
        before = _seq(reply[0][0]) if reply else 1 << 63
        if self.last is not None:
            before = min(before, self.last + 1)
        if before <= self.fetched + 1:
            return reply, True
        older = await self.archive(f"{self.name}{self.shard:02x}", self.fetched, before, PAGE)
        self.ask_again = bool(older)  # an empty log is asked for often while it is followed
        return (older, False) if older else (reply, True)


class Reading:
    """What one reading remembers: writes it has seen, and who leads which call."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._leads: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._number = 0
        self.data = b""  # the name of the server's data; see `lost`

    def again(self) -> Reading:
        """For reading once more what was read already: who led which call is known, and writes are new again."""
        other = Reading()
        other._leads, other.data = self._leads.copy(), self.data
        return other

    def take(self, event: Event) -> bool:
        """Complete an event from those before it. False: the same change is in the log twice, this is the second."""
        once = ("put", f"{event.obj} {event.text}") if event.raw == "put" else ("fenced", f"{event.call} {event.fence}")
        if event.raw in ("put", "fenced"):
            if once in self._seen:
                return False
            self._seen[once] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        if event.raw in ("claimed", "taken"):
            self._leads[event.call] = event.agent, event.fn, event.call_kind
            self._leads.move_to_end(event.call)
            if len(self._leads) > REMEMBERED:
                self._leads.popitem(last=False)
        elif event.call and event.call in self._leads:
            agent, fn, kind = self._leads[event.call]
            event.fn, event.call_kind = event.fn or fn, event.call_kind or kind
            if event.raw in ("waits", "hit", "joined"):
                event.by = event.by or agent
            event.op = op_of(event.raw, event.call_kind)
        if event.raw == "put":
            event.text = ""  # the op has done its work
        self._number += 1
        event.seq = self._number
        return True


def op_of(raw: str, call_kind: str = "") -> str:
    """The wider class of a word of the log; a word without one (``committed`` of a function, ``phase``) is its own."""
    if call_kind == "llm":
        if raw in ("claimed", "taken"):
            return "think_start"
        if raw in _ENDS:
            return "think_end"
    return _OPS.get(raw, raw)


def change(shard: int, seq: int, fields: Mapping[bytes, bytes]) -> Event:
    """One entry of the log of changes as an event. References are bare ids, parents prefixes of them, as in the log.

    An entry that is not one of ours becomes an event ``damaged``: one bad line does not hide the others.
    """
    raw, who, about, extra = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"e", b"who", b"id", b"x"))
    place = f"a{shard:02x}-{seq}-0"
    at = _whole(fields.get(b"at", b""))
    try:
        text = fields.get(b"n") or b"{}"
        note = _note(text)
        own = usage_of(msgspec.json.decode(text, type=dict[str, Any])) if raw in _ENDS else NO_USAGE
    except msgspec.DecodeError as error:
        return _damaged(place, at, str(error))
    if not raw or (own is not NO_USAGE and not all(isinstance(figure, int) for figure in msgspec.structs.astuple(own))):
        return _damaged(place, at, "no event, or its figures are not whole numbers")
    event = Event(
        id=place, at=at, run=note.run, raw=raw, op=op_of(raw, note.call), agent=who.rpartition("/")[2], who=who,
        role=note.role, task=note.task, trace=note.trace, kind=note.kind, pos=note.pos, tok=note.tok, bytes=note.bytes,
        src=note.src, src_n=note.src_n or len(note.src), fn=note.fn, call_kind=note.call, model=note.model,
        outline=note.outline, own=own, dur_ms=float(own.ms))
    event.tok = event.tok or own.tokens_out
    if raw in _OF_CALLS:
        event.call = about
    elif raw != "named":
        event.obj = about
    first, _, second = extra.partition(" ")
    match raw:
        case "claimed" | "taken" | "exhausted" | "fenced" | "released" | "died":
            event.fence = _whole(first)
        case "committed":
            event.obj, event.fence = first, _whole(second)
        case "put":
            event.text, event.known = first, second == "known"
        case "named":
            event.obj, event.text = first, about
        case "dropped" | "forgotten":
            root = _ROOT.match(extra)  # what else had to go with it, if it did not go alone
            event.text, event.why = (root[1], extra[root.end():]) if root else ("", extra)
        case "failed":
            event.why = extra
        case "expired" | "evicted":
            event.bytes = event.bytes or _whole(first)
    return event


def batch(shard: int, seq: int, fields: Mapping[bytes, bytes]) -> list[Event]:
    """One entry of the log of reads as its events; a batch or line that is not one of ours becomes ``damaged``."""
    place = f"h{shard:02x}-{seq}"
    lines: list[Any]
    try:
        contexts = _contexts(fields.get(b"n", b""))
        try:
            lines = _lines(fields.get(b"x", b""))
        except msgspec.ValidationError:  # one of them is none of ours: one by one, so that the others are told
            lines = msgspec.msgpack.decode(fields.get(b"x", b""), type=list[Any])
    except msgspec.DecodeError as error:
        return [_damaged(f"{place}-0", _whole(fields.get(b"at", b"")), str(error))]
    events = []
    for n, words in enumerate(lines):
        try:
            line = words if isinstance(words, _Line) else msgspec.convert(words, _Line)
            who, role, run, task, trace = contexts[line.context]
            usage = _usage(line.usage)
        except (msgspec.ValidationError, IndexError, ValueError) as error:
            events.append(_damaged(f"{place}-{n}", _whole(fields.get(b"at", b"")), str(error)))
            continue
        spends, overhead = line.what == "ended", line.what == "overhead"
        events.append(Event(
            id=f"{place}-{n}", at=line.at, run=run, raw=line.what, op=op_of(line.what), agent=who.rpartition("/")[2],
            who=who, role=role, task=task, trace=trace, obj=line.obj, call=line.call, fn=line.fn, call_kind=line.kind, bytes=line.size,
            dur_ms=0.0 if overhead else line.us / 1000, overhead_us=line.us if overhead else 0, why=line.why,
            by=line.by.rpartition("/")[2], text=line.text,
            own=usage if spends else NO_USAGE, saved=NO_USAGE if spends else usage))
    return events


class _Note(msgspec.Struct, frozen=True):
    """What a note may hold besides figures of usage."""

    run: str = ""
    role: str = ""
    task: str = ""
    trace: str = ""
    fn: str = ""
    call: str = ""
    model: str = ""
    kind: str = ""
    pos: float | None = None
    tok: int = 0
    bytes: int = 0
    src: tuple[str, ...] = ()
    src_n: int = 0
    outline: str = ""


class _Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of a batch, as `EventLog.add` makes it."""

    what: str
    at: int
    context: int
    obj: str = ""
    call: str = ""
    us: int = 0
    size: int = 0
    why: str = ""
    usage: list[int] = []
    by: str = ""
    text: str = ""
    fn: str = ""
    kind: str = ""


_note = msgspec.json.Decoder(_Note).decode
_contexts = msgspec.json.Decoder(list[tuple[str, str, str, str, str]]).decode
_lines = msgspec.msgpack.Decoder(list[_Line]).decode


def _usage(figures: list[int]) -> Usage:
    if not figures:
        return NO_USAGE
    calls, llm_calls, tokens_in, tokens_out, cached, micro_usd, ms, size, estimated = figures
    return Usage(calls, llm_calls, tokens_in, tokens_out, cached, micro_usd, ms, size, bool(estimated))


def _whole(text: bytes | str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def _damaged(place: str, at: int, reason: str) -> Event:
    return Event(id=place, at=at, raw="damaged", op="error", text=reason[:200])
