"""The space against a dictionary: whatever is put, named, pinned, forgotten, expired, recalled or reopened, both agree."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import memgang
from memgang.errors import Conflict, UnknownReference, WorkFailed
from memgang.model import Call, Ref
from tests.gates import ready

SOAK = bool(os.environ.get("MEMGANG_SOAK"))
SEED = int(os.environ.get("MEMGANG_SEED", "1"))
EXAMPLES, STEPS = (2000, 50) if SOAK else (120, 40)
TEXTS = st.sampled_from(["", "a", "one", "two", "ä" * 50, "long " * 2000])
NAMES = st.sampled_from(["n", "reports/x"])
NUMBERS = st.integers(0, 2)
_spaces = itertools.count()


class SpaceMachine(RuleBasedStateMachine):
    """What is public is called; beside it stands what a dictionary would say."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.space_name = f"m{os.getpid()}-{next(_spaces)}"
        self.values: dict[Ref, Any] = {}
        self.mortal: set[Ref] = set()  # has a time to live
        self.met: list[Ref] = []  # every reference there ever was
        self.named: dict[str, Ref | None] = {}
        self.versions: dict[str, list[int]] = {}
        self.answers: dict[int, Ref] = {}
        self.failed: set[int] = set()
        self.asked = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    @initialize()
    def opened(self) -> None:
        self.stack = AsyncExitStack()
        self.space = self.run(self.stack.enter_async_context(
            memgang.open(space=self.space_name, agent="tester", negative_ttl_ms=3_600_000)))

    def teardown(self) -> None:
        if hasattr(self, "space"):
            self.run(self.space.store.erase())
            self.run(self.stack.aclose())
        self.loop.close()

    @rule()
    def reopen(self) -> None:
        self.run(self.stack.aclose())
        self.opened()

    # ── objects ───────────────────────────────────────────────────────────────────────────────

    def known(self, number: int) -> Ref:
        """Some reference, of what is there or of what was."""
        return self.met[number % len(self.met)] if self.met else Ref("mg:" + "a" * 32)

    @rule(value=TEXTS, ttl=st.sampled_from([None, None, "1h"]))
    def put(self, value: str, ttl: str | None) -> None:
        ref = self.run(self.space.put(value, ttl=ttl))
        if ttl is None:
            self.mortal.discard(ref)
        elif ref not in self.values:
            self.mortal.add(ref)
        if ref not in self.met:
            self.met.append(ref)
        self.values[ref] = value

    @rule(number=st.integers(0, 30))
    def get(self, number: int) -> None:
        ref = self.known(number)
        if ref in self.values:
            assert self.run(self.space.get(ref)) == self.values[ref]
            assert (self.run(self.space.describe(ref)).expires > 0) == (ref in self.mortal)
        else:
            with pytest.raises(UnknownReference):
                self.run(self.space.get(ref))

    @rule(number=st.integers(0, 30))
    def expire(self, number: int) -> None:
        """Its time comes: the record is written as an hour would leave it."""
        ref = self.known(number)
        if ref not in self.mortal or ref in self.answers.values():
            return
        store = self.space.store
        self.run(_sent(store, ("HSET", store.keys.record(ref), "expires", 1),
                       ("ZADD", store.keys.at(store.keys.shard_of(ref.id), "x"), 1, ref.id)))
        store.tier.take_out([ref.id])  # an hour would have ended it here too
        with pytest.raises(UnknownReference):
            self.run(self.space.get(ref))
        self._drop(ref)

    @rule(number=st.integers(0, 30))
    def forget(self, number: int) -> None:
        ref = self.known(number)
        assert bool(self.run(self.space.forget(ref))) == (ref in self.values)
        self._drop(ref)

    def _drop(self, ref: Ref) -> None:
        self.values.pop(ref, None)
        self.mortal.discard(ref)

    @rule(number=st.integers(0, 30), end=st.booleans())
    def pin(self, number: int, end: bool) -> None:
        ref = self.known(number)
        if ref not in self.values:
            with pytest.raises(UnknownReference):
                self.run(self.space.pin(ref))
            return
        if end:
            self.run(self.space.unpin(ref))
        else:
            assert self.run(self.space.pin(ref, "1h")) > 0
        assert bool(self.run(self.space.describe(ref)).pins) != end

    # ── names ─────────────────────────────────────────────────────────────────────────────────

    @rule(name=NAMES, number=st.integers(0, 30), away=st.booleans(), expect=st.sampled_from(["any", "right", "wrong"]))
    def set_name(self, name: str, number: int, away: bool, expect: str) -> None:
        ref = None if away else self.known(number)
        seen = self.versions[name][-1] if self.named.get(name) is not None else 0
        wanted = {"any": None, "right": seen, "wrong": seen + 1}[expect]
        if ref is not None and ref not in self.values:
            with pytest.raises(UnknownReference):
                self.run(self.space.set_name(name, ref, expect=wanted))
        elif expect == "wrong":
            with pytest.raises(Conflict):
                self.run(self.space.set_name(name, ref, expect=wanted))
        else:
            version = self.run(self.space.set_name(name, ref, expect=wanted))
            assert version > max(self.versions.get(name, [0]))
            self.versions.setdefault(name, []).append(version)
            self.named[name] = ref

    @rule(name=NAMES)
    def get_by_name(self, name: str) -> None:
        ref = self.named.get(name)
        if ref in self.values:
            assert self.run(self.space.get(name)) == self.values[ref]
        else:
            with pytest.raises(UnknownReference):
                self.run(self.space.get(name))

    @rule()
    def names(self) -> None:
        assert self.run(self.space.names()) == {name: ref for name, ref in sorted(self.named.items()) if ref is not None}

    # ── recall ────────────────────────────────────────────────────────────────────────────────

    @rule(number=NUMBERS, fails=st.integers(0, 9))
    def recall(self, number: int, fails: int) -> None:
        self.asked += 1
        value = f"answer {number} of ask {self.asked}"
        work = ready(ValueError("no") if fails == 0 else value)
        call = Call("function", f"machine.f{number}", "1", {"n": number})
        there = self.answers.get(number) in self.values
        if number in self.failed or (fails == 0 and not there):
            with pytest.raises(WorkFailed):
                self.run(self.space.recall(call, work))
            self.failed.add(number)
            return
        recalled = self.run(self.space.recall(call, work))
        assert recalled.how == ("hit" if there else "computed")
        if not there:
            self.answers[number] = recalled.ref
            self.values[recalled.ref] = value
            self.mortal.add(recalled.ref)
            self.met.append(recalled.ref)
        assert recalled.ref == self.answers[number]
        assert self.run(recalled.value()) == self.values[recalled.ref]

    @invariant()
    def totals(self) -> None:
        if self.asked % 5 == 0 and hasattr(self, "space"):
            assert self.run(self.space.stats()).get("count", 0) == len(self.values)


async def _sent(store: Any, *commands: tuple[Any, ...]) -> None:
    await asyncio.gather(*(store.wire.call(*command) for command in commands))


@pytest.mark.catalogue("B3")
def test_the_space_does_what_a_dictionary_would(private_server: dict[str, str]) -> None:
    """Random verbs in random order; a failure is shrunk to the shortest that still fails."""
    SpaceMachine.TestCase.settings = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))
    case = seed(SEED)(SpaceMachine.TestCase)("runTest")
    case.runTest()
    print(f"{EXAMPLES} runs of {STEPS} steps from seed {SEED}")
