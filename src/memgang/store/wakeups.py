"""Wake-ups: one subscription connection per event loop, fanned out to whoever waits.

A message is a hint that a flight has moved on; the poll of whoever waits is the guarantee. So nothing
here is ever an error: while the connection is away everybody polls, and when it is back everybody is
woken once, for whatever was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import RedisError

CONFIRM_S = 1.0
CONNECT_S = 5.0
SEND_S = 5.0  # a server that hangs takes no more once its buffers are full


class Ear:
    """One waiter on one channel. Lives as long as the ``async with`` that made it."""

    def __init__(self, *, chunks: bool = False) -> None:
        self.chunks = chunks  # whether it wants to hear of pieces too, or only of what moves the flight
        self._heard = asyncio.Event()

    def wake(self) -> None:
        """Something happened on the channel."""
        self._heard.set()

    async def wait(self, timeout_s: float) -> bool:
        """Sleep until woken or for ``timeout_s``; whether it was woken. A wake-up before the call counts."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await self._heard.wait()
        except TimeoutError:
            return False
        finally:
            self._heard.clear()
        return True


class Wakeups:
    """All subscriptions of one Space. Lives as long as the Space; connects at the first listener."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._pool = client.connection_pool
        self._ears: dict[str, set[Ear]] = {}
        self._confirmations: dict[str, deque[asyncio.Future[None]]] = {}
        self._connection: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._connected = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listen(self, channel: str, *, chunks: bool = False) -> AsyncIterator[Ear]:
        """An ear on the channel; entered when the server has confirmed the subscription, or 1 s has passed.

        Whoever asks for the state of the flight after entering cannot miss a change: either the
        state has it already or the message is on its way to this ear. With ``chunks`` it is
        woken for each batch of a stream too, which would only make a caller of claim ask in vain.
        """
        ear = Ear(chunks=chunks)
        first = channel not in self._ears
        self._ears.setdefault(channel, set()).add(ear)
        try:
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())
            # A second listener subscribes again: its confirmation is what tells it that the first one's
            # subscription is in force, and that no unsubscription is under way between the two.
            await self._subscribe(channel, again=not first)
            yield ear
        finally:
            ears = self._ears.get(channel, set())
            ears.discard(ear)
            if not ears:
                self._ears.pop(channel, None)
                await self._send("SUNSUBSCRIBE", channel)

    def wake_all(self) -> None:
        """Something happened that nobody can tell on a channel: all look for themselves."""
        for ears in self._ears.values():
            for ear in ears:
                ear.wake()

    async def aclose(self) -> None:
        """Stop listening. Ears still open only poll."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.disconnect()

    async def _subscribe(self, channel: str, *, again: bool) -> None:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_S):
                await self._connected.wait()
                # Confirmations of one channel come back in the order of the requests, so each takes the
                # oldest future. One future per channel would let the answer to an earlier request,
                # with an unsubscription behind it, pass for the answer to this one.
                self._confirmations.setdefault(channel, deque()).append(confirmed)
                await self._send("SSUBSCRIBE", channel)
                await confirmed

    async def _send(self, *command: str) -> None:
        if not self._connected.is_set():
            return
        # In a task of its own: redis-py gives the connection up when a sending is cancelled, and all who listen on it would
        # lose it because one has left.
        await asyncio.shield(asyncio.ensure_future(self._carry(command)))

    async def _carry(self, command: tuple[str, ...]) -> None:
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(SEND_S), self._sending:  # two writers on one stream would interleave their bytes
                # Looked at here, not before: it may have been lost while we waited for the others, and redis-py would
                # connect it anew by itself, behind the back of `_read`, which subscribes to everything again.
                if self._connection.is_connected:
                    await self._connection.send_command(*command, check_health=False)

    async def _read(self) -> None:
        pause = 0.01
        while True:
            try:
                self._connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
                async with asyncio.timeout(CONNECT_S):  # a server that hangs lets us in, and answers no greeting
                    await self._connection.connect()
                stranded, self._confirmations = self._confirmations, {}
                self._connected.set()
                for channel in list(self._ears):
                    again: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    again.add_done_callback(functools.partial(self._heard_again, channel, stranded.get(channel, ())))
                    self._confirmations.setdefault(channel, deque()).append(again)
                    await self._send("SSUBSCRIBE", channel)
                self.wake_all()  # whatever was said while we were away
                pause = 0.01
                while True:
                    self._heard(await self._connection.read_response(timeout=math.inf))
            except (RedisError, OSError):
                pass
            finally:
                self._connected.clear()
                if self._connection is not None:
                    with contextlib.suppress(Exception):
                        await self._connection.disconnect(nowait=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _heard_again(self, channel: str, stranded: Iterable[asyncio.Future[None]], _: asyncio.Future[None]) -> None:
        """Now, and not before, nothing more can be missed: what was said since the connection was lost is looked for,
        and who asked for a confirmation on the lost one has it."""
        for confirmed in stranded:
            if not confirmed.done():
                confirmed.set_result(None)
        for ear in self._ears.get(channel, ()):
            ear.wake()

    def _heard(self, message: Any) -> None:
        match message:
            case [b"ssubscribe", channel, *_]:
                waiting = self._confirmations.get(channel.decode())
                if waiting:
                    confirmed = waiting.popleft()
                    if not waiting:
                        del self._confirmations[channel.decode()]
                    if not confirmed.done():
                        confirmed.set_result(None)
            case [b"smessage", channel, word]:
                for ear in self._ears.get(channel.decode(), ()):
                    if word != b"chunk" or ear.chunks:
                        ear.wake()
