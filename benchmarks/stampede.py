"""How often is one call computed, and how long do all wait, when four processes ask at once?

    make bench ONLY=stampede         # writes benchmarks/results/stampede.json; --quick to see that it works

One key: 4 processes with 200 callers each ask for the same 200 ms of work in the same moment. Zipf: 8,000 calls over 765 keys, each
drawn at least once and the rest with weights 1/rank, in four processes with 200 callers each, 200 ms of work for each key.
Asynchronous libraries have tasks for callers, synchronous ones threads. "By hand" is the limit: a future for each key that this
process keeps for ever, SET NX between processes, and a message when it is done; nothing expires, nothing is logged, nobody
takes over from a leader that dies. Time runs from the common start to the last answer. Who takes longer than 60 s is left there.

Sketch, before measuring: 0.2 s of work and 10 ms for all to hear of it. Zipf: 10 calls for each caller, of which 1 to 3 wait 0.2 s,
and the hot keys are there after the first: about 0.8 s, and 8,000 hits of 30 us on two cores 0.15 s.
Would change the design: more computations than keys; over 1.15 (one key) or 1.3 (Zipf) times the reference.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from beside import caches, measured

PROCESSES, CALLERS, KEYS, CALLS, WORK_S, LIMIT_S = 4, 200, 765, 8_000, 0.2, 60.0
SYNC = ("dogpile.cache", "diskcache barrier")
WHO = ("by hand", "MemGang", "cashews lock=True", *SYNC)
made = 0


async def work(key: str) -> str:
    """What is computed."""
    global made
    made += 1
    await asyncio.sleep(WORK_S)
    return f"{key} is done"


def slow_work(key: str) -> str:
    """The same, for threads."""
    global made
    made += 1  # threads change it under the interpreter's lock, two may still meet: enough for a count of what should be one
    time.sleep(WORK_S)
    return f"{key} is done"


class ByHand:
    """The reference: a future in the process, SET NX between them, publish and subscribe to wake."""

    def __init__(self, path: str) -> None:
        import redis.asyncio

        self.client: Any = redis.asyncio.Redis(unix_socket_path=path, max_connections=1_000)
        self.flights: dict[str, asyncio.Task[str]] = {}
        self.awaited: dict[str, asyncio.Future[str]] = {}

    async def open(self) -> None:
        """Listen first: who asks later must not miss the message."""
        self.ear = self.client.pubsub()
        await self.ear.psubscribe("done:*")
        self.listening = asyncio.create_task(self.listen())

    async def listen(self) -> None:
        async for message in self.ear.listen():
            if message["type"] == "pmessage" and (waiting := self.awaited.pop(message["channel"].decode()[5:], None)):
                waiting.set_result(message["data"].decode())

    async def ask(self, key: str) -> str:
        if (flight := self.flights.get(key)) is None:
            flight = self.flights[key] = asyncio.create_task(self.fly(key))
        return await flight

    async def fly(self, key: str) -> str:
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.awaited[key] = waiting
        if await self.client.set("lead:" + key, 1, nx=True):
            self.awaited.pop(key, None)
            answer = await work(key)
            await self.client.set("answer:" + key, answer)
            await self.client.publish("done:" + key, answer)
            return answer
        there: bytes | None = await self.client.get("answer:" + key)
        if there is not None:
            self.awaited.pop(key, None)
            return str(there, "utf-8")
        return await waiting


def calls(case: str, number: int) -> list[str]:
    """What one process asks for: its share of the draw, which is the same for all libraries."""
    if case == "one key":
        return ["only"] * CALLERS
    dice = random.Random(7)
    drawn = [*range(KEYS), *dice.choices(range(KEYS), [1 / (rank + 1) for rank in range(KEYS)], k=CALLS - KEYS)]
    dice.shuffle(drawn)
    return [f"k{key}" for key in drawn[number::PROCESSES]]


async def asker(who: str, path: str) -> tuple[Callable[[str], Awaitable[Any]], Callable[[], Awaitable[None]]]:
    """How an asynchronous library is asked, and how it is closed."""
    if who == "MemGang":
        import memgang

        space = await memgang.open(space="bench")
        return space.once(work, ttl=3_600), space.aclose
    if who == "by hand":
        hand = ByHand(path)
        await hand.open()

        async def close() -> None:
            hand.listening.cancel()
            await asyncio.gather(hand.listening, return_exceptions=True)
            await hand.ear.aclose()
            await hand.client.aclose()

        return hand.ask, close
    cache = caches.cashews(path)
    return cache(ttl=3_600, key="{key}", lock=True)(work), cache.close


def threaded(who: str, path: str, folder: str) -> Callable[[str], Any]:
    """How a synchronous library is asked."""
    if who == "dogpile.cache":
        return caches.dogpile(path).cache_on_arguments()(slow_work)  # type: ignore[no-any-return]
    from diskcache import Cache, Lock, barrier

    cache = Cache(folder)
    remembered = cache.memoize()(slow_work)
    # A barrier has one lock for its function; a function for each key gives each key its own, which is its best case.
    return lambda key: barrier(cache, Lock, name=f"lock {key}")(remembered)(key)


async def worker(who: str, path: str, folder: str, case: str, number: int) -> None:
    """One of the processes: waits for the common start; prints when its last answer came, and its computations."""
    mine = iter(asked := calls(case, number))
    got: list[Any] = []

    def announce() -> float:
        print("[]", flush=True)
        return float(sys.stdin.readline().strip("[]\n"))

    if who in SYNC:
        ask = threaded(who, path, folder)

        def caller(_: int) -> None:
            for key in mine:  # a list's iterator may be shared by threads
                got.append(ask(key))

        with ThreadPoolExecutor(CALLERS) as threads:
            start = announce()
            time.sleep(max(0.0, start - time.monotonic()))
            list(threads.map(caller, range(CALLERS)))
            ended = time.monotonic()
    else:
        ask, close = await asker(who, path)

        async def task() -> None:
            for key in mine:
                got.append(await ask(key))

        start = await asyncio.to_thread(announce)
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        await asyncio.gather(*(task() for _ in range(CALLERS)))
        ended = time.monotonic()
        await close()
    assert len(got) == len(asked)
    print(f"[{ended - start}, {made}]", flush=True)


def one_round(who: str, case: str) -> tuple[float, int]:
    """Seconds to the last answer, and computations."""
    with measured.home() as folder, measured.server() as path:
        words = ("--worker", who, path, str(folder / "cache"), case)
        others = [measured.Other(__file__, *words, str(number)) for number in range(PROCESSES)]
        try:
            for other in others:
                other.hear()
            start = time.monotonic() + 0.3
            for other in others:
                other.tell(start)
            found = [other.hear(LIMIT_S) for other in others]
        finally:
            for other in others:
                other.end()
    return max(took for took, _ in found), sum(count for _, count in found)


def measure(args: Any, found: measured.Evidence) -> None:
    """All rounds; who was too slow once is not asked again."""
    for case, distinct in (("one key", 1), ("Zipf", KEYS)):
        for number, who in measured.turns(args.rounds, WHO):
            if f"{who}, {case}" in found.found["left_out"] or (number >= 2 and who in SYNC):
                continue  # two rounds say enough of those who take many times as long
            try:
                took, count = one_round(who, case)
            except Exception as error:
                found.left_out(f"{who}, {case}", error)
                continue
            found.add(f"{case}: time to the last answer", who, [took], "s")
            found.add(f"{case}: computations", who, [count], "computations")
        row = f"{case}: computations"
        counts = found.samples.get((row, "MemGang", "computations"), [])
        worst = max(counts, key=lambda n: abs(n - distinct)) if counts else None
        found.goal(f"{row} (the round that was furthest from {distinct})", worst, f"== {distinct}", "computations")
        row = f"{case}: time to the last answer"
        found.goal(row, found.median(row, "MemGang"), f"<= {1.15 if distinct == 1 else 1.3}", "s", peer="the reference by hand",
                   theirs=found.median(row, "by hand"))


def main() -> int:
    """Run, print, write."""
    parser = measured.arguments(__file__, __doc__, rounds=7, quick_rounds=1)
    parser.add_argument("--worker", nargs=5)
    args = measured.settled(parser.parse_args())
    if args.worker:
        who, path, folder, case, number = args.worker
        asyncio.run(worker(who, path, folder, case, int(number)))
        return 0
    measured.beside_peers()
    found = measured.Evidence(args, ("cashews", "dogpile.cache", "diskcache"), processes=PROCESSES, callers=CALLERS, calls=CALLS,
                              keys=KEYS, work_s=WORK_S)
    measure(args, found)
    return found.finish()


if __name__ == "__main__":
    sys.exit(main())
