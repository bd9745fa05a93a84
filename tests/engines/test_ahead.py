"""Calls that prepared workers make before anybody asks: found by who asks for the same, and in nobody's way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang import parsing
from memgang.engines import child, processes
from memgang.engines.calls import Crashed, Limits
from memgang.engines.functions import mark_of, named
from memgang.engines.pool import Pool
from tests.engines import leaves
from tests.gates import until

MakePool = Callable[[int], Pool]
LONG = Limits(wall_s=60.0, cpu_s=60, memory_mb=1024)


async def call(pool: Pool, function: Callable[..., Any], *args: Any, limits: Limits | None = LONG, attempts: int = 3) -> Any:
    return await pool.run(named(function), mark_of(function), args, limits=limits, attempts=attempts)


def lines(path: Path) -> list[str]:
    """What calls have noted in a file."""
    return path.read_text().split() if path.exists() else []


async def when(condition: Callable[[], bool]) -> None:
    async def met() -> bool:
        return condition()

    await until(met)


def begin(workers: int, function: Callable[..., Any], *arguments: tuple[Any, ...]) -> None:
    child.prepare(workers, [])
    processes.begin(function, arguments, LONG)


async def test_who_asks_for_what_was_begun_is_given_it_and_it_is_done_once(pool: MakePool, tmp_path: Path) -> None:
    """Begun before there was a pool; asked for by twenty calls, of which ten had been made by then."""
    noted = tmp_path / "noted"
    begin(2, leaves.noted, *((str(noted), i) for i in range(10)))
    await when(lambda: len(lines(noted)) == 10)
    two = pool(2)
    found = await asyncio.gather(*(call(two, leaves.noted, str(noted), i) for i in range(20)))
    assert found == list(range(20))
    assert sorted(lines(noted), key=int) == [str(i) for i in range(20)]


async def test_who_asks_while_it_is_being_done_is_given_it_too(pool: MakePool, tmp_path: Path) -> None:
    """Asked for at once: whatever is not begun by then goes to whoever is free, and each has its own answer."""
    noted = tmp_path / "noted"
    begin(2, leaves.slowly_noted, *((str(noted), i) for i in range(20)))
    two = pool(2)
    assert await asyncio.gather(*(call(two, leaves.slowly_noted, str(noted), i) for i in range(20))) == list(range(20))
    assert len(lines(noted)) <= 22  # one that a worker was at may be made by the other as well


async def test_other_limits_or_arguments_are_another_call(pool: MakePool, tmp_path: Path) -> None:
    """What was begun without limits is no answer to who wants them."""
    noted = tmp_path / "noted"
    begin(1, leaves.noted, (str(noted), 1))
    one = pool(1)
    assert await call(one, leaves.noted, str(noted), 1, limits=None) == 1
    await when(lambda: lines(noted) == ["1", "1"])  # both were made


async def test_what_nobody_asks_for_keeps_nobody_waiting(pool: MakePool, tmp_path: Path) -> None:
    """A call that is asked for goes before all that were only begun, however many."""
    noted = tmp_path / "noted"
    begin(1, leaves.slowly_noted, *((str(noted), i) for i in range(1000)))
    one = pool(1)
    assert await call(one, leaves.noted, str(noted), 5000) == 5000
    assert lines(noted)[-1] == "5000" and len(lines(noted)) < 1000  # 20 s of work stood before it
    await one.aclose()
    assert child.living() == []  # and nothing goes on behind our back


async def test_a_failure_ahead_is_tried_again_for_who_asks(pool: MakePool, tmp_path: Path) -> None:
    """Only what came out well is kept."""
    noted = tmp_path / "noted"
    begin(1, leaves.fails_at_first, (str(noted),))
    one = pool(1)
    one.start()
    await when(lambda: len(lines(noted)) == 1)
    assert await call(one, leaves.fails_at_first, str(noted)) == "well"


async def test_a_worker_that_dies_of_work_ahead_takes_no_attempt_of_a_call_behind_it(pool: MakePool, tmp_path: Path) -> None:
    """The call that waited behind it had one attempt, and has it still; the deadly one fails when it is asked for."""
    gate, at_it = tmp_path / "gate", tmp_path / "at_it"
    begin(1, leaves.dies_at_gate, (str(gate), str(at_it)))
    await when(at_it.exists)
    one = pool(1)
    waiting = asyncio.create_task(call(one, leaves.same, "through", attempts=1))
    await when(lambda: any(seat.sent for seat in one._seats))
    gate.touch()
    assert await waiting == "through"
    with pytest.raises(Crashed):
        await call(one, leaves.dies_at_gate, str(gate), str(at_it), attempts=1)


async def test_workers_whose_work_ahead_is_done_are_spared_for_the_next_pool(pool: MakePool, tmp_path: Path) -> None:
    """All that was begun was asked for: the worker has nothing to do and is kept."""
    begin(1, leaves.noted, (str(tmp_path / "noted"), 1))
    one = pool(1)
    await call(one, leaves.noted, str(tmp_path / "noted"), 1)
    pids = one.pids
    await one.aclose()
    assert child.living() == pids


def test_only_small_texts_are_parsed_ahead(tmp_path: Path) -> None:
    """A PDF takes seconds, and a run that remembers it would do so in vain."""
    for name, size in (("a.md", 10), ("b.txt", 10), ("c.pdf", 10), ("large.md", parsing.AHEAD_FILE_BYTES + 1)):
        (tmp_path / name).write_bytes(b"x" * size)
    try:
        child.prepare(1, [])
        assert parsing.ahead([str(tmp_path), "nowhere.md", "https://example.org/page.html"]) == 2
        assert {os.path.basename(str(order.arguments)[-20:].split("/")[-1])[:4] for order in child._spare[-1].ahead} == {"a.md", "b.tx"}
    finally:
        child.end_all()
