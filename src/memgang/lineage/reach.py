"""The walk: who was made from whom, and what is reached from the roots.

A record names what its object was made from, so what was made *from* an object is found by one look at all
records (their age does not help: content that is made again, from something younger, is the same object). What
is put after that is told by the log, which every put writes in the same step.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from memgang.errors import MemGangError
from memgang.model import Ref
from memgang.store import scripts
from memgang.store.objects import PARENTS
from memgang.store.store import Store

KIN_BATCH = 128  # records of one script
KIN_AT_ONCE = 8  # scripts under way while walking
PAGE = 1000


class Reach:
    """The records that were looked at, who was made from whom, and what is reached from the roots."""

    def __init__(self, store: Store, roots: Sequence[Ref]) -> None:
        self._store, self._roots = store, [r.id for r in roots]
        self._known: dict[str, scripts.Kin] = {}
        self._children: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._ghosts: list[str] = []  # gone before, with one of the roots
        self._gone: dict[str, int] = {}  # gone by us
        self._last: list[int] = []  # by shard: up to where its log has been read
        self.depth: dict[str, int] = {}  # of what is reached

    async def walk(self) -> None:
        """Look at every record of the space."""
        store = self._store
        # Before the walk: whatever is put from here on is in the log behind this.
        self._last = [int(await store.wire.call("HGET", store.keys.at(s, "u"), "seq") or 0) for s in range(store.keys.shards)]
        for shard in range(store.keys.shards):
            last, count, seen = "-inf", PAGE, set[bytes]()
            while True:
                # By time, not by place: a place shifts when somebody removes an object before it.
                page = await store.wire.call("ZRANGEBYSCORE", store.keys.at(shard, "l"), last, "+inf", "WITHSCORES", "LIMIT", 0, count)
                new = [i for i in page[::2] if i not in seen]
                await self._look(shard, [i.decode() for i in new])
                if len(page) < 2 * count:
                    break
                if not new:  # all of one millisecond
                    count *= 2
                last, seen = page[-1].decode() if isinstance(page[-1], bytes) else repr(page[-1]), set(page[::2])
        await self._left_over()

    async def only(self) -> None:
        """Look at the roots alone."""
        by_shard: defaultdict[int, list[str]] = defaultdict(list)
        for ident in self._roots:
            by_shard[self._store.keys.shard_of(ident)].append(ident)
        for shard, ids in by_shard.items():
            await self._look(shard, ids)

    async def news(self) -> None:
        """Look at every record that was put since, as the log tells."""
        store = self._store
        for shard in range(store.keys.shards):
            ids: list[str] = []
            while page := await store.wire.call("XRANGE", store.keys.at(shard, "a"), f"({self._last[shard]}-0", "+", "COUNT", PAGE):
                if int(page[0][0].partition(b"-")[0]) != self._last[shard] + 1:
                    return await self.walk()  # lines were cut off before we read them
                self._last[shard] = int(page[-1][0].partition(b"-")[0])
                ids += [word(fields, b"id").decode() for _, fields in page if fields[1] == b"put"]
            await self._look(shard, list(dict.fromkeys(ids)))

    async def _look(self, shard: int, ids: Sequence[str]) -> None:
        store = self._store
        batches = [ids[at:at + KIN_BATCH] for at in range(0, len(ids), KIN_BATCH)]
        for start in range(0, len(batches), KIN_AT_ONCE):
            some = batches[start:start + KIN_AT_ONCE]
            replies = await asyncio.gather(*(scripts.kin(store.wire, store.keys, shard, batch) for batch in some))
            for batch, found in zip(some, replies, strict=True):
                for ident, kin in zip(batch, found, strict=True):
                    if kin is not None:
                        if kind_of(kin.meta) == PARENTS:
                            kin = kin._replace(parents=(*kin.parents, *await self._listed(ident)))
                        self._known[ident] = kin
                        for parent in kin.parents:
                            self._children[parent][ident] = None

    async def _listed(self, ident: str) -> tuple[str, ...]:
        """The ids in an object that lists the parents of another: it stands between them and what was made from them."""
        try:
            kept = await self._store.objects.get(Ref("mg:" + ident))
            return tuple(Ref(text).id for text in msgspec.json.decode(kept.body, type=list[str]))
        except (MemGangError, msgspec.DecodeError, ValueError):
            return ()

    async def _left_over(self) -> None:
        """A writer killed between its put and its look at the marks: what it made hangs on what is gone."""
        store, roots = self._store, set(self._roots)
        missing = [parent for parent in self._children if parent not in self._known and parent not in roots]
        for start in range(0, len(missing), PAGE):
            marks = [store.wire.call("GET", store.keys.mark(Ref("mg:" + ident))) for ident in missing[start:start + PAGE]]
            for ident, mark in zip(missing[start:start + PAGE], marks, strict=True):
                if (await mark or b"").partition(b" ")[0].decode() in roots:
                    self._ghosts.append(ident)

    def reach(self) -> dict[str, scripts.Kin]:
        """What is there of the roots and of all that was made from them; `depth` has the fewest steps from a root.

        After the first time: of what is gone and was not put anew. Equal content is one object: what was put anew
        came from elsewhere, and what hangs on it may hang on that.
        """
        self.depth = {}
        if self._gone:
            self._spread({i: d for i, d in self._gone.items() if i not in self._known})
        else:
            self._spread(dict.fromkeys(self._roots, 0))
            # What hangs on nothing but these has no way from a root that could be cut: it may go first.
            self._spread(dict.fromkeys(self._ghosts, 1 + max(self.depth.values(), default=0)))
        return {ident: self._known[ident] for ident in self.depth if ident in self._known}

    def _spread(self, level: dict[str, int]) -> None:
        while level:
            for ident, steps in level.items():
                self.depth.setdefault(ident, steps)
            below: dict[str, int] = {}
            for ident in level:
                for child in self._children.get(ident, ()):
                    if child not in self.depth:
                        below[child] = min(below.get(child, sys.maxsize), self.depth[ident] + 1)
            level = below

    def gone(self, ids: Iterable[str]) -> None:
        """These are removed, and nothing hangs on them by what was known so far; if one is put again, the log tells."""
        for ident in ids:
            kin = self._known.pop(ident, None)
            for parent in kin.parents if kin is not None else ():
                self._children[parent].pop(ident, None)
            self._gone[ident] = self.depth[ident]

    def of_kind(self, kind: str) -> dict[str, scripts.Kin]:
        """The records of this kind."""
        return {ident: kin for ident, kin in self._known.items() if kind_of(kin.meta) == kind}

    def unsure(self) -> list[str]:
        """Records with more parents than they hold, that are not reached."""
        return [ident for ident, kin in self._known.items() if kin.incomplete and ident not in self.depth]


def word(fields: Sequence[bytes], name: bytes) -> bytes:
    """A field of a line of the log, whose first is always `e`."""
    try:
        return fields[fields.index(name) + 1]
    except ValueError:
        return b""


def meta_of(text: bytes) -> dict[str, Any]:
    """A record's meta; empty where it is damaged."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except msgspec.DecodeError:
        return {}


def kind_of(meta: bytes) -> str:
    """The kind in a record's meta."""
    return str(meta_of(meta).get("kind", ""))
