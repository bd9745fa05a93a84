"""One connection: a batch of commands goes out in one piece, its replies come back in one call.

Connecting, TLS and authentication are redis-py's. Then its stream gives way to this protocol: of what redis-py costs
for one command, more than half is a task, a time limit and a wake-up for each reply, and a crowd pays that many times.

A batch is answered whole or not at all. Whoever asked may have left: the replies are read to the end all the same, so
that none can reach the wrong caller, and a connection with half a reply in its buffer is never used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import hiredis
from redis._parsers import BaseParser  # its errors, by what the server says
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse, ReadOnlyError, RedisError, TimeoutError

if TYPE_CHECKING:
    from memgang.store.wire import Command

Told = Callable[[list[Any], Exception | None], None]  # the replies; or why there are none

_MORE = object()


class Pipe(asyncio.Protocol):
    """A connection that is ready for commands. One batch at a time; lives until it is closed or lost."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer  # kept: it closes its connection when it is collected
        self._transport = cast(asyncio.Transport, writer.transport)
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_MORE)
        self._missing = 0
        self._replies: list[Any] = []
        self._told: Told | None = None
        self._ends = 0.0  # when the batch under way is given up
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.closed = False

    @classmethod
    async def connect(cls, connection: AbstractConnection) -> Pipe:
        """Connect as redis-py does, and take what it has connected.

        Raises:
            RedisError, OSError: what redis-py says.
        """
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            reader, writer = connection._reader, connection._writer
            if reader is None or writer is None or reader._buffer or reader.at_eof():  # type: ignore[attr-defined]  # what it has not read
                raise ConnectionError("the connection has more to say than its greeting")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        pipe = cls(writer)
        connection._reader = connection._writer = None  # else it would end with the object
        pipe._transport.set_protocol(pipe)
        return pipe

    def send(self, commands: Sequence[Command], limit_s: float, told: Told) -> None:
        """Send a batch; ``told`` is called once, in a later turn of the loop. For at most so long, then the connection is given up.

        Raises:
            TypeError, UnicodeEncodeError: a command cannot be written; nothing was sent.
        """
        # Packed by hiredis: redis-py's own packer is Python.
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # ints are taken too
        self._missing, self._replies, self._told = len(packed), [], told
        self._ends = self._loop.time() + limit_s
        if self._timer is None or self._timer.when() > self._ends:
            self._wait_until(self._ends)
        self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))

    def close(self) -> None:
        """Close now. A batch under way is told."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    # ── what the event loop says ──────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while self._missing:
                if (reply := self._reader.gets()) is _MORE:
                    return
                if isinstance(reply, RedisError) and isinstance(reply, ConnectionError | ReadOnlyError):
                    raise reply  # of the server, not of this command: loading, a replica, no user
                self._replies.append(reply)
                self._missing -= 1
            if self._told is None or self._reader.has_data():
                raise ConnectionError("the server says more than it was asked")
        except RedisError as error:
            self._lost(error)
            return
        replies, self._replies = self._replies, []
        self._end()(replies, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(ConnectionError(f"the connection was lost: {exc}" if exc else "the server has closed the connection"))

    def _wait_until(self, when: float) -> None:
        """One timer for many batches, which are answered long before it: to make and cancel one for each costs more than a look."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._told is None:
            return  # the next batch sets it again
        # Where the loop was blocked for longer, what has come meanwhile was read before this.
        if self._loop.time() < self._ends:
            self._wait_until(self._ends)
        else:
            self._lost(TimeoutError("no reply within its time limit"))

    def _lost(self, error: Exception) -> None:
        self.close()
        if self._told is not None:
            self._replies = []
            self._end()([], error)

    def _end(self) -> Told:
        told, self._told = self._told, None
        assert told is not None
        return told
