"""The MCP door over HTTP: loopback, Host, Origin, tokens, sizes and slow bodies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.types import Message, Receive, Scope, Send

from memgang.doors.listening import listen
from memgang.doors.mcp import guard
from memgang.doors.mcp.guard import Guard
from memgang.doors.mcp.serving import Web
from memgang.errors import ConfigError

TOKEN = "canary-" + "t" * 40
HELLO: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


class Running:
    """A server of its own process; `said` is all it has written when it has ended."""

    def __init__(self, space: str, *options: str) -> None:
        env = dict(os.environ) | {"MEMGANG_SPACE": space, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        self.child = subprocess.Popen([sys.executable, "-m", "memgang", "mcp", "--http", "--port", "0", *options], env=env,
                                      stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.child.stderr is not None
        first = self.child.stderr.readline()
        found = re.search(r"http://\S+", first)
        assert found, first
        self.url = found[0]
        self.port = int(re.findall(r":(\d+)/", self.url)[0])

    def end(self) -> str:
        """Tell it to end; what it has said."""
        self.child.send_signal(signal.SIGTERM)
        out, said = self.child.communicate(timeout=30)
        assert out == ""
        return said


@pytest.fixture
def running(space_name: str, tmp_path: Path) -> Iterator[Running]:
    """A server that wants a token."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    server = Running(space_name, "--token-file", str(tmp_path / "token"))
    yield server
    if server.child.poll() is None:
        server.end()


def ask(url: str, **headers: str) -> httpx.Response:
    """The first request of a client, with these headers on top."""
    with httpx.Client(timeout=30) as http:
        return http.post(url, json=HELLO, headers=HEADERS | {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.catalogue("D8", "D11")
async def test_only_who_shows_the_token_is_served(running: Running) -> None:
    """The SDK's client with the token works; without one, with a wrong one or another scheme it is 401 before any work, then 429."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        async with Client(streamable_http_client(running.url, http_client=http)) as client:
            assert len((await client.list_tools()).tools) >= 15
        wrong = ("Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN)
        shown = [ask(running.url)] + [ask(running.url, Authorization=value) for value in wrong]
        assert [answer.status_code for answer in shown] == [401] * 5
        assert {answer.headers["www-authenticate"] for answer in shown} == {"Bearer"}
        assert ask(running.url).status_code == 429
        async with Client(streamable_http_client(running.url, http_client=http)) as client:  # who has it is not locked out
            assert (await client.list_tools()).tools
    said = running.end()
    assert TOKEN not in said and "Traceback" not in said


@pytest.mark.catalogue("D7")
@pytest.mark.parametrize(("headers", "status"), [
    ({"Host": "evil.example"}, 421), ({"Host": "evil.example:{port}"}, 421), ({"Host": "127.0.0.1"}, 421), ({"Host": "localhost:1"}, 421),
    ({"Host": "127.0.0.1:{port}.evil.example"}, 421), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
    ({"Origin": "http://localhost:1"}, 403), ({"Origin": "http://localhost:{port}.evil.example"}, 403),
    ({"Origin": "https://127.0.0.1:{port}"}, 403),
    ({"Host": "localhost:{port}", "Origin": "http://127.0.0.1:{port}"}, 200), ({"Origin": "https://app.example"}, 200),
    ({"Host": "memory.lan"}, 200),
])
def test_host_and_origin_are_checked(space_name: str, headers: dict[str, str], status: int) -> None:
    """A page of another origin, or a name that leads here by rebinding, gets nothing; what was allowed by option does."""
    server = Running(space_name, "--origin", "https://app.example", "--served-as", "memory.lan")

    meant = {name: value.replace("{port}", str(server.port)) for name, value in headers.items()}

    try:
        assert ask(server.url, **meant).status_code == status
        if status == 421:  # and nothing beside the door answers either
            assert ask(server.url.replace("/mcp", "/other"), **meant).status_code == 421
    finally:
        server.end()


def test_odd_requests_get_an_answer_below_500(running: Running) -> None:
    """Too large, not JSON, wrong types, wrong methods, other paths: refused each time, and the server lives."""
    right = {"Authorization": f"Bearer {TOKEN}"}
    bodies = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, json.dumps(HELLO | {"method": "no/such"}).encode(),
              json.dumps(HELLO | {"params": []}).encode(), json.dumps(HELLO | {"id": {"a": 1}}).encode(), b"x" * (5 * 1024 * 1024)]
    with httpx.Client(timeout=30, headers=HEADERS | right) as http:
        found = [http.post(running.url, content=body).status_code for body in bodies]
        found += [http.request(method, running.url).status_code for method in ("PUT", "PATCH", "OPTIONS", "DELETE")]
        found += [http.get(running.url.replace("/mcp", path)).status_code for path in ("/", "/metrics", "/mcp/../etc", "/.env")]
        found.append(http.post(running.url, json=HELLO, headers={"Content-Type": "text/plain"}).status_code)
        assert all(400 <= status < 500 for status in found), found
        assert http.post(running.url, json=HELLO).status_code == 200
    assert "Traceback" not in running.end()


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends half a request and waits is told off by the clock; the answer itself may take its time."""
    monkeypatch.setattr(guard, "BODY_S", 0.01)
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        heard.append(await receive())

    first = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Message:
        if first:
            return first.pop()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await Guard(app, "", ["a"])({"type": "http", "headers": [(b"host", b"a")]}, receive, send)

    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(("options", "says"), [
    ({"host": "0.0.0.0"}, "serve it with a token"), ({"host": "::"}, "serve it with a token"),
    ({"host": "example.org"}, "serve it with a token"),
    ({"token": "short"}, "must have 32"),
])
def test_nobody_else_is_served_without_a_good_token(options: dict[str, Any], says: str) -> None:
    """Other addresses than loopback need a token, and one that cannot be guessed."""
    with pytest.raises(ConfigError, match=says):
        Web(**options)


def test_answers_are_not_held_back() -> None:
    """What is accepted has TCP named as its protocol, without which asyncio leaves Nagle's delay on and each answer takes 40 ms."""
    with listen(Web(port=0).host, 0, waiting=1) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_told_in_one_line(space_name: str) -> None:
    """Whoever else listens there is not disturbed, and the error names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "memgang", "mcp", "--http", "--port", str(taken.getsockname()[1])], capture_output=True, text=True,
            timeout=60, env=dict(os.environ) | {"MEMGANG_SPACE": space_name})

    assert done.returncode == 1
    assert re.fullmatch(r"memgang: cannot listen on 127.0.0.1:\d+: .*\n", done.stderr)


def test_options_of_http_without_it_are_refused(tmp_path: Path) -> None:
    """Whoever names a token or a port and forgets --http is not served without them."""
    given = {"--token-file": str(tmp_path / "t"), "--port": "1", "--host": "::1", "--origin": "http://a", "--served-as": "a"}
    for options in given.items():
        done = subprocess.run([sys.executable, "-m", "memgang", "mcp", *options], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout) == (1, "")
        assert "are for --http" in done.stderr
