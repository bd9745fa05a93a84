"""What an agent may ask and spend: kept at the server, shared by all proxies, and nobody else's matter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from memgang.doors.proxy.entering import Caller
from memgang.doors.proxy.paying import Tally, bound, named
from memgang.errors import AllowanceExceeded, ConfigError
from memgang.store import tokens
from memgang.store.allowances import Account, Allowance, Short, Spent
from memgang.store.process import fresh
from tests.gates import until
from tests.proxy.conftest import Set, openai
from tests.proxy.test_sharing import ASK, RESPOND, raw
from tests.recall.conftest import Own

PAID = 18  # tokens, by each answer of the provider


async def token(proxy: Set, agent: str = "planner", scope: str = "", **allows: Any) -> dict[str, str]:
    """The header of a new token."""
    _, text = await tokens.create(proxy.space.store, agent, scope, Allowance(**allows))
    return {"authorization": f"Bearer {text}"}


async def spent(proxy: Set, agent: str = "planner", scope: str = "") -> Spent:
    """What is counted, once nothing is put aside any more."""
    account = Account(proxy.space.store.keys, scope, agent)
    while (now := await account.spent(proxy.space.store.wire)).held_tokens or now.held_money:
        await asyncio.sleep(0.01)
    return now


def ask(number: int, **more: Any) -> dict[str, Any]:
    """A request nobody else makes, with a short answer."""
    return ASK | {"seed": number, "max_tokens": 10} | more


async def test_requests_are_counted_and_hits_with_them(proxied: Callable[..., Any]) -> None:
    """The one too many is 429 in the form clients know, with the numbers and when to come back, before anything is done."""
    async with proxied() as proxy, proxied() as other:
        me = await token(proxy, requests=3, window_ms=3_600_000)
        replies = [await raw(one, ASK, **me) for one in (proxy, other, proxy, other)]

        assert [r.status_code for r in replies] == [200, 200, 200, 429]
        assert [r.headers["x-memgang-cache"] for r in replies[:3]] == ["miss", "hit", "hit"]
        told = replies[3].json()["error"]
        assert (told["code"], told["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert "3 requests in 3600 s" in told["message"] and 0 < int(replies[3].headers["retry-after"]) <= 3_615
        with pytest.raises(openai.RateLimitError):
            await proxy.other(me["authorization"][7:]).models.list()
        assert len(proxy.upstream.calls) == 1 and not proxy.upstream.others


async def test_hits_ask_the_server_for_those_alone_whose_requests_are_counted(
    proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent without limits, or with a budget alone, does not wait for a count that nobody wants."""
    async with proxied() as proxy:
        rated, rich, free = await token(proxy, requests=9), await token(proxy, "rich", tokens=1000), await token(proxy, "free")
        counted, enter = list[str](), Account.enter

        def entering(account: Account, *args: Any, **more: Any) -> Any:
            counted.append(account.agent)
            return enter(account, *args, **more)

        monkeypatch.setattr(Account, "enter", entering)
        hows = [(await raw(proxy, ASK, **me)).headers["x-memgang-cache"] for me in (free, rich, rated, free, rich, rated)]

    assert hows == ["miss"] + ["hit"] * 5 and counted == ["planner"] * 2


@pytest.mark.catalogue("D18")
async def test_one_agent_that_floods_shuts_out_nobody_else(proxied: Callable[..., Any]) -> None:
    """Two proxies under a flood: what is too much is refused, the others' requests all succeed meanwhile."""
    async with proxied() as proxy, proxied() as other:
        flood = await token(proxy, "flood", requests=20, window_ms=3_600_000, places=2)
        quiet = [await token(proxy, f"quiet{i}", requests=20, places=20) for i in range(3)]
        ended = asyncio.Event()
        statuses: list[int] = []

        async def flooding(to: Set) -> None:
            async with httpx.AsyncClient(timeout=30) as http:
                while not ended.is_set():
                    reply = await http.post(to.url + "/chat/completions", json=ask(len(statuses)), headers=flood)
                    statuses.append(reply.status_code)

        floods = [asyncio.create_task(flooding(one)) for one in (proxy, other) * 2]
        while statuses.count(429) < 20:
            await asyncio.sleep(0.01)
        replies = [await raw(one, ask(1000 + i, stream=True), **me) for i, me in enumerate(quiet * 2) for one in (proxy, other)]
        ended.set()
        await asyncio.gather(*floods)

    assert {r.status_code for r in replies} == {200}
    assert statuses.count(200) == 20 and set(statuses) == {200, 429}


async def test_requests_at_once_are_places_that_come_back(proxied: Callable[..., Any]) -> None:
    """A stream keeps its place until its last byte, also one whose reader has left; then the next comes in."""
    async with proxied() as proxy, proxied() as other:
        me = await token(proxy, places=2)
        proxy.upstream.gate = asyncio.Event()
        client = proxy.other(me["authorization"][7:])
        streams = [await client.chat.completions.create(**ask(i), stream=True) for i in range(2)]
        refused = await raw(other, ask(3), **me)
        await streams[0].close()  # its reader has left, while its answer is still to come
        still = await raw(other, ask(3), **me)
        proxy.upstream.gate.set()
        async for _ in streams[1]:
            pass

        assert still.status_code == 429
        assert refused.status_code == 429 and "2 requests at once" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        async with asyncio.timeout(60):
            for one, number in ((proxy, 3), (other, 4)):  # told behind the last byte
                while (await raw(one, ask(number), **me)).status_code == 429:
                    await asyncio.sleep(0.01)


@pytest.mark.catalogue("D18")
async def test_a_budget_of_tokens_is_overspent_by_no_more_than_one_call(proxied: Callable[..., Any]) -> None:
    """Many at once over two proxies; afterwards what is in memory is still free, and other agents are not concerned."""
    async with proxied() as proxy, proxied() as other:
        me, you = await token(proxy, tokens=100), await token(proxy, "somebody", tokens=1000)
        replies = await asyncio.gather(*(raw((proxy, other)[i % 2], ask(i), **me) for i in range(12)))
        while (last := await raw(proxy, ask(len(replies)), **me)).status_code == 200 or last.headers["retry-after"] == "1":
            replies.append(last)
        paid = await spent(proxy)
        known = next(i for i, r in enumerate(replies[:12]) if r.status_code == 200)

        assert {r.status_code for r in replies} <= {200, 429}
        assert 100 <= paid.tokens < 100 + PAID and paid.tokens == PAID * len(proxy.upstream.calls)
        assert last.headers["x-should-retry"] == "false" and int(last.headers["retry-after"]) > 0
        assert last.json()["error"]["type"] == "insufficient_quota" and f"has spent {paid.tokens} tokens" in last.json()["error"]["message"]
        assert (await raw(other, ask(known), **me)).headers["x-memgang-cache"] == "hit"
        assert (await raw(proxy, ask(100), **you)).status_code == 200
        assert await spent(proxy) == paid


async def test_dollars_are_counted_as_the_provider_bills_them(proxied: Callable[..., Any], tmp_path: Path) -> None:
    """By the price of the model, cached tokens at theirs; a model without a price cannot be counted and is refused."""
    prices = tmp_path / "prices.toml"
    prices.write_text('[m]\ninput = 100.0\noutput = 1000.0\ncached = 10.0\nas_of = "2026-01-01"\n')
    async with proxied(settings={"prices": prices}) as proxy:
        me = await token(proxy, money=2 * (7 * 100 + 4 * 10 + 7 * 1000))
        replies = []
        for i in range(3):
            replies.append(await raw(proxy, ask(i), **me))
            paid = await spent(proxy)
        unknown = await raw(proxy, ask(1, model="x"), **me)

    assert [r.status_code for r in replies] == [200, 200, 429] and paid.money == 2 * 7_740 and paid.tokens == 2 * PAID
    assert "may spend $0.01548, has spent $0.01548" in replies[2].json()["error"]["message"]
    assert unknown.status_code == 403 and unknown.json()["error"]["code"] == "model_not_priced"


@pytest.mark.parametrize(("path", "more", "paid"), [
    ("/chat/completions", {"cache": {"no-store": True}}, 18),
    ("/chat/completions", {"cache": {"no-store": True}, "stream": True, "stream_options": {"include_usage": True}}, 18),
    ("/chat/completions", {"cache": {"no-store": True}, "stream": True}, 18),
    ("/responses", {"cache": {"no-store": True}, "stream": True}, 18), ("/responses", {"conversation": "c"}, 18),
    ("/embeddings", {}, 3), ("/responses", {"background": True}, None), ("/audio/speech", {}, None), ("/images/edits", {}, None)])
async def test_what_is_passed_through_is_paid_for_or_refused(
    proxied: Callable[..., Any], path: str, more: dict[str, Any], paid: int | None
) -> None:
    """An agent with a budget can use nothing that is not counted; what costs nothing is open to it."""
    async with proxied() as proxy:
        me = await token(proxy, tokens=1_000_000)
        body = (RESPOND | {"max_output_tokens": 10} if path == "/responses" else ask(1)) | {"input": "x"} | more
        reply = await raw(proxy, body, path, **me)

        assert reply.status_code == (403 if paid is None else 200), reply.text
        assert (await spent(proxy)).tokens == (paid or 0)
        assert len(proxy.upstream.calls) == (paid is not None)
        assert [m.id async for m in proxy.other(me["authorization"][7:]).models.list()] == ["m"]


@pytest.mark.parametrize(("path", "body", "tokens"), [
    ("/chat/completions", {}, 16_384), ("/chat/completions", {"max_tokens": 1, "max_completion_tokens": 100_000}, 100_000),
    ("/chat/completions", {"max_output_tokens": 1}, 16_384), ("/chat/completions", {"max_tokens": 1, "max_completion_tokens": -1}, 16_384),
    ("/chat/completions", {"max_tokens": 9, "n": 3, "best_of": 7}, 63), ("/chat/completions", {"max_tokens": "5"}, 16_384),
    ("/responses", {"max_tokens": 1, "max_output_tokens": 20}, 20), ("/responses", {"max_tokens": 1}, 16_384),
    ("/completions", {"max_tokens": 9, "n": 3, "best_of": 7}, 63), ("/completions", {"max_tokens": 2.5, "max_completion_tokens": 1}, 3),
    ("/embeddings", {"max_tokens": 9}, 0)])
def test_what_an_answer_may_cost_is_not_for_the_caller_to_choose(path: str, body: dict[str, Any], tokens: int) -> None:
    """The largest of the bounds that the path knows, for each answer the provider makes; a bound that is none is none."""
    assert bound(body, path) == tokens


@pytest.mark.parametrize(("body", "many"), [
    ({"previous_response_id": "resp_1", "input": "x"}, 1), ({"conversation": {"id": "c"}, "prompt": {"id": "p"}}, 2),
    ({"prompt": "text"}, 0),
    ({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}, {"file": {"file_id": "f"}}]}]}, 2),
    ({"input": [{"content": [{"image_url": "https://a"}, {"image_url": "data:image/png;base64,x"}]},
                {"type": "item_reference", "id": "i"}], "tools": [{"type": "file_search", "vector_store_ids": ["a", "b"]}]}, 4),
    ({"messages": [{"content": "file_id"}], "file_id": None}, 0)])
def test_what_a_request_only_names_is_put_aside_too(body: dict[str, Any], many: int) -> None:
    """Files, images, earlier responses: few bytes here, and any number of tokens there."""
    assert named(body) == many


async def test_who_did_not_ask_for_the_bill_of_a_stream_is_not_sent_it(proxy: Set) -> None:
    """The provider is asked for it where somebody pays, and all else of its stream comes out as it came in."""
    me, you = await token(proxy, tokens=1_000_000), await token(proxy, "free")
    alone = ask(1, cache={"no-store": True}, stream=True)
    mine, yours, open_ = [await raw(proxy, alone | more, **who) for who, more in (
        (me, {}), (you, {}), (me, {"stream_options": {"include_usage": True}}))]

    assert b'"usage"' not in mine.content and b'"usage"' in open_.content and mine.content.endswith(b"data: [DONE]\n\n")
    assert mine.content.replace(b"chatcmpl-1", b"").replace(b"1700000001", b"") == yours.content.replace(
        b"chatcmpl-2", b"").replace(b"1700000002", b"")
    assert (await spent(proxy)).tokens == 2 * PAID
    assert [body.get("stream_options") for *_, body in proxy.upstream.calls] == [{"include_usage": True}, None, {"include_usage": True}]


@pytest.mark.parametrize("block", [1, 7, 10_000])
@pytest.mark.parametrize(("end", "hides"), [(b"\n\n", True), (b"", True), (b"\n", False), (b"", False)])
def test_a_bill_is_found_wherever_a_stream_is_cut_or_ends(block: int, end: bytes, hides: bool) -> None:
    """Also behind its last blank line, which some servers leave out; what is handed on is the rest of it, byte for byte."""
    said = b'data: {"choices": [1], "usage": null}\n\n'
    bill = b'data: {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}'
    whole = said * 2 + bill + end
    tally = Tally("text/event-stream", hides=hides)
    shown = b"".join(tally.take(whole[at:at + block]) for at in range(0, len(whole), block)) + tally.end()

    assert tally.usage.tokens == 5 and shown == (said * 2 if hides else whole)
    unbilled = Tally("text/event-stream", hides=hides)
    assert unbilled.take(said + said[:9]) + unbilled.end() == said + said[:9]


@pytest.mark.parametrize(("how", "pays"), [("400", False), ("401", False), ("quota", False), ("cut", True), ("429", False)])
async def test_what_may_have_been_billed_counts_as_spent_and_a_refusal_does_not(
    proxied: Callable[..., Any], how: str, pays: bool
) -> None:
    """A refused call costs nothing; one that broke off before it said what it cost counts as put aside."""
    async with proxied() as proxy:
        me = await token(proxy, tokens=100_000)
        proxy.upstream.next_.extend([how] * 3)
        reply = await raw(proxy, ask(1), **me)

        assert reply.status_code >= 400 and ((await spent(proxy)).tokens > 0) is pays


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_provider_that_is_not_there_costs_nothing(proxied: Callable[..., Any], upstream: tuple[Any, str], scheme: str) -> None:
    """What never arrived was never billed: nobody listens there, or it is nobody who can be trusted."""
    async with proxied(("http://127.0.0.1:9/v1" if scheme == "http" else upstream[1].replace("http:", "https:"),)) as proxy:
        me = await token(proxy, tokens=100)
        replies = [await raw(proxy, ask(1), **me), await raw(proxy, ask(1, cache={"no-store": True}), **me)]

        assert [r.status_code for r in replies] == [502, 502] and await spent(proxy) == Spent()


async def test_what_arrived_and_was_not_answered_counts_as_spent(proxied: Callable[..., Any]) -> None:
    """A provider that takes a request and breaks off may have billed it, recalled or passed through."""
    async def taking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with (await asyncio.start_server(taking, "127.0.0.1", 0) as server,
                proxied((f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1",)) as proxy):
        me, you = await token(proxy, tokens=100_000), await token(proxy, "somebody", tokens=100_000)
        replies = [await raw(proxy, ask(1), **me), await raw(proxy, ask(2, cache={"no-store": True}), **you)]

        assert [r.status_code for r in replies] == [502, 502]
        assert (await spent(proxy)).tokens > 0 < (await spent(proxy, "somebody")).tokens


async def test_who_has_no_budget_left_does_not_take_it_from_others(proxied: Callable[..., Any]) -> None:
    """A leader's empty budget is its own: those who wait for the same call ask for themselves."""
    async with proxied() as proxy:
        me, you = await token(proxy, tokens=0), await token(proxy, "somebody")
        replies = await asyncio.gather(*(raw(proxy, ASK, **who) for who in (me, you, you, me, you)))

        assert [r.status_code for r in replies][1:3] == [200, 200] and replies[4].status_code == 200
        assert len(proxy.upstream.calls) == 1 and await spent(proxy) == Spent()


async def test_an_agents_tokens_share_its_allowance_and_scopes_do_not(proxied: Callable[..., Any]) -> None:
    """A second token is not a second budget; the same name in another scope is another agent."""
    async with proxied() as proxy:
        one, two = [await token(proxy, tokens=1) for _ in range(2)]
        red = await token(proxy, scope="red", tokens=1)
        assert (await raw(proxy, ask(1), **one)).status_code == 200
        await spent(proxy)
        assert (await raw(proxy, ask(2), **two)).status_code == 429
        assert (await raw(proxy, ask(2), **red)).status_code == 200


async def test_without_the_server_requests_are_still_counted_and_no_budget_is_spent(own: Own, proxied: Callable[..., Any]) -> None:
    """What is left of a budget is not known then; who has none goes on within its rate."""
    async with proxied(settings={"url": own.url, "patience_ms": 100, "host_tier": "off"}) as proxy:
        rated, counted = await token(proxy, requests=3, window_ms=3_600_000), await token(proxy, "counted", tokens=10**9)
        for me in (rated, counted):
            assert (await raw(proxy, ask(1), **me)).status_code == 200
        own.go_away()
        replies = [await raw(proxy, ask(2), **me) for me in (rated, rated, rated, counted)]

    assert [r.status_code for r in replies] == [200, 200, 429, 503]
    assert replies[0].headers["x-memgang-cache"] == "degraded"


async def test_a_budget_that_is_closed_is_closed_to_nobody_else(
    own: Own, proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the server, who joins a call led by somebody with a budget asks for itself instead of failing with it."""
    async with proxied(settings={"url": own.url, "patience_ms": 100, "host_tier": "off"}) as proxy:
        counted, free = await token(proxy, "counted", tokens=10**9), await token(proxy, "free")
        for number, me in enumerate((counted, free)):  # both are known from before
            assert (await raw(proxy, ask(number), **me)).status_code == 200
        asked, going, reserve = asyncio.Event(), asyncio.Event(), Account.reserve

        async def reserving(account: Account, *args: Any, **more: Any) -> Any:
            asked.set()
            await going.wait()
            return await reserve(account, *args, **more)

        async def joined() -> bool:
            return sum(flight.waiters for flight in proxy.space._recaller._flights.running.values()) == 3

        monkeypatch.setattr(Account, "reserve", reserving)
        own.go_away()
        leading = asyncio.create_task(raw(proxy, ask(9), **counted))
        async with asyncio.timeout(60):
            await asked.wait()
        joining = [asyncio.create_task(raw(proxy, ask(9), **free)) for _ in range(2)]
        await until(joined)
        going.set()
        led, *others = await asyncio.gather(leading, *joining)

    assert (led.status_code, led.json()["error"]["code"]) == (503, "budget_closed")
    assert [reply.status_code for reply in others] == [200, 200]


async def test_leases_end_by_themselves_and_repeats_count_once(proxy: Set) -> None:
    """Places of a proxy that was killed come back, what it had put aside counts as spent; a lost reply changes nothing."""
    wire, account = proxy.space.store.wire, Account(proxy.space.store.keys, "", "planner")
    allows, ticket, dying = Allowance(requests=2, places=1, tokens=100), fresh(), fresh()
    for _ in range(3):
        assert await account.enter(wire, allows, ticket, lease_ms=60_000) is None
        assert await account.reserve(wire, allows, ticket, tokens=90, money=5, lease_ms=60_000) is None
    assert await account.enter(wire, allows, fresh(), lease_ms=60_000) == Short("places", 1, 0, 1, 1_000)
    assert await account.reserve(wire, allows, fresh(), tokens=20, money=0, lease_ms=60_000) == Short("tokens", 0, 90, 100, 1_000)
    for _ in range(2):
        await account.pay(wire, ticket, tokens=30, money=4)
        await account.leave(wire, ticket)
    assert await account.spent(wire) == Spent(30, 4)

    assert await account.enter(wire, allows, fresh(), lease_ms=1) is None
    assert await account.reserve(wire, allows, dying, tokens=60, money=7, lease_ms=1) is None
    await asyncio.sleep(0.005)
    assert (await account.enter(wire, allows, fresh(), lease_ms=1)).what == "requests"  # its place is back
    assert await account.reserve(wire, allows, fresh(), tokens=1, money=0, lease_ms=60_000) is None
    await account.pay(wire, dying, tokens=1, money=1)  # too late
    assert await account.spent(wire) == Spent(90, 11, 1, 0)


async def test_a_renewal_brings_nothing_back(proxy: Set) -> None:
    """One that comes too late, or behind the end it was overtaken by: no place is held, no call is charged twice."""
    wire, account, allows = proxy.space.store.wire, Account(proxy.space.store.keys, "", "planner"), Allowance(places=1, tokens=1000)
    late, ended, lasting = fresh(), fresh(), fresh()
    assert await account.reserve(wire, allows, late, tokens=60, money=7, lease_ms=1) is None
    await asyncio.sleep(0.005)
    assert await account.reserve(wire, allows, ended, tokens=30, money=3, lease_ms=60_000) is None  # counts the other as spent
    assert not await account.defer(wire, late, lease_ms=60_000)
    await account.pay(wire, late, tokens=55, money=6)
    assert await account.defer(wire, ended, lease_ms=60_000)
    await account.pay(wire, ended, tokens=20, money=2)
    assert not await account.defer(wire, ended, lease_ms=60_000)
    assert await account.spent(wire) == Spent(80, 9)

    assert await account.enter(wire, allows, ended, lease_ms=60_000) is None
    await account.leave(wire, ended)
    assert not await account.stay(wire, ended, lease_ms=60_000)
    assert await account.enter(wire, allows, lasting, lease_ms=60_000) is None and await account.stay(wire, lasting, lease_ms=60_000)
    assert await account.enter(wire, allows, fresh(), lease_ms=60_000) == Short("places", 1, 0, 1, 1_000)


async def test_what_is_under_way_is_held(proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Place and reservation of a call that takes longer than its lease are renewed, and end with it."""
    monkeypatch.setattr("memgang.limits.allowances.RENEW_S", 0.02)
    async with proxied() as proxy:
        me, held = await token(proxy, places=1, tokens=1000), set[str]()
        for name in ("stay", "defer"):
            def noting(account: Account, *args: Any, name: str = name, known: Any = getattr(Account, name), **more: Any) -> Any:
                held.add(name)
                return known(account, *args, **more)

            monkeypatch.setattr(Account, name, noting)
        proxy.upstream.gate = asyncio.Event()
        asking = asyncio.create_task(raw(proxy, ask(1), **me))
        async with asyncio.timeout(60):
            while held != {"stay", "defer"}:
                await asyncio.sleep(0.01)
        proxy.upstream.gate.set()

        assert (await asking).status_code == 200 and (await spent(proxy)).tokens == PAID


@pytest.mark.parametrize("words", [
    ("--rate", "60"), ("--rate", "0/m"), ("--rate", "5/0s"), ("--rate", "x/m"), ("--rate", "1/8d"), ("--rate", "1/w"),
    ("--budget-usd", "-1"), ("--budget-usd", "nan"), ("--budget-usd", "inf"), ("--budget-tokens", "-5"), ("--concurrent", "-1")])
def test_a_limit_that_is_none_is_told(words: tuple[str, str]) -> None:
    """By name, before anything is opened."""
    from typer.testing import CliRunner

    from memgang.doors.cli_token import app

    done = CliRunner().invoke(app, ["create", "planner", *words])

    assert isinstance(done.exception, ConfigError | SystemExit) and done.exit_code
    assert words[0] in str(done.exception) + done.output


def test_limits_of_the_command_line_are_listed_and_changed(space_name: str) -> None:
    """create, list and limit, for people and as JSON."""
    from typer.testing import CliRunner

    from memgang.doors.cli_token import app

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--space", space_name])
        assert done.exit_code == 0, done.output
        return done.output

    run("create", "planner", "--budget-usd", "2.5", "--budget-tokens", "1000", "--rate", "60/m", "--concurrent", "4")
    found = json.loads(run("list", "--json"))[0]
    assert found["allows"] == {"requests": 60, "window_s": 60, "concurrent": 4, "tokens": 1000, "usd": 2.5}
    assert "60/m, 4 at once, 1,000 tokens, $2.50" in run("list") and "0 tokens, $0.000000" in run("list")
    assert "100/10s" in run("limit", found["id"], "--rate", "100/10s")
    assert json.loads(run("list", "--json"))[0]["allows"] == {"requests": 100, "window_s": 10, "concurrent": 0, "tokens": None, "usd": None}


def test_who_comes_without_a_token_has_no_allowance() -> None:
    """Limits belong to tokens; the names people give themselves have none."""
    assert not Caller("a", "", "").allows.counts_requests and not Caller("a", "", "").allows.counts_spending
    assert AllowanceExceeded("a", "places", 1, 0, 1, 0.0, 1.0).kind == "caller"
