"""Crowds: many who wait, in one process and in several."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from tests.gates import Gate, raws, ready, until
from tests.recall.conftest import Own

import memgang
from memgang.model import Call
from memgang.space import Space

pytestmark = pytest.mark.core
SOAK = bool(os.environ.get("MEMGANG_SOAK"))


def call(what: object = "plan") -> Call:
    return Call("function", "tests:crowds", "1", {"what": what})


async def settled(own: Own, space: Space) -> int:
    """How many connections this space needs for waiting, when those of the burst have been given back."""
    found = [0]
    wire = space.store.wire

    async def fewer() -> bool:
        # As the server sees it: what the wire says it holds, and the one that listens.
        listening = sum("S" in c["flags"] or int(c.get("ssub", 0)) > 0 for c in own.admin.client_list())
        found[0] = len(wire._idle) + wire._lanes + wire._wide_lanes + listening
        return found[0] <= 3

    with contextlib.suppress(TimeoutError):
        await until(fewer, seconds=10)
    return found[0]


@pytest.mark.catalogue("E8")
async def test_ten_thousand_waiters_of_one_process_share_three_connections(
    own: Own, space_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E8: all follow a leader elsewhere. Connections of the process that waits: at most 3, and at most 5 KB a waiter."""
    monkeypatch.setattr("memgang.store.wire.IDLE_S", 0.2)
    gate, never = Gate(), ready("never")
    async with memgang.open(own.url, space=space_name) as elsewhere:
        leading = asyncio.create_task(elsewhere.recall(call(), gate.then("value")))
        await gate.reached()
        async with memgang.open(own.url, space=space_name, poll_ms=300) as here:
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            waiting = [asyncio.create_task(here.recall(call(), never)) for _ in range(10_000)]

            async def following() -> bool:
                return "waits" in await raws(here)

            await until(following)
            each = (tracemalloc.get_traced_memory()[0] - before) / len(waiting)
            tracemalloc.stop()
            used = await settled(own, here)
            print(f"10,000 waiters: {used} connections, {each:,.0f} bytes each")
            assert used <= 3 and each <= 5_000
            gate.open()
            got = await asyncio.gather(*waiting)
            assert len({g.ref for g in got}) == 1 and all(g.how == "joined" for g in got) and gate.runs == 1
            await leading


@pytest.mark.catalogue("E8")
async def test_waiters_of_many_calls_share_the_same_connections(
    own: Own, space_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process that waits for 1,000 different calls led elsewhere: one connection listens, at most two ask."""
    monkeypatch.setattr("memgang.store.wire.IDLE_S", 0.2)
    gate, never = Gate(), ready("never")
    async with memgang.open(own.url, space=space_name) as elsewhere:
        leading = [asyncio.create_task(elsewhere.recall(call(i), gate.then(i))) for i in range(1_000)]

        async def led() -> bool:
            return gate.runs == 1_000

        await until(led)
        async with memgang.open(own.url, space=space_name, poll_ms=300) as here:
            waiting = [asyncio.create_task(here.recall(call(i), never)) for i in range(1_000)]

            async def following() -> bool:
                return (await here.stats()).get("waits", 0) == 1_000 or (await raws(here)).count("waits") == 1_000

            await until(following, seconds=60)
            used = await settled(own, here)
            print(f"1,000 waiters of as many calls: {used} connections")
            assert used <= 3
            gate.open()
            got = await asyncio.gather(*waiting)
            assert [await g.value() for g in got] == list(range(1_000))
            await asyncio.gather(*leading)


@pytest.mark.catalogue("E1")
async def test_a_crowd_of_would_be_processes_computes_each_call_once(opened: Callable[..., Any]) -> None:
    """E1, small: 1000 callers in 8 spaces, one call a round: as many computations as rounds; the last waiter soon after."""
    rounds, work_s = (100, 1.0) if SOAK else (5, 0.2)
    late: list[float] = []
    spaces: list[Space] = []
    contexts = [opened(agent=f"p{i}") for i in range(8)]
    try:
        spaces = [await context.__aenter__() for context in contexts]
        runs = 0
        for number in range(rounds):
            async def work() -> str:
                nonlocal runs
                runs += 1
                await asyncio.sleep(work_s)  # stands for work
                return "done"

            began = time.perf_counter()
            got = await asyncio.gather(*(s.recall(call(number), work) for s in spaces for _ in range(125)))
            late.append(time.perf_counter() - began - work_s)
            assert len({g.ref for g in got}) == 1 and sum(g.how == "computed" for g in got) == 1
        assert runs == rounds
        print(f"{rounds} rounds of 1000 callers: the last waiter {max(late) * 1000:.0f} ms after the work at most")
    finally:
        for context in contexts[: len(spaces)]:
            await context.__aexit__(None, None, None)
