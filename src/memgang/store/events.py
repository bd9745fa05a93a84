"""The log, writing side: events of this process that change nothing, written in batches.

Changes are logged by the scripts that make them. Everything else (reads, hits, waits, refusals, marks)
gathers here and goes out by `touch` every 50 ms or 256 events; one batch of one shard is one entry of
the log of reads. A batch carries the number that makes a repeat harmless. A process killed with
kill -9 loses what it has not flushed; ``audit="strict"`` flushes before the read returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from typing import Any

import msgspec
from redis.exceptions import RedisError

from memgang.errors import MemGangError
from memgang.model import NO_USAGE, Context, Ref, Usage
from memgang.store import scripts
from memgang.store.keys import Keys
from memgang.store.process import fresh
from memgang.store.wire import Wire

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
        self._waiting: list[tuple[int, Context, list[Any]]] = []
        # By shard: the batch that was sent and not confirmed. It may have arrived, so it goes again as it is.
        self._unsent: dict[int, dict[str, Any]] = {}
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
        why: str = "", saved: Usage = NO_USAGE, by: str = "", text: str = "", fn: str = "",
    ) -> None:
        """Take one event; it is written with the next batch."""
        shard = self._keys.shard_of(obj or call) if obj or call else 0
        usage = [] if saved is NO_USAGE else [
            saved.calls, saved.llm_calls, saved.tokens_in, saved.tokens_out, saved.tokens_cached,
            saved.micro_usd, saved.ms, saved.bytes, int(saved.estimated)]
        self._waiting.append((shard, context, [what, self.server_ms(), 0, obj, call, us, size, why, usage, by, text, fn]))
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
        finally:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    async def _flush(self) -> None:
        async with self._flushing:  # one batch of a shard in transit, so that a number is never overtaken
            try:
                for shard in list(self._unsent):
                    await self._send(shard)
                await self._drain()
            except MemGangError:
                if (over := len(self._waiting) - WAITING_MAX) > 0:
                    self.lost += over
                    del self._waiting[:over]
                if self._timer is None and not self._closed:
                    self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._start_flush)
                raise

    async def _drain(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            # MemGang's own overhead: the time in which somebody waited for the server.
            overhead = self._wire.take_busy_us()
            batches: dict[int, list[tuple[Context, list[Any]]]] = defaultdict(list)
            for shard, context, line in waiting[: 4 * self._most]:
                batches[shard].append((context, line))
            self._waiting = waiting[4 * self._most:] + self._waiting
            # Batches of different shards may travel together; those of one shard go one by one. All are
            # awaited: one that fails must not leave the others in transit behind our back.
            for ended in await asyncio.gather(*(self._write(shard, lines, overhead if i == 0 else 0)
                                                for i, (shard, lines) in enumerate(batches.items())),
                                              return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended

    async def _write(self, shard: int, lines: list[tuple[Context, list[Any]]], overhead: int) -> None:
        while lines:
            taken, contexts = 0, dict[Context, int]()
            reads: Counter[Ref] = Counter()
            counters: Counter[str] = Counter()
            batch: list[list[Any]] = []
            for context, line in lines:
                what, obj = line[0], line[3]
                if obj and what in ("read", "hit", "joined"):
                    ref = Ref("mg:" + obj)
                    if ref not in reads and len(reads) == RECORDS_MAX:
                        break
                    reads[ref] += 1
                _count(counters, line)
                line[2] = contexts.setdefault(context, len(contexts))
                batch.append(line)
                taken += 1
                if taken == self._most:
                    break
            if overhead:
                counters["overhead_us"] = overhead
                batch.append(["overhead", self.server_ms(), 0, "", "", overhead, 0, "", [], "", "", ""])
                overhead = 0
            number = self._number.get(shard, 0) + 1
            self._number[shard] = number
            first = next(iter(contexts))
            self._unsent[shard] = dict(
                who=first.who, inc=self._source, number=number, counters=dict(counters), reads=dict(reads),
                events=msgspec.msgpack.encode(batch),
                contexts=msgspec.json.encode([[c.who, c.role, c.run, c.task, c.trace] for c in contexts]))
            lines = lines[taken:]
            try:
                await self._send(shard)
            except BaseException:
                self._waiting[:0] = [(shard, context, line) for context, line in lines]
                raise

    async def _send(self, shard: int) -> None:
        await scripts.touch(self._wire, self._keys, shard, **self._unsent[shard])
        del self._unsent[shard]


def _count(counters: Counter[str], line: list[Any]) -> None:
    """What `stats` shows without reading the log."""
    what, usage = line[0], line[8]
    if what in ("read", "hit", "joined", "refused"):
        counters[{"read": "reads", "hit": "hits", "joined": "joined", "refused": "refused"}[what]] += 1
    if usage:
        counters["saved_calls"] += usage[0]
        counters["saved_tok"] += usage[2] + usage[3]
        counters["saved_usd"] += usage[5]
        counters["saved_ms"] += usage[6]
