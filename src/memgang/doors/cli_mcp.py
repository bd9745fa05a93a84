"""The command line: `memgang mcp`, a server for agents that speak the Model Context Protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from memgang.doors.options import AgentName, SpaceName
from memgang.errors import ConfigError

HOST, PORT = "127.0.0.1", 8321


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Serve many clients over HTTP instead of one over standard input.")] = False,
    host: Annotated[str, typer.Option(help="HTTP: the address to listen at.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP: the port; 0 takes a free one and says which.")] = PORT,
    token_file: Annotated[Path | None, typer.Option(
        help="HTTP: a file with the token that every request must show; needed for any address but loopback.")] = None,
    require_token: Annotated[bool, typer.Option(
        "--require-token", help="HTTP: want a token from everybody, here too: that of the file, or an agent's (`memgang token`).")] = False,
    served_as: Annotated[list[str] | None, typer.Option(help="HTTP: a name clients reach it by, beside loopback.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="HTTP: a web page that may ask, as in https://app.example.")] = None,
    root: Annotated[list[Path] | None, typer.Option(help="A folder whose files agents may read; none without it.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(
        help="A host (or host:port) agents may fetch from although its address is not public.")] = None,
    robots: Annotated[bool, typer.Option("--robots", help="Heed robots.txt and its crawl delay. Needs memgang[robots].")] = False,
    delay: Annotated[float, typer.Option(min=0, max=3600, help="Seconds between two requests to one host, over all processes.")] = 0.0,
    at_once: Annotated[int, typer.Option(min=0, max=1000, help="Requests under way at one host, over all processes; 0: any.")] = 0,
    whole_bytes: Annotated[int, typer.Option(min=0, help="Larger values are given as a reference and how they begin.")] = 16 * 1024,
    graph: Annotated[bool, typer.Option(
        "--graph", help="Add the nine tools of the official memory server (create_entities, read_graph ...).")] = False,
    space: SpaceName = None, agent: AgentName = None,
) -> None:
    """Serve the space to MCP clients (Claude Code, Cursor, VS Code ...): see docs/mcp.md. Needs memgang[mcp]."""
    if not http and (host != HOST or port != PORT or token_file or require_token or served_as or origin):
        raise ConfigError("--host, --port, --token-file, --require-token, --served-as and --origin are for --http")
    try:
        from memgang.doors.mcp import serving
    except ModuleNotFoundError as error:
        raise ConfigError(f"the MCP server needs {error.name}: pip install 'memgang[mcp]'") from None
    options = serving.Options(roots=root or (), hosts=allow_host or (), whole_bytes=whole_bytes, agent=agent or "", graph=graph,
                              robots=robots, delay_s=delay, at_once=at_once)
    web = None
    if http:
        token = ""
        if token_file is not None and not (token := token_file.expanduser().read_text("utf-8", "replace").strip()):
            raise ConfigError(f"{token_file} is empty: it should hold the token")
        web = serving.Web(host=host, port=port, names=served_as or (), origins=origin or (), token=token, require_token=require_token)
    asyncio.run(serving.serve(space, options, web))
