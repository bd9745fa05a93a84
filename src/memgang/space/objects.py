"""Objects: put, read, described and pinned, for whoever acts."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from memgang.codec import decode, encode
from memgang.errors import CodecError, ConfigError, IntegrityError, UnknownReference
from memgang.model import REF_PREFIX, Context, MemoryObject, Ref, current_work
from memgang.space.refusals import REFUSALS, guarded, refused
from memgang.store import puts, scripts
from memgang.store.events import note
from memgang.store.host import Kept
from memgang.store.keys import check_label
from memgang.store.replies import carried
from memgang.store.store import Store


class Manner(NamedTuple):
    """How values are kept, and what is said of them."""

    ttl_ms: int
    tags: tuple[str, ...]
    kind: str
    parents: Sequence[Ref] | None  # None: what the work under way has read
    keep: bool


async def put(
    store: Store, context: Context, value: Any, manner: Manner, pos: float | None, media_type: str | None = None
) -> Ref:
    """Store a value; a refusal is logged."""
    return await guarded(store, context, _put(store, context, value, manner, pos, media_type))


async def put_many(
    store: Store, context: Context, values: Sequence[Any], manner: Manner, pos: Sequence[float | None] | None
) -> list[Ref]:
    """Store values at the same time: small ones share scripts and round trips. All that can be stored are, then the first
    refusal is raised; each is logged."""
    places = pos if pos is not None else [None] * len(values)
    if len(places) != len(values):
        raise ConfigError(f"put_many got {len(values)} values and {len(places)} places; give one place for each value")
    meta = functools.partial(_meta, context, manner)
    meta(None)  # a wrong tag is told before anything is written
    items: list[puts.Item] = []
    refusal: BaseException | None = None
    for value, place in zip(values, places, strict=True):
        try:
            items.append(puts.Item(encode(value), place))
        except CodecError as error:
            refusal = refusal or error
    alike = puts.Alike(context, manner.ttl_ms, manner.keep, _parents(manner), meta, {"kind": manner.kind})
    refs: list[Ref] = []
    for found in await puts.put_many(store.objects, items, alike):
        if isinstance(found, BaseException):
            if isinstance(found, REFUSALS):
                refused(store, context, found)
            refusal = refusal or found
        else:
            refs.append(found)
    if refusal is not None:
        raise refusal
    return refs


async def _put(
    store: Store, context: Context, value: Any, manner: Manner, pos: float | None, media_type: str | None
) -> Ref:
    meta = _meta(context, manner, pos)
    return await store.objects.put(
        encode(value, media_type), context, ttl_ms=manner.ttl_ms, keep=manner.keep, parents=_parents(manner), meta=meta,
        words={"kind": manner.kind} | ({"pos": pos} if pos is not None else {}))


def _parents(manner: Manner) -> Sequence[Ref]:
    if manner.parents is not None:
        return manner.parents
    work = current_work.get()
    return list(work.read) if work is not None else []


def _meta(context: Context, manner: Manner, pos: float | None) -> dict[str, Any]:
    for tag in manner.tags:
        check_label("tag", tag)
    meta: dict[str, Any] = {"kind": manner.kind}
    if pos is not None:
        meta["pos"] = pos
    if context.run:
        meta["run"] = context.run
    if manner.tags:
        meta["tags"] = list(manner.tags)
    return meta


async def get(store: Store, context: Context, ref: Ref, type: Any = None) -> Any:
    """Read a value; the read is logged, and work under way has read it."""
    if (kept := store.objects.at_hand(ref)) is None:
        try:
            kept = await store.objects.fetch(ref)
        except (UnknownReference, IntegrityError) as error:
            refused(store, context, error, ref.id)
            raise
    value = taken(store, context, ref, kept, type)
    await written(store)
    return value


async def look(store: Store, ref: Ref, type: Any = None) -> Any:
    """Read a value without a trace."""
    kept = await store.objects.get(ref)
    return decode(kept.media_type, kept.body, type)


def taken(
    store: Store, context: Context, ref: Ref, kept: Kept, type: Any, loop: asyncio.AbstractEventLoop | None = None,
) -> Any:
    """The value of what was read; the read is logged, and work under way has read it. ``loop``: see `EventLog.add`."""
    store.log.add_read(context, ref[len(REF_PREFIX):], len(kept.body), loop)
    if (work := current_work.get()) is not None:
        work.read[ref] = kept.place
    return decode(kept.media_type, kept.body, type)


async def written(store: Store) -> None:
    """Before a reader goes on: its read is written where that is wanted at once, and a batch of them has its turn."""
    if store.settings.audit == "strict":
        await store.log.flush()
    elif store.log.crowded:
        await asyncio.sleep(0)


async def get_many(store: Store, context: Context, refs: Sequence[Ref], type: Any = None) -> list[Any]:
    """Read many values: what this host has at once, the rest together. One that is not there takes no other with it: all are
    read, and logged, before the first refusal is raised."""
    found: list[Kept | None] = store.objects.many_at_hand(refs)
    missing = [place for place, kept in enumerate(found) if kept is None]
    refusal: BaseException | None = None
    if missing:
        asked = await asyncio.gather(*(store.objects.fetch(refs[place]) for place in missing), return_exceptions=True)
        for place, kept in zip(missing, asked, strict=True):
            if not isinstance(kept, BaseException):
                found[place] = kept
                continue
            if isinstance(kept, UnknownReference | IntegrityError):
                refused(store, context, kept, refs[place].id)
            refusal = refusal or kept
    read = [(ref, kept) for ref, kept in zip(refs, found, strict=True) if kept is not None]
    store.log.add_reads(context, [(ref[len(REF_PREFIX):], len(kept.body)) for ref, kept in read])
    if (work := current_work.get()) is not None:
        work.read.update((ref, kept.place) for ref, kept in read)
    if refusal is not None:
        raise refusal
    values = [decode(kept.media_type, kept.body, type) for _, kept in read]
    await written(store)
    return values


async def described(store: Store, refs: Sequence[Ref]) -> list[MemoryObject | None]:
    """Their records, in one round trip; None where there is none."""
    return await carried(store.objects.describe(refs, store.log.server_ms()), "read")


async def pin(store: Store, context: Context, ref: Ref, holder: str | None, ms: int) -> int:
    """Pin for so long (0: unpin); the deadline in ms of the server's clock.

    Raises:
        UnknownReference: there is nothing to pin.
    """
    deadline = await scripts.pin(store.wire, store.keys, ref, who=context.who, note=note(context),
                                 holder="@" + (holder or context.who), ms=ms)
    if deadline is None:
        raise UnknownReference(ref)
    return deadline
