"""The proxy as an ASGI application: reads a request within its limits, decides which way it goes, sends the reply."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from memgang.answers.answer import encoded
from memgang.canonical import read_json
from memgang.doors.metrics import app as exporter
from memgang.doors.proxy import asking, describing, references
from memgang.doors.proxy.asking import Asked
from memgang.doors.proxy.entering import Caller, Denied, Entrance, Headers, header
from memgang.doors.proxy.failing import told
from memgang.doors.proxy.passing import Passage
from memgang.doors.proxy.recalling import Recaller
from memgang.doors.proxy.replies import Reply, error
from memgang.doors.proxy.upstream import Upstream
from memgang.errors import AllowanceExceeded, MemGangError
from memgang.metrics import Scraper
from memgang.metrics.page import MISSING

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# All of a request that says which call it is: body, path, scope, beta header, Cache-Control.
_Said = tuple[bytes, str, str, str, str]
READ_MAX, READ_BYTES_MAX = 256, 32 * 1024

BODY_S = 30.0  # how long a request may take to arrive
REFUSED_S = 5.0  # and how long one that is refused
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REFUSED_TIMES = 4  # as much as may be sent, so much of a refused request is taken and thrown away

_log = logging.getLogger("memgang.proxy")


class Gone(Exception):  # nobody is left to be told an error
    """The caller has left."""


class Proxy:
    """One proxy. Lives as long as its server, on one event loop."""

    def __init__(self, recaller: Recaller, entrance: Entrance, body_bytes_max: int, scraper: Scraper | None = None) -> None:
        """``scraper`` None: what makes the page of metrics is not installed."""
        self._recaller, self._entrance, self._body_bytes_max, self._scraper = recaller, entrance, body_bytes_max, scraper
        self._allowances = recaller.payer.allowances
        self._upstreams = recaller.upstreams
        self._described = encoded(describing.description())
        self._passage = Passage(recaller.upstreams, recaller.refusals, recaller.payer)
        self._read: OrderedDict[_Said, Asked] = OrderedDict()  # requests as they were read: most that hit were asked before

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, as ASGI hands it over."""
        if scope["type"] != "http":  # a web socket: closed before it is open
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        async with contextlib.AsyncExitStack() as inside:  # until the last byte of the reply
            try:
                reply = await self._reply(scope, receive, inside)
            except Gone:
                return
            except Denied as denied:
                reply = error(denied.status, denied.code, denied.message, **denied.headers)
            except Exception as failure:
                if not isinstance(failure, MemGangError | TimeoutError):
                    _log.error("a request failed with %s", type(failure).__name__)
                reply = told(failure)
            await _sent(reply, send)

    async def aclose(self) -> None:
        """Tell the server what has ended, when no request comes any more."""
        await self._allowances.aclose()

    async def _reply(self, scope: Message, receive: Receive, inside: contextlib.AsyncExitStack) -> Reply:
        headers: Headers = scope["headers"]
        try:
            caller = await self._entrance.admit(headers, (scope.get("client") or ("",))[0])
            if scope["method"] not in METHODS:
                raise Denied(405, "method_not_allowed", f"the methods are {', '.join(METHODS)}", allow=", ".join(METHODS))
            path = _path(scope)
            if caller.allows.counts_requests:  # most are not counted, and a hit should pay nothing for those that are
                await inside.enter_async_context(self._allowances.entered(caller.agent, caller.scope, caller.allows))
        except (Denied, AllowanceExceeded):
            await self._let_out(receive)
            raise
        if scope["method"] in ("GET", "HEAD"):  # ours: behind /v1 they would be the upstream's
            if scope["path"] == describing.PATH:
                return Reply(200, self._described)
            if scope["path"] == exporter.PATH:
                return await self._metrics(caller, headers)
        content = await self._content(headers, receive)
        query = scope.get("query_string", b"").decode("latin-1")
        method = scope["method"]
        if method != "POST" or not content or header(headers, b"content-encoding") not in ("", "identity"):
            return await self._passage.reply(caller, self._upstreams.default, method, path, query, headers, content)
        if path not in asking.PATHS and not header(headers, b"content-type").startswith("application/json"):
            return await self._passage.reply(caller, self._upstreams.default, method, path, query, headers, content)
        said = (content, path, caller.scope, header(headers, b"openai-beta"), header(headers, b"cache-control"))
        if (known := self._read.get(said)) is not None:
            self._read.move_to_end(said)
            return await self._recaller.reply(known, caller)
        body = read_json(content)
        upstream = self._upstream(body)
        if path not in asking.PATHS or not isinstance(body, dict):
            return await self._passage.reply(caller, upstream, method, path, query, headers, _untouched(content, body, upstream), body)
        return await self._asked(caller, upstream, query, headers, said, body)

    async def _metrics(self, caller: Caller, headers: Headers) -> Reply:
        if self._scraper is None:
            return error(501, "not_installed", MISSING)
        page = await exporter.page(self._scraper, caller, headers)
        return Reply(200, page.body, page.content_type, {"cache-control": "no-store"})

    async def _asked(
        self, caller: Caller, upstream: Upstream, query: str, headers: Headers, said: _Said, body: dict[str, Any]
    ) -> Reply:
        """A request of the kind that is shared, if this one may be."""
        content, path, *_ = said
        refs: tuple[Any, ...] = ()
        if references.SIGN in content and path != "/embeddings":
            if caller.scope:
                raise Denied(403, "references_not_allowed", "references belong to the space; a token with a scope has no part in it")
            with self._recaller.space.acting_as(agent=caller.agent or None, run=caller.run or None):
                body, refs = await references.put_in(self._recaller.space, body)
            if refs:
                content = encoded(body)
        if asking.shareable(path, body):
            asked = asking.asked(path, body, upstream, scope=caller.scope, beta=header(headers, b"openai-beta"),
                                 cache_control=header(headers, b"cache-control"), refs=refs)
            if asked.controls.store:
                if not refs and len(content) <= READ_BYTES_MAX:
                    self._read[said] = asked = replace(asked, formed=self._recaller.space.form(asked.call))
                    if len(self._read) > READ_MAX:
                        self._read.popitem(last=False)
                return await self._recaller.reply(asked, caller)
        return await self._passage.reply(caller, upstream, "POST", path, query, headers, _untouched(content, body, upstream), body)

    def _upstream(self, body: Any) -> Upstream:
        model = body.get("model") if isinstance(body, dict) else None
        if not isinstance(model, str):
            return self._upstreams.default
        if (upstream := self._upstreams.of(model)) is None:
            raise Denied(404, "model_not_found", f"no upstream serves the model {model[:100]!r}")
        return upstream

    async def _content(self, headers: Headers, receive: Receive) -> bytes:
        """The body, within its limits of size and time."""
        length = header(headers, b"content-length")
        if length.isdecimal() and int(length[:20]) > self._body_bytes_max:
            await self._let_out(receive)
            raise self._too_large()
        content = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    content += message.get("body", b"")
                    if len(content) > self._body_bytes_max:
                        if message.get("more_body", False):
                            await self._let_out(receive)
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(content)
        except TimeoutError:
            raise Denied(408, "too_slow", f"the request did not arrive within {BODY_S:.0f} s") from None

    async def _let_out(self, receive: Receive) -> None:
        """Take what a refused caller is still sending, for a while: a closed door would take the reply with it."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFUSED_S):
                while size < REFUSED_TIMES * self._body_bytes_max:
                    message = await receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _too_large(self) -> Denied:
        return Denied(413, "too_large", f"the request has more than {self._body_bytes_max:,} bytes; --max-body-mb allows more")


def _path(scope: Message) -> str:
    """The path behind /v1, still percent-encoded. It must not lead out of what the upstream was named for."""
    return _below(scope.get("raw_path") or scope["path"].encode())


@functools.lru_cache(64)  # there are few, and what is refused is not kept
def _below(given: bytes) -> str:
    raw = given.decode("latin-1").partition("?")[0]
    path: str = raw.removeprefix("/v1") if raw.startswith("/v1/") else raw
    steps = unquote(unquote(path)).replace("\\", "/").split("/")
    if not path.startswith("/") or {".", ".."} & set(steps) or "" in steps[1:-1] or not path.isascii() or not path.isprintable():
        raise Denied(400, "invalid_path", "the path holds steps that lead elsewhere")
    return path


def _untouched(content: bytes, body: Any, upstream: Upstream) -> bytes:
    """The request as it came, unless it holds what is not for the upstream or names the model as only we do."""
    if not isinstance(body, dict):
        return content
    changed = {name: value for name, value in body.items() if name not in asking.OURS}
    if isinstance(model := body.get("model"), str) and upstream.model(model) != model:
        changed["model"] = upstream.model(model)
    return content if changed == body else encoded(changed)


async def _sent(reply: Reply, send: Send) -> None:
    if isinstance(reply.body, bytes):
        headers = [*_headers(reply), (b"content-length", str(len(reply.body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        return
    async with contextlib.aclosing(reply.body) as pieces:
        await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply)})
        async for piece in pieces:
            if not piece:
                continue
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    """As aiohttp has decoded those of the upstream: whatever bytes they were, they go out as they came in."""
    named = [*reply.headers.items(), *([("content-type", reply.content_type)] if reply.content_type else [])]
    return [(name.encode(), text.encode("utf-8", "surrogateescape")) for name, text in named]
