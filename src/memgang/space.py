"""Space: one shared memory and its verbs.

    async with memgang.open() as space:
        ref = await space.put("The audit found ...", tags=["audit"], ttl="7d")
        text = await space.get(ref)

A Space lives as long as the ``async with``; a reference lives as long as its object.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, get_type_hints

import msgspec
from redis.exceptions import RedisError

from memgang import lineage
from memgang.canonical import argument
from memgang.codec import decode, encode, parse_ttl
from memgang.errors import ConfigError, Conflict, IntegrityError, MemGangError, StoreFull, TooLarge, UnknownReference
from memgang.lineage import Forgotten
from memgang.model import Call, Context, Event, MemoryObject, NameVersion, Ref, Usage, current_context, current_work
from memgang.recall import Check, Formed, Mode, Recalled, Recaller, Sample, Terms
from memgang.settings import Settings
from memgang.store import log as logs
from memgang.store import scripts
from memgang.store.events import note
from memgang.store.keys import check_label, check_name
from memgang.store.process import default_agent, fresh, principal
from memgang.store.store import Store
from memgang.store.wire import translated
from memgang.streaming import Produce, Stream, Streams
from memgang.versions import version_of

P = ParamSpec("P")
T = TypeVar("T")
PREFIX = re.compile(r"mg:[a-z2-7]{8,31}\Z")
TTL = str | float | None


class Found(msgspec.Struct, frozen=True):
    """What `find` brought: the newest first, how many records it looked at, and where to go on ('' : the end)."""

    objects: list[MemoryObject]
    looked_at: int
    cursor: str


class Space:
    """One shared memory. Safe for any number of concurrent tasks of one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recaller = Recaller(store)
        self._streams = Streams(store)
        agent = store.settings.agent or default_agent()
        self._self = Context(who=f"{principal()}/{check_label('agent', agent)}")
        self._named = bool(store.settings.agent)

    @property
    def name(self) -> str:
        """The name of the space."""
        return self._store.keys.space

    @property
    def settings(self) -> Settings:
        """The settings it was opened with."""
        return self._store.settings

    @property
    def warnings(self) -> list[str]:
        """What the start-up check found worth knowing, a line each."""
        return self._store.warnings

    @property
    def store(self) -> Store:
        """The room below, for doors that look after it (doctor, why). Agents have no business there."""
        return self._store

    # ── who acts ──────────────────────────────────────────────────────────────────────────────

    @property
    def context(self) -> Context:
        """Who acts now: what the gang, a door or `acting_as` has set, else the opener of the space."""
        return current_context.get() or self._self

    @contextlib.contextmanager
    def acting_as(
        self, agent: str | None = None, role: str | None = None, run: str | None = None, task: str | None = None
    ) -> Iterator[Context]:
        """Within the block, everything read and written here is stamped with this agent, role, run and task.

        Raises:
            ConfigError: a label has characters that labels may not have.
        """
        now = self.context
        changes: dict[str, str] = {}
        if agent is not None:
            changes["who"] = f"{now.who.partition('/')[0]}/{check_label('agent', agent)}"
        for what, text in (("role", role), ("run", run), ("task", task)):
            if text is not None:
                changes[what] = check_label(what, text) if text else ""
        token = current_context.set(replace(now, **changes))
        try:
            yield current_context.get() or now
        finally:
            current_context.reset(token)

    # ── objects ───────────────────────────────────────────────────────────────────────────────

    async def put(
        self, value: Any, *, name: str | None = None, ttl: TTL = None, tags: Sequence[str] = (), kind: str = "other",
        pos: float | None = None, parents: Sequence[Ref] | None = None, keep: bool = True, media_type: str | None = None,
        expect: int | None = None,
    ) -> Ref:
        """Store a value; its reference, which is the same for the same content whoever puts it.

        ``ttl`` is seconds or text such as ``"15m"``, ``"7d"``; None keeps it until it is forgotten. ``pos`` is its
        place in its document, 0..1. ``parents`` are by default what the computation under way has read.

        Raises:
            CodecError: the value has no media type.
            TooLarge, StoreFull: no room; nothing was written.
        """
        if name is not None:
            check_name(name)
        ref = await self._guard(self._put_one(value, parse_ttl(ttl), tuple(tags), kind, pos, parents, keep, media_type))
        if name is not None:
            await self.set_name(name, ref, expect=expect)
        return ref

    async def put_many(
        self, values: Sequence[Any], *, ttl: TTL = None, tags: Sequence[str] = (), kind: str = "other",
        pos: Sequence[float | None] | None = None, parents: Sequence[Ref] | None = None, keep: bool = True,
    ) -> list[Ref]:
        """Store many values; small ones share one round trip. References in the order of the values."""
        places = pos if pos is not None else [None] * len(values)
        if len(places) != len(values):
            raise ConfigError(f"put_many got {len(values)} values and {len(places)} places; give one place for each value")
        ttl_ms = parse_ttl(ttl)
        return list(await asyncio.gather(*(
            self._guard(self._put_one(v, ttl_ms, tuple(tags), kind, p, parents, keep, None))
            for v, p in zip(values, places, strict=True))))

    async def _put_one(
        self, value: Any, ttl_ms: int, tags: tuple[str, ...], kind: str, pos: float | None,
        parents: Sequence[Ref] | None, keep: bool, media_type: str | None,
    ) -> Ref:
        for tag in tags:
            check_label("tag", tag)
        encoded = encode(value, media_type)
        context, work = self.context, current_work.get()
        if parents is None:
            parents = list(work.read) if work is not None else []
        meta: dict[str, Any] = {"kind": kind}
        if pos is not None:
            meta["pos"] = pos
        if context.run:
            meta["run"] = context.run
        if tags:
            meta["tags"] = list(tags)
        return await self._store.objects.put(
            encoded, context, ttl_ms=ttl_ms, keep=keep, parents=parents, meta=meta,
            words={"kind": kind} | ({"pos": pos} if pos is not None else {}))

    async def get(self, ref: str, type: Any = None) -> Any:
        """The value behind a reference (or a name, or a prefix of a reference), decoded afresh.

        ``type`` is the class the value should become; without it, records come back as the class they
        were put as, where that is loaded.

        Raises:
            UnknownReference: there is nothing, or it has expired.
            ObjectLost, IntegrityError, CodecError.
        """
        whole = ref if isinstance(ref, Ref) else await self.resolve(ref)
        context = self.context
        try:
            kind, body, meta = await self._store.objects.get(whole)
        except (UnknownReference, IntegrityError) as error:
            self._store.log.add("refused", context, obj=whole.id, text=builtin_name(error))
            raise
        self._store.log.add("read", context, obj=whole.id, size=len(body))
        if self.settings.audit == "strict":
            await self._store.log.flush()
        if (work := current_work.get()) is not None:
            work.read[whole] = meta.get("pos")
        return decode(kind, body, type)

    async def get_many(self, refs: Sequence[str], type: Any = None) -> list[Any]:
        """Many values in one round trip (large ones take more), in the order of the references.

        Raises:
            UnknownReference: one of them is not there; it names which.
        """
        return list(await asyncio.gather(*(self.get(r, type) for r in refs)))

    async def describe(self, ref: str) -> MemoryObject:
        """The record of an object: who wrote it, when, from what, for which call.

        Raises:
            UnknownReference: there is nothing, or it has expired.
        """
        whole = await self.resolve(ref)
        found = (await self.describe_many([whole]))[0]
        if found is None:
            raise UnknownReference(ref)
        return found

    async def describe_many(self, refs: Sequence[Ref]) -> list[MemoryObject | None]:
        """Many records in one round trip; None where there is none (any more)."""
        found: list[MemoryObject | None] = await self._plain(self._store.objects.describe(refs, self._store.log.server_ms()))
        return found

    async def forget(
        self, ref: str, reason: str = "", *, cascade: bool = False, dry_run: bool = False, remove_names: bool = False,
    ) -> Forgotten:
        """Remove an object now, pinned or not; with ``cascade`` everything that was made from it, and their answers too.

        What it says is true when anything was removed (with ``dry_run``: would be). An object goes wherever it is
        used: the same text in another document is the same object. Names that point at what is gone stay, unless
        ``remove_names``. A cascade looks at every record of the space once (a few seconds for 100,000), may be
        interrupted, and a repeat does the rest.

        Work that is under way and had read what is gone fails when it puts its result. Two things stay: ids, sizes
        and labels in the log, and on disk what the server has not rewritten yet (`scrub`).

        Raises:
            UnknownReference: a name or prefix that nothing has.
            StoreUnavailable: the server went away before all was done; repeat it.
        """
        whole = await self.resolve(ref)
        return await self._removing(lineage.forget(
            self._store, self.context, [whole], cascade=cascade, dry_run=dry_run, reason=reason, remove_names=remove_names))

    async def invalidate(
        self, source: str, reason: str = "", *, dry_run: bool = False, remove_names: bool = False,
    ) -> Forgotten:
        """Forget what was read from a source, and everything that was made from it: read again, it is all computed anew.

        ``source`` is a file, a folder (all that was read below it), a glob or a URL, whether it still exists or not;
        else the name or reference of an object. Text that another remembered document holds as well stays, and is
        listed as ``shared``: it was read there too. To remove a text wherever it stands, `forget` its reference.

        Raises:
            UnknownReference: nothing is remembered of it.
            StoreUnavailable: as for `forget`.
        """
        if not source.startswith("mg:"):
            read = await self._removing(lineage.readings(self._store, source))
            if read.roots:
                return await self._removing(lineage.forget(
                    self._store, self.context, read.roots, calls=read.calls, shared=read.shared, dry_run=dry_run,
                    reason=reason, remove_names=remove_names))
        try:
            return await self.forget(source, reason, cascade=True, dry_run=dry_run, remove_names=remove_names)
        except UnknownReference as error:
            if source.startswith("mg:"):
                raise
            raise UnknownReference(source, "nothing that was read from there is remembered, and no object has this name") from error

    async def scrub(self) -> bool:
        """Have the server rewrite its files, so that what was forgotten is on its disk no more; False: it may not, or keeps none.

        Without it the server does so by itself when its log of commands has grown enough.
        """
        return await self._store.rewrite()

    async def _removing(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except RedisError as error:
            raise translated(error, "forget") from error

    async def pin(self, ref: str, ttl: TTL = "1h", holder: str | None = None) -> int:
        """Keep an object from eviction; the deadline in ms of the server's clock. ``holder`` is an identity.

        Raises:
            UnknownReference: there is nothing to pin.
        """
        whole = await self.resolve(ref)
        ms = parse_ttl(ttl)
        if ms <= 0:
            raise ConfigError("a pin needs a time to end, such as '1h' or '30d'")
        return await self._pin(whole, holder, ms)

    async def unpin(self, ref: str, holder: str | None = None) -> None:
        """End a pin of this holder."""
        await self._pin(await self.resolve(ref), holder, 0)

    async def _pin(self, ref: Ref, holder: str | None, ms: int) -> int:
        who = "@" + (holder or self.context.who)
        deadline = await scripts.pin(self._store.wire, self._store.keys, ref, who=self.context.who,
                                     note=note(self.context), holder=who, ms=ms)
        if deadline is None:
            raise UnknownReference(ref)
        return deadline

    # ── names ─────────────────────────────────────────────────────────────────────────────────

    async def set_name(self, name: str, ref: Ref | None, *, expect: int | None = None) -> int:
        """Point a name at an object (None takes the name away) by compare-and-set; its new version.

        ``expect`` is the version seen last, 0 for a new name, None for whatever it is.

        Raises:
            Conflict: the name has moved on; carries the version and the reference it is at.
            UnknownReference: the object is not there.
        """
        check_name(name)
        if ref is not None and not await self._plain(self._store.wire.call("EXISTS", self._store.keys.record(ref))):
            raise UnknownReference(ref)
        return await self._guard(scripts.name(
            self._store.wire, self._store.keys, name, who=self.context.who, note=note(self.context), op=fresh(),
            ref=ref, expect=expect))

    async def resolve(self, text: str) -> Ref:
        """The reference meant by a reference, a unique prefix of one (``mg:`` and 8 characters or more), or a name.

        Raises:
            UnknownReference: none or more than one is meant; it shows both.
        """
        if isinstance(text, Ref):
            return text
        if Ref.is_ref(text):
            return Ref(text)
        if PREFIX.match(text):
            return await self._by_prefix(text)
        if text.startswith("mg:"):
            raise UnknownReference(text, "a reference is mg: and 32 characters a-z2-7, a prefix of one has at least 8")
        try:
            version = await self.version(text)
        except ConfigError as error:
            raise UnknownReference(text, f"it is neither a reference nor a name ({error})") from None
        if version is None or version.ref is None:
            raise UnknownReference(text, "no object has this name")
        return version.ref

    async def _by_prefix(self, text: str) -> Ref:
        keys = self._store.keys
        listing = keys.at(keys.shard_of(text[3:]), "l")
        found: set[str] = set()
        cursor: Any = b"0"
        while True:
            cursor, page = await self._plain(self._store.wire.call("ZSCAN", listing, cursor, "MATCH", text[3:] + "*", "COUNT", 1000))
            found.update(i.decode() for i in page[::2])
            if cursor in (b"0", 0):
                break
        if len(found) == 1:
            return Ref("mg:" + found.pop())
        if not found:
            raise UnknownReference(text)
        raise UnknownReference(text, "it could be " + " or ".join("mg:" + i for i in sorted(found)[:2]))

    async def version(self, name: str) -> NameVersion | None:
        """Where a name points now, with the version that `set_name` expects; None if it never was."""
        keys = self._store.keys
        hashed = keys.name_hash(check_name(name))
        ref, version, who, at = await self._plain(self._store.wire.call(
            "HMGET", keys.at(keys.shard_of(hashed), f"n:{hashed}"), "id", "version", "who", "at"))
        if version is None:
            return None
        return NameVersion(name, int(version), Ref("mg:" + ref.decode()) if ref else None, who.decode(), int(at))

    async def history(self, name: str, limit: int = 1000) -> list[NameVersion]:
        """All versions of a name that are kept, the newest first."""
        keys = self._store.keys
        hashed = keys.name_hash(check_name(name))
        entries = await self._plain(self._store.wire.call(
            "XREVRANGE", keys.at(keys.shard_of(hashed), f"v:{hashed}"), "+", "-", "COUNT", limit))
        out = []
        for entry, flat in entries:
            words = dict(zip(flat[::2], flat[1::2], strict=True))
            ref = words[b"id"].decode()
            out.append(NameVersion(name, int(entry.split(b"-")[0]), Ref("mg:" + ref) if ref else None,
                                   words[b"who"].decode(), int(words[b"at"])))
        return out

    async def names(self, prefix: str = "") -> dict[str, Ref]:
        """All names that begin with the prefix, in alphabetical order, and where they point."""
        keys = self._store.keys
        found: dict[str, Ref] = {}
        for shard in range(keys.shards):
            cursor: Any = b"0"
            while True:
                cursor, page = await self._plain(self._store.wire.call("HSCAN", keys.at(shard, "m"), cursor, "COUNT", 1000))
                flat = [x for pair in page.items() for x in pair] if isinstance(page, dict) else page
                for name, ref in zip(flat[::2], flat[1::2], strict=True):
                    if name.decode().startswith(prefix):
                        found[name.decode()] = Ref("mg:" + ref.decode())
                if cursor in (b"0", 0):
                    break
        return dict(sorted(found.items()))

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    async def find(
        self, *, tag: str | None = None, agent: str | None = None, media_type: str | None = None, run: str | None = None,
        kind: str | None = None, since: int | None = None, limit: int = 50, cursor: str = "",
    ) -> Found:
        """Objects that fit all filters, the newest first. A walk of the listing: it costs what it looks at.

        ``since`` is ms of the server's clock; ``cursor`` is the one of the result before.
        """
        at_most, after = "+inf", ""
        if cursor:
            at_most, _, after = cursor.partition(":")
            if not at_most.isdigit() or not re.fullmatch(r"[a-z2-7]{32}", after):
                raise ConfigError(f"cursor {cursor[:60]!r} is not one that find has given")
        looked, out, position = 0, list[MemoryObject](), (at_most, after)
        while page := await self._listing(*position, since, max(limit, 100)):
            records = await self.describe_many([Ref("mg:" + ident) for _, ident in page])
            for (at, ident), record in zip(page, records, strict=True):
                looked += 1
                position = (str(at), ident)
                if record is not None and _fits(record, tag, agent, media_type, run, kind):
                    out.append(record)
                    if len(out) == limit:
                        return Found(out, looked, ":".join(position))
        return Found(out, looked, "")

    async def _listing(self, at_most: str, after: str, since: int | None, count: int) -> list[tuple[int, str]]:
        """A page of (at, id) over all shards, the newest first, behind the position given."""
        keys, lowest = self._store.keys, str(since) if since is not None else "-inf"
        merged: list[tuple[int, str]] = []
        for shard in range(keys.shards):
            start = 0
            got: list[tuple[int, str]] = []
            # Objects of one millisecond share a score; they are told apart by id, in falling order.
            while len(got) < count:
                page = await self._plain(self._store.wire.call(
                    "ZREVRANGEBYSCORE", keys.at(shard, "l"), at_most, lowest, "WITHSCORES", "LIMIT", start, count))
                start += count
                pairs = [(int(float(at)), i.decode()) for i, at in zip(page[::2], page[1::2], strict=True)]
                got += [pair for pair in pairs if not after or pair < (int(at_most), after)]
                if len(pairs) < count:
                    break
            merged += got
        return sorted(merged, reverse=True)[:count]

    async def stats(self) -> dict[str, int]:
        """Totals of the space since it was made: objects, bytes, executions, hits, what was saved. One round trip."""
        totals: dict[str, int] = {}
        replies = [self._store.wire.call("HGETALL", self._store.keys.at(s, "u")) for s in range(self._store.keys.shards)]
        for reply in replies:
            found = await self._plain(reply)
            flat = [x for pair in found.items() for x in pair] if isinstance(found, dict) else found
            for field, value in zip(flat[::2], flat[1::2], strict=True):
                if field not in (b"clock", b"swept"):
                    totals[field.decode()] = totals.get(field.decode(), 0) + int(float(value))
        return dict(sorted(totals.items()))

    async def events(self, cursor: str = "", *, run: str | None = None, follow: bool = False) -> AsyncIterator[Event]:
        """The log, oldest first: of one run, or of all; with ``follow``, also what comes from now on."""
        await self.flush()
        source = logs.follow if follow else logs.read
        async for event in source(self._store.wire, self._store.keys, cursor, archive=self._store.archive):
            if run is None or event.run == run:
                yield event

    async def flush(self) -> None:
        """Write the events that wait in this process."""
        await self._store.log.flush()

    # ── recall ────────────────────────────────────────────────────────────────────────────────

    async def recall(
        self, call: Call, compute: Callable[[], Awaitable[Any]], *, ttl: TTL | int = "default", kind: str = "other",
        pos: float | None = None, tags: Sequence[str] = (), check: Check | None = None,
        validate: Callable[[], bytes] | None = None, formed: Formed | None = None, sample: Sample = None,
        mode: Mode = "share", negative_ttl: TTL = None, refresh_early: float | bool = False, stale: TTL = None,
    ) -> Recalled:
        """The call's answer: recalled if anybody has computed it, else computed by exactly one of all who ask.

        ``check`` is given the validator kept with an answer and says whether the answer may still be used;
        ``validate`` makes that validator, after the work.

        ``sample`` replaces that of the call: a number; ``"occurrence"``, where the i-th ask of the same request by one
        identity within one run shares the i-th answer with everybody else's i-th ask; ``"fresh"``, an answer nobody
        else is given. The identity is the agent call under way, else the agent that was named (as a setting or by
        `acting_as`); who has none asks for sample 0.

        ``mode``: ``"share"``; ``"refresh"`` computes anew and replaces the answer, once for all who do so at the same
        time; ``"private"`` computes for this caller alone and keeps nothing.

        ``negative_ttl`` is how long a failure for good is told to all who ask. ``refresh_early``: from this fraction
        of the time to live left (or, where True, at a moment drawn by the XFetch rule) one caller computes anew in the
        background while all are served. ``stale``: how long after its end the answer is still served, marked as
        ``stale``, while one computes anew in the background.

        Raises:
            WorkFailed: the work failed for good, or as often as is tried; or the call waits for itself.
            ModelError, StoreFull, ...: the caller's own key, quota or room; told to nobody else.
            StoreUnavailable: the server is away and ``fail="closed"``.
            ConfigError: one of the options is none.
        """
        terms = self._terms(ttl, mode, negative_ttl, refresh_early, stale)
        context = self.context
        if sample is not None:
            call, formed = self.sampled(call, sample), None
        recalled = await self._recaller.recall(
            call, compute, context=context, terms=terms, kind=kind, pos=pos, tags=tuple(tags), check=check,
            validate=validate, formed=formed)
        if self.settings.audit == "strict":
            await self._store.log.flush()
        return recalled

    def _terms(
        self, ttl: TTL | int, mode: Mode, negative_ttl: TTL, refresh_early: float | bool, stale: TTL
    ) -> Terms:
        return Terms(
            ttl_ms=self.settings.answer_ttl_ms if ttl == "default" else parse_ttl(ttl), mode=mode,
            negative_ttl_ms=None if negative_ttl is None else parse_ttl(negative_ttl), refresh_early=refresh_early,
            stale_ms=parse_ttl(stale))

    def sampled(self, call: Call, sample: Sample) -> Call:
        """The call with the sample that is meant, as `recall` says it; an ``"occurrence"`` is counted."""
        context = self.context
        return self._recaller.sampled(call, sample, context.run, self._identity(context))

    def _identity(self, context: Context) -> str:
        """Who asks, for counting asks: the agent call under way (whichever worker was free for it), or a named agent."""
        if context.task:
            return f"{context.role}/{context.task}"
        return context.who if self._named or context.who != self._self.who else ""

    def stream(
        self, call: Call, produce: Produce, *, ttl: TTL | int = "default", kind: str = "other", pos: float | None = None,
        tags: Sequence[str] = (), sample: Sample = None, restart: str = "error",
    ) -> Stream:
        """The call's answer piece by piece while it is made, whoever makes it: ``async for piece in space.stream(...)``.

        ``produce`` gives pieces of str or of bytes; it runs at one of all who ask, on any process, and the others are
        delivered the same from the first piece on. Only a whole answer is kept: the pieces joined, which `recall` of
        the same call finds. One that is there already comes in one piece.

        If the one who makes it fails or dies, another attempt takes over; a reader goes on where that one begins with
        what it was delivered. Otherwise ``restart`` decides: "error" raises, "marker" delivers
        `memgang.streaming.RESTARTED` and begins again. ``sample``, and what else is raised: see `recall`.

        Raises:
            StreamRestarted: what was delivered is not the beginning of the answer.
            CodecError: pieces of another type, or of both.
        """
        if sample is not None:
            call = self.sampled(call, sample)
        formed = self.form(call)

        def recall(compute: Callable[[], Awaitable[Any]]) -> Awaitable[Recalled]:
            return self.recall(call, compute, ttl=ttl, kind=kind, pos=pos, tags=tags, formed=formed)

        return self._streams.open(formed.key, produce, recall, restart)

    def key(self, call: Call) -> str:
        """The key a call has in this space."""
        return self._recaller.form(call).key

    def form(self, call: Call) -> Formed:
        """The call in canonical form with its key, for who needs the key and then recalls the same call."""
        return self._recaller.form(call)

    def once(
        self, function: Callable[P, Any] | None = None, *, ttl: TTL | int = "default", deps: Sequence[Any] = (),
        version: str | None = None, kind: str = "other", sample: Sample = None, mode: Mode = "share",
        negative_ttl: TTL = None, refresh_early: float | bool = False, stale: TTL = None,
    ) -> Any:
        """Decorator: recall the function instead of repeating it, across tasks, processes and hosts.

        The key is its name, its source (or ``version``), what ``deps`` names, and its arguments. Plain functions
        run in a thread; the decorated function is always awaited. The other options are those of `recall`.
        """
        options: dict[str, Any] = dict(
            ttl=ttl, kind=kind, sample=sample, mode=mode, negative_ttl=negative_ttl, refresh_early=refresh_early, stale=stale)
        if function is None:
            return functools.partial(self.once, deps=deps, version=version, **options)
        self._terms(ttl, mode, negative_ttl, refresh_early, stale)  # so that a wrong one is told here
        known = version if version is not None else version_of(function, deps)
        title, signature = f"{function.__module__}:{function.__qualname__}", inspect.signature(function)
        returns = get_type_hints(function).get("return") if _resolvable(function) else None

        @functools.wraps(function)
        async def recalled(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            call = Call("function", title, known, {n: argument(v) for n, v in bound.arguments.items()})

            async def compute() -> Any:
                if inspect.iscoroutinefunction(function):
                    return await function(*args, **kwargs)
                return await asyncio.to_thread(function, *args, **kwargs)

            result = await self.recall(call, compute, **options)
            return await result.value(returns)

        return recalled

    # ── marks of the gang ─────────────────────────────────────────────────────────────────────

    def mark(self, what: str, text: str = "", *, fn: str = "") -> None:
        """An event that changes nothing: phase, join, leave, run_start, run_end, began, ended."""
        self._store.log.add(what, self.context, text=text[:200], fn=fn)

    def note_reference(self, ref: Ref, size: int) -> None:
        """An agent was given a reference and never opened it: these bytes did not travel."""
        self._store.log.add("reference", self.context, obj=ref.id, size=size, why="reference", saved=Usage(bytes=size))

    def refused(self, text: str) -> None:
        """Something was refused: a limit, a conflict, a wrong reference."""
        self._store.log.add("refused", self.context, text=text[:200])

    async def erase(self) -> None:
        """Remove the whole space with everything in it: for spaces made for one job. Close it next."""
        await self._plain(self._store.erase())

    async def aclose(self) -> None:
        """Give up what is under way, write what waits and leave. The space and its memory stay."""
        await self._recaller.aclose()
        await self._streams.aclose()
        await self._store.aclose()

    async def _guard(self, work: Awaitable[T]) -> T:
        """Run a write; a refusal is an event too."""
        try:
            return await work
        except (Conflict, StoreFull, TooLarge, IntegrityError) as error:
            self.refused(builtin_name(error))
            raise

    @staticmethod
    async def _plain(work: Awaitable[Any]) -> Any:
        try:
            return await work
        except RedisError as error:
            raise translated(error, "read") from error

    def __memgang_key__(self) -> str:
        return f"space:{self.name}"


def builtin_name(error: MemGangError) -> str:
    """The class of an error, for an event: never its text, which may hold what the caller wrote."""
    return type(error).__name__


def _fits(
    record: MemoryObject, tag: str | None, agent: str | None, media_type: str | None, run: str | None, kind: str | None
) -> bool:
    meta = record.meta
    return (
        (tag is None or tag in meta.get("tags", ()))
        and (agent is None or any(w == agent or w.rpartition("/")[2] == agent for w in record.writers))
        and (media_type is None or record.media_type.startswith(media_type))
        and (run is None or meta.get("run") == run)
        and (kind is None or meta.get("kind") == kind)
    )


def _resolvable(function: Callable[..., Any]) -> bool:
    try:
        get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return False
    return True


class open:  # memgang.open, as the field names it
    """Open a space: ``async with memgang.open() as space``, or ``space = await memgang.open()``.

    Without a URL (argument or MEMGANG_URL) an embedded server is found or started; every process on this
    machine that opens it shares it. Other settings are keywords; see docs/settings.md.

    Raises:
        ConfigError: a setting is wrong.
        StoreUnavailable, ServerUnfit: no server, or one that cannot keep what is promised.
    """

    def __init__(self, url: str | None = None, space: str | None = None, agent: str | None = None, **settings: Any) -> None:
        self._settings = Settings.load(url=url, space=space, agent=agent, **settings)
        self._space: Space | None = None

    def __await__(self) -> Any:
        return self._open().__await__()

    async def _open(self) -> Space:
        self._space = Space(await Store.open(self._settings))
        return self._space

    async def __aenter__(self) -> Space:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        if self._space is not None:
            await self._space.aclose()

    def __repr__(self) -> str:
        return f"memgang.open(space={self._settings.space!r})"
