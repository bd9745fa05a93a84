"""Trimming the log: what is too old or too much goes, never what is younger than ten minutes.

Nor what somebody still wants: where the log is sealed or exported, what all who do that have not got yet stays.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from memgang.settings import Settings
from memgang.store.keys import Keys
from memgang.store.replies import pairs, written
from memgang.store.sealmarks import Told, exported_by_all, sealed_by_all
from memgang.store.wire import Wire

KEEP_AT_LEAST_MS = 10 * 60_000
PAGE = 100


def overdue(page: list[Any], now: int, settings: Settings, length: int) -> list[Any]:
    """The first entries that are to go of a log that has so many, up to the first that stays: behind a step of the clock old
    ones stand after young ones. Not one more than there are too many: who verifies the log reckons with that."""
    def goes(numbered: tuple[int, Any]) -> bool:
        before, entry = numbered
        age = now - written(entry[1])
        return age > settings.log_keep_hours * 3_600_000 or (age > KEEP_AT_LEAST_MS and length - before > settings.log_entries_max)

    return [entry for _, entry in itertools.takewhile(goes, enumerate(page))]


def seq_of(entry: Any) -> int:
    """The number of an entry in its log."""
    return int(entry[0].split(b"-")[0])


async def trim(wire: Wire, keys: Keys, settings: Settings, now: int, own: Mapping[str, Told] | None = None) -> None:
    """Cut all logs. ``own``: what this process's exporter knows of its folder, also where the server has no room to be told."""
    marks = await asyncio.gather(*(wire.call("HGETALL", key) for key in (Keys.sealed(keys.space), Keys.exported(keys.space))))
    limits = [_sealed(dict(pairs(marks[0])), settings, now), _exported(dict(pairs(marks[1])), settings, now, own or {})]
    for name in keys.logs():
        upto = [limit.get(name, 0) for limit in limits if limit is not None]
        await _cut(wire, keys.log(name), now, settings, min(upto, default=None))


def _sealed(mark: dict[bytes, bytes], settings: Settings, now: int) -> dict[str, int] | None:
    """Up to which seq each log is sealed, by all who seal it. None: nobody seals this space."""
    return sealed_by_all(mark, now) if mark or settings.seal else None


def _exported(mark: dict[bytes, bytes], settings: Settings, now: int, own: Mapping[str, Told]) -> dict[str, int] | None:
    """The same of who exports it. Where this process is to see to it and nobody has come to it yet, nothing goes."""
    found = exported_by_all(mark, now, own)
    return {} if found is None and settings.log_export_dir is not None else found


async def _cut(wire: Wire, stream: str, now: int, settings: Settings, upto: int | None) -> None:
    """Cut one log, not beyond ``upto``. `at` hardly steps back along the log."""
    length = int(await wire.call("XLEN", stream))
    cut = 0
    while cut < length:
        page = await wire.call("XRANGE", stream, "-", "+", "COUNT", PAGE)
        if not page:
            return
        old = [seq_of(entry) for entry in overdue(page, now, settings, length - cut)]
        if upto is not None:
            old = [seq for seq in old if seq <= upto]
        if not old:
            return
        cut += int(await wire.call("XTRIM", stream, "MINID", f"{old[-1] + 1}-0"))
