"""What does a recalled and logged agent call cost, beside schedulers that store nothing?

    make bench ONLY=scheduling       # writes benchmarks/results/scheduling.json

Sketch, before measuring: a computed call is three round trips (claim, put, commit) that share the wire
with the others under way, about 20 us of server each and as much of client: 100 to 200 us. A peer that
stores nothing pays for its own bookkeeping only. 2,000 calls of 50 ms at 200 at once cannot end before 0.50 s.
Reports the median and the spread of the rounds; peers run in turn with us, in the same process.
Would change the design: a call that costs more than LangGraph's Send.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import operator
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import memgang

CALLS, AT_ONCE, SLEEP_S = 2_000, 200, 0.05


async def gather_noop() -> float:
    """Bare asyncio: gather and a semaphore."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(i: int) -> int:
        async with gate:
            return i

    started = time.perf_counter()
    await asyncio.gather(*(one(i) for i in range(CALLS)))
    return time.perf_counter() - started


def langgraph_map(work: Callable[[Any], Awaitable[Any]]) -> Callable[[], Awaitable[float]] | None:
    """LangGraph's Send map-reduce over the same number of calls, nothing stored; None when it is not installed."""
    try:
        from langgraph.graph import END, START, StateGraph
        from langgraph.types import Send
    except ImportError:
        return None

    class State(TypedDict):
        items: list[int]
        out: Annotated[list[Any], operator.add]

    async def node(state: dict[str, Any]) -> dict[str, Any]:
        return {"out": [await work(state["i"])]}

    graph: Any = StateGraph(State)
    graph.add_node("work", node)
    graph.add_conditional_edges(START, lambda s: [Send("work", {"i": i}) for i in s["items"]], ["work"])
    graph.add_edge("work", END)
    app = graph.compile()

    async def run() -> float:
        started = time.perf_counter()
        state = await app.ainvoke({"items": list(range(CALLS)), "out": []}, {"max_concurrency": AT_ONCE})
        assert len(state["out"]) == CALLS
        return time.perf_counter() - started

    return run


async def memgang_rounds(rounds: int) -> dict[str, list[float]]:
    """The same calls as agents of a gang: computed for the first time, then recalled, then with 50 ms of work each."""
    found: dict[str, list[float]] = {"computed": [], "recalled": [], "slept": []}
    lang_noop = langgraph_map(_same)
    lang_slept = langgraph_map(_slow)
    if lang_noop and lang_slept:
        found |= {"langgraph noop": [], "langgraph slept": []}
    found["gather noop"] = []
    async with memgang.open(space="bench") as space:
        gang = memgang.Gang(space, concurrency=AT_ONCE)

        @gang.agent(role="noop", agents=AT_ONCE)
        async def noop(item: list[int]) -> int:
            return item[1]

        @gang.agent(role="slow", agents=AT_ONCE)
        async def slow(item: list[int]) -> int:
            await asyncio.sleep(SLEEP_S)
            return item[1]

        await gang.map(noop, [[-1, i] for i in range(200)])
        for number in range(rounds):
            stamp = time.time_ns()
            for kind, agent in (("computed", noop), ("recalled", noop), ("slept", slow)):
                gc.collect()  # each row pays for its own garbage, with the collector as Python sets it
                started = time.perf_counter()
                await gang.map(agent, [[stamp, i] for i in range(CALLS)])
                found[kind].append(time.perf_counter() - started)
            found["gather noop"].append(await gather_noop())
            gc.collect()
            if lang_noop and lang_slept:
                found["langgraph noop"].append(await lang_noop())
                if number == 0 or rounds <= 3:
                    found["langgraph slept"].append(await lang_slept())
    return found


async def _same(i: int) -> int:
    return i


async def _slow(i: int) -> int:
    await asyncio.sleep(SLEEP_S)
    return i


async def memory() -> dict[str, float]:
    """Bytes in the server for each stored object of 200 bytes, and for each event of a read."""
    async with memgang.open(space=f"bench-{os.getpid()}") as space:
        async def used() -> int:
            return int((await space.store.wire.call("INFO", "memory")).split(b"used_memory:")[1].split(b"\r")[0])

        before = await used()
        refs = await space.put_many([f"{i:0200d}" for i in range(10_000)])
        await space.flush()
        put = await used()
        await space.get_many(refs)
        await space.flush()
        read = await used()
    return {"bytes per object of 200 bytes, with its log line": (put - before) / 10_000,
            "bytes per read event": (read - put) / 10_000}


def main() -> int:
    """Run, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scheduling.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run")
        times = asyncio.run(memgang_rounds(args.rounds))
        sizes = asyncio.run(memory())
    rows = {}
    for name, seconds in times.items():
        if seconds:
            rows[name] = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds),
                          "us_per_call": statistics.median(seconds) / CALLS * 1e6}
    result = {"question": __doc__.splitlines()[0], "calls": CALLS, "at_once": AT_ONCE, "rows": rows, "memory": sizes,
              "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(),
                          "arch": platform.machine()}, "rounds": args.rounds}
    print(f"{'':28}{'median s':>10}{'min':>8}{'max':>8}{'us/call':>9}")
    for name, row in rows.items():
        print(f"{name:28}{row['median_s']:10.3f}{row['min_s']:8.3f}{row['max_s']:8.3f}{row['us_per_call']:9.1f}")
    for what, size in sizes.items():
        print(f"{what}: {size:,.0f}")
    if "langgraph noop" not in rows:
        print("langgraph is not installed: pip install 'memgang[bench]' to measure it beside us")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
