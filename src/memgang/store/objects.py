"""Objects in the server: bodies and records, in the order that leaves no reference to nothing.

The body first, the record second: a crash between leaves bytes that expire by themselves in a minute,
never a reference to nothing. A small body travels inside `put`; where a larger one goes, and comes from, is
the business of `large.py`.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from memgang.codec import Encoded, is_of, ref_of
from memgang.errors import IntegrityError, ObjectLost, StoreFull, StoreUnavailable, TooLarge, UnknownReference
from memgang.model import REF_PREFIX, Answered, Context, MemoryObject, Ref
from memgang.settings import Settings
from memgang.store import scripts
from memgang.store.events import note
from memgang.store.gets import Gets
from memgang.store.host import Kept, Laid, Tier
from memgang.store.host.tier import BODY_MAX
from memgang.store.keys import Keys
from memgang.store.large import Large
from memgang.store.process import fresh
from memgang.store.replies import pairs
from memgang.store.room import Room
from memgang.store.share import Shares
from memgang.store.wire import Command, Wire

LOOKS = 3  # for a body that the server says is on this host
THREAD_FROM = 1 << 20  # bytes: to hash more than this would keep the event loop waiting


def _seen(reply: asyncio.Future[Any]) -> None:
    """Take note of an error, so that it is not reported as one that nobody saw."""
    if not reply.cancelled():
        reply.exception()


VERIFIED_MAX = 100_000
PUT_TRIES = 3
EVICT_TRIES = 3
FORGET_BATCH = 32  # objects of one script: half a millisecond of the server
COST_MIN_S = 0.001  # of what can be computed again, so that its size counts even where its time was too short to measure
# How long a forgotten object is remembered by its id: at least as long as work that had read it may still be under way.
MARK_MS = 3_600_000
REPEAT_MS = 60_000  # as long as a command is sent again after a lost reply, and more
PARENTS = "parents"  # kind of an object that lists the parents of another
_FIELDS = ("type", "size", "at", "expires", "writers", "parents", "call", "meta", "cost", "freq", "read", "ttl")


class Objects:
    """Bodies and records of one space, by reference. Lives as long as the Space."""

    def __init__(
        self, wire: Wire, keys: Keys, settings: Settings, server_ms: Callable[[], int], large: Large, tier: Tier | None = None,
    ) -> None:
        self._wire, self._keys, self._settings, self._server_ms = wire, keys, settings, server_ms
        self.large, self.tier = large, tier
        self._verified: set[Ref] = set()
        self._gets = Gets(wire, keys)
        self.room = Room(wire, keys, settings.budget_bytes, self.gone)
        self.shares = Shares(wire, keys, settings.agent_budget_bytes, self.gone)

    async def put(self, value: Encoded, context: Context, **told: Any) -> Ref:
        """Store bytes; known content only gains a writer. See `put_then` for what can be told and is raised."""
        return (await self.put_then(value, context, None, **told))[0]

    async def put_then(
        self, value: Encoded, context: Context, then: Callable[[Ref], Command] | None, *, ttl_ms: int = 0,
        cost_s: float = 0.0, keep: bool = True, call: str = "", parents: Sequence[Ref] = (),
        meta: dict[str, Any] | None = None, words: dict[str, Any] | None = None,
    ) -> tuple[Ref, asyncio.Future[Any] | None]:
        """Store bytes and, for a small body, send a command behind it in the same round trip; its reply to come.

        ``words`` go into the note of the event. The second is None where ``then`` was not sent. The server carries
        both out in order, but does not stop at the first: ``then`` must itself see whether the object is there.

        Raises:
            TooLarge, StoreFull, IntegrityError, StoreUnavailable.
        """
        size = value.size
        if size > self._settings.body_bytes_max:
            raise TooLarge("the value", size, self._settings.body_bytes_max)
        file, refused = await self.large.lay_here(value) if self.large.goes_into_a_file(size) else None, None
        try:
            if file is None:
                # As it is now: of a view, what is hashed and what is sent later would else be two things.
                value = Encoded(value.media_type, value.whole)
            ref = (file.ref if file is not None else
                   await asyncio.to_thread(ref_of, *value) if size > THREAD_FROM else ref_of(*value))
            return await self._record(
                value, ref, file, context, then, ttl_ms=ttl_ms, cost_s=cost_s, keep=keep, call=call, parents=parents, meta=meta,
                words=words)
        except (StoreFull, IntegrityError):
            refused = file
            raise
        finally:
            if file is not None:
                file.done()
            if refused is not None:
                await self.large.remove([refused.ref])  # unless it has a record from before

    async def _record(
        self, value: Encoded, ref: Ref, file: Laid | None, context: Context, then: Callable[[Ref], Command] | None, *, ttl_ms: int,
        cost_s: float, keep: bool, call: str, parents: Sequence[Ref], meta: dict[str, Any] | None, words: dict[str, Any] | None,
    ) -> tuple[Ref, asyncio.Future[Any] | None]:
        """Write the record, with the body where it is not in a file."""
        size = value.size
        told = {"bytes": size, "src": [p.id[:10] for p in parents[:16]], "src_n": len(parents), **(words or {})}
        if not parents:
            del told["src"], told["src_n"]
        parent_ids = list(parents)
        if len(parent_ids) > 64:
            # A record names 64 parents; more go into an object that lists them, which is then the 65th word.
            words_of = Encoded("application/json", msgspec.json.encode([str.__str__(p) for p in parent_ids]))
            listed = await self.put(words_of, context, keep=keep, meta={"kind": PARENTS}, words={"kind": PARENTS})
            parent_ids = [*parent_ids[:63], listed]
        op, unlaid, evicted, laid, parts, since = fresh(), 0, 0, "", 0, time.monotonic()
        told_meta = msgspec.json.encode(meta or {})
        # Nobody pays for asking: it travels behind the put, and its reply is 0.
        looks = scripts.marked(self._keys, parents)
        while unlaid < PUT_TRIES:
            if file is None and size > self._settings.inline_bytes_max and not laid:
                laid, parts = await self.large.lay_there(ref, value.body)
            command = scripts.put_command(
                self._keys, ref, who=context.who, note=note(context, told), op=op,
                media_type=value.media_type, size=size, how="host" if file is not None else "laid" if laid else "inline",
                what=self.large.host if file is not None else parts if laid else value.whole,
                ttl_ms=ttl_ms, cost_s=cost_s if keep else max(cost_s, COST_MIN_S),
                limit=self.room.limit(ref), guard_ms=self._settings.guard_ms, keep=keep, call=call,
                meta=told_meta, parents=parent_ids, laid=laid, share=await self.shares.limit(ref, context.who))
            paired = [then(ref)] if then is not None and not laid else []
            sent, *behind = self._wire.row(command, *paired, *looks)
            for reply in behind:
                reply.add_done_callback(_seen)  # when the put is refused, nobody asks for it
            try:
                stored = await scripts.put(self._wire, command, ref, size, sent)
            except StoreFull as full:
                if not full.limit:  # the server itself has no memory left: what goes is not ours to decide
                    if paired and (await behind[0])[0] == b"committed":
                        return ref, behind[0]  # known content: it was there, and the commit saw it
                    raise
                evicted += 1
                room = self.shares.of(full.agent) if full.agent else self.room
                if evicted > EVICT_TRIES or not await room.make(size, ref, full.used):
                    raise room.full(full.what, ref, full.used) from None
                continue
            if stored is None:
                laid, unlaid = "", unlaid + 1
                continue
            self._verified.add(ref)
            if stored.how == "new":
                self.room.taken(size, ref)
                self.shares.taken(size, ref, context.who)
                # What was known has the meta of its first writer.
                await self._keep(ref, value, file, told_meta, stored.expires, since)
            if isinstance(sent.exception(), NoScriptError):  # it was sent again: the looks were before it
                behind[len(paired):] = [self._wire.call(*look) for look in looks]
            await self._refuse_orphan(ref, parents, behind[len(paired):], context, call)
            return ref, behind[0] if paired else None
        raise StoreUnavailable(
            f"the {size:,} bytes of {ref} were gone {PUT_TRIES} times before their record could be written")

    async def _keep(self, ref: Ref, value: Encoded, file: Laid | None, meta: bytes, expires: int, since: float) -> None:
        """Keep what was just put for this host."""
        if self.tier is None:
            return
        stamp = file.stamp if file is not None else await self.large.keep_copy(ref, value) if value.size > BODY_MAX else None
        if stamp is not None:
            self.large.remember(ref, value.media_type, meta, stamp, expires, since)
        elif value.size <= BODY_MAX:
            self.tier.keep_body(ref.id, value.media_type, value.whole, meta, expires, self._server_ms(), since)

    async def _refuse_orphan(
        self, ref: Ref, parents: Sequence[Ref], looks: Sequence[asyncio.Future[Any]], context: Context, call: str
    ) -> None:
        """Take back what was made from something that was forgotten, with all that was made from it, in the meantime.

            A: get(part), computes
            B: forget(part, cascade=True): walks, removes part, leaves a mark
            A: put(answer made from part)     <- B will not look again

        Either B's last look at the log comes behind this put and finds it, or the mark was there before
        and is found here. A part that was put anew since is there, and what is made of it may stay.

        Raises:
            UnknownReference: names the one that was forgotten.
        """
        if not any([await look for look in looks]):
            return
        replies = [(p, self._wire.call("GET", self._keys.mark(p)), self._wire.call("EXISTS", self._keys.record(p)))
                   for p in parents]
        gone = [p for p, mark, there in replies if (await mark or b"-")[:1] != b"-" and not await there]
        if not gone:
            return
        why = f"{gone[0].id} made from what was forgotten"
        if call:
            # Whatever it holds: where the commit did not come along, the stream of this attempt is still there.
            await scripts.drop(self._wire, self._keys, self._keys.shard_of(call), [(call, "")], who=context.who,
                               note=note(context), reason=why)
            if self.tier is not None:
                self.tier.take_out(answers=[call])
        await self.forget([ref], context, why=why, root=gone[0].id)
        raise UnknownReference(gone[0], "it was forgotten, with all that is made from it, while this was made from it")

    async def forget(
        self, refs: Sequence[Ref], context: Context, *, why: str, root: str = ""
    ) -> list[int | None]:
        """Remove objects now, each with its event; the size of each, None where there was none.

        ``root`` is the id of the object from which all that was made goes; empty when these go alone.
        """
        sizes: dict[Ref, int | None] = {}
        by_shard: dict[int, list[Ref]] = {}
        for ref in dict.fromkeys(refs):
            by_shard.setdefault(self._keys.shard_of(ref.id), []).append(ref)
        for shard, own in by_shard.items():
            for start in range(0, len(own), FORGET_BATCH):
                batch = own[start:start + FORGET_BATCH]
                gone = await scripts.forget(
                    self._wire, self._keys, shard, batch, who=context.who, note=note(context), why=why, op=fresh(),
                    root=root, mark_ms=max(MARK_MS, 2 * self._settings.hold_ms) if root else REPEAT_MS)
                sizes.update(zip(batch, gone, strict=True))
                await self.gone(batch)  # before anybody is told
        return [sizes[ref] for ref in refs]

    async def gone(self, refs: Sequence[Ref]) -> None:
        """Take out of this host's memory what the server has no longer."""
        if self.tier is not None and refs:
            self.tier.take_out([ref.id for ref in refs])
        await self.large.remove(refs)

    def at_hand(self, ref: Ref) -> Kept | None:
        """The object, if this host has it: no system call, and no turn of the event loop."""
        tier = self.tier  # by one look: a caller's own thread reads here, and the space may be closed meanwhile
        if tier is None or (kept := tier.body(ref.id, self._server_ms())) is None:
            return None
        return self._whole(tier, ref, kept)

    def many_at_hand(self, refs: Sequence[Ref]) -> list[Kept | None]:
        """`at_hand` of many, by one look."""
        if (tier := self.tier) is None:
            return [None] * len(refs)
        found = tier.bodies([ref[len(REF_PREFIX):] for ref in refs], self._server_ms())
        return [None if kept is None else self._whole(tier, ref, kept) for ref, kept in zip(refs, found, strict=True)]

    def answer_at_hand(self, call: str) -> tuple[Answered, Kept] | None:
        """The answer to the call with this key and its object, if this host has both: as `at_hand`, by one look."""
        tier = self.tier  # as in `at_hand`
        if tier is None or (found := tier.recalled(call, self._server_ms())) is None:
            return None
        answer, kept = found
        return (answer, whole) if (whole := self._whole(tier, answer.ref, kept)) is not None else None

    def _whole(self, tier: Tier, ref: Ref, kept: Kept) -> Kept | None:
        """What the tier has, if its bytes are right; of a large body, from its file."""
        known = ref in self._verified
        if kept.filed:
            if (mapped := self.large.at_hand(ref, kept)) is None:
                tier.take_out([ref.id])  # moved to the disk, or gone
                return None
            kept, known = mapped, True  # by the stamp of its file
        if self._settings.verify == "always" or not known:
            if not is_of(ref, kept.media_type, kept.body):
                tier.take_out([ref.id])  # the server has it whole, or it is looked for anew
                return None
            self._is_verified(ref)
        return kept

    def _is_verified(self, ref: Ref) -> None:
        if len(self._verified) >= VERIFIED_MAX:
            self._verified.clear()
        self._verified.add(ref)

    async def get(self, ref: Ref) -> Kept:
        """Media type, bytes and meta of an object: this host's, or the server's.

        Raises:
            UnknownReference: not there, or expired by the server's clock.
            ObjectLost: the record is there, the body is not.
            IntegrityError: the bytes are not the content of the id.
        """
        kept = self.at_hand(ref)
        return kept if kept is not None else await self.fetch(ref)

    async def fetch(self, ref: Ref, looks: int = LOOKS) -> Kept:
        """`get` of what this host was seen not to have."""
        since = time.monotonic()
        found = await self._gets.ask(ref)
        match found:
            case "absent":
                raise UnknownReference(ref)
            case "expired":
                await self.sweep([ref])  # so that its end is in the log before anybody is told
                raise UnknownReference(ref, "it has expired")
            case "lost":
                raise ObjectLost(ref, "its record is there, its body is not")
            case "damaged":
                raise IntegrityError(ref, "its record is damaged")
            case _:
                if not _is_meta(found.meta):  # not part of what is hashed: looked at by itself
                    _meta(ref, found.meta)
        if found.body is None:
            try:
                return await self.large.had(ref, found, since)
            except ObjectLost:
                # Forgotten, and put anew perhaps, between the reply of the server and the look for its file.
                if looks == 1:
                    raise
                return await self.fetch(ref, looks - 1)
        if self._settings.verify == "always" or ref not in self._verified:
            if not is_of(ref, found.media_type, found.body):
                raise IntegrityError(ref, f"{len(found.body):,} bytes that are {ref_of(found.media_type, found.body)}")
            self._is_verified(ref)
        if self.tier is not None:
            self.tier.keep_body(ref.id, found.media_type, found.body, found.meta, found.expires, self._server_ms(), since)
        return Kept(found.media_type, found.body, found.meta)

    async def there(self, ref: Ref) -> bool:
        """Whether it can be had: what is only in a file of this host, and not as it was, is hashed."""
        return (self.tier is not None and self.tier.readable and self.held(ref)) or await self.large.there(ref)

    def held(self, ref: Ref) -> bool:
        """Whether this host has it at hand, and will still have it in a moment."""
        if self.tier is None or (kept := self.tier.body(ref.id, self._server_ms())) is None:
            return False
        if kept.filed and self.large.at_hand(ref, kept) is None:
            self.tier.take_out([ref.id])
            return False
        return True

    async def describe(self, refs: Sequence[Ref], now_ms: int) -> list[MemoryObject | None]:
        """Records, in one round trip; None where there is none, it has expired, or is damaged."""
        replies = [(self._wire.call("HMGET", self._keys.record(r), *_FIELDS), self._wire.call("HGETALL", self._keys.pins(r)))
                   for r in refs]
        out: list[MemoryObject | None] = []
        for ref, (record, pins) in zip(refs, replies, strict=True):
            fields: Any
            held: Any
            fields, held = await asyncio.gather(record, pins, return_exceptions=True)
            for reply in (fields, held):
                if isinstance(reply, BaseException) and "WRONGTYPE" not in str(reply):
                    raise reply
            if isinstance(fields, BaseException) or isinstance(held, BaseException):
                out.append(None)  # another program's value under our key
                continue
            kind, size, at, expires, writers, parents, call, meta, cost, freq, read, _ttl = fields
            try:
                if kind is None or 0 < int(expires) <= now_ms:
                    out.append(None)
                    continue
                out.append(MemoryObject(
                    ref, kind.decode(), int(size), int(at), int(expires), tuple((writers or b"").decode().split()),
                    tuple(Ref("mg:" + p) for p in (parents or b"").decode().split()), (call or b"").decode(),
                    _meta(ref, meta), float(cost or 0), int(freq or 0), int(read or 0),
                    tuple(h.decode() for h, deadline in pairs(held) if int(deadline) > now_ms)))
            except (ValueError, TypeError, AttributeError, IntegrityError):
                out.append(None)  # damaged: `get` says so; a listing must not end at it
        return out

    async def sweep(self, candidates: Sequence[Ref], who: str = "janitor/expiry") -> int:
        """Remove those that have expired, each with its event; how many."""
        removed = 0
        by_shard: dict[int, list[Ref]] = {}
        for ref in candidates:
            by_shard.setdefault(self._keys.shard_of(ref.id), []).append(ref)
        for shard, refs in by_shard.items():
            for start in range(0, len(refs), 32):
                swept = await scripts.sweep(self._wire, self._keys, shard, refs[start:start + 32], who=who, note=b"{}")
                removed += swept[0] if swept else 0
            await self.large.remove(refs)
        return removed


@functools.lru_cache(maxsize=1024)
def _is_meta(text: bytes) -> bool:
    """Whether it can be read. Most objects of a writer have the same."""
    try:
        msgspec.json.decode(text or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return False
    return True


def _meta(ref: Ref, text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except msgspec.DecodeError as error:
        raise IntegrityError(ref, f"its record is damaged: meta is no JSON ({error})") from error
