"""Who may come in: Host, Origin, tokens, tenants, limits; asked before any work."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from memgang.doors import guessing
from memgang.doors.guessing import Guesses
from memgang.errors import ConfigError
from memgang.store import tokens
from tests.proxy.conftest import Set, openai
from tests.proxy.test_sharing import ASK, RESPOND, raw

PATHS = ("/chat/completions", "/responses", "/embeddings", "/models", "/files/x")


async def ask(proxy: Set, path: str, method: str = "POST", **headers: str) -> httpx.Response:
    """A request of any method."""
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.request(method, proxy.url + path, json=ASK | {"input": "x"}, headers=headers)


@pytest.mark.catalogue("D7")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"host": "localhost@evil.example"}, {"origin": "http://evil.example"},
                                     {"origin": "null"}, {"origin": "http://localhost:1"}, {"host": "127.0.0.1.evil.example:80"}])
async def test_other_hosts_and_pages_are_refused_on_all_methods(proxy: Set, method: str, headers: dict[str, str]) -> None:
    """A page that was led here by DNS, or any page at all, reaches nothing."""
    reply = await ask(proxy, "/chat/completions", method, **headers)

    assert reply.status_code == 403 and not proxy.upstream.calls and not proxy.upstream.others


async def test_hosts_and_origins_can_be_allowed(proxied: Callable[..., Any]) -> None:
    """By name, as the command line says them."""
    async with proxied(hosts=["gang.example"], origins=["https://page.example"]) as proxy:
        reply = await ask(proxy, "/models", "GET", host="gang.example:8080", origin="https://page.example")

    assert reply.status_code == 200


async def test_without_tokens_this_machine_is_let_in_unless_told_otherwise(proxied: Callable[..., Any]) -> None:
    """`--require-token` closes the door; so does the first token that is made, and revoking the last does not open it."""
    async with proxied(require_token=True) as proxy:
        assert (await ask(proxy, "/models", "GET")).status_code == 401
    async with proxied() as proxy:
        assert (await ask(proxy, "/models", "GET")).status_code == 200
        token, _ = await tokens.create(proxy.space.store, "planner")
        await asyncio.sleep(tokens.FRESH_S)
        assert (await ask(proxy, "/models", "GET")).status_code == 401
        await tokens.revoke(proxy.space.store, token.id)
        await asyncio.sleep(tokens.FRESH_S)
        assert (await ask(proxy, "/models", "GET")).status_code == 401


@pytest.mark.catalogue("D8")
@pytest.mark.parametrize("path", PATHS)
async def test_a_wrong_missing_or_revoked_token_ends_before_any_work(
    proxied: Callable[..., Any], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 in the form clients know; the provider is not asked and nothing is written."""
    monkeypatch.setattr(guessing, "WRONG_A_MINUTE", 100)
    async with proxied() as proxy:
        _, good = await tokens.create(proxy.space.store, "planner")
        old, revoked = await tokens.create(proxy.space.store, "planner")
        await tokens.revoke(proxy.space.store, old.id)
        await asyncio.sleep(tokens.FRESH_S)
        wrong = [{}, {"authorization": "Bearer"}, {"authorization": f"Basic {good}"}, {"authorization": f"Bearer {revoked}"},
                 {"authorization": f"Bearer {good[:-1]}{'A' if good[-1] != 'A' else 'B'}"}, {"authorization": "Bearer sk-x"}]
        replies = [await ask(proxy, path, "POST", **headers) for headers in wrong]

        assert [r.status_code for r in replies] == [401] * len(wrong)
        assert not proxy.upstream.calls and not proxy.upstream.others
        assert (await ask(proxy, path, "POST", authorization=f"bearer {good}")).status_code == 200
        with pytest.raises(openai.AuthenticationError):
            await proxy.other("mgt_no").models.list()


@pytest.mark.catalogue("D11")
async def test_who_guesses_tokens_is_told_to_wait_and_who_has_one_is_not(proxied: Callable[..., Any]) -> None:
    """Five wrong ones a minute from an address are told so, further ones are 429; the right one is let in all the same."""
    async with proxied() as proxy:
        _, good = await tokens.create(proxy.space.store, "planner")
        await asyncio.sleep(tokens.FRESH_S)
        wrong = [await ask(proxy, "/models", "GET", authorization=f"Bearer {good[:-2]}{i:02}") for i in range(7)]
        right = await ask(proxy, "/models", "GET", authorization=f"Bearer {good}")

    assert [r.status_code for r in wrong] == [401] * 5 + [429] * 2 and right.status_code == 200
    assert 0 < int(wrong[5].headers["retry-after"]) <= 60 and wrong[5].json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.catalogue("D11")
def test_guesses_are_counted_by_address_and_forgotten_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address does not speak for another, the count begins anew with time, and its memory is bounded."""
    now = 1000.0
    monkeypatch.setattr(guessing.time, "monotonic", lambda: now)
    guesses = Guesses()
    assert [bool(guesses.wrong("a")) for _ in range(6)] == [False] * 5 + [True] and not guesses.wrong("b")
    now += 61
    assert not guesses.wrong("a")
    for number in range(guessing.ADDRESSES_MAX + 5):
        guesses.wrong(str(number))
    assert len(guesses._wrong) == guessing.ADDRESSES_MAX


@pytest.mark.catalogue("D11")
@pytest.mark.parametrize("wrong", ["mgt_000000000000_" + "A" * 43, "", "first", "last"])
async def test_a_token_is_hashed_random_and_compared_whole(
    proxied: Callable[..., Any], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every token of the right form is compared by one comparison of 32 bytes that takes its time, found or not."""
    compared: list[tuple[bytes, bytes]] = []
    same = hmac.compare_digest
    async with proxied() as proxy:
        token, good = await tokens.create(proxy.space.store, "planner")
        secret = good[17:]
        assert len(base64.urlsafe_b64decode(secret + "=")) * 8 == 256 and token.hash == hashlib.sha256(good.encode()).digest()
        shown = {"first": good[:17] + ("B" if secret[0] == "A" else "A") + secret[1:],
                 "last": good[:-1] + ("B" if secret[-1] == "A" else "A")}.get(wrong, wrong or good)
        monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or same(a, b))
        known = tokens.Tokens(proxy.space.store)

        assert (await known.owner(shown) is not None) is (shown == good)
    assert [(len(a), len(b)) for a, b in compared] == [(32, 32)]


@pytest.mark.catalogue("D2")
async def test_two_tenants_never_hit_across(proxied: Callable[..., Any]) -> None:
    """Same request, every route that shares; the scope is the token's, whatever the request says."""
    async with proxied() as proxy:
        both = [(await tokens.create(proxy.space.store, "planner", scope))[1] for scope in ("red", "blue")]
        for path, body in (("/chat/completions", ASK), ("/responses", RESPOND), ("/embeddings", {"model": "e", "input": "x"})):
            for more in ({}, {"stream": True}):
                hows = [(await raw(proxy, body | more | {"scope": "red", "cache": {"namespace": "red"}}, path,
                                   authorization=f"Bearer {token}")).headers["x-memgang-cache"] for token in both]
                assert hows == (["miss", "miss"] if not more else ["hit", "hit"])


async def test_the_tokens_agent_is_who_acts(proxied: Callable[..., Any]) -> None:
    """The header of a caller with a token changes nothing."""
    async with proxied() as proxy:
        _, text = await tokens.create(proxy.space.store, "planner")
        first = await raw(proxy, ASK, authorization=f"Bearer {text}", **{"x-memgang-agent": "somebody", "x-memgang-run": "r1"})
        record = await proxy.space.describe(first.headers["x-memgang-ref"])

    assert record.writers[0].endswith("/planner") and record.meta["run"] == "r1"


async def test_the_server_keeps_no_token(proxied: Callable[..., Any]) -> None:
    """What is stored is a hash; the text is nowhere."""
    async with proxied() as proxy:
        token, text = await tokens.create(proxy.space.store, "planner")
        found = await proxy.space.store.wire.call("HGETALL", proxy.space.store.keys.tokens(proxy.space.name))

    assert text.rpartition("_")[2].encode() not in b"".join(found) and token.id.encode() in found
    assert len(text) > 43 + len(token.id)


@pytest.mark.parametrize(("path", "content", "status"), [
    ("/chat/completions", b"{", 400), ("/chat/completions", b'{"model": "m", "model": "n"}', 400),
    ("/chat/completions", b"[" * 50_000, 400),
    ("/chat/completions", b'{"model": "m", "temperature": NaN}', 400), ("/chat/completions", b'{"model": "m", "a": "\\ud800"}', 400),
    ("/../admin", b"", 400), ("/%2e%2e/admin", b"", 400), ("/a//b", b"", 400), ("/x", b"y" * 1_000_001, 413),
    ("/chat/completions", b'{"model": "m", "messages": 3}', 200),
])
async def test_bad_input_is_told_in_the_form_clients_know(proxied: Callable[..., Any], path: str, content: bytes, status: int) -> None:
    """Never a 500, never a step out of the upstream's own path."""
    async with proxied(body_bytes_max=1_000_000) as proxy:
        host, _, port = proxy.url[7:-3].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))  # clients tidy paths: this one does not
        writer.write(f"POST /v1{path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                     f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        reply = await reader.read()
        writer.close()

    assert reply.split()[1] == str(status).encode() and (status == 200 or b'"error"' in reply)
    assert not proxy.upstream.others


async def test_a_header_that_is_no_label_is_told(proxy: Set) -> None:
    """Agents and runs are labels, since they go into the log."""
    assert (await raw(proxy, ASK, **{"x-memgang-agent": "a/b"})).status_code == 400


async def test_a_slow_request_is_ended(proxy: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come is not waited for for ever."""
    monkeypatch.setattr("memgang.doors.proxy.app.BODY_S", 0.2)
    host, _, port = proxy.url[7:-3].partition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n{{".encode())
        reply = await asyncio.to_thread(slow.recv, 1000)

    assert b" 408 " in reply.splitlines()[0]


@pytest.mark.parametrize("text", ["ftp://x/v1", "http://user:pw@host/v1", "host/v1", "p=", "http://h/v1?key=1", "http://h:99999/v1"])
def test_an_upstream_that_is_none_is_told(text: str) -> None:
    """No password is repeated in the complaint."""
    from memgang.doors.proxy.upstream import read_upstreams

    with pytest.raises(ConfigError) as told:
        read_upstreams([text], "", "")
    assert "pw" not in str(told.value)


def test_a_key_without_its_upstream_is_told() -> None:
    """And the key is not."""
    from memgang.doors.proxy.upstream import read_upstreams

    with pytest.raises(ConfigError) as told:
        read_upstreams(["http://h/v1"], "x/=sk-secret", "")
    assert "sk-secret" not in str(told.value)
    assert "sk-secret" not in repr(read_upstreams(["x/=http://h/v1"], "x/=sk-secret", ""))
