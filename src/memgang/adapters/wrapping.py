"""`memgang.wrap`: a client of a model's provider that recalls what anybody has asked.

    client = memgang.wrap(openai.AsyncOpenAI(), space)
    answer = await client.chat.completions.create(model="gpt-5-mini", messages=[...])
"""

from __future__ import annotations

from typing import Any, TypeVar

from memgang.adapters.bridge import Bridge
from memgang.blocking import BlockingSpace, connect
from memgang.codec import TTL, parse_ttl
from memgang.errors import ConfigError
from memgang.space import Space

Client = TypeVar("Client")

_PACKAGES = ("openai", "anthropic")


def wrap(client: Client, space: Space | BlockingSpace | None = None, *, ttl: TTL = "default") -> Client:
    """A client like the one given, whose answers are shared by all who use the space; without one, that of `memgang.connect`.

    ``client`` is one of the OpenAI or Anthropic SDK, blocking or awaited; it stays as it is, and its connections are used.
    Chat completions, responses, embeddings and Anthropic's messages are recalled, streams too: who comes late is given
    a stream from its first byte and then live. Plain and streamed requests for the same share one answer; a stream that joins
    a plain request comes when that one is answered. All else passes through. Only whole answers are kept, for ``ttl``.
    Whoever computes is given the SDK's own errors; a refusal that would meet everybody (a wrong request) is told to all
    who wait, one that concerns the caller alone (key, quota) to nobody else.

    Where the model samples (no seed, a temperature other than 0) the i-th ask of one named agent within a run shares
    the i-th answer; who has no name shares one. A request with ``Cache-Control: no-cache`` computes anew, one with
    ``no-store`` for itself alone. The usage of a streamed chat is asked for, since it is the bill, and shown to those who asked
    for it. The SDK's time-outs hold for who waits for another, too.

    Raises:
        ConfigError: it is no such client, or its HTTP client is one that this SDK keeps for old programs only.
    """
    package = type(client).__module__.partition(".")[0]
    kinds = {base.__name__ for base in type(client).__mro__ if base.__module__.partition(".")[0] in _PACKAGES}
    inner: Any = getattr(client, "_client", None)
    if not kinds & {"OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic"}:
        raise ConfigError(f"a client of the openai or anthropic package is needed, not {package}.{type(client).__name__}")
    if ttl != "default":
        parse_ttl(ttl)
    try:
        import httpx2  # comes with both packages
    except ImportError as error:
        raise ConfigError("this SDK is too old to be wrapped: pip install 'memgang[openai]' or 'memgang[anthropic]'") from error

    from memgang.adapters.transport import Exchanges, Recalling, RecallingAsync

    exchanges = Exchanges(Bridge(space if space is not None else connect()), ttl)
    http: Any
    if isinstance(inner, httpx2.AsyncClient):
        http = httpx2.AsyncClient(transport=RecallingAsync(exchanges, inner), timeout=None, trust_env=False)
    elif isinstance(inner, httpx2.Client):
        http = httpx2.Client(transport=Recalling(exchanges, inner), timeout=None, trust_env=False)
    else:
        raise ConfigError(f"the client's HTTP client must be one of httpx2, not {type(inner).__module__}.{type(inner).__name__}")
    copied: Client = client.copy(http_client=http)  # type: ignore[attr-defined]  # both SDKs have it
    return copied
