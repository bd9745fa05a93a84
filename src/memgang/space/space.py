"""Space: the class with all verbs. Each is one call of what stands beside; here are the promises."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from memgang.codec import TTL, parse_ttl
from memgang.errors import ConfigError, UnknownReference
from memgang.lineage import Forgotten
from memgang.model import Answered, Call, Context, Event, MemoryObject, NameVersion, Ref, Usage, current_context
from memgang.recall import Check, Formed, Mode, Recalled, Recaller, Sample
from memgang.settings import Settings
from memgang.space import forgetting, looking, names, objects, remembering
from memgang.space.looking import Found, Wanted
from memgang.space.objects import Manner
from memgang.space.remembering import Remembered
from memgang.store import log as logs
from memgang.store.host import Kept
from memgang.store.keys import check_label, check_name
from memgang.store.process import default_agent, principal
from memgang.store.replies import carried
from memgang.store.store import Store
from memgang.streaming import Produce, Stream, Streams


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
        context = current_context.get() or self._self
        return context if self._store.telemetry is None else self._store.telemetry.stamped(context)

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
        manner = Manner(parse_ttl(ttl), tuple(tags), kind, parents, keep)
        if (telemetry := self._store.telemetry) is None:
            ref = await objects.put(self._store, self.context, value, manner, pos, media_type)
        else:
            with telemetry.doing("memgang.put", kind=kind) as span:
                ref = await objects.put(self._store, self.context, value, manner, pos, media_type)
                span.set_attribute("memgang.ref", ref)
        if name is not None:
            await self.set_name(name, ref, expect=expect)
        return ref

    async def put_many(
        self, values: Sequence[Any], *, ttl: TTL = None, tags: Sequence[str] = (), kind: str = "other",
        pos: Sequence[float | None] | None = None, parents: Sequence[Ref] | None = None, keep: bool = True,
    ) -> list[Ref]:
        """Store many values; small ones share scripts and round trips. References in the order of the values.

        One that is refused takes no other with it: all that can be stored are, each with its own record and event, and
        then the first refusal is raised. A repeat of the call stores what is missing.

        Raises:
            CodecError, TooLarge, StoreFull, UnknownReference, StoreUnavailable: of one of them; see `put`.
        """
        manner = Manner(parse_ttl(ttl), tuple(tags), kind, parents, keep)
        if (telemetry := self._store.telemetry) is None:
            return await objects.put_many(self._store, self.context, values, manner, pos)
        with telemetry.doing("memgang.put", kind=kind, count=len(values)):
            return await objects.put_many(self._store, self.context, values, manner, pos)

    async def get(self, ref: str, type: Any = None) -> Any:
        """The value behind a reference (or a name, or a prefix of a reference), decoded afresh.

        ``type`` is the class the value should become; without it, records come back as the class they
        were put as, where that is loaded.

        Raises:
            UnknownReference: there is nothing, or it has expired.
            ObjectLost, IntegrityError, CodecError.
        """
        whole = ref if isinstance(ref, Ref) else await self.resolve(ref)
        if (telemetry := self._store.telemetry) is None:
            return await objects.get(self._store, self.context, whole, type)
        with telemetry.doing("memgang.get", ref=whole):
            return await objects.get(self._store, self.context, whole, type)

    def get_at_hand(self, ref: Ref, type: Any, loop: asyncio.AbstractEventLoop) -> tuple[Any] | None:
        """For a thread other than that of ``loop``, on which the space lives: the value in a tuple, if this host has it.

        Raises:
            CodecError: the bytes are not what the type says.
        """
        if self.settings.audit == "strict" or (kept := self._store.objects.at_hand(ref)) is None:
            return None
        if (telemetry := self._store.telemetry) is None:
            return (objects.taken(self._store, self.context, ref, kept, type, loop),)
        with telemetry.doing("memgang.get", ref=ref):
            return (objects.taken(self._store, self.context, ref, kept, type, loop),)

    async def get_many(self, refs: Sequence[str], type: Any = None) -> list[Any]:
        """Many values, in the order of the references: what this host has by one look, the rest in few round trips.

        Raises:
            UnknownReference: one of them is not there; it names which.
        """
        whole = [ref if isinstance(ref, Ref) else await self.resolve(ref) for ref in refs]
        if (telemetry := self._store.telemetry) is None:
            return await objects.get_many(self._store, self.context, whole, type)
        with telemetry.doing("memgang.get", count=len(whole)):
            return await objects.get_many(self._store, self.context, whole, type)

    async def look(self, ref: str, type: Any = None) -> Any:
        """`get` that leaves no trace: no event, and work under way has not read it. For who watches a space, not for agents.

        Raises:
            UnknownReference: there is nothing, or it has expired.
            ObjectLost, IntegrityError, CodecError.
        """
        return await objects.look(self._store, ref if isinstance(ref, Ref) else await self.resolve(ref), type)

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
        return await objects.described(self._store, refs)

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
        return await forgetting.forget(
            self._store, self.context, ref, cascade=cascade, dry_run=dry_run, reason=reason, remove_names=remove_names)

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
        return await forgetting.invalidate(
            self._store, self.context, source, dry_run=dry_run, reason=reason, remove_names=remove_names)

    async def scrub(self) -> bool:
        """Have the server rewrite its files, so that what was forgotten is on its disk no more; False: it may not, or keeps none.

        Without it the server does so by itself when its log of commands has grown enough.
        """
        return await self._store.rewrite()

    async def pin(self, ref: str, ttl: TTL = "1h", holder: str | None = None) -> int:
        """Keep an object from eviction; the deadline in ms of the server's clock. ``holder`` is an identity.

        Raises:
            UnknownReference: there is nothing to pin.
        """
        whole = await self.resolve(ref)
        ms = parse_ttl(ttl)
        if ms <= 0:
            raise ConfigError("a pin needs a time to end, such as '1h' or '30d'")
        return await objects.pin(self._store, self.context, whole, holder, ms)

    async def unpin(self, ref: str, holder: str | None = None) -> None:
        """End a pin of this holder."""
        await objects.pin(self._store, self.context, await self.resolve(ref), holder, 0)

    # ── names ─────────────────────────────────────────────────────────────────────────────────

    async def set_name(self, name: str, ref: Ref | None, *, expect: int | None = None) -> int:
        """Point a name at an object (None takes the name away) by compare-and-set; its new version.

        ``expect`` is the version seen last, 0 for a new name, None for whatever it is.

        Raises:
            Conflict: the name has moved on; carries the version and the reference it is at.
            UnknownReference: the object is not there.
        """
        return await names.set_name(self._store, self.context, name, ref, expect)

    async def resolve(self, text: str) -> Ref:
        """The reference meant by a reference, a unique prefix of one (``mg:`` and 8 characters or more), or a name.

        Raises:
            UnknownReference: none or more than one is meant; it shows both.
        """
        return await names.resolve(self._store, text)

    async def version(self, name: str) -> NameVersion | None:
        """Where a name points now, with the version that `set_name` expects; None if it never was."""
        return await names.version(self._store, name)

    async def history(self, name: str, limit: int = 1000) -> list[NameVersion]:
        """All versions of a name that are kept, the newest first."""
        return await names.history(self._store, name, limit)

    async def names(self, prefix: str = "") -> dict[str, Ref]:
        """All names that begin with the prefix, in alphabetical order, and where they point."""
        return await names.names(self._store, prefix)

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    async def find(
        self, *, tag: str | None = None, agent: str | None = None, media_type: str | None = None, run: str | None = None,
        kind: str | None = None, since: int | None = None, limit: int = 50, cursor: str = "",
    ) -> Found:
        """Objects that fit all filters, the newest first. A walk of the listing: it costs what it looks at.

        ``since`` is ms of the server's clock; ``cursor`` is the one of the result before.
        """
        return await looking.find(self._store, Wanted(tag, agent, media_type, run, kind), since, limit, cursor)

    async def stats(self) -> dict[str, int]:
        """Totals of the space since it was made: objects, bytes, executions, hits, what was saved. One round trip."""
        return await looking.totals(self._store)

    async def bytes_by_agent(self) -> dict[str, int]:
        """The bytes of what each agent (user/name) was first to write and that is there, the most first. One round trip.

        This is what `agent_budget_bytes` limits. Objects from before version 0.2 are in it from their next read or put on.
        """
        return await looking.by_agent(self._store)

    async def events(self, cursor: str = "", *, run: str | None = None, follow: bool = False) -> AsyncIterator[Event]:
        """The log, oldest first: of one run, or of all; with ``follow``, also what comes from now on."""
        await self.flush()
        source = logs.follow if follow else logs.read
        async for event in source(self._store.wire, self._store.keys, cursor, archive=self._store.archive):
            if run is None or event.run == run:
                yield event

    async def event_pages(self, cursor: str, reading: logs.Reading) -> AsyncGenerator[logs.Page, None]:
        """`events` with ``follow``, in pages that say where to go on. ``reading`` is the same for all that is read of one log:
        with it, a reading that broke off goes on as if it had not; lines it has given may come once more, with the same ids.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        pages = logs.pages(self._store.wire, self._store.keys, cursor, live=True, archive=self._store.archive, reading=reading)
        async with contextlib.aclosing(pages) as all_:
            async for page in all_:
                yield page

    async def has_lost_events(self, cursor: str, reading: logs.Reading | None = None) -> bool:
        """Whether the server has lost events that were read up to this cursor: all is to be read anew then. ``reading``, asked
        with before the first event is read and again later, knows it also where the new log has grown past the cursor.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        return await logs.lost(self._store.wire, self._store.keys, cursor, reading)

    async def flush(self) -> None:
        """Write the events that wait in this process."""
        await self._store.log.flush()

    # ── recall ────────────────────────────────────────────────────────────────────────────────

    async def recall(
        self, call: Call, compute: Callable[[], Awaitable[Any]], *, ttl: TTL = "default", kind: str = "other",
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
        terms = remembering.terms(self.settings, ttl, mode, negative_ttl, refresh_early, stale)
        if sample is not None:
            call, formed = self.sampled(call, sample), None
        if (telemetry := self._store.telemetry) is None:
            recalled = await self._recaller.recall(
                call, compute, context=self.context, terms=terms, kind=kind, pos=pos, tags=tuple(tags), check=check,
                validate=validate, formed=formed)
        else:
            with telemetry.recalling(call) as asked:  # first the span: the events of a recall bear its trace
                recalled = await self._recaller.recall(
                    call, compute, context=self.context, terms=terms, kind=kind, pos=pos, tags=tuple(tags), check=check,
                    validate=validate, formed=formed)
                how = "degraded" if recalled.degraded else "miss" if recalled.how == "computed" else recalled.how
                asked.answered(how, recalled.ref, recalled.usage)
        if self.settings.audit == "strict":
            await self._store.log.flush()
        return recalled

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
        self, call: Call, produce: Produce, *, ttl: TTL = "default", kind: str = "other", pos: float | None = None,
        tags: Sequence[str] = (), sample: Sample = None, restart: str = "error", mode: Mode = "share",
        check: Check | None = None, validate: Callable[[], bytes] | None = None, formed: Formed | None = None,
    ) -> Stream:
        """The call's answer piece by piece while it is made, whoever makes it: ``async for piece in space.stream(...)``.

        ``produce`` gives pieces of str or of bytes; it runs at one of all who ask, on any process, and the others are
        delivered the same from the first piece on. Only a whole answer is kept: the pieces joined, which `recall` of
        the same call finds. One that is there already comes in one piece.

        If the one who makes it fails or dies, another attempt takes over; a reader goes on where that one begins with
        what it was delivered. Otherwise ``restart`` decides: "error" raises, "marker" delivers
        `memgang.streaming.RESTARTED` and begins again. ``mode`` is ``"share"`` or ``"refresh"``. The other options, and
        what else is raised: see `recall`.

        Raises:
            StreamRestarted: what was delivered is not the beginning of the answer.
            CodecError: pieces of another type, or of both.
            ConfigError: another mode; what is for nobody else has no stream to be followed.
        """
        if mode == "private":
            raise ConfigError("mode='private' has no stream: call what produces it, or recall it")
        if sample is not None:
            call, formed = self.sampled(call, sample), None
        whole = formed or self.form(call)

        def recall(compute: Callable[[], Awaitable[Any]]) -> Awaitable[Recalled]:
            return self.recall(call, compute, ttl=ttl, kind=kind, pos=pos, tags=tags, formed=whole, mode=mode, check=check,
                               validate=validate)

        return self._streams.open(whole.key, produce, recall, restart, anew=mode == "refresh")

    def answer_at_hand(
        self, call: Call, formed: Formed, *, usable: Callable[[bytes], bool] | None = None
    ) -> tuple[Answered, Kept] | None:
        """The call's answer and its bytes, if this host has both: a hit without a turn of the loop. None: `recall` it.

        ``usable`` is asked about the validator that was kept with the answer.
        """
        return self._recaller.answer_at_hand(call, formed, self.context, usable=usable)

    def key(self, call: Call) -> str:
        """The key a call has in this space."""
        return self._recaller.form(call).key

    def form(self, call: Call) -> Formed:
        """The call in canonical form with its key, for who needs the key and then recalls the same call."""
        return self._recaller.form(call)

    def once(
        self, function: Callable[..., Any] | None = None, *, ttl: TTL = "default", deps: Sequence[Any] = (),
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
        one = self.remembered(function, deps, version, **options)

        @functools.wraps(function)
        async def recalled(*args: Any, **kwargs: Any) -> Any:
            call, formed = one.asked(args, kwargs)
            if (found := one.at_hand(call, formed, self.context)) is None:
                return await one.ask(call, formed, args, kwargs)
            if self._store.log.crowded:
                await asyncio.sleep(0)
            return found[0]

        return recalled

    def remembered(
        self, function: Callable[..., Any], deps: Sequence[Any] = (), version: str | None = None, *, ttl: TTL = "default",
        kind: str = "other", sample: Sample = None, mode: Mode = "share", negative_ttl: TTL = None,
        refresh_early: float | bool = False, stale: TTL = None,
    ) -> Remembered:
        """What `once` asks with, for who has ways of its own to wait (`memgang.connect`)."""
        remembering.terms(self.settings, ttl, mode, negative_ttl, refresh_early, stale)  # so that a wrong one is told here

        def recall(call: Call, compute: Callable[[], Awaitable[Any]], formed: Formed) -> Awaitable[Recalled]:
            return self.recall(call, compute, formed=formed, ttl=ttl, kind=kind, sample=sample, mode=mode,
                               negative_ttl=negative_ttl, refresh_early=refresh_early, stale=stale)

        plainly = sample is None and mode == "share" and not refresh_early
        return Remembered(function, self._recaller, recall, deps, version, plainly)

    # ── marks of the gang ─────────────────────────────────────────────────────────────────────

    def mark(self, what: str, text: str = "", *, fn: str = "") -> None:
        """An event that changes nothing: phase, planned, join, leave, run_start, run_end, began, ended."""
        self._store.log.add(what, self.context, text=text[:200], fn=fn)

    def note_reference(self, ref: Ref, size: int) -> None:
        """An agent was given a reference and never opened it: these bytes did not travel."""
        self._store.log.add("reference", self.context, obj=ref.id, size=size, why="reference", saved=Usage(bytes=size))

    def note_unchanged(self, ref: Ref, size: int, key: str) -> None:
        """Whoever has this content said that it is still what it was (304): these bytes did not travel again."""
        self._store.log.add("hit", self.context, obj=ref.id, call=key, why="read", saved=Usage(bytes=size))

    def refused(self, text: str) -> None:
        """Something was refused: a limit, a conflict, a wrong reference."""
        self._store.log.add("refused", self.context, text=text[:200])

    async def erase(self) -> None:
        """Remove the whole space with everything in it: for spaces made for one job. Close it next."""
        await carried(self._store.erase(), "read")

    async def settle(self) -> None:
        """Wait until what is under way here has ended, also work whose callers have left. For who is about to `aclose`."""
        await self._recaller.settle()

    async def aclose(self) -> None:
        """Give up what is under way, write what waits and leave. The space and its memory stay."""
        await self._recaller.aclose()
        await self._streams.aclose()
        await self._store.aclose()

    def __memgang_key__(self) -> str:
        return f"space:{self.name}"
