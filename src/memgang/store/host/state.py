"""How the tier of one space stands on this host, for who looks after it."""

from __future__ import annotations

import contextlib
import time

import lmdb
import msgspec

from memgang.store.alive import unlocked
from memgang.store.host.home import Home
from memgang.store.host.tail import follower


class State(msgspec.Struct, frozen=True):
    """What is there, who sees to it, and what waits. Sizes are bytes, ages seconds."""

    folder: str
    bodies: int
    answers: int
    used: int
    size: int
    readable: bool  # it is known to be true: the log was read within a second, and nothing is left that must go
    read_s: float  # how long ago the log was read to its end; negative: never
    follower: int  # number of the process whose turn it is to read the log; 0: nobody's just now
    rings: int  # of living processes: events that wait to be written
    left: int  # of dead ones: written by whoever keeps house next


def state(home: Home) -> State:
    """Look. Changes nothing."""
    tier = home.tier
    try:
        sizes = tier.entries.sizes()
    except lmdb.Error:  # no room for one more reader
        sizes = {"bodies": 0, "answers": 0, "used": 0, "size": tier.entries.size}
    live, dead = 0, 0
    with contextlib.suppress(OSError):
        for path in home.rings.iterdir():
            if unlocked(path):
                dead += 1
            else:
                live += 1
    read = tier.flags.live
    return State(str(home.folder), sizes["bodies"], sizes["answers"], sizes["used"], sizes["size"], tier.readable,
                 round(time.monotonic() - read, 3) if read else -1.0, follower(home.folder), live, dead)
