"""What does a warm recall cost, beside the caches people decorate functions with?

    make bench ONLY=memo             # writes benchmarks/results/memo.json; --quick to see that it works

The same function of one number that returns a text of 1 KiB, decorated by everybody in the way of its documentation, asked for
answers that are there. Peers on Redis share one private server on a Unix socket. Synchronous caches are timed synchronously,
asynchronous ones from an event loop. MemGang's answers were computed by another process: "first" is the first time this process
asks for one, else it is any time after. Only MemGang's hits are logged, in batches behind the caller's back; "until logged" is the time
of all hits of a round and of writing their lines, divided by their number.

Sketch, before measuring: dogpile is redis-py and pickle, 31 + some 20 us of its own and more; cashews' hit goes through layers of
middleware, 250 us. A hit from shared memory is a key (canonical form and BLAKE3, 8 us), a look (2 us), the decoded text and a line
in the log (3 us): 15 us.
Would change the design: a hit over 30 us.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import memgang
from beside import caches, measured
from beside.caches import TTL_S

KEYS = 200
clock = time.perf_counter
made = 0  # computations in this process


def text(n: int) -> str:
    """What everybody remembers."""
    global made
    made += 1
    return f"{n:08}" + "x" * 1016


async def answer(n: int) -> str:
    """The same, where it is awaited."""
    return text(n)


# ── peers: each is given the server's socket and a folder, and gives a function that is timed ──────


def dogpile(path: str, folder: str) -> Callable[[int], Any]:
    return caches.dogpile(path).cache_on_arguments()(text)  # type: ignore[no-any-return]


def diskcache(path: str, folder: str) -> Callable[[int], Any]:
    from diskcache import Cache

    return Cache(folder + "/diskcache").memoize(expire=TTL_S)(text)  # type: ignore[no-any-return]


def joblib(path: str, folder: str) -> Callable[[int], Any]:
    from joblib import Memory

    return Memory(folder + "/joblib", verbose=0).cache(text)  # type: ignore[no-any-return]


def langchain(path: str, folder: str) -> Callable[[int], Any]:
    import redis
    from langchain_community.cache import RedisCache
    from langchain_core.language_models.fake import FakeListLLM

    model = FakeListLLM(responses=[text(0)], cache=RedisCache(redis.Redis(unix_socket_path=path), ttl=TTL_S))
    return lambda n: model.invoke(f"prompt {n}")


def langgraph(path: str, folder: str) -> Callable[[int], Any]:
    import redis
    from langgraph.cache.redis import RedisCache

    return graph(RedisCache(redis.Redis(unix_socket_path=path)))


def langgraph_in_memory(path: str, folder: str) -> Callable[[int], Any]:
    from langgraph.cache.memory import InMemoryCache

    return graph(InMemoryCache())


def graph(cache: Any) -> Callable[[int], Any]:
    """A graph of one node that is cached."""
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph
    from langgraph.types import CachePolicy

    State = TypedDict("State", {"n": int, "out": str})  # noqa: UP013  # its annotations are evaluated by LangGraph

    made_of: Any = StateGraph(State)
    made_of.add_node("work", lambda state: {"out": text(state["n"])}, cache_policy=CachePolicy(ttl=TTL_S))
    made_of.add_edge(START, "work")
    made_of.add_edge("work", END)
    app = made_of.compile(cache=cache)
    return lambda n: app.invoke({"n": n, "out": ""})["out"]


def cashews(path: str, folder: str) -> Callable[[int], Awaitable[Any]]:
    return caches.cashews(path)(ttl=TTL_S, key="plain:{n}")(answer)  # type: ignore[no-any-return]


def cashews_lock(path: str, folder: str) -> Callable[[int], Awaitable[Any]]:
    return caches.cashews(path)(ttl=TTL_S, key="lock:{n}", lock=True)(answer)  # type: ignore[no-any-return]


def aiocache(path: str, folder: str) -> Callable[[int], Awaitable[Any]]:
    import redis.asyncio
    from aiocache import RedisCache, cached

    decorated = cached(ttl=TTL_S, cache=RedisCache)(answer)
    decorated.cache.client = redis.asyncio.Redis(unix_socket_path=path)  # its own would go over TCP
    return decorated  # type: ignore[no-any-return]


SYNC = {"dogpile.cache": dogpile, "diskcache": diskcache, "joblib.Memory": joblib, "LangChain RedisCache": langchain,
        "LangGraph CachePolicy": langgraph, "LangGraph, in memory": langgraph_in_memory}
ASYNC = {"cashews": cashews, "cashews lock=True": cashews_lock, "aiocache": aiocache}


async def hits(ask: Callable[[int], Any], numbers: range) -> list[float]:
    """Seconds of each ask of one who is there."""
    before, took = made, []
    for n in numbers:
        began = clock()
        found = ask(n)
        if isinstance(found, Awaitable):
            found = await found
        took.append(clock() - began)
        assert len(found) == 1024
    assert made == before, f"{made - before} of {len(numbers)} computed, not remembered"
    return took


async def compute() -> None:
    """The other process: computes what it is told for the first time."""
    async with memgang.open(space="bench") as space:
        remembered = space.once(answer, ttl=TTL_S)
        print("[]", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            start, stop = (int(word) for word in line.strip("[]\n").split(","))
            await asyncio.gather(*(remembered(n) for n in range(start, stop)))
            await space.flush()
            print("[]", flush=True)


async def measure(args: Any, path: str, folder: str, found: measured.Evidence) -> None:
    """All rounds."""
    asked: dict[str, Callable[[int], Any]] = {}
    for who, make in (SYNC | ASYNC).items():
        try:
            asked[who] = make(path, folder)
            for n in range(KEYS):
                if isinstance(first := asked[who](n), Awaitable):
                    await first
            await hits(asked[who], range(KEYS))
        except Exception as error:
            asked.pop(who, None)
            found.left_out(who, error)
    other = measured.Other(__file__, "--compute")
    other.hear()
    async with memgang.open(space="bench") as space:
        with memgang.connect(space="bench") as plain:
            ours, asked["MemGang, connect"] = space.once(answer, ttl=TTL_S), plain.once(answer, ttl=TTL_S)
            other.ask(0, KEYS)
            await hits(ours, range(KEYS))  # warm: modules, connections
            for number, who in measured.turns(args.rounds, ["MemGang", *asked]):
                if who == "MemGang":
                    numbers = range((number + 1) * KEYS, (number + 2) * KEYS)
                    other.ask(numbers.start, numbers.stop)
                    found.add("hit", "MemGang, first", await hits(ours, numbers))
                    await space.flush()
                    began = clock()
                    found.add("hit", who, await hits(ours, numbers))
                    await space.flush()  # now, not in the time of whoever is next
                    found.add("hit", "MemGang, until logged", [(clock() - began) / KEYS])
                else:
                    found.add("hit", who, await hits(asked[who], range(KEYS)))
                    next(iter(plain.events()), None)  # writes what waits in the loop behind `connect`
    other.end()
    await close(asked)


async def close(asked: dict[str, Any]) -> None:
    """Connections of those who would complain about open ones."""
    if "aiocache" in asked:
        await asked["aiocache"].cache.client.aclose()


def main() -> int:
    """Run, print, write."""
    parser = measured.arguments(__file__, __doc__, rounds=10)
    parser.add_argument("--compute", action="store_true")
    args = measured.settled(parser.parse_args())
    if args.compute:
        asyncio.run(compute())
        return 0
    measured.beside_peers()
    with measured.home() as folder, measured.server() as path:
        found = measured.Evidence(args, ("dogpile.cache", "cashews", "aiocache", "diskcache", "joblib", "langgraph", "langchain-community"),
                                  keys=KEYS)
        asyncio.run(measure(args, path, str(folder), found))
    found.found["notes"].append("langchain-redis's RedisCache needs a server with JSON, which neither Redis nor Valkey is by itself; "
                                "langchain-community's is measured, though that package is no longer developed.")
    for who, how in (("MemGang, first", "first"), ("MemGang", "again"), ("MemGang, until logged", "again, until logged")):
        for peer, limit in (("dogpile.cache", 0.25), ("cashews", 0.1)):
            found.goal(f"recall hit, {how}", found.median("hit", who), f"<= {limit}", peer=peer, theirs=found.median("hit", peer))
        found.goal(f"recall hit, {how}", found.median("hit", who), "<= 30")
    return found.finish()


if __name__ == "__main__":
    sys.exit(main())
