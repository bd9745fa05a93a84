"""Serving: Streamlit's app with our guard before it and our routes beside it, on one port, on loopback unless told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streamlit
import uvicorn
from starlette.middleware import Middleware
from starlette.types import ASGIApp
from streamlit.web import bootstrap

import memgang
from memgang.doors.dashboard.guard import Guard
from memgang.doors.dashboard.routes import routes
from memgang.doors.dashboard.watching import Watching, given, watch
from memgang.doors.guarding import Patience, guarded
from memgang.doors.listening import is_loopback, listen
from memgang.errors import ConfigError
from memgang.flock.dial import colours
from memgang.settings import Settings
from memgang.store.server import Lodging

LOOPBACK = ("localhost", "127.0.0.1", "::1")
TOKEN_CHARACTERS_MIN = 32
UNWATCHED_S = 60.0  # how long a dashboard that a run has opened stays without a page that is looked at
LOOK_S = 2.0
CLOSING_S = 5
WAITING = 512  # connections that wait to be taken

# The frame in the colours of the flock. Streamlit's own is the red that means an error here. For dark and for light, else there is a
# single theme, which no viewer can change.
PARTS = {"backgroundColor": "ground", "secondaryBackgroundColor": "deep", "textColor": "ink", "primaryColor": "map"}
THEME = {f"{theme}.{part}": colours(theme)[hue] for theme in ("dark", "light") for part, hue in PARTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the dashboard listens, and who may come in.

    ``token`` is what a person has to give; '' lets in everybody who reaches it, which is allowed on loopback alone. ``names`` are
    further names of this server in the Host header. ``while_watched``: end when no page has been open for a minute.

    Raises:
        ConfigError: an address beyond this machine without a token, a short token, or writing without one.
    """

    host: str = "127.0.0.1"
    port: int = 0
    names: Sequence[str] = ()
    token: str = ""
    allow_write: bool = False
    while_watched: bool = False

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, and the dashboard shows all that is in the space: give a file "
                f"with a token of {TOKEN_CHARACTERS_MIN} characters or more by --token-file, or leave out --host")
        if self.token and len(self.token) < TOKEN_CHARACTERS_MIN:
            raise ConfigError(f"the token has {len(self.token)} characters; it needs {TOKEN_CHARACTERS_MIN}: "
                              "`openssl rand -hex 32` makes one")
        if self.allow_write and not self.token:
            raise ConfigError("--allow-write needs --token-file: every program of this machine can reach a loopback address")


def serve(settings: Settings, place: Place, run: str, ready: Callable[[str, str], None], *, open_browser: bool = False) -> None:
    """Serve until told to end by SIGINT or SIGTERM. ``run`` is the one shown first; ``ready`` is told address and page.

    Raises:
        ConfigError: the address is taken. StoreUnavailable: there is no server to look at.
    """
    listening = listen(place.host, place.port, WAITING)
    port = listening.getsockname()[1]
    lodging = None
    if settings.url is None:
        lodging = Lodging.enter(settings)  # a client from now on, so that it stays while it is looked at
    else:
        asyncio.run(_there(settings))
    watching = Watching(settings, allow_write=place.allow_write)
    watch(watching)
    guards: list[Guard] = []

    def guard(app: ASGIApp) -> Guard:
        guards.append(Guard(app, names=[*LOOPBACK, place.host, *place.names], token=place.token))
        return guards[-1]

    @contextlib.asynccontextmanager
    async def around(_: Any) -> AsyncIterator[None]:
        address = f"http://{f'[{place.host}]' if ':' in place.host else place.host}:{port}"
        page = f"{address}/{f'?run={quote(run)}' if run else ''}"
        async with watching.open(), asyncio.TaskGroup() as tasks:
            ready(address, page)
            ending = tasks.create_task(_until_unwatched(guards)) if place.while_watched else None
            opening = tasks.create_task(asyncio.to_thread(webbrowser.open, page)) if open_browser else None
            yield
            for task in filter(None, (ending, opening)):
                task.cancel()

    try:
        bootstrap.load_config_options({
            "server.address": place.host, "server.port": port, "server.headless": True, "server.fileWatcherType": "none",
            "server.enableStaticServing": False, "server.enableCORS": True, "server.enableXsrfProtection": True,
            "server.maxUploadSize": 1, "browser.gatherUsageStats": False, "client.toolbarMode": "minimal",
            "client.showErrorDetails": "none", "logger.level": "warning", "runner.magicEnabled": False,
            **{f"theme.{name}": value for name, value in THEME.items()},
        })
        app = streamlit.App(Path(__file__).with_name("app.py"), routes=routes(watching), middleware=[Middleware(guard)],
                            lifespan=around)
        # By uvicorn itself, not by the app's own `run`, which younger versions of Streamlit alone have: on a socket that is ours
        # already, and with nothing logged of the addresses that are asked for, which hold passes.
        server = uvicorn.Server(uvicorn.Config(
            app, lifespan="on", http=guarded(Patience()), ws="websockets-sansio", ws_per_message_deflate=False, log_config=None,
            log_level="warning", access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=CLOSING_S))
        server.run(sockets=[listening])
        if not server.started:
            raise ConfigError("the dashboard did not start; what was printed before says why")
    finally:
        watch(None)
        listening.close()
        if lodging is not None:
            lodging.leave()


async def _there(settings: Settings) -> None:
    """See that there is a server fit to be looked at, so that it is told now, in one line."""
    async with memgang.open(**given(settings)):
        pass


async def _until_unwatched(guards: list[Guard]) -> None:
    """End this process when nobody has had a page open for a while."""
    loop = asyncio.get_running_loop()
    seen = loop.time()
    while loop.time() - seen < UNWATCHED_S:
        await asyncio.sleep(LOOK_S)
        if any(guard.sockets for guard in guards):
            seen = loop.time()
    signal.raise_signal(signal.SIGTERM)
