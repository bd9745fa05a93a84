"""Compare: the same work done by agents that work alone, and by a gang that shares its memory.

Every team gets a question (and one team the whole). Isolated, each team has a space of its own, so nothing
it learns reaches another; shared, all have one. Both ways all teams start at once, with the same model and
the same number of agents a team. What is reported comes from the ledgers of both, and beside it stands the lower
bound: every distinct prompt once. That bound is counted at the model itself, by a wrapper that knows nothing
of spaces, so it can contradict the ledger. Every team has the same number of agents both ways, so isolated teams
lose no time by standing in line: what sharing saves then is work and money first, and time where the model is slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from memgang.errors import ConfigError, MemGangError, StoreUnavailable
from memgang.flock.tape import Header, Tape, side_by_side
from memgang.gang import Gang
from memgang.jobs.report import report
from memgang.model import NO_USAGE, Completion, LanguageModel, Prompt, Usage
from memgang.savings import Savings
from memgang.space import Space

OpenSpace = Callable[[str], AbstractAsyncContextManager[Space]]


class Side(msgspec.Struct, frozen=True):
    """One way of doing the work: alone or shared. ``usage`` is physical work; ``asked`` is what reached the model."""

    usage: Usage
    avoided: dict[str, Usage]
    virtual: Usage
    lost: Usage
    wall_s: float
    overhead_s: float
    asked: Usage
    teams: int
    balanced: bool = True  # the books of agents and roles add up to the totals
    tape: Tape | None = None  # what all teams did, side by side, to be played

    @property
    def reuse(self) -> float:
        """Share of the virtual calls that was avoided."""
        return 1 - self.usage.calls / self.virtual.calls if self.virtual.calls else 0.0


class Comparison(msgspec.Struct, frozen=True):
    """Isolated against shared, over the same work."""

    sources: tuple[str, ...]
    questions: tuple[str, ...]
    model: str
    simulated: bool
    agents: int
    isolated: Side
    shared: Side
    unique: Usage  # the lower bound: every distinct prompt once

    @property
    def speedup(self) -> float:
        """Wall time alone over wall time shared."""
        return self.isolated.wall_s / self.shared.wall_s if self.shared.wall_s else 0.0

    def efficiency(self, side: Side) -> float:
        """Time spent in work over the time that all agents of the side had."""
        had = side.wall_s * self.agents * side.teams
        return side.usage.ms / 1000 / had if had else 0.0

    def at_lower_bound(self) -> bool:
        """Whether the shared side asked the model for exactly the unique work, to the call and to the token."""
        return _work(self.shared.asked) == _work(self.unique) == _work(self.shared.usage)

    def adds_up(self) -> bool:
        """Whether the books balance, and what sharing avoided is what the isolated side did more, to the call and to the token."""
        avoided = _sum(self.shared.avoided.values())
        return self.isolated.balanced and self.shared.balanced and _work(self.isolated.usage - self.shared.usage) == _work(
            avoided - _sum(self.isolated.avoided.values()))


class _Counted:
    """A model that counts what reaches it, each distinct prompt told apart."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name, self.price_name, self.version = model.name, model.price_name, model.version
        self.parameters: dict[str, Any] = model.parameters
        self.asked = NO_USAGE
        self.distinct: dict[bytes, Usage] = {}

    async def complete(self, prompt: Prompt) -> Completion:
        answer = await self._model.complete(prompt)
        spent = Usage(llm_calls=1, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out, estimated=answer.estimated)
        self.asked = self.asked + spent
        self.distinct[hashlib.blake2b(msgspec.json.encode(prompt)).digest()] = spent
        return answer

    async def aclose(self) -> None:
        await self._model.aclose()


async def compare(
    open_space: OpenSpace, sources: Sequence[str], questions: Sequence[str], *, model: LanguageModel,
    agents: int = 8, whole: bool = True, on_step: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Do the work both ways. ``open_space`` opens a fresh space by name; its names begin with ``compare-``.

    Raises:
        ConfigError: fewer than two teams: nothing could be shared.
        ReadError: nothing of the sources can be read.
    """
    teams: list[tuple[str, ...]] = [(q,) for q in questions]
    if whole:
        teams.append(())
    if len(teams) < 2:
        raise ConfigError("a comparison needs at least two teams: give one question and the whole, or two questions")
    stamp = f"compare-{time.time_ns() // 1_000_000:x}"[-24:]

    on_step(f"isolated: {len(teams)} teams, a space each")
    alone = _Counted(model)
    async with _spaces(open_space, [f"{stamp}-{i}" for i in range(len(teams))]) as spaces:
        isolated = await _side("isolated", [(s, t) for s, t in zip(spaces, teams, strict=True)], sources, alone, agents)
    on_step(f"shared: {len(teams)} teams, one space")
    together = _Counted(model)
    async with _spaces(open_space, [f"{stamp}-s"]) as spaces:
        shared = await _side("shared", [(spaces[0], t) for t in teams], sources, together, agents)
    unique = _sum(alone.distinct.values())
    return Comparison(tuple(sources), tuple(questions), model.name, model.name.startswith("simulated"), agents,
                      isolated, shared, unique)


@asynccontextmanager
async def _spaces(open_space: OpenSpace, names: Sequence[str]) -> AsyncIterator[list[Space]]:
    opened: list[tuple[AbstractAsyncContextManager[Space], Space]] = []
    try:
        for name in names:
            manager = open_space(name)
            opened.append((manager, await manager.__aenter__()))
        yield [space for _, space in opened]
    finally:
        for manager, space in reversed(opened):
            with contextlib.suppress(StoreUnavailable):  # made for this comparison alone: nothing of it stays
                await space.erase()
            await manager.__aexit__(None, None, None)


async def _side(
    name: str, teams: Sequence[tuple[Space, tuple[str, ...]]], sources: Sequence[str], model: _Counted, agents: int
) -> Side:
    """All teams at once, each with its questions; what the ledgers of their spaces say."""
    spaces = {id(space): space for space, _ in teams}
    gangs = {key: Gang(space, llm=model, concurrency=agents) for key, space in spaces.items()}
    started = time.perf_counter()
    jobs: list[Awaitable[Any]] = [
        report(gangs[id(space)], sources, questions, overview=not questions, agents=agents) for space, questions in teams]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    for gang in gangs.values():
        await gang.aclose()
    wall = time.perf_counter() - started
    for result in results:
        if isinstance(result, MemGangError | asyncio.CancelledError):
            raise result
        if isinstance(result, BaseException):
            raise result
    ledgers: list[Savings] = []
    for key, space in spaces.items():
        await space.flush()
        ledgers.append(await gangs[key].savings(whole=True))
    header = Header(name, title=f"{name}: {', '.join(sources)}"[:200], state="done", model=model.name)
    tape = side_by_side(header, [[event async for event in space.events()] for space in spaces.values()])
    avoided: dict[str, Usage] = {}
    for ledger in ledgers:
        for why, usage in ledger.avoided.items():
            avoided[why] = avoided.get(why, NO_USAGE) + usage
    return Side(
        _sum(x.physical for x in ledgers), avoided, _sum(x.virtual for x in ledgers), _sum(x.lost for x in ledgers),
        wall, sum(x.overhead_us for x in ledgers) / 1e6, model.asked, len(teams),
        all(x.adds_up() for x in ledgers), tape)


def _sum(usages: Any) -> Usage:
    total = NO_USAGE
    for usage in usages:
        total = total + usage
    return total


def _work(usage: Usage) -> tuple[int, int, int]:
    return usage.llm_calls, usage.tokens_in, usage.tokens_out
