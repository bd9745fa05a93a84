"""Providers that refuse, break off and lie: nothing incomplete is ever kept, and everybody who asked has an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from memgang.doors.proxy.failing import Refusals
from memgang.errors import ModelError
from memgang.store import tokens
from tests.proxy.conftest import KEY, Set, openai
from tests.proxy.test_sharing import ASK, RESPOND, TEXT, raw, streamed
from tests.recall.conftest import Own


@pytest.mark.catalogue("C10")
@pytest.mark.parametrize("how", ["cut", "no_finish", "bad_event", "error_event", "bad_json", "500", "503", "429"])
async def test_what_is_not_whole_is_tried_again_and_never_kept(proxy: Set, how: str) -> None:
    """A plain caller never sees the attempt that failed; what is kept is whole."""
    proxy.upstream.next_.append(how)
    first = await proxy.client.chat.completions.create(**ASK)
    second = await proxy.client.chat.completions.create(**ASK)

    assert first == second and first.id == "chatcmpl-2" and first.choices[0].message.content == TEXT
    assert len(proxy.upstream.calls) == 2


@pytest.mark.parametrize("how", ["cut", "no_finish", "bad_event", "error_event"])
async def test_a_reader_of_a_stream_that_breaks_is_told(proxy: Set, how: str) -> None:
    """No end marker, no splice with another attempt: the client raises. The next who asks is given a whole answer."""
    proxy.upstream.next_.extend([how, how, how])
    with pytest.raises(openai.APIError):
        await streamed(proxy.client, **ASK)
    kept = await proxy.space.find(kind="answer")

    assert not kept.objects
    proxy.upstream.next_.clear()
    await asyncio.sleep(1.1)  # what failed as often as is tried is told for a second
    assert (await streamed(proxy.client, **ASK))[0] == TEXT


@pytest.mark.parametrize("code", ["\u00b2", "50\u00b2", "9999"])
def test_what_an_upstream_calls_its_error_is_never_taken_for_a_status(code: str) -> None:
    """A superscript is a digit and no number: a 502 that says what was said."""
    reply = Refusals().reply("k", ModelError("m", "transient", code, "it broke off"))
    assert reply.status == 502 and b"it broke off" in bytes(reply.body)  # type: ignore[arg-type]


async def test_a_response_that_breaks_off_is_told(proxy: Set) -> None:
    """The Responses client raises as well, and nothing is kept."""
    proxy.upstream.next_.extend(["cut"] * 3)
    with pytest.raises(openai.APIError):
        async for _ in await proxy.client.responses.create(**RESPOND, stream=True):
            pass

    assert not (await proxy.space.find(kind="answer")).objects


async def test_a_refusal_for_good_is_passed_on_unchanged_to_all_who_share_the_call(proxy: Set) -> None:
    """One call, and the provider's own words with its status."""
    proxy.upstream.next_.append("400")
    replies = await asyncio.gather(*(raw(proxy, ASK | ({"stream": True} if i % 2 else {})) for i in range(10)))

    assert {r.status_code for r in replies} == {400} and len({r.content for r in replies}) == 1
    assert replies[0].json()["error"] == {"message": "no, says 1", "type": "t", "code": "c400"}
    assert len(proxy.upstream.calls) == 1


async def test_a_refusal_heard_by_another_process_is_told_in_its_words(proxy: Set, proxied: Callable[..., Any]) -> None:
    """Two proxies of one space: the second was not there when the provider refused."""
    proxy.upstream.next_.append("400")
    first = await raw(proxy, ASK)
    async with proxied(settings={"host_tier": "off"}) as other:
        second = await raw(other, ASK)

    assert (second.status_code, second.json()) == (first.status_code, first.json()) and len(proxy.upstream.calls) == 1


@pytest.mark.parametrize("how", ["401", "403", "quota"])
async def test_an_error_of_one_callers_own_is_never_shared(proxy: Set, how: str) -> None:
    """Who waited for the same call asks for itself, and is answered."""
    proxy.upstream.next_.append(how)
    replies = await asyncio.gather(*(raw(proxy, ASK) for _ in range(5)))

    assert sorted(r.status_code for r in replies) == [200] * 4 + [429 if how == "quota" else int(how)]
    assert len(proxy.upstream.calls) == 2


async def test_a_provider_that_stays_busy_is_told_with_its_own_status(proxy: Set) -> None:
    """429 three times over is a 429 for who asked."""
    proxy.upstream.next_.extend(["429"] * 3)
    reply = await raw(proxy, ASK)

    assert reply.status_code == 429 and reply.json()["error"]["code"] == "rate" and len(proxy.upstream.calls) == 3


@pytest.mark.catalogue("D15")
async def test_our_key_is_in_no_reply(proxied: Callable[..., Any], upstream: tuple[Any, str]) -> None:
    """A provider that quotes the key in its complaint is not repeated."""
    class Quoting:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await upstream[0].whole(send, 401, {"error": {"message": f"bad key {dict(scope['headers'])[b'authorization'].decode()}"}})

    from tests.proxy.upstream import served

    async with served(Quoting()) as url, proxied((url,)) as proxy:
        replies = [await raw(proxy, ASK), await raw(proxy, ASK, path="/else"), await raw(proxy, ASK, **{"cache-control": "no-store"})]

    assert all(r.status_code == 401 and KEY not in r.text and "[key]" in r.text for r in replies)


async def test_an_upstream_that_is_not_there_is_an_error_and_no_traceback(proxied: Callable[..., Any]) -> None:
    """Bad gateway, in the form clients read, on all ways."""
    async with proxied(("http://127.0.0.1:9/v1",)) as proxy:
        replies = [await raw(proxy, ASK), await raw(proxy, ASK | {"stream": True}), await raw(proxy, {}, path="/audio/speech")]

    assert [r.status_code for r in replies] == [502] * 3
    assert all(r.json()["error"]["code"] == "connection" for r in replies)


@pytest.mark.parametrize(("says", "options"), [
    (["400_upstream", "400_upstream"], {}), (["no_stream"], {"stream_options": {"continuous_usage_stats": True}})])
async def test_a_wrong_request_does_not_turn_off_the_streams_of_others(proxy: Set, says: list[str], options: dict[str, Any]) -> None:
    """It is refused in words that speak of streams, though the model has them: the next caller is shown its answer while it comes."""
    proxy.upstream.next_.extend(says)
    await raw(proxy, ASK | {"stream": True} | options)
    text, _ = await streamed(proxy.client, **ASK | {"seed": 1})

    assert text == TEXT
    assert [call[2].get("stream", False) for call in proxy.upstream.calls] == [True, False, True]


@pytest.mark.catalogue("C10")
async def test_a_stream_in_single_bytes_is_the_same_stream(proxy: Set) -> None:
    """Events are cut where they end, however they travel."""
    proxy.upstream.next_.append("dribble")
    ask = ASK | {"stream": True}
    first, second = await raw(proxy, ask), await raw(proxy, ask)

    assert first.content == second.content and first.content.endswith(b"data: [DONE]\n\n")
    assert (await proxy.client.chat.completions.create(**ASK)).choices[0].message.content == TEXT


@pytest.mark.catalogue("E12")
async def test_without_the_server_calls_still_share_one_flight(own: Own, proxied: Callable[..., Any]) -> None:
    """The server is killed: one call for all who ask at the same time, whole answers, marked as degraded; tokens still count."""
    async with proxied(settings={"url": own.url, "patience_ms": 100, "host_tier": "off"}) as proxy:
        _, text = await tokens.create(proxy.space.store, "planner")
        assert (await raw(proxy, ASK, authorization=f"Bearer {text}")).status_code == 200
        own.go_away()
        replies = await asyncio.gather(*(
            raw(proxy, ASK | ({"stream": True} if i % 2 else {}), authorization=f"Bearer {text}") for i in range(20)))
        shut_out = await raw(proxy, ASK)

    assert {r.status_code for r in replies} == {200} and shut_out.status_code == 401
    assert {r.headers["x-memgang-cache"] for r in replies} == {"degraded"}
    assert len({r.content for r in replies}) == 2 and len(proxy.upstream.calls) == 2
