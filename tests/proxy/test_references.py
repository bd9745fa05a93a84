"""References in messages are put in for the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memgang.model import Ref
from memgang.store import tokens
from tests.proxy.conftest import Set
from tests.proxy.test_sharing import ASK, RESPOND, raw


def saying(text: Any) -> dict[str, Any]:
    """The question with this text."""
    return ASK | {"messages": [{"role": "user", "content": text}]}


async def test_a_reference_is_put_in_for_the_model(proxy: Set) -> None:
    """In plain texts, in parts, and in the input of responses; the same text and its reference are the same request."""
    ref = await proxy.space.put("the long report")
    data = await proxy.space.put({"a": [1]})
    await raw(proxy, saying(f"Read {{{{{ref}}}}} and {{{{{data}}}}}."))
    written = await raw(proxy, saying('Read the long report and {"a":[1]}.'))
    await raw(proxy, saying([{"type": "text", "text": f"{{{{{ref}}}}}"}]))
    await raw(proxy, RESPOND | {"input": f"{{{{{ref}}}}}"}, "/responses")

    assert [b.get("messages", b.get("input")) for _, _, b in proxy.upstream.calls] == [
        [{"role": "user", "content": 'Read the long report and {"a":[1]}.'}],
        [{"role": "user", "content": [{"type": "text", "text": "the long report"}]}], "the long report"]
    assert written.headers["x-memgang-cache"] == "hit"


async def test_an_answer_is_forgotten_with_what_it_was_made_from(proxy: Set) -> None:
    """The reference is a parent of the answer."""
    ref = await proxy.space.put("secret")
    answer = await raw(proxy, saying(f"{{{{{ref}}}}}"))
    await proxy.space.forget(ref, cascade=True)

    assert ref in (await raw(proxy, saying(f"{{{{{ref}}}}}"))).json()["error"]["message"]
    assert await proxy.space.describe_many([Ref(answer.headers["x-memgang-ref"])]) == [None]
    assert (await raw(proxy, saying("secret"))).headers["x-memgang-cache"] == "miss"


async def test_what_is_no_text_or_not_there_is_told(proxy: Set) -> None:
    """The provider is not asked."""
    blob = await proxy.space.put(b"\x00")
    replies = [await raw(proxy, saying(f"{{{{{ref}}}}}")) for ref in (blob, "mg:" + "a" * 32)]

    assert [r.status_code for r in replies] == [400, 400] and not proxy.upstream.calls


async def test_what_was_put_in_pulls_in_nothing_further(proxy: Set) -> None:
    """A stored text that looks like a reference stays a text."""
    inner = await proxy.space.put("inner")
    outer = await proxy.space.put(f"{{{{{inner}}}}}")
    await raw(proxy, saying(f"{{{{{outer}}}}}"))

    assert proxy.upstream.calls[0][2]["messages"][0]["content"] == f"{{{{{inner}}}}}"


async def test_a_tenant_has_no_part_in_the_references_of_the_space(proxied: Callable[..., Any]) -> None:
    """A token with a scope is refused, or it could read what other tenants have stored."""
    async with proxied() as proxy:
        ref = await proxy.space.put("of another tenant")
        _, text = await tokens.create(proxy.space.store, "planner", "red")
        reply = await raw(proxy, saying(f"{{{{{ref}}}}}"), authorization=f"Bearer {text}")

    assert reply.status_code == 403 and not proxy.upstream.calls
