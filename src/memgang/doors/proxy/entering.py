"""Who may come in. Asked of every request, whatever its method, before anything else is done or read.

    Host      one of the names this server has: a page of another name that was led here by DNS is refused
    Origin    a page's own, or one that was allowed: other pages have no business with somebody's memory
    token     one that was made for this space and not revoked; on loopback, where there is none, everybody is let in
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from memgang.doors.guessing import Guesses
from memgang.errors import ConfigError
from memgang.store.allowances import Allowance
from memgang.store.keys import check_label
from memgang.store.tokens import SIGN, UNLIMITED, Tokens

LOOPBACK = ("localhost", "127.0.0.1", "::1")

Headers = Sequence[tuple[bytes, bytes]]


class Denied(Exception):  # what is raised is the answer
    """The request ends here with this status."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``agent`` '' has no identity; ``scope`` and what it ``allows`` are the token's and nothing else's."""

    agent: str
    run: str
    scope: str
    allows: Allowance = UNLIMITED


def header(headers: Headers, name: bytes) -> str:
    """A header's text, '' without it."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""


class Entrance:
    """The rules of one proxy. ``tokens`` are those of its space."""

    def __init__(self, tokens: Tokens, hosts: Sequence[str], origins: Sequence[str], *, required: bool) -> None:
        self._tokens, self._required = tokens, required
        self._guesses = Guesses()
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def look(self, headers: Headers) -> None:
        """Whether the request was meant for this server, and not led here by a page.

        Raises:
            Denied: with 403.
        """
        hosts = [value.decode("latin-1").lower() for key, value in headers if key == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            raise Denied(403, "host_not_allowed", "this server is not known by that Host; --allow-host adds a name")
        origin = header(headers, b"origin").lower()
        if origin and origin not in self._origins and origin != f"http://{hosts[0]}":
            raise Denied(403, "origin_not_allowed", "pages of this Origin may not ask here; --allow-origin adds one")

    async def admit(self, headers: Headers, address: str = "") -> Caller:
        """The caller. ``address`` is where wrong tokens are counted.

        Raises:
            Denied: with 403, 401, 429 after too many wrong tokens, or 400 where an agent or run is no label.
        """
        self.look(headers)
        agent, scope, allows = "", "", UNLIMITED
        await self._tokens.refresh()
        scheme, _, text = header(headers, b"authorization").partition(" ")
        # Who shows a token is who it says, also where nobody needs one: the first may have been made a moment ago.
        if self._required or self._tokens.any or text.strip().startswith(SIGN):
            token = await self._tokens.owner(text.strip()) if scheme.lower() == "bearer" else None
            if token is None:
                if wait_s := self._guesses.wrong(address):
                    raise Denied(429, "rate_limit_exceeded", "too many requests without a right token came from this address",
                                 **{"retry-after": str(wait_s)})
                raise Denied(401, "invalid_api_key", "a token of this space is needed as the API key; `memgang token create` makes one")
            agent, scope, allows = token.agent, token.scope, token.allows
        try:
            if not agent and (given := header(headers, b"x-memgang-agent")):
                agent = check_label("x-memgang-agent", given)
            run = header(headers, b"x-memgang-run")
            return Caller(agent, check_label("x-memgang-run", run) if run else "", scope, allows)
        except ConfigError as error:
            raise Denied(400, "invalid_header", str(error)) from None


@functools.lru_cache(256)  # most ask by the same name
def _name(host: str) -> str:
    """A Host without its port; '' for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or "" if "@" not in host and "/" not in host else ""
    except ValueError:
        return ""
