"""URLs: fetch a page with limits, or ask whether it has changed.

Which addresses may be asked at all is not decided here: a server that reads URLs for others must keep
them from naming machines inside its own network.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from memgang.errors import ReadError

if TYPE_CHECKING:
    import httpx  # imported where it is used: a large library, and most runs read no page

BYTES_MAX = 20 * 1024 * 1024
CONNECT_S = 10.0
TOTAL_S = 30.0
REDIRECTS_MAX = 5
USER_AGENT = "memgang-reader/1"


class Fetched(msgspec.Struct, frozen=True):
    """What a URL gave: the body and what the server says of it."""

    body: bytes
    media_type: str
    charset: str
    etag: str
    last_modified: str
    final_url: str


def is_url(source: str) -> bool:
    """Whether a source is an http or https address."""
    return source.lower().startswith(("http://", "https://"))


def carries_secret(source: str) -> bool:
    """Whether an address holds a user or password: it would stand in reports, records and the log."""
    return is_url(source) and "@" in source.partition("://")[2].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]


def client() -> httpx.Client:
    """A client with this module's limits. Close it, or use it in a ``with``."""
    import httpx

    return httpx.Client(timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S), follow_redirects=True,
                        max_redirects=REDIRECTS_MAX, headers={"User-Agent": USER_AGENT})


def fetch(url: str, http: httpx.Client | None = None, timeout_s: float = TOTAL_S) -> Fetched:
    """The body behind a URL.

    Raises:
        ReadError: not reachable, an error status, too large, too slow, or too many redirects.
    """
    fetched = _get(url, {}, http, timeout_s)
    assert fetched is not None  # without conditions there is no 304; _get raises for it
    return fetched


def unchanged(url: str, etag: str, last_modified: str, http: httpx.Client | None = None) -> bool:
    """Whether the server says that the page is the one with these marks. False when it cannot be asked."""
    conditions = {}
    if etag:
        conditions["If-None-Match"] = etag
    if last_modified:
        conditions["If-Modified-Since"] = last_modified
    if not conditions:
        return False
    try:
        return _get(url, conditions, http, TOTAL_S, body=False) is None
    except ReadError:
        return False


def _get(url: str, headers: dict[str, str], http: httpx.Client | None, timeout_s: float,
         body: bool = True) -> Fetched | None:
    """One request; None for 304. Without ``body`` the answer's body is not read."""
    import httpx

    if http is None:
        with client() as own:
            return _get(url, headers, own, timeout_s, body)
    ends = time.monotonic() + min(timeout_s, TOTAL_S)
    try:
        with http.stream("GET", url, headers=headers, follow_redirects=True) as answer:
            if answer.status_code == 304 and headers:
                return None
            if answer.status_code >= 300:
                raise ReadError(url, f"the server answered {answer.status_code} {answer.reason_phrase}".rstrip())
            chunks: list[bytes] = []
            size = 0
            for chunk in answer.iter_bytes() if body else ():
                size += len(chunk)
                if size > BYTES_MAX:
                    raise ReadError(url, f"it is larger than {BYTES_MAX // 1024 // 1024} MB")
                # httpx limits the wait for each read; a server that drips would never meet it.
                if time.monotonic() > ends:
                    raise ReadError(url, f"it was not there after {min(timeout_s, TOTAL_S):g} s")
                chunks.append(chunk)
            kind = answer.headers.get("content-type", "")
            return Fetched(b"".join(chunks), kind.partition(";")[0].strip().lower(), answer.charset_encoding or "",
                           answer.headers.get("etag", ""), answer.headers.get("last-modified", ""), str(answer.url))
    except httpx.TooManyRedirects:
        raise ReadError(url, f"more than {REDIRECTS_MAX} redirects") from None
    except httpx.TimeoutException:
        raise ReadError(url, "the server did not answer in time") from None
    except httpx.UnsupportedProtocol:
        raise ReadError(url, "it leads to an address that is not http or https") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ReadError(url, f"the server cannot be reached: {error}") from error
