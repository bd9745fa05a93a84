"""Forgetting: an object, and everything that was made from it.

    walk -> reach -> answers dropped, objects removed, the last made first -> what was put meanwhile -> ... -> nothing new

A record names what its object was made from, so what was made *from* an object is found by one walk over
all records. The last made goes first and the root last: whoever is interrupted leaves a space in which
nothing stands without its source, and a repeat finds the rest. Work that is under way meanwhile may
put more; the log tells of every put, and it is read again until it has nothing new. Work that had read a
part and puts its result after that finds the mark of the part, and takes its result back
(`Objects.put_then` draws this race).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Container, Sequence

import msgspec

from memgang.lineage.reach import PAGE, Reach, kind_of, meta_of, word
from memgang.model import Context, Ref
from memgang.store import scripts
from memgang.store.events import note
from memgang.store.process import fresh
from memgang.store.replies import walked
from memgang.store.store import Store

DROP_BATCH = 64  # calls of one script
REMOVE_BATCH = 256
REASON_MAX = 200
_UNSEEN = scripts.Kin((), 0, "", b"", False, False)  # put between the look and the removal
_NOTHING_CAME = frozenset({b"failed", b"exhausted", b"released", b"died"})


class Forgotten(msgspec.Struct, frozen=True, omit_defaults=False):
    """What was forgotten, or with ``dry_run`` what would be. True where there is anything at all.

    ``answers`` are the keys of the calls that made what went: they are computed again. ``names`` point at what is
    gone, ``pinned`` was pinned and went all the same. ``shared`` are parts of the source that stay, because
    another document that is still remembered has the same text. ``unsure`` are objects with more parents than
    a record holds (4,000): they may be made from what is gone, and stay.
    """

    roots: tuple[Ref, ...] = ()
    refs: tuple[Ref, ...] = ()
    bytes: int = 0
    kinds: dict[str, int] = {}
    runs: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    names_removed: bool = False
    pinned: tuple[Ref, ...] = ()
    shared: tuple[Ref, ...] = ()
    unsure: tuple[Ref, ...] = ()
    dry_run: bool = False

    def __bool__(self) -> bool:
        return bool(self.refs or self.answers)


async def forget(
    store: Store, context: Context, roots: Sequence[Ref], *, cascade: bool = True, dry_run: bool = False, reason: str = "",
    calls: Sequence[str] = (), shared: Sequence[Ref] = (), remove_names: bool = False,
) -> Forgotten:
    """Forget the roots, and with ``cascade`` everything made from them. ``calls`` are keys of calls to drop with them.

    It may be interrupted and repeated. When it returns, nothing that was made from the roots is there, and what
    work under way still makes from them is taken back by its writer.

    Raises:
        StoreUnavailable: the server went away; what was removed is removed, a repeat does the rest.
    """
    reach = Reach(store, roots)
    if cascade:
        await reach.walk()
    else:
        await reach.only()
    found = reach.reach()
    total, depth = (dict(found) if dry_run else {}), dict(reach.depth)
    unsure = tuple(Ref("mg:" + ident) for ident in reach.unsure())
    dropped: dict[str, None] = {}
    if dry_run:
        dropped.update(dict.fromkeys(await _held(store, found, calls)))
    else:
        root = roots[-1].id if cascade and roots else ""
        why = f"{root} {reason[:REASON_MAX]}".strip()
        await _drop(store, context, [(call, "") for call in calls], why, dropped)
        while True:
            removed = await _remove(store, context, found, reach.depth, why, root, dropped)
            total |= {ident: found.get(ident, _UNSEEN) for ident in removed}
            depth |= reach.depth
            if not cascade:
                break
            reach.gone(reach.depth)
            await reach.news()
            if not (found := reach.reach()):
                break
        if cascade:
            await _drop_traces(store, context, total, why)
    refs = tuple(Ref("mg:" + ident) for ident in sorted(total, key=lambda ident: depth[ident]))
    names = await _names(store, set(refs)) if cascade or dry_run or remove_names else []
    if remove_names and not dry_run:
        for name in names:
            await scripts.name(store.wire, store.keys, name, who=context.who, note=note(context), op=fresh(), ref=None, expect=None)
    kinds = Counter(kind_of(kin.meta) or "other" for kin in total.values())
    runs = {str(run) for kin in total.values() if (run := meta_of(kin.meta).get("run"))}
    return Forgotten(
        roots=tuple(roots), refs=refs, bytes=sum(kin.size for kin in total.values()), kinds=dict(kinds.most_common()),
        runs=tuple(sorted(runs)), answers=tuple(dropped), names=tuple(names), names_removed=remove_names and not dry_run,
        pinned=tuple(ref for ref in refs if total[ref.id].pinned), shared=tuple(shared), unsure=unsure, dry_run=dry_run)


async def _remove(
    store: Store, context: Context, found: dict[str, scripts.Kin], depth: dict[str, int], why: str, root: str,
    dropped: dict[str, None],
) -> list[str]:
    """The last made first, in batches; of each batch the answers before the objects, so that none points at nothing.

    Also what is reached and not there: work under way may have read it before it went. The ids of what was there.
    """
    order, removed = sorted(depth, key=lambda ident: -depth[ident]), list[str]()
    batches = [order[start:start + REMOVE_BATCH] for start in range(0, len(order), REMOVE_BATCH)]

    def drop(batch: Sequence[str]) -> asyncio.Task[None]:
        answers = [(found[i].call, i) for i in batch if i in found and found[i].call]
        return asyncio.create_task(_drop(store, context, answers, why, dropped))

    dropping = drop(batches[0]) if batches else None
    for batch, following in itertools.zip_longest(batches, batches[1:]):
        assert dropping is not None
        await dropping
        if following is not None:  # meanwhile: answers may go early
            dropping = drop(following)
        try:
            sizes = await store.objects.forget([Ref("mg:" + i) for i in batch], context, why=why, root=root)
        except BaseException:
            dropping.cancel()
            raise
        removed += [ident for ident, size in zip(batch, sizes, strict=True) if size is not None]
    return removed


async def _drop(
    store: Store, context: Context, calls: Sequence[tuple[str, str]], why: str, dropped: dict[str, None] | None = None
) -> None:
    by_shard: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for call, only in calls:
        by_shard[store.keys.shard_of(call)].append((call, only))
    for shard, own in by_shard.items():
        for start in range(0, len(own), DROP_BATCH):
            batch = own[start:start + DROP_BATCH]
            answers = await scripts.drop(store.wire, store.keys, shard, batch, who=context.who, note=note(context), reason=why)
            if store.tier is not None:
                store.tier.take_out(answers=[call for call, _ in batch])
            if dropped is not None:
                dropped.update(dict.fromkeys(call for (call, _), had in zip(batch, answers, strict=True) if had is not None))


async def _drop_traces(
    store: Store, context: Context, removed: Container[str], why: str
) -> None:
    """What the log of late tells of besides: calls that came to the same answer, and attempts that came to nothing.

    What failing work raised may quote what it had read, and what it streamed before is made of it. Of such attempts
    it is not known what they had read: so all their errors and streams go, and they are tried again when asked for.
    Older ones are gone: a flight that nobody renews lives no longer than this. Older calls with the same answer
    find it gone when they are asked again. Work that is still under way keeps its stream; when it ends, its writer
    takes it back.
    """
    s = store.settings
    oldest = store.log.server_ms() - max(20 * s.lease_ms, 2 * s.hold_ms, 600_000) - 60_000
    traces: dict[tuple[str, str], None] = {}
    ended: dict[str, None] = {}
    for shard in range(store.keys.shards):
        last = "+"
        while page := await store.wire.call("XREVRANGE", store.keys.at(shard, "a"), last, "-", "COUNT", PAGE):
            for _, fields in page:
                if (what := fields[1]) == b"committed":
                    if (answer := word(fields, b"x").partition(b" ")[0].decode()) in removed:
                        traces[word(fields, b"id").decode(), answer] = None
                elif what in _NOTHING_CAME:
                    ended[word(fields, b"id").decode()] = None
            if len(page) < PAGE or int(word(page[-1][1], b"at") or 0) < oldest:
                break
            last = "(" + page[-1][0].decode()
    looks = [(call, store.wire.call("HMGET", store.keys.flight(call), "state", "until")) for call in ended]
    for call, look in looks:
        state, until = await look
        if state == b"running":  # nobody is at it: all of it; somebody is: only what the last attempt left
            traces[call, "" if int(until or 0) <= store.log.server_ms() else "!"] = None
        elif state == b"error":
            traces[call, "!"] = None
    await _drop(store, context, list(traces), why)


async def _held(store: Store, found: dict[str, scripts.Kin], calls: Sequence[str]) -> list[str]:
    """The calls of which an answer would go."""
    asked = [(kin.call, ident) for ident, kin in found.items() if kin.call] + [(call, "") for call in calls]
    out: list[str] = []
    for start in range(0, len(asked), PAGE):
        some = asked[start:start + PAGE]
        replies = [store.wire.call("HGET", store.keys.flight(call), "answer") for call, _ in some]
        for (call, only), reply in zip(some, replies, strict=True):
            answer = (await reply or b"").decode()
            if answer and only in ("", answer):
                out.append(call)
    return list(dict.fromkeys(out))


async def _names(store: Store, refs: set[Ref]) -> list[str]:
    """The names that point at any of these."""
    found = set[str]()
    for shard in range(store.keys.shards):
        async for name, ident in walked(store.wire, "HSCAN", store.keys.at(shard, "m")):
            if "mg:" + ident.decode() in refs:
                found.add(name.decode())
    return sorted(found)
