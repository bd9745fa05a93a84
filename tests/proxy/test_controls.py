"""Controls that people know: Cache-Control, and the `cache` field of LiteLLM's users."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from memgang import streaming
from tests.gates import until
from tests.proxy.conftest import Set
from tests.proxy.test_sharing import ASK, raw


@pytest.mark.parametrize(("headers", "field"), [({"cache-control": "no-cache"}, None), ({}, {"no-cache": True}),
                                                ({"cache-control": "max-age=0"}, None), ({}, {"s-maxage": 0})])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_cache_asks_anew_and_replaces_the_answer(proxy: Set, headers: Any, field: Any, stream: bool) -> None:
    """The caller is given a new answer, and so is everybody who asks afterwards."""
    await raw(proxy, ASK)
    ask = ASK | ({"stream": True} if stream else {}) | ({"cache": field} if field else {})
    anew = await raw(proxy, ask, **headers)
    after = await raw(proxy, ASK)

    assert anew.headers["x-memgang-cache"] == "miss" and b"chatcmpl-2" in anew.content
    assert after.headers["x-memgang-cache"] == "hit" and after.json()["id"] == "chatcmpl-2"


async def test_who_takes_the_old_answer_is_given_it_while_another_asks_anew(proxy: Set) -> None:
    """A new answer under way is shown to nobody who did not ask for one, and joined by those who did."""
    await raw(proxy, ASK)
    proxy.upstream.gate = asyncio.Event()
    fresh = [await proxy.client.chat.completions.with_raw_response.create(
        **ASK, stream=True, extra_headers={"cache-control": "no-cache"}) for _ in range(2)]
    after = asyncio.create_task(raw(proxy, ASK))
    await asyncio.wait([after], timeout=0.2)  # claimed anew: it is asked again, or waits for the new one
    proxy.upstream.gate.set()

    assert [r.headers["x-memgang-cache"] for r in fresh] == ["miss", "joined"]
    assert {c.id for r in fresh for c in [c async for c in r.parse()]} == {"chatcmpl-2"}
    assert (await after).json()["id"] in ("chatcmpl-1", "chatcmpl-2")
    assert len(proxy.upstream.calls) == 2


@pytest.mark.parametrize(("headers", "field"), [({"cache-control": "no-store"}, None), ({}, {"no-store": True}), ({}, {"ttl": 0})])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_store_is_for_this_caller_alone(proxy: Set, headers: Any, field: Any, stream: bool) -> None:
    """Nothing is read from memory, nothing kept, and the reply is the provider's own."""
    await raw(proxy, ASK)
    ask = ASK | ({"stream": True} if stream else {}) | ({"cache": field} if field else {})
    alone = await raw(proxy, ask, **headers)
    after = await raw(proxy, ASK)

    assert alone.headers["x-memgang-cache"] == "bypass" and b"chatcmpl-2" in alone.content
    assert after.headers["x-memgang-cache"] == "hit" and after.json()["id"] == "chatcmpl-1"
    assert "cache" not in proxy.upstream.calls[1][2] and proxy.upstream.calls[1][2].get("stream", False) is stream


async def test_an_answer_older_than_max_age_is_asked_anew(proxy: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    """A younger one is a hit, also for those who set no age."""
    await raw(proxy, ASK)
    assert (await raw(proxy, ASK, **{"cache-control": "max-age=60"})).headers["x-memgang-cache"] == "hit"
    log = proxy.space.store.log
    now = log.server_ms
    monkeypatch.setattr(log, "server_ms", lambda: now() + 61_000)

    old = await raw(proxy, ASK, **{"cache-control": "max-age=60"})
    any_age = await raw(proxy, ASK)

    assert old.headers["x-memgang-cache"] == "miss" and old.json()["id"] == "chatcmpl-2"
    assert any_age.headers["x-memgang-cache"] == "hit" and any_age.json()["id"] == "chatcmpl-2"


async def test_an_answer_ends_with_its_ttl(proxy: Set) -> None:
    """LiteLLM's ttl is the time to live of the answer."""
    first = await raw(proxy, ASK | {"cache": {"ttl": 600}})
    record = await proxy.space.describe(first.headers["x-memgang-ref"])

    assert 600_000 <= record.expires - record.at <= 600_000 + 120_000


@pytest.mark.parametrize("field", [{"ttl": "soon"}, {"ttl": -1}, {"no-cache": 1}, {"namespace": 3}, "no", {"ttl": 1e300}])
async def test_a_wrong_control_is_told(proxy: Set, field: Any) -> None:
    """It is a mistake of the caller's, and nobody is asked."""
    wrong = await raw(proxy, ASK | {"cache": field})

    assert wrong.status_code == 400 and "cache" in wrong.json()["error"]["message"]
    assert not proxy.upstream.calls


@pytest.mark.parametrize("stream", [False, True])
async def test_each_who_joins_one_look_goes_by_a_max_age_of_its_own(
    proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Three ask the server at once, together: the old answer is for who takes any and for who takes it, not for who wants a younger."""
    async with proxied(settings={"host_tier": "off"}) as proxy:  # else nobody need ask the server
        await raw(proxy, ASK)
        log, recaller = proxy.space.store.log, proxy.space._recaller
        now, claim, gate = log.server_ms, recaller._follower.claim, asyncio.Event()
        monkeypatch.setattr(log, "server_ms", lambda: now() + 61_000)

        async def held_up(*words: Any, **more: Any) -> Any:
            await gate.wait()
            return await claim(*words, **more)

        monkeypatch.setattr(recaller._follower, "claim", held_up)
        monkeypatch.setattr(streaming, "GRACE_S", 60)  # the claim takes no longer than elsewhere, it is only held up
        asks = []
        for number, controls in enumerate(("", "max-age=100", "max-age=60"), 1):
            asks.append(asyncio.create_task(raw(proxy, ASK | {"stream": stream}, **{"cache-control": controls})))

            async def here(number: int = number) -> bool:
                return [flight.waiters for flight in recaller._flights.running.values()] == [number]

            await until(here)
        gate.set()
        replies = [await ask for ask in asks]

    assert [b"chatcmpl-2" in reply.content for reply in replies] == [False, False, True]
    assert [reply.headers["x-memgang-cache"] for reply in replies] == ["hit", "joined", "miss"]
