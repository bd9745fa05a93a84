"""The proxy's own description: what is made from it, valid or not, never breaks the proxy, and nobody gets past its door."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from memgang.doors import guessing
from memgang.doors.proxy.describing import description
from memgang.space import Space
from memgang.store import tokens
from tests.proxy.conftest import Set
from tests.proxy.upstream import Strict, served

schemathesis = pytest.importorskip("schemathesis")

PATHS = sorted(description()["paths"])
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")


def conforming(url: str, mode: Any, examples: int) -> list[int]:
    """Ask all operations with what the description allows, or with what it forbids; each answer must be one it names."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    statuses: list[int] = []
    schema = schemathesis.openapi.from_dict(description())
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                  suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
            statuses.append(case.call_and_validate(base_url=url, checks=checks, timeout=30).status_code)

        ask()
    return statuses


@pytest.mark.catalogue("C1")
@pytest.mark.parametrize("mode", ["positive", "negative"])
async def test_nothing_made_from_the_description_breaks_the_proxy(proxied: Callable[..., Any], mode: str) -> None:
    """Valid requests and broken ones, on every route: never a 5xx, always the kind of answer that is described."""
    async with served(Strict()) as url, proxied((url,)) as proxy:
        wanted = schemathesis.GenerationMode(mode)
        statuses = await asyncio.to_thread(conforming, proxy.url.removesuffix("/v1"), wanted, 8 if mode == "positive" else 6)
        after = await proxy.client.models.list()

    assert len(statuses) > 20 and max(statuses) < 500 and after.data
    if mode == "positive":
        assert statuses.count(200) > len(statuses) // 3


async def test_the_description_is_served_to_those_who_may_come_in(proxy: Set) -> None:
    """At a path of its own, from the same source as the one in docs/."""
    async with httpx.AsyncClient() as http:
        reply = await http.get(proxy.url.removesuffix("/v1") + "/openapi.json")

    assert reply.json() == description() and not proxy.upstream.others


async def ours(space: Space) -> set[bytes]:
    """The keys of this space; but for that of who keeps house, which comes and goes."""
    store = space.store
    return set(await store.wire.call("KEYS", f"*{space.name}*")) - {store.keys.janitor(store.keys.space).encode()}


@pytest.mark.catalogue("D8")
async def test_no_route_of_the_description_is_open_without_a_token(proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path and method, without, with a wrong and with a revoked token: 401, and nothing has been done."""
    monkeypatch.setattr(guessing, "WRONG_A_MINUTE", 10_000)
    async with proxied(require_token=True) as proxy, httpx.AsyncClient(timeout=30) as http:
        token, revoked = await tokens.create(proxy.space.store, "planner")
        await tokens.revoke(proxy.space.store, token.id)
        await asyncio.sleep(tokens.FRESH_S)
        before = await ours(proxy.space)
        for path in [re.sub(r"\{\w+\}", "m", path) for path in PATHS] + ["/", "/healthz", "/v1/files", "/docs"]:
            for method in METHODS:
                for shown in ({}, {"authorization": "Bearer mgt_" + "0" * 12 + "_" + "A" * 43}, {"authorization": f"Bearer {revoked}"}):
                    reply = await http.request(method, proxy.url.removesuffix("/v1") + path, headers=shown, json={"model": "m"})
                    assert reply.status_code == 401, (method, path)
        assert await ours(proxy.space) == before
    assert not proxy.upstream.calls and not proxy.upstream.others


@pytest.mark.catalogue("D7")
async def test_no_route_of_the_description_answers_other_hosts_and_pages(proxy: Set) -> None:
    """Rebinding names, addresses of elsewhere, and pages: 403 on every path and method, for who has no token to show."""
    port = proxy.url.removesuffix("/v1").rpartition(":")[2]
    wrong: list[dict[str, str]] = [
        {"host": host} for host in ("evil.example", "127.0.0.1.nip.io", f"localhost.evil.example:{port}", "0.0.0.0", "[::ffff:127.0.0.1]",
                                    "127.1", "2130706433", "localhost:80@evil.example", "", "localhost, evil.example")]
    wrong += [{"origin": origin} for origin in ("null", "http://evil.example", f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port}.evil",
                                                "file://", f"http://user@127.0.0.1:{port}", f"http://localhost:{port}, http://evil.example")]
    async with httpx.AsyncClient(timeout=30) as http:
        for number, path in enumerate(re.sub(r"\{\w+\}", "m", path) for path in PATHS):
            for method in METHODS:
                for headers in wrong[number % 2::2]:  # each on every other path: that is every one on every kind
                    reply = await http.request(method, proxy.url.removesuffix("/v1") + path, headers=headers, json={"model": "m"})
                    assert reply.status_code in (400, 403), (method, path, headers)

    assert not proxy.upstream.calls and not proxy.upstream.others
