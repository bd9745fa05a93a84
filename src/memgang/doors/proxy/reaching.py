"""Connections to upstreams: kept open between requests, without redirects and cookies, and with a limit for each silence.

aiohttp and not httpx, which the rest of MemGang uses: its parser is compiled, and of a miss the proxy adds httpx was the largest part.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

CONNECT_S = 10.0
IDLE_S = 5.0  # how long a connection is kept without a request; servers that close it first would fail the next one
LINGER_S = 1.0  # how long the end of a body that nobody reads may take to come, for its connection to be kept
HEADER_BYTES_MAX = 64 * 1024

Response = aiohttp.ClientResponse

# What means that nothing of the request has reached the server: there was no connection to it (none to be had, TLS refused, an
# HTTP proxy in between that would not open one), or no address. One that broke later may have brought it there, and been billed.
UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError,
          aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)


class Connections:
    """Those to all servers of one proxy. Belongs to one event loop."""

    def __init__(self, urls: Sequence[str], timeout_s: float) -> None:
        secure: bool | ssl.SSLContext = True
        if any(url.startswith("https:") for url in urls):
            import httpx  # a large library, and local servers have no TLS

            secure = httpx.create_ssl_context()  # the roots of trust are those of everything else that MemGang asks
        self._through = {url: _between(url) for url in urls}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S, ssl=secure),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=timeout_s),
            # Nothing that one caller's answer has set is sent for another.
            cookie_jar=aiohttp.DummyCookieJar(), headers={"user-agent": "memgang"}, skip_auto_headers=("content-type",),
            max_line_size=HEADER_BYTES_MAX, max_field_size=HEADER_BYTES_MAX)
        self._lingering = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def send(
        self, url: str, method: str, rest: str, content: bytes | None, headers: Mapping[str, str], *, raw: bool
    ) -> AsyncIterator[Response]:
        """The reply of the server with this ``url``, asked for what follows it; its body is still to be read.

        ``raw``: compressed, if it comes so.

        Raises:
            aiohttp.ClientError: it cannot be reached, breaks off, or is silent for too long (then a TimeoutError as well).
        """
        # Where to is decided: what follows is sent as it was said, and no redirect leads elsewhere.
        response = await self._session.request(
            method, URL(url + rest, encoded=True), data=content, headers=headers, allow_redirects=False, proxy=self._through[url],
            auto_decompress=not raw)
        try:
            yield response
        except BaseException:
            response.close()
            raise
        if response.content.is_eof():
            response.release()
        else:
            # An answer was whole before its body ended, which mostly is on its way: a new connection costs more than to wait for it.
            task = asyncio.create_task(_read_out(response))
            self._lingering.add(task)
            task.add_done_callback(self._lingering.discard)

    async def aclose(self) -> None:
        """Close them all."""
        for task in self._lingering:
            task.cancel()
        await asyncio.gather(*self._lingering, return_exceptions=True)
        await self._session.close()


async def _read_out(response: Response) -> None:
    """Read what is left of a body, for a while; the connection goes back where all was read, and is closed where not."""
    try:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while await response.content.readany():
                    pass
    finally:
        response.release()


def _between(url: str) -> str | None:
    """The proxy that this machine is told to use for a server, if any: looked up once, not for each request."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    known = getproxies()
    found = known.get(parts.scheme) or known.get("all")
    return found if not found or "://" in found else f"http://{found}"
