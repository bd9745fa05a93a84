"""Make a space smaller now: who would go first, and letting them go.

Nobody needs this for the budget to be kept, for every put sees to that. It is for making room before it is needed, and
for looking. It goes the way of `room.py`: first what has expired, then the lowest ranks, never what is protected.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from redis.exceptions import RedisError

from memgang.errors import ConfigError
from memgang.model import Ref
from memgang.store import log
from memgang.store.keys import Keys
from memgang.store.replies import translated
from memgang.store.room import BATCH, Room, refs_of
from memgang.store.store import Store
from memgang.store.wire import Wire

_ANY = Ref("mg:" + "a" * 32)  # room is made on behalf of an object; here there is none


class Going(msgspec.Struct, frozen=True):
    """One object that goes, or would go."""

    ref: Ref
    size: int
    why: str  # expired | rank
    rank: float | None = None
    seconds: float = 0.0  # to compute it again
    uses: int = 0  # those that count: a turnover of the space apart, four at most


class Shrunk(msgspec.Struct, frozen=True):
    """What went, or with ``dry_run`` would go, in order."""

    target_bytes: int
    bytes_before: int
    bytes_after: int
    protected: int  # objects with a rank that were passed over: pinned, guarded or kept
    going: tuple[Going, ...]
    dry_run: bool

    @property
    def reached(self) -> bool:
        """Whether the space is within its target; what is left above it is protected."""
        return self.bytes_after <= self.target_bytes


async def shrink(store: Store, to: int | None, *, dry_run: bool = False) -> Shrunk:
    """Let go until the space holds at most ``to`` bytes (None: its budget), or nothing is left that may go.

    Raises:
        ConfigError: no target was named and the space has no budget, or it is below 0.
        StoreUnavailable: the server does not answer.
    """
    target = store.settings.budget_bytes if to is None else to
    if to is None and not target:
        raise ConfigError("this space has no budget (budget_bytes=0): say with --to down to how many bytes to evict")
    if target < 0:
        raise ConfigError(f"{target:,} bytes are no target: name 0 or more")
    try:
        plan = await _plan(store.wire, store.keys, target)
        return plan if dry_run else await _carry_out(store, plan)
    except RedisError as error:
        raise translated(error, "evict") from error


async def _carry_out(store: Store, plan: Shrunk) -> Shrunk:
    """The room that puts make is made, for nothing; what went is read from the log, so it is what went."""
    known = {going.ref: going for going in plan.going}
    before = await log.end(store.wire, store.keys)
    if plan.bytes_before > plan.target_bytes:
        room = Room(store.wire, store.keys, max(plan.target_bytes, 1), store.objects.gone)  # a room without a budget makes no room
        await room.measure()
        used = int(await store.wire.call("HGET", store.keys.at(store.keys.shard_of(_ANY.id), "u"), "bytes") or 0)
        await room.make(0, _ANY, used + (plan.target_bytes == 0))
    gone = []
    async for event in log.read(store.wire, store.keys, before):
        if event.raw in ("evicted", "expired"):
            ref = Ref("mg:" + event.obj)
            looked = known.get(ref)
            gone.append(looked or Going(ref, event.bytes, "expired" if event.raw == "expired" else "rank"))
    after = await _used(store.wire, store.keys)
    return msgspec.structs.replace(plan, bytes_after=after, going=tuple(gone), dry_run=False)


async def _plan(wire: Wire, keys: Keys, target: int) -> Shrunk:
    used = await _used(wire, keys)
    going: list[Going] = []
    left, protected = used, 0
    if left > target:
        seconds, micros = await wire.call("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        for expired in await _expired(wire, keys, now):
            going.append(expired)
            left -= expired.size
        passed = {expired.ref for expired in going}
        at = dict.fromkeys(range(keys.shards), 0)
        while left > target and (batch := await _next(wire, keys, at)):
            for found, free in await _looked_at(wire, keys, [b for b in batch if b[1] not in passed], now):
                if left <= target:
                    break
                if free:
                    going.append(found)
                    left -= found.size
                else:
                    protected += 1
    return Shrunk(target, used, left, protected, tuple(going), True)


async def _used(wire: Wire, keys: Keys) -> int:
    asked = [wire.call("HGET", keys.at(shard, "u"), "bytes") for shard in range(keys.shards)]
    return sum([int(await reply or 0) for reply in asked])


async def _expired(wire: Wire, keys: Keys, now: int) -> list[Going]:
    found: list[Going] = []
    for shard in range(keys.shards):
        index = keys.at(shard, "x")
        for ref in await refs_of(wire, index, await wire.call("ZRANGEBYSCORE", index, "-inf", now, "LIMIT", 0, BATCH)):
            if size := await wire.call("HGET", keys.record(ref), "size"):
                found.append(Going(ref, int(size), "expired"))
    return found


async def _next(wire: Wire, keys: Keys, at: dict[int, int]) -> list[tuple[float, Ref]]:
    """The batch that `Room.make` would hand to the script next: of the shard whose first candidate has the lowest rank."""
    firsts: list[tuple[float, int, list[tuple[float, Ref]]]] = []
    for shard, start in list(at.items()):
        index = keys.at(shard, "r")
        reply = await wire.call("ZRANGE", index, start, start + BATCH - 1, "WITHSCORES")
        found = [(float(rank), ref) for member, rank in zip(reply[::2], reply[1::2], strict=True)
                 for ref in await refs_of(wire, index, [member])]
        if found:
            firsts.append((found[0][0], shard, found))
        else:
            del at[shard]
    if not firsts:
        return []
    _, shard, batch = min(firsts)
    at[shard] += len(batch)
    return batch


async def _looked_at(
    wire: Wire, keys: Keys, candidates: Sequence[tuple[float, Ref]], now: int
) -> list[tuple[Going, bool]]:
    """What `evict.lua` would say of each: whether it may go. Records that are gone are left out."""
    asked = [(rank, ref, wire.call("HMGET", keys.record(ref), "size", "keep", "guard", "guard_ms", "cost", "freq", "uses", "seen"),
              wire.call("HVALS", keys.pins(ref))) for rank, ref in candidates]
    out = []
    for rank, ref, record, pins in asked:
        size, keep, guard, guard_ms, cost, freq, uses, seen = await record
        deadlines = await pins
        if size is None:
            continue
        guarded = now < float(guard or 0) <= now + float(guard_ms or 0)
        pinned = any(float(deadline) > now for deadline in deadlines)
        going = Going(ref, int(size), "rank", rank, float(cost or 0),
                      int(uses or (1 if seen else min(max(int(freq or 1), 1), 4))))  # `counted` of the scripts
        out.append((going, keep != b"1" and not guarded and not pinned))
    return out
