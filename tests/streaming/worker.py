"""A process of readers, for tests and the benchmark: ``python -m tests.streaming.worker SPACE ...``; JSON lines on stdout.

    SPACE READERS PIECES EVERY_MS JOIN_S SEED LEASE_MS TEXT

READERS readers join one call at random within JOIN_S seconds after a line on stdin; the work of the call is PIECES
pieces, one each EVERY_MS. Piece n says TEXT, n and when it was given (ns of the clock of the host, which all processes
share), so that lag is the time from the leader's yield to the delivery, and no two attempts are the same. With a
TEXT of "=" the pieces are the same in every attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import memgang
from memgang.errors import StreamRestarted
from memgang.model import Call


async def readers(space_name: str, count: int, pieces: int, every_ms: float, join_s: float, seed: int, lease_ms: int, text: str) -> None:
    runs: list[float] = []

    async def produce() -> AsyncIterator[str]:
        runs.append(time.time())
        print(json.dumps({"leads": os.getpid()}), flush=True)
        began = time.monotonic()
        for n in range(pieces):
            await asyncio.sleep(max(0.0, began + n * every_ms / 1000 - time.monotonic()))
            yield f"= {n}\n" if text == "=" else f"{text}{os.getpid()} {n} {time.time_ns()}\n"

    async def read(after_s: float) -> dict[str, Any]:
        await asyncio.sleep(after_s)
        joined, got, lags = time.time_ns(), [], list[float]()
        outcome = "whole"
        try:
            async for piece in space.stream(call, produce):
                now = time.time_ns()
                got.append(piece)
                given = int(piece.split()[-1]) if text != "=" and piece.count("\n") == 1 else 0
                if given > joined:  # what was there before this reader came has no lag
                    lags.append((now - given) / 1e6)
        except StreamRestarted:
            outcome = "restarted"
        whole = "".join(map(str, got))
        attempts = {line.split()[0] for line in whole.splitlines()}
        return {"outcome": outcome, "bytes": len(whole), "hash": hashlib.sha256(whole.encode()).hexdigest(), "lags": lags,
                "pieces": len(got), "attempts": sorted(attempts), "lines": [int(line.split()[1]) for line in whole.splitlines()]}

    call = Call("function", "worker:stream", "1", {"text": text})
    rng = random.Random(seed)
    async with memgang.open(space=space_name, lease_ms=lease_ms, beat_ms=lease_ms // 4) as space:
        print(json.dumps({"ready": os.getpid()}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        results = await asyncio.gather(*(read(rng.uniform(0, join_s)) for _ in range(count)))
        print(json.dumps({"results": results, "runs": len(runs), "cpu_s": time.process_time(), "stats": await space.stats()}), flush=True)


if __name__ == "__main__":
    name, n, p, every, join, seeded, lease, said = sys.argv[1:]
    asyncio.run(readers(name, int(n), int(p), float(every), float(join), int(seeded), int(lease), said))
