"""How many entries the scripts have counted in a log. The server may hold anything there by now: who may write to it can."""

from __future__ import annotations

from typing import NamedTuple

from redis.exceptions import ResponseError

from memgang.store.keys import Keys
from memgang.store.replies import number, shown
from memgang.store.wire import Wire


class Counter(NamedTuple):
    """What the counter of one log says; None with what is wrong, as one line, where no count stands there."""

    value: int | None
    wrong: str = ""


def counter_of(log: str) -> str:
    """The field of the totals that counts the entries of a log."""
    return "seq" if log[0] == "a" else "reads_seq"


async def count_of(wire: Wire, keys: Keys, log: str) -> Counter:
    """How many entries the scripts have counted in a log."""
    key, field = keys.at(int(log[1:], 16), "u"), counter_of(log)
    try:
        raw = await wire.call("HGET", key, field)
    except ResponseError as error:
        if not wrong_kind(error):
            raise
        return Counter(None, f"under {key} stand no totals but something else: somebody has written over them")
    if raw is None:
        return Counter(0)
    if (count := number(raw)) is not None:
        return Counter(count)
    return Counter(None, f"the counter {field} in {key} is {shown(raw)} and not a number: somebody has written over it; "
                         "set it to the last number of this log")


def wrong_kind(error: ResponseError) -> bool:
    """Whether a key holds another kind of value than it should."""
    return str(error).startswith("WRONGTYPE")
