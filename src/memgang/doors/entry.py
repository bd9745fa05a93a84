"""Where `memgang` begins. A run's worker processes and server are started first: they come up, and the first files are
parsed, while the rest is imported."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memgang.errors import MemGangError

if TYPE_CHECKING:
    from memgang.settings import Settings

# What workers of a run will need, imported before they are asked.
MODULES = ("memgang.readers.parse", "memgang.llms.shipped", "memgang.llms.selection", "memgang.jobs.retrieve")


def main() -> None:
    """The command line. Whatever is wrong with the arguments is told there, not here."""
    try:
        start_early(sys.argv[1:])
        from memgang.doors import cli
    except KeyboardInterrupt:  # an interrupted import has nothing to show but its traceback
        print("memgang: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    # What was imported stays until the end. The collector need not walk through all of it again and again, nor once more
    # when the interpreter takes itself apart, which would be a tenth of a short command.
    gc.freeze()
    cli.main()


def start_early(arguments: Sequence[str]) -> None:
    """Start what this will need if it is a run: worker processes, then the embedded server."""
    if not arguments or arguments[0] != "run" or "--help" in arguments:
        return
    from memgang.settings import Settings

    # Whatever is wrong with the settings or the arguments is told where they are used.
    with contextlib.suppress(MemGangError, ValueError):
        settings = Settings.load()
        if _start_workers(arguments, settings.llm):
            from memgang import parsing

            parsing.ahead(_sources(arguments))
        if settings.url is None:
            _start_server(settings)


def _start_workers(arguments: Sequence[str], llm: str) -> bool:
    """The workers, if the engine has any. Those that nobody takes end with this process."""
    from memgang import llms
    from memgang.engines import processes

    count = _option(arguments, "--workers")
    return processes.prepare(
        _option(arguments, "--engine") or "auto", workers=int(count) if count else None, modules=MODULES,
        cpu_bound=llms.is_cpu_bound(_option(arguments, "--llm") or llm))


def _start_server(settings: Settings) -> None:
    """Be a client of the embedded server from now on, until this process ends: whoever opens a space finds it up."""
    from memgang.store.server import Lodging

    def enter() -> None:
        with contextlib.suppress(MemGangError):  # it is told when the space is opened
            Lodging.enter(settings)

    threading.Thread(target=enter, name="memgang-server").start()


def _sources(arguments: Sequence[str]) -> list[str]:
    """What looks like files and folders to be read. A wrong guess costs a little work of processes that have none."""
    return [argument for before, argument in zip(arguments, arguments[1:], strict=False)
            if not argument.startswith("-") and (not before.startswith("-") or "=" in before) and os.path.exists(argument)]


def _option(arguments: Sequence[str], name: str) -> str:
    """The last value given for an option, as the command line takes it; empty if there is none."""
    value = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--":
            break
        if argument == name:
            value = following
        elif argument.startswith(name + "="):
            value = argument.partition("=")[2]
    return value
