"""The server around the proxy: a socket, uvicorn, and an end in which what is paid for is finished."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import memgang
from memgang.doors.guarding import Patience, guarded
from memgang.doors.listening import listen
from memgang.doors.proxy.app import Proxy
from memgang.doors.proxy.entering import LOOPBACK, Entrance
from memgang.doors.proxy.paying import Payer
from memgang.doors.proxy.recalling import Recaller
from memgang.doors.proxy.upstream import Upstreams, read_upstreams
from memgang.errors import ConfigError
from memgang.limits.allowances import Allowances
from memgang.metrics import Scraper
from memgang.settings import Settings
from memgang.space import Space
from memgang.store.tokens import Tokens

GRACE_S = 30  # at the end: how long streams that are under way may take
WAITING = 2048  # connections that wait to be taken
IDLE_S = 75  # how long a connection without a request stays open
ANSWER_S = 600.0  # how long an answer, or the beginning of a stream, may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the proxy listens, and who may come."""

    host: str
    port: int
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    require_token: bool = False
    body_bytes_max: int = 10_000_000

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK


async def proxy_of(space: Space, upstreams: Upstreams, place: Place) -> Proxy:
    """The application for a space.

    Raises:
        ConfigError: the price file is none.
        StoreUnavailable: the tokens cannot be read.
    """
    tokens = Tokens(space.store)
    await tokens.refresh()
    entrance = Entrance(tokens, [*LOOPBACK, place.host, *place.hosts], place.origins,
                        required=place.require_token or not place.loopback)
    payer = Payer(Allowances(space.store), space.settings.price_table())
    try:
        scraper = Scraper(space)
    except ConfigError:  # an extra of its own: without it there is no such page, and who asks for it is told
        scraper = None
    return Proxy(Recaller(space, upstreams, payer, ANSWER_S), entrance, place.body_bytes_max, scraper)


def serve(settings: Settings, named: Sequence[str], place: Place, ready: Callable[[str, str], None]) -> None:
    """Serve until told to end by SIGINT or SIGTERM. ``ready`` is told the address, and the name of the space.

    Raises:
        ConfigError: the extra is missing, an upstream is none, or the address is taken.
        StoreUnavailable: there is no server to remember anything.
    """
    try:
        import aiohttp  # noqa: F401  # by the upstreams
        import uvicorn
    except ImportError as error:
        raise ConfigError("the proxy needs more packages: pip install 'memgang[proxy]'") from error
    found = read_upstreams(named, settings.proxy_keys or "", settings.openai_api_key or "", settings.local_servers)
    with listen(place.host, place.port, WAITING) as listening:
        port = listening.getsockname()[1]

        async def inside() -> None:
            async with memgang.open(**_given(settings)) as space, contextlib.AsyncExitStack() as ending:
                upstreams = Upstreams(found, settings.llm_timeout_s)
                ending.push_async_callback(upstreams.aclose)
                app = await proxy_of(space, upstreams, place)
                ending.push_async_callback(app.aclose)
                config = uvicorn.Config(
                    app, loop="auto", http=guarded(Patience()), ws="none", lifespan="off",
                    log_config=None, log_level="warning", access_log=False, server_header=False, date_header=False,
                    proxy_headers=False, timeout_keep_alive=IDLE_S, timeout_graceful_shutdown=GRACE_S)
                server = uvicorn.Server(config)
                ready(f"http://{f'[{place.host}]' if ':' in place.host else place.host}:{port}/v1", space.name)
                told = asyncio.create_task(_told_to_end(server))
                await server.serve(sockets=[listening])
                await _finished(space, GRACE_S - (asyncio.get_running_loop().time() - await told))

        with asyncio.Runner(loop_factory=_loop()) as runner:
            runner.run(inside())


async def _told_to_end(server: Any) -> float:
    """When the server was told to end, by the clock of the loop."""
    while not server.should_exit:  # noqa: ASYNC110  # a flag of uvicorn's, which tells nobody
        await asyncio.sleep(0.1)
    return asyncio.get_running_loop().time()


async def _finished(space: Space, within_s: float) -> None:
    """Answers whose callers have left are paid for all the same: wait for them, not longer than this."""
    ending = asyncio.create_task(space.settle())
    try:
        await asyncio.wait([ending], timeout=max(0.0, within_s))
    except asyncio.CancelledError:
        # uvicorn raises the signal it was ended by once more. It was heard; one that comes now would not wait.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        await asyncio.wait([ending], timeout=max(0.0, within_s))
    finally:
        ending.cancel()


def _loop() -> Any:
    """uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _given(settings: Settings) -> dict[str, Any]:
    return {"url": settings.url, "space": settings.space, "agent": settings.agent or "proxy"}
