"""The server around the exporter: a socket and uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import memgang
from memgang.doors.guarding import Patience, guarded
from memgang.doors.listening import listen
from memgang.doors.metrics.app import Exporter
from memgang.doors.proxy.entering import LOOPBACK, Entrance
from memgang.doors.proxy.serving import WAITING, Place
from memgang.errors import ConfigError
from memgang.metrics import Scraper
from memgang.metrics.page import MISSING
from memgang.settings import Settings
from memgang.space import Space
from memgang.store.tokens import Tokens

IDLE_S = 75  # how long a connection without a request stays open
GRACE_S = 2


async def exporter_of(space: Space, place: Place, *, limits: Sequence[str] = (), agents: bool = False) -> Exporter:
    """The application for a space.

    Raises:
        ConfigError: the extra is missing, or the name of a limit is none.
        StoreUnavailable: the tokens cannot be read.
    """
    scraper, tokens = Scraper(space, limits=limits, agents=agents), Tokens(space.store)
    await tokens.refresh()
    return Exporter(scraper, Entrance(tokens, [*LOOPBACK, place.host, *place.hosts], place.origins,
                                      required=place.require_token or not place.loopback))


def serve(settings: Settings, place: Place, ready: Callable[[str, str], None], *, limits: Sequence[str], agents: bool) -> None:
    """Serve until told to end by SIGINT or SIGTERM. ``ready`` is told the address, and the name of the space.

    Raises:
        ConfigError: the extra is missing, or the address is taken.
        StoreUnavailable: there is no server to read from.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError(MISSING) from error
    with listen(place.host, place.port, WAITING) as listening:
        port = listening.getsockname()[1]

        async def inside() -> None:
            async with memgang.open(url=settings.url, space=settings.space, agent=settings.agent or "metrics") as space:
                config = uvicorn.Config(
                    await exporter_of(space, place, limits=limits, agents=agents), http=guarded(Patience()), ws="none", lifespan="off",
                    log_config=None, log_level="warning", access_log=False, server_header=False, date_header=False,
                    proxy_headers=False, timeout_keep_alive=IDLE_S, timeout_graceful_shutdown=GRACE_S)
                ready(f"http://{f'[{place.host}]' if ':' in place.host else place.host}:{port}/metrics", space.name)
                await uvicorn.Server(config).serve(sockets=[listening])

        asyncio.run(inside())
