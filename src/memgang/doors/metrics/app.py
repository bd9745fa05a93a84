"""The exporter as an ASGI application: `/metrics` for who may come in, `/healthz` for who asks whether it is well."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from memgang.doors.proxy.entering import Caller, Denied, Entrance, Headers, header
from memgang.errors import MemGangError
from memgang.metrics import Page, Scraper

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATH, HEALTH = "/metrics", "/healthz"
TEXT = "text/plain; charset=utf-8"

_log = logging.getLogger("memgang.metrics")


async def page(scraper: Scraper, caller: Caller, headers: Headers) -> Page:
    """The page for this caller.

    Raises:
        Denied: its token is that of one tenant, and the page adds up all of them.
    """
    if caller.scope:
        raise Denied(403, "metrics_not_allowed", "metrics are of the whole space; a token with a scope has no part in it")
    return await scraper.page(header(headers, b"accept"))


class Exporter:
    """One exporter. Lives as long as its server."""

    def __init__(self, scraper: Scraper, entrance: Entrance) -> None:
        self._scraper, self._entrance = scraper, entrance

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, as ASGI hands it over; its body, if it has one, is left unread."""
        if scope["type"] != "http":  # a web socket: closed before it is open
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        more: dict[str, str] = {}
        try:
            address = (scope.get("client") or ("",))[0]
            status, content_type, body = await self._reply(scope["method"], scope["path"], scope["headers"], address)
        except Denied as denied:
            status, content_type, body, more = denied.status, TEXT, f"{denied.message}\n".encode(), denied.headers
        except MemGangError as failure:  # the tokens could never be read: nobody can be let in
            status, content_type, body = 503, TEXT, f"{failure.explain()}\n".encode()
        except Exception as failure:
            _log.error("a request failed with %s", type(failure).__name__)
            status, content_type, body = 500, TEXT, b"something went wrong here; the log of this server says what\n"
        told = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        told += [(name.encode(), text.encode()) for name, text in more.items()]
        if status == 401:
            told.append((b"www-authenticate", b"Bearer"))
        if status == 405:
            told.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, method: str, path: str, headers: Headers, address: str) -> tuple[int, str, bytes]:
        if path == HEALTH:  # says one bit, so it needs no token: orchestrators have none
            self._entrance.look(headers)
            well = await self._scraper.well()
            return (200, TEXT, b"ok\n") if well else (503, TEXT, b"the server does not answer\n")
        caller = await self._entrance.admit(headers, address)
        if path != PATH:
            return 404, TEXT, b"there is /metrics, and /healthz\n"
        if method not in ("GET", "HEAD"):
            return 405, TEXT, b"/metrics is only read\n"
        found = await page(self._scraper, caller, headers)
        return 200, found.content_type, found.body
