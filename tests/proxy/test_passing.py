"""What is passed through comes out as it came in, whatever an upstream sends, and leaves nothing open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from tests.proxy.test_wire import statuses, told

HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\n%s\r\n"


@contextlib.asynccontextmanager
async def saying(*replies: bytes) -> AsyncIterator[str]:
    """An upstream that says these bytes, one after the other, on a connection each; its address."""
    left = list(replies)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_a_header_comes_out_as_the_bytes_it_came_in(proxied: Callable[..., Any]) -> None:
    """UTF-8, as names of files are, and bytes that are no text at all."""
    given = ("attachment; filename=\"Łódź.txt\"".encode(), b"attachment; filename=\"\xe9\xff.txt\"")
    replies = [HEAD % (b"200 OK", b"Content-Length: 1\r\nContent-Disposition: " + one + b"\r\n") + b"x" for one in given]
    async with saying(*replies) as url, proxied((url,)) as proxy, httpx.AsyncClient(timeout=30) as http:
        got = [await http.get(proxy.url + "/files/a/content") for _ in given]

    assert [(reply.status_code, reply.content) for reply in got] == [(200, b"x")] * 2
    assert tuple(dict(reply.headers.raw)[b"content-disposition"] for reply in got) == given


async def test_an_answer_without_a_body_has_no_length_of_one(proxied: Callable[..., Any]) -> None:
    """304 and 204 may say how long the body would be; behind them the connection serves the next request."""
    replies = [HEAD % (status, b"Content-Length: 5\r\n") for status in (b"304 Not Modified", b"204 No Content", b"304 Not Modified")]
    ask = b"GET /v1/files/a HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    async with saying(*replies) as url, proxied((url,)) as proxy:
        reply = await told(proxy, ask % b"" + ask % b"" + ask % b"Connection: close\r\n")

    assert statuses(reply) == [304, 204, 304] and b"content-length" not in reply
