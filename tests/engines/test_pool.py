"""Worker processes that die, hang, shout and are left: no call is lost, and none is done twice without need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.engines import child
from memgang.engines.calls import Crashed, Limits, NotThere, OverLimit
from memgang.engines.functions import mark_of, named
from memgang.engines.pool import Pool
from memgang.engines.processes import ProcessesEngine
from memgang.errors import ConfigError
from memgang.model import Context, current_context
from tests.engines import leaves
from tests.engines.conftest import alive
from tests.gates import until

MakePool = Callable[[int], Pool]
LONG = Limits(wall_s=60.0, cpu_s=60, memory_mb=1024)


async def call(pool: Pool, function: Callable[..., Any], *args: Any, **how: Any) -> Any:
    """One call in a worker."""
    return await pool.run(named(function), mark_of(function), args, **how)


async def test_calls_run_elsewhere_and_come_back_in_any_order(pool: MakePool) -> None:
    """Two workers share two hundred calls."""
    two = pool(2)
    found = await asyncio.gather(*(call(two, leaves.words, f"b a {i}") for i in range(200)))
    assert found == [leaves.words(f"b a {i}") for i in range(200)]
    pids = set(await asyncio.gather(*(call(two, leaves.pid, i) for i in range(20))))
    assert os.getpid() not in pids
    assert pids <= set(two.pids)


async def test_an_error_comes_back_as_itself(pool: MakePool) -> None:
    """Its class, its arguments, and where in the worker it was raised."""
    one = pool(1)
    with pytest.raises(leaves.Odd) as odd:
        await call(one, leaves.fails, "odd")
    assert odd.value.args == ("a", 2)
    assert "leaves.py" in odd.value.__notes__[0]
    with pytest.raises(Exception, match="SystemExit: 3"):
        await call(one, leaves.fails, "exit")
    with pytest.raises(Exception, match="cannot be sent"):
        await call(one, leaves.unsendable)
    assert one.counts.lost == 0


async def test_what_a_worker_prints_is_no_frame(pool: MakePool, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output of a worker goes to standard error."""
    one = pool(1)
    assert await call(one, leaves.noisy, 300) == "said"
    assert await call(one, leaves.same, 1) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("hello") == 300


async def test_large_values_go_both_ways(pool: MakePool) -> None:
    """Tens of megabytes, several at once."""
    two = pool(2)
    big = os.urandom(1 << 20) * 32
    for found in await asyncio.gather(*(call(two, leaves.same, [big, i]) for i in range(3))):
        assert found[0] == big


@pytest.mark.parametrize("how, said", [("SIGKILL", "SIGKILL"), ("SIGSEGV", "SIGSEGV"), ("exit", "exit with status 7")])
async def test_a_call_that_kills_its_worker_is_tried_so_often_and_named(pool: MakePool, how: str, said: str) -> None:
    """Then it fails, and the pool works on."""
    two = pool(2)
    with pytest.raises(Crashed, match=f"leaves:die.*attempt 3.*{said}"):
        await call(two, leaves.die, how)
    assert (two.counts.lost, two.counts.retried) == (3, 2)
    assert await call(two, leaves.same, 1) == 1


async def test_a_call_whose_worker_dies_once_is_answered(pool: MakePool, tmp_path: Path) -> None:
    """One lost worker is one retried call."""
    one = pool(1)
    behind = [call(one, leaves.same, i) for i in range(5)]
    found = await asyncio.gather(call(one, leaves.die_once, str(tmp_path / "m")), *behind)
    assert found == ["done", 0, 1, 2, 3, 4]
    assert (one.counts.lost, one.counts.retried) == (1, 1)


async def test_workers_killed_at_random_change_no_result(pool: MakePool) -> None:
    """kill -9 again and again during a map; every result is there, and no more calls are retried than workers were lost."""
    seed = int(os.environ.get("MEMGANG_SEED", random.randrange(1 << 30)))
    print(f"MEMGANG_SEED={seed}")
    rng, kills, three = random.Random(seed), 0, pool(3)
    count = 2_000 if os.environ.get("MEMGANG_SOAK") else 300
    gate = asyncio.Semaphore(8)

    async def one(i: int) -> Any:
        async with gate:
            return await call(three, leaves.slow_words, f"z y {i}", attempts=50)

    task = asyncio.gather(*(one(i) for i in range(count)))
    while not task.done():
        await asyncio.sleep(rng.uniform(0.05, 0.3))
        if three.pids and not task.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(three.pids), signal.SIGKILL)
                kills += 1
    assert await task == [leaves.words(f"z y {i}") for i in range(count)]
    assert kills
    assert three.counts.retried <= three.counts.lost <= kills


@pytest.mark.parametrize("function, limits, what", [
    (leaves.hang, Limits(0.5, 60, 512), "was not done after 0.5 s"),
    (leaves.spin, Limits(60.0, 1, 512), "was not done after 1 s of work"),
    (leaves.eat, Limits(60.0, 60, 256), "needs more than 256 MB of memory"),
])
async def test_a_call_over_its_limit_is_ended_and_what_waited_behind_it_is_not(
    pool: MakePool, function: Callable[..., Any], limits: Limits, what: str,
) -> None:
    """Time on the clock, time of the processor, memory: each is a reason, tried once."""
    one = pool(1)
    await asyncio.gather(*(call(one, leaves.same, i) for i in range(5)))  # short calls are sent ahead
    over = asyncio.create_task(call(one, function, 1, limits=limits))
    behind = [asyncio.create_task(call(one, leaves.same, i, attempts=1)) for i in range(4)]
    with pytest.raises(OverLimit, match=what):
        await over
    assert await asyncio.gather(*behind) == [0, 1, 2, 3]
    assert (one.counts.over_limit, one.counts.retried) == (1, 0)


async def test_limits_are_of_one_call_alone(pool: MakePool) -> None:
    """The next call of the same worker may take what it likes."""
    one = pool(1)
    first = await call(one, leaves.pid, 1, limits=Limits(60.0, 60, 128))
    assert len(await call(one, leaves.same, bytes(200 << 20))) == 200 << 20
    assert first > 0


async def test_a_cancelled_call_frees_its_worker(pool: MakePool, tmp_path: Path) -> None:
    """A call nobody waits for any more is ended after a grace; one that waits behind it is answered."""
    one, marker = pool(1), tmp_path / "begun"
    task = asyncio.create_task(call(one, leaves.hang_touching, str(marker)))

    async def begun() -> bool:
        return marker.exists()

    await until(begun)
    waiting = asyncio.create_task(call(one, leaves.same, 1))
    never = asyncio.create_task(call(one, leaves.same, 2))
    await asyncio.sleep(0)
    task.cancel()
    never.cancel()
    assert await waiting == 1
    for left in (task, never):
        with pytest.raises(asyncio.CancelledError):
            await left
    assert not alive(int(marker.read_text()))


async def test_who_acts_is_known_in_the_worker(pool: MakePool) -> None:
    """The context travels with each call and with no other."""
    one = pool(1)
    token = current_context.set(Context("me/agent-1", "note", "run-1", "t", ""))
    assert await call(one, leaves.acting) == ["me/agent-1", "note", "run-1"]
    current_context.reset(token)
    assert await call(one, leaves.acting) == []


async def test_the_folder_is_that_of_the_caller(pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the same in a worker, also after a change."""
    one = pool(1)
    assert await call(one, leaves.same, 1) == 1
    monkeypatch.chdir(tmp_path)
    Path("here").touch()
    assert await call(one, leaves.die_once, "here") == "done"


async def test_a_function_that_was_edited_since_is_not_run(pool: MakePool) -> None:
    """The mark of what was imported here must fit what is found there."""
    with pytest.raises(NotThere, match="changed since"):
        await pool(1).run(named(leaves.same), "another mark", (1,))
    with pytest.raises(NotThere, match="nothing_such"):
        await pool(1).run("tests.engines.leaves:nothing_such", "", (1,))


async def test_what_no_worker_can_find_runs_here_and_says_why(engine: ProcessesEngine) -> None:
    """Closures, lambdas, asynchronous functions' helpers, and arguments without a form."""
    here = os.getpid()

    def closure() -> int:
        return os.getpid()

    assert await engine.run(closure) == here
    assert await engine.run(lambda: os.getpid()) == here
    assert (await engine.run(leaves.same, here_only := object())) is here_only
    assert await engine.run(leaves.pid) != here
    assert sorted(engine.stays.values())[0].startswith("a builtins.object cannot be sent")
    assert any("inside a function" in why for why in engine.stays.values())
    with pytest.raises(ConfigError, match="asynchronous"):
        named(call)


async def test_workers_are_handed_on_and_none_is_left(pool: MakePool) -> None:
    """A pool that closes gives its idle workers to the next; ending all leaves no process."""
    first = pool(2)
    await asyncio.gather(*(call(first, leaves.slow_words, str(i)) for i in range(20)))
    before = set(first.pids)
    await first.aclose()
    second = pool(2)
    assert await call(second, leaves.pid) in before
    assert set(second.pids) == before
    child.end_all()
    assert not any(alive(pid) for pid in before)


async def test_closing_ends_a_worker_that_is_busy(pool: MakePool, tmp_path: Path) -> None:
    """Nobody waits for a call that never ends."""
    one, marker = pool(1), tmp_path / "begun"
    task = asyncio.create_task(call(one, leaves.hang_touching, str(marker)))

    async def begun() -> bool:
        return marker.exists()

    await until(begun)
    await one.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int(marker.read_text() or 0))


def test_workers_of_a_loop_that_was_left_are_taken_over() -> None:
    """An engine that is never closed leaks no process: the next loop takes its workers."""
    async def work() -> list[int]:
        engine = ProcessesEngine(2)
        await asyncio.gather(*(engine.run(leaves.same, i) for i in range(8)))
        assert engine._pool is not None
        return engine._pool.pids

    first, second = asyncio.run(work()), asyncio.run(work())
    assert sorted(first) == sorted(second)
    child.end_all()


@pytest.mark.catalogue("A14")
async def test_a_forked_child_has_none_of_its_parents_workers(pool: MakePool) -> None:
    """It sees no worker, and its end does no harm to those of the parent."""
    one = pool(1)
    await call(one, leaves.same, 1)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, b"%d" % len(child.living()))
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"0"
    os.close(read)
    os.close(write)
    assert await call(one, leaves.same, 2) == 2
    assert one.counts.lost == 0
