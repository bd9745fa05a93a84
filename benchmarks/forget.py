"""How long does it take to forget an object with 10,000 others that were made from it?

    make bench ONLY=forget    # writes benchmarks/results/forget.json

Sketch, before measuring: the walk asks for 128 records in one script (about 1 ms, so 0.1 s for 10,000), and each
object is removed with its answer in scripts of 64 (about 2 ms and as much on our side, so 0.6 s): under 1 s in all.
Shapes: all made from the root (wide), each from one before it (deep), all of it beside 10,000 objects that stay.
Would change the design: more than 1 s for 10,000 objects, or a time that grows faster than their number.
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
from memgang.model import Call, Ref
from memgang.space import Space

AT_ONCE = 500


async def derived(space: Space, name: str, count: int, deep: bool) -> Ref:
    """A root and so many answers made from it, each by a recalled call that has read its parent."""
    root = await space.put(f"root of {name}")

    async def one(number: int, parent: Ref) -> Ref:
        async def work() -> str:
            await space.get(parent)
            return f"{name} {number}: " + "a finding of some length. " * 8

        return (await space.recall(Call("function", "forget:made", "1", {"name": name, "n": number}), work)).ref

    made = [root]
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(count, start + AT_ONCE))
        made += await asyncio.gather(*(one(n, made[max(0, n - AT_ONCE + 1)] if deep else root) for n in numbers))
    return root


async def measure(count: int, deep: bool, beside: int) -> dict[str, Any]:
    """Seconds for the dry run and for the real one."""
    async with memgang.open(space=f"forget-{time.monotonic_ns()}") as space:
        if beside:
            await derived(space, "beside", beside, deep=False)
        root = await derived(space, "made", count, deep)
        began = time.perf_counter()
        shown = await space.forget(root, cascade=True, dry_run=True)
        looked = time.perf_counter() - began
        began = time.perf_counter()
        gone = await space.forget(root, cascade=True)
        took = time.perf_counter() - began
        assert len(gone.refs) == len(shown.refs) == count + 1 and len(gone.answers) == count
        left = await space.stats()
        assert left["count"] == (beside + 1 if beside else 0)
        await space.erase()
        return {"dry_run_s": looked, "forget_s": took, "bytes": gone.bytes}


async def all_of_it(rounds: int) -> dict[str, Any]:
    """Every shape, the rounds in turn."""
    shapes = {"1,000, wide": (1_000, False, 0), "10,000, wide": (10_000, False, 0), "10,000, deep": (10_000, True, 0),
              "10,000, wide, beside 10,000 others": (10_000, False, 10_000)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in shapes}
    for _ in range(rounds):
        for name, shape in shapes.items():
            found[name].append(await measure(*shape))
    for name, each in found.items():
        dry, real = (sorted(r[what] for r in each) for what in ("dry_run_s", "forget_s"))
        print(f"{name}: dry run {statistics.median(dry):.2f} s, forget {real[0]:.2f} / {statistics.median(real):.2f} / {real[-1]:.2f} s "
              "(min / median / max)")
    return found


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "forget.json")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0],
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()}}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        result["objects, shape"] = asyncio.run(all_of_it(args.rounds))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
