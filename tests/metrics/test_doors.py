"""Who is given the page: `memgang metrics` and the proxy, over real HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from memgang.doors.metrics.app import Exporter
from memgang.doors.metrics.serving import exporter_of
from memgang.doors.proxy.serving import Place
from memgang.errors import ConfigError
from memgang.metrics import Scraper
from memgang.space import Space
from memgang.store import tokens
from tests.gates import until
from tests.metrics.conftest import OPEN, samples, value
from tests.proxy.conftest import Set
from tests.proxy.upstream import served
from tests.recall.conftest import Own


@contextlib.asynccontextmanager
async def exporting(space: Space, **place: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An exporter on a port of its own, and a client of it."""
    app: Exporter = await exporter_of(space, Place(**{"host": "127.0.0.1", "port": 0, **place}))
    async with served(app) as url, httpx.AsyncClient(base_url=url.removesuffix("/v1"), timeout=30) as client:
        yield client


def test_the_command_serves_until_it_is_told_to_end(space_name: str) -> None:
    """It prints its address, answers by any process's counters, refuses a head without end, and ends by SIGTERM with status 0."""
    put = [sys.executable, "-m", "memgang", "put", "--text", "hello", "--space", space_name]
    subprocess.run(put, check=True, capture_output=True, timeout=60)
    command = [sys.executable, "-m", "memgang", "metrics", "--port", "0", "--space", space_name, "--agents"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as running:
        try:
            assert running.stdout is not None
            told = running.stdout.readline()
            url = told.split()[3].rstrip(",")
            page = httpx.get(url, headers={"accept": OPEN}, timeout=30)
            health = httpx.get(url.replace("/metrics", "/healthz"), timeout=30)
            with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port), timeout=30) as endless:
                endless.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 200_000)
                refused = endless.recv(12)
            running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0 and running.stdout.read() == "stopped\n"
        finally:
            running.kill()

    assert url.startswith("http://127.0.0.1:") and f"space {space_name}" in told
    found = samples(page.text)
    assert (value(found, "memgang_up"), value(found, "memgang_objects"), value(found, "memgang_agent_bytes")) == (1, 1, 5)
    assert (health.status_code, health.text) == (200, "ok\n") and refused == b"HTTP/1.1 431"


async def test_only_who_may_come_in_is_given_the_page(space: Space) -> None:
    """Where a token is needed: none, a wrong one, a revoked one, one of a tenant are refused; health is told to all."""
    made, text = await tokens.create(space.store, "prometheus")
    _, tenants = await tokens.create(space.store, "somebody", "tenant-a")
    async with exporting(space, require_token=True) as client:
        async def asked(token: str = "") -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return (await client.get("/metrics", headers=headers)).status_code

        assert [await asked(), await asked("mgt_wrong"), await asked(tenants), await asked(text)] == [401, 401, 403, 200]
        assert (await client.get("/metrics")).headers["www-authenticate"] == "Bearer"
        assert (await client.get("/healthz")).status_code == 200
        await tokens.revoke(space.store, made.id)

        async def refused() -> bool:
            return await asked(text) == 401

        await until(refused)


@pytest.mark.catalogue("D11")
async def test_who_guesses_tokens_is_told_to_wait_and_who_has_one_is_not(space: Space) -> None:
    """The sixth wrong one a minute is 429, with the time to wait; a scraper behind the same address gets its page."""
    _, text = await tokens.create(space.store, "prometheus")
    async with exporting(space, require_token=True) as client:
        wrong = [await client.get("/metrics", headers={"authorization": "Bearer mgt_wrong"}) for _ in range(6)]
        right = await client.get("/metrics", headers={"authorization": f"Bearer {text}"})

    assert [reply.status_code for reply in wrong] == [401] * 5 + [429] and right.status_code == 200
    assert 0 < int(wrong[5].headers["retry-after"]) <= 60


async def test_beyond_this_machine_a_token_is_always_needed(space: Space) -> None:
    """An exporter for 0.0.0.0 asks for one though nobody said so."""
    app = await exporter_of(space, Place(host="0.0.0.0", port=0))
    async with served(app) as url, httpx.AsyncClient(base_url=url.removesuffix("/v1")) as client:
        assert (await client.get("/metrics")).status_code == 401


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
async def test_pages_of_others_are_refused(space: Space, headers: dict[str, str]) -> None:
    """A name that was led here by DNS, or a page elsewhere, is told nothing, not even whether all is well."""
    async with exporting(space) as client:
        for path in ("/metrics", "/healthz"):
            assert (await client.get(path, headers=headers)).status_code == 403


async def test_nothing_else_is_there(space: Space) -> None:
    """Other paths 404, other methods 405, HEAD has no body, and no reply is kept by a cache."""
    async with exporting(space) as client:
        assert (await client.get("/")).status_code == 404
        posted = await client.post("/metrics", content=b"x" * 100_000)
        assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
        head = await client.head("/metrics")
        assert (head.status_code, head.content, head.headers["cache-control"]) == (200, b"", "no-store")
        assert int(head.headers["content-length"]) > 1000


async def test_health_and_page_tell_of_a_server_that_is_away(own: Own, opened: Callable[..., Any]) -> None:
    """503 for who asks for health; the page is served, and says up 0."""
    async with opened(url=own.url, patience_ms=100) as space, exporting(space) as client:
        own.go_away()
        health, page = await client.get("/healthz"), await client.get("/metrics")

        assert health.status_code == 503
        assert page.status_code == 200 and value(samples(page.text), "memgang_up") == 0


async def test_the_proxy_serves_the_page_by_its_own_rules(proxied: Callable[..., Any]) -> None:
    """At /metrics, with what it has shared; behind /v1 it is the upstream's; without a needed token nobody gets it."""
    ask = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with proxied() as proxy:
        assert isinstance(proxy, Set)
        for _ in range(3):
            await proxy.client.chat.completions.create(**ask)
        await proxy.space.flush()
        async with httpx.AsyncClient(base_url=proxy.url.removesuffix("/v1")) as client:
            page = await client.get("/metrics", headers={"accept": OPEN})
            assert not proxy.upstream.others
            await client.get("/v1/metrics")
            assert [path for _, path, _ in proxy.upstream.others] == ["/v1/metrics?"]

            found = samples(page.text)
            assert value(found, "memgang_calls_total", kind="llm", outcome="computed") == 1
            assert value(found, "memgang_calls_total", kind="llm", outcome="hit") == 2
            assert value(found, "memgang_saved_tokens_total") == 2 * value(found, "memgang_spent_tokens_total") > 0
            await tokens.create(proxy.space.store, "ann")

            async def refused() -> bool:
                return (await client.get("/metrics")).status_code == 401

            await until(refused)


async def test_without_the_extra_it_says_what_to_install(
    space: Space, proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line with the package; the proxy works without it and says so where the page would be."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'memgang\[metrics\]'"):
        Scraper(space)
    async with proxied() as proxy, httpx.AsyncClient(base_url=proxy.url.removesuffix("/v1")) as client:
        page = await client.get("/metrics")

        assert page.status_code == 501 and "memgang[metrics]" in page.text
