"""Where one call in twenty is ten times slower, how much sooner does a run end with hedging, and at how many more calls?

    make bench ONLY=hedging    # writes benchmarks/results/hedging.json; takes a few minutes

The model is simulated: 5 % of its calls, drawn by a seed, take ten times as long; the same prompt asked again is drawn anew. Each run
is 100 different prompts at 16 at once, with and without hedging in turn; one gang does all runs of its kind, so its first run knows
nothing of how long calls take. Sketch, before measuring: without, the last slow call of a run ends up to ten calls' time behind the
rest; with it, about 2.3. So the 95th percentile of a run's wall time should fall by 40 % or more, at about 5 % more calls.
Would change the design: less than 30 %, or 8 % more calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

import memgang  # noqa: E402
from memgang.llms.simulated import Simulated  # noqa: E402
from memgang.model import Completion, Prompt  # noqa: E402

CALLS, AT_ONCE, SHARE = 100, 16, 0.07


class Counted(Simulated):
    """Counts how often it was asked."""

    asked = 0

    async def complete(self, prompt: Prompt) -> Completion:
        """As the simulated model."""
        self.asked += 1
        return await super().complete(prompt)


def model(seed: int) -> Counted:
    """5 % of the calls ten times slower; 100 ms to the first token."""
    return Counted(latency_ms=100, tokens_per_s=0, slow_rate=0.05, slow_factor=10, seed=seed)


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies."""
    return sorted(values)[max(math.ceil(len(values) * share), 1) - 1]  # nearest rank


async def measure(runs: int, seed: int) -> dict[str, Any]:
    """Wall times of all runs of both kinds, and the calls they took."""
    kinds = {"without": memgang.Limits(), "with": memgang.Limits(hedge=SHARE)}
    walls: dict[str, list[float]] = {kind: [] for kind in kinds}
    async with memgang.open(space="bench-hedging") as space:
        models = {kind: model(seed) for kind in kinds}
        gangs = {kind: memgang.Gang(space, models[kind], concurrency=AT_ONCE, limits=limits) for kind, limits in kinds.items()}
        for number in range(runs):
            for kind, gang in gangs.items():
                prompts = [f"{kind} {number} {n}: Why did the pump fail?" for n in range(CALLS)]
                started = time.perf_counter()
                await asyncio.gather(*(gang.llm(p) for p in prompts))
                walls[kind].append(time.perf_counter() - started)
        for gang in gangs.values():
            await gang.aclose()
    out: dict[str, Any] = {}
    for kind in kinds:
        out[kind] = {"p50 s": round(quantile(walls[kind], 0.5), 3), "p95 s": round(quantile(walls[kind], 0.95), 3),
                     "calls": models[kind].asked, "runs s": [round(w, 3) for w in walls[kind]]}
    out["p95 falls by"] = round(1 - out["with"]["p95 s"] / out["without"]["p95 s"], 3)
    out["p50 falls by"] = round(1 - out["with"]["p50 s"] / out["without"]["p50 s"], 3)
    out["more calls"] = round(out["with"]["calls"] / out["without"]["calls"] - 1, 4)
    return out


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "hedging.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        result = {
            "question": (__doc__ or "").splitlines()[0], "calls of a run": CALLS, "at once": AT_ONCE, "hedge": SHARE, "seed": args.seed,
            "model": "simulated, 5 % of calls 10 times slower",
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(),
                        "arch": platform.machine()},
            **asyncio.run(measure(args.runs, args.seed))}
    for kind in ("without", "with"):
        print(f"{kind}: p50 {result[kind]['p50 s']} s, p95 {result[kind]['p95 s']} s, {result[kind]['calls']} calls")
    print(f"p95 falls by {result['p95 falls by']:.1%}, p50 by {result['p50 falls by']:.1%}, at {result['more calls']:.2%} more calls")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
