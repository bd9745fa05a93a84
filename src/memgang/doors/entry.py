"""Where `memgang` begins: a run's worker processes are started first, and come up while the rest is imported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from memgang.errors import MemGangError

# What workers of a run will need, imported before they are asked.
MODULES = ("memgang.readers.parse", "memgang.llms.shipped", "memgang.llms.selection", "memgang.jobs.retrieve")


def main() -> None:
    """The command line. Whatever is wrong with the arguments is told there, not here."""
    # Ctrl-C while modules are imported ends us as it ends a program in C: nothing is begun yet that would have to be
    # given up, and an interrupted import has only a traceback to show. `cli.main` takes the signal back.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have told us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    start_early(sys.argv[1:])
    from memgang.doors import cli

    cli.main()


def start_early(arguments: Sequence[str]) -> bool:
    """Start the workers if this will be a run that needs them. Workers that nobody takes end with this process."""
    if not arguments or arguments[0] != "run" or "--help" in arguments:
        return False
    from memgang import llms
    from memgang.engines import processes
    from memgang.settings import Settings

    try:
        count = _option(arguments, "--workers")
        return processes.prepare(
            _option(arguments, "--engine") or "auto", workers=int(count) if count else None, modules=MODULES,
            cpu_bound=llms.is_cpu_bound(_option(arguments, "--llm") or Settings.load().llm))
    except (MemGangError, ValueError):
        return False


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
