"""What does it cost to have 2,000 calls done, beside schedulers that store nothing?

    make bench ONLY=schedulers       # writes benchmarks/results/schedulers.json; --quick to see that it works

"Nothing to do": calls that return their number. "50 ms each": calls that sleep, 200 at once, so that 0.500 s is the least.
Bare asyncio is the limit: gather and a semaphore. MemGang's calls are agents of a gang: each is recalled over processes, its answer
stored, everything logged; "recalled" are the same calls once more. `share=False` calls are neither recalled nor stored. Ray and Dask run
them in worker processes, two of one core each, and are given room for 200 sleepers: Ray by a part of a core for a task and
by an asynchronous actor, Dask by 100 threads in each worker. (`make bench ONLY=scheduling` has LangGraph's Send.)

Sketch, before measuring: gather costs 5 us a call; a computed call three round trips that are shared, 100 to 200 us; Ray and Dask
send a task to another process and back and keep its state: 300 to 700 us.
Would change the design: a computed call that costs more than a Ray task.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import memgang
from beside import measured

CALLS, AT_ONCE, SLEEP_S = 2_000, 200, 0.05
NOTHING, SLEEPING = "nothing to do, per call", f"50 ms each, {AT_ONCE} at once, in all"
clock = time.perf_counter
Run = Callable[[int, bool], Awaitable[float]]  # how many, asleep or not; seconds


async def work(i: int, sleeps: bool) -> int:
    """One call."""
    if sleeps:
        await asyncio.sleep(SLEEP_S)
    return i


def plain_work(i: int, sleeps: bool) -> int:
    """The same, where it is not awaited."""
    if sleeps:
        time.sleep(SLEEP_S)
    return i


async def bare(count: int, sleeps: bool) -> float:
    """gather and a semaphore."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(i: int) -> int:
        async with gate:
            return await work(i, sleeps)

    began = clock()
    await asyncio.gather(*(one(i) for i in range(count)))
    return clock() - began


def ours(space: Any) -> dict[str, Run]:
    """A gang's agents."""
    gang = memgang.Gang(space, concurrency=AT_ONCE)
    last: list[list[int]] = []

    @gang.agent(role="shared", agents=AT_ONCE)
    async def shared(item: list[int]) -> int:
        return await work(item[1], bool(item[2]))

    @gang.agent(role="alone", agents=AT_ONCE, share=False)
    async def alone(item: list[int]) -> int:
        return await work(item[1], bool(item[2]))

    def run(agent: Any, again: bool) -> Run:
        async def measured_run(count: int, sleeps: bool) -> float:
            nonlocal last
            if not again or not last:
                stamp = time.time_ns()
                last = [[stamp, i, int(sleeps)] for i in range(count)]
            began = clock()
            await gang.map(agent, last)
            await space.flush()  # all of it, its lines in the log included
            return clock() - began

        return measured_run

    return {"MemGang, computed": run(shared, False), "MemGang, recalled": run(shared, True), "MemGang, share=False": run(alone, False)}


def with_ray() -> tuple[dict[str, Run], Callable[[], None]]:
    """Ray's tasks, and an asynchronous actor."""
    import ray as library

    ray: Any = library
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, object_store_memory=256 << 20)
    task = ray.remote(plain_work)

    @ray.remote(max_concurrency=AT_ONCE)
    class Actor:
        async def work(self, i: int, sleeps: bool) -> int:
            return await work(i, sleeps)

    actor = Actor.remote()  # type: ignore[attr-defined]
    ray.get(actor.work.remote(0, False))

    async def tasks(count: int, sleeps: bool) -> float:
        began = clock()
        ray.get([task.remote(i, sleeps) for i in range(count)])
        return clock() - began

    async def calls(count: int, sleeps: bool) -> float:
        began = clock()
        ray.get([actor.work.remote(i, sleeps) for i in range(count)])
        return clock() - began

    return {"Ray tasks": tasks, "Ray asynchronous actor": calls}, ray.shutdown


def with_dask() -> tuple[dict[str, Run], Callable[[], None]]:
    """Dask's distributed scheduler with two workers."""
    import distributed

    dask: Any = distributed
    cluster = dask.LocalCluster(n_workers=2, threads_per_worker=AT_ONCE // 2, dashboard_address=None, processes=True)
    client = dask.Client(cluster)

    async def run(count: int, sleeps: bool) -> float:
        began = clock()
        client.gather(client.map(plain_work, range(count), [sleeps] * count, pure=False))
        return clock() - began

    def close() -> None:
        client.close()
        cluster.close()

    return {"Dask": run}, close


async def measure(args: Any, found: measured.Evidence) -> None:
    """All rounds."""
    count = CALLS // 10 if args.quick else CALLS
    who: dict[str, Run] = {"bare asyncio": bare}
    closing: list[Callable[[], None]] = []
    for name, make in (("Ray", with_ray), ("Dask", with_dask)):
        try:
            runs, close = make()
            who |= runs
            closing.append(close)
        except Exception as error:
            found.left_out(name, error)
    async with memgang.open(space="bench") as space:
        who |= ours(space)
        for run in who.values():
            await run(100, False)
        for _, name in measured.turns(args.rounds, list(who)):
            if name == "MemGang, recalled":
                continue  # it comes right behind "computed", whose calls it repeats
            found.add(NOTHING, name, [await who[name](count, False) / count])
            if name == "MemGang, computed":
                found.add(NOTHING, "MemGang, recalled", [await who["MemGang, recalled"](count, False) / count])
            if name != "Ray tasks":  # its workers are processes: 200 sleepers would be 200 of them
                found.add(SLEEPING, name, [await who[name](count, True)], "s")
    for close in closing:
        close()


def main() -> int:
    """Run, print, write."""
    args = measured.settled(measured.arguments(__file__, __doc__, rounds=7).parse_args())
    measured.beside_peers()
    with measured.home():
        found = measured.Evidence(args, ("ray", "dask", "distributed"), calls=CALLS // 10 if args.quick else CALLS, at_once=AT_ONCE)
        asyncio.run(measure(args, found))
    for peer in ("Ray tasks", "Dask"):
        found.goal("a call that is computed, stored and logged", found.median(NOTHING, "MemGang, computed"), "<= 1", peer=peer,
                   theirs=found.median(NOTHING, peer))
    if not args.quick:
        found.goal("2,000 calls of 50 ms at 200 at once", found.median(SLEEPING, "MemGang, computed"), "<= 0.56", "s")
    found.found["notes"].append("Ray's tasks do not sleep here: each sleeper would need a worker process of its own.")
    return found.finish()


if __name__ == "__main__":
    sys.exit(main())
