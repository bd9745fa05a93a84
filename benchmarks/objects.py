"""How long do put and get of a memory object take, beside Ray, Redis, LMDB, and what could be done by hand?

    make bench ONLY=objects          # writes benchmarks/results/objects.json; --quick to see that it works

The reader is another process than the writer. Everybody puts and gets the same values in turn, in every round; only a MemGang
object is also recorded, expiring (1 h), logged and held to a budget. "First" is the first get of an object in the reader, "again" the
next one of the same. Reads are logged in batches behind the reader's back; "until logged" is the time of all gets of a round and of
writing their lines, divided by their number. Arrays are read to their first element. 64 callers at once also get objects that their
host has never seen: that reader has a host tier of its own, as on another host, so that nothing is shared but the server.

Sketch, before measuring: a look into shared memory costs 1 to 2 us, redis-py 30 us, of which 12 are the wire; so a get that asks
nobody is 5 us with its line in the log. A put needs one round trip and a script: 1.4 times a SET. 100 MiB: 26 ms of hashing,
50 ms of fresh pages; memcpy into fresh shared memory 40 to 100 ms. A get maps: 50 us, whatever the size.
Would change the design: a goal below that is missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from typing import Any

from beside import measured, stores
from beside.stores import AT_ONCE, LARGE, values

BATCH, MANY = 64, 1_000
AGAIN = "scripts of the server per 1,000 gets again"  # log lines go in batches
COUNTS = {"1 KiB text": 1_000, "64 KiB bytes": 200, "1 MiB bytes": 50, LARGE: 3}  # of one round
QUICK = {"1 KiB text": 300, "64 KiB bytes": 40, "1 MiB bytes": 10, LARGE: 1}


async def read(folder: str, path: str, elsewhere: bool) -> None:
    """The reader: gets what it is told, and says how long it took."""
    known: dict[str, Any] = stores.anywhere(folder, path)
    if elsewhere:  # another host, as far as MemGang can see
        known = {"MemGang": stores.MemGang(f"unix://{path}", host_dir=folder + "/elsewhere"), "redis-py": stores.Redis(path)}
    for who in known.values():
        await who.open()
    print("[]", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, who, *rest = json.loads(line)
        peer = known[who]
        peer.last = None
        if verb == "memory":
            before = measured.memory()
            await peer.get(LARGE, rest[0])
            answer: Any = stores.grown_since(before, peer.last)
        else:
            answer = await getattr(peer, verb)(*rest)
        peer.last = None
        if who == "MemGang":
            await peer.space.flush()  # now, not in the time of whoever is next
        print(json.dumps([answer]), flush=True)
    await known["MemGang"].space.aclose()


async def measure(args: Any, folder: str, path: str, found: measured.Evidence) -> None:
    """All rounds."""
    known = stores.anywhere(folder, path)
    for who in known.values():
        await who.open()
    reader = measured.Other(__file__, "--read", folder, path)
    reader.hear()
    readers: dict[str, Any] = {who: lambda verb, *rest, who=who: reader.ask(verb, who, *rest)[0] for who in known}
    try:
        known["Ray"] = stores.Ray()
        readers["Ray"] = known["Ray"].ask
    except Exception as error:
        found.left_out("Ray", error)
    counts, names = QUICK if args.quick else COUNTS, list(known)
    for who in names:  # each has met everything once
        for what in list(counts)[:3]:
            keys, _ = await known[who].put(what, values(what, 20, -1))
            readers[who]("get", what, keys)
    for number, who in measured.turns(args.rounds, names):
        peer, ask = known[who], readers[who]
        for what, count in counts.items():
            keys, took = await peer.put(what, values(what, count, number))
            found.add(f"put {what}", who, took)
            found.add(f"get {what}, first", who, ask("get", what, keys))
            before = await peer.scripts() if who == "MemGang" and what == "1 KiB text" else None
            found.add(f"get {what}, again", who, ask("get", what, keys))
            if before is not None:
                found.add(AGAIN, who, [(await peer.scripts() - before) / count * 1e3], "scripts")
                found.add("get 1 KiB text, again, until logged", who, [ask("get_logged", keys)])
            if who != "Ray":
                await peer.drop(keys)
            if what == LARGE:
                keys, _ = await peer.put(what, values(what, 1, -2 - number))
                if who != "LMDB":  # its array ends with the transaction
                    rss, anonymous = ask("memory", keys)
                    found.add("reader grows with 100 MiB array, first element", who, [rss / 2**20], "MiB resident")
                    found.add("reader grows with 100 MiB array, all read", who, [anonymous / 2**20], "MiB anonymous")
                if who != "Ray":
                    await peer.drop(keys)
            del keys
        await many(who, peer, ask, found, 4 if args.quick else 48, number)
        if who == "MemGang":
            for value in values(LARGE, counts[LARGE], number):
                found.add(f"put {LARGE}", "memcpy, fresh pages", [stores.fresh_copy(value)])
    reader.end()
    await elsewhere(args, folder, path, found)
    await known["MemGang"].space.aclose()
    if "Ray" in known:
        known["Ray"].ray.shutdown()


async def many(who: str, peer: Any, ask: Any, found: measured.Evidence, batches: int, number: int) -> None:
    """The forms for many."""
    text = values("1 KiB text", batches * BATCH, 1_000 + number)
    if who == "Ray":
        keys, _ = await peer.put("1 KiB text", text)
    elif not peer.batched:
        return
    else:
        keys = []
        for start in range(0, len(text), MANY):
            if len(part := text[start:start + MANY]) == MANY or start == 0:
                some, rate = await peer.put_many(part)
                found.add(f"put_many 1 KiB text, {MANY:,} each", who, [rate], "objects/s")
                keys += some
    rates = [ask("get_many", keys[start:start + BATCH]) for start in range(0, len(keys) - BATCH + 1, BATCH)]
    found.add(f"get_many of {BATCH} x 1 KiB text", who, rates, "objects/s")
    if who == "MemGang":
        found.add(f"{AT_ONCE} gets at once, same host", who, [ask("at_once", keys)], "gets/s")


async def elsewhere(args: Any, folder: str, path: str, found: measured.Evidence) -> None:
    """64 callers at once on a host that has seen nothing of it; the same server for both."""
    ours, theirs = await stores.MemGang(f"unix://{path}").open(), stores.Redis(path)
    reader = measured.Other(__file__, "--read", folder, path, "--elsewhere")
    reader.hear()
    count = 1_280 if args.quick else 6_400
    for number, who in measured.turns(max(args.rounds, 3), ["MemGang", "redis-py"]):
        keys, _ = await (ours if who == "MemGang" else theirs).put_many(values("1 KiB text", count, 2_000 + number))
        found.add(f"{AT_ONCE} gets at once, host tier missed", who, reader.ask("at_once", who, keys), "gets/s")
    reader.end()
    await ours.space.aclose()


def goals(found: measured.Evidence) -> None:
    """What the issue asks for."""
    m = found.median
    first, put = "get 1 KiB text, first", "put 1 KiB text"
    for peer, name in (("redis-py", "redis-py GET"), ("Ray", "Ray get")):
        found.goal("get of 1 KiB text written by another process", m(first, "MemGang"), "<= 0.25", peer=name, theirs=m(first, peer))
    found.goal("scripts of the server per 1,000 repeated gets", m(AGAIN, "MemGang"), "<= 20", "scripts")
    found.goal("get_many of 64", m(f"get_many of {BATCH} x 1 KiB text", "MemGang"), ">= 150000", "objects/s")
    found.goal("put of 1 KiB text", m(put, "MemGang"), "<= 1.7", peer="redis-py SET", theirs=m(put, "redis-py"))
    found.goal("put_many of 1 KiB text", m(f"put_many 1 KiB text, {MANY:,} each", "MemGang"), ">= 40000", "objects/s")
    get, put = f"get {LARGE}, first", f"put {LARGE}"
    found.goal("get of a 100 MiB array in another process, to its first element", m(get, "MemGang"), "<= 0.5", peer="Ray get",
               theirs=m(get, "Ray"))
    found.goal("the reader's resident memory grows with it, first element read",
               m("reader grows with 100 MiB array, first element", "MemGang"), "<= 10", "MiB")
    found.goal("the reader's private memory grows with it, all read",
               m("reader grows with 100 MiB array, all read", "MemGang"), "<= 10", "MiB")
    found.goal("put of a 100 MiB array", m(put, "MemGang"), "<= 2.5", peer="memcpy into fresh shared memory",
               theirs=m(put, "memcpy, fresh pages"))
    found.goal("put of a 100 MiB array, how much faster", m(put, "MemGang"), ">= 5", peer="redis-py SET", theirs=m(put, "redis-py"),
               inverse=True)
    row = f"{AT_ONCE} gets at once, host tier missed"
    found.goal("64 gets at once that miss the host tier", m(row, "MemGang"), ">= 5", "gets/s", peer="redis.asyncio",
               theirs=m(row, "redis-py"))


def main() -> int:
    """Run, print, write."""
    parser = measured.arguments(__file__, __doc__, rounds=5)
    parser.add_argument("--read", nargs=2)
    parser.add_argument("--elsewhere", action="store_true")
    args = measured.settled(parser.parse_args())
    if args.read:
        asyncio.run(read(args.read[0], args.read[1], args.elsewhere))
        return 0
    measured.beside_peers()
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with measured.home(), measured.server() as path, tempfile.TemporaryDirectory(dir=shm, prefix="memgang-bench-") as folder:
        found = measured.Evidence(args, ("ray", "lmdb", "numpy", "hiredis"), counts=QUICK if args.quick else COUNTS)
        asyncio.run(measure(args, folder, path, found))
        goals(found)
        return found.finish()


if __name__ == "__main__":
    sys.exit(main())
