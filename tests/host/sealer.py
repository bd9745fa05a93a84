"""A process that kills itself at a step of putting a large body, or of moving some to the disk: ours, spilled, step."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from memgang.codec import Encoded, Hashing
from memgang.store.host import Files
from memgang.store.host.sealed import PIECE
from memgang.store.host.shelf import Shelf


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner: Any, name: str, number: int = 1, *, after: bool = False) -> None:
    """Die in the call of this function that has this number: before it does anything, or after."""
    real, calls = getattr(owner, name), [0]

    def fatal(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == number and not after:
            die()
        found = real(*given, **named)
        if calls[0] == number:
            die()
        return found

    setattr(owner, name, fatal)


def main(ours: str, spilled: str, step: str) -> None:
    files = Files(Path(ours), Path(spilled), None, 1 << 30)
    match step.split():
        case ["spill", number]:
            at(Shelf, "publish", int(number), after=True)
            files.leave()
        case ["open"]:
            at(os, "open")
        case ["write", *rest]:
            at(os, "write", int(rest[0]) if rest else 1, after=True)
        case ["hash"]:
            at(Hashing, "ref")
        case ["fchmod"]:
            at(os, "fchmod", after=True)
        case ["lock"]:
            at(fcntl, "flock", after=True)
        case ["link"]:
            at(os, "link")
        case ["linked"]:
            at(os, "link", after=True)
    files.ours.make()
    laid = files.lay(Encoded("application/octet-stream", random.Random(2).randbytes(5 * PIECE)))
    if step == "record":
        die()
    laid.done()
    die()


if __name__ == "__main__":
    main(*sys.argv[1:])
