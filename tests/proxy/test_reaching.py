"""Connections to upstreams: kept where they can be, without cookies, redirects or anybody else's idea of where to go."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from memgang.doors.proxy.reaching import Connections
from tests.proxy.upstream import served


class Server:
    """Says one piece, and after the gate that this was all; knows who asked, and with which headers."""

    def __init__(self, *headers: tuple[bytes, bytes], status: int = 200, piece: bytes = b"a piece") -> None:
        self.status, self.headers, self.piece = status, list(headers), piece
        self.gate = asyncio.Event()
        self.seen: list[tuple[Any, dict[bytes, bytes], str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append((scope["client"], dict(scope["headers"]), scope["path"]))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.piece, "more_body": True})
        await self.gate.wait()
        await send({"type": "http.response.body", "body": b""})

    @property
    def connections(self) -> int:
        """From how many."""
        return len({client for client, *_ in self.seen})


@pytest.fixture
async def to() -> Any:
    """Connections to one server, closed at the end."""
    made: list[Connections] = []

    def build(url: str) -> Connections:
        made.append(Connections([url], 20))
        return made[-1]

    yield build
    for one in made:
        await one.aclose()


async def first_piece(connections: Connections, url: str, *, raw: bool = False) -> bytes:
    """What comes first; what comes after that is left to itself."""
    async with connections.send(url, "POST", "/x", b"{}", {}, raw=raw) as response:
        return await response.content.readany()


async def test_a_connection_is_kept_though_the_end_of_a_body_comes_later(to: Callable[[str], Connections]) -> None:
    """An answer is whole at its own end marker; the end of the body is read aside, and the next request needs no connection."""
    server = Server()
    async with served(server) as url:
        connections = to(url)
        await first_piece(connections, url)
        waiting = list(connections._lingering)
        server.gate.set()
        await asyncio.gather(*waiting)
        await first_piece(connections, url)

    assert len(waiting) == 1 and server.connections == 1 and len(server.seen) == 2


async def test_a_connection_whose_reader_has_failed_is_closed(to: Callable[[str], Connections]) -> None:
    """Nobody wants the rest, and a server that is told so need not make it."""
    server = Server()
    async with served(server) as url:
        connections = to(url)
        with pytest.raises(ZeroDivisionError):
            async with connections.send(url, "POST", "/x", b"{}", {}, raw=False):
                raise ZeroDivisionError
        server.gate.set()
        await asyncio.gather(*connections._lingering)
        await first_piece(connections, url)

    assert server.connections == 2


async def test_closing_does_not_wait_for_the_end_of_a_body() -> None:
    """A server that never ends its answer does not hold up the end of the proxy."""
    server = Server()
    async with served(server) as url:
        connections = Connections([url], 20)
        await first_piece(connections, url)
        waiting = list(connections._lingering)
        await connections.aclose()
        server.gate.set()

    assert [task.cancelled() for task in waiting] == [True]


async def test_what_a_server_sets_is_not_sent_again(to: Callable[[str], Connections]) -> None:
    """A cookie would go from one caller's answer into another caller's request."""
    server = Server((b"set-cookie", b"who=first; Path=/"))
    server.gate.set()
    async with served(server) as url:
        url = url.replace("127.0.0.1", "localhost")  # no client keeps cookies of addresses
        connections = to(url)
        await first_piece(connections, url)
        await first_piece(connections, url)

    assert [b"cookie" in headers for _, headers, _ in server.seen] == [False, False]


async def test_a_redirect_is_an_answer(to: Callable[[str], Connections]) -> None:
    """It would lead where nobody has allowed to go."""
    server = Server((b"location", b"/elsewhere"), status=307)
    server.gate.set()
    async with served(server) as url, to(url).send(url, "POST", "/x", b"{}", {}, raw=False) as response:
        assert response.status == 307

    assert [path for *_, path in server.seen] == ["/v1/x"]


async def test_a_compressed_body_is_read_or_handed_on_as_it_is(to: Callable[[str], Connections]) -> None:
    """Who passes it on passes on what says so, too."""
    server = Server((b"content-encoding", b"gzip"), piece=gzip.compress(b"a piece"))
    server.gate.set()
    async with served(server) as url:
        connections = to(url)
        found = await first_piece(connections, url), await first_piece(connections, url, raw=True)

    assert found == (b"a piece", server.piece)


async def test_a_path_is_sent_as_it_was_said(to: Callable[[str], Connections]) -> None:
    """Nothing is decoded on the way: what is one name here must not become two there."""
    server = Server()
    server.gate.set()
    raw = list[bytes]()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        raw.append(scope["raw_path"] + b"?" + scope["query_string"])
        await server(scope, receive, send)

    async with served(noting) as url, to(url).send(url, "GET", "/files/a%2Fb%41?q=%7e+1", None, {}, raw=True):
        pass

    assert raw == [b"/v1/files/a%2Fb%41?q=%7e+1"]


async def test_a_server_is_asked_through_the_proxy_this_machine_is_told_to_use(
    to: Callable[[str], Connections], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everything else here that asks the network; but not those that are excepted."""
    server = Server()
    server.gate.set()
    async with served(server) as url:
        for name in ("HTTP_PROXY", "NO_PROXY", "no_proxy", "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", url.removesuffix("/v1"))
        await first_piece(to("http://provider.invalid/v1"), "http://provider.invalid/v1")
        monkeypatch.setenv("no_proxy", "provider.invalid")
        with pytest.raises(aiohttp.ClientConnectorError):
            await first_piece(to("http://provider.invalid/v1"), "http://provider.invalid/v1")

    assert [headers[b"host"] for _, headers, _ in server.seen] == [b"provider.invalid"]
