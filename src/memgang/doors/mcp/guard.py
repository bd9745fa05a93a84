"""What stands before the HTTP door: whoever has no token, another Host, or sends too slowly, gets no further."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memgang.doors.guessing import Guesses

BODY_S = 30.0  # a request that is not there by then is given up


class Guard:
    """ASGI in front of the SDK's application. Keeps a hash of the token, not the token."""

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str]) -> None:
        """``hosts`` are the values of Host that are served; without a ``token`` none is asked for."""
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)
        self._token = _hashed(token) if token else b""
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 421, 401 or 429 before anything is read or done."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"host", b"").decode("latin-1").lower() not in self._hosts:
            await PlainTextResponse("This server does not answer under that name.", 421)(scope, receive, send)
        elif self._token and not self._knows(headers.get(b"authorization", b"")):
            status, text, more = self._refusal((scope.get("client") or ("",))[0])
            refused = PlainTextResponse(text, status, headers={"WWW-Authenticate": "Bearer", "Connection": "close"} | more)
            await refused(scope, receive, send)
        else:
            await self._within_time(scope, receive, send)

    def _knows(self, shown: bytes) -> bool:
        kind, _, token = shown.decode("latin-1").partition(" ")
        # Both are hashes of one length, and compared in constant time: how much of a guess was right is not to be seen.
        return hmac.compare_digest(_hashed(token.strip()), self._token) and kind.lower() == "bearer"

    def _refusal(self, address: str) -> tuple[int, str, dict[str, str]]:
        if wait_s := self._guesses.wrong(address):
            return 429, "Too many requests without a right token; wait a minute.", {"Retry-After": str(wait_s)}
        return 401, "This server wants its token: Authorization: Bearer <token>.", {}

    async def _within_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the body to the application once it is there; it may be slow to answer, but not to be asked."""
        ends, all_there = time.monotonic() + BODY_S, False

        async def hear() -> Message:
            nonlocal all_there
            if all_there:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
            except TimeoutError:
                return {"type": "http.disconnect"}
            all_there = not message.get("more_body", False)
            return message

        await self._app(scope, hear, send)


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
