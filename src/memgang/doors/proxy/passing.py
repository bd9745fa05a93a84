"""Requests that are passed through: nothing is remembered, and what comes back is what the upstream sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from memgang.answers.answer import encoded
from memgang.canonical import read_json
from memgang.doors.proxy.asking import OURS, PATHS
from memgang.doors.proxy.entering import Caller, Denied, Headers, header
from memgang.doors.proxy.failing import Refusals
from memgang.doors.proxy.paying import Payer, Tab, Tally, asks_usage
from memgang.doors.proxy.replies import Reply, passed_on
from memgang.doors.proxy.upstream import Upstream, Upstreams, refusal
from memgang.errors import ModelError

if TYPE_CHECKING:
    from memgang.doors.proxy.reaching import Response

# What goes on. Credentials do not, nor what says whose account it is: that is the proxy's.
_SENT = (b"accept", b"content-type", b"content-encoding", b"idempotency-key", b"if-none-match", b"openai-beta", b"range")
_RETURNED = ("content-encoding", "content-length", "content-disposition", "content-range", "etag", "openai-processing-ms",
             "openai-version", "retry-after", "x-request-id", "location")
FREE = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
COUNTED = (*PATHS, "/completions")  # their answers say what they cost


class Passage:
    """All requests of one proxy that are passed through."""

    def __init__(self, upstreams: Upstreams, refusals: Refusals, payer: Payer) -> None:
        self._upstreams, self._refusals, self._payer = upstreams, refusals, payer

    async def reply(
        self, caller: Caller, upstream: Upstream, method: str, path: str, query: str, headers: Headers, content: bytes, body: Any = None,
    ) -> Reply:
        """The upstream's reply, whose body is handed on as it comes. ``body`` is what the content says, where it is JSON.

        Raises:
            Denied: the caller's spending is counted, and that of this request cannot be.
        """
        model = _counted(caller, upstream, method, path, body)
        sent = {name.decode(): text for name in _SENT if (text := header(headers, name))}
        sent["accept-encoding"] = "identity"  # what is refused is read here
        told = {"x-memgang-cache": "bypass"}
        opened = contextlib.AsyncExitStack()
        try:
            # Behind what is sent in the stack: the bill is known when the answer has been handed on.
            tab = None if model is None else await opened.enter_async_context(self._payer.spending(caller, model, body, path))
            wished = asks_usage(path, read_json(content)) if tab is not None and tab.open else None
            if wished is not None:
                content = encoded(wished)
            response = await opened.enter_async_context(
                self._upstreams.send(upstream, method, path, content or None, sent, asked_for(query), raw=True,
                                     unsent=_nothing if tab is None else tab.nothing))
            if response.status >= 400:
                if tab is not None:
                    tab.nothing()
                async with opened:
                    return passed_on(await refusal(upstream, response), **told)
        except BaseException as failure:
            await opened.aclose()
            if isinstance(failure, ModelError):
                return self._refusals.reply("", failure, **told)
            raise
        returned = {name: text for name in _RETURNED if (text := response.headers.get(name, ""))}
        if response.status in (204, 304):  # it is that of the body there would be, and nothing follows
            returned.pop("content-length", None)
        tally = None
        if tab is not None and tab.open:
            tally = Tally(response.headers.get("content-type", ""), hides=wished is not None)
            if tally.shortens:
                returned.pop("content-length", None)
        body = _handed_on(response, opened, tab, tally)
        await anext(body)  # begun: one that is not would leave the connection open when it is closed
        return Reply(response.status, body, response.headers.get("content-type", ""), returned | told)


async def _handed_on(
    response: Response, opened: contextlib.AsyncExitStack, tab: Tab | None, tally: Tally | None
) -> AsyncGenerator[bytes, None]:
    async with opened:
        try:
            yield b""
            async for block in response.content.iter_any():
                yield block if tally is None else tally.take(block)
            if tally is not None:
                yield tally.end()
        finally:
            if tab is not None and tally is not None:
                tally.end()  # also where its reader has left, or it broke off
                tab.was(tally.usage)


def _counted(caller: Caller, upstream: Upstream, method: str, path: str, body: Any) -> str | None:
    """The model whose use is to be paid for; None where nothing is."""
    if not caller.allows.counts_spending or method in FREE:
        return None
    if (method == "POST" and path in COUNTED and isinstance(body, dict) and isinstance(model := body.get("model"), str)
            and not body.get("background")):
        return upstream.model(model)
    raise Denied(403, "cannot_be_counted",
                 f"what this request costs is not told by its answer; a token with a budget may use {', '.join(COUNTED)}")


def _nothing() -> None:
    """Nobody counts."""


def asked_for(query: str) -> str:
    """A query without the words by which a caller would choose the server."""
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [pair for pair in pairs if pair[0] not in OURS]
    return query if len(kept) == len(pairs) else urlencode(kept)
