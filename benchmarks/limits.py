"""Do three gangs in three processes keep one limit of 60 requests a minute, one Retry-After and one budget?

    make bench ONLY=limits    # writes benchmarks/results/limits.json; takes about four minutes

The provider is simulated; a ledger it keeps for all processes says when each request arrived. Sketch, before measuring: 180 calls at
60 in any 60 s need three windows, the first full at once, so about 2 x 61 s; a 429 is known to all within a round trip; a budget is
not overspent at all, because the worst case is reserved. Would change the design: 61 requests in any 60 s, a request later than
0.5 s after a 429 and before its pause is over, or a bill above the budget by more than one call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PROCESSES = 3


def run(folder: Path, name: str, **told: Any) -> tuple[list[list[str]], list[dict[str, Any]], float]:
    """Let the gangs work: the provider's ledger, what each said at its end, and the seconds it took."""
    ledger = folder / name
    ledger.touch()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    gangs = [subprocess.Popen(
        [sys.executable, str(ROOT / "tests/limits/gang_process.py"),
         json.dumps({"space": f"bench-{name}", "ledger": str(ledger), "agent": f"a{n}", "settings": {}, **told})],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) for n in range(PROCESSES)]
    for gang in gangs:
        gang.stdout.readline()  # type: ignore[union-attr]
    started = time.monotonic()
    for gang in gangs:
        gang.stdin.write("go\n")  # type: ignore[union-attr]
        gang.stdin.flush()  # type: ignore[union-attr]
    ended = [json.loads(gang.stdout.readline()) for gang in gangs]  # type: ignore[union-attr]
    seconds = time.monotonic() - started
    for gang in gangs:
        gang.communicate()
    return sorted(line.split() for line in ledger.read_text().splitlines()), ended, seconds


def most_in_any(times: list[float], span_s: float) -> int:
    """The largest number of instants in any window of this length."""
    return max((sum(1 for other in times if at - span_s < other <= at) for at in times), default=0)


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=60, help="of each process")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "limits.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0], "processes": PROCESSES, "provider": "simulated",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()}}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        folder = Path(home)

        lines, ended, seconds = run(folder, "rate", limits={"requests_per_minute": 60}, calls=args.calls, concurrency=64,
                                    provider={"latency_ms": 200})
        times = [float(line[0]) for line in lines]
        by_process = {pid: sum(line[3] == pid for line in lines[:90]) for pid in sorted({line[3] for line in lines})}
        result["rate"] = {"calls": len(times), "answered": [e["answered"] for e in ended], "seconds": round(seconds, 1),
                          "most in any 60 s": most_in_any(times, 60), "of the first 90 by process": list(by_process.values())}
        print("60 requests a minute:", result["rate"])

        lines, ended, seconds = run(folder, "pause", limits={"concurrency": 12}, calls=60,
                                    provider={"latency_ms": 100, "refuse": 60, "retry_after_s": 5.0})
        refused = [float(line[0]) for line in lines if line[1] == "429"]
        behind = [float(line[0]) - refused[0] for line in lines if float(line[0]) > refused[0]]
        during = [s for s in behind if s < 5.0]
        result["retry after"] = {
            "answered": [e["answered"] for e in ended], "refused": len(refused), "arrived in the pause": len(during),
            "last of these after ms": round(max(during, default=0) * 1000, 1),
            "first behind it after s": round(min(s for s in behind if s >= 5.0), 3)}
        print("429 with Retry-After 5:", result["retry after"])

        lines, ended, seconds = run(folder, "money", limits={"usd": 0.004, "name": "purse"}, calls=60, provider={"latency_ms": 50})
        bills = [float(line[2]) for line in lines]
        result["budget"] = {"usd": 0.004, "billed usd": round(sum(bills) / 1e6, 6), "dearest call usd": max(bills) / 1e6,
                            "overspent usd": round(max(sum(bills) / 1e6 - 0.004, 0), 6),
                            "answered": [e["answered"] for e in ended], "refused": [e["broke"] for e in ended]}
        print("budget:", result["budget"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
