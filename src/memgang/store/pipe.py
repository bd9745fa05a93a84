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
        self._limit: asyncio.TimerHandle | None = None
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
        # One time limit for the batch. Where the loop was blocked for longer, what has come is read before the limit is looked at.
        self._limit = self._loop.call_later(limit_s, self._late, limit_s)
        self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))

    def close(self) -> None:
        """Close now. A batch under way is told."""
        self.closed = True
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

    def _late(self, limit_s: float) -> None:
        self._lost(TimeoutError(f"no reply within {limit_s:.1f} s"))

    def _lost(self, error: Exception) -> None:
        self.close()
        if self._told is not None:
            self._replies = []
            self._end()([], error)

    def _end(self) -> Told:
        told, self._told = self._told, None
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        assert told is not None
        return told
