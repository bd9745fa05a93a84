"""How many calls can four processes lead at once, and how soon is a server with many objects back?

    make bench ONLY=throughput    # writes benchmarks/results/throughput.json

Sketch, before measuring: a computed call is a claim, then a put and a commit in one round trip. The scripts cost the
server about 60 us together, so one server ends near 15,000 a second; on two cores the clients are the narrower place.
A restart reads the append-only file, about 100 bytes a line and 3 lines an object, at some 100 MB/s.
Reports calls per second over all processes, the p50 and p99 of one call under that load, and the time from kill -9 to
the first answer with 100,000 objects. Would change the design: under 5,000 calls a second, a p99 over 10 ms, a restart over 2 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import memgang
from memgang.model import Call
from memgang.settings import Settings
from memgang.store import server

PROCESSES, SECONDS, AT_ONCE, OBJECTS = 4, 5.0, 8, 100_000
ROOT = Path(__file__).parent.parent


async def lead(number: int) -> None:
    """Lead calls nobody else asks for, until the time is up; prints the time of each in microseconds."""
    took: list[int] = []

    async def work() -> int:
        return 1

    async with memgang.open(space="throughput") as space:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        until = time.perf_counter() + SECONDS

        async def one(lane: int) -> None:
            n = 0
            while (began := time.perf_counter()) < until:
                n += 1
                await space.recall(Call("function", "benchmark:lead", "1", [number, lane, n]), work)
                took.append(round((time.perf_counter() - began) * 1e6))

        await asyncio.gather(*(one(lane) for lane in range(AT_ONCE)))
        print(json.dumps(took), flush=True)


def cycles() -> dict[str, Any]:
    """All processes at once."""
    workers = [subprocess.Popen([sys.executable, __file__, "--lead", str(n)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}) for n in range(PROCESSES)]
    for worker in workers:
        worker.stdout.readline()  # type: ignore[union-attr]
    for worker in workers:
        worker.stdin.write("go\n")  # type: ignore[union-attr]
        worker.stdin.flush()  # type: ignore[union-attr]
    took = sorted(t for worker in workers for t in json.loads(worker.communicate()[0]))
    return {"processes": PROCESSES, "at_once_each": AT_ONCE, "seconds": SECONDS, "calls": len(took),
            "calls_per_s": round(len(took) / SECONDS), "p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100]}


async def restart() -> dict[str, Any]:
    """Fill a space, kill the server, ask again."""
    async with memgang.open(space="restart") as space:
        began = time.perf_counter()
        refs: list[Any] = []
        for start in range(0, OBJECTS, 2_000):
            refs += await space.put_many([f"value {n}" for n in range(start, start + 2_000)])
        filled = time.perf_counter() - began
        pid = server.status(Settings.load()).pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        began = time.perf_counter()
        assert await space.get(refs[-1]) == f"value {OBJECTS - 1}"
        return {"objects": OBJECTS, "puts_per_s": round(OBJECTS / filled), "first_answer_s": round(time.perf_counter() - began, 3)}


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lead", type=int)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "throughput.json")
    args = parser.parse_args()
    if args.lead is not None:
        asyncio.run(lead(args.lead))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MEMGANG_STATE_DIR": f"{folder}/state", "MEMGANG_RUNTIME_DIR": f"{folder}/run"}
        found = {"cycles": cycles(), "restart": asyncio.run(restart())}
    found["machine"] = {"cpus": os.cpu_count(), "machine": platform.machine(), "system": platform.system(),
                        "python": platform.python_version()}
    print(json.dumps(found, indent=2))
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
