"""Upstreams: where a request goes, with whose key, and what a refusal means for those who share the call.

Where is decided at the start and by the model's name alone. Nothing in a request can name another server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from memgang.answers.answer import CALLER_CODES
from memgang.canonical import read_json
from memgang.errors import CodecError, ConfigError, ModelError
from memgang.llms.localservers import KINDS, address
from memgang.llms.openai import TRANSIENT_STATUSES, retry_after_s

if TYPE_CHECKING:
    from memgang.doors.proxy.reaching import Response

ERROR_BYTES_MAX = 64 * 1024
TOLD_MAX = 700  # bytes of a refusal that travel with the error to other processes; the whole stays here


@dataclass(frozen=True, slots=True)
class Upstream:
    """One server. ``prefix`` is that of the models it is asked for; one that ends with a slash is not part of their names."""

    url: str
    prefix: str = ""
    key: str = field(default="", repr=False)

    def model(self, name: str) -> str:
        """The name of a model as the server knows it."""
        return name.removeprefix(self.prefix) if self.prefix.endswith("/") else name

    def redacted(self, body: bytes) -> bytes:
        """What the server said, without our key, which some quote in their complaints."""
        return body.replace(self.key.encode(), b"[key]") if self.key else body


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an upstream answered instead of an answer, as it is passed on."""

    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after: str = ""

    def error(self, model: str) -> ModelError:
        """What it means: our key, rights or quota are told to nobody else; a busy server may answer later."""
        kind = "permanent"
        if self.status in (401, 402, 403) or self._codes() & CALLER_CODES:
            kind = "caller"
        elif self.status in TRANSIENT_STATUSES or self.status >= 500:
            kind = "transient"
        wait = retry_after_s({"retry-after": self.retry_after}) if kind == "transient" else 0.0
        return ModelError(model, kind, str(self.status), self.body[:TOLD_MAX].decode("utf-8", "replace"), wait)

    def _codes(self) -> set[str]:
        try:
            error = read_json(self.body).get("error")
            return {str(error.get("code")), str(error.get("type"))}
        except (CodecError, AttributeError):
            return set()


class Upstreams:
    """All servers of one proxy, and the connections to them. Belongs to one event loop."""

    def __init__(self, all_: Sequence[Upstream], timeout_s: float) -> None:
        self._all = sorted(all_, key=lambda one: len(one.prefix), reverse=True)
        # Here: what else stands in this file needs no extra.
        import aiohttp

        from memgang.doors.proxy.reaching import UNSENT, Connections

        self._connections = Connections([one.url for one in all_], timeout_s)
        self._broken, self._unsent = aiohttp.ClientError, UNSENT
        self.plain_only = set[tuple[str, str]]()  # (url, model) that have refused to stream

    @property
    def default(self) -> Upstream:
        """Where requests go that name no model."""
        return self._all[-1]

    def of(self, model: str) -> Upstream | None:
        """The server for a model: that with the longest prefix of its name; None where there is none."""
        return next((one for one in self._all if model.startswith(one.prefix)), None)

    @asynccontextmanager
    async def send(
        self, upstream: Upstream, method: str, path: str, content: bytes | None, headers: Mapping[str, str], query: str = "",
        *, raw: bool = False, unsent: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Response]:
        """The server's reply, whose body is still to be read; ``raw``: as it comes, also where it is compressed.

        ``unsent`` is called where the request never left.

        Raises:
            ModelError: transient; it cannot be reached, or did not answer in time.
        """
        given = dict(headers) | ({"authorization": f"Bearer {upstream.key}"} if upstream.key else {})
        rest = path + (f"?{query}" if query else "")
        try:
            async with self._connections.send(upstream.url, method, rest, content, given, raw=raw) as response:
                yield response
        except self._broken as error:
            if isinstance(error, self._unsent):
                unsent()
            raise unreachable(upstream, error) from None

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._connections.aclose()


async def refusal(upstream: Upstream, response: Response) -> Refusal:
    """A reply that is no answer, read to a limit."""
    body = b""
    async for block in response.content.iter_any():
        body += block
        if len(body) > ERROR_BYTES_MAX:
            break
    return Refusal(response.status, upstream.redacted(body[:ERROR_BYTES_MAX]),
                   response.headers.get("content-type", "application/json"), response.headers.get("retry-after", ""))


def unreachable(upstream: Upstream, error: Exception) -> ModelError:
    """A server that is not there, or breaks off. Its address is no secret, our key is."""
    slow = isinstance(error, TimeoutError)
    text = upstream.redacted(str(error).encode()).decode() or type(error).__name__
    return ModelError(upstream.url, "transient", "timeout" if slow else "connection", text[:300])


def read_upstreams(texts: Sequence[str], keys: str, default_key: str, local: str | None = None) -> list[Upstream]:
    """Upstreams as the command line names them, ``URL`` or ``PREFIX=URL``, with their keys. ``ollama:`` and its like are URLs too.

    ``keys`` are words ``PREFIX=KEY``, parted by spaces; the upstream without a prefix has ``default_key``, unless it is a
    local server, which is sent none. ``local`` says where those listen that do not where they usually do.

    Raises:
        ConfigError: an address is none, holds a password, or a prefix is named twice or has no upstream.
    """
    found: dict[str, Upstream] = {}
    for text in texts:
        alone = text.startswith(("http://", "https://")) or (text.endswith(":") and "=" not in text)
        prefix, url = ("", text) if alone else text.partition("=")[::2]
        if here := url.removesuffix(":") in KINDS and url.endswith(":"):
            url = address(url.removesuffix(":"), local)
        if not _plain(url):
            raise ConfigError(f"upstream {text.rpartition('@')[2][:100]!r} must be http(s)://host/v1, or PREFIX=http(s)://host/v1, "
                              f"without user, password, query or fragment, or one of {', '.join(f'{kind}:' for kind in KINDS)}")
        if prefix in found:
            raise ConfigError(f"upstream prefix {prefix!r} is named twice")
        found[prefix] = Upstream(url.rstrip("/"), prefix, "" if prefix or here else default_key)
    if not found:
        raise ConfigError("an upstream is missing: --upstream https://api.openai.com/v1")
    for word in keys.split():
        prefix, equals, key = word.partition("=")
        if not equals or prefix not in found:
            raise ConfigError(f"MEMGANG_PROXY_KEYS holds a key without an upstream of its prefix; there are {sorted(found)}")
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"the key for upstream prefix {prefix!r} holds what no header can")
        found[prefix] = replace(found[prefix], key=key)
    return list(found.values())


def _plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reachable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return reachable and url.isascii() and url.isprintable() and not (
        "@" in parts.netloc or parts.query or parts.fragment)
