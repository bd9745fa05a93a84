"""What a gang with limits does with its model: waits, retries, refuses, hedges, and lets one go first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.gates import until

import memgang
from memgang.errors import BudgetExceeded, CallTooLarge, ModelError, StoreUnavailable, WorkFailed
from memgang.limits import Gate, Hedger, Limiter, Limits, Need
from memgang.limits.limiter import PURSES_MAX
from memgang.llms.simulated import Simulated
from memgang.model import Completion, Prompt
from memgang.space import Space
from memgang.store import quotas

LONG = "The audit of the northern plant found three faults. " * 120  # well over 1,024 tokens


class Model(Simulated):
    """Simulated, and does what each test scripts for its calls, one after the other; then it answers at once."""

    def __init__(self, *script: Any, **kwargs: Any) -> None:
        super().__init__(**{"latency_ms": 0, "tokens_per_s": 0, **kwargs})
        self.script, self.calls, self.under_way, self.cancelled = list(script), 0, 0, 0

    async def complete(self, prompt: Prompt) -> Completion:
        self.calls += 1
        act = self.script.pop(0) if self.script else None
        self.under_way += 1
        try:
            if isinstance(act, BaseException):
                raise act
            if isinstance(act, asyncio.Event):
                await act.wait()
            completion = await super().complete(prompt)
            return msgspec.structs.replace(completion, text=completion.text or "So it is.", tokens_out=completion.tokens_out or 100)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1


def limited(retry_after_s: float = 0.05) -> ModelError:
    return ModelError("simulated", "transient", "429 simulated", "slow down", retry_after_s)


async def keys_of(space: Space, name: str = "simulated 60") -> dict[str, int]:
    """How much of a limit is held at the server: places, line, fields of tickets."""
    limit, wire = space.store.keys.limit(name), space.store.wire
    fields = await wire.call("HKEYS", limit)
    return {"places": await wire.call("ZCARD", f"{limit}:p"), "line": await wire.call("ZCARD", f"{limit}:q"),
            "tickets": sum(f[:2] in (b"b:", b"w:") for f in fields)}


NOTHING = {"places": 0, "line": 0, "tickets": 0}


async def test_without_limits_nothing_more_is_asked_of_the_server(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """No script of limits runs, and nothing of theirs is kept."""
    async def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("asked the server about limits")

    monkeypatch.setattr(quotas, "_run", never)

    async with memgang.Gang(space, Model()) as gang:
        assert await gang.llm("Why?")


async def test_a_429_is_waited_out_and_is_no_failed_attempt(space: Space) -> None:
    """More refusals than a flight has attempts, and the one call is answered by its first attempt."""
    model = Model(*[limited() for _ in range(5)])

    async with memgang.Gang(space, model, limits=Limits(concurrency=4)) as gang:
        assert await gang.llm("Why?")

    assert model.calls == 6
    assert not [e for e in [e async for e in space.events()] if e.raw in ("failed", "taken")]
    assert await keys_of(space) == NOTHING


async def test_endless_429s_end(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that only refuses is not asked for ever; the refusal is then an error of the flight."""
    monkeypatch.setattr("memgang.asking.LIMITED_TRIES", 2)
    model = Model(*[limited(0.01) for _ in range(50)])

    async with memgang.Gang(space, model, limits=Limits(concurrency=4)) as gang:
        with pytest.raises((ModelError, WorkFailed)):
            await gang.llm("Why?")

    assert model.calls <= 9


async def test_cancelled_waiters_leave_nothing_behind(space: Space) -> None:
    """Callers that leave the line, or the moment they are let in, hold no place, no turn and no reservation."""
    gate = asyncio.Event()
    model = Model(gate)
    async with memgang.Gang(space, model, concurrency=64, limits=Limits(concurrency=1, usd=1.0)) as gang:
        asker = gang._asker
        first = asyncio.create_task(asker.ask(Prompt(instruction="first")))
        await until(lambda: _true(model.under_way == 1))
        waiting = [asyncio.create_task(asker.ask(Prompt(instruction=f"{n}"))) for n in range(30)]
        for n, task in enumerate(waiting):
            await asyncio.sleep(0.0005 * (n % 4))
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: _same(space, {"places": 1, "line": 0, "tickets": 1}))  # nobody asks any more who could tidy up
        gate.set()
        await first
        assert await asyncio.wait_for(asker.ask(Prompt(instruction="after")), 30)
    assert await keys_of(space) == NOTHING
    purse = space.store.keys.purse(f"run {gang.run_id}")
    assert int(await space.store.wire.call("HGET", purse, "held")) == 0
    assert await space.store.wire.call("ZCARD", f"{purse}:r") == 0


async def _same(space: Space, expected: dict[str, int]) -> bool:
    return await keys_of(space) == expected


async def _true(value: bool) -> bool:
    return value


async def test_a_call_larger_than_the_limit_itself_is_refused_at_once(space: Space) -> None:
    """It could never begin; the error says how large it is, and what to do."""
    async with memgang.Gang(space, Model(), limits=Limits(tokens_per_minute=1000)) as gang:
        with pytest.raises(CallTooLarge, match="1,000") as refused:
            await gang.llm(LONG)
        assert "tokens_per_minute" in refused.value.hint
        assert await gang.llm("Why?")


async def test_a_used_up_budget_is_the_callers_own_and_says_the_figures(space: Space) -> None:
    """Nobody else is told, nothing is remembered, and the same call is answered when there is money."""
    model = Model()
    async with memgang.Gang(space, model, limits=Limits(usd=0.000001)) as poor:
        with pytest.raises(BudgetExceeded, match=r"\$0.000001") as broke:
            await poor.llm("Why?")
    assert broke.value.kind == "caller" and broke.value.limit == 1 and broke.value.needed > 1 and model.calls == 0

    async with memgang.Gang(space, model, limits=Limits(usd=1.0)) as rich:
        assert await rich.llm("Why?")


async def test_a_budget_is_of_one_run_or_of_a_name(space: Space) -> None:
    """Without a name a new run has money again; with one, all that give it share it. What is in memory costs nothing."""
    async def ask(question: str, **limits: Any) -> str:
        async with memgang.Gang(space, Model(), limits=Limits(**limits)) as gang, gang.run():
            return await gang.llm(question)

    one = 0.0007  # enough for one call at its worst, not for two
    assert await ask("one", usd=one) and await ask("two", usd=one)
    assert await ask("three", usd=one, name="till")
    with pytest.raises(BudgetExceeded):
        for n in range(20):
            await ask(f"four {n}", usd=one, name="till")
    assert await ask("three", usd=0.0, name="till")


@pytest.mark.parametrize("wrong", [
    {"concurrency": 1.5}, {"requests_per_minute": float("nan")}, {"tokens_per_minute": "many"}, {"concurrency": True},
    {"usd": "2"}, {"usd_per_agent": True}, {"hedge": None}, {"per_s": "60"}], ids=str)
def test_limits_that_are_no_numbers_are_refused(wrong: dict[str, Any]) -> None:
    """One and a half calls at once would be two, and NaN no limit at all."""
    with pytest.raises(memgang.errors.ConfigError, match=next(iter(wrong))):
        Limits(**wrong)


async def test_a_cap_holds_for_a_model_that_uses_far_more_than_the_rule_says(space: Space) -> None:
    """Many ask at once before anybody knows what a call costs: one goes first, and the rest reserve what it cost."""
    class Thinking(Model):
        async def complete(self, prompt: Prompt) -> Completion:
            await asyncio.sleep(0)
            return msgspec.structs.replace(await super().complete(prompt), tokens_out=5_000)

    one = 10_100  # micro-dollars, about: 5,000 tokens at $2 a million, and the prompt
    async with memgang.Gang(space, Thinking(), limits=Limits(usd=3.5 * one / 1e6)) as gang:
        done = await asyncio.gather(*(gang.llm(f"Why {n}?") for n in range(16)), return_exceptions=True)
        spent = gang.progress.spent.micro_usd
    assert 2 <= sum(isinstance(answer, str) for answer in done) <= 4
    assert spent <= 3.5 * one
    assert all(isinstance(answer, (str, BudgetExceeded)) for answer in done)


async def test_dollars_need_a_price(space: Space) -> None:
    """A cap that could not be kept is refused."""
    with pytest.raises(memgang.MemGangError, match="price"):
        memgang.Gang(space, Model(), prices={}, limits=Limits(usd=1.0))


async def test_to_stand_in_line_is_not_work(space: Space) -> None:
    """The time in line is not in the usage of the call."""
    model = Model(limited(1.0))
    async with memgang.Gang(space, model, limits=Limits(concurrency=1)) as gang:
        await gang.llm("Why?")
    done = [e async for e in space.events() if e.raw == "committed"]

    assert done and all(e.own.ms < 900 for e in done)


async def test_without_the_server_the_limits_go_on_with_this_process_share(
    space: Space, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Places and money are kept by this process; what was spent is told when the server is back."""
    async with memgang.Gang(space, Model(), limits=Limits(concurrency=2, usd=0.01, name="p")) as gang:
        asker = gang._asker
        await asker.ask(Prompt(instruction="before"))
        gates = [asyncio.Event() for _ in range(3)]
        model = gang.model
        assert isinstance(model, Model)
        model.script = list(gates)
        real = quotas._run

        async def away(*args: Any, **kwargs: Any) -> Any:
            raise StoreUnavailable("away")

        monkeypatch.setattr(quotas, "_run", away)
        calls = [asyncio.create_task(asker.ask(Prompt(instruction=f"{n}"))) for n in range(3)]
        await until(lambda: _true(model.under_way == 2))
        for gate in gates:
            gate.set()
        spent = sum(usage.micro_usd for _, usage in await asyncio.gather(*calls))
        with pytest.raises(BudgetExceeded):
            for n in range(100):
                spent += (await asker.ask(Prompt(instruction=f"more {n}")))[1].micro_usd
        assert spent <= 10_000
        monkeypatch.setattr(quotas, "_run", real)
        with pytest.raises(BudgetExceeded) as told:
            for n in range(100):
                spent += (await asker.ask(Prompt(instruction=f"again {n}")))[1].micro_usd
    assert told.value.spent >= spent


async def test_what_calls_had_reserved_without_the_server_and_did_not_spend_comes_back(
    space: Space, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process's share is used up by what was spent: not by calls that were refused, nor by those that left the line."""
    model = Model()
    async with memgang.Gang(space, model, limits=Limits(concurrency=1, usd=0.01, name="share")) as gang:
        await gang._asker.ask(Prompt(instruction="before"))

        async def away(*args: Any, **kwargs: Any) -> Any:
            raise StoreUnavailable("away")

        monkeypatch.setattr(quotas, "_run", away)
        model.script = [ModelError("simulated", "permanent", "400", "cannot be done") for _ in range(100)]
        for n in range(100):
            with pytest.raises(ModelError, match="cannot be done"):
                await gang._asker.ask(Prompt(instruction=f"{n}"))
        gate = asyncio.Event()
        model.script = [gate]
        first = asyncio.create_task(gang._asker.ask(Prompt(instruction="first")))
        await until(lambda: _true(model.under_way == 1))
        assert gang._asker._limiter is not None
        alone = gang._asker._limiter._alone
        for n in range(100):
            before = alone._left or 0
            waiting = asyncio.create_task(gang._asker.ask(Prompt(instruction=f"left {n}")))
            await until(lambda: _true((alone._left or 0) < before or waiting.done()))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        gate.set()
        await first
        await gang._asker.ask(Prompt(instruction="after"))


async def test_a_purse_of_long_ago_goes_on_where_it_was(space: Space) -> None:
    """A limiter keeps the sums of the latest purses alone; what is paid from an older one is counted all the same."""
    limiter = Limiter(space.store, Limits(usd=1.0), "simulated")

    async def pay(run: str) -> None:
        ticket = await limiter.enter(Need(10, 5, 100), run=run, who="u/a")
        await limiter.leave(ticket, "ok", tokens=10, micro_usd=100)

    for run in ("first", *(f"r{n}" for n in range(PURSES_MAX + 1)), "first"):
        await pay(run)
    await limiter.aclose()
    assert await space.store.wire.call("HGET", space.store.keys.purse("run first"), "paid") == b"200"


async def test_who_waits_for_its_own_money_steps_out_of_the_line_of_its_process(space: Space) -> None:
    """Another agent, or another run, of the same gang is let in meanwhile; the agent's own next call is not."""
    limiter = Limiter(space.store, Limits(concurrency=5, usd_per_agent=0.0001), "simulated")
    need = Need(10, 5, 60)
    first = await limiter.enter(need, run="r", who="u/ann")
    second = asyncio.create_task(limiter.enter(need, run="r", who="u/ann"))
    third = asyncio.create_task(limiter.enter(Need(10, 5, 1), run="r", who="u/ann"))
    await until(lambda: _waits(space, 1))

    async with asyncio.timeout(20):
        others = [await limiter.enter(need, run="r", who="u/bob"), await limiter.enter(need, run="s", who="u/ann")]
    assert not second.done() and not third.done()

    await limiter.leave(first, "ok", tokens=10, micro_usd=1)
    async with asyncio.timeout(20):
        mine = [await second, await third]
    for ticket in [*others, *mine]:
        await limiter.leave(ticket, "ok", tokens=10, micro_usd=1)
    await limiter.aclose()
    assert await keys_of(space) == NOTHING


async def _waits(space: Space, count: int) -> bool:
    return (await keys_of(space))["line"] == count


# ── hedging ────────────────────────────────────────────────────────────────────────────────────


async def warmed(space: Space, model: Model, **limits: Any) -> memgang.Gang:
    gang = memgang.Gang(space, model, limits=Limits(hedge=0.1, **limits))
    for n in range(25):
        await gang.llm(f"warm {n}")
    return gang


async def test_a_slow_call_is_asked_twice_and_the_loser_is_cancelled_and_counted(space: Space) -> None:
    """The second attempt answers; both are in the usage of the call, the loser as an estimate."""
    model = Model(latency_ms=5)
    async with await warmed(space, model, concurrency=8) as gang:
        model.script = [asyncio.Event()]  # never answers
        completion, usage = await asyncio.wait_for(gang._asker.ask(Prompt(instruction="slow")), 30)

    assert completion.text and usage.llm_calls == 2 and usage.estimated
    assert usage.tokens_in == 2 * completion.tokens_in
    assert model.cancelled == 1 and model.under_way == 0
    assert await keys_of(space) == NOTHING


async def test_when_the_second_attempt_fails_the_first_may_still_answer(space: Space) -> None:
    """An error of one attempt is not the error of the call while the other is under way."""
    gate = asyncio.Event()
    model = Model(latency_ms=5)
    async with await warmed(space, model) as gang:
        model.script = [gate, ModelError("simulated", "transient", "500", "broken")]
        asked = asyncio.create_task(gang._asker.ask(Prompt(instruction="slow")))
        await until(lambda: _true(model.calls == 27))
        gate.set()
        completion, usage = await asyncio.wait_for(asked, 30)

    assert completion.text and usage.llm_calls == 1


async def test_a_call_that_is_cancelled_takes_both_attempts_along(space: Space) -> None:
    """Nobody is left to answer to."""
    model = Model(latency_ms=5)
    async with await warmed(space, model, concurrency=8) as gang:
        model.script = [asyncio.Event(), asyncio.Event()]
        asked = asyncio.create_task(gang._asker.ask(Prompt(instruction="slow")))
        await until(lambda: _true(model.under_way == 2))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert model.under_way == 0 and model.cancelled == 2
    assert await keys_of(space) == NOTHING


def test_hedges_are_few_and_wait_for_samples() -> None:
    """No delay is known before enough calls were seen; the bucket gives at most its share of them."""
    hedger = Hedger(0.05)
    taken = 0
    for n in range(1000):
        hedger.began()
        assert (hedger.delay_s(100) is None) == (n < 20)
        hedger.took(0.1, 100)
        taken += hedger.take()

    assert taken <= 0.05 * 1000 + 1
    delay = hedger.delay_s(100)
    assert delay is not None and 0.1 < delay < 0.2


# ── the prefix gate ────────────────────────────────────────────────────────────────────────────


class Streaming(Model):
    """Its stream stops at a gate before its first piece, and at another behind it."""

    def __init__(self) -> None:
        super().__init__(cache=1)
        self.first, self.rest, self.streams = asyncio.Event(), asyncio.Event(), 0

    async def stream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        self.streams += 1
        await self.first.wait()
        async for piece in super().stream(prompt):
            yield piece
            await self.rest.wait()


async def test_one_goes_first_and_the_rest_follow_at_its_first_token(space: Space) -> None:
    """Before it nobody is sent; after it all are, before the first has ended; and they find its prefix in the cache."""
    model = Streaming()
    async with memgang.Gang(space, model, limits=Limits(prefix_gate=True)) as gang:
        asked = [asyncio.create_task(gang._asker.ask(Prompt(instruction=LONG, question=f"{n}?"))) for n in range(5)]
        other = await gang._asker.ask(Prompt(instruction="short"))
        await until(lambda: _true(model.streams == 1))
        assert other[0].text and model.calls == 1, "a short prompt waits for nobody"
        model.first.set()
        await until(lambda: _true(model.calls == 5))
        model.rest.set()
        answers = [completion for completion, _ in await asyncio.gather(*asked)]

    assert sorted(a.tokens_cached > 0 for a in answers) == [False, True, True, True, True]


async def test_when_the_first_fails_the_next_goes_first(space: Space) -> None:
    """One failure lets one other through, not all."""
    model = Model(ModelError("simulated", "permanent", "400", "no"), cache=1)
    model.stream = None  # type: ignore[assignment,method-assign]  # as of a model that does not stream
    async with memgang.Gang(space, model, limits=Limits(prefix_gate=True)) as gang:
        asked = [asyncio.create_task(gang._asker.ask(Prompt(instruction=LONG, question=f"{n}?"))) for n in range(4)]
        ended = await asyncio.gather(*asked, return_exceptions=True)

    answers = [e[0] for e in ended if not isinstance(e, BaseException)]
    assert len(answers) == 3 and sum(a.tokens_cached > 0 for a in answers) == 2


async def test_the_gate_is_one_for_two_gangs_of_a_space(opened: Any) -> None:
    """What another process is reading to the provider is waited for; the wait has an end."""
    async with opened() as one, opened() as two:
        first, second = Streaming(), Model()
        async with (memgang.Gang(one, first, limits=Limits(prefix_gate=True)) as a,
                    memgang.Gang(two, second, limits=Limits(prefix_gate=True)) as b):
            lead = asyncio.create_task(a._asker.ask(Prompt(instruction=LONG, question="1")))
            await until(lambda: _true(first.streams == 1))
            follow = asyncio.create_task(b._asker.ask(Prompt(instruction=LONG, question="2")))
            done, _ = await asyncio.wait([follow], timeout=0.3)
            assert not done and second.calls == 0
            first.first.set()
            first.rest.set()
            await asyncio.gather(lead, follow)


async def test_nobody_waits_at_the_gate_for_longer_than_its_bound(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first call that hangs holds up nobody for good."""
    monkeypatch.setattr("memgang.limits.gate.GATE_S", 0.2)
    model = Streaming()
    async with memgang.Gang(space, model, limits=Limits(prefix_gate=True)) as gang:
        lead = asyncio.create_task(gang._asker.ask(Prompt(instruction=LONG, question="1")))
        await until(lambda: _true(model.streams == 1))
        assert await asyncio.wait_for(gang._asker.ask(Prompt(instruction=LONG, question="2")), 30)
        lead.cancel()
        await asyncio.gather(lead, return_exceptions=True)


async def test_a_prefix_that_was_put_away_meanwhile_hides_no_error(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many prefixes the oldest are forgotten, also while somebody asks the server for one."""
    async def broken(*args: Any, **kwargs: Any) -> bool:
        raise RuntimeError("what is wrong")

    monkeypatch.setattr("memgang.limits.gate.KNOWN_MAX", 0)
    monkeypatch.setattr(quotas, "first_through", broken)
    with pytest.raises(RuntimeError, match="what is wrong"):
        async with Gate(space.store, "simulated").through(Prompt(instruction=LONG)):
            pass
