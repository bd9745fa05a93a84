"""A canary goes through both doors in every way a request can end, with all logging on, and is looked for everywhere but in the bodies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.doors.test_mcp_http import HEADERS, HELLO, Running
from tests.proxy.conftest import KEY
from tests.proxy.conftest import proxied as proxied  # a fixture
from tests.proxy.conftest import upstream as upstream
from tests.proxy.test_sharing import ASK
from tests.test_secrets import PAYLOAD, everything_else

from memgang.space import Space
from memgang.store import tokens

pytestmark = pytest.mark.catalogue("D15")

SHORT = f"{PAYLOAD}-at-30c"
SAID = {"messages": [{"role": "user", "content": PAYLOAD * 2}],  # an outline of a call shows texts of up to 40 characters
        "tools": [{"type": "function", "function": {"name": "f", "description": PAYLOAD * 2}},
                  {"type": "mcp", "server_label": "m", "authorization": SHORT, "headers": {"x-anything": SHORT}}],
        "extra_body": {"api_key": SHORT, "routes": [{"x-api-key": SHORT}]}}


async def test_the_proxy_keeps_secrets_in_every_end_of_a_request(
    proxied: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success, refusals, broken streams, time-outs, bad input, a crash of ours: payload, provider's key and token are nowhere."""
    caplog.set_level(logging.DEBUG)
    for library in ("httpx", "httpcore", "uvicorn", "asyncio"):
        logging.getLogger(library).setLevel(logging.DEBUG)
    async with proxied() as proxy, httpx.AsyncClient(timeout=30) as http:
        _, text = await tokens.create(proxy.space.store, "planner")
        secret = text.rpartition("_")[2]
        replies = []

        async def ask(number: int, how: str = "", path: str = "/chat/completions", content: bytes | None = None, **more: Any) -> None:
            proxy.upstream.next_.extend([how] * 3 if how else [])
            body = json.dumps(ASK | SAID | {"seed": number} | more).encode() if content is None else content
            replies.append(await http.post(proxy.url + path, content=body, headers={
                "authorization": f"Bearer {text}", "content-type": "application/json"}))
            proxy.upstream.next_.clear()

        await ask(0)
        for number, how in enumerate(("400", "400", "401", "quota", "500", "cut", "cut", "bad_event", "bad_json"), 1):
            await ask(number, how, stream=number % 2 == 0)
        await ask(50, content=f'{{"model": "{PAYLOAD}", "model": 1}}'.encode())
        await ask(51, content=f'{{"model": "m", "{PAYLOAD}": NaN}}'.encode())
        await ask(52, cache={"ttl": PAYLOAD})
        await ask(53, path="/files/x")
        monkeypatch.setattr(proxy.space.__class__, "form", lambda *_: 1 / 0)
        await ask(54)
        monkeypatch.undo()
        kept = await everything_else(proxy.space)

        told = "\n".join(f"{r.headers} {r.text}" for r in replies if r.status_code >= 400)
        logged = "\n".join(f"{r.getMessage()} {r.args} {r.exc_text}" for r in caplog.records if r.name.startswith("memgang"))
    assert replies[0].status_code == 200 and replies[-1].status_code == 500 and len({r.status_code for r in replies}) > 4
    for canary in (PAYLOAD, KEY, secret):
        found = [line[:200] for line in kept.splitlines() if canary in line]
        assert not found and canary not in logged
    assert KEY not in told and secret not in told


async def test_the_mcp_door_keeps_secrets_in_every_end_of_a_call(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success, wrong arguments, what is not there, a refused token: nothing of it is written to a log or the server."""
    _, text = await tokens.create(space.store, "planner")
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    server = await asyncio.to_thread(Running, space.name)
    try:
        async with (httpx2.AsyncClient(headers={"Authorization": f"Bearer {text}"}, timeout=60) as http,
                    Client(streamable_http_client(server.url, http_client=http)) as one):
            done = await one.call_tool("memgang_put", {"text": PAYLOAD, "name": "a/b"})
            assert not done.is_error
            for tool, arguments in {"memgang_put": {"text": PAYLOAD, "expect": PAYLOAD}, "memgang_get": {"ref": f"mg:{PAYLOAD}"},
                                    "memgang_peek": {"ref": "a/b", "mode": PAYLOAD}, "memgang_search": {"query": PAYLOAD},
                                    "memgang_list": {"cursor": PAYLOAD}, "memgang_fetch_url": {"url": f"https://u:{PAYLOAD}@127.0.0.1/"},
                                    "memgang_read_file": {"path": f"/{PAYLOAD}"}, PAYLOAD: {}}.items():
                try:
                    await one.call_tool(tool, arguments)
                except Exception as error:  # whatever the client makes of it
                    assert str(error)
        async with httpx.AsyncClient(timeout=30) as http:
            for body in (b"{" + PAYLOAD.encode(), json.dumps(HELLO | {"method": PAYLOAD}).encode()):
                await http.post(server.url, content=body, headers=HEADERS | {"Authorization": f"Bearer {text}"})
            await http.post(server.url, json=HELLO, headers=HEADERS | {"Authorization": f"Bearer {text[:-1]}"})
    finally:
        said = await asyncio.to_thread(server.end)
    kept = await everything_else(space)

    for canary in (PAYLOAD, text.rpartition("_")[2]):
        assert canary not in said and canary not in kept


def test_a_proxy_that_fails_to_start_says_no_secret(tmp_path: Path) -> None:
    """With --debug as well: neither keys nor the password of the server's address."""
    for flags in ([], ["--debug"]):
        done = subprocess.run(
            [sys.executable, "-m", "memgang", *flags, "proxy", "--upstream", "http://127.0.0.1:9/v1", "--port", "0"],
            capture_output=True, text=True, timeout=60,
            env={**os.environ, "MEMGANG_URL": f"redis://user:{KEY}@127.0.0.1:9/0", "OPENAI_API_KEY": KEY})
        assert done.returncode == 1 and KEY not in done.stdout + done.stderr and re.search("memgang|Error", done.stderr)
