"""The log, reading side: changes and reads of all shards merged into one line of events.

A cursor is the last sequence number seen of each log, as one text; reading goes on from it. `at` hardly
ever steps back along a log, so rounds are merged up to the time that every log has been read to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.exceptions import RedisError

from memgang.errors import ConfigError
from memgang.model import NO_USAGE, Event, Usage
from memgang.store.events import usage_of
from memgang.store.keys import Keys
from memgang.store.wire import Wire, translated

PAGE = 2_000
POLL_S = 0.05

# The word in the log -> the wider class that pictures and folds use.
_OPS = {
    "put": "write", "named": "write", "forgotten": "evict", "evicted": "evict", "dropped": "evict", "expired": "expire",
    "failed": "error", "refused": "error", "exhausted": "error", "hit": "hit", "joined": "hit", "read": "read",
    "reference": "hit", "waits": "wait", "began": "think_start", "ended": "think_end", "overhead": "agg",
    "pinned": "write", "unpinned": "write", "died": "error",
}
_THINKING = {"claimed": "think_start", "taken": "think_start", "committed": "think_end", "fenced": "think_end", "released": "think_end"}


async def read(wire: Wire, keys: Keys, cursor: str = "") -> AsyncIterator[Event]:
    """All events behind the cursor, oldest first; ends where the logs ended when they were looked at."""
    reader = Reader(wire, keys, cursor)
    async for event in reader.rest():
        yield event


async def follow(wire: Wire, keys: Keys, cursor: str = "") -> AsyncIterator[Event]:
    """All events behind the cursor, and then those that come, until the caller stops. A batch may be 100 ms late."""
    reader = Reader(wire, keys, cursor)
    while True:
        async for event in reader.rest():
            yield event
        await asyncio.sleep(POLL_S)


class Reader:
    """One reading of the logs. ``cursor`` is where to go on; the same line is given once."""

    def __init__(self, wire: Wire, keys: Keys, cursor: str = "") -> None:
        self._wire, self._keys = wire, keys
        self._logs = [(shard, which) for shard in range(keys.shards) for which in ("a", "h")]
        self._at = _positions(cursor, len(self._logs))
        self._seen: set[tuple[str, ...]] = set()
        self._count = 0

    @property
    def cursor(self) -> str:
        """The last sequence number seen of each log."""
        return ".".join(map(str, self._at))

    async def rest(self) -> AsyncIterator[Event]:
        """What has come since, merged by time, then log, shard, sequence and place in the batch."""
        waiting: list[tuple[int, str, int, int, int, Event]] = []
        open_logs = set(range(len(self._logs)))
        while open_logs or waiting:
            latest: dict[int, int] = {}
            pages = {i: self._wire.call("XRANGE", self._keys.at(*self._logs[i]), f"({self._at[i]}-0", "+", "COUNT", PAGE)
                     for i in sorted(open_logs)}
            for i, reply in pages.items():
                try:
                    page = await reply
                except RedisError as error:
                    raise translated(error, "read the log") from error
                shard, which = self._logs[i]
                for entry, flat in page:
                    seq = int(entry.split(b"-")[0])
                    fields = dict(zip(flat[::2], flat[1::2], strict=True))
                    self._at[i] = seq
                    latest[i] = int(fields[b"at"])
                    for place, event in enumerate(_change(fields) if which == "a" else _batch(fields)):
                        event.id = f"{which}.{shard:02x}.{seq}.{place}"
                        waiting.append((event.at, which, shard, seq, place, event))
                if len(page) < PAGE:
                    open_logs.discard(i)
            waiting.sort(key=lambda line: line[:5])
            # Beyond the time to which the slowest log was read, an earlier line may still come.
            safe = min((latest.get(i, 0) for i in open_logs), default=None)
            ready = len(waiting) if safe is None else next((k for k, w in enumerate(waiting) if w[0] > safe), len(waiting))
            for *_, event in waiting[:ready]:
                if not self._repeated(event):
                    self._count += 1
                    event.seq = self._count
                    yield event
            waiting = waiting[ready:]

    def _repeated(self, event: Event) -> bool:
        """A put or a fenced commit that was sent twice, because its reply was lost, is one event."""
        if event.raw == "put":
            mark = ("put", event.obj, event.text)
            event.text = ""
        elif event.raw == "fenced":
            mark = ("fenced", event.call, str(event.fence))
        else:
            return False
        if mark in self._seen:
            return True
        self._seen.add(mark)
        return False


def _positions(cursor: str, count: int) -> list[int]:
    if not cursor:
        return [0] * count
    steps = cursor.split(".")
    if len(steps) != count or not all(s.isdigit() for s in steps):
        raise ConfigError(f"cursor {cursor[:60]!r} is not one of this space: it needs {count} numbers joined by '.'")
    return [int(s) for s in steps]


def _change(fields: dict[bytes, bytes]) -> list[Event]:
    """One entry of the log of changes."""
    raw, ident, extra = fields[b"e"].decode(), fields[b"id"].decode(), fields[b"x"].decode(errors="replace")
    try:
        words: dict[str, Any] = msgspec.json.decode(fields[b"n"] or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        words = {}
    who = fields[b"who"].decode()
    event = Event(
        at=int(fields[b"at"]), raw=raw, who=who, agent=who.rpartition("/")[2], run=str(words.get("run", "")),
        role=str(words.get("role", "")), task=str(words.get("task", "")), trace=str(words.get("trace", "")),
        fn=str(words.get("fn", "")), call_kind=str(words.get("call", "")), model=str(words.get("model", "")),
        kind=str(words.get("kind", "")), pos=words.get("pos"), tok=int(words.get("tok", 0)), bytes=int(words.get("bytes", 0)),
        src=tuple(words.get("src", ())), src_n=int(words.get("src_n", 0)), outline=str(words.get("outline", "")))
    event.op = _OPS.get(raw) or (_THINKING.get(raw, raw) if event.call_kind == "llm" else "lease")
    match raw, extra.split(" "):
        case "put", [op, word]:
            event.obj, event.known, event.text = ident, word == "known", op
        case "committed", [answer, fence]:
            event.call, event.obj, event.fence = ident, answer, int(fence)
        case ("claimed" | "taken" | "fenced" | "released" | "died" | "exhausted"), [fence]:
            event.call, event.fence = ident, int(fence or 0)
        case ("failed" | "dropped"), _:
            event.call, event.text = ident, extra
        case ("expired" | "evicted"), [size]:
            event.obj, event.bytes = ident, int(size)
        case "named", [ref, *_]:
            event.obj, event.call = ref, ident
        case "forgotten", _:
            event.obj, event.text = ident, extra
        case _:
            event.obj = ident
    if raw in ("committed", "failed", "fenced", "released"):
        event.own = usage_of(words)
        event.dur_ms = event.own.ms
        event.tok = event.own.tokens_out
    return [event]


def _batch(fields: dict[bytes, bytes]) -> list[Event]:
    """One entry of the log of reads: a batch of events and the contexts they number."""
    try:
        lines = msgspec.msgpack.decode(fields[b"x"])
        contexts = msgspec.json.decode(fields[b"n"])
    except msgspec.DecodeError:
        return []
    out = []
    for raw, at, context, obj, call, us, size, why, usage, by, text, fn in lines:
        who, role, run, task, trace = contexts[context]
        saved = Usage(*usage[:8], bool(usage[8])) if usage else NO_USAGE
        out.append(Event(
            at=at, raw=raw, op=_OPS.get(raw, raw), who=who, agent=who.rpartition("/")[2], role=role, run=run, task=task,
            trace=trace, obj=obj, call=call, dur_ms=us / 1000, bytes=size, why=why, saved=saved, by=by.rpartition("/")[2],
            text=text, fn=fn, overhead_us=us if raw == "overhead" else 0))
    return out
