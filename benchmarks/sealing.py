"""What does a sealed log cost: to seal an entry, to verify it, and to work while another task seals?

    make bench ONLY=sealing       # writes benchmarks/results/sealing.json

Sketch, before measuring: an entry is fetched, hashed and written as a line of JSON, some 20 us of Python in all, so
50,000 a second; a seal of 1,000 entries adds one signature (0.1 ms) and two forced writes (1 to 10 ms). Verifying
fetches and hashes each entry twice, on the server and in the export: 20,000 to 50,000 a second. Work pays for the
sealer's share of the interpreter: 60 us a call of three entries at 170 us if it seals all of them meanwhile.
Would change the design: fewer than 10,000 entries a second sealed, or work slowed by more than half while all is sealed at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import memgang
from memgang import sealing

ENTRIES, CALLS = 50_000, 2_000


async def rates(round_: int, entries: int) -> dict[str, float]:
    """Entries a second sealed and verified, of a log of writes and reads; and the export's bytes for each."""
    async with memgang.open(space=f"rates-{round_}") as space:
        for start in range(0, entries, 1_000):
            await space.put_many([f"{round_} {start + i}" for i in range(1_000)])
        started = time.perf_counter()
        sealed = await sealing.seal(space)
        seal_s = time.perf_counter() - started
        started = time.perf_counter()
        report = await sealing.report(space)
        verify_s = time.perf_counter() - started
        assert report.findings == () and report.sealed == sealed.entries >= entries
        size = sum(file.stat().st_size for file in Path(sealed.place).iterdir())
        return {"sealed a second": sealed.entries / seal_s, "verified a second": sealed.entries / verify_s,
                "bytes on disk an entry": size / sealed.entries, "seals": report.seals}


async def calls(round_: int, seal: bool) -> float:
    """Seconds for calls that are computed, with or without a sealer in the same process, a hundred times as often as usual."""
    settings: dict[str, Any] = {"seal": True, "seal_ms": 100, "seal_entries": 1_000} if seal else {}
    async with memgang.open(space=f"calls-{round_}-{int(seal)}", **settings) as space:
        gang = memgang.Gang(space, concurrency=200)

        @gang.agent(role="noop", agents=200)
        async def noop(item: list[int]) -> int:
            return item[1]

        await gang.map(noop, [[-1, i] for i in range(200)])
        started = time.perf_counter()
        await gang.map(noop, [[round_, i] for i in range(CALLS)])
        return time.perf_counter() - started


async def measure(rounds: int, entries: int) -> dict[str, list[float]]:
    """All rows, in turn."""
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, value in (await rates(number, entries)).items():
            found.setdefault(name, []).append(value)
        for name, seal in (("us a call, not sealed", False), ("us a call, sealed each 0.1 s", True)):
            found.setdefault(name, []).append(await calls(number, seal) / CALLS * 1e6)
    return found


def main() -> int:
    """Run, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sealing.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        found = asyncio.run(measure(args.rounds, args.entries))
    rows = {name: {"median": statistics.median(v), "min": min(v), "max": max(v)} for name, v in found.items()}
    result = {"question": __doc__.splitlines()[0], "entries": args.entries, "calls": CALLS, "rows": rows, "rounds": args.rounds,
              "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(),
                          "arch": platform.machine()}}
    print(f"{'':34}{'median':>12}{'min':>12}{'max':>12}")
    for name, row in rows.items():
        print(f"{name:34}{row['median']:12,.0f}{row['min']:12,.0f}{row['max']:12,.0f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
