"""LangGraph's long-term memory in a space.

An item is a memory object that holds value, namespace, key and times; a name points at its newest version and is moved
by compare-and-set, so that of many processes each sees what the one before has written. Time to live is that of the
object, by the server's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from memgang.adapters.bridge import Bridge
from memgang.adapters.labels import below, packed
from memgang.adapters.langgraph.matching import Namespace, fits, listed
from memgang.blocking import BlockingSpace
from memgang.errors import CodecError, Conflict, UnknownReference
from memgang.model import NameVersion, Ref
from memgang.space import Space
from memgang.store.keys import check_label

# A conflict means that somebody else has written: among n writers the last one meets n of them.
TRIES = 1_000


class _Kept(NamedTuple):
    """An item as it is kept, and where."""

    ref: Ref
    record: dict[str, Any]  # what the object holds, to be put again as it is

    @property
    def namespace(self) -> Namespace:
        return tuple(self.record["namespace"])

    @property
    def key(self) -> str:
        return str(self.record["key"])

    @property
    def updated(self) -> str:
        return str(self.record["updated"])

    def shown(self) -> dict[str, Any]:
        """What LangGraph's items are made of."""
        return {"namespace": self.namespace, "key": self.key, "value": self.record["value"],
                "created_at": datetime.fromisoformat(self.record["created"]), "updated_at": datetime.fromisoformat(self.updated)}


class MemGangStore(BaseStore):
    """A `BaseStore` whose items all processes share. Safe to use from many threads, tasks and processes.

    It does what LangGraph documents; where that leaves a choice: a search gives what was written last first, what has
    expired is never given, the reads of a batch see what was there before its writes, values are JSON (a tuple comes
    back as a list, keys in alphabetical order). There is no search by meaning: ``query`` and ``index`` are passed over, and
    no score is given.
    """

    supports_ttl = True
    __slots__ = ("_bridge", "_history", "_root", "ttl_config")

    def __init__(
        self, space: Space | BlockingSpace, *, root: str = "store", ttl: TTLConfig | None = None, history: bool = False
    ) -> None:
        """``root`` is the first step of the names, so that several stores can share a space. With ``history`` the
        versions that were replaced or deleted stay, until they are forgotten; without it they are gone at once.

        Raises:
            ConfigError: no such space, or the root has characters that names may not have.
        """
        self._bridge = Bridge(space)
        self._root = check_label("root", root)
        self._history = history
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """See `abatch`; blocks."""
        return self._bridge.wait(self._batch(list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The results of the operations in their order: reads first, all together, then for each item its last write.

        Raises:
            InvalidNamespaceError, ValueError: a namespace or filter that LangGraph does not allow; nothing was done.
            CodecError: a value has no JSON form.
            TooLarge, StoreFull, StoreUnavailable.
        """
        return await self._bridge.here(self._batch(list(ops)))

    async def _batch(self, ops: list[Op]) -> list[Result]:
        writes: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            validate_op_namespace(op)
            if isinstance(op, PutOp):
                writes[tuple(op.namespace), op.key] = op
            elif not isinstance(op, GetOp | SearchOp | ListNamespacesOp):
                raise ValueError(f"unknown operation {type(op).__name__}")
        results = await asyncio.gather(*(self._read(op) for op in ops))
        await asyncio.gather(*(self._write(op) for op in writes.values()))
        return list(results)

    async def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            return await self._get(op)
        if isinstance(op, SearchOp):
            return await self._search(op)
        if isinstance(op, ListNamespacesOp):
            found = await self._below(())
            return listed((kept.namespace for kept in found), op.match_conditions, op.max_depth, op.limit, op.offset)
        return None

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    async def _get(self, op: GetOp) -> Item | None:
        kept, _ = await self._look(packed(self._root, (*op.namespace, op.key)))
        if kept is None:
            return None
        await self._refresh(kept, op.refresh_ttl)
        return Item(**kept.shown())

    async def _look(self, name: str) -> tuple[_Kept | None, NameVersion | None]:
        """What the name points at, None where it has expired; and the version to expect, None where the name is free."""
        space, before = self._bridge.space, None
        while True:
            now = await space.version(name)
            if now is None or now.ref is None:
                return None, None
            try:
                return _kept(now.ref, await space.get(now.ref)), now
            except UnknownReference:
                # Replaced while we looked, and the old one forgotten; or it has expired, and the name still points at it.
                if now == before:
                    return None, now
                before = now

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        prefix = tuple(op.namespace_prefix)
        found = [kept for kept in await self._below(prefix) if fits(kept.record["value"], op.filter)]
        found.sort(key=lambda kept: (kept.namespace, kept.key))
        found.sort(key=lambda kept: kept.updated, reverse=True)
        page = found[op.offset:op.offset + op.limit]
        await asyncio.gather(*(self._refresh(kept, op.refresh_ttl) for kept in page))
        return [SearchItem(**kept.shown()) for kept in page]

    async def _below(self, prefix: Namespace) -> list[_Kept]:
        """All items in namespaces that begin so. A walk of the names of the space: it costs what there is."""
        space = self._bridge.space
        readable, folded = below(self._root, prefix) if prefix else (self._root + "/", "")
        names = await space.names(self._root + "/")
        wanted = [(name, ref) for name, ref in names.items() if name.startswith(readable) or (folded and name.startswith(folded))]
        found = await asyncio.gather(*(self._read_one(name, ref) for name, ref in wanted))
        return [kept for kept in found if kept is not None and kept.namespace[:len(prefix)] == prefix]

    async def _read_one(self, name: str, ref: Ref) -> _Kept | None:
        try:
            return _kept(ref, await self._bridge.space.get(ref))
        except UnknownReference:
            kept, now = await self._look(name)
            if kept is None and now is not None:
                await self._take_away(now)
            return kept

    async def _take_away(self, now: NameVersion) -> None:
        """A name whose item has expired goes too, unless somebody has written meanwhile."""
        try:
            await self._bridge.space.set_name(now.name, None, expect=now.version)
        except Conflict:
            pass

    async def _refresh(self, kept: _Kept, refresh: bool) -> None:
        """Who reads an item begins its time to live anew: the same content put again lives on."""
        if refresh and kept.record["ttl"] is not None:
            await self._put(kept.record)

    async def _put(self, record: dict[str, Any]) -> Ref:
        minutes = record["ttl"]
        return await self._bridge.space.put(record, ttl=None if minutes is None else minutes * 60, kind="item", parents=())

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    async def _write(self, op: PutOp) -> None:
        space, name = self._bridge.space, packed(self._root, (*op.namespace, op.key))
        for _ in range(TRIES):
            old, now = await self._look(name)
            if op.value is None and now is None:
                return
            ref = await self._put(_record(op, old)) if op.value is not None else None
            try:
                await space.set_name(name, ref, expect=now.version if now is not None else 0)
            except Conflict as conflict:
                if ref is not None and ref != conflict.ref:
                    await space.forget(ref, "another write came first")
                continue
            if old is not None and old.ref != ref and not self._history:
                await space.forget(old.ref, "replaced" if ref is not None else "deleted")
            return
        raise Conflict(name, now.version if now is not None else 0, 0, "")


def _record(op: PutOp, old: _Kept | None) -> dict[str, Any]:
    """The next version of an item. Later than the one before also where clocks disagree, so that no two are one object."""
    assert op.value is not None
    now = datetime.now(UTC)
    if old is not None:
        now = max(now, datetime.fromisoformat(old.updated) + timedelta(microseconds=1))
    stamp = now.isoformat(timespec="microseconds")
    return {"namespace": list(op.namespace), "key": op.key, "value": dict(op.value), "ttl": op.ttl,
            "created": old.record["created"] if old is not None else stamp, "updated": stamp}


def _kept(ref: Ref, record: Any) -> _Kept:
    if not (isinstance(record, dict) and record.keys() >= {"namespace", "key", "value", "created", "updated", "ttl"}):
        raise CodecError(f"{ref} is no item of a store: another program has set a name below the store's root")
    return _Kept(ref, record)
