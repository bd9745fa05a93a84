"""The connection: commands asked for at the same time share one round trip.

Every call made while the event loop is busy, or while a round trip is under way, goes out together
with the next one (implicit pipelining). A caller that is cancelled leaves its future, never the
connection: a batch is read to its end (`pipe.py`), so that no reply can reach the wrong caller. Large
bodies travel on connections of their own and do not hold up small calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    TimeoutError,
)

from memgang.errors import ConfigError, ServerUnfit, StoreUnavailable
from memgang.store.breaker import Breaker
from memgang.store.pipe import Pipe, Told
from memgang.store.process import incarnation

Argument = str | bytes | int | float
Command = tuple[Argument, ...]
Batch = Sequence[tuple[Command, asyncio.Future[Any]]]

# At most this many round trips of small calls at once, and calls in one. Large batches cost less each, but
# all who are in one are answered at the same moment, and then work and wait in step ever after. The rows
# "computed" and "slept" of `make bench ONLY=scheduling` pull in opposite directions: try both before changing.
LANES = 2  # and one more for claims alone
WIDE_LANES = 2
BATCH = 8

# How long calls outlive a lost connection, where nobody says otherwise; then the breaker opens.
PATIENCE_S = 10.0
HUNG_S = 1.0  # a small call is waited for at least this long, however short the patience
PROBE_S = 0.5  # between two probes of a server that is away
FORKED = ("this space was opened by the process that this one was forked from, and its connections are that one's: "
          "open a space after the fork")
IDLE_S = 5.0  # a connection that only a burst has needed is given back after this


class Wire:
    """One server as one event loop sees it. Lives as long as the Space that opened it.

    Safe for any number of concurrent callers. Every command sent through it must be harmless when
    repeated: after a lost connection it is sent again.
    """

    def __init__(
        self, client: aioredis.Redis, *, timeout_s: float, revive: Callable[[], Awaitable[bool]] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.client = client
        self.breaker = Breaker(patience_s, self._gone)
        self.away: Callable[[], None] = lambda: None  # called when the breaker opens
        self._patience_s, self._wide_timeout_s = patience_s, timeout_s
        # A server that takes commands and answers none is away as well, and noticed as soon.
        self._timeout_s = min(timeout_s, max(patience_s, HUNG_S))
        self._revive = revive
        self._first: list[tuple[Command, asyncio.Future[Any]]] = []
        self._small: list[tuple[Command, asyncio.Future[Any]]] = []
        self._wide: list[tuple[Command, asyncio.Future[Any]]] = []
        self._lanes = 0
        self._wide_lanes = 0
        self._idle: list[tuple[float, Pipe]] = []  # since when; the one used last is at the end, and used next
        self._under_way = 0  # round trips, small and wide
        self._quiet: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # those that connect, or wait for the server to come back
        self._woken = False
        self._closed = False
        self._process = incarnation()
        self._probing: asyncio.Task[None] | None = None
        self._glued: set[asyncio.Future[Any]] = set()
        self._busy_since = 0.0
        self._busy_s = 0.0
        self.round_trips = 0
        self.commands = 0

    def row(self, *commands: Command) -> list[asyncio.Future[Any]]:
        """A few small commands that the server carries out in this order, in one round trip."""
        replies = [self.call(*command) for command in commands]
        # Those that wait: where nobody is asked any more they have ended already. A batch is never cut between them: its rest
        # could overtake it on another connection.
        self._glued.update(reply for reply in replies[:-1] if not reply.done())
        return replies

    def call_first(self, *command: Argument) -> asyncio.Future[Any]:
        """As `call`, before everything that waits: for commands with which work in the outside world begins.

        In a burst the slow work starts while the results of other work are still being stored; in the order
        of asking, all would store first and then all would start at once.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue(self._first, command, future)
        return future

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command; the future brings its reply, or raises what the server or the network said.

        Raises:
            StoreUnavailable: the server stayed away for longer than the patience of a call.
            ResponseError: the server's own word, not translated.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue(self._small, command, future)
        return future

    def call_wide(self, *command: Argument) -> asyncio.Future[Any]:
        """As `call`, on a connection for large bodies, which would hold up small calls."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue(self._wide, command, future)
        return future

    def _queue(self, queue: list[tuple[Command, asyncio.Future[Any]]], command: Command, future: asyncio.Future[Any]) -> None:
        if self._closed or self.breaker.open:
            future.set_exception(StoreUnavailable("this space is closed" if self._closed else str(self.breaker)))
            future.exception()  # seen: nobody may be left to look
            return
        if self._process is not incarnation():
            # The socket is the parent's too: it would be given our reply for its own, and we would wait for ever.
            future.set_exception(ConfigError(FORKED))
            future.exception()
            return
        queue.append((command, future))
        if not self._woken:
            # Not at once: whatever else is ready to run in this turn of the loop may have calls too.
            self._woken = True
            asyncio.get_running_loop().call_soon(self._wake)

    def hurry(self) -> None:
        """Send what waits as far as it may be sent now: for who has waited for this turn of the loop to end already."""
        if self._process is incarnation():
            self._wake()

    async def aclose(self) -> None:
        """Wait for what is under way, then give the connections back; a forked child has none to give."""
        if self._process is not incarnation():
            return
        while self._under_way or self._first or self._small or self._wide:
            if self._under_way:
                self._quiet = self._quiet or asyncio.get_running_loop().create_future()
                await asyncio.shield(self._quiet)
            else:
                await asyncio.sleep(0)  # asked for in this turn of the loop, and not on its way yet
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        for _, pipe in self._idle:
            pipe.close()
        self._idle.clear()
        await self.client.aclose()

    def _wake(self) -> None:
        self._woken = False
        while self._first and self._lanes < LANES + 1:  # one lane is theirs: they never wait behind results alone
            batch, self._first = self._first[:BATCH], self._first[BATCH:]
            self._lanes += 1
            self._start(batch, wide=False)
        while self._small and self._lanes < LANES:
            size = BATCH
            while len(self._small) > size and self._small[size - 1][1] in self._glued:
                size += 1
            batch, self._small = self._small[:size], self._small[size:]
            if self._glued:
                self._glued.difference_update(future for _, future in batch)
            self._lanes += 1
            self._start(batch, wide=False)
        while self._wide and self._wide_lanes < WIDE_LANES:
            self._wide_lanes += 1
            self._start([self._wide.pop(0)], wide=True)

    def take_busy_us(self) -> int:
        """Microseconds during which at least one round trip was under way, since this was asked last."""
        now = time.perf_counter()
        if self._under_way:
            self._busy_s += now - self._busy_since
            self._busy_since = now
        busy, self._busy_s = self._busy_s, 0.0
        return int(busy * 1e6)

    def _start(self, batch: Batch, *, wide: bool) -> None:
        if not self._under_way:
            self._busy_since = time.perf_counter()
        self._under_way += 1
        # Most batches find a connection and are answered: they need no task. What cannot begin so, and what fails, has one.
        if self.breaker.open or (pipe := self._ready()) is None:
            self._carry_on(batch, wide, None)
            return
        try:
            self._send(pipe, [command for command, _ in batch], wide, functools.partial(self._came, pipe, batch, wide))
        except Exception as error:  # a command that cannot be written
            self._keep(pipe)
            _refuse(batch, error)
            asyncio.get_running_loop().call_soon(self._ended, wide)

    def _send(self, pipe: Pipe, commands: Sequence[Command], wide: bool, told: Told) -> None:
        pipe.send(commands, (self._wide_timeout_s if wide else self._timeout_s) + 0.001 * len(commands), told)
        self.round_trips += 1
        self.commands += len(commands)

    def _came(self, pipe: Pipe, batch: Batch, wide: bool, replies: list[Any], error: Exception | None) -> None:
        if error is not None:
            self._carry_on(batch, wide, error)
            return
        self.breaker.reached()
        self._keep(pipe)
        _deliver(batch, replies)
        self._ended(wide)

    def _ended(self, wide: bool) -> None:
        if wide:
            self._wide_lanes -= 1
        else:
            self._lanes -= 1
        self._under_way -= 1
        if not self._under_way:
            self._busy_s += time.perf_counter() - self._busy_since
        self._wake()
        if not self._under_way and self._quiet is not None:
            if not self._quiet.done():
                self._quiet.set_result(None)
            self._quiet = None

    def _carry_on(self, batch: Batch, wide: bool, error: Exception | None) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(batch, wide, error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, batch: Batch, wide: bool, failed: Exception | None) -> None:
        """Until it is answered, or given up. ``failed`` is the error of the first attempt, where there was one."""
        try:
            _deliver(batch, await self._round_trip([command for command, _ in batch], wide, failed))
        except BaseException as error:
            _refuse(batch, error if isinstance(error, Exception) else StoreUnavailable("stopped"))
            if not isinstance(error, Exception):
                raise
        finally:
            self._ended(wide)

    async def _round_trip(self, commands: Sequence[Command], wide: bool, failed: Exception | None) -> list[Any]:
        pause, since = 0.01, math.inf
        while True:
            if self.breaker.open:
                raise StoreUnavailable(str(self.breaker))
            try:
                if failed is not None:
                    error, failed = failed, None
                    raise error
                replies = await self._attempt(commands, wide)
                self.breaker.reached()
                return replies
            except AuthenticationError as error:
                raise ServerUnfit(f"the server refuses our user or password: {error}") from error
            except (ConnectionError, TimeoutError, OSError, BusyLoadingError, ReadOnlyError) as error:
                if self.breaker.failed(str(error)) or self._closed:
                    raise StoreUnavailable(str(self.breaker)) from error
                now = time.monotonic()
                since = min(since, now)
                if now - since >= self._patience_s + self._wide_timeout_s:
                    # Others are answered, so the breaker stays closed; these would be sent again for ever.
                    raise StoreUnavailable(f"the server has not taken this for {now - since:.1f} s: {error}") from error
                if await self._look_after():
                    since += time.monotonic() - now
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)

    async def _look_after(self) -> bool:
        if self._revive is None:
            return False
        with self.breaker.starting() as started:
            started(up := await self._revive())
        return up

    def _gone(self) -> None:
        """The breaker has opened: ask in the background until the server is back."""

        async def probing() -> None:
            while self.breaker.open and not self._closed:
                try:
                    await self._attempt([("PING",)])
                    self.breaker.reached()
                except Exception:  # whatever it is: where nobody asks any more, nobody finds the server back
                    with contextlib.suppress(Exception):
                        await self._look_after()
                    await asyncio.sleep(PROBE_S)

        self._probing = asyncio.create_task(probing())  # named, so that it is not collected
        self.away()

    async def _attempt(self, commands: Sequence[Command], wide: bool = False) -> list[Any]:
        pipe = self._ready()
        if pipe is None:
            # Within a time limit: a server that hangs lets us in (the kernel does), and answers no greeting.
            async with asyncio.timeout(self._wide_timeout_s if wide else self._timeout_s):
                pipe = await Pipe.connect(self.client.connection_pool.make_connection())  # type: ignore[no-untyped-call]  # redis-py's
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def told(replies: list[Any], error: Exception | None) -> None:
            if not answered.done():
                if error is None:
                    answered.set_result(replies)
                else:
                    answered.set_exception(error)

        try:
            self._send(pipe, commands, wide, told)
            replies = await answered
        except BaseException:
            pipe.close()  # half a reply may be in its buffer
            raise
        self._keep(pipe)
        return replies

    def _ready(self) -> Pipe | None:
        """A connection that waits for work; those that were lost while they did are left out."""
        while self._idle:
            if not (pipe := self._idle.pop()[1]).closed:
                return pipe
        return None

    def _keep(self, pipe: Pipe) -> None:
        now = time.monotonic()
        self._idle.append((now, pipe))
        if now - self._idle[0][0] > IDLE_S:
            self._idle.pop(0)[1].close()


def _deliver(batch: Batch, replies: list[Any]) -> None:
    for (_, future), reply in zip(batch, replies, strict=True):
        if not future.done():
            if isinstance(reply, BaseException):
                future.set_exception(reply)
            else:
                future.set_result(reply)


def _refuse(batch: Batch, error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # seen: nobody may be left to look
