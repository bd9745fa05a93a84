"""Places to put objects into and get them from in another process: ours, what people would use instead, and by hand.

Each has `put` and `get`, which time themselves: the keys and the seconds of each. What has forms for many says how many a second.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import string
import time
from collections.abc import Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from beside import measured

LARGE = "100 MiB array"
AT_ONCE = 64
clock = time.perf_counter


def values(what: str, count: int, stamp: int) -> list[Any]:
    """Values that nobody has seen before: content that is known would not be written."""
    dice = random.Random(f"{what} {stamp}")
    if what == LARGE:
        import numpy as np

        return [np.full(100 * 2**17, dice.random()) for _ in range(count)]
    size = {"1 KiB text": 2**10, "64 KiB bytes": 2**16, "1 MiB bytes": 2**20}[what]
    if what == "1 KiB text":
        return ["".join(dice.choices(string.ascii_letters, k=size)) for _ in range(count)]
    return [dice.randbytes(size) for _ in range(count)]


def raw(value: Any) -> Any:
    """As bytes, for who knows nothing else."""
    return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else memoryview(value).cast("B")


def back(what: str, body: Any) -> Any:
    """The value of bytes; of an array the first element is read."""
    if what == LARGE:
        import numpy as np

        array = np.frombuffer(body, np.float64)
        assert array[0] >= 0
        return array
    return str(body, "utf-8") if what == "1 KiB text" else bytes(body)


class MemGang:
    """Ours; asynchronous."""

    batched = True
    last: Any = None  # what was got last

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        import memgang

        self.opening = memgang.open(url, space="bench", budget_bytes=64 << 30, **settings)
        self.Ref = memgang.Ref

    async def open(self) -> MemGang:
        self.space = await self.opening
        return self

    async def put(self, what: str, many: Sequence[Any]) -> tuple[list[str], list[float]]:
        refs, took = [], []
        for value in many:
            began = clock()
            ref = await self.space.put(value, ttl="1h")
            took.append(clock() - began)
            refs.append(str.__str__(ref))
        return refs, took

    async def put_many(self, many: Sequence[Any]) -> tuple[list[str], float]:
        began = clock()
        refs = await self.space.put_many(many, ttl="1h")
        return [str.__str__(r) for r in refs], len(many) / (clock() - began)

    async def get(self, what: str, keys: Sequence[str]) -> list[float]:
        took, refs = [], [self.Ref(k) for k in keys]
        for ref in refs:
            began = clock()
            self.last = await self.space.get(ref)
            if what == LARGE:
                assert self.last[0] >= 0
            took.append(clock() - began)
        return took

    async def get_logged(self, keys: Sequence[str]) -> float:
        """Seconds for each, until the lines in the log are written, which is otherwise done between."""
        refs = [self.Ref(k) for k in keys]
        began = clock()
        for ref in refs:
            await self.space.get(ref)
        await self.space.flush()
        return (clock() - began) / len(refs)

    async def get_many(self, keys: Sequence[str]) -> float:
        refs = [self.Ref(k) for k in keys]
        began = clock()
        await self.space.get_many(refs)
        return len(keys) / (clock() - began)

    async def at_once(self, keys: Sequence[str]) -> float:
        return await at_once(self.space.get, [self.Ref(k) for k in keys])

    async def scripts(self) -> int:
        """How many scripts the server has carried out: all that MemGang reads and writes are scripts."""
        lines = (await self.space.store.wire.call("INFO", "commandstats")).decode().split()
        return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines if line.startswith(("cmdstat_eval", "cmdstat_fcall")))

    async def drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self.space.forget(self.Ref(key))


async def at_once(get: Any, keys: Sequence[Any]) -> float:
    """Gets per second of 64 callers."""
    left = iter(keys)

    async def caller() -> None:
        for key in left:
            await get(key)

    began = clock()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return len(keys) / (clock() - began)


class Keyed:
    """A peer with keys of our choice; synchronous. ``batched``: it has forms for many."""

    batched = False
    last: Any = None
    number = 0

    async def open(self) -> Keyed:
        return self

    async def put(self, what: str, many: Sequence[Any]) -> tuple[list[str], list[float]]:
        keys, took = [], []
        for value in many:
            Keyed.number += 1
            keys.append(f"{os.getpid()}-{Keyed.number}")
            began = clock()
            self.put_one(keys[-1], raw(value))
            took.append(clock() - began)
        return keys, took

    async def get(self, what: str, keys: Sequence[str]) -> list[float]:
        took = []
        for key in keys:
            began = clock()
            self.last = self.get_one(what, key)
            took.append(clock() - began)
        return took

    def put_one(self, key: str, body: Any) -> None:
        raise NotImplementedError

    def get_one(self, what: str, key: str) -> Any:
        raise NotImplementedError

    async def drop(self, keys: Sequence[str]) -> None:
        raise NotImplementedError


class Redis(Keyed):
    """redis-py over a Unix socket."""

    batched = True

    def __init__(self, path: str) -> None:
        import redis
        import redis.asyncio

        self.client: Any = redis.Redis(unix_socket_path=path)
        self.later = redis.asyncio.Redis(unix_socket_path=path, max_connections=2 * AT_ONCE)

    def put_one(self, key: str, body: Any) -> None:
        self.client.set(key, body)

    def get_one(self, what: str, key: str) -> Any:
        return back(what, self.client.get(key))

    async def put_many(self, many: Sequence[Any]) -> tuple[list[str], float]:
        keys = [f"m{id(many)}-{clock()}-{n}" for n in range(len(many))]
        began = clock()
        pipeline = self.client.pipeline(transaction=False)
        for key, value in zip(keys, many, strict=True):
            pipeline.set(key, raw(value))
        pipeline.execute()
        return keys, len(many) / (clock() - began)

    async def get_many(self, keys: Sequence[str]) -> float:
        began = clock()
        assert all(str(body, "utf-8") for body in self.client.mget(keys))
        return len(keys) / (clock() - began)

    async def at_once(self, keys: Sequence[str]) -> float:
        return await at_once(self.later.get, keys)

    async def drop(self, keys: Sequence[str]) -> None:
        self.client.delete(*keys)


class Lmdb(Keyed):
    """LMDB in shared memory, one transaction each."""

    batched = True

    def __init__(self, folder: str) -> None:
        import lmdb

        self.env: Any = lmdb.open(folder + "/lmdb", map_size=2 << 30, sync=False, metasync=False, writemap=True)

    def put_one(self, key: str, body: Any) -> None:
        with self.env.begin(write=True) as write:
            write.put(key.encode(), body)

    def get_one(self, what: str, key: str) -> Any:
        with self.env.begin(buffers=True) as read:
            found = back(what, read.get(key.encode()))
            return None if what == LARGE else found  # the array ends with its transaction

    async def put_many(self, many: Sequence[Any]) -> tuple[list[str], float]:
        keys = [f"m{id(many)}-{clock()}-{n}" for n in range(len(many))]
        began = clock()
        with self.env.begin(write=True) as write:
            for key, value in zip(keys, many, strict=True):
                write.put(key.encode(), raw(value))
        return keys, len(many) / (clock() - began)

    async def get_many(self, keys: Sequence[str]) -> float:
        began = clock()
        with self.env.begin(buffers=True) as read:
            assert all(str(read.get(key.encode()), "utf-8") for key in keys)
        return len(keys) / (clock() - began)

    async def drop(self, keys: Sequence[str]) -> None:
        with self.env.begin(write=True) as write:
            for key in keys:
                write.delete(key.encode())


class File(Keyed):
    """The limit by hand: a file in shared memory, written and mapped."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def put_one(self, key: str, body: Any) -> None:
        (self.folder / key).write_bytes(body)

    def get_one(self, what: str, key: str) -> Any:
        with open(self.folder / key, "rb", buffering=0) as file:
            return back(what, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    async def drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            (self.folder / key).unlink()


def read_ray(what: str, keys: Sequence[Any]) -> list[float]:
    """Runs in an actor, which is another process."""
    import ray

    took = []
    for key in keys:
        began = clock()
        value = ray.get(key)
        if what == LARGE:
            assert value[0] >= 0
        took.append(clock() - began)
    return took


class Ray:
    """Ray's object store; the reader is an actor."""

    batched = False

    def __init__(self) -> None:
        import ray

        self.ray = ray
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False, object_store_memory=2 << 30)

        @ray.remote(num_cpus=0)
        class Reader:
            def get(self, what: str, keys: Sequence[Any]) -> list[float]:
                return read_ray(what, keys)

            def get_many(self, keys: Sequence[Any]) -> float:
                began = clock()
                ray.get(list(keys))
                return len(keys) / (clock() - began)

            def memory(self, keys: Sequence[Any]) -> list[int]:
                return grown_since(measured.memory(), ray.get(keys[0]))

        self.reader: Any = Reader.remote()  # type: ignore[attr-defined]

    async def put(self, what: str, many: Sequence[Any]) -> tuple[list[Any], list[float]]:
        keys, took = [], []
        for value in many:
            began = clock()
            keys.append(self.ray.put(value))
            took.append(clock() - began)
        return keys, took

    def ask(self, verb: str, *words: Any) -> Any:
        return self.ray.get(getattr(self.reader, verb).remote(*words))


def grown_since(before: dict[str, int], array: Any) -> list[int]:
    """Bytes by which this process has grown: resident with the first element read, anonymous with every page read."""
    assert array[0] >= 0
    first = measured.memory()["rss"] - before["rss"]
    assert array[::512].sum() >= 0
    return [first, measured.memory()["anonymous"] - before["anonymous"]]


def fresh_copy(value: Any) -> float:
    """Seconds to copy an array into shared memory that nobody has touched."""
    import numpy as np

    began = clock()
    block = shared_memory.SharedMemory(create=True, size=value.nbytes)
    target: Any = np.ndarray(value.shape, value.dtype, buffer=block.buf)
    target[:] = value
    took = clock() - began
    del target
    block.close()
    block.unlink()
    return took


def anywhere(folder: str, path: str) -> dict[str, Any]:
    """Those that can be had in any process."""
    return {"MemGang": MemGang(), "redis-py": Redis(path), "file by hand": File(folder)} | (
        {"LMDB": Lmdb(folder)} if measured.version("lmdb") else {})
