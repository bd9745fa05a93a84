"""Asking a language model: a place in the line, the answer, and what it cost.

    gang.llm -> recall -> (on a miss) Asker.ask -> prefix gate -> limits -> model (a second time, if it is slow) -> settled

Without `Limits` there is the line of this process alone, and nothing is asked of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memgang import llms
from memgang.errors import ConfigError, ModelError
from memgang.limits import Estimator, Gate, Hedger, Limiter, Limits, Need, Ticket
from memgang.model import Completion, LanguageModel, Prompt, StreamingModel, Usage, current_work
from memgang.settings import Price
from memgang.space import Space
from memgang.store.quotas import End
from memgang.telemetry import Inference

LIMITED_TRIES = 10  # times a call is sent again because the provider said 429, before that counts as a failed attempt
ATTEMPTS = 4  # under way at once of one call: of many calls that are slow, some are slow a second time
SLOW_CODES = ("timeout", "408", "503", "504", "529")


@dataclass(slots=True)
class _Attempt:
    """One sending of a call: when it went out, and whether the provider may have worked on it."""

    sent: asyncio.Future[None]
    first: Callable[[], None] | None = None  # called at the first token
    began: float = 0.0
    out: bool = False
    answer: Completion | None = None


@dataclass(slots=True)
class _Call:
    """One question under way."""

    prompt: Prompt
    need: Need
    attempts: list[_Attempt] = field(default_factory=list)


class Asker:
    """All questions of one gang to its model. Belongs to one event loop."""

    def __init__(
        self, model: LanguageModel, prices: Mapping[str, Price], concurrency: int,
        limits: Limits | None = None, space: Space | None = None, run: Callable[[], str] = str,
    ) -> None:
        self.model = model
        self._prices = prices
        self._places = asyncio.Semaphore(concurrency)
        self._space, self._run = space, run
        self._telemetry = space.store.telemetry if space is not None else None
        self._provider = model.name.partition(":")[0]
        self._limiter: Limiter | None = None
        self._gate: Gate | None = None
        self.hedger = Hedger(limits.hedge if limits is not None else 0.0)
        price = prices.get(model.price_name)
        self._estimator = Estimator(model, price)
        if limits is not None and space is not None:
            if limits.counts_money and price is None:
                raise ConfigError(f"dollars cannot be limited: no price is known for {model.price_name}; "
                                  "name a file with it in MEMGANG_PRICES, or give prices=")
            if limits.shared:
                self._limiter = Limiter(space.store, limits, model.name)
            if limits.prefix_gate:
                self._gate = Gate(space.store, model.name)
        self._limits = limits
        self._first = asyncio.Lock()

    async def ask(self, prompt: Prompt) -> tuple[Completion, Usage]:
        """The model's answer and its cost. Raises what the model raises.

        Raises:
            BudgetExceeded, CallTooLarge: the limits do not let it begin, now or ever.
        """
        async with self._place(), self._measured():
            if self._limits is None:
                completion = await self._complete(prompt, None)
                return completion, self.priced(completion)
            call = _Call(prompt, self._estimator.need(prompt))
            async with self._through(prompt) as first:
                self.hedger.began()
                completion = await self._hedged(call, first)
            usage = self.priced(completion)
            for attempt in call.attempts:
                if attempt.answer is not None and attempt.answer is not completion:
                    usage = usage + self.priced(attempt.answer)  # both were there at the same moment
                elif attempt.out:  # sent, and its answer not waited for: no provider says what it had cost by then
                    usage = usage + self.priced(_lost(completion))
            return completion, usage

    async def stream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Pieces of the answer, and last the whole; from a model that does not stream, the answer in one piece."""
        async with self._place(), self._measured():
            need = self._estimator.need(prompt) if self._limits is not None else Need(0, 0, 0)
            async with self._through(prompt) as first:
                for tries in range(LIMITED_TRIES + 1):
                    began, ended, ticket = False, None, await self._enter(need)
                    try:
                        async for piece in self._pieces(prompt):
                            if first is not None:
                                first()
                            began = True
                            if isinstance(piece, Completion):
                                ended = piece
                            yield piece
                    except ModelError as error:
                        await self._fell(ticket, need, error)
                        ticket = None
                        if began or not _limited(error) or tries == LIMITED_TRIES or self._limiter is None:
                            raise
                        continue
                    finally:
                        if ticket is not None:  # not whole: the reader has left, and it may be billed in full
                            await self._leave(ticket, "ok" if ended is not None else "failed", need, prompt, ended)
                    return

    def priced(self, completion: Completion) -> Usage:
        """What a completion used, with its price, counted as one call of the model."""
        price = self._prices.get(self.model.price_name)
        return Usage(llm_calls=1, tokens_in=completion.tokens_in, tokens_out=completion.tokens_out,
                     tokens_cached=completion.tokens_cached, estimated=completion.estimated,
                     micro_usd=llms.price(completion, price) if price is not None else 0)

    async def aclose(self) -> None:
        """Tell those who share the limits of all that has ended."""
        if self._limiter is not None:
            await self._limiter.aclose()

    # ── one attempt, or more ──────────────────────────────────────────────────────────────────

    async def _hedged(self, call: _Call, first: Callable[[], None] | None) -> Completion:
        """The answer of the first attempt or, where that is unusually slow, of whichever of several is there first."""
        delay = self.hedger.delay_s(call.need.out)
        if delay is None:
            return await self._attempt(call, self._new(call, first))
        tasks: list[asyncio.Task[Completion]] = []
        failed: Exception | None = None
        try:
            while True:
                more = failed is None and len(call.attempts) < ATTEMPTS
                if not tasks or (more and self._may_hedge()):
                    attempt = self._new(call, first)
                    tasks.append(asyncio.create_task(self._attempt(call, attempt)))
                    # The delay counts from when it is sent: to stand in line is not to be slow.
                    either: list[asyncio.Future[Any]] = [*tasks, attempt.sent]
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.wait(tasks, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                else:
                    # Where the bucket is empty, other calls fill it.
                    await asyncio.wait(tasks, timeout=delay if more else None, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in tasks if task.done()]:
                    if (error := task.exception()) is None:
                        return task.result()
                    assert isinstance(error, Exception)
                    failed = failed or error
                    tasks.remove(task)  # another may still answer
                if failed is not None and not tasks:
                    raise failed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _may_hedge(self) -> bool:
        """Whether one more attempt may be made of a call that is slow; not while nobody may begin."""
        return not (self._limiter is not None and self._limiter.paused_s > 0) and self.hedger.take()

    def _new(self, call: _Call, first: Callable[[], None] | None) -> _Attempt:
        attempt = _Attempt(asyncio.get_running_loop().create_future(), first)
        call.attempts.append(attempt)
        return attempt

    async def _attempt(self, call: _Call, attempt: _Attempt) -> Completion:
        """Send it, and again after the pause a provider asks for with 429. Those are no failed attempts of the call."""
        for tries in range(LIMITED_TRIES + 1):
            ticket = await self._enter(call.need, waiting=attempt is call.attempts[0])
            attempt.began, attempt.out = time.perf_counter(), True
            if not attempt.sent.done():
                attempt.sent.set_result(None)
            ended: Completion | None = None
            try:
                ended = attempt.answer = await self._complete(call.prompt, attempt.first)
                attempt.out = False
            except ModelError as error:
                attempt.out = False
                await self._fell(ticket, call.need, error)
                ticket = None
                if not _limited(error) or tries == LIMITED_TRIES or self._limiter is None:
                    raise
                continue
            finally:
                if ticket is not None:
                    await self._leave(ticket, "ok" if ended is not None else "failed", call.need, call.prompt, ended)
            self.hedger.took(time.perf_counter() - attempt.began, call.need.out)
            return ended
        raise AssertionError("the last try returns or raises")

    async def _complete(self, prompt: Prompt, first: Callable[[], None] | None) -> Completion:
        """The whole answer; by pieces where somebody waits for the first of them."""
        if (telemetry := self._telemetry) is None:
            return await self._answer(prompt, first)
        with telemetry.asking(self._provider, self.model.price_name, self.model.parameters) as asked:
            completion = await self._answer(prompt, first)
            _told(asked, completion)
            return completion

    async def _answer(self, prompt: Prompt, first: Callable[[], None] | None) -> Completion:
        if first is None or not isinstance(self.model, StreamingModel):
            return await self.model.complete(prompt)
        whole: Completion | None = None
        async for piece in self.model.stream(prompt):
            first()
            if isinstance(piece, Completion):
                whole = piece
        if whole is None:
            raise ModelError(self.model.name, "transient", "cut", "the stream of the answer ended before its end")
        return whole

    async def _pieces(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        if not isinstance(self.model, StreamingModel):
            completion = await self._complete(prompt, None)
            yield completion.text
            yield completion
        elif self._telemetry is None:
            async for piece in self.model.stream(prompt):
                yield piece
        else:
            asked = self._telemetry.sending(self._provider, self.model.price_name, self.model.parameters, stream=True)
            try:
                async for piece in self.model.stream(prompt):
                    if isinstance(piece, Completion):
                        _told(asked, piece)
                    yield piece
            except BaseException as error:
                asked.end(error)
                raise
            finally:
                asked.end()

    # ── the lines ─────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        began = time.perf_counter()
        async with self._places:  # a leaf: nobody who holds it waits for an agent
            _not_work(began)
            yield

    @contextlib.asynccontextmanager
    async def _measured(self) -> AsyncIterator[None]:
        """Where money is limited, one call goes first: what is reserved for many at once must not be a guess."""
        async with contextlib.AsyncExitStack() as alone:
            if self._limits is not None and self._limits.counts_money and not self._estimator.known():
                began = time.perf_counter()
                await alone.enter_async_context(self._first)
                _not_work(began)
                if self._estimator.known():
                    await alone.aclose()
            yield

    @contextlib.asynccontextmanager
    async def _through(self, prompt: Prompt) -> AsyncIterator[Callable[[], None] | None]:
        if self._gate is None:
            yield None
            return
        began = time.perf_counter()
        async with self._gate.through(prompt) as first:
            _not_work(began)
            yield first

    async def _enter(self, need: Need, waiting: bool = True) -> Ticket | None:
        if self._limiter is None:
            return None
        assert self._space is not None
        began, context = time.perf_counter(), self._space.context
        try:
            return await self._limiter.enter(need, run=context.run or self._run(), who=context.who)
        finally:
            if waiting:
                _not_work(began)

    async def _leave(self, ticket: Ticket, how: End, need: Need, prompt: Prompt, ended: Completion | None) -> None:
        assert self._limiter is not None
        if ended is None:
            await self._limiter.leave(ticket, how, tokens=need.tokens, micro_usd=need.micro_usd)
            return
        self._estimator.used(prompt, ended)
        await self._limiter.leave(
            ticket, how, tokens=ended.tokens_in + ended.tokens_out, micro_usd=self.priced(ended).micro_usd)

    async def _fell(self, ticket: Ticket | None, need: Need, error: ModelError) -> None:
        """An attempt that failed: a refusal costs nothing, what was broken off may have cost all that was reserved."""
        if ticket is None or self._limiter is None:
            return
        slow = error.code.startswith(SLOW_CODES)
        refused = error.code[:1].isdigit() or error.kind != "transient"
        how: End = "limited" if _limited(error) else "slow" if slow else "failed"
        await self._limiter.leave(ticket, how, tokens=0 if refused else need.tokens,
                                  micro_usd=0 if refused else need.micro_usd, retry_after_s=error.retry_after_s)


def _told(asked: Inference, completion: Completion) -> None:
    asked.answered(completion.tokens_in, completion.tokens_out, completion.tokens_cached, estimated=completion.estimated,
                   finish=completion.finish)


def _limited(error: ModelError) -> bool:
    """Whether the provider said that there are too many requests."""
    return error.kind == "transient" and error.code.startswith("429")


def _lost(winner: Completion) -> Completion:
    """What an attempt that was given up is taken to have cost: as much as the one that answered the same prompt."""
    return Completion(text="", tokens_in=winner.tokens_in, tokens_out=winner.tokens_out, estimated=True)


def _not_work(began: float) -> None:
    """Standing in line is not work."""
    if (work := current_work.get()) is not None:
        work.inner_ms += (time.perf_counter() - began) * 1000
