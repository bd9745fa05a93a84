"""A provider, a proxy in front of it, and OpenAI's own client in front of that; each on a port of its own."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from memgang.doors.guarding import Patience, guarded
from memgang.doors.proxy.serving import Place, proxy_of
from memgang.doors.proxy.upstream import Upstreams, read_upstreams
from memgang.space import Space
from tests.proxy.upstream import Upstream, served
from tests.recall.conftest import own  # noqa: F401  # a fixture

if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "uvicorn", "openai")):
    openai: Any = None
    collect_ignore_glob = ["test_*.py"]  # they are extras
else:
    import openai

KEY = "sk-provider-0123456789"


@dataclass
class Set:
    """All that a test talks to."""

    upstream: Upstream
    url: str
    space: Space
    client: Any  # openai.AsyncOpenAI

    def other(self, api_key: str = "unused", **headers: str) -> Any:
        """Another client of the same proxy. Not closed: it lets go of its connections with the test."""
        return openai.AsyncOpenAI(base_url=self.url, api_key=api_key, max_retries=0, default_headers=headers, timeout=30)


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    """A provider and its address."""
    app = Upstream()
    async with served(app) as url:
        yield app, url
        if app.gate is not None:
            app.gate.set()


@pytest.fixture
def proxied(upstream: tuple[Upstream, str], opened: Callable[..., Any]) -> Callable[..., Any]:
    """A proxy with options of its own: ``async with proxied(require_token=True) as set_``."""

    @contextlib.asynccontextmanager
    async def build(
        named: tuple[str, ...] = (), keys: str = "", settings: dict[str, Any] | None = None, patience: Patience | None = None, **place: Any,
    ) -> AsyncIterator[Set]:
        async with opened(**(settings or {})) as space, contextlib.AsyncExitStack() as ending:
            upstreams = Upstreams(read_upstreams([*named, *([] if named else [upstream[1]])], keys, KEY), 20)
            ending.push_async_callback(upstreams.aclose)
            app = await proxy_of(space, upstreams, Place(host="127.0.0.1", port=0, **place))
            ending.push_async_callback(app.aclose)
            url = await ending.enter_async_context(served(app, guarded(patience or Patience()), 1 if patience else 5))
            async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, timeout=30) as client:
                yield Set(upstream[0], url, space, client)

    return build


@pytest.fixture
async def proxy(proxied: Callable[..., Any]) -> AsyncIterator[Set]:
    """A proxy without options."""
    async with proxied() as set_:
        yield set_
