"""Do put, get and recall cost the same among a million objects as among a thousand, and what does an object take in memory?

    make bench ONLY=growth           # writes benchmarks/results/growth.json; --max 100000 or --quick for less

One space with an embedded server grows from 10^3 to 10^6 texts of 200 bytes. At each size, medians are taken of put, of get (objects
drawn from all that are there, each for the first time, by a reader that has put none of them, so that each is hashed), and of recall
(a hit on a call that was computed at that size), of a listing page of 50 and of `stats`, when no rewrite of the append-only file is
under way. Memory is the server's `used_memory`: per object with its record and line in the log, and per read event, after 20,000
reads. The slowest script is the longest in the server's slow log since the start; that counts what the kernel did to the server in
the meantime, rewrites of its file included.

Sketch, before measuring: nothing on these paths looks at more than its own object; sorted sets add log(n), which is 20 steps against 10
and below a microsecond. An object is a hash of 400 bytes, a key of 100, its text, its place in two sorted sets (200): 900 bytes.
A read event is 100 bytes in a batch of 256.
Would change the design: a median over 1.5 times its first, a script over 2 ms, over 1,000 bytes an object or 120 a read event.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import memgang
from beside import measured
from memgang.model import Call

SIZES, SAMPLES, LISTINGS, READS, FILL = (1_000, 10_000, 100_000, 1_000_000), 1_000, 50, 20_000, 500
SLOW_US = 500
clock = time.perf_counter


class Growing:
    """The space, and what is known of it."""

    def __init__(self, space: Any, reader: Any, found: measured.Evidence, samples: int) -> None:
        self.space, self.reader, self.found, self.samples = space, reader, found, samples
        self.dice, self.made, self.kept = random.Random(7), 0, list[Any]()

    def fresh(self, count: int) -> list[str]:
        """Texts of 200 bytes that nobody has put."""
        self.made += count
        return [f"{n:0200d}" for n in range(self.made - count, self.made)]

    async def info(self, section: str) -> dict[str, str]:
        """What the server says of itself."""
        lines = (await self.space.store.wire.call("INFO", section)).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def used(self) -> int:
        """Bytes of the server, with all that waited written."""
        await self.space.flush()
        return int((await self.info("memory"))["used_memory"])

    async def fill(self, size: int) -> None:
        """Until so many are there; of what is put now, as many are kept for getting as there will be gets."""
        began, first = clock(), self.made
        before = await self.used()
        every = max(1, (size - self.made) // (3 * self.samples))
        while self.made < size:
            refs = await self.space.put_many(self.fresh(min(FILL, size - self.made)))
            self.kept += refs[::every]
        self.found.add(f"bytes of the server per object, to {size:,}", "MemGang", [(await self.used() - before) / (self.made - first)],
                       "bytes")
        self.found.add(f"filling to {size:,}", "MemGang", [(self.made - first) / (clock() - began)], "objects/s")
        while "1" in (await self.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.2)

    async def timed(self, what: str, many: list[Any], do: Callable[[Any], Awaitable[Any]]) -> None:
        """One at a time."""
        took = []
        for one in many:
            began = clock()
            await do(one)
            took.append(clock() - began)
        self.found.add(what, "MemGang", took)
        for one in (self.space, self.reader):
            await one.flush()  # now, not in the time of what is next

    async def measure(self, size: int) -> None:
        """All medians at this size."""
        space, suffix = self.space, f"among {size:,}"

        async def answer() -> str:
            return self.fresh(1)[0]

        async def ask(call: Call) -> None:
            await (await space.recall(call, answer)).value()

        async def page(_: int) -> None:
            assert len((await space.find(limit=50)).objects) == 50

        async def stats(_: int) -> None:
            await space.stats()

        self.dice.shuffle(self.kept)
        drawn, self.kept = self.kept[:self.samples], self.kept[self.samples:]
        calls = [Call("function", "benchmark:growth", "1", [size, n]) for n in range(min(len(drawn), self.samples))]
        await self.timed(f"put {suffix}", self.fresh(self.samples), space.put)
        await self.timed(f"get {suffix}", drawn, self.reader.get)
        await asyncio.gather(*(ask(call) for call in calls))
        await self.timed(f"recall {suffix}", calls, ask)
        await self.timed(f"listing page of 50 {suffix}", [*range(LISTINGS)], page)
        await self.timed(f"stats {suffix}", [*range(LISTINGS)], stats)

    async def reads(self, refs: list[Any]) -> None:
        """What a read event takes."""
        before = await self.used()
        for _ in range(READS // len(refs) + 1):
            await self.space.get_many(refs)
        self.found.add("bytes of the server per read event", "MemGang",
                       [(await self.used() - before) / (len(refs) * (READS // len(refs) + 1))], "bytes")

    async def slowest(self) -> None:
        """Scripts in the slow log; it has what took longer than SLOW_US."""
        entries = await self.space.store.wire.call("SLOWLOG", "GET", 1_000)
        scripts = sorted(((int(e[2]), e[3]) for e in entries if e[3][0].upper() in (b"EVALSHA", b"EVAL", b"FCALL")), reverse=True,
                         key=lambda e: e[0])
        names = {sha: name for name, sha in shas().items()}
        self.found.add("slowest script", "MemGang", [(scripts[0][0] if scripts else SLOW_US) / 1e6])
        self.found.found["slowest_scripts"] = [
            {"us": us, "script": names.get(words[1].decode(), words[1].decode())} for us, words in scripts[:10]]
        stats = await self.info("commandstats")
        self.found.found["notes"].append(f"{sum(us > 2_000 for us, _ in scripts)} scripts took longer than 2 ms.")
        self.found.found["commandstats"] = {k.removeprefix("cmdstat_"): v for k, v in stats.items() if "eval" in k or "fcall" in k}


def shas() -> dict[str, str]:
    """Names of scripts and what the server calls them."""
    import hashlib

    from memgang.store import scripts

    return {name: hashlib.sha1(scripts.assembled(name).encode()).hexdigest() for name in scripts.script_names()}


async def measure(args: Any, found: measured.Evidence) -> None:
    """All sizes."""
    async with memgang.open(space="growth") as space, memgang.open(space="growth") as reader:
        growing = Growing(space, reader, found, 200 if args.quick else SAMPLES)
        for words in (("CONFIG", "SET", "slowlog-log-slower-than", SLOW_US, "slowlog-max-len", 1_000), ("SLOWLOG", "RESET")):
            await space.store.wire.call(*words)
        warm = await space.put_many([f"warm {n}" for n in range(100)])
        await reader.get_many(warm)
        for size in (size for size in SIZES if size <= args.max):
            await growing.fill(size)
            await growing.measure(size)
        await growing.reads(await space.put_many(growing.fresh(200)))
        await growing.slowest()


def main() -> int:
    """Run, print, write."""
    parser = measured.arguments(__file__, __doc__, rounds=1, quick_rounds=1)
    parser.add_argument("--max", type=int, help="the largest size (default: 1,000,000; with --quick 10,000)")
    args = measured.settled(parser.parse_args())
    args.max = args.max or (10_000 if args.quick else SIZES[-1])
    measured.beside_peers()
    with measured.home():
        found = measured.Evidence(args, sizes=[size for size in SIZES if size <= args.max], samples=SAMPLES, bytes=200)
        asyncio.run(measure(args, found))
    small, large = SIZES[0], max(size for size in SIZES if size <= args.max)
    for what in ("put", "get", "recall"):
        found.goal(f"{what} among {large:,} objects", found.median(f"{what} among {large:,}", "MemGang"), "<= 1.5",
                   peer=f"{what} among {small:,}", theirs=found.median(f"{what} among {small:,}", "MemGang"))
    for what, goal, unit in ((f"bytes of the server per object, to {large:,}", "<= 1000", "bytes"),
                             ("bytes of the server per read event", "<= 120", "bytes"), ("slowest script", "<= 2000", "us")):
        found.goal(what, found.median(what, "MemGang"), goal, unit)
    return found.finish()


if __name__ == "__main__":
    sys.exit(main())
