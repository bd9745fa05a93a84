"""What do OpenTelemetry's spans and metrics cost a hit: without a provider, sampled out, and exported?

    make bench ONLY=telemetry     # writes benchmarks/results/telemetry.json

Sketch, before measuring: without a provider a hit makes two comparisons, 0.05 us of some 15. A span of the SDK is 10 to 20 us of
Python with its attributes, one that is not sampled 3 to 5 us; a histogram 2 us. Rounds are paired: every way is measured in each,
in turn, on the same answers, and the differences of one round are what is reported.
Would change the design: more than 0.2 us without a provider.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

import memgang
from memgang.telemetry import Telemetry

HITS, ROUNDS = 4_000, 40


def ways() -> dict[str, Any]:
    """What a space may have found when it was opened."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    traced = TracerProvider()
    traced.add_span_processor(SimpleSpanProcessor(Nowhere()))
    metering = MeterProvider([InMemoryMetricReader()])
    return {"no provider": None, "spans, none sampled": Telemetry(TracerProvider(sampler=ALWAYS_OFF), None),
            "metrics": Telemetry(None, metering), "spans and metrics": Telemetry(traced, metering)}


async def measure(rounds: int, hits: int) -> dict[str, list[float]]:
    """Microseconds a hit, by way, in each round."""
    found: dict[str, list[float]] = {}
    async with memgang.open(space="telemetry") as space:
        @space.once(version="1")
        async def answer(n: int) -> str:
            return f"answer {n}"

        for n in range(100):
            await answer(n)
        chosen = list(ways().items())
        for round_ in range(-2, rounds):  # the first two warm up
            random.shuffle(chosen)
            for name, telemetry in chosen:
                space.store.telemetry = telemetry
                started = time.perf_counter()
                for n in range(hits):
                    await answer(n % 100)
                if round_ >= 0:
                    found.setdefault(name, []).append((time.perf_counter() - started) / hits * 1e6)
                await space.flush()
    return found


class _Held:
    """As a store holds it."""

    telemetry = None


def comparison_us() -> float:
    """One look at whether there is any, by itself."""
    held, times = _Held(), 1_000_000
    bare = min(timeit.repeat("pass", number=times, repeat=5))
    return (min(timeit.repeat("held.telemetry is None", globals={"held": held}, number=times, repeat=5)) - bare) / times * 1e6


def main() -> int:
    """Run, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--hits", type=int, default=HITS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "telemetry.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"MEMGANG_STATE_DIR": f"{home}/state", "MEMGANG_RUNTIME_DIR": f"{home}/run"}
        found = asyncio.run(measure(args.rounds, args.hits))
    without = found["no provider"]
    rows: dict[str, dict[str, float]] = {}
    for name, values in found.items():
        more = [value - bare for value, bare in zip(values, without, strict=True)]
        rows[name] = {"us a hit": round(statistics.median(values), 2), "us more, paired": round(statistics.median(more), 2)}
        print(f"{name:<22} {rows[name]['us a hit']:>8.2f} us a hit {rows[name]['us more, paired']:>8.2f} us more")
    rows["one comparison, by itself"] = {"us": round(comparison_us(), 4)}
    print(f"one comparison, by itself: {rows['one comparison, by itself']['us']:.4f} us")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({
        "question": (__doc__ or "").splitlines()[0], "rounds": args.rounds, "hits": args.hits, "rows": rows,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()},
    }, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
