"""What one agent may have in a space, and what of it gives way when it has more to write.

An object counts for the agent that was first to write it (the first of its writers), for as long as it is there; who writes known
content again is charged nothing. `put` keeps the sums in the totals and refuses what would exceed the share. Room is made among the
agent's own objects alone: nobody's memory shrinks because somebody else is at its limit. An agent is its whole name, user/agent,
in whatever process; what is kept or pinned counts, and stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from memgang.errors import StoreFull
from memgang.model import Ref
from memgang.store import scripts
from memgang.store.keys import Keys
from memgang.store.room import BATCH, EVICTOR, ByShard, lowest, refs_of, swept
from memgang.store.wire import Wire

PAGE = 256  # ranks that are looked at in one round trip
LOOKED_MAX = 32_768  # and for one put: an agent that has next to nothing among many objects is told it is full instead
OWN = b"b:"  # what the fields of the totals that hold the bytes of agents begin with


class Share:
    """The share of one agent. With several shards one may hold what the others, when last asked, did not."""

    def __init__(self, wire: Wire, keys: Keys, agent: str, limit: int, evicted: Callable[[list[Ref]], Awaitable[None]]) -> None:
        self._wire, self._keys, self._agent, self._limit, self._evicted = wire, keys, agent, limit, evicted
        self._held = ByShard(keys)

    async def limit(self, ref: Ref) -> int:
        """What the shard of this object may hold of it."""
        if self._keys.shards > 1 and not self._held.used:
            await self.measure()
        return max(1, self._limit - self._held.others(ref))

    def taken(self, size: int, ref: Ref) -> None:
        """So many bytes more, until all shards are asked again."""
        self._held.taken(size, ref)

    def full(self, what: str, ref: Ref, used: int) -> StoreFull:
        """The refusal, with the agent's figures in the whole space. ``used`` is those of the object's shard."""
        return StoreFull(what, used + self._held.others(ref), self._limit, self._agent)

    async def measure(self) -> int:
        """Ask every shard what the agent has; all of it."""
        replies = [(s, self._wire.call("HGET", self._keys.at(s, "u"), OWN + self._agent.encode())) for s in range(self._keys.shards)]
        used = {shard: int(await reply or 0) for shard, reply in replies}
        if self._keys.shards > 1:
            self._held.used = used
        return sum(used.values())

    async def make(self, size: int, ref: Ref, used: int) -> bool:
        """Make room for an object of this size; whether there is any more than there was.

        As in `Room.make`: first what has expired, then the agent's lowest ranks. The index is everybody's, so it is gone
        through page by page, for no longer than LOOKED_MAX.
        """
        if size > self._limit:
            return False
        await swept(self._wire, self._keys)
        needed = before = await self.measure() + size - self._limit
        places, looked = dict.fromkeys(range(self._keys.shards), 0), 0
        while needed > 0 and looked < LOOKED_MAX and (shard := await lowest(self._wire, self._keys, places)) is not None:
            index, at = self._keys.at(shard, "r"), places[shard]
            page = await refs_of(self._wire, index, await self._wire.call("ZRANGE", index, at, at + PAGE - 1))
            asked = [(one, self._wire.call("HGET", self._keys.record(one), "writers")) for one in page]
            own = [one for one, writers in asked if ((await writers) or b"").split(b" ")[0] == self._agent.encode()]
            looked, places[shard] = looked + PAGE, at + len(page)
            for start in range(0, len(own), BATCH):
                if needed > 0:
                    gone, _, victims = await scripts.evict(self._wire, self._keys, shard, own[start:start + BATCH], who=EVICTOR,
                                                           note=b"{}", needed=needed, of=self._agent)
                    await self._evicted(victims)
                    needed -= gone
                    places[shard] -= len(victims)
        await self.measure()
        return needed < before or needed <= 0


class Shares:
    """The shares of the agents that write through this process."""

    def __init__(self, wire: Wire, keys: Keys, each: int, evicted: Callable[[list[Ref]], Awaitable[None]]) -> None:
        self._wire, self._keys, self._each, self._evicted = wire, keys, each, evicted
        self._of: dict[str, Share] = {}

    def of(self, agent: str) -> Share:
        """That of one agent."""
        if (found := self._of.get(agent)) is None:
            found = self._of[agent] = Share(self._wire, self._keys, agent, self._each, self._evicted)
        return found

    async def limit(self, ref: Ref, agent: str) -> int:
        """What an agent may have in the shard of this object; 0 where there is no limit."""
        return await self.of(agent).limit(ref) if self._each else 0

    def taken(self, size: int, ref: Ref, agent: str) -> None:
        """So many bytes more."""
        if self._each:
            self.of(agent).taken(size, ref)

    async def measure(self) -> None:
        """Ask every shard what each has, where there are several."""
        if self._keys.shards > 1:
            for share in list(self._of.values()):
                await share.measure()
