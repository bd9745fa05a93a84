"""One connection: a batch is answered whole or not at all, and what is not clean is never used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError, ConnectionError, InvalidResponse, ResponseError, TimeoutError
from tests.gates import until

import memgang
from memgang.store.pipe import Pipe

Made = Callable[[], Awaitable[tuple[Pipe, asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    """A pipe, and the server's side of it in the test's hands."""
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait((reader, writer))

    server = await asyncio.start_unix_server(arrive, tmp_path / "sock")
    pipes: list[Pipe] = []

    async def make() -> tuple[Pipe, asyncio.StreamReader, asyncio.StreamWriter]:
        _, writer = await asyncio.open_unix_connection(tmp_path / "sock")
        pipe = Pipe(writer)
        writer.transport.set_protocol(pipe)
        pipes.append(pipe)
        return pipe, *await arrived.get()

    yield make
    for pipe in pipes:
        pipe.close()
    server.close()


def told(pipe: Pipe, count: int, limit_s: float = 30.0) -> asyncio.Future[list[Any]]:
    """What the pipe says of a batch; once."""
    future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def tell(replies: list[Any], error: Exception | None) -> None:
        if error is not None:
            assert replies == []
            future.set_exception(error)
        else:
            future.set_result(replies)

    pipe.send([("PING", n) for n in range(count)], limit_s, tell)
    return future


async def test_a_batch_is_one_piece_and_its_replies_come_in_order_however_they_are_cut(made: Made) -> None:
    """A refusal of one command is its reply."""
    pipe, reader, writer = await made()
    answered = told(pipe, 3)
    await reader.readuntil(b"2\r\n")
    for byte in b"+one\r\n-ERR no\r\n*2\r\n$1\r\na\r\n:7\r\n":
        assert not answered.done()
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    one, two, three = await answered
    assert (one, str(two), three) == (b"one", "no", [b"a", 7]) and isinstance(two, ResponseError)
    again = told(pipe, 1)
    writer.write(b"+again\r\n")
    assert await again == [b"again"] and not pipe.closed


@pytest.mark.parametrize(("says", "error"), [
    (b"+one\r\n-LOADING wait\r\n", ConnectionError), (b"+one\r\n-READONLY it is a replica\r\n", ResponseError),
    (b"-NOAUTH who are you\r\n", AuthenticationError), (b"+one\r\n+two\r\n+three\r\n", ConnectionError),
    (b"+one\r\n", ConnectionError), (b"+one\r\n?what\r\n", InvalidResponse),
])
async def test_what_is_not_two_replies_is_no_answer_and_ends_the_connection(made: Made, says: bytes, error: type[Exception]) -> None:
    """The server is not ready, says more or less than it was asked, or nothing that can be read."""
    pipe, _, writer = await made()
    answered = told(pipe, 2)
    writer.write(says)
    await writer.drain()
    writer.close()
    with pytest.raises(error):
        await answered
    assert pipe.closed


async def test_what_is_said_unasked_ends_the_connection(made: Made) -> None:
    """It would be taken for the reply to the next batch."""
    pipe, _, writer = await made()
    writer.write(b"+late\r\n")

    async def closed() -> bool:
        return pipe.closed

    await until(closed)


async def test_a_batch_has_its_own_time_limit_whatever_limits_came_before(made: Made) -> None:
    """A short one behind a long one, and a long one behind a short one."""
    pipe, _, writer = await made()
    for limit_s in (60.0, 0.02, 60.0):
        answered = told(pipe, 1, limit_s)
        writer.write(b"+in time\r\n")
        assert await answered == [b"in time"]
    patient = told(pipe, 1, 60.0)
    await asyncio.sleep(0.05)  # past the end of the short one
    assert not patient.done()
    writer.write(b"+patient\r\n")
    assert await patient == [b"patient"]
    hung = told(pipe, 1, 0.02)
    with pytest.raises(TimeoutError):
        await hung
    assert pipe.closed


async def test_idle_connections_that_were_cut_are_not_used(space: memgang.Space) -> None:
    """So no call has to be sent twice."""
    wire = space.store.wire
    await asyncio.gather(*(wire.call("PING") for _ in range(30)))
    cut = [pipe for _, pipe in wire._idle]
    for pipe in cut:
        pipe._transport.get_extra_info("socket").shutdown(2)

    async def noticed() -> bool:
        return all(pipe.closed for pipe in cut)

    await until(noticed)
    while (pipe := wire._ready()) is not None:  # whatever keeps house may have made another
        assert pipe not in cut
        pipe.close()
    assert await wire.call("PING") == b"PONG"


async def test_a_command_that_cannot_be_written_is_refused_and_the_connection_stays(space: memgang.Space) -> None:
    """Nothing of it was sent."""
    wire = space.store.wire
    await wire.call("PING")
    with pytest.raises(TypeError):
        await wire.call("SET", "x", object())  # type: ignore[arg-type]
    assert await wire.call("PING") == b"PONG" and wire._lanes == 0


async def test_passwords_and_databases_are_redis_pys_business(space: memgang.Space, space_name: str) -> None:
    """A user with a password, logged in by redis-py before the connection is ours; a wrong one is refused."""
    call, where = space.store.wire.call, space.store.address.redis_kwargs()
    user = space_name
    await call("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")
    try:
        for password in ("secret", "wrong"):
            client = redis.asyncio.Redis(**{**where, "username": user, "password": password, "protocol": 2})
            connection = client.connection_pool.make_connection()
            if password == "wrong":
                with pytest.raises(ConnectionError, match="password"):
                    await Pipe.connect(connection)
            else:
                pipe = await Pipe.connect(connection)
                answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
                pipe.send([("ACL", "WHOAMI")], 30.0, lambda replies, _: answered.set_result(replies))
                assert await answered == [user.encode()]
                pipe.close()
            await client.aclose()
    finally:
        await call("ACL", "DELUSER", user)
