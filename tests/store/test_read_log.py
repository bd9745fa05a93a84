"""The log of reads under kill -9 and restarts of the server: nothing is missing, and nothing there twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import memgang
from memgang import sealing
from memgang.store.events import written_for_the_dead

SEED = int(os.environ.get("MEMGANG_SEED") or random.randrange(1 << 30))
ROUNDS = 20 if os.environ.get("MEMGANG_SOAK") else 3

# Reads for ever; says the number of each read, and when it had it, after it had it.
READER = """
import asyncio, sys, time
import memgang

async def main():
    async with memgang.open(space=sys.argv[1], agent="reader", audit=sys.argv[2], flush_ms=20) as space:
        ref = await space.put("read again and again")
        await space.flush()
        number = 0
        while True:
            await space.get(ref)
            number += 1
            print(number, time.time(), flush=True)
asyncio.run(main())
"""


async def read_then_killed(space_name: str, audit: str, seconds: float) -> list[tuple[int, float]]:
    """What a reader said before kill -9 met it."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, space_name, audit, stdout=subprocess.PIPE)
    assert child.stdout is not None
    first = await asyncio.wait_for(child.stdout.readline(), 60)
    said = asyncio.create_task(child.stdout.read())  # so that it never waits for us
    await asyncio.sleep(seconds)  # work for it to be killed in
    child.send_signal(signal.SIGKILL)
    lines = (first + await said).decode().splitlines(keepends=True)
    await child.wait()
    return [(int(n), float(at)) for n, at in (line.split() for line in lines if line.endswith("\n"))]


async def reads(space: memgang.Space) -> int:
    return len([e async for e in space.events() if e.raw == "read"])


@pytest.mark.catalogue("B14")
@pytest.mark.parametrize("audit", ["strict", "batched"])
async def test_a_killed_process_loses_no_read_for_others_of_its_host_write_what_it_had_not(
    opened: Callable[..., Any], space_name: str, audit: str,
) -> None:
    """What was read and told is in the log, once; the numbers of the batches have no hole."""
    print(f"MEMGANG_SEED={SEED}")
    chance = random.Random(SEED)
    async with opened() as space:
        logged = behind = 0
        for _ in range(ROUNDS):
            said = await read_then_killed(space_name, audit, chance.uniform(0.1, 0.4) if audit == "strict" else chance.uniform(0.8, 1.0))
            left = await written_for_the_dead(space.store.wire, space.store.keys, space.store.home.rings)
            new = await reads(space) - logged
            logged += new
            assert len(said) <= new <= len(said) + 1  # one may have been read, and not told
            behind += left
        assert audit == "strict" or behind > 0  # else nobody had to write anything
        assert [f async for f in sealing.verify(space) if f.level != "note"] == []


@pytest.mark.catalogue("B14", "A6")
async def test_a_server_killed_and_restarted_misses_and_doubles_no_read(tmp_path: Any) -> None:
    """Batches under way when the server dies go again with their numbers; sealed before and after, all is well."""
    settings = dict(state_dir=tmp_path / "state", runtime_dir=tmp_path / "run", space="restarts", flush_ms=5)
    async with memgang.open(**settings) as space:
        ref = await space.put("read again and again")
        count, deaths = 0, 0
        until = time.monotonic() + 60
        while deaths < ROUNDS and time.monotonic() < until:
            info = (await space.store.wire.call("INFO", "server")).split(b"process_id:")[1].split(b"\r")[0]
            for n in range(200):
                await space.get(ref)
                count += 1
                if n == 100:
                    os.kill(int(info), signal.SIGKILL)
                    deaths += 1
            await sealing.seal(space)
        await space.flush()
        assert deaths == ROUNDS and await reads(space) == count
        assert (await sealing.report(space)).findings == ()
