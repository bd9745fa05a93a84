"""The log, writing side: events of this process that change nothing, written in batches.

Changes are logged by the scripts that make them. Everything else (reads, hits, waits, refusals, marks)
gathers here and goes out by `touch` every 50 ms or 256 events; one batch of one shard is one entry of
the log of reads. A batch carries the number that makes a repeat harmless. What waits stands in a ring of this host
too (`host/ring.py`): for a process killed with kill -9 others write it. Without a ring it loses what it has not
flushed; ``audit="strict"`` flushes before the read returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import RedisError

from memgang.errors import MemGangError, StoreUnavailable
from memgang.model import NO_USAGE, Context, Ref, Usage
from memgang.store import scripts, tallies
from memgang.store.host.ring import Ring, left_by_the_dead
from memgang.store.keys import Keys
from memgang.store.process import fresh
from memgang.store.wire import Wire

_OF_OBJECTS = frozenset({"read", "hit", "joined"})
RECORDS_MAX = 128  # of one batch: the bound of the script
NOTE_BYTES_MAX = 1024
WAITING_MAX = 100_000  # lines that are kept for a server that is away; above it the oldest are lost, and counted
RETRY_S = 1.0


def note(context: Context, fields: dict[str, Any] | None = None) -> bytes:
    """What only the caller knows of a change, as JSON of at most 1 KB: ids and numbers, never content."""
    words: dict[str, Any] = {}
    if context.run:
        words["run"] = context.run
    if context.role:
        words["role"] = context.role
    if context.task:
        words["task"] = context.task
    if context.trace:
        words["trace"] = context.trace
    if fields:
        words.update(fields)
    text = msgspec.json.encode(words)
    while len(text) > NOTE_BYTES_MAX:
        # The longest field gives way; figures never do. Lists (parents) are halved, texts are cut.
        longest = max((k for k, v in words.items() if isinstance(v, str | list)), key=lambda k: len(str(words[k])), default="")
        if not longest:
            break
        words[longest] = words[longest][: len(words[longest]) // 2]
        text = msgspec.json.encode(words)
    return text


def spent(own: Usage) -> dict[str, Any]:
    """A usage as the fields of a note; what is 0 is left out."""
    fields = {"calls": own.calls, "llm": own.llm_calls, "in": own.tokens_in, "out": own.tokens_out,
              "cached": own.tokens_cached, "usd": own.micro_usd, "ms": own.ms, "rb": own.bytes}
    return {k: v for k, v in fields.items() if v} | ({"est": True} if own.estimated else {})


def usage_of(words: dict[str, Any]) -> Usage:
    """The inverse of `spent`."""
    return Usage(
        words.get("calls", 0), words.get("llm", 0), words.get("in", 0), words.get("out", 0),
        words.get("cached", 0), words.get("usd", 0), words.get("ms", 0), words.get("rb", 0), bool(words.get("est")))


class EventLog:
    """Where this process's own events gather. Lives as long as the Space; `flush` before it ends."""

    def __init__(self, wire: Wire, keys: Keys, *, flush_ms: int, flush_events: int) -> None:
        self._wire = wire
        self._keys = keys
        self._flush_s = flush_ms / 1000
        self._most = flush_events
        # Of this log, not of the process: two spaces of one process number their batches apart.
        self._source = fresh()
        self._waiting: list[tuple[int, Context, list[Any], int]] = []  # shard, context, line, where it ends in the ring
        self._outside: deque[tuple[int, Context, list[Any], int]] = deque()  # from other threads, until the loop has a turn
        self._called = False
        self._mixed = False  # some of them wait among ours, behind younger ones
        self._writing = threading.Lock()  # the ring has one place for the next event
        self._transit: dict[int, deque[Batch]] = {}
        self._upto = 0
        self._ring: Ring | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = asyncio.Lock()
        self._number: dict[int, int] = {}
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = 0

    def server_ms(self) -> int:
        """The server's time, estimated from our own clock and the offset measured last."""
        return int(time.monotonic() * 1000 + self._offset_ms)

    async def measure_offset(self) -> None:
        """Compare the clocks: the server's time at the midpoint of one round trip."""
        before = time.monotonic()
        seconds, micros = await self._wire.call("TIME")
        after = time.monotonic()
        self._offset_ms = int(seconds) * 1000 + int(micros) / 1000 - (before + after) * 500

    def add(
        self, what: str, context: Context, *, obj: str = "", call: str = "", us: int = 0, size: int = 0,
        why: str = "", saved: Usage = NO_USAGE, by: str = "", text: str = "", fn: str = "", kind: str = "",
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take one event; it is written with the next batch. ``kind``: of the call it is about. ``loop``: this log's, where the
        caller is in another thread."""
        shard = self._keys.shard_of(obj or call) if obj or call else 0
        usage = [] if saved is NO_USAGE else [
            saved.calls, saved.llm_calls, saved.tokens_in, saved.tokens_out, saved.tokens_cached,
            saved.micro_usd, saved.ms, saved.bytes, int(saved.estimated)]
        self._take(shard, context, [what, self.server_ms(), 0, obj, call, us, size, why, usage, by, text, fn, kind], loop)

    def add_read(self, context: Context, obj: str, size: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """`add` of a read, of which there are far more than of anything else: its line ends where it has no more to say."""
        self._take(self._keys.shard_of(obj), context, ["read", self.server_ms(), 0, obj, "", 0, size], loop)

    def _take(self, shard: int, context: Context, line: list[Any], loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None:
            with self._writing:
                self._outside.append((shard, context, line, self._kept(shard, context, line)))
            if not self._called:  # once for all that come before the loop has its turn
                self._called = True
                loop.call_soon_threadsafe(self._take_outside)
            return
        if self._ring is not None:
            with self._writing:
                self._waiting.append((shard, context, line, self._kept(shard, context, line)))
        else:
            self._waiting.append((shard, context, line, 0))
        self._noticed()

    def add_reads(self, context: Context, reads: Sequence[tuple[str, int]]) -> None:
        """`add_read` of many at once: ids and sizes."""
        at, shard_of = self.server_ms(), self._keys.shard_of
        lines: list[tuple[int, list[Any]]] = [
            (shard_of(ident), ["read", at, 0, ident, "", 0, size]) for ident, size in reads]
        with self._writing:
            ends = self._ring.add_many(context, lines) if self._ring is not None else [0] * len(lines)
            self._waiting += [(shard, context, line, end) for (shard, line), end in zip(lines, ends, strict=True)]
        self._noticed()

    def _kept(self, shard: int, context: Context, line: list[Any]) -> int:
        if self._ring is None:
            return 0
        return self._ring.add(shard, context, line)

    def keep_in(self, folder: Path) -> None:
        """Keep events in a ring of this host too, so that they outlive this process. Where that cannot be, it goes without."""
        with contextlib.suppress(OSError, StoreUnavailable):
            self._ring = Ring(folder, self._source, self._most)

    @property
    def crowded(self) -> bool:
        """A batch waits to be written, and whoever only reads what is at hand would never give the loop a turn to do it."""
        return len(self._waiting) >= self._most

    def _take_outside(self) -> None:
        self._called = False  # before looking: what comes from now on calls again
        while self._outside:
            self._waiting.append(self._outside.popleft())
            self._mixed = True
        self._noticed()

    def _noticed(self) -> None:
        if len(self._waiting) >= self._most:
            self._start_flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_s, self._start_flush)

    def _start_flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._closed and not self._tasks:  # else whoever is at it goes on until nothing waits
            self._spawn()

    def _spawn(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._flush())
        self._tasks.add(task)
        task.add_done_callback(self._flushed)
        return task

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: who asked for the flush is told, and the lines wait for the next one
        if self._waiting and self._timer is None and not self._closed:  # taken in after its last look
            self._timer = asyncio.get_running_loop().call_later(self._flush_s, self._start_flush)

    async def flush(self) -> None:
        """Write everything that waits. Events that cannot be written stay for the next time.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        # A caller that is cancelled leaves; the batch under way is seen through.
        await asyncio.shield(self._spawn())

    async def aclose(self) -> None:
        """The last flush. What cannot be written now is lost."""
        try:
            await self.flush()
            for shard in self._number:  # all is confirmed: nothing of ours comes twice from now on
                with contextlib.suppress(RedisError):
                    await self._wire.call("HDEL", self._keys.at(shard, "q"), self._source)
            if self._ring is not None:
                with self._writing:
                    self._ring.close()
        finally:
            self._closed = True
            if self._ring is not None and not self._ring.closed:
                with self._writing:
                    self._ring.leave()
            if self._timer is not None:
                self._timer.cancel()

    async def _flush(self) -> None:
        async with self._flushing:  # one batch of a shard in transit, so that a number is never overtaken
            try:
                while self._transit or self._waiting or self._outside:
                    if not self._transit:
                        self._prepare()
                    # Batches of different shards may travel together; those of one shard go one by one. All are
                    # awaited: one that fails must not leave the others in transit behind our back. What was sent and
                    # not confirmed may have arrived, so it goes again as it is.
                    for ended in await asyncio.gather(*(self._send(shard) for shard in list(self._transit)), return_exceptions=True):
                        if isinstance(ended, BaseException):
                            raise ended
                    if self._ring is not None:
                        self._ring.confirmed(self._upto, self._number)
            except MemGangError:
                if (over := len(self._waiting) - WAITING_MAX) > 0:
                    self.lost += over
                    gone, self._waiting = self._waiting[:over], self._waiting[over:]
                    if self._ring is not None:  # its numbers count what is sent, and these are not
                        self._ring.confirmed(max(end for *_, end in gone), self._number)
                if self._timer is None and not self._closed:
                    self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._start_flush)
                raise

    def _prepare(self) -> None:
        """Make batches of what waits longest, numbered; they are in transit from now on."""
        with self._writing:
            if self._outside or self._mixed:  # in the order of the ring: what is confirmed is all up to a place
                self._waiting += self._outside
                self._outside.clear()
                self._mixed = False
                self._waiting.sort(key=lambda event: event[3])
        # Those with a place in the ring, or those without one: who writes for a dead process sees the former only.
        placed = self._waiting[0][3] > 0
        many = next((n for n, event in enumerate(self._waiting) if (event[3] > 0) != placed), len(self._waiting))
        many = min(many, 4 * self._most)
        taken, self._waiting = self._waiting[:many], self._waiting[many:]
        self._upto = max((end for *_, end in taken), default=0)
        if self._ring is not None and self._upto:
            self._ring.sending(self._upto)
        self._transit, self._number = batched([(shard, context, line) for shard, context, line, _ in taken], self._number, self._most)
        # MemGang's own overhead: the time in which somebody waited for the server.
        if overhead := self._wire.take_busy_us():
            first = next(iter(self._transit.values()))[0]
            first.lines.append(["overhead", self.server_ms(), 0, "", "", overhead, 0, "", [], "", "", ""])

    async def _send(self, shard: int) -> None:
        while batches := self._transit.get(shard):
            await touched(self._wire, self._keys, shard, self._source, batches[0])
            batches.popleft()
        self._transit.pop(shard, None)


class Batch(NamedTuple):
    """Lines of one shard that are one entry of its log."""

    number: int
    contexts: list[Context]
    lines: list[list[Any]]
    reads: Counter[Ref]


def batched(
    events: Sequence[tuple[int, Context, list[Any]]], numbers: dict[int, int], most: int
) -> tuple[dict[int, deque[Batch]], dict[int, int]]:
    """Events as batches of at most ``most`` lines by shard, and the last number of each shard.

    The same events after the same numbers are the same batches: who writes for a dead process relies on it.
    """
    after, out = dict(numbers), dict[int, deque[Batch]]()
    for shard, context, line in events:
        if (row := out.get(shard)) is None:
            row = out[shard] = deque()
        # Of an event of ours: the check of its form, which Ref() makes, would be the largest part of all this.
        ref = str.__new__(Ref, "mg:" + line[3]) if line[3] and line[0] in _OF_OBJECTS else None
        batch = row[-1] if row else None
        if batch is None or len(batch.lines) >= most or (
                ref is not None and ref not in batch.reads and len(batch.reads) == RECORDS_MAX):
            after[shard] = after.get(shard, 0) + 1
            batch = Batch(after[shard], [], [], Counter())
            row.append(batch)
        if ref is not None:
            batch.reads[ref] += 1
        if batch.contexts and batch.contexts[-1] is context:
            line[2] = len(batch.contexts) - 1
        elif context in batch.contexts:
            line[2] = batch.contexts.index(context)
        else:
            line[2] = len(batch.contexts)
            batch.contexts.append(context)
        batch.lines.append(line)
    return out, after


async def touched(wire: Wire, keys: Keys, shard: int, source: str, batch: Batch) -> bool:
    """Write one batch. False: it is in the log already."""
    return await scripts.touch(
        wire, keys, shard, who=batch.contexts[0].who, inc=source, number=batch.number, counters=tallies.tally(batch.lines),
        reads=dict(batch.reads), events=msgspec.msgpack.encode(batch.lines),
        contexts=msgspec.json.encode([[c.who, c.role, c.run, c.task, c.trace] for c in batch.contexts]))


async def written_for_the_dead(wire: Wire, keys: Keys, folder: Path) -> int:
    """Write what processes of this host had logged and were killed before they had written it; how many events."""
    found = 0
    for left in left_by_the_dead(folder):
        numbers = left.numbers
        events = [(end, shard, Context(*context), line) for end, shard, context, line in left.events]
        sent = [event for event in events if event[0] <= left.transit]
        rest = [event for event in events if event[0] > left.transit]
        # What was in transit is cut into the same batches under the same numbers: the server knows those it has.
        for some in [sent, *(rest[at:at + 4 * left.most] for at in range(0, len(rest), 4 * left.most))]:
            batches, numbers = batched([(shard, context, line) for _, shard, context, line in some], numbers, left.most)
            for shard, row in batches.items():
                for batch in row:
                    found += len(batch.lines) if await touched(wire, keys, shard, left.source, batch) else 0
        left.path.unlink(missing_ok=True)  # before its numbers go, without which all of it would count as new
        for shard in numbers:
            await wire.call("HDEL", keys.at(shard, "q"), left.source)
    return found
