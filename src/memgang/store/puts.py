"""Many small objects put at the same time travel a script for each few dozen, not for each one.

    encode ─▶ those of one shard that are small, 32 at a time ─▶ put_many.lua ─▶ new: done
                                                                             └─▶ left: put, one by one

The script knows the usual case alone: nobody has put it, and there is room. What is there already, what needs others to
go first, what is large and what has many parents goes through `Objects.put`, which knows them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import NoScriptError

from memgang.codec import Encoded, ref_of
from memgang.errors import MemGangError
from memgang.model import Context, Ref
from memgang.store import scripts
from memgang.store.events import note
from memgang.store.objects import COST_MIN_S, Objects, _seen
from memgang.store.process import fresh

MOST = 24  # objects of one script: 0.5 ms of the server
BYTES = 1 << 18  # of their bodies together
PARENTS_MAX = 64  # more are listed in an object of their own, which `Objects.put` makes


class Item(NamedTuple):
    """One object of many, and its place in its document."""

    value: Encoded
    pos: float | None


class Alike(NamedTuple):
    """What is said of all: see `Objects.put_then`."""

    context: Context
    ttl_ms: int
    keep: bool
    parents: Sequence[Ref]
    meta: Callable[[float | None], dict[str, Any]]  # by its place
    words: dict[str, Any]

    def said(self, item: Item) -> dict[str, Any]:
        """What of this is an argument of `Objects.put` for one of them."""
        place = {} if item.pos is None else {"pos": item.pos}
        return {"ttl_ms": self.ttl_ms, "keep": self.keep, "parents": self.parents, "meta": self.meta(item.pos),
                "words": self.words | place}


class Named(NamedTuple):
    """An object with its reference, and where it stands among all."""

    place: int
    ref: Ref
    item: Item


async def put_many(objects: Objects, items: Sequence[Item], alike: Alike) -> list[Ref | BaseException]:
    """Store them all; for each its reference, or why it could not be stored: one that is refused takes no other with it."""
    out: list[Ref | BaseException | None] = [None] * len(items)
    batches: list[asyncio.Task[None]] = []
    if len(alike.parents) <= PARENTS_MAX:
        written = _Written(alike)
        for batch in _batches(objects, items):
            batches.append(asyncio.create_task(_carry(objects, batch, alike, written, out)))
            await asyncio.sleep(0)  # the server has work while the next is made
    await asyncio.gather(*batches)
    rest = [place for place, found in enumerate(out) if found is None]
    put = (objects.put(items[place].value, alike.context, **alike.said(items[place])) for place in rest)
    for place, found in zip(rest, await asyncio.gather(*put, return_exceptions=True), strict=True):
        out[place] = found
    return [found for found in out if found is not None]


def _batches(objects: Objects, items: Sequence[Item]) -> Iterator[list[Named]]:
    """Those that are small, by shard, none of them twice: the second time it is known, which is for `put` to say."""
    most = min(objects._settings.inline_bytes_max, objects._settings.body_bytes_max)
    open_: dict[int, list[Named]] = {}
    sizes: dict[int, int] = {}
    seen: set[Ref] = set()
    for place, item in enumerate(items):
        if (size := item.value.size) > most:
            continue
        ref = ref_of(*item.value)
        if ref in seen:
            continue
        seen.add(ref)
        shard = objects._keys.shard_of(ref.id)
        batch = open_.setdefault(shard, [])
        if batch and (len(batch) >= MOST or sizes[shard] + size > BYTES):
            yield batch
            batch = open_[shard] = []
        sizes[shard] = sizes[shard] + size if batch else size
        batch.append(Named(place, ref, item))
    yield from open_.values()


class _Written:
    """Meta and notes, each written once for all who have the same."""

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        self._meta: dict[float | None, bytes] = {}
        self._notes: dict[tuple[int, float | None], bytes] = {}

    def meta(self, item: Item) -> bytes:
        if (found := self._meta.get(item.pos)) is None:
            found = self._meta[item.pos] = msgspec.json.encode(self._alike.meta(item.pos))
        return found

    def note(self, item: Item) -> bytes:
        about = item.value.size, item.pos
        if (found := self._notes.get(about)) is None:
            parents = self._alike.parents
            told: dict[str, Any] = {"bytes": about[0]}
            if parents:
                told |= {"src": [p.id[:10] for p in parents[:16]], "src_n": len(parents)}
            found = self._notes[about] = note(self._alike.context, told | self._alike.said(item)["words"])
        return found


async def _carry(
    objects: Objects, batch: list[Named], alike: Alike, written: _Written, out: list[Ref | BaseException | None]
) -> None:
    """One script; what it leaves stays None in ``out``."""
    wire, keys, since = objects._wire, objects._keys, time.monotonic()
    each = [(one.ref, one.item.value.media_type, one.item.value.whole, written.meta(one.item), written.note(one.item)) for one in batch]
    command = scripts.put_many_command(
        keys, each, who=alike.context.who, op=fresh(), ttl_ms=alike.ttl_ms, cost_s=0.0 if alike.keep else COST_MIN_S,
        limit=objects.room.limit(batch[0].ref), guard_ms=objects._settings.guard_ms, keep=alike.keep, parents=alike.parents,
        share=await objects.shares.limit(batch[0].ref, alike.context.who))
    looks = scripts.marked(keys, alike.parents)  # nobody pays for asking, as in `put`
    sent, *behind = wire.row(command, *looks)
    wire.hurry()
    for reply in behind:
        reply.add_done_callback(_seen)
    try:
        expires, words = await scripts.put_many(wire, command, sent)
    except MemGangError:
        return  # whatever it is: `put` tells each what it has to do with it
    now, stored = objects._server_ms(), []
    for one, word, (ref, media_type, body, meta, _) in zip(batch, words, each, strict=True):
        if word == b"left":
            continue
        out[one.place] = ref
        stored.append(one)
        objects._is_verified(ref)
        if word == b"new":
            objects.room.taken(len(body), ref)
            objects.shares.taken(len(body), ref, alike.context.who)
            if objects.tier is not None:
                objects.tier.keep_body(ref.id, media_type, body, meta, expires, now, since)
    if looks:
        if isinstance(sent.exception(), NoScriptError):  # it was sent again: the looks were before it
            behind = [wire.call(*look) for look in looks]
        for one in stored:
            try:
                await objects._refuse_orphan(one.ref, alike.parents, behind, alike.context, "")
            except MemGangError as error:
                out[one.place] = error
