"""What stands before everything the dashboard serves, Streamlit's own routes and ours, pages and sockets alike.

    Host      one of the names this server has: a page of another name that was led here by DNS is refused
    Origin    a page's own: other pages have no business with somebody's memory
    token     where one is set: a person gives it once, and the browser keeps a cookie that says so, not the token

Without a token everybody on this machine is let in, and the server listens nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENTER = "/mg/enter"
COOKIE = "memgang_dashboard"  # and the port: browsers do not tell the ports of a host apart
STAY_S = 12 * 3600
FORM_BYTES_MAX = 8192
NEXT_MAX = 1500  # characters of an address that is kept through the form
WRONG_A_MINUTE = 5
ADDRESSES_MAX = 10_000  # remembered; the oldest goes first

# A page loads nothing from and sends nothing to elsewhere, whatever gets into it, and no other page shows ours inside itself; a link
# that is followed leads out all the same. Streamlit itself needs inline styles, and evaluates: its tables and charts are compiled in
# the browser.
POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
          "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-src 'self' blob:; "
          "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'")
_HEADERS = ((b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"))  # with none at all, browsers send "null" as the Origin of a form

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>MemGang</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:24rem;padding:0 1rem;color-scheme:light dark}}
input,button{{font:inherit;padding:.4rem .6rem;width:100%;box-sizing:border-box;margin:.3rem 0}}</style>
<h1>MemGang</h1><form method="post" action="{action}"><input type="hidden" name="next" value="{next}"><label>Token of this dashboard
<input type="password" name="token" autocomplete="current-password" autofocus required></label><button>Enter</button></form><p>{text}</p>"""


class Guard:
    """ASGI in front of the app. Keeps a hash of the token, not the token."""

    def __init__(self, app: ASGIApp, *, names: Sequence[str], token: str = "", clock: Callable[[], float] = time.time) -> None:
        """``names`` are the names in Host that are served, on any port; without a ``token`` none is asked for."""
        self._app, self._names, self._clock = app, frozenset(name.lower() for name in names), clock
        self._token = _hashed(token) if token else b""
        self._key = secrets.token_bytes(32)
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.sockets = 0  # open ones: how many pages are being looked at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse before anything is read or done."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        if (refusal := self._foreign(headers)) is not None:
            await refusal(scope, receive, send)
        elif self._token and scope["type"] == "http" and scope["path"] == ENTER:
            await self._enter(scope, receive, send)
        elif self._token and not self._is_in(headers, _cookie(scope)):
            asks = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and "text/html" in dict(headers).get(b"accept", "")
            refused = self._form(401, _asked(scope)) if asks else PlainTextResponse("This dashboard wants its token.", 401)
            await refused(scope, receive, send)
        elif scope["type"] == "http":
            await self._app(scope, receive, _with(send, dict(_HEADERS)))
        else:
            self.sockets += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self.sockets -= 1

    def _foreign(self, headers: Sequence[tuple[bytes, str]]) -> Response | None:
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in self._names:
            return PlainTextResponse("This dashboard is not known by that Host; --served-as adds a name.", 403)
        for name, value in headers:
            # By host and port; the scheme may be that of a proxy in front of us.
            if name == b"origin" and _place(value.lower()) != hosts[0]:
                return PlainTextResponse("Pages of this Origin may not ask here.", 403)
        return None

    # ── the token ─────────────────────────────────────────────────────────────────────────────

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._form(200, "/")(scope, receive, send)
            return
        address = (scope.get("client") or ("",))[0]
        told = parse_qs((await _body(receive)).decode("utf-8", "replace"))
        shown, then = told.get("token", [""])[0], _within(told.get("next", [""])[0])
        # Hashes of one length, compared in constant time: how much of a guess was right is not to be seen.
        right = hmac.compare_digest(_hashed(shown.strip()), self._token)
        if right:
            # Always let in: behind a proxy all have one address, and nobody's guesses may lock out the others. A token has 32
            # characters at least, so that it is not found by guessing.
            answer = RedirectResponse(then, 303)
            end = int(self._clock()) + STAY_S
            # Lax: a link in a mail leads to the page it names. What changes something is no link, and its Origin is looked at.
            answer.set_cookie(_cookie(scope), f"{end}.{self._sign(end)}", max_age=STAY_S, httponly=True, samesite="lax",
                              secure=scope.get("scheme") == "https")
            await answer(scope, receive, send)
        elif self._too_many(address):
            await self._form(429, then, "Too many wrong tokens; wait a minute.")(scope, receive, send)
        else:
            await self._form(401, then, "That is not the token of this dashboard.")(scope, receive, send)

    def _is_in(self, headers: Sequence[tuple[bytes, str]], cookie: str) -> bool:
        for name, value in headers:
            if name != b"cookie":
                continue
            try:
                kept = SimpleCookie(value).get(cookie)
            except CookieError:
                continue
            end, _, signed = (kept.value if kept is not None else "").partition(".")
            if end.isascii() and end.isdigit() and len(end) < 12 and hmac.compare_digest(
                    signed.encode("latin-1", "replace"), self._sign(int(end)).encode()):
                return self._clock() < int(end)
        return False

    def _sign(self, end: int) -> str:
        return hmac.new(self._key, b"%d" % end, hashlib.sha256).hexdigest()

    def _too_many(self, address: str) -> bool:
        """Count a wrong token; whether there were too many before it."""
        now = self._clock()
        began, count = self._wrong.get(address, (now, 0))
        if now - began > 60:
            began, count = now, 0
        if count >= WRONG_A_MINUTE:
            return True
        self._wrong[address] = began, count + 1
        self._wrong.move_to_end(address)
        if len(self._wrong) > ADDRESSES_MAX:
            self._wrong.popitem(last=False)
        return False

    def _form(self, status: int, then: str, text: str = "") -> Response:
        page = _PAGE.format(action=ENTER, next=escape(then), text=text or "It stands in the file that was given with --token-file.")
        return HTMLResponse(page, status, headers={"content-security-policy": POLICY, "cache-control": "no-store"})


def _name(host: str) -> str:
    """A Host without its port; '' for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or "" if not set(host) & set("@/?#\\") else ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """Host and port of an Origin; '' for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _cookie(scope: Scope) -> str:
    return f"{COOKIE}_{(scope.get('server') or ('', ''))[1]}"


def _asked(scope: Scope) -> str:
    """The address that was asked for, below this host."""
    query = scope.get("query_string", b"").decode("latin-1")
    return _within(quote(scope["path"]) + (f"?{query}" if query else ""))


def _within(address: str) -> str:
    """An address below this host; '/' for what might lead elsewhere: `//host`, and what browsers make that of."""
    plain = address.isascii() and address.isprintable() and not set(address) & {" ", "\\"} and len(address) <= NEXT_MAX
    return address if plain and address.startswith("/") and not address.startswith(("//", ENTER)) else "/"


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def _body(receive: Receive) -> bytes:
    """What was sent, if it is short."""
    body = b""
    while len(body) <= FORM_BYTES_MAX:
        message = await receive()
        piece: bytes = message.get("body", b"")
        body += piece
        if message["type"] != "http.request" or not message.get("more_body", False):
            return body
    return b""


def _with(send: Send, added: Mapping[bytes, bytes]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [pair for pair in message.get("headers", ()) if pair[0].lower() not in added] + list(added.items())
        await send(message)

    return sent
