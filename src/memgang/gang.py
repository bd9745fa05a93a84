"""A gang: agents over one shared memory, and the shapes in which they work.

    gang = memgang.Gang(space, llm="openai:gpt-5-mini")

    @gang.agent(role="summarise", agents=8)
    async def summarise(part: str) -> str:
        return await gang.llm(f"Summarise for an editor:\\n\\n{part}")

    report = await gang.map_reduce(await gang.read("report.pdf"), map=summarise, reduce=edit)
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast, overload

import msgspec

from memgang import llms
from memgang.agents import Agent, Crew, Progress, model_key
from memgang.asking import Asker
from memgang.engines.asyncio_engine import run_all, together
from memgang.engines.processes import Engine
from memgang.engines.processes import engine as engine_of
from memgang.errors import ConfigError, MemGangError, ModelError, ReadError, StoreFull, StoreUnavailable
from memgang.limits import Limits
from memgang.llms.shipped import shipped
from memgang.model import Call, Completion, LanguageModel, Original, Prompt, Ref, Work, current_work
from memgang.reading import Reading, read_all
from memgang.reads import Manners, Reads
from memgang.savings import Savings, fold
from memgang.settings import Price
from memgang.space import TTL, Space
from memgang.tools import tool

OnError = Literal["skip", "raise"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One item an agent could not do, and why."""

    agent: str
    item: Any
    error: Exception


@dataclass(slots=True)
class Run:
    """One run under way. Set ``result`` to what came of it; ``details`` goes into its record as it is."""

    id: str
    title: str
    command: str = ""
    state: str = "running"  # running, done, failed, stopped
    result: Ref | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Gang:
    """Agents that share one space and one language model. Belongs to one event loop.

    ``llm`` is a language model, its name, or None for that of the settings. ``concurrency`` bounds how many
    outermost agent calls, and how many questions to the model, are under way at once. ``team`` goes before the
    names of its agents. ``prices`` (dollars per million tokens) replace those of the settings. ``engine`` says where
    CPU-bound leaves run (see `engines.processes`; one that is given is not closed), ``workers`` how many processes at most.
    ``limits`` are shared with other gangs, in any process (see `Limits`); without them nothing is asked of the server.
    ``manners`` say how pages are fetched; without them `fetch` asks public addresses alone, and `read` whatever it is given.
    ``failures`` lists what `map` has skipped; ``progress`` is for displays, ``on_progress`` is called when it changes.

    Raises:
        ConfigError: no such model, or concurrency below 1.
    """

    def __init__(
        self, space: Space, llm: str | LanguageModel | None = None, concurrency: int = 16, title: str = "",
        prices: Mapping[str, Price] | None = None, team: str = "",
        engine: Literal["auto", "asyncio", "processes"] | Engine = "auto", workers: int | None = None,
        limits: Limits | None = None, manners: Manners | None = None,
    ) -> None:
        self.space, self.title, self.limits = space, title, limits
        self._owns_llm = not isinstance(llm, LanguageModel)
        model = llm if isinstance(llm, LanguageModel) else llms.load(llm or space.settings.llm, space.settings)
        self._owns_engine = isinstance(engine, str)
        self.engine = engine_of(engine, cpu_bound=getattr(model, "cpu_bound", False), workers=workers,
                                attempts=space.settings.attempts)
        # Without a run of its own its events still belong together, so that `savings` can tell them apart.
        self._crew = Crew(space, model, concurrency, team, space.context.run or run_id(), self.engine)
        self._prices = dict(prices) if prices is not None else space.settings.price_table()
        self._asker = Asker(shipped(model, space.settings, self.engine), self._prices, concurrency,
                            limits, space, lambda: self._crew.run)
        self._reads = Reads(space, manners)
        # A person may name any address to be read; what is fetched is often named by an agent.
        self._reader = self._reads if manners is not None else Reads(space, Manners(anywhere=True))
        self.failures: list[Failure] = []

    @property
    def model(self) -> LanguageModel:
        """The language model its agents ask."""
        return self._crew.llm

    @property
    def run_id(self) -> str:
        """The run its events belong to: the one under way or the last; before the first, one made up for it."""
        return self._crew.run

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._crew.progress

    @property
    def on_progress(self) -> Callable[[Progress], None] | None:
        """Called with the progress whenever it changes; keep it short."""
        return self._crew.on_progress

    @on_progress.setter
    def on_progress(self, callback: Callable[[Progress], None] | None) -> None:
        self._crew.on_progress = callback

    @property
    def price(self) -> Price | None:
        """What its model costs; None where no price is known, and then money is counted as 0."""
        return self._prices.get(self.model.price_name)

    def __memgang_key__(self) -> str:
        return model_key(self.model)

    # ── agents and the model ──────────────────────────────────────────────────────────────────

    def tool(self, function: Callable[..., Any] | None = None, /, **marks: Any) -> Any:
        """Decorator: a `Tool` of this gang's space, with or without marks; see `memgang.Tool` for what they mean."""
        made = tool(self.space, **marks)
        return made if function is None else made(function)

    @overload
    def agent(self, function: Callable[..., Any], /) -> Agent: ...

    @overload
    def agent(
        self, function: None = None, /, *, role: str = "", agents: int = 8, share: bool = True,
        ttl: TTL | int = "default", retries: int = 2, deps: Sequence[Any] = (), version: str | None = None,
        kind: str = "fact", name: str | None = None, cpu_bound: bool | None = None,
    ) -> Callable[[Callable[..., Any]], Agent]: ...

    def agent(
        self, function: Callable[..., Any] | None = None, /, *, role: str = "", agents: int = 8, share: bool = True,
        ttl: TTL | int = "default", retries: int = 2, deps: Sequence[Any] = (), version: str | None = None,
        kind: str = "fact", name: str | None = None, cpu_bound: bool | None = None,
    ) -> Agent | Callable[[Callable[..., Any]], Agent]:
        """Decorator: make an `Agent` of a function; a plain one runs in a thread, or where the engine runs it.

        A parameter annotated ``Ref`` is given references, all others the values behind them. ``agents`` is how
        many of this role work at once. ``share=False`` is for work with side effects: it is not recalled, and done
        again up to ``retries`` times after errors that may pass (of recalled work, the setting ``attempts`` decides).
        ``deps`` names what else decides the answer, ``version`` replaces the version made of source and deps;
        ``kind`` is that of the objects it makes, ``name`` its name in call keys (module and name of the function).
        ``cpu_bound``: a plain function that other processes can import goes to workers with ``engine="processes"``;
        True says so for ``"auto"`` too, False keeps it here (it changes something in this process).
        """
        def made(function: Callable[..., Any]) -> Agent:
            return Agent(self._crew, function, role=role, agents=agents, share=share, ttl=ttl, retries=retries,
                         deps=deps, version=version, kind=kind, name=name, cpu_bound=cpu_bound)

        return made if function is None else made(function)

    async def llm(self, prompt: str | Prompt, *, sample: int | Literal["fresh"] | None = None) -> str:
        """Ask the language model: a recalled call of its own.

        Where the model samples, the i-th ask of one prompt by one agent call within one run is given the i-th sample,
        and so is the i-th ask of every other: a retry or a vote is given fresh answers, which are shared all the same.
        A number asks for that sample, ``"fresh"`` for an answer nobody else is given.

        Raises:
            ModelError: the caller's own key, rights or quota.
            WorkFailed: the model did not answer, as often as is tried.
        """
        call, asked = self._question(prompt)
        outside = current_work.get()

        async def compute() -> str:
            completion, usage = await self._asker.ask(asked)
            if (work := current_work.get()) is not None:
                work.own = work.own + usage
                _made_from(outside, work)
            self.progress.spent = self.progress.spent + usage
            self._crew.changed()
            return completion.text

        recalled = await self.space.recall(call, compute, kind="answer", sample=self._sample(sample))
        if recalled.how != "computed":
            self.progress.saved = self.progress.saved + recalled.usage
        return str(await recalled.value(str))

    async def stream(
        self, prompt: str | Prompt, *, sample: int | Literal["fresh"] | None = None, restart: str = "error",
    ) -> AsyncGenerator[str, None]:
        """As `llm`, piece by piece while it is made: ``async for piece in gang.stream(prompt)``.

        It is the same call as `llm`: whoever asks it, either way and on any process, while it is being answered is
        delivered the same pieces; afterwards the answer comes in one piece. ``restart``: see `Space.stream`.

        Raises:
            StreamRestarted: the answer begins with something else than what was delivered.
            ModelError, WorkFailed: as `llm` raises them.
        """
        call, asked = self._question(prompt)
        outside = current_work.get()

        async def produce() -> AsyncGenerator[str, None]:
            said: list[str] = []
            completion: Completion | None = None
            asking = cast(AsyncGenerator[str | Completion, None], self._asker.stream(asked))
            async with contextlib.aclosing(asking):  # at once, not when it is collected: it holds a place in the line
                async for piece in asking:
                    if isinstance(piece, Completion):
                        completion = piece
                    else:
                        said.append(piece)
                        yield piece
            if completion is None:
                raise ModelError(self.model.name, "transient", "cut", "the stream ended before the answer was whole")
            usage = self._asker.priced(completion)
            if (work := current_work.get()) is not None:
                work.own = work.own + usage
                _made_from(outside, work)
            self.progress.spent = self.progress.spent + usage
            self._crew.changed()
            if "".join(said) != completion.text:
                raise ModelError(self.model.name, "transient", "mismatch", "the pieces of the stream are not its answer")

        stream = self.space.stream(call, produce, kind="answer", sample=self._sample(sample), restart=restart)
        async with contextlib.aclosing(stream):
            async for piece in stream:
                yield piece if isinstance(piece, str) else piece.decode()
        if stream.recalled is not None and stream.recalled.how != "computed":
            self.progress.saved = self.progress.saved + stream.recalled.usage

    def _question(self, prompt: str | Prompt) -> tuple[Call, Prompt]:
        if isinstance(prompt, str):
            prompt = Prompt(instruction=prompt)
        model = self.model
        return Call("llm", model.name, model.version, model=model.name, system=prompt.system,
                    messages=[msgspec.to_builtins(prompt)], parameters=model.parameters), prompt

    def _sample(self, sample: int | Literal["fresh"] | None) -> int | Literal["fresh", "occurrence"]:
        return sample if sample is not None else "occurrence" if _samples(self.model) else 0

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    async def read_documents(self, *sources: str) -> Reading:
        """Read files, folders, globs and URLs into parts; what cannot be read is listed and stops nothing."""
        reader = f"{self._crew.team}.read-1" if self._crew.team else "read-1"
        with self.space.acting_as(agent=reader, role="read", run=self._crew.run):
            return await read_all(self._reader, sources, self.engine)

    async def read(self, *sources: str) -> list[Ref]:
        """The parts of all sources in order.

        Raises:
            ReadError: none of the sources could be read; it says why for the first.
        """
        reading = await self.read_documents(*sources)
        if reading.unreadable and not reading.documents:
            raise ReadError(reading.unreadable[0].source, reading.unreadable[0].reason)
        return reading.parts

    async def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, max_age_s: float | None = None,
    ) -> Original:
        """A page as it stands, asked for once by all: its body is ``await space.get(page.ref)``. See `memgang.reads.Reads.fetch`."""
        with self._acting():
            return await self._reads.fetch(url, headers=headers, max_age_s=max_age_s)

    async def read_file(self, path: str) -> Original:
        """A file as it stands, read once for all while it is unchanged. See `memgang.reads.Reads.read_file`."""
        with self._acting():
            return await self._reads.read_file(path)

    # ── shapes ────────────────────────────────────────────────────────────────────────────────

    async def map(
        self, agent: Agent, items: Iterable[Any], *extra: Any, on_error: OnError = "skip",
    ) -> list[Ref | None]:
        """The agent's answer for each item (``extra`` arguments are the same for all), in the order of the items.

        With ``skip``, an item that fails is None and stands in ``failures``; what would fail every item (the
        model's key, a wrong setting, no room, no server) is raised all the same.
        """
        return await self._map(agent, list(items), extra, on_error, lambda place, ref: None)

    async def _map(
        self, agent: Agent, items: Sequence[Any], extra: tuple[Any, ...], on_error: OnError,
        settled: Callable[[int, Ref | None], None],
    ) -> list[Ref | None]:
        self._crew.plans(agent.role, len(items))

        def told(place: int, outcome: Ref | Exception) -> None:
            if isinstance(outcome, Exception):
                self.failures.append(Failure(agent.role, items[place], outcome))
            settled(place, None if isinstance(outcome, Exception) else outcome)

        outcomes = await run_all(
            items, lambda item: agent.ref(item, *extra), min(agent.agents, self._crew.concurrency),
            stop=lambda error: on_error == "raise" or _fails_all(error), settled=told)
        return [None if isinstance(outcome, Exception) else outcome for outcome in outcomes]

    async def shuffle(self, notes: Iterable[Ref | None], by: Callable[[Any], Any]) -> dict[Any, list[Ref]]:
        """References grouped by what ``by`` says of the value; for a list of keys, under each of them.

        Groups are in the order in which their keys first appear. Only references move; None is left out.
        """
        refs = [note for note in notes if note is not None]
        with self._acting():
            values = await run_all(refs, self.space.get, self._crew.concurrency, stop=lambda error: True)
        groups: dict[Hashable, list[Ref]] = {}
        for ref, value in zip(refs, values, strict=True):
            keys = by(value)
            for key in keys if isinstance(keys, list) else [keys]:
                groups.setdefault(key, []).append(ref)
        return groups

    async def reduce(
        self, agent: Agent, refs: Iterable[Ref | Awaitable[Ref | None] | None], *extra: Any, fan_in: int = 16,
    ) -> Ref:
        """One answer from many: the agent is given a list of at most ``fan_in``, its answers again, up to the last.

        Groups are made by place, so that one changed input changes its own group and those above it, nothing
        else. A group starts when its inputs are there; they may be awaitables. None is left out.

        Raises:
            ConfigError: ``fan_in`` below 2, or nothing to reduce.
        """
        if fan_in < 2:
            raise ConfigError(f"fan_in={fan_in} must be at least 2")
        level: list[Ref | Awaitable[Ref | None] | None] = list(refs)
        nodes: list[asyncio.Task[Ref | None]] = []

        async def node(inputs: Sequence[Ref | Awaitable[Ref | None] | None], last: bool) -> Ref | None:
            there = [i if i is None or isinstance(i, Ref) else await i for i in inputs]
            found = [ref for ref in there if ref is not None]
            if not found or (len(found) == 1 and not last):  # alone in its group: it goes up as it is
                self._crew.plans(agent.role, -1)
                return found[0] if found else None
            return await agent.ref(found, *extra)

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    last = len(level) <= fan_in
                    groups = [level[at: at + fan_in] for at in range(0, len(level), fan_in)]
                    made = [group.create_task(node(inputs, last)) for inputs in groups]
                    nodes += made
                    self._crew.plans(agent.role, len(made))
                    level = list(made)
                    if last:
                        break
        except BaseExceptionGroup:
            pass  # the error itself is raised below, with its own cause
        failed = [error for task in nodes if not task.cancelled() and (error := task.exception()) is not None]
        if failed:
            raise failed[0]
        result = nodes[-1].result() if nodes else None
        if result is None:
            cause = self.failures[-1].error if self.failures else None
            raise ConfigError(f"there is nothing for {agent.role} to reduce") from cause
        return result

    async def map_reduce(
        self, parts: Iterable[Any], *, map: Agent, reduce: Agent, fan_in: int = 16, on_error: OnError = "skip",
    ) -> Ref:
        """Map over the parts and reduce the answers; the reduction starts with the first group that is complete."""
        items = list(parts)
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Ref | None]] = [loop.create_future() for _ in items]

        async def mapped() -> None:
            await self._map(map, items, (), on_error, lambda place, ref: answers[place].set_result(ref))

        results: list[Ref | None] = await together((mapped(), self.reduce(reduce, answers, fan_in=fan_in)))
        assert results[1] is not None
        return results[1]

    # ── runs ──────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def run(
        self, title: str = "", command: str = "", expect: Mapping[str, int] | None = None,
    ) -> AsyncIterator[Run]:
        """A run: everything inside is stamped with its id, and the name ``runs/<id>`` points at its record.

        ``expect`` is how many calls each role will make, for displays, where that is known beforehand.
        """
        run = Run(run_id(), title or self.title, command)
        self._crew.run = run.id  # stays afterwards, so that `savings` can be asked when all is done
        started, state = self._now(), "failed"
        with self.space.acting_as(run=run.id):
            self.space.mark("run_start", run.title)
            for role, planned in (expect or {}).items():
                self._crew.plans(role, planned)
            await self._record(run, started, 0)
            try:
                yield run
                state = "done"
            except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
                state = "stopped"
                raise
            finally:
                run.state = state
                self._crew.leave()
                self.space.mark("run_end", state)
                await self._record(run, started, self._now())

    async def phase(self, name: str) -> None:
        """Mark the beginning of a phase, for displays and for whoever reads the log."""
        self.progress.phase = name
        with self._acting():
            self.space.mark("phase", name)
        self._crew.changed()

    async def savings(self, *, whole: bool = False) -> Savings:
        """What the run (or, if asked, the whole space) has cost, and what the shared memory saved, from the log."""
        await self.space.flush()
        return fold([event async for event in self.space.events(run=None if whole else self._crew.run)],
                    self._prices)

    async def aclose(self) -> None:
        """Give back the model's connections and the workers, if the gang has made them. The space stays open."""
        await self._asker.aclose()
        await self._reads.aclose()
        if self._owns_engine:
            await self.engine.aclose()
        if self._owns_llm:
            await self.model.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _acting(self) -> contextlib.AbstractContextManager[Any]:
        return self.space.acting_as(run=self._crew.run)

    def _now(self) -> int:
        return self.space.store.log.server_ms()

    async def _record(self, run: Run, started: int, ended: int) -> None:
        """The run's record under its name. Without a server the run goes on; it is in no list."""
        price = self.price
        record = {
            "id": run.id, "title": run.title, "command": run.command, "state": run.state, "started": started,
            "ended": ended, "result": str(run.result) if run.result else "", "model": self._crew.model,
            "price": msgspec.to_builtins(price) if price is not None else None, "failures": len(self.failures),
            "details": run.details,
        }
        try:
            await self.space.put(record, name=f"runs/{run.id}", kind="run", parents=())
            await self.space.flush()
        except StoreUnavailable:
            if self.space.settings.fail == "closed":
                raise


def run_id() -> str:
    """A new run's id: sorts by time (UTC, to the millisecond), and no two are the same."""
    now = time.time()
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now * 1000) % 1000:03d}{secrets.token_hex(3)}"


def _samples(model: LanguageModel) -> bool:
    """Whether the model may answer the same prompt in different ways: without a seed, and above temperature 0 or unset."""
    if getattr(model, "deterministic", False) or model.parameters.get("seed") is not None:
        return False
    return model.parameters.get("temperature") != 0


def _made_from(outside: Work | None, answering: Work) -> None:
    """What an agent had read before it asked is what the answer is made of: a prompt holds text, and no references."""
    if outside is not None:
        answering.read.update(dict.fromkeys(outside.read))  # without places: the answer has none of its own


def _fails_all(error: Exception) -> bool:
    """Whether the next item would fail of the same."""
    if isinstance(error, ModelError):
        return error.kind == "caller"
    return isinstance(error, ConfigError | StoreFull | StoreUnavailable) and isinstance(error, MemGangError)
