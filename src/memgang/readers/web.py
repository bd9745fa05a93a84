"""URLs: fetch a page with limits, or ask whether it has changed.

A person may name any address. Who reads URLs that others name hands in a `Reach`, which keeps them, and the
redirects of any server, from naming machines inside this network.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from memgang.errors import ReadError
from memgang.readers.reach import Reach

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


def client(reach: Reach | None = None) -> httpx.Client:
    """A client with this module's limits, and none of whose requests goes beyond ``reach``. Close it, or use it in a ``with``."""
    import httpx

    return httpx.Client(timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S), follow_redirects=True,
                        max_redirects=REDIRECTS_MAX, headers={"User-Agent": USER_AGENT},
                        # With a transport of ours no proxy of the environment is used: it would look names up itself.
                        transport=reach.transport() if reach is not None else None)


def fetch(url: str, http: httpx.Client | None = None, timeout_s: float = TOTAL_S, reach: Reach | None = None) -> Fetched:
    """The body behind a URL. With ``reach`` only addresses it allows are asked; ``http`` brings its own.

    Raises:
        ReadError: not reachable, out of reach, an error status, too large, too slow, or too many redirects.
    """
    fetched = _get(url, {}, http, timeout_s, reach)
    assert fetched is not None  # without conditions there is no 304; _get raises for it
    return fetched


def unchanged(
    url: str, etag: str, last_modified: str, http: httpx.Client | None = None, reach: Reach | None = None
) -> bool:
    """Whether the server says that the page is the one with these marks. False when it cannot, or must not, be asked."""
    conditions = {}
    if etag:
        conditions["If-None-Match"] = etag
    if last_modified:
        conditions["If-Modified-Since"] = last_modified
    if not conditions:
        return False
    try:
        return _get(url, conditions, http, TOTAL_S, reach, body=False) is None
    except ReadError:
        return False


def _get(url: str, headers: dict[str, str], http: httpx.Client | None, timeout_s: float,
         reach: Reach | None, body: bool = True) -> Fetched | None:
    """One request; None for 304. Without ``body`` the answer's body is not read."""
    import httpx

    if http is None:
        with client(reach) as own:
            return _get(url, headers, own, timeout_s, reach, body)
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
