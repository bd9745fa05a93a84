"""Keeping house: what has expired goes, with its event, and old lines of the log go.

One process at a time keeps house for a space; who holds the key does. Losing the race costs nothing,
and two at once would only ask the same questions twice: every step is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import struct
from pathlib import Path

from redis.exceptions import OutOfMemoryError, RedisError

from memgang.errors import MemGangError
from memgang.settings import Settings
from memgang.store import scripts
from memgang.store.events import EventLog, written_for_the_dead
from memgang.store.keys import STORE_ID, Keys
from memgang.store.objects import Objects
from memgang.store.process import incarnation
from memgang.store.replies import pairs, written
from memgang.store.room import refs_of
from memgang.store.sealmarks import sealed_by_all
from memgang.store.wire import Wire

SWEEPER = "janitor/expiry"
KEEP_AT_LEAST_MS = 10 * 60_000


async def keep_house(
    wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings, rings: Path | None = None,
) -> None:
    """Run until cancelled: at once, then every ``janitor_ms``. ``rings``: where processes of this host keep their events."""
    while True:
        # Best effort: the next round tries again. Also where another program's values stand under our keys.
        with contextlib.suppress(MemGangError, RedisError, ValueError, TypeError, OSError, struct.error):
            await log.measure_offset()
            await objects.room.measure()
            await objects.shares.measure()
            await hold_secret(wire, keys)
            if rings is not None:
                await written_for_the_dead(wire, keys, rings)
            await objects.large.tidy()
            if await _alone(wire, keys, settings):
                await one_round(wire, keys, objects, log, settings)
        await asyncio.sleep(settings.janitor_ms / 1000)


async def hold_secret(wire: Wire, keys: Keys) -> None:
    """After the server has lost its data: put the secret back, or take on that of whoever was faster.

    Processes with different secrets would each compute what the others have, and not see their names.
    """
    config = Keys.config(keys.space)
    held = await wire.call("HMGET", config, "secret", "shards")
    if held == [keys.secret, str(keys.shards).encode()]:
        return
    put_back = [wire.call("HSETNX", config, "secret", keys.secret), wire.call("HSETNX", config, "shards", keys.shards),
                wire.call("SET", STORE_ID, secrets.token_hex(16), "NX")]
    await asyncio.gather(*put_back)
    secret, shards = await wire.call("HMGET", config, "secret", "shards")
    if secret and shards:
        keys.become(int(shards), bytes(secret))


async def _alone(wire: Wire, keys: Keys, settings: Settings) -> bool:
    """Whether we are the one who keeps house for now."""
    key, span = keys.janitor(keys.space), settings.janitor_ms * 9 // 10
    try:
        if await wire.call("SET", key, incarnation(), "NX", "PX", span):
            return True
        if int(await wire.call("PTTL", key)) <= span:
            return False
        # The server's clock stepped back, and the key would live for as long as the step: nobody would sweep.
        return bool(await wire.call("SET", key, incarnation(), "PX", span))
    except OutOfMemoryError:
        return True  # a full server takes no key, and needs the sweep most; two at once do no harm


async def one_round(wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings) -> int:
    """Sweep what has expired in every shard and trim the logs; the number of objects removed."""
    removed = 0
    now = log.server_ms()
    for shard in range(keys.shards):
        if await scripts.sweep(wire, keys, shard, [], who=SWEEPER, note=b"{}") is None:
            # The server's clock stepped back: expiries lie too far ahead, and only a look at each mends them.
            everything = await wire.call("ZRANGE", keys.at(shard, "x"), 0, -1)
            removed += await objects.sweep(await refs_of(wire, keys.at(shard, "x"), everything))
        while due := await wire.call("ZRANGEBYSCORE", keys.at(shard, "x"), "-inf", now, "LIMIT", 0, 32):
            refs = await refs_of(wire, keys.at(shard, "x"), due)
            swept = await objects.sweep(refs)
            removed += swept
            if swept == 0 and len(refs) == len(due):
                break
    sealed = await _sealed(wire, keys, settings, now)
    for name in keys.logs():
        await _trim(wire, keys.log(name), now, settings, None if sealed is None else sealed.get(name, 0))
    return removed


async def _sealed(wire: Wire, keys: Keys, settings: Settings, now: int) -> dict[str, int] | None:
    """Up to which seq each log is sealed and exported, by all who seal it. None: nobody seals this space."""
    mark = dict(pairs(await wire.call("HGETALL", Keys.sealed(keys.space))))
    if not mark and not settings.seal:
        return None
    return sealed_by_all(mark, now)


async def _trim(wire: Wire, stream: str, now: int, settings: Settings, sealed: int | None) -> None:
    """Cut what is too old or too much, never what is younger than 10 minutes, nor what is not sealed where there is a sealer.

    `at` hardly steps back along the log.
    """
    length = int(await wire.call("XLEN", stream))
    if length == 0:
        return
    cut = 0
    while cut < length:
        page = await wire.call("XRANGE", stream, "-", "+", "COUNT", 100)
        if not page:
            return
        ages = [(entry[0], now - written(entry[1])) for entry in page]
        # Up to the first that stays: behind a step of the clock old ones stand after young ones.
        most = settings.log_keep_hours * 3_600_000
        if length - cut > settings.log_entries_max:
            most = min(most, KEEP_AT_LEAST_MS)
        old = [i for i, _ in itertools.takewhile(lambda aged, most=most: aged[1] > most, ages)]  # type: ignore[misc]
        if sealed is not None:
            old = [i for i in old if int(i.split(b"-")[0]) <= sealed]
        if not old:
            return
        cut += int(await wire.call("XTRIM", stream, "MINID", f"{int(old[-1].split(b'-')[0]) + 1}-0"))
