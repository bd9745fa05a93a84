"""How long after the leader's yield is a piece with its followers, when 500 of them follow one stream?

    make bench ONLY=streams    # writes benchmarks/results/streams.json

Sketch, before measuring: a piece waits up to 20 ms for its batch, then one script call, one message and one page read
(0.3 ms together on an idle machine) for each process that follows, then 125 readers of that process are woken in turn
(10 us each). So about 12 ms in the middle and 25 ms at p99 on idle cores; 500 readers of 100 pieces a second are
50,000 deliveries a second, which should take about half of one core. Readers of the leader's own process do not wait
for a batch at all. A round is one stream; readers join at random within it. Lag is measured between processes of one
host by its clock, for pieces that were given after the reader had come. All processes, the server and the leader share
the same cores. `local` is one process: 10,000 pieces to one reader and to 100, without pauses between them.
Would change the design: p99 above 100 ms, or a reader with other bytes than the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import memgang
from memgang.model import Call

PROCESSES, READERS, EVERY_MS = 4, 125, 10.0
ROOT = Path(__file__).parent.parent


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and the maximum, in ms."""
    ordered = sorted(values)
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))}


def one_round(number: int, pieces: int) -> dict[str, Any]:
    """Start the processes, let all readers join at random, compare what they were delivered."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    seconds = pieces * EVERY_MS / 1000
    workers = [subprocess.Popen(
        [sys.executable, "-m", "tests.streaming.worker", f"bench-{number}", str(READERS), str(pieces), str(EVERY_MS),
         str(seconds * 0.9), str(number * PROCESSES + n), "10000", ""],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) for n in range(PROCESSES)]
    for worker in workers:
        worker.stdout.readline()  # type: ignore[union-attr]
    for worker in workers:
        worker.stdin.write("go\n")  # type: ignore[union-attr]
        worker.stdin.flush()  # type: ignore[union-attr]
    here: list[float] = []
    elsewhere: list[float] = []
    results: list[dict[str, Any]] = []
    runs, cpu_s = 0, []
    for worker in workers:
        leads = False
        for line in worker.stdout:  # type: ignore[union-attr]
            said = json.loads(line)
            leads = leads or "leads" in said
            if "results" in said:
                break
        results += said["results"]
        runs += said["runs"]
        cpu_s.append(round(said["cpu_s"], 2))
        (here if leads else elsewhere).extend(lag for result in said["results"] for lag in result["lags"])
        worker.communicate()
    return {"readers": len(results), "runs": runs, "different": len({r["hash"] for r in results}),
            "not_whole": sum(r["outcome"] != "whole" for r in results), "deliveries": len(here) + len(elsewhere),
            "cpu_s": cpu_s, "other_processes": percentiles(elsewhere), "leaders_process": percentiles(here),
            "all": percentiles(here + elsewhere)}


async def local(pieces: int, readers: int) -> float:
    """Pieces a second that one process produces and delivers to each of its readers."""
    async def produce() -> AsyncIterator[str]:
        for n in range(pieces):
            yield f"piece {n} "

    async def read() -> int:
        return len([piece async for piece in space.stream(Call("function", "bench:local", "1", {"n": readers}), produce)])

    async with memgang.open(space="bench-local") as space:
        started = time.perf_counter()
        counts = await asyncio.gather(*(read() for _ in range(readers)))
        assert set(counts) == {pieces}
        return pieces / (time.perf_counter() - started)


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=1000, help="of one stream, 100 a second")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "streams.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0], "processes": PROCESSES, "readers_each": READERS, "every_ms": EVERY_MS,
        "pieces": args.pieces, "unit": "ms",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()}}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        result["rounds"] = []
        for number in range(args.rounds):
            load = os.getloadavg()[0]
            found = one_round(number, args.pieces) | {"load_before": round(load, 2)}
            result["rounds"].append(found)
            print(f"round {number}: {found['readers']} readers, {found['runs']} run, {found['different']} text, "
                  f"{found['deliveries']:,} deliveries; lag in ms")
            print(f"  in other processes {found['other_processes']}\n  in the leader's     {found['leaders_process']}")
        result["local_pieces_per_s"] = {str(n): round(asyncio.run(local(10_000, n))) for n in (1, 100)}
        print(f"local: pieces a second to each of 1 / 100 readers: {result['local_pieces_per_s']}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
