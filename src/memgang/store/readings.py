"""What may be read off a space at any time: its counters and a few sizes, in one round trip, and nothing is changed.

Counters are those the scripts raise (`tallies.py`), asked for by name: however many objects, agents and events there are, a reading
costs the same. What cannot be read is not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from memgang.store.replies import translated
from memgang.store.store import Store

WINDOW_MS = 60_000  # of the limits that are read: those of a minute, as limits are where nothing else is said


async def read(store: Store, counters: Sequence[str], limits: Sequence[str] = ()) -> dict[str, float]:
    """The counters by their names, summed over all shards, and beside them:

    ``log:changes`` and ``log:reads``: entries the logs hold; ``sweep_age_ms``: since expired objects were looked for (the oldest of
    all shards); ``limit:<name>:running``, ``:waiting``, ``:allowed``, ``:pause_ms`` of each limit named; what `host` says.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    try:
        found = await _asked(store, counters, limits)
    except RedisError as error:
        raise translated(error, "read the counters") from error
    return found | host(store)


async def _asked(store: Store, counters: Sequence[str], limits: Sequence[str]) -> dict[str, float]:
    wire, keys = store.wire, store.keys
    totals = [wire.call("HMGET", keys.at(shard, "u"), "swept", *counters) for shard in range(keys.shards)]
    lengths = [wire.call("XLEN", keys.log(name)) for name in keys.logs()]
    lines = [ask for name in limits for ask in _of_limit(store, keys.limit(f"{name} {WINDOW_MS / 1000:g}"))]
    (seconds, micros), totals_, lengths_, lines_ = await asyncio.gather(
        wire.call("TIME"), asyncio.gather(*totals), asyncio.gather(*lengths), asyncio.gather(*lines))
    now = int(seconds) * 1000 + int(micros) // 1000
    found: dict[str, float] = {}
    swept: list[float] = []
    for last, *values in totals_:
        if (at := _number(last)) is not None:
            swept.append(at)
        for name, value in zip(counters, values, strict=True):
            found[name] = found.get(name, 0) + (_number(value) or 0)
    if len(swept) == keys.shards:
        found["sweep_age_ms"] = max(0, now - min(swept))
    for name, length in zip(keys.logs(), lengths_, strict=True):
        which = "log:changes" if name[0] == "a" else "log:reads"
        found[which] = found.get(which, 0) + int(length)
    for place, name in enumerate(limits):
        running, waiting, (allowed, pause, span) = lines_[3 * place:3 * place + 3]
        found[f"limit:{name}:running"], found[f"limit:{name}:waiting"] = int(running), int(waiting)
        rest = min((_number(pause) or 0) - now, _number(span) or 0)
        found[f"limit:{name}:pause_ms"] = max(0, rest)
        if (places := _number(allowed)) is not None:
            found[f"limit:{name}:allowed"] = places
    return found


def _of_limit(store: Store, key: str) -> list[Any]:
    return [store.wire.call("ZCARD", f"{key}:p"), store.wire.call("ZCARD", f"{key}:q"),
            store.wire.call("HMGET", key, "allowed", "pause", "pause_span")]


def host(store: Store) -> dict[str, float]:
    """What this host holds of the space: ``host:bodies``, ``host:answers``, ``host:used``, ``host:size`` (bytes), ``host:readable``,
    ``host:rings`` and ``host:left`` (processes, living and dead, whose events wait). Empty without a host tier."""
    with contextlib.suppress(OSError):
        if (state := store.host_state()) is not None:
            return {f"host:{name}": float(getattr(state, name))
                    for name in ("bodies", "answers", "used", "size", "readable", "rings", "left")}
    return {}


def _number(text: bytes | None) -> float | None:
    """A counter as the server keeps it. None: there is none, or somebody has written over it."""
    with contextlib.suppress(ValueError):
        if text is not None and (value := float(text)) == value and abs(value) < 1 << 63:
            return value
    return None
