"""URLs: one request with limits, hop by hop; conditional where the page is known.

A person may name any address. Who reads URLs that others name hands in a `Reach`, which keeps them, and the
redirects of any server, from naming machines inside this network.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from memgang.errors import ReadError
from memgang.readers.bodies import ACCEPT, body_of
from memgang.readers.freshness import freshness, retry_after_s
from memgang.readers.reach import Reach

if TYPE_CHECKING:
    import ssl

    import httpx  # imported where it is used: a large library, and most runs read no page

T = TypeVar("T")

BYTES_MAX = 20 * 1024 * 1024
CONNECT_S = 10.0
IDLE_S = 10.0  # a server that sends nothing for so long is given up
TOTAL_S = 30.0
REDIRECTS_MAX = 5
USER_AGENT = "memgang-reader/1"

# What may go along to another server than the one that was named; all else may be a credential.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})
# Parts of parameter names whose values open doors: signed and tokened addresses.
_SECRET = re.compile(
    r"(?i)((?:^|[&;])(?:[^=&;]*(?:token|secret|signature|password|passwd|apikey|credentials?)"
    r"|(?:[^=&;]*[-_.])?(?:key|sig|auth|authorization|pwd|session|sessionid|sid))=)[^&;#]+")

# Entered before each request with its URL; told for how long the server wants to be left alone.
Turn = Callable[[str], contextlib.AbstractAsyncContextManager[Callable[[float], None]]]


class Bounds(msgspec.Struct, frozen=True):
    """Limits of one fetch, redirects and all: bytes after unpacking (``cut``: of what is larger the beginning is enough), seconds
    of asking, redirects."""

    bytes_max: int = BYTES_MAX
    total_s: float = TOTAL_S
    redirects_max: int = REDIRECTS_MAX
    cut: bool = False


class Known(msgspec.Struct, frozen=True):
    """The marks of a page that was fetched before. With ``final_url`` they are shown only to where it came from."""

    etag: str = ""
    last_modified: str = ""
    final_url: str = ""


class Fetched(msgspec.Struct, frozen=True):
    """What a URL gave: the body and what the server says of it; see `Freshness` for the last two."""

    body: bytes
    media_type: str
    charset: str
    etag: str
    last_modified: str
    final_url: str
    fresh_s: float = 0.0
    keep: bool = True


class Unchanged(msgspec.Struct, frozen=True):
    """The server says that the known page is still the page."""

    fresh_s: float = 0.0
    keep: bool = True


def is_url(source: str) -> bool:
    """Whether a source is an http or https address."""
    return source.lower().startswith(("http://", "https://"))


def carries_secret(source: str) -> bool:
    """Whether an address holds a user or password: it would stand in reports, records and the log."""
    return is_url(source) and "@" in source.partition("://")[2].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]


def shown(url: str) -> str:
    """An address as it may stand in errors, records and outlines: without what looks like a credential in it."""
    head, mark, query = url.partition("?")
    return head + mark + _SECRET.sub(r"\1...", query) if is_url(url) else url


def fetch(url: str, timeout_s: float = TOTAL_S, reach: Reach | None = None) -> Fetched:
    """The body behind a URL, for a thread without an event loop. With ``reach`` only addresses it allows are asked.

    Raises:
        ReadError: not reachable, out of reach, an error status, too large, too slow, or too many redirects.
    """
    fetched = _here(get(url, reach=reach, bounds=Bounds(total_s=min(timeout_s, TOTAL_S))))
    assert isinstance(fetched, Fetched)  # without conditions there is no 304; `get` raises for it
    return fetched


def unchanged(url: str, etag: str, last_modified: str, reach: Reach | None = None) -> bool:
    """Whether the server says that the page is the one with these marks. False when it cannot, or must not, be asked."""
    if not etag and not last_modified:
        return False
    try:
        return isinstance(_here(get(url, known=Known(etag, last_modified), reach=reach, body=False)), Unchanged)
    except ReadError:
        return False


async def get(
    url: str, *, headers: Mapping[str, str] | None = None, known: Known | None = None, reach: Reach | None = None,
    bounds: Bounds = Bounds(), agent: str = USER_AGENT, turn: Turn | None = None, body: bool = True,
) -> Fetched | Unchanged:
    """Ask for a page, through its redirects. Without ``body`` only the head of the answer is waited for.

    ``headers`` go to the server that was named and to no other. ``turn`` is waited for before each request, outside of
    the time limit.

    Raises:
        ReadError: not reachable, out of reach, an error status, too large, too slow, or too many redirects.
    """
    import httpx

    here, left = url.partition("#")[0], bounds.total_s
    async with _client(reach) as http:
        for _ in range(bounds.redirects_max + 1):
            check_address(url, here)
            asked = {"User-Agent": agent, "Accept": "*/*", "Accept-Encoding": ACCEPT} | _for(here, url, headers or {})
            asked |= _conditions(here, known)
            async with (turn or _at_once)(here) as wait:
                began = time.monotonic()
                try:
                    # httpx limits the wait for each read; a server that drips would never meet it.
                    async with asyncio.timeout(left), http.stream("GET", here, headers=asked) as answer:
                        if answer.status_code in (429, 503):
                            wait(retry_after_s(answer.headers.get("retry-after", "")))
                        if answer.next_request is None:
                            return await _taken(answer, here, known, bounds, body)
                        there = str(answer.next_request.url).partition("#")[0]
                except TimeoutError:
                    raise ReadError(shown(url), f"it was not there after {bounds.total_s:g} s", "slow") from None
                except httpx.ConnectTimeout:
                    raise ReadError(shown(url), f"no connection after {CONNECT_S:g} s", "slow") from None
                except httpx.TimeoutException:
                    raise ReadError(shown(url), f"the server sent nothing for {IDLE_S:g} s", "slow") from None
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise ReadError(shown(url), f"the server cannot be reached: {error}", "unreachable") from error
                left -= time.monotonic() - began
            if here.lower().startswith("https:") and there.lower().startswith("http:"):
                raise ReadError(shown(url), f"it leads from https to {shown(there)}, which anybody on the way can change", "redirect")
            here = there
    raise ReadError(shown(url), f"more than {bounds.redirects_max} redirects", "redirect")


async def _taken(answer: httpx.Response, here: str, known: Known | None, bounds: Bounds, body: bool) -> Fetched | Unchanged:
    """What an answer that is no redirect says."""
    lasts = freshness(answer.headers)
    if answer.status_code == 304 and _conditions(here, known):
        return Unchanged(lasts.fresh_s, lasts.keep)
    if answer.status_code >= 300:
        # The words beside the number are the server's own, and may be anything.
        raise ReadError(shown(here), f"the server answered {answer.status_code} {answer.reason_phrase[:60]}".rstrip(),
                        _code(answer.status_code))
    content = await body_of(answer, shown(here), bounds.bytes_max, cut=bounds.cut) if body else b""
    kind = answer.headers.get("content-type", "")
    return Fetched(content, kind.partition(";")[0].strip().lower(), answer.charset_encoding or "", answer.headers.get("etag", ""),
                   answer.headers.get("last-modified", ""), here, lasts.fresh_s, lasts.keep)


def _code(status: int) -> str:
    if status in (404, 410):
        return "missing"
    return "refused" if 400 <= status < 500 and status not in (408, 425, 429) else "status"


def check_address(url: str, here: str) -> None:
    """Raises ReadError for an address that is none of the web, or names a user: a redirect may lead to anything."""
    if not is_url(here):
        raise ReadError(shown(url), "it leads to an address that is not http or https", "redirect" if here != url else "scheme")
    try:
        named = urlsplit(here)
        if not named.hostname or named.port == 0:
            raise ValueError("no host")
    except ValueError:
        raise ReadError(shown(here), "it is not an address: its host or port is none", "scheme") from None
    if carries_secret(here):
        raise ReadError(here.partition("://")[0] + "://...", "its address holds a user or password", "redirect")


def _for(here: str, url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may go to ``here``, when they were given for ``url``."""
    if _origin(here) == _origin(url):
        return dict(headers)
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}


def _conditions(here: str, known: Known | None) -> dict[str, str]:
    if known is None or known.final_url not in ("", shown(here)):
        return {}
    marks = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: mark for name, mark in marks.items() if mark}


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError:  # no port: it will not be connected to
        return "", url, 0


def _client(reach: Reach | None) -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(
        timeout=httpx.Timeout(IDLE_S, connect=CONNECT_S), follow_redirects=False, verify=tls(),
        # With a transport of ours no proxy of the environment is used: it would look names up itself.
        transport=reach.transport(tls()) if reach is not None else None)


@functools.cache
def tls() -> ssl.SSLContext:
    """What is trusted; made once, because reading all certificates takes longer than most fetches."""
    import httpx

    return httpx.create_ssl_context()


@contextlib.asynccontextmanager
async def _at_once(url: str) -> AsyncIterator[Callable[[float], None]]:
    yield lambda seconds: None


def _here(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of work on an event loop of its own, in the caller's thread."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        # Not `asyncio.run`: that waits for threads, and one may hang in a name server that does not answer.
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
