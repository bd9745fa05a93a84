"""Serving: over stdio for one client, or over HTTP for many, on loopback unless told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

import memgang
from memgang.doors.guarding import Patience, guarded
from memgang.doors.listening import is_loopback, listen
from memgang.doors.mcp.graph import GraphTools
from memgang.doors.mcp.guard import Guard
from memgang.doors.mcp.memory import Memory
from memgang.doors.mcp.outside import Outside
from memgang.doors.mcp.peek import Peek
from memgang.doors.mcp.resources import OpenDoor
from memgang.doors.mcp.work import WorkTools
from memgang.engines.processes import Engine
from memgang.engines.processes import engine as engine_of
from memgang.errors import ConfigError
from memgang.files import Roots
from memgang.reads import Manners, Reads
from memgang.space import Space
from memgang.store.tokens import Tokens

PATH = "/mcp"
TOKEN_CHARACTERS_MIN = 32
HEADER_BYTES_MAX = 32 * 1024
CLOSING_S = 5
CONNECTIONS_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the door is opened.

    ``roots`` are the folders whose files may be read, ``hosts`` those that may be fetched from although they are not public.
    ``robots``, ``delay_s`` and ``at_once`` are those of `memgang.Manners`.
    ``whole_bytes``: larger values are given as a reference and a preview. ``agent`` is the name all clients act under.
    ``graph`` adds the nine tools of the official memory server.

    Raises:
        ConfigError: a root is no folder, a host is none, or whole_bytes is negative.
    """

    roots: Sequence[str | Path] = ()
    hosts: Sequence[str] = ()
    whole_bytes: int = 16 * 1024
    agent: str = ""
    graph: bool = False
    robots: bool = False
    delay_s: float = 0.0
    at_once: int = 0
    _roots: Roots = field(init=False)
    manners: Manners = field(init=False)

    def __post_init__(self) -> None:
        if self.whole_bytes < 0:
            raise ConfigError(f"whole_bytes={self.whole_bytes} must not be negative")
        object.__setattr__(self, "_roots", Roots(self.roots))
        object.__setattr__(self, "manners", Manners(allow=self.hosts, robots=self.robots, delay_s=self.delay_s, at_once=self.at_once))


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """Where it is served over HTTP.

    ``names`` are the names (host, or host:port) by which clients reach it beside loopback, ``origins`` the web pages that may
    ask. ``token``, if there is one, may be shown by everybody, beside those of agents (``memgang token``), by which each is known.
    Without either, only loopback is served, and that with nothing to show; ``require_token`` wants one there too.

    Raises:
        ConfigError: other addresses than loopback without a token, or a token that can be guessed.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    names: Sequence[str] = ()
    origins: Sequence[str] = ()
    token: str = field(default="", repr=False)
    require_token: bool = False

    def __post_init__(self) -> None:
        if self.token and len(self.token) < TOKEN_CHARACTERS_MIN:
            raise ConfigError(f"the token has {len(self.token)} characters and must have {TOKEN_CHARACTERS_MIN}: "
                              "make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`")
        if not self.token and not self.require_token and not is_loopback(self.host):
            raise ConfigError(f"{self.host} can be reached by others: serve it with a token (--token-file, or --require-token "
                              "for those of `memgang token`), or on 127.0.0.1")


def door_of(space: Space, engine: Engine, options: Options, reads: Reads | None = None) -> OpenDoor:
    """The door with all its tools. ``reads`` is closed by who has made it."""
    door = OpenDoor(space, options.agent)
    Memory(door, options.whole_bytes)
    Peek(door)
    Outside(door, engine, options._roots, reads or Reads(space, options.manners), options.whole_bytes)
    WorkTools(door)
    if options.graph:
        GraphTools(door)
    return door


async def serve(space_name: str | None, options: Options, web: Web | None) -> None:
    """Open the space and serve it until the client leaves (stdio) or the process is told to end (HTTP)."""
    # What libraries log may repeat what clients have sent; and on stdio only the protocol may come out.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    async with memgang.open(space=space_name, agent=options.agent or "mcp") as space:
        engine, reads = engine_of("asyncio", cpu_bound=False), Reads(space, options.manners)
        try:
            door = door_of(space, engine, options, reads)
            if web is None:
                await door.run_stdio_async()
            else:
                await _serve_web(door, web)
        finally:
            await engine.aclose()
            await reads.aclose()


async def _serve_web(door: OpenDoor, web: Web) -> None:
    listening = listen(web.host, web.port, CONNECTIONS_MAX)
    with listening:
        port = listening.getsockname()[1]
        shown = f"[{web.host}]" if ":" in web.host else web.host
        names = ["127.0.0.1", "localhost", "[::1]", *([shown] if is_loopback(web.host) else [])]
        # Whole values, not patterns: a page may be made to look like one that begins so.
        hosts = [f"{name}:{port}" for name in names] + [n for name in web.names for n in (name, f"{name}:{port}")]
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True, allowed_hosts=hosts,
            allowed_origins=[f"http://{name}:{port}" for name in names] + list(web.origins))
        app = door.streamable_http_app(streamable_http_path=PATH, transport_security=security, host=web.host)
        tokens = Tokens(door.space.store)
        await tokens.refresh()
        config = uvicorn.Config(
            Guard(app, web.token, hosts, tokens, required=web.require_token), log_level="error", access_log=False, server_header=False,
            limit_concurrency=CONNECTIONS_MAX, http=guarded(Patience(head_bytes=HEADER_BYTES_MAX)), ws="none",
            timeout_graceful_shutdown=CLOSING_S)
        print(f"memgang: MCP at http://{shown}:{port}{PATH}", file=sys.stderr, flush=True)
        await uvicorn.Server(config).serve(sockets=[listening])
