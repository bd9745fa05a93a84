"""How much sooner is a report there when worker processes do the CPU-bound work?

    make bench ONLY=engines      # writes benchmarks/results/engines.json

Sketch, before measuring: of 2.4 s of the demo in one process, 0.4 s pass before work begins (imports, server), 0.1 s go
into the ledger and the page, 0.5 s are the event loop's own (966 agent calls, 5,000 events), and 1.4 s are leaves:
58 files parsed, 218 prompts answered, 4 searches. On two cores loop and leaves share (0.5 + 1.4) / 2 = 1.0 s at best,
so 1.5 s in all: 1.6 times as fast. A larger input has the same fixed costs, so it comes nearer to 2.
Whole commands, from start to exit, each in a fresh memory with a server of its own; engines in turn, so that
what else the machine does hits both; the ratio is that of each pair. With ``asyncio``, files are parsed in a worker
process too. Reports medians, spread, processor time, and whether the reports agree apart from their figures.
Would change the design: a demo that is not 1.5 times as fast on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "nist-800-63-3"
QUESTIONS = ("What must an agency consider when it selects assurance levels?", "What does knowledge-based verification require?",
             "How long must a memorized secret be?", "What is a holder-of-key assertion?")
ENGINES = ("asyncio", "processes")
FIGURES = "## What the gang did, and what sharing saved"


def command(sources: list[Path], engine: str) -> tuple[float, float, str]:
    """Seconds from start to exit, seconds of processors (the server's too), and the report without its figures."""
    with tempfile.TemporaryDirectory() as home:
        out = Path(home) / "report.md"
        asked = [word for question in QUESTIONS for word in ("-q", question)]
        env = {**os.environ, "MEMGANG_STATE_DIR": home + "/state", "MEMGANG_RUNTIME_DIR": home + "/run"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process of each run would compile all modules anew
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "memgang", "run", *map(str, sources), "--space", "bench", *asked, "--engine", engine,
             "--title", "Guidelines", "--out", str(out)], env=env, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stderr)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, spent, out.read_text("utf-8").partition(FIGURES)[0]


def larger(folder: Path, times: int) -> Path:
    """The example several times over, every copy with words of its own, so that nothing is found in memory."""
    for number in range(times):
        for path in EXAMPLE.rglob("*.md"):
            to = folder / f"copy{number}" / path.relative_to(EXAMPLE)
            to.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text("utf-8")
            to.write_text(text if not number else text.replace(" the ", f" the copy{number} "), "utf-8")
    return folder


def main() -> int:
    """Run, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--times", type=int, default=4, help="how many copies of the example make the larger input")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "engines.json")
    args = parser.parse_args()
    inputs: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as home:
        for name, sources, rounds in (("demo", [EXAMPLE], args.rounds),
                                      (f"{args.times} copies", [larger(Path(home), args.times)], max(3, args.rounds // 2))):
            seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            spent: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            reports = set()
            command(sources, "asyncio")  # files and byte code come from memory for all that follow
            for _ in range(rounds):
                for engine in ENGINES:
                    took, cpu, report = command(sources, engine)
                    seconds[engine].append(took)
                    spent[engine].append(cpu)
                    reports.add(report)
            pairs = sorted(one / two for one, two in zip(seconds["asyncio"], seconds["processes"], strict=True))
            inputs[name] = {
                "rounds": rounds, "same report": len(reports) == 1,
                "times as fast, median of pairs": statistics.median(pairs), "pairs": pairs,
                "engines": {engine: {"median_s": statistics.median(seconds[engine]), "min_s": min(seconds[engine]),
                                     "p90_s": sorted(seconds[engine])[int(rounds * 0.9)], "max_s": max(seconds[engine]),
                                     "processor_s": statistics.median(spent[engine]), "seconds": seconds[engine]}
                            for engine in ENGINES}}
            print(f"{name}: {rounds} rounds, {'the same report' if len(reports) == 1 else 'THE REPORTS DIFFER'}")
            for engine in ENGINES:
                print(f"  {engine:10} median {statistics.median(seconds[engine]):6.2f} s   min {min(seconds[engine]):6.2f}"
                      f"   max {max(seconds[engine]):6.2f}   processors {statistics.median(spent[engine]):6.2f} s")
            print(f"  {statistics.median(pairs):.2f} times as fast (pairs {pairs[0]:.2f} to {pairs[-1]:.2f})")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    result = {"question": __doc__.splitlines()[0] if __doc__ else "", "inputs": inputs,
              "machine": {"cores": cores, "load before": os.getloadavg()[2], "python": platform.python_version(),
                          "system": platform.system(), "arch": platform.machine()}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
