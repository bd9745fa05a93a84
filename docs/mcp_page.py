"""docs/mcp.md: how MCP clients are set up, and the tools they get. The tools are those of the server; tests start it as written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast

from memgang.doors.mcp.serving import Options, door_of

NOTE = "<!-- Made by `make docs` from doors/mcp/ and docs/mcp_page.py; change that instead. -->\n"

INTRO = """# MemGang for MCP clients

`memgang mcp` serves a space to any agent that speaks the Model Context Protocol: Claude Code and Desktop, Cursor, VS Code, Codex, and what
is built with the official SDKs. All of them, and whatever else uses the space, then share one memory: what one puts, reads or fetches
the others have, and each sees who is at which piece of work.

```sh
pip install 'memgang[mcp]'
memgang mcp --root .          # what the clients below start; it speaks over standard input and output
memgang mcp --http            # or one server for many clients, at http://127.0.0.1:8321/mcp
```

Files are read only below the folders given with `--root`, and only public addresses are fetched unless a host is allowed with
`--allow-host`. `--robots` heeds robots.txt (`pip install 'memgang[robots]'`), `--delay` and `--at-once` spare the hosts, counted over all
processes of the space. `--space` chooses the space (else `MEMGANG_SPACE`, else `default`). All options: [cli.md](cli.md).

## Set-up

`memgang` must be on the PATH of the client; otherwise write the full path that `which memgang` prints.
"""

LOCAL = {"command": "memgang", "args": ["mcp", "--root", "."]}
ANYWHERE = {"command": "memgang", "args": ["mcp", "--root", "/path/to/folder"]}
IN_WORKSPACE = {"command": "memgang", "args": ["mcp", "--root", "${workspaceFolder}"]}

# Each with the file it goes into. The tests start every server named here and use it.
SETUPS: list[tuple[str, str, dict[str, Any]]] = [
    ("Claude Code", "`.mcp.json` in the project, or `claude mcp add memgang -- memgang mcp --root .`", {"mcpServers": {"memgang": LOCAL}}),
    ("Claude Desktop", "`claude_desktop_config.json` (Settings, Developer, Edit Config)", {"mcpServers": {"memgang": ANYWHERE}}),
    ("Cursor", "`.cursor/mcp.json` in the project, or `~/.cursor/mcp.json`", {"mcpServers": {"memgang": IN_WORKSPACE}}),
    ("VS Code", "`.vscode/mcp.json` in the project", {"servers": {"memgang": {"type": "stdio", **IN_WORKSPACE}}}),
]

CODEX = """### Codex

`~/.codex/config.toml`:

```toml
[mcp_servers.memgang]
command = "memgang"
args = ["mcp", "--root", "/path/to/folder"]
```
"""

OVER_HTTP = """### Over HTTP

One server for all clients of a machine: `memgang mcp --http --root ~/projects`. For Claude Code (`.mcp.json`) and Cursor:

{plain}

It listens on loopback, answers to no other Host than its own, and to no web page of another origin. Whoever has an
account on the machine can reach it there, so where others have one use a token. With `--token-file` it wants
one from everybody, and only then `--host` may be an address that others reach (`--served-as` names what they call it; put TLS
in front of it):

```sh
python -c 'import secrets; print(secrets.token_urlsafe(32))' > token && chmod 600 token
memgang mcp --http --token-file token
```

{token}

Agents may have tokens of their own instead: `memgang token create planner` prints one, and from the first on everybody needs one, over HTTP
(`--require-token` wants one before that). Who shows it is that agent, whatever its client says of itself; its session is nobody else's; and
`memgang token revoke` ends it within a quarter of a second: no further request is let in with it, while a stream that is open already (the
GET by which a client listens, or an answer under way) goes on until either side closes it. Tokens of a tenant (`--scope`) are for the proxy
and refused here with 403: references and names belong to the whole space. Tenants who share nothing have a space each, and no token is good
for two. The sixth wrong token a minute from an address is told to wait.
"""

CLIENTS = """## Who is who

Each client acts under the name of its program and, where it has one, its process or session (`claude-code-4711`), or under the name
given with `--agent`: what it says of itself. Over HTTP the agent of a token comes before both. That name stands in the log, with claims,
and beside what it has put. All who may reach the server share its rights.

## What comes back

- **Small values whole, large ones as a reference.** Over 16 KiB (`--whole-bytes`) a value comes as `ref`, `bytes`, `tokens` (an estimate,
  four bytes for one, and `tokens_estimated` says so), `type` and a `preview`. `memgang_peek` reads a slice, lines, the places where
  something stands, or a path of JSON, under a budget of tokens.
- **Stored text is marked as data.** Every result that holds what others wrote begins with a notice and has `untrusted: true`, and what
  was stored stands in JSON strings behind it. That is a mark, not a filter: a model may still follow what it reads.
- **Results have schemas**, and say the same as text. What is wrong with arguments is told in one line.
- **Resources**: `mg:<id>` is an object, `memgang://names/<name>` what a name points at. Names can be subscribed to
  (`subscriptions/listen`; `resources/subscribe` of clients from before 2026): they are looked at every half second.
- **Claims are advice.** A claim ends by itself (`ttl`) unless it is renewed, and keeps nobody from working.
- **`--graph`** adds the nine tools of the official memory server (`create_entities`, `create_relations`, `add_observations`,
  `delete_entities`, `delete_observations`, `delete_relations`, `read_graph`, `search_nodes`, `open_nodes`), with the same arguments and
  results, so prompts written for it go on working; and clients that write at the same time lose nothing.
- **Files and pages** are read once for all, and again when they have changed (PDF and HTML as their text). Addresses are judged at
  each redirect, and the one that was judged is the one that is asked; so no proxy of the environment is used.
"""


def page() -> str:
    """The page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield INTRO.replace("\n\n", f"\n\n{NOTE}\n", 1)
    for client, where, settings in SETUPS:
        yield f"### {client}\n\n{where}:\n\n{_json(settings)}\n"
    yield CODEX
    plain = {"mcpServers": {"memgang": {"type": "http", "url": "http://127.0.0.1:8321/mcp"}}}
    token = {"mcpServers": {"memgang": {"type": "http", "url": "http://127.0.0.1:8321/mcp",
                                        "headers": {"Authorization": "Bearer ${MEMGANG_TOKEN}"}}}}
    yield OVER_HTTP.format(plain=_json(plain), token=_json(token) + "\n\nCursor and VS Code write `${env:MEMGANG_TOKEN}` for a variable.")
    yield CLIENTS
    yield "## Tools\n"
    # No tool is called, so no space is needed.
    tools = asyncio.run(door_of(cast(Any, _Nothing()), cast(Any, None), Options()).list_tools())
    for tool in tools:
        marks = tool.annotations
        assert marks is not None
        said = [word for word, holds in (("reads only", marks.read_only_hint), ("destroys", marks.destructive_hint),
                                         ("may be repeated", marks.idempotent_hint), ("looks outside", marks.open_world_hint)) if holds]
        yield f"### {tool.name}\n\n{' '.join((tool.description or '').split())}" + (f" *({', '.join(said)})*" if said else "") + "\n"
        needed = tool.input_schema.get("required", [])
        for name, about in tool.input_schema["properties"].items():
            default = "" if name in needed or about.get("default") in ("", None, []) else f" Default: `{json.dumps(about['default'])}`."
            words = f" One of {', '.join(f'`{word}`' for word in about['enum'])}." if "enum" in about else ""
            yield f"- `{name}`{'' if name in needed else ' (optional)'}: {about['description']}{words}{default}"
        yield ""


class _Nothing:
    """Stands where a space would be."""

    name = "none"


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2)}\n```"
