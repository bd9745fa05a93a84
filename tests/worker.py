"""A process of a gang, for tests: ``python -m tests.worker VERB SPACE ...``; speaks JSON lines on stdout.

    callers SPACE COUNT LOG SECONDS [LEASE_MS]   COUNT callers of one computation that appends a line to LOG when it runs
    cas SPACE COUNT                   COUNT compare-and-set writes to one name, with retry
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import memgang
from memgang.errors import Conflict
from memgang.model import Call


async def callers(space_name: str, count: int, log: str, seconds: float, lease_ms: int = 1000) -> None:
    async def work() -> str:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        await asyncio.sleep(seconds)  # stands for a second of real work
        return f"made by {os.getpid()}"

    async with memgang.open(space=space_name, lease_ms=lease_ms, beat_ms=250) as space:
        print(json.dumps({"ready": os.getpid()}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        started = time.monotonic()
        got = await asyncio.gather(*(space.recall(Call("function", "worker:one", "1", {}), work) for _ in range(count)))
        print(json.dumps({"refs": sorted({g.ref for g in got}), "count": len(got), "seconds": time.monotonic() - started}), flush=True)


async def cas(space_name: str, count: int) -> None:
    async with memgang.open(space=space_name) as space:
        print(json.dumps({"ready": os.getpid()}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        conflicts = 0
        for i in range(count):
            ref = await space.put(f"{os.getpid()} {i}")
            while True:
                seen = await space.version("shared/name")
                try:
                    await space.set_name("shared/name", ref, expect=seen.version if seen else 0)
                    break
                except Conflict:
                    conflicts += 1
        print(json.dumps({"conflicts": conflicts}), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["callers", name, n, file, s]:
            asyncio.run(callers(name, int(n), file, float(s)))
        case ["callers", name, n, file, s, lease]:
            asyncio.run(callers(name, int(n), file, float(s), int(lease)))
        case ["cas", name, n]:
            asyncio.run(cas(name, int(n)))
