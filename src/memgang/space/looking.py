"""Looking: the listing of a space by what its objects are, and its totals."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from memgang.errors import ConfigError
from memgang.model import MemoryObject, Ref
from memgang.space.objects import described
from memgang.store.replies import carried, pairs
from memgang.store.share import OWN
from memgang.store.store import Store


class Found(msgspec.Struct, frozen=True):
    """What `find` brought: the newest first, how many records it looked at, and where to go on ('' : the end)."""

    objects: list[MemoryObject]
    looked_at: int
    cursor: str


class Wanted(NamedTuple):
    """What is looked for; None: all the same."""

    tag: str | None
    agent: str | None
    media_type: str | None
    run: str | None
    kind: str | None

    def fits(self, record: MemoryObject) -> bool:
        """Whether this is one."""
        meta = record.meta
        return (
            (self.tag is None or self.tag in meta.get("tags", ()))
            and (self.agent is None or any(w == self.agent or w.rpartition("/")[2] == self.agent for w in record.writers))
            and (self.media_type is None or record.media_type.startswith(self.media_type))
            and (self.run is None or meta.get("run") == self.run)
            and (self.kind is None or meta.get("kind") == self.kind)
        )


async def find(store: Store, wanted: Wanted, since: int | None, limit: int, cursor: str) -> Found:
    """Objects that fit, the newest first, from behind the cursor."""
    at_most, after = "+inf", ""
    if cursor:
        at_most, _, after = cursor.partition(":")
        if not at_most.isdigit() or not re.fullmatch(r"[a-z2-7]{32}", after):
            raise ConfigError(f"cursor {cursor[:60]!r} is not one that find has given")
    looked, out, position = 0, list[MemoryObject](), (at_most, after)
    while page := await _listing(store, *position, since, max(limit, 100)):
        records = await described(store, [Ref("mg:" + ident) for _, ident in page])
        for (at, ident), record in zip(page, records, strict=True):
            looked += 1
            position = (str(at), ident)
            if record is not None and wanted.fits(record):
                out.append(record)
                if len(out) == limit:
                    return Found(out, looked, ":".join(position))
    return Found(out, looked, "")


async def _listing(store: Store, at_most: str, after: str, since: int | None, count: int) -> list[tuple[int, str]]:
    """A page of (at, id) over all shards, the newest first, behind the position given."""
    lowest = str(since) if since is not None else "-inf"
    merged: list[tuple[int, str]] = []
    for shard in range(store.keys.shards):
        start = 0
        got: list[tuple[int, str]] = []
        # Objects of one millisecond share a score; they are told apart by id, in falling order.
        while len(got) < count:
            page = await carried(store.wire.call(
                "ZREVRANGEBYSCORE", store.keys.at(shard, "l"), at_most, lowest, "WITHSCORES", "LIMIT", start, count), "read")
            start += count
            listed = [(int(float(at)), ident.decode()) for ident, at in pairs(page)]
            got += [place for place in listed if not after or place < (int(at_most), after)]
            if len(listed) < count:
                break
        merged += got
    return sorted(merged, reverse=True)[:count]


async def totals(store: Store) -> dict[str, int]:
    """What the space counts, over all shards. One round trip."""
    summed: dict[str, int] = {}
    for reply in [store.wire.call("HGETALL", store.keys.at(s, "u")) for s in range(store.keys.shards)]:
        for field, value in pairs(await carried(reply, "read")):
            if field not in (b"clock", b"swept") and field[:2] != OWN:
                summed[field.decode()] = summed.get(field.decode(), 0) + int(float(value))
    return dict(sorted(summed.items()))


async def by_agent(store: Store) -> dict[str, int]:
    """The bytes of what each agent was first to write, over all shards; the most first. One round trip."""
    summed: dict[str, int] = {}
    for reply in [store.wire.call("HGETALL", store.keys.at(s, "u")) for s in range(store.keys.shards)]:
        for field, value in pairs(await carried(reply, "read")):
            if field[:2] == OWN:
                agent = field[2:].decode()
                summed[agent] = summed.get(agent, 0) + int(value)
    return dict(sorted(summed.items(), key=lambda one: (-one[1], one[0])))
