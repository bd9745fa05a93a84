"""Keeping house: what has expired goes, with its event, and old lines of the log go.

One process at a time keeps house for a space; who holds the key does. Losing the race costs nothing,
and two at once would only ask the same questions twice: every step is safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from memgang.errors import MemGangError
from memgang.settings import Settings
from memgang.store import scripts
from memgang.store.events import EventLog, written_for_the_dead
from memgang.store.exporter import Exporter
from memgang.store.keys import STORE_ID, Keys
from memgang.store.objects import Objects
from memgang.store.process import incarnation
from memgang.store.room import refs_of
from memgang.store.trimming import trim
from memgang.store.wire import Wire

SWEEPER = "janitor/expiry"

_log = logging.getLogger(__name__)


async def keep_house(
    wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings, rings: Path | None = None,
) -> None:
    """Run until cancelled: at once, then every ``janitor_ms``. ``rings``: where processes of this host keep their events."""
    exporter = Exporter(wire, keys, settings) if settings.log_export_dir is not None else None
    try:
        while True:
            await _tried(_looked(wire, keys, objects, log), keys)
            if rings is not None:
                await _tried(written_for_the_dead(wire, keys, rings), keys)
            await _tried(objects.large.tidy(), keys)
            # Before the log is trimmed, and by whoever has a folder: whose turn it is to trim may have none.
            if exporter is not None:
                await _tried(exporter.round(log.server_ms()), keys)
            await _tried(_in_turn(wire, keys, objects, log, settings, exporter), keys)
            await asyncio.sleep(settings.janitor_ms / 1000)
    finally:
        if exporter is not None:
            exporter.close()


async def _tried(step: Awaitable[Any], keys: Keys) -> None:
    """Best effort: the next round tries again. One step that fails, perhaps at another program's value under a key of ours,
    keeps no other from being done, and no failure ends keeping house for the rest of this process."""
    try:
        await step
    except (MemGangError, RedisError, ValueError, TypeError, OSError, struct.error):
        pass
    except RuntimeError as error:
        # A program that ends without closing its space: its threads take no more work, and nobody wants to read of that.
        if "after shutdown" not in str(error):
            _log.exception("house was not kept in space %s", keys.space)
    except Exception:
        _log.exception("house was not kept in space %s", keys.space)


async def _looked(wire: Wire, keys: Keys, objects: Objects, log: EventLog) -> None:
    await log.measure_offset()
    await objects.room.measure()
    await objects.shares.measure()
    await hold_secret(wire, keys)


async def _in_turn(
    wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings, exporter: Exporter | None,
) -> None:
    if await _alone(wire, keys, settings):
        await one_round(wire, keys, objects, log, settings, exporter)


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


async def one_round(
    wire: Wire, keys: Keys, objects: Objects, log: EventLog, settings: Settings, exporter: Exporter | None = None,
) -> int:
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
    await trim(wire, keys, settings, now, exporter.standing if exporter is not None else None)
    return removed
