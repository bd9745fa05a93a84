"""A program with workers, for tests: ``python tests/engines/program.py VERB ...`` with the sources on PYTHONPATH.

    busy LOG        two workers that never end; writes their process numbers to LOG, says "ready", waits
    main            a function of this very file in a worker; prints the two process numbers and a record of it
    map SPACE KILLS a map, a shuffle and a reduction with workers, some of them killed; prints the result
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from pathlib import Path

import msgspec

import memgang
from memgang.engines.pool import Pool
from memgang.engines.processes import ProcessesEngine
from tests.engines import leaves


class Own(msgspec.Struct, frozen=True):
    """A record of the main module."""

    pid: int


def own_pid() -> Own:
    """A function of the main module."""
    return Own(os.getpid())


async def busy(log: str) -> None:
    """Workers at work for ever, one on the processor and one asleep."""
    engine = ProcessesEngine(2)
    tasks = [asyncio.create_task(engine.run(work)) for work in (leaves.spin, leaves.hang)]
    await asyncio.sleep(0)
    pool: Pool = engine._workers()
    while not all(seat.child.up and seat.sent for seat in pool._seats):
        await asyncio.sleep(0.01)
    Path(log).write_text(" ".join(map(str, pool.pids)))
    print("ready", flush=True)
    try:
        await asyncio.gather(*tasks)
    finally:
        await engine.aclose()


async def in_main() -> None:
    """The main module's own function and record."""
    engine = ProcessesEngine(1)
    found = await engine.run(own_pid)
    print(os.getpid(), found.pid, type(found) is Own, engine.stays)
    await engine.aclose()


async def mapped(space_name: str, kills: int) -> None:
    """1,000 tasks at most: words -> notes -> groups -> one note each -> one note."""
    rng = random.Random(int(os.environ.get("MEMGANG_SEED", "0")))
    count = 1_000 if os.environ.get("MEMGANG_SOAK") else 200
    async with (memgang.open(space=space_name, attempts=50) as space,
                memgang.Gang(space, llm="simulated", engine="processes", workers=4, concurrency=8) as gang):
        take = gang.agent(role="note", agents=8)(leaves.slow_words)
        join = gang.agent(role="join", agents=4)(leaves.merged)
        engine = gang.engine
        assert isinstance(engine, ProcessesEngine)

        async def killer() -> None:
            for _ in range(kills):
                await asyncio.sleep(rng.uniform(0.1, 0.4))
                if pids := engine._workers().pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rng.choice(pids), signal.SIGKILL)

        killing = asyncio.create_task(killer())
        notes = await gang.map(take, [f"w{i} x{i % 7} a{i % 3}" for i in range(count)])
        groups = await gang.shuffle(notes, lambda note: note.cites[0])
        tops = [await gang.reduce(join, refs) for refs in groups.values()]
        result = await gang.reduce(join, tops)
        killing.cancel()
        print(len(gang.failures), engine.counts.lost, engine.counts.retried, result, (await space.get(result, leaves.Note)).text)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["busy", file]:
                asyncio.run(busy(file))
            case ["main"]:
                asyncio.run(in_main())
            case ["map", name, number]:
                asyncio.run(mapped(name, int(number)))
