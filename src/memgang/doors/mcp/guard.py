"""What stands before the HTTP door: whoever has no token, another Host, or sends too slowly, gets no further."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memgang.doors.guessing import Guesses
from memgang.errors import MemGangError
from memgang.store.tokens import SIGN, Token, Tokens

AGENT = "memgang.agent"  # where a request says to the tools whose token it showed
ANYBODY = Token("", b"", "")
SCOPED = "This token belongs to a tenant of the proxy. References and names belong to the space, and it has no part in that."
BODY_S = 30.0  # a request that is not there by then is given up


class Guard:
    """ASGI in front of the SDK's application. Keeps a hash of the token, not the token."""

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str], tokens: Tokens | None = None, *, required: bool = False) -> None:
        """``hosts`` are the values of Host that are served, ``token`` is one that everybody may show, ``tokens`` are those of agents.

        Without a ``token`` none is asked for, until the first agent has one, or unless it is ``required``.
        """
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)
        self._tokens, self._required = tokens, required
        self._token = _hashed(token) if token else b""
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 421, 401, 403 or 429 before anything is read or done."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) != 1 or hosts[0].decode("latin-1").lower() not in self._hosts:
            await PlainTextResponse("This server does not answer under that name.", 421)(scope, receive, send)
            return
        try:
            who = await self._caller(headers.get(b"authorization", b""))
        except MemGangError:  # nobody can say whose token it is
            await PlainTextResponse("The memory's server is away.", 503, headers={"Retry-After": "1"})(scope, receive, send)
            return
        if who is None:
            status, text, more = self._refusal((scope.get("client") or ("",))[0])
            refused = PlainTextResponse(text, status, headers={"WWW-Authenticate": "Bearer", "Connection": "close"} | more)
            await refused(scope, receive, send)
        elif who.scope:
            await PlainTextResponse(SCOPED, 403)(scope, receive, send)
        else:
            if who.id:  # who it is, for the tools; and for the SDK, which lets nobody else into its session
                scope[AGENT] = who.agent
                scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=who.id, scopes=[]))  # the text is kept nowhere
            await self._within_time(scope, receive, send)

    async def _caller(self, shown: bytes) -> Token | None:
        """Whose token this is; None: it is wrong, or missing where one is needed."""
        kind, _, text = shown.decode("latin-1").partition(" ")
        text = text.strip()
        if self._tokens is not None and text.startswith(SIGN):
            return await self._tokens.owner(text) if kind.lower() == "bearer" else None
        if self._token:
            # Both are hashes of one length, and compared in constant time: how much of a guess was right is not to be seen.
            return ANYBODY if hmac.compare_digest(_hashed(text), self._token) and kind.lower() == "bearer" else None
        if self._tokens is not None:
            await self._tokens.refresh()
        return None if self._required or self._tokens is not None and self._tokens.any else ANYBODY

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
