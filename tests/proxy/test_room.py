"""An answer that is paid for and finds no room in the memory: it is kept nowhere, and delivered whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.gates import until
from tests.proxy import upstream as provider
from tests.proxy.test_sharing import ASK


async def test_who_reads_slowly_is_sent_all_of_an_answer_there_is_no_room_for(
    proxied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was whole and refused by the memory while its reader was still at the beginning: no piece of it is missing."""
    monkeypatch.setattr(provider, "WORDS", tuple(letter * 4_000_000 for letter in "abcde"))  # more than the sockets between us hold
    ask = ASK | {"stream": True}
    async with (proxied(settings={"budget_bytes": 100}) as proxy, httpx.AsyncClient(timeout=30) as http,
                http.stream("POST", proxy.url + "/chat/completions", json=ask) as reply):
        async def refused() -> bool:
            return any([e.raw == "released" async for e in proxy.space.events()])

        await until(refused)
        text = await reply.aread()

    assert all(letter * 4_000_000 in text for letter in (b"a", b"b", b"c", b"d", b"e"))
    assert text.endswith(b"data: [DONE]\n\n")
