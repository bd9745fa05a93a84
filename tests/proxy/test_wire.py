"""Bytes on the socket that no client library sends: made to confuse, to hold and to fill a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.doors.guarding import Patience
from tests.proxy.conftest import Set
from tests.proxy.test_sharing import ASK, TEXT

pytestmark = pytest.mark.catalogue("C9")

BODY = json.dumps(ASK).encode()
ESTABLISHED = "01"  # what Linux says of a connection with both ends open
EVIL = b"POST /v1/evil HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


def head(*lines: str, path: str = "/chat/completions", length: int | None = len(BODY)) -> bytes:
    """The head of a request."""
    sized = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([f"POST /v1{path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *sized, *lines, "", ""]).encode()


def chunked(*chunks: bytes) -> bytes:
    """The head of a request in pieces, and the pieces as they are."""
    return head("Transfer-Encoding: chunked", length=None) + b"".join(chunks)


@contextlib.asynccontextmanager
async def wire(proxy: Set) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection."""
    host, _, port = proxy.url[7:-3].partition(":")
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    small.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=small)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def told(proxy: Set, sent: bytes, *, ends: bool = False) -> bytes:
    """All that comes back until the door is closed. ``ends``: we close our side, as who has nothing more to say."""
    async with wire(proxy) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            await writer.drain()
            if ends:
                writer.write_eof()
            async with asyncio.timeout(60):
                return await reader.read()
    return b""  # the door was closed on what was still under way


def statuses(reply: bytes) -> list[int]:
    """Of all answers in it."""
    return [int(part[:3]) for part in reply.split(b"HTTP/1.1 ")[1:]]


async def well(proxy: Set) -> None:
    """Whoever asks now is answered, and nobody is still at anything."""
    assert (await proxy.client.chat.completions.create(**ASK)).choices[0].message.content == TEXT
    assert not [path for _, path, _ in proxy.upstream.others if "evil" in path]


SMUGGLED = [
    head("Transfer-Encoding: chunked") + b"0\r\n\r\n" + EVIL,
    head("Transfer-Encoding: chunked", length=4) + b"5c\r\n" + EVIL + b"\r\n0\r\n\r\n",
    head("Transfer-Encoding: xchunked", length=None) + b"0\r\n\r\n" + EVIL,
    head("Transfer-Encoding: chunked, identity", length=None) + b"0\r\n\r\n" + EVIL,
    head("Transfer-Encoding : chunked", length=None) + b"0\r\n\r\n" + EVIL,
    head("Transfer-Encoding:\x0bchunked", length=None) + b"0\r\n\r\n" + EVIL,
    head("Content-Length: 0") + BODY + EVIL, head(f"Content-Length: {len(BODY)}") + BODY + EVIL,
    head("Content-Length: 0, 5", length=None) + EVIL, head("Content-Length: +5", length=None) + EVIL,
    head("Content-Length: -1", length=None) + EVIL, head("Content-Length: 0x5", length=None) + EVIL,
    head("Content-Length: 5 5", length=None) + EVIL, head("Content-Length: ", length=None) + EVIL,
    head("Content-Length: 99999999999999999999999", length=None) + EVIL,
    chunked(b"zz\r\n", EVIL), chunked(b"-1\r\n", EVIL), chunked(b"fffffffffffffffff\r\n", EVIL), chunked(b"1 0\r\n", EVIL),
    chunked(b"2\r\n{}XX0\r\n\r\n", EVIL), chunked(b"0x2\r\n{}\r\n0\r\n\r\n", EVIL), chunked(b"2\n{}\n0\n\n", EVIL),
    chunked(b"0\r\nAuthorization: Bearer x\r\nHost: localhost\r\n\r\n", EVIL),
    head("X-A: b\r\n\tfolded: c") + BODY, head("X-A: b\r\n Content-Length: 0") + BODY + EVIL,
    head("X-A: a\0b") + BODY, head("X-\0A: b") + BODY, head("X A: b") + BODY, head(": b") + BODY, head("X-A\r\n") + BODY,
    head("X-A: b\rContent-Length: 0") + BODY, head("X-A: b\nContent-Length: 0") + BODY + EVIL,
    head().replace(b"\r\n", b"\n") + BODY, head().replace(b"HTTP/1.1", b"HTTP/9.9") + BODY, head().replace(b"HTTP/1.1", b"") + BODY,
    head().replace(b"POST", b"P\0ST") + BODY, head().replace(b"POST", b"CONNECT") + BODY,
    head().replace(b"/v1/", b"/v1\xff/") + BODY, head().replace(b"/v1/", b"*") + BODY,
    head().replace(b"/v1/", b"http://evil.example/") + BODY,
    head("Host: evil.example") + BODY, head().replace(b"Host: localhost\r\n", b"") + BODY,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0" * 100, b"GET\r\n\r\n", b"\r\n" * 50,
]


@pytest.fixture
async def quick(proxied: Callable[..., Any]) -> AsyncIterator[Set]:
    """A proxy that lingers for nobody."""
    async with proxied(patience=Patience(head_s=0.2, body_s=0.5, linger_s=0.05)) as set_:
        yield set_


async def test_what_two_servers_might_read_differently_ends_the_connection(quick: Set) -> None:
    """Two lengths, length and pieces, bad pieces, folded lines, NUL, line feeds alone, other protocols: no second request, no 5xx."""
    for sent in SMUGGLED:
        said = statuses(await told(quick, sent))
        assert all(400 <= status < 500 for status in said) and len(said) <= 1, (sent, said)
    await well(quick)
    assert len(quick.upstream.calls) == 1 and not quick.upstream.others


async def test_an_upgrade_is_a_request_like_any_other(quick: Set) -> None:
    """The body behind it is not read as another request, whatever protocol it wants to go on with."""
    for name in ("websocket", "h2c", "evil"):
        asks = head("Connection: Upgrade", f"Upgrade: {name}", length=len(EVIL)) + EVIL
        assert statuses(await told(quick, asks)) == [400]
        asks = head("Connection: Upgrade", f"Upgrade: {name}", length=None).replace(b"POST /v1/chat/completions", b"GET /v1/models")
        assert statuses(await told(quick, asks)) == [200]
        quick.upstream.others.clear()
    await well(quick)


async def test_requests_in_a_row_are_answered_in_their_order(proxy: Set) -> None:
    """Whoever sends the next before the answer is no attacker."""
    one, other = (head("X-Memgang-Agent: a" + end, length=len(BODY)) + BODY for end in ("", "\r\nConnection: close"))
    reply = await told(proxy, one * 3 + other)

    assert statuses(reply) == [200] * 4 and reply.count(b"x-memgang-cache: hit") == 3 and len(proxy.upstream.calls) == 1


async def test_a_request_that_has_begun_when_the_one_before_is_answered_is_answered_too(proxy: Set) -> None:
    """Its head comes in two parts, the first with the request before it: the connection is not ended in between."""
    one, other = head() + BODY, head("Connection: close") + BODY
    for cut in (4, 40, len(other) - len(BODY) - 1):
        async with wire(proxy) as (reader, writer), asyncio.timeout(60):
            writer.write(one + other[:cut])
            first = await reader.readuntil(b"\r\n\r\n")
            writer.write(other[cut:])
            reply = first + await reader.read()
        assert statuses(reply) == [200, 200], cut


@pytest.mark.parametrize(("sent", "says"), [
    (b"", []), (b"POST", [408]), (head()[:-2], [408]), (head(), []), (head() + BODY[:10], []), (chunked(b"5\r\n{"), []), (b"\r\n", [408])])
async def test_who_is_slow_is_sent_away_and_holds_up_nobody(proxied: Callable[..., Any], sent: bytes, says: list[int]) -> None:
    """Nothing, half a head, half a body, and no more: the door is closed, while others are answered."""
    async with proxied(patience=Patience(head_s=0.3, body_s=0.3, linger_s=0.05)) as proxy, contextlib.AsyncExitStack() as all_:
        slow = [await all_.enter_async_context(wire(proxy)) for _ in range(30)]
        for _, writer in slow:
            writer.write(sent)
        await well(proxy)
        async with asyncio.timeout(60):
            said = [await reader.read() for reader, _ in slow]
        assert [statuses(reply) for reply in said] == [says] * len(slow)
        await well(proxy)


async def test_a_head_in_drops_does_not_outlast_its_time(proxied: Callable[..., Any]) -> None:
    """Time runs from the first byte of a request, not from the last: who sends a byte now and then has no more of it."""
    async with proxied(patience=Patience(head_s=0.3, linger_s=0.05)) as proxy, wire(proxy) as (reader, writer):
        ended = asyncio.create_task(reader.read())
        writer.write(b"POST / HTTP/1.1\r\nX: ")
        with contextlib.suppress(ConnectionError):
            while not ended.done():
                writer.write(b"x")
                await asyncio.sleep(0.02)
        assert statuses(await ended) == [408]


@pytest.mark.parametrize("fields", [
    b"".join(b"X-%d: y\r\n" % number for number in range(10_000)), b"X: " + b"y" * 200_000 + b"\r\n", b"X" * 200_000 + b": y\r\n",
    b"X: y\r\n" * 300])
async def test_a_head_without_end_is_refused(quick: Set, fields: bytes) -> None:
    """Ten thousand fields, or one that does not end, also before its end has come."""
    for sent in (head()[:-2] + fields + b"\r\n" + BODY, head()[:-2] + fields):
        assert statuses(await told(quick, sent)) in ([431], [408] if len(fields) < 5_000 else [431])
    assert statuses(await told(quick, b"POST /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) == [431]
    await well(quick)
    assert len(quick.upstream.calls) == 1


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_hundred_megabytes_are_refused_before_they_are_read(proxied: Callable[..., Any], declared: bool) -> None:
    """Declared or in pieces: 413, most of it is never taken, and memory does not grow by it."""
    block, size = b"x" * 1_000_000, 100
    async with proxied(body_bytes_max=1_000_000, patience=Patience(linger_s=0.05)) as proxy, wire(proxy) as (reader, writer):
        before, most, taken = resident(), 0, 0
        writer.write(head(length=size * len(block)) if declared else chunked())
        with contextlib.suppress(ConnectionError):
            for _ in range(size):
                writer.write(block if declared else b"f4240\r\n" + block + b"\r\n")
                async with asyncio.timeout(30):
                    await writer.drain()
                taken, most = taken + 1, max(most, resident())
        with contextlib.suppress(ConnectionError):
            assert statuses(await reader.read()) in ([413], [])  # the door may have been closed on what was still under way
        assert taken < size and most - before < 60_000_000
        await well(proxy)


async def test_who_leaves_in_the_middle_leaves_nothing_behind(quick: Set) -> None:
    """A connection that ends behind each byte of a request, politely or not: no error, no worker that waits on."""
    whole = head() + BODY
    for cut in {*range(0, len(whole), 7), len(whole) - 1}:
        async with wire(quick) as (reader, writer):
            writer.write(whole[:cut])
            await writer.drain()
            if cut % 2:
                writer.write_eof()
                said = statuses(await reader.read())
                assert all(400 <= status < 500 for status in said), cut
    await well(quick)


def held(writer: asyncio.StreamWriter) -> bool:
    """Whether the server's end of this connection is open. Ours cannot tell while what was sent to it waits in the kernel."""
    ours, theirs = (writer.get_extra_info(name)[1] for name in ("sockname", "peername"))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (local.rpartition(":")[2], remote.rpartition(":")[2]) == (f"{theirs:04X}", f"{ours:04X}"):
            return state == ESTABLISHED
    return False


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells of the other end of a connection")
async def test_an_answer_nobody_takes_is_given_up(proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for much and reads nothing is cut off; the answer itself is kept, and others have it."""
    ask = ASK | {"stream": True, "max_tokens": 1}
    async with proxied(patience=Patience(stalled_s=0.2)) as proxy, wire(proxy) as (reader, writer):
        monkeypatch.setattr("tests.proxy.upstream.WORDS", ("much " * 1_000,) * 1_500)  # more than any socket holds
        writer.transport.pause_reading()  # as who has stopped
        body = json.dumps(ask).encode()
        writer.write(head(length=len(body)) + body)
        while not (await proxy.space.find(kind="answer")).objects:
            await asyncio.sleep(0.02)
        monkeypatch.undo()
        await well(proxy)
        async with asyncio.timeout(60):
            while held(writer):
                await asyncio.sleep(0.02)  # who reads while it is held is given the rest, and is not cut off
        writer.transport.resume_reading()
        with contextlib.suppress(ConnectionError):
            assert b"[DONE]" not in await reader.read()
