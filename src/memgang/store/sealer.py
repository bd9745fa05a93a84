"""The sealer: one process of a gang takes what is new in every log and seals it, behind the work and not in it.

It is a role with a lease in the server, so that one process has the trouble; what makes two at once harmless is the
lock of the files. A host that has sealed before, and where the role is elsewhere now, goes on with its own chain all
the same, only less often: else there would be a hole in it once the log is trimmed. A round reads what is new, forces
it and its seal to disk, and then tells the janitor how far it came. Before it goes on from where it ended last time
it looks whether the last sealed entry is still what it was: a server that was rolled back and has grown again since
would otherwise pass unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any

import msgspec
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from memgang.errors import LogBroken, MemGangError, ServerUnfit, StoreUnavailable
from memgang.settings import Settings
from memgang.store import sealmarks, seals
from memgang.store.counters import Counter, count_of, wrong_kind
from memgang.store.house import close_lock
from memgang.store.keys import STORE_ID, Keys
from memgang.store.process import incarnation
from memgang.store.replies import number, pairs, translated, written
from memgang.store.sealfile import SealFile, State
from memgang.store.seals import Entry
from memgang.store.through import through
from memgang.store.trimming import KEEP_AT_LEAST_MS
from memgang.store.wire import Wire

# With `appendfsync everysec` a power failure may cost the server its last second. What it lost must not have been
# sealed, or it would look like a server that was rolled back.
SETTLED_MS = 2_000
LOOK_S = 1.0
LOCK_DEADLINE_S = 30.0

# How far the chain of a host may lie behind while another one has the role.
CATCH_UP_MS = 5 * 60_000
assert CATCH_UP_MS < KEEP_AT_LEAST_MS, "the janitor would have to wait for every host that has not got the role"

_log = logging.getLogger(__name__)


async def keep_sealing(wire: Wire, keys: Keys, settings: Settings) -> None:
    """Run until cancelled: each ``seal_ms``, or as soon as ``seal_entries`` wait, where this process has the role."""
    files = SealFile(settings, keys.space)
    look_s, settled_ms = min(LOOK_S, settings.seal_ms / 2000), min(SETTLED_MS, settings.seal_ms // 2)
    # An entry waits until it is old enough, until the next look, and between two rounds: together seal_ms.
    between_s = max(0.0, (settings.seal_ms - settled_ms) / 1000 - look_s)
    last, told = time.monotonic(), ""
    while True:
        await asyncio.sleep(look_s)
        try:
            if not await _ours(wire, keys, max(3 * settings.seal_ms, 5_000)) and not await _behind(wire, keys, files):
                continue
            if time.monotonic() - last < between_s:
                waiting = await _waiting(wire, keys, files.state)
                if waiting < settings.seal_entries:
                    continue
            await seal_now(wire, keys, files, settings, settled_ms=settled_ms)
            last, told = time.monotonic(), ""
        except (MemGangError, RedisError, OSError) as error:
            # A full disk, a server that is away: said once for each reason, tried again at every look.
            if str(error) != told:
                _log.warning("the log of space %s is not sealed now: %s", keys.space, error)
                told = str(error)


async def seal_last(wire: Wire, keys: Keys, settings: Settings) -> None:
    """At the end of a process that has the role, or could: seal what is left, and give the role up."""
    try:
        files = SealFile(settings, keys.space)
        ours = await _ours(wire, keys, 5_000)
        if ours or await _behind(wire, keys, files):
            await seal_now(wire, keys, files, settings)
        if ours:
            await wire.call("DEL", Keys.sealer(keys.space))
    except (MemGangError, RedisError, OSError) as error:
        _log.warning("the end of the log of space %s is not sealed: %s", keys.space, error)


async def seal_now(wire: Wire, keys: Keys, files: SealFile, settings: Settings, *, settled_ms: int = 0) -> int:
    """Seal all that is in the log and at least ``settled_ms`` old; the number of entries sealed.

    Raises:
        ConfigError: the extra with the signatures is not installed.
        LogBroken: the seal file, its key or an export was changed; nothing is added to it.
        StoreUnavailable: the server does not answer. OSError: the disk does not take it.
        ServerUnfit: a counter of the server is no number any more; all that is there was sealed nevertheless.
    """
    seals.need_library()
    try:
        sealed = 0
        while True:
            # A round at a time under the lock: the command and the role may both be at it.
            count, more = await _locked_round(wire, keys, files, settings, settled_ms)
            sealed += count
            if not more:
                break
        wrong = [counter.wrong for counter in (await _counters(wire, keys)).values() if counter.wrong]
        if wrong:
            more_of_it = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise ServerUnfit(f"{sealed:,} entries were sealed, but {wrong[0]}{more_of_it}")
        return sealed
    except RedisError as error:
        raise translated(error, "seal the log") from error


async def _locked_round(wire: Wire, keys: Keys, files: SealFile, settings: Settings, settled_ms: int) -> tuple[int, bool]:
    until = time.monotonic() + LOCK_DEADLINE_S
    while (lock := files.try_lock()) is None:
        if time.monotonic() > until:
            raise StoreUnavailable(f"another process has held {files.root / 'lock'} for {LOCK_DEADLINE_S:.0f} s")
        await asyncio.sleep(0.02)
    try:
        return await _round(wire, keys, files, settings, settled_ms)
    finally:
        close_lock(lock)


async def _round(wire: Wire, keys: Keys, files: SealFile, settings: Settings, settled_ms: int) -> tuple[int, bool]:
    now = await through(files.refresh)
    # Nobody may have opened the space since the server lost its data, and then its id is gone too.
    with contextlib.suppress(OutOfMemoryError):
        await wire.call("SET", STORE_ID, secrets.token_hex(16), "NX")
    epoch, server_ms, mark = await facts(wire, keys)
    private = await through(files.private)
    mine = seals.fingerprint(seals.public_of(private))
    if sealmarks.field_of(mine).encode() not in (mark or {}):
        # Before the first page is read: else the janitor, who knows only of others, may trim what stands on the second.
        await _announce(wire, keys, mine, sealmarks.Told(server_ms))
    opened, begins, upto = "", dict[str, int](), dict(now.upto)
    # No number: somebody wrote over it, and it tells nothing.
    if (made := number((mark or {}).get(f"n:{mine}".encode(), b"")) or 0) > now.n:
        opened = f"the seal file ended at seal {now.n}, and {made} had been made: its end was cut off"
    if now.n == 0 and not opened:
        opened = "first"
    elif now.n and now.epoch != epoch:
        opened, upto = "the server came back without its data", {}
    elif now.n:
        begins = await _forks(wire, keys, files, now)
        if begins:
            where = ", ".join(f"{log} from {seq}" for log, seq in sorted(begins.items()))
            opened = f"the server's log was not what had been sealed, {where}: rolled back or changed"
        upto |= {log: seq - 1 for log, seq in begins.items()}
    names = keys.logs()
    pages = await asyncio.gather(*(
        wire.call("XRANGE", keys.log(log), f"{upto.get(log, 0) + 1}-0", "+", "COUNT", settings.seal_entries) for log in names))
    taken = {log: entries for log, page in zip(names, pages, strict=True) if (entries := _settled(page, server_ms, settled_ms))}
    if taken or opened:
        await through(lambda: files.append(taken, epoch=epoch, at=server_ms, opened=opened, begins=begins))
    await _tell(wire, keys, files.state, mine, server_ms)
    await through(files.anchored)
    return sum(map(len, taken.values())), any(len(e) >= settings.seal_entries for e in taken.values())


async def facts(wire: Wire, keys: Keys) -> tuple[str, int, dict[bytes, bytes] | None]:
    """The epoch of the data, the server's time in ms, and what the sealers told last; None: something else stands there."""
    asked = [wire.call("GET", STORE_ID), wire.call("TIME"), _mark(wire, keys)]
    store_id, (seconds, micros), mark = await asyncio.gather(*asked)
    epoch = seals.epoch_of(store_id or b"", keys.secret)
    return epoch, int(seconds) * 1000 + int(micros) // 1000, mark


async def _mark(wire: Wire, keys: Keys) -> dict[bytes, bytes] | None:
    try:
        return dict(pairs(await wire.call("HGETALL", Keys.sealed(keys.space))))
    except ResponseError as error:
        if wrong_kind(error):
            return None
        raise


async def _counters(wire: Wire, keys: Keys) -> dict[str, Counter]:
    logs = keys.logs()
    return dict(zip(logs, await asyncio.gather(*(count_of(wire, keys, log) for log in logs)), strict=True))


def _settled(page: list[Any], now: int, settled_ms: int) -> list[Entry]:
    """The entries up to the first that is too young. One from the future is old: the clock was set back."""
    taken: list[Entry] = []
    for ident, words in page:
        if now - settled_ms < written(words) <= now and settled_ms:
            break
        taken.append((ident, words))
    return taken


async def _forks(wire: Wire, keys: Keys, files: SealFile, now: State) -> dict[str, int]:
    """For each log whose last sealed entry is not what it was: the first sealed seq that differs."""
    logs = [log for log in keys.logs() if log in now.tails]
    asked = [wire.call("XRANGE", keys.log(log), f"{now.upto[log]}-0", f"{now.upto[log]}-0") for log in logs]
    counters, *replies = await asyncio.gather(_counters(wire, keys), *asked)
    forks = {}
    for log, found in zip(logs, replies, strict=True):
        same = found and seals.leaf(log, (found[0][0], found[0][1])).hex() == now.tails[log]
        # Absent, and yet counted: trimmed, or removed, which whoever verifies tells apart. Nothing new stands there.
        # Without a counter it cannot be told from rolled back; whoever verifies is told of both, so nothing is claimed here.
        count = counters[log].value
        gone = not found and (count is None or count >= now.upto[log])
        if not same and not gone:
            forks[log] = await _fork(wire, keys, files, now, log)
    return forks


async def _fork(wire: Wire, keys: Keys, files: SealFile, now: State, log: str) -> int:
    fork = now.upto[log] + 1
    for piece in reversed(now.pieces.get(log, [])):
        first = piece.segment.first
        there = {bytes(i): w for i, w in await wire.call("XRANGE", keys.log(log), f"{first}-0", f"{piece.last}-{seals.LAST_PART}")}
        try:
            kept = [e for e in await asyncio.to_thread(files.sealed, piece.segment) if seals.seq_of(e[0]) <= piece.last]
        except LogBroken:
            return first  # the export is damaged too: this segment is sealed anew, and who verifies is told of both
        wrong = [seals.seq_of(i) for i, w in kept if i not in there or seals.leaf(log, (i, there[i])) != seals.leaf(log, (i, w))]
        if not wrong:
            break
        # Trimmed at its beginning, and the rest as it was: nothing differs below.
        present = [seals.seq_of(i) for i, _ in kept if i in there]
        differing = [seq for seq in wrong if not present or seq > present[0]] or wrong
        fork = min(fork, differing[0])
        if differing[0] != first:
            break
    return fork


async def _tell(wire: Wire, keys: Keys, state: State, mine: str, now: int) -> None:
    """Tell the janitor, and whoever verifies, how far it is sealed with this key. Only after the files are on disk."""
    await _announce(wire, keys, mine, sealmarks.Told(now, state.upto), f"n:{mine}", state.n)


async def _announce(wire: Wire, keys: Keys, mine: str, told: sealmarks.Told, *more: str | int) -> None:
    with contextlib.suppress(OutOfMemoryError):  # a full server: told the next time, and trimmed the later
        await wire.call("HSET", Keys.sealed(keys.space), sealmarks.field_of(mine), msgspec.json.encode(told), *more)


async def _behind(wire: Wire, keys: Keys, files: SealFile) -> bool:
    """Whether there is a chain on this host, and no process here has gone on with it for a while."""
    if not files.exists():
        return False
    field = sealmarks.field_of(seals.fingerprint(files.public()))
    (seconds, _), words = await asyncio.gather(wire.call("TIME"), wire.call("HGET", Keys.sealed(keys.space), field))
    told = sealmarks.told(words or b"") or sealmarks.Told()
    return abs(int(seconds) * 1000 - told.at) >= CATCH_UP_MS  # far ahead: the clock stepped back, or it was made up


async def _ours(wire: Wire, keys: Keys, lease_ms: int) -> bool:
    """Whether this process has the role; it is kept by asking."""
    key = Keys.sealer(keys.space)
    try:
        if await wire.call("SET", key, incarnation(), "NX", "PX", lease_ms):
            return True
    except OutOfMemoryError:
        return True
    if await wire.call("GET", key) != incarnation().encode():
        return False
    await wire.call("PEXPIRE", key, lease_ms)
    return True


async def _waiting(wire: Wire, keys: Keys, state: State) -> int:
    """How many entries are not sealed yet."""
    counts = await asyncio.gather(*(wire.call("HMGET", keys.at(s, "u"), "seq", "reads_seq") for s in range(keys.shards)))
    found = zip(keys.logs(), (number(count or b"") or 0 for pair in counts for count in pair), strict=True)
    return sum(max(0, count - state.upto.get(log, 0)) for log, count in found)
