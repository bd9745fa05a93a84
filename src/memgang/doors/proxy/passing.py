"""Requests that are passed through: nothing is remembered, and what comes back is what the upstream sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from memgang.doors.proxy.asking import OURS
from memgang.doors.proxy.entering import Headers, header
from memgang.doors.proxy.failing import Refusals
from memgang.doors.proxy.replies import Reply, passed_on
from memgang.doors.proxy.upstream import Upstream, Upstreams, refusal
from memgang.errors import ModelError

if TYPE_CHECKING:
    from memgang.doors.proxy.reaching import Response

# What goes on. Credentials do not, nor what says whose account it is: that is the proxy's.
_SENT = (b"accept", b"content-type", b"content-encoding", b"idempotency-key", b"if-none-match", b"openai-beta", b"range")
_RETURNED = ("content-encoding", "content-length", "content-disposition", "content-range", "etag", "openai-processing-ms",
             "openai-version", "retry-after", "x-request-id", "location")


class Passage:
    """All requests of one proxy that are passed through."""

    def __init__(self, upstreams: Upstreams, refusals: Refusals) -> None:
        self._upstreams, self._refusals = upstreams, refusals

    async def reply(self, upstream: Upstream, method: str, path: str, query: str, headers: Headers, body: bytes) -> Reply:
        """The upstream's reply, whose body is handed on as it comes."""
        sent = {name.decode(): text for name in _SENT if (text := header(headers, name))}
        sent["accept-encoding"] = "identity"  # what is refused is read here
        told = {"x-memgang-cache": "bypass"}
        opened = contextlib.AsyncExitStack()
        try:
            response = await opened.enter_async_context(
                self._upstreams.send(upstream, method, path, body or None, sent, asked_for(query), raw=True))
            if response.status >= 400:
                async with opened:
                    return passed_on(await refusal(upstream, response), **told)
        except ModelError as failure:
            return self._refusals.reply("", failure, **told)
        returned = {name: text for name in _RETURNED if (text := response.headers.get(name, ""))}
        return Reply(response.status, _handed_on(response, opened), response.headers.get("content-type", ""), returned | told)


async def _handed_on(response: Response, opened: contextlib.AsyncExitStack) -> AsyncGenerator[bytes, None]:
    async with opened:
        async for block in response.content.iter_any():
            yield block


def asked_for(query: str) -> str:
    """A query without the words by which a caller would choose the server."""
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [pair for pair in pairs if pair[0] not in OURS]
    return query if len(kept) == len(pairs) else urlencode(kept)
