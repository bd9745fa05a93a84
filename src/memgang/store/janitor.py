"""Keeping house: what has expired goes, with its event, and old lines of the log go.

One process at a time keeps house for a space; who holds the key does. Losing the race costs nothing,
and two at once would only ask the same questions twice: every step is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib

from redis.exceptions import RedisError

from memgang.errors import MemGangError
from memgang.model import Ref
from memgang.settings import Settings
from memgang.store.events import EventLog
from memgang.store.keys import Keys
from memgang.store.objects import Objects
from memgang.store.process import incarnation
from memgang.store.wire import Wire

KEEP_AT_LEAST_MS = 10 * 60_000


async def keep_house(wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings) -> None:
    """Run until cancelled: at once, then every ``janitor_ms``."""
    while True:
        with contextlib.suppress(MemGangError, RedisError):  # best effort: the next round tries again
            await log.measure_offset()
            if await wire.call("SET", keys.janitor(keys.space), incarnation(), "NX", "PX", settings.janitor_ms * 9 // 10):
                await one_round(wire, keys, objects, log, settings)
        await asyncio.sleep(settings.janitor_ms / 1000)


async def one_round(wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings) -> int:
    """Sweep what has expired in every shard and trim the logs; the number of objects removed."""
    removed = 0
    now = log.server_ms()
    for shard in range(keys.shards):
        while due := await wire.call("ZRANGEBYSCORE", keys.at(shard, "x"), "-inf", now, "LIMIT", 0, 32):
            swept = await objects.sweep([Ref("mg:" + i.decode()) for i in due])
            removed += swept
            if swept == 0:
                break
        for which in ("a", "h"):
            await _trim(wire, keys.at(shard, which), now, settings)
    return removed


async def _trim(wire: Wire, stream: str, now: int, settings: Settings) -> None:
    """Cut what is too old or too much, never what is younger than 10 minutes. `at` hardly steps back along the log."""
    length = int(await wire.call("XLEN", stream))
    if length == 0:
        return
    cut = 0
    while cut < length:
        page = await wire.call("XRANGE", stream, "-", "+", "COUNT", 100)
        if not page:
            return
        ages = [(entry[0], now - int(dict(zip(entry[1][::2], entry[1][1::2], strict=True))[b"at"])) for entry in page]
        old = [i for i, age in ages if age > settings.log_keep_hours * 3_600_000
               or (length - cut > settings.log_entries_max and age > KEEP_AT_LEAST_MS)]
        if not old:
            return
        cut += int(await wire.call("XTRIM", stream, "MINID", f"{int(old[-1].split(b'-')[0]) + 1}-0"))
