"""`memgang dashboard`: watch a space in the browser. And how `memgang run --dashboard` opens one beside a run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

import memgang
from memgang.doors.options import SpaceName, run_named
from memgang.doors.terminal import say
from memgang.errors import ConfigError
from memgang.settings import Settings

HOST, PORT = "127.0.0.1", 8330
TOLD_S = 20.0  # how long a run that is over waits for the address of its dashboard


def dashboard(
    run: Annotated[str, typer.Option(help="The run to show first; `last` is the last. Without it, one that is under way.")] = "",
    url: Annotated[str | None, typer.Option(help="The server; else MEMGANG_URL, else the embedded one.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Where to listen. Beyond this machine a token is always needed.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = PORT,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token that everybody has to give who looks.")] = None,
    served_as: Annotated[list[str] | None, typer.Option(help="A further name of this server, as people reach it by.")] = None,
    allow_write: Annotated[bool, typer.Option(
        "--allow-write", help="Show buttons that forget, pin and invalidate, not just their commands. Needs --token-file.")] = False,
    while_watched: Annotated[bool, typer.Option("--while-watched", help="End when no page has been open for a minute.")] = False,
    space: SpaceName = None,
) -> None:
    """Watch the gang in the browser: who does what, what is in memory, what sharing saves. Needs memgang[dashboard].

    It reads and changes nothing: the log of a run does not grow by being watched.
    """
    settings = Settings.load(url=url, space=space)
    try:
        from memgang.doors.dashboard import serving
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("memgang"):
            raise
        raise ConfigError(f"the dashboard needs {error.name}: pip install 'memgang[dashboard]'") from None
    token = ""
    if token_file is not None and not (token := token_file.expanduser().read_text("utf-8", "replace").strip()):
        raise ConfigError(f"{token_file} is empty: it should hold the token")
    place = serving.Place(host=host, port=port, names=served_as or (), token=token, allow_write=allow_write, while_watched=while_watched)
    if run == "last":
        run = asyncio.run(_last(settings))

    def ready(address: str, page: str) -> None:
        leaves = f"; it ends when no page has been open for a minute (process {os.getpid()})" if while_watched else ""
        say(f"memgang dashboard on {page if run else address}, space {settings.space}{leaves}")
        sys.stdout.flush()

    try:
        serving.serve(settings, place, run, ready, open_browser=open_)
    except KeyboardInterrupt:
        pass  # how people end it


async def _last(settings: Settings) -> str:
    async with memgang.open(url=settings.url, space=settings.space, agent="dashboard", host_tier="off") as opened:
        return await run_named(opened, "last") or ""


def beside(run: str, settings: Settings, *, open_browser: bool) -> threading.Thread:
    """Open a dashboard of this run in a process of its own, and say where. It outlives the run while a page of it is open.

    A run does not fail because nobody can watch it: what keeps the dashboard from starting is told, and that is all. The thread
    ends when it was told.
    """
    words = [sys.executable, "-m", "memgang", "dashboard", "--run", run, "--space", settings.space, "--port", "0", "--while-watched",
             "--open" if open_browser else "--no-open"]
    # A session of its own: Ctrl-C ends the run, and who is looking at it goes on looking. The server's address, which may hold a
    # password, goes by the environment as it came, not on the command line, where all of this machine could read it.
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             start_new_session=True)
    telling = threading.Thread(target=_tell, args=(child,), name="memgang-dashboard", daemon=True)
    telling.start()
    return telling


def _tell(child: subprocess.Popen[str]) -> None:
    """Its first line is the address; of one that could not start, the last of its errors is the reason."""
    assert child.stdout is not None and child.stderr is not None
    if not (told := child.stdout.readline().strip()):
        told = (child.stderr.read().strip().splitlines() or ["the dashboard did not start"])[-1]
    typer.echo(told, err=True)
    # What it says later is read by nobody, and must not hold it up.
    threading.Thread(target=child.stderr.read, daemon=True).start()
