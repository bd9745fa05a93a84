"""Whatever the engine: the same report, the same objects, the same events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.engines import child
from memgang.engines.processes import AsyncioEngine, ProcessesEngine
from memgang.errors import ConfigError, WorkFailed
from memgang.gang import Gang
from memgang.jobs.render import render
from memgang.jobs.report import report
from memgang.llms.extractive import Extractive
from memgang.space import Space
from tests.engines import leaves
from tests.engines.conftest import alive

DOCUMENTS = Path(__file__).parents[2] / "examples"
MADE = ("put", "claimed", "committed", "phase")  # who reads first and who is answered from memory is a matter of luck
QUESTIONS = ("What does knowledge-based verification require?", "How long must a memorized secret be?")


@pytest.fixture(autouse=True)
def no_worker_is_left() -> object:
    """All workers end with the test."""
    yield
    child.end_all()


def some_documents(folder: Path) -> Path:
    """A few chapters of the example."""
    chosen = sorted((DOCUMENTS / "nist-800-63-3" / "sp800-63b").glob("*.md"))[:6]
    assert chosen
    for path in chosen:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def shape(event: Any) -> tuple[Any, ...]:
    """What two runs of one job have in common in an event: all but times, order, and which of several agents it was."""
    return (event.raw, event.role, event.obj, event.kind, event.fn, event.src_n, event.own.tokens_in, event.own.tokens_out)


async def test_the_report_and_its_events_are_the_same(opened: Callable[..., Any], space_name: str, tmp_path: Path) -> None:
    """Apart from the table of figures, byte for byte; and the same events, of the same work."""
    folder, pages, events = some_documents(tmp_path), [], []
    for engine in ("asyncio", "processes"):
        async with opened(space=f"{space_name}-{engine}") as space, Gang(space, engine=engine, workers=2) as gang:
            async with gang.run("same"):
                # One agent of a role: with several, who comes first and so computes is a matter of luck.
                made = await report(gang, [str(folder)], QUESTIONS, agents=1)
            ledger = await gang.savings()
            assert isinstance(gang.engine, ProcessesEngine if engine == "processes" else AsyncioEngine)
            if isinstance(gang.engine, ProcessesEngine):
                assert gang.engine.counts.done > 20
                assert gang.engine.stays == {}
            text, heading, _ = render(made, ledger).partition("## What the gang did, and what sharing saved")
            assert heading
            pages.append((made, text))
            await space.flush()
            events.append(Counter([shape(event) async for event in space.events() if event.raw in MADE and event.kind != "run"]))
    assert pages[0] == pages[1]
    assert sum(events[0].values()) > 50
    assert events[0] == events[1]


def test_auto_goes_by_the_model_and_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers where the model is CPU-bound and there is more than one processor."""
    from memgang.engines import processes

    for cores, cpu_bound, kind in ((2, True, ProcessesEngine), (1, True, AsyncioEngine), (8, False, AsyncioEngine)):
        monkeypatch.setattr(processes, "cores", lambda cores=cores: cores)
        assert type(processes.engine("auto", cpu_bound=cpu_bound)) is kind
    assert type(processes.engine("processes", cpu_bound=False, workers=1)) is ProcessesEngine
    with pytest.raises(ConfigError, match="no engine is called 'ray'"):
        processes.engine("ray", cpu_bound=True)
    with pytest.raises(ConfigError, match="workers=0"):
        processes.engine("processes", cpu_bound=True, workers=0)


async def test_auto_starts_no_process_for_a_little_work(space: Space) -> None:
    """A prompt or two are answered here; from some work on, workers take over, and the answers stay the same."""
    text = " ".join(f"The pump number {i} was found to leak after {i} days of use." for i in range(300))
    async with Gang(space, engine=ProcessesEngine(2, patient=True)) as gang:
        first = await gang.llm(f"Sum up.\n\n{text}")
        engine = gang.engine
        assert isinstance(engine, ProcessesEngine)
        before = engine.counts.started
        engine.spent_here(1.0)
        engine.start()
        while engine.here:
            await asyncio.sleep(0.01)
        for i in range(4):
            asked = f"Sum up.\n\n{text} {i}."
            assert await gang.llm(asked) == Extractive().answered(_prompt(asked)).text
        assert (before, engine.counts.done) == (0, 4)
        assert first
        await engine.aclose()


def _prompt(text: str) -> Any:
    from memgang.model import Prompt

    return Prompt(instruction=text)


async def test_plain_agents_go_to_workers_and_their_failures_are_named(space: Space) -> None:
    """Records in and out, errors of the function as in a thread, a crash as a failed call that names it."""
    async with Gang(space, llm="simulated", engine="processes", workers=2) as gang:
        take = gang.agent(role="note")(leaves.words)
        fail = gang.agent(role="fail")(leaves.fails)
        die = gang.agent(role="die")(leaves.die)
        where = gang.agent(role="where", share=False)(leaves.pid)
        stay = gang.agent(role="stay", share=False, cpu_bound=False, name="stay")(leaves.pid)
        import os

        assert await take("b a") == leaves.Note("a b", ("b a",))
        assert await where(1) != os.getpid() == await stay(1)
        with pytest.raises(WorkFailed, match="Odd"):
            await fail("odd")
        with pytest.raises(WorkFailed, match="die.*WorkerDied"):
            await die("SIGKILL")
        assert await take("d c") == leaves.Note("c d", ("d c",))
        pids = gang.engine._pool.pids  # type: ignore[union-attr]
    child.end_all()
    assert not any(map(alive, pids))


async def test_teams_share_the_engine_of_their_gang(space: Space, tmp_path: Path) -> None:
    """A gang that is given an engine leaves it open; it is closed by who made it."""
    engine = ProcessesEngine(1)
    async with Gang(space, engine=engine):
        pass
    assert await engine.run(leaves.same, 1) == 1
    await engine.aclose()
