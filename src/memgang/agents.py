"""An agent: a function, a role and an identity.

    acquire a worker's identity -> a place among all -> recall -> (on a miss) open the references -> the function

The outermost call of an agent holds one of its role's identities and one of the gang's places. Calls it
makes inside hold nothing, so agents that call agents never wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from memgang.engines.processes import Engine
from memgang.errors import ConfigError, StoreUnavailable
from memgang.model import NO_USAGE, Call, Context, LanguageModel, Ref, Usage, Work, current_context, current_work
from memgang.parameters import Parameters
from memgang.recall import BACKOFF_MS, Recalled, classified
from memgang.space import TTL, Space
from memgang.store.keys import check_label
from memgang.versions import version_of

# Whether this task is inside an agent's call already; and the agents whose versions are being made.
_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("memgang_inside_agent", default=False)
_versioned: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("memgang_versioned", default=())


@dataclass(slots=True)
class Step:
    """How far one role is: calls planned (0: nobody said), ended, and of these recalled and failed."""

    planned: int = 0
    done: int = 0
    recalled: int = 0
    failed: int = 0


@dataclass(slots=True)
class Progress:
    """How far a gang is, for a display. ``active`` is the number of agents at work now.

    ``spent`` is what its language models were paid, ``saved`` what hits and joined calls did not spend.
    """

    phase: str = ""
    active: int = 0
    done: int = 0
    hits: int = 0
    joined: int = 0
    computed: int = 0
    failed: int = 0
    spent: Usage = NO_USAGE
    saved: Usage = NO_USAGE
    roles: dict[str, Step] = field(default_factory=dict)

    def of(self, role: str) -> Step:
        """The step of a role, made when it is first asked for."""
        return self.roles.setdefault(role, Step())


class Crew:
    """What all agents of one gang share: the space, the places, the run they are in, and how far they are."""

    def __init__(
        self, space: Space, llm: LanguageModel, concurrency: int, team: str, run: str, engine: Engine,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency={concurrency} must be at least 1")
        self.space, self.llm, self.concurrency, self.run, self.engine = space, llm, concurrency, run, engine
        self.team = check_label("team", team) if team else ""
        self.places = asyncio.Semaphore(concurrency)
        self.progress = Progress()
        self.on_progress: Callable[[Progress], None] | None = None
        self.present: dict[str, str] = {}  # agents that have joined the run, and their roles
        self.model = f"{llm.name}@{llm.version}"

    def changed(self) -> None:
        """Tell whoever displays."""
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def plans(self, role: str, calls: int) -> None:
        """So many calls more are to come (or, below 0, will not): for displays, and for whoever reads the log."""
        self.progress.of(role).planned += calls
        with self.space.acting_as(role=role, run=self.run):
            self.space.mark("planned", str(calls))
        self.changed()

    def ended(self, role: str, recalled: Recalled | None, failed: bool = False) -> None:
        """Count one call that has ended."""
        now, step = self.progress, self.progress.of(role)
        now.done += 1
        step.done += 1
        if failed:
            now.failed += 1
            step.failed += 1
        elif recalled is None or recalled.how == "computed":
            now.computed += 1
        else:
            step.recalled += 1
            now.saved = now.saved + recalled.usage
            if recalled.how == "hit":
                now.hits += 1
            else:
                now.joined += 1
        self.changed()

    def leave(self) -> None:
        """The end of a run: everybody who joined it leaves."""
        for agent, role in self.present.items():
            with self.space.acting_as(agent=agent, role=role, run=self.run):
                self.space.mark("leave")
        self.present.clear()


class Pool:
    """The identities of one role. Who is free longest is next, so that all have their turn."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._free = deque(names)
        self._waiting: deque[asyncio.Future[str]] = deque()
        self._lent = 0

    async def take(self) -> str:
        """An identity of one's own, as soon as one is free."""
        if self._free:
            return self._free.popleft()
        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(turn.result())  # handed over in the moment we were cancelled
            raise

    def borrow(self) -> tuple[str, bool]:
        """An identity without waiting, and whether it is one's own (to be given back) or shared with its holder."""
        if self._free:
            return self._free.popleft(), True
        self._lent += 1
        return self._names[self._lent % len(self._names)], False

    def give(self, name: str) -> None:
        """Back to the pool, or on to the one who waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(name)
                return
        self._free.append(name)


class Agent:
    """A function that works for a gang. Call it for the value, ``ref`` for the reference to it.

    Made by `Gang.agent`, which says what the parameters mean.
    """

    def __init__(
        self, crew: Crew, function: Callable[..., Any], *, role: str = "", agents: int = 8, share: bool = True,
        ttl: TTL | int = "default", retries: int = 2, deps: Sequence[Any] = (), version: str | None = None,
        kind: str = "fact", name: str | None = None, cpu_bound: bool | None = None,
    ) -> None:
        if agents < 1:
            raise ConfigError(f"agents={agents} must be at least 1")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or f"{function.__module__}:{function.__qualname__}"
        self.role = check_label("role", role or function.__name__)
        self.agents, self.share, self.retries, self.kind = agents, share, retries, kind
        self._crew, self._ttl, self._deps = crew, ttl, tuple(deps)
        self._given_version, self._version = version, version
        self._parameters = Parameters(function)
        self._in_workers = crew.engine.takes_agents if cpu_bound is None else cpu_bound
        self._is_async = inspect.iscoroutinefunction(function)
        prefix = f"{crew.team}." if crew.team else ""
        self._pool = Pool([check_label("agent", f"{prefix}{self.role}-{k}") for k in range(1, agents + 1)])

    @property
    def version(self) -> str:
        """The version of the function: as given, else made of its source and what ``deps`` names.

        Made at the first call, when everything the function closes over is there.

        Raises:
            ConfigError: it depends on something that has no version.
        """
        if self._given_version is not None:
            return self._given_version
        under_way = _versioned.get()
        # As part of another's version it is made afresh, and not kept: where agents name each other in a circle,
        # a version would else depend on which of them was asked first.
        if self._version is None or under_way:
            token = _versioned.set((*under_way, id(self)))
            try:
                found = version_of(self.function, self._deps)
            finally:
                _versioned.reset(token)
            if under_way:
                return found
            self._version = found
        return self._version

    def __memgang_key__(self) -> str:
        return f"{self.role}:{'again' if id(self) in _versioned.get() else self.version}"

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value of the call: recalled, or computed by one of all who ask.

        Raises:
            WorkFailed: the function failed; its error is the cause.
            ModelError: the caller's own key or quota.
        """
        done = await self._done(self._parameters.bind(args, kwargs))
        return await done.value(self._parameters.returns) if isinstance(done, Recalled) else done[1]

    async def ref(self, *args: Any, **kwargs: Any) -> Ref:
        """The reference to the value of the call. Raises as the call does."""
        done = await self._done(self._parameters.bind(args, kwargs))
        return done.ref if isinstance(done, Recalled) else done[0]

    def call(self, *args: Any, **kwargs: Any) -> Call:
        """What this call is, to ask the space about it (`Space.key`, `memgang why`)."""
        return self._call(self._parameters.bind(args, kwargs))

    def _call(self, bound: dict[str, Any]) -> Call:
        # The model counts for every agent: whether the function will ask it cannot be seen from outside.
        return Call("function", self.name, self._version or self.version, self._parameters.canonical(bound),
                    model=self._crew.model, parameters=self._crew.llm.parameters)

    async def _done(self, bound: dict[str, Any]) -> Recalled | tuple[Ref, Any]:
        crew = self._crew
        call = self._call(bound)
        recalled: Recalled | None = None
        async with self._worker() as worker:
            formed = crew.space.form(call)
            task = formed.key[:12]
            # As `Space.acting_as`, whose checks these names have passed when the pool and the run were made.
            outside = crew.space.context
            here = Context(f"{outside.who.partition('/')[0]}/{worker}", self.role, crew.run, task, outside.trace)
            token = current_context.set(here)
            try:
                if worker not in crew.present:
                    crew.present[worker] = self.role
                    crew.space.mark("join", self.role)
                try:
                    if self.share:
                        recalled = await crew.space.recall(
                            call, functools.partial(self._perform, bound), ttl=self._ttl, kind=self.kind, formed=formed)
                        done: Recalled | tuple[Ref, Any] = recalled
                    else:
                        done = await self._unshared(bound)
                except Exception:
                    crew.ended(self.role, None, failed=True)
                    raise
                crew.ended(self.role, recalled)
                return done
            finally:
                current_context.reset(token)

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[str]:
        """An identity and a place for the outermost call; a borrowed identity for the calls inside it."""
        crew, outermost = self._crew, not _inside.get()
        # The identity first: whoever holds a place never waits for anything but its own work.
        worker, own = (await self._pool.take(), True) if outermost else self._pool.borrow()
        try:
            if outermost:
                await crew.places.acquire()
            token = _inside.set(True)
            crew.progress.active += 1
            try:
                yield worker
            finally:
                crew.progress.active -= 1
                _inside.reset(token)
                if outermost:
                    crew.places.release()
        finally:
            if own:
                self._pool.give(worker)

    async def _perform(self, bound: dict[str, Any]) -> Any:
        """The work itself: open what is wanted as values, run the function, note what was never opened."""
        crew = self._crew
        crew.changed()
        args, kwargs = self._parameters.spread(await self._parameters.opened(crew.space, bound))
        if self._is_async:
            value = await self.function(*args, **kwargs)
        elif self._in_workers:
            value = await crew.engine.run(self.function, *args, **kwargs)
        else:
            value = await asyncio.to_thread(self.function, *args, **kwargs)  # takes the context along
        work = current_work.get()
        closed = [ref for ref in self._parameters.given(bound) if work is None or ref not in work.read]
        if closed:
            with contextlib.suppress(StoreUnavailable):  # a figure is lost, not the work
                for ref, record in zip(closed, await crew.space.describe_many(closed), strict=True):
                    if record is not None:
                        crew.space.note_reference(ref, record.size)
        return value

    async def _unshared(self, bound: dict[str, Any]) -> tuple[Ref, Any]:
        """Work with side effects: done for every caller, tried again only after errors that may pass."""
        space, outer = self._crew.space, current_work.get()
        work = Work(space.context)
        token = current_work.set(work)
        space.mark("began", fn=self.name)
        try:
            for attempt in range(self.retries + 1):
                try:
                    value = await self._perform(bound)
                    break
                except Exception as error:
                    if attempt == self.retries or classified(error)[0] != "transient":
                        raise
                    await asyncio.sleep(BACKOFF_MS * 2**attempt / 1000)
            return await space.put(value, kind=self.kind, ttl=None if self._ttl == "default" else self._ttl), value
        finally:
            space.mark("ended", fn=self.name)
            current_work.reset(token)
            if outer is not None:
                outer.inner = outer.inner + work.own + work.inner

    def __repr__(self) -> str:
        return f"<agent {self.role}: {self.name}>"


def model_key(llm: LanguageModel) -> str:
    """What of a language model can alter an answer, as text for versions."""
    return msgspec.json.encode([llm.name, llm.version, llm.parameters], order="sorted").decode()
