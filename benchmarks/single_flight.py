"""How long do 400 callers in 8 processes wait for one computation of 1 s, and how long when its leader is killed?

    make bench ONLY=single_flight    # writes benchmarks/results/single_flight.json

Sketch, before measuring: the last caller hears of the commit within a round trip or two, so about 1.0 s. A killed
leader is noticed when its lease (1 s here) has passed, then the work is done again: between 1 and 3 s after the
kill, of which 1 s is the work. Reports executions, and the time of the last answer, for each round.
Would change the design: an execution more than 1 (2 with a kill), or an answer later than lease + work + 1 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROCESSES, CALLERS, WORK_S, LEASE_S = 8, 50, 1.0, 1.0
ROOT = Path(__file__).parent.parent


def one_round(number: int, kill: bool, folder: Path) -> dict[str, Any]:
    """Start the processes, let them ask at once, kill the leader if wanted; executions and the time of the last answer."""
    log = folder / f"runs-{number}-{kill}"
    log.touch()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    workers = [subprocess.Popen(
        [sys.executable, "-m", "tests.worker", "callers", f"bench-{number}-{int(kill)}", str(CALLERS), str(log), str(WORK_S)],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) for _ in range(PROCESSES)]
    for worker in workers:
        assert worker.stdout is not None and worker.stdin is not None
        worker.stdout.readline()
    for worker in workers:
        worker.stdin.write("go\n")  # type: ignore[union-attr]
        worker.stdin.flush()  # type: ignore[union-attr]
    started, leader = time.monotonic(), 0
    if kill:
        while not log.read_text():
            time.sleep(0.005)
        leader = int(log.read_text().split()[0])
        os.kill(leader, signal.SIGKILL)
        started = time.monotonic()
    answers = [json.loads(w.stdout.readline()) for w in workers if w.pid != leader]  # type: ignore[union-attr]
    last = time.monotonic() - started
    for worker in workers:
        worker.communicate()
    return {"executions": len(log.read_text().split()), "seconds": last, "answers": sum(a["count"] for a in answers),
            "different": len({ref for a in answers for ref in a["refs"]})}


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "single_flight.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0], "processes": PROCESSES, "callers": CALLERS, "work_s": WORK_S, "lease_s": LEASE_S,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()}}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        for kill in (False, True):
            rounds = [one_round(n, kill, Path(home)) for n in range(args.rounds)]
            times = sorted(r["seconds"] for r in rounds)
            name = "leader killed" if kill else "undisturbed"
            result[name] = rounds
            print(f"{name}: executions {sorted({r['executions'] for r in rounds})}, answers {sorted({r['answers'] for r in rounds})}, "
                  f"last answer after {times[0]:.2f} / {statistics.median(times):.2f} / {times[-1]:.2f} s (min / median / max)")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
