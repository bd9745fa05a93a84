"""Of 200 calls over 10 long documents, what share of their tokens comes from the provider's prompt cache, with the gate and without?

    make bench ONLY=prefix    # writes benchmarks/results/prefix.json

The model is simulated, with a cache that keeps what was read of a prompt from its first token on. 20 questions on each of 10
documents of about 2,500 tokens are asked at the same moment, 32 at once. Sketch, before measuring: without the gate, questions on
one document are sent together, and the first of them find nothing; with it, all but the first of each document do, so 19 of 20.
Would change the design: a share below 80 %, or a run longer by more than two times to the first token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
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
from memgang.model import Prompt  # noqa: E402

DOCUMENTS, QUESTIONS, AT_ONCE, LATENCY_MS = 10, 20, 32, 300


async def measure(gate: bool) -> dict[str, Any]:
    """Tokens in, cached, dollars and seconds of one run."""
    model = Simulated(latency_ms=LATENCY_MS, tokens_per_s=400, cache=1)
    texts = [f"Document {d}. " + " ".join(f"The line {n} of document {d} speaks of pump {n * d}." for n in range(220))
             for d in range(DOCUMENTS)]
    async with (memgang.open(space=f"bench-prefix-{int(gate)}") as space,
                memgang.Gang(space, model, concurrency=AT_ONCE, limits=memgang.Limits(prefix_gate=gate)) as gang):
        started = time.perf_counter()
        await asyncio.gather(*(
            gang.llm(Prompt(instruction="Answer from the text.", passages=(text,), question=f"What of pump {q}?"))
            for text in texts for q in range(QUESTIONS)))
        seconds, spent = time.perf_counter() - started, gang.progress.spent
    return {"calls": spent.llm_calls, "tokens in": spent.tokens_in, "cached": spent.tokens_cached,
            "share cached": round(spent.tokens_cached / spent.tokens_in, 3), "usd": spent.micro_usd / 1e6, "seconds": round(seconds, 2)}


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "prefix.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0], "model": "simulated", "documents": DOCUMENTS, "questions of each": QUESTIONS,
        "at once": AT_ONCE, "first token ms": LATENCY_MS,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()}}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        for gate in (False, True):
            name = "with the gate" if gate else "without"
            result[name] = asyncio.run(measure(gate))
            print(f"{name}: {result[name]}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
