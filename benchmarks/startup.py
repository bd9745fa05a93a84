"""How soon after its start has a program put and got its first object, and what does it hold in memory when idle?

    make bench ONLY=startup          # writes benchmarks/results/startup.json; --quick to see that it works

Every figure is of a new process, with byte code cached as users have it, and with folders that nobody has used. Each takes three
times of itself: of its imports, from there to the first put and get ("cold" starts a server, "joining" finds one that runs), and
from the start of the process to that end, interpreter included. A second later, doing nothing, it reads its memory and that of the
processes it has started: resident for ours (RSS), and shared pages counted in parts (PSS) where there are several.

Sketch, before measuring: python itself 15 ms; valkey-server answers 35 ms after it was spawned, redis-py takes 200 to 400 ms to
import, of which asyncio's own modules 60. Joining is a connection, four commands and a lock file: 10 ms.
Would change the design: imports over 150 ms, a cold start over 400 ms, joining over 60 ms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from beside import measured

CLOCK = "import time; began = time.perf_counter()\n"
# Each: what it imports, and what it does; `folder` is its own, `path` the socket of a server where it needs one that runs.
MEMGANG = ("import asyncio, memgang; memgang.open", """
async def first():
    global space
    space = await memgang.open(space="bench")
    assert await space.get(await space.put("first")) == "first"
    timed()
    await asyncio.sleep(IDLE_S)
    told()
    await space.aclose()
asyncio.run(first())
""")
PEERS = {
    "python alone": ("pass", "timed(); time.sleep(IDLE_S); told()"),
    "LMDB": ("import lmdb", """
env = lmdb.open(folder + "/lmdb")
with env.begin(write=True) as write: write.put(b"k", b"first")
with env.begin() as read: assert read.get(b"k") == b"first"
timed(); time.sleep(IDLE_S); told()
"""),
    "diskcache": ("import diskcache", """
cache = diskcache.Cache(folder + "/diskcache")
cache["k"] = "first"; assert cache["k"] == "first"
timed(); time.sleep(IDLE_S); told()
"""),
    "redis-py, cold": ("import redis, subprocess", """
server = subprocess.Popen([os.environ["BENCH_SERVER"], "--port", "0", "--unixsocket", folder + "/s", "--save", "", "--dir", folder],
                          stdout=subprocess.DEVNULL)
client = redis.Redis(unix_socket_path=folder + "/s")
while True:
    try:
        client.set("k", "first")
        break
    except redis.ConnectionError: time.sleep(0.001)
assert client.get("k") == b"first"
timed(); time.sleep(IDLE_S); told()
server.terminate(); server.wait()
"""),
    "redis-py, joining": ("import redis", """
client = redis.Redis(unix_socket_path=path)
client.set("k", "first"); assert client.get("k") == b"first"
timed(); time.sleep(IDLE_S); told()
"""),
    "Ray": ("import ray", """
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False, object_store_memory=256 << 20)
assert ray.get(ray.put("first")) == "first"
timed(); time.sleep(IDLE_S); told()
ray.shutdown()
"""),
}
# What stands around them. `started` is the start of the process, by the clock that all processes share.
FRAME = CLOCK + """
{imports}
imported = time.perf_counter()
import json, os, sys
folder, path, started, IDLE_S = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
beginning = time.perf_counter()
def timed():
    global done
    done = [imported - began, time.perf_counter() - beginning, time.perf_counter() - started]
def told():
    print("took", json.dumps(done), flush=True)
    sys.stdin.readline()
{work}
"""


def family(pid: int) -> list[int]:
    """A process and all it has started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended since
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def sizes(pid: int) -> dict[str, float]:
    """MiB: of the process, and of all it has started, which for MemGang includes the server by its own account."""
    own, rest = measured.memory(pid), []
    others = set(family(pid)) - {pid} | embedded()
    for other in others:
        try:
            rest.append(measured.memory(other)["pss"])
        except OSError:
            continue
    return {"client": own["rss"] / 2**20, "others": sum(rest) / 2**20}


def embedded() -> set[int]:
    """The process of the embedded server of this home, when it runs."""
    from memgang.settings import Settings
    from memgang.store.server import status

    pid = status(Settings.load()).pid
    return {pid} if pid else set()


def start(who: str, imports: str, work: str, path: str, idle_s: float) -> tuple[list[float], dict[str, float]]:
    """One new process: its three times in seconds, and the memory of it and of what it started."""
    with tempfile.TemporaryDirectory(prefix="memgang-bench-") as folder:
        file = Path(folder) / "program.py"
        file.write_text(FRAME.format(imports=imports, work=work), encoding="utf-8")
        child = subprocess.Popen([sys.executable, str(file), folder, path, repr(time.perf_counter()), str(idle_s)], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("took "):
                found = sizes(child.pid)
                child.communicate("\n", timeout=60)
                return json.loads(line[5:]), found
        raise RuntimeError((child.stderr.read() if child.stderr else "").strip().splitlines()[-1] or f"{who} ended at once")


def one(who: str, path: str, idle_s: float) -> tuple[list[float], dict[str, float]]:
    """Whoever it is; MemGang in a home of its own, which another process has opened first where it joins."""
    if not who.startswith("MemGang"):
        return start(who, *PEERS[who], path, idle_s)
    with measured.home():
        if who == "MemGang, cold":
            return start(who, *MEMGANG, path, idle_s)
        import asyncio

        import memgang

        async def joined() -> tuple[list[float], dict[str, float]]:
            async with memgang.open(space="bench"):
                return await asyncio.to_thread(start, who, *MEMGANG, path, idle_s)

        return asyncio.run(joined())


def main() -> int:
    """Run, print, write."""
    args = measured.settled(measured.arguments(__file__, __doc__, rounds=15).parse_args())
    measured.beside_peers()
    idle_s = 0.2 if args.quick else 1.0
    ours = ("MemGang, cold", "MemGang, joining")
    found = measured.Evidence(args, ("ray", "diskcache", "lmdb"), idle_s=idle_s)
    os.environ["BENCH_SERVER"] = measured.program()
    with measured.server() as path:
        for who in (*ours, *PEERS):  # once for the byte code and the disk's cache
            try:
                one(who, path, 0)
            except Exception as error:
                found.left_out(who, error)
        names = [who for who in (*ours, *PEERS) if who not in found.found["left_out"]]
        for number, who in measured.turns(args.rounds, names):
            if who == "Ray" and number >= 3:
                continue  # it takes seconds; three are enough to see that
            (imports, first, total), held = one(who, path, idle_s)
            if who != "python alone":
                found.add("imports", who, [imports], "ms")
                found.add("from there to the first put and get", who, [first], "ms")
            found.add("from the start of the process to there", who, [total], "ms")
            found.add("idle memory of the client (RSS)", who, [held["client"]], "MiB")
            if held["others"]:
                found.add("idle memory of what it started (PSS)", who, [held["others"]], "MiB")
    m, then = found.median, "from there to the first put and get"
    found.goal("import memgang, with what open needs", m("imports", ours[0]), "<= 150", "ms")
    found.goal("cold: from the import to the first put and get, embedded server started", m(then, ours[0]), "<= 400", "ms")
    found.goal("joining: the same, server running", m(then, ours[1]), "<= 60", "ms")
    return found.finish()


if __name__ == "__main__":
    sys.exit(main())
