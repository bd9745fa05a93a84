"""The budget of a space: what it holds, and who gives way when something new needs room.

A form of GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency
Caching Policy", HP Labs 1998): a rank is the clock at the last use, plus what a byte of the object saves (uses times
the seconds it took to compute, divided by the bytes it takes, to the power of 3/2); the lowest goes, and the clock
follows its rank, so that what nobody uses any more is overtaken in the end. `put` and `touch` write the ranks, `evict`
takes them; `eviction/gdsf.py` is the same on paper, and says why. What one agent may have is `share.py`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from memgang.errors import StoreFull
from memgang.model import Ref
from memgang.store import scripts
from memgang.store.keys import Keys
from memgang.store.wire import Wire

BATCH = 32  # candidates of one script
EVICTOR, SWEEPER = "janitor/eviction", "janitor/expiry"


async def refs_of(wire: Wire, index: str, members: Sequence[bytes]) -> list[Ref]:
    """The members of an index as references. What is none was not written by us and goes: at it every sweep would end."""
    refs: list[Ref] = []
    for member in members:
        try:
            refs.append(Ref("mg:" + member.decode()))
        except ValueError:
            await wire.call("ZREM", index, member)
    return refs


class ByShard:
    """Bytes by shard, where there are several, as they were when all were asked last."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.used: dict[int, int] = {}

    def others(self, ref: Ref) -> int:
        """What all shards but that of this object hold."""
        own = self._keys.shard_of(ref.id)
        return sum(used for shard, used in self.used.items() if shard != own)

    def taken(self, size: int, ref: Ref) -> None:
        """So many bytes more, until all are asked again."""
        if self.used:
            shard = self._keys.shard_of(ref.id)
            self.used[shard] = self.used.get(shard, 0) + size  # a space that was lost may have come back with more shards


class Room:
    """The room of one space. With several shards a shard may hold what the others, when last asked, did not."""

    def __init__(self, wire: Wire, keys: Keys, budget: int, evicted: Callable[[list[Ref]], Awaitable[None]]) -> None:
        self._wire, self._keys, self._budget, self._evicted = wire, keys, budget, evicted
        self._held = ByShard(keys)

    def limit(self, ref: Ref) -> int:
        """What the shard of this object may hold; 0 where there is no budget."""
        return max(1, self._budget - self._held.others(ref)) if self._budget else 0

    def taken(self, size: int, ref: Ref) -> None:
        """So many bytes more, until all shards are asked again."""
        self._held.taken(size, ref)

    def full(self, what: str, ref: Ref, used: int) -> StoreFull:
        """The refusal, with the figures of the whole space. ``used`` is those of the object's shard."""
        return StoreFull(what, used + self._held.others(ref), self._budget)

    async def measure(self) -> None:
        """Ask every shard what it holds, where several share a budget."""
        if self._budget and self._keys.shards > 1:
            replies = [(s, self._wire.call("HGET", self._keys.at(s, "u"), "bytes")) for s in range(self._keys.shards)]
            self._held.used = {shard: int(await reply or 0) for shard, reply in replies}

    async def make(self, size: int, ref: Ref, used: int) -> bool:
        """Make room for an object of this size, whose shard holds ``used``; whether anything went.

        First what has expired, then the lowest ranks of all shards; never what is pinned, guarded or kept. What is
        larger than the whole budget evicts nothing.
        """
        needed = used + self._held.others(ref) + size - self._budget
        if size > self._budget:
            return False
        freed = await swept(self._wire, self._keys)
        spared = dict.fromkeys(range(self._keys.shards), 0)  # candidates that are protected stand before the others
        while freed < needed and (shard := await lowest(self._wire, self._keys, spared)) is not None:
            page = await self._wire.call("ZRANGE", self._keys.at(shard, "r"), spared[shard], spared[shard] + BATCH - 1)
            gone, protected, victims = await scripts.evict(
                self._wire, self._keys, shard, await refs_of(self._wire, self._keys.at(shard, "r"), page), who=EVICTOR,
                note=b"{}", needed=needed - freed)
            await self._evicted(victims)
            freed += gone
            spared[shard] += protected
        await self.measure()
        return freed > 0


async def swept(wire: Wire, keys: Keys) -> int:
    """Remove what has expired, some of each shard; the bytes that are free now."""
    seconds, micros = await wire.call("TIME")
    now, freed = int(seconds) * 1000 + int(micros) // 1000, 0
    for shard in range(keys.shards):
        due = await wire.call("ZRANGEBYSCORE", keys.at(shard, "x"), "-inf", now, "LIMIT", 0, BATCH)
        if due:
            refs = await refs_of(wire, keys.at(shard, "x"), due)
            found = await scripts.sweep(wire, keys, shard, refs, who=SWEEPER, note=b"{}")
            freed += found[1] if found else 0
    return freed


async def lowest(wire: Wire, keys: Keys, places: dict[int, int]) -> int | None:
    """The shard whose next candidate, by its place in each, has the lowest rank; one without candidates is asked no more."""
    asked = [(shard, wire.call("ZRANGE", keys.at(shard, "r"), at, at, "WITHSCORES")) for shard, at in places.items()]
    firsts: list[tuple[float, int]] = []
    for shard, reply in asked:
        if first := await reply:
            firsts.append((float(first[1]), shard))
        else:
            del places[shard]
    return min(firsts)[1] if firsts else None
