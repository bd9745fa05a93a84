"""A process of the harness: it does calls, is killed and stopped, and writes down what it asked and what it was told.

Its history is its own file, one JSON line a write, so that a kill tears at most the last line. Lines of one
operation share ``n``; ``t`` is monotonic time, which on one host is the same clock for all processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import memgang
from memgang.codec import encode, ref_of
from memgang.errors import Conflict, MemGangError, ModelError, UnknownReference, WorkFailed
from memgang.model import Call, Ref, current_work

open_space = memgang.open  # looked up here, so that it is loaded once, before the fork, and not in each worker

LANES = 5  # calls of one worker under way at once
ODDS = {"recall": 62, "standing": 14, "put": 6, "get": 8, "forget": 3, "name": 3, "look": 3}


def the_call(key: str) -> Call:
    """The computation of a key; what is asked for is all that names it."""
    return Call("function", "chaos:work", "1", {"key": key})


class History:
    """What this process saw, line by line."""

    def __init__(self, path: str, worker: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._worker, self._n = worker, 0

    def line(self, what: str, **words: Any) -> None:
        told = {"t": time.monotonic(), "e": what, "w": self._worker, "pid": os.getpid(), **words}
        os.write(self._fd, json.dumps(told).encode() + b"\n")

    def begin(self, op: str, **words: Any) -> str:
        self._n += 1
        n = f"{os.getpid()}.{self._n}"
        self.line("invoke", n=n, op=op, **words)
        return n


class Worker:
    """Does what it is told over a pipe, until it is told to stop, killed, or its master is gone."""

    def __init__(self, space: memgang.Space, spec: dict[str, Any]) -> None:
        self.space, self.spec = space, spec
        self.history = History(spec["history"], spec["name"])
        self.chance = random.Random(f"{spec['seed']} {spec['name']}")
        self.known: list[Ref] = []
        self._attempts = 0

    # ── single operations, each with its two lines ────────────────────────────────────────────

    async def recall(
        self, key: str, *, work_s: float = 0.0, fails: float = 0.0, block_s: float = 0.0, ttl: float | None = None,
    ) -> dict[str, Any]:
        """One recall: what came of it. The value names the key and the attempt that computed it."""

        async def work() -> Any:
            self._attempts += 1
            attempt = f"{self.spec['name']}.{os.getpid()}.{self._attempts}"
            lead = current_work.get().lead if current_work.get() else None  # type: ignore[union-attr]
            self.history.line("begin", key=key, attempt=attempt, ck=lead.call if lead else "", fence=lead.fence if lead else 0)
            if block_s:
                time.sleep(block_s)  # as parsing and scoring do: the loop stands, the lease must not be lost
            await asyncio.sleep(work_s)
            if self.chance.random() < fails:
                self.history.line("end", key=key, attempt=attempt, failed=True)
                raise ModelError("chaos", "transient", "503", "come again")
            self.history.line("end", key=key, attempt=attempt)
            return {"key": key, "by": attempt}

        n = self.history.begin("recall", key=key, ck=self.space.key(the_call(key)), ttl=ttl)
        try:
            got = await self.space.recall(the_call(key), work, **({} if ttl is None else {"ttl": ttl}))
            try:
                value = await got.value()
            except UnknownReference:
                value = None  # forgotten by somebody between the answer and its reading: allowed, and no wrong value
            told = {"ref": got.ref, "how": got.how, "degraded": got.degraded, "value": value}
            self.known.append(got.ref)
        except asyncio.CancelledError:
            self.history.line("return", n=n, error="Cancelled")
            raise
        except WorkFailed as error:
            told = {"error": "WorkFailed", "kind": error.kind, "code": error.code}
        except MemGangError as error:
            told = {"error": type(error).__name__, "text": str(error)[:200]}
        self.history.line("return", n=n, **told)
        return told

    async def put(self, text: str, ttl: float | None = None) -> dict[str, Any]:
        n = self.history.begin("put", text=text, ttl=ttl)
        try:
            ref = await self.space.put(text, ttl=ttl)
            told: dict[str, Any] = {"ref": ref}
            self.known.append(ref)
        except MemGangError as error:
            told = {"error": type(error).__name__, "text": str(error)[:200]}
        self.history.line("return", n=n, **told)
        return told

    async def get(self, ref: Ref) -> dict[str, Any]:
        n = self.history.begin("get", ref=ref)
        try:
            trips = self.space.store.wire.commands
            value = await self.space.get(ref)
            # No turn of the loop is taken where the host has it, so nobody else can have asked for anything meanwhile.
            told: dict[str, Any] = {"hash": ref_of(*encode(value)), "hand": self.space.store.wire.commands == trips}
        except MemGangError as error:
            told = {"error": type(error).__name__, "text": str(error)[:200]}
        self.history.line("return", n=n, **told)
        return told

    async def forget(self, ref: Ref) -> dict[str, Any]:
        n = self.history.begin("forget", ref=ref)
        try:
            told: dict[str, Any] = {"was": bool(await self.space.forget(ref, reason="chaos"))}
        except MemGangError as error:
            told = {"error": type(error).__name__, "text": str(error)[:200]}
        self.history.line("return", n=n, **told)
        return told

    async def name(self, name: str) -> dict[str, Any]:
        """One compare-and-set: what it saw, what it wrote over it."""
        n = self.history.begin("name", name=name)
        try:
            ref = await self.space.put(f"{self.spec['name']} {os.getpid()} {n}")
            seen = await self.space.version(name)
            told: dict[str, Any] = {"ref": ref, "saw": seen.version if seen and seen.ref else 0}
            told["version"] = await self.space.set_name(name, ref, expect=told["saw"])
        except Conflict:
            told = {"conflict": True}
        except MemGangError as error:
            told = {"error": type(error).__name__, "text": str(error)[:200]}
        self.history.line("return", n=n, **told)
        return told

    async def look(self, name: str) -> dict[str, Any]:
        n = self.history.begin("look", name=name)
        try:
            seen = await self.space.version(name)
            told: dict[str, Any] = {"version": seen.version if seen else 0, "ref": seen.ref if seen else None}
        except MemGangError as error:
            told = {"error": type(error).__name__, "text": str(error)[:200]}
        self.history.line("return", n=n, **told)
        return told

    # ── what the master asks for ──────────────────────────────────────────────────────────────

    async def round(self, number: int, calls: int, keys: int) -> dict[str, Any]:
        """One round of mixed calls, a few at a time; how many came back with a value."""
        chance, lanes = random.Random(f"{self.spec['seed']} {self.spec['name']} {number} {os.getpid()}"), asyncio.Semaphore(LANES)
        got = 0

        async def one(i: int) -> None:
            nonlocal got
            async with lanes:
                op = chance.choices(list(ODDS), list(ODDS.values()))[0]
                known = self.known[-60:]
                match op:
                    case "recall" | "standing":
                        rare = chance.random()
                        key = f"{number}/{chance.randrange(keys)}" if op == "recall" else f"standing/{chance.randrange(4)}"
                        asking = asyncio.ensure_future(self.recall(
                            key, work_s=0.5 if rare < 0.05 else chance.uniform(0.005, 0.12), fails=0.05,
                            block_s=0.4 if rare > 0.985 else 0.0, ttl=0.6 if op == "standing" else None))
                        if chance.random() < 0.08:  # an impatient caller
                            await asyncio.sleep(chance.uniform(0, 0.05))
                            asking.cancel()
                        (told,) = await asyncio.gather(asking, return_exceptions=True)
                        got += isinstance(told, dict) and "ref" in told
                    case "put":
                        await self.put(f"{self.spec['name']} {os.getpid()} {number} {i}", ttl=chance.choice([None, None, 0.5]))
                    case "get" if known:
                        await self.get(chance.choice(known))
                    case "forget" if known:
                        await self.forget(chance.choice(known))
                    case "name":
                        await self.name(f"chaos/{chance.randrange(3)}")
                    case "look":
                        await self.look(f"chaos/{chance.randrange(3)}")

        await asyncio.gather(*(one(i) for i in range(calls)))
        return {"values": got}

    async def callers(self, key: str, count: int, work_s: float) -> dict[str, Any]:
        """Many callers of one key at once."""
        began = time.monotonic()
        told = await asyncio.gather(*(self.recall(key, work_s=work_s) for _ in range(count)))
        return {"told": told, "t": time.monotonic(), "seconds": time.monotonic() - began}

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do one thing."""
        words = {k: v for k, v in message.items() if k not in ("id", "do")}
        if message["do"] == "flush":
            await self.space.flush()
            return {}
        if message["do"] == "steps":  # verbs of the space one after another, as in `memgang`
            for verb, args in words["steps"]:
                await getattr(self, verb)(*args)
            return {}
        result: dict[str, Any] = await getattr(self, message["do"])(**words)
        return result


async def _serve(pipe: Connection, spec: dict[str, Any]) -> None:
    master = asyncio.current_task()
    loop = asyncio.get_running_loop()
    assert master is not None
    loop.add_signal_handler(signal.SIGTERM, master.cancel)
    inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def heard() -> None:
        try:
            inbox.put_nowait(pipe.recv())
        except (EOFError, OSError):
            os._exit(9)  # the master is gone: nothing may be left running

    settings = {k: v for k, v in spec.items() if k not in ("history", "name", "seed", "clock_s")}
    async with open_space(agent=spec["name"], **settings) as space:
        worker = Worker(space, spec)
        loop.add_reader(pipe.fileno(), heard)
        pipe.send({"id": 0, "ready": os.getpid()})
        tasks: set[asyncio.Task[None]] = set()

        async def do(message: dict[str, Any]) -> None:
            try:
                told = await worker.answer(message)
            except Exception as error:
                told = {"crashed": repr(error)[:500]}
            pipe.send({"id": message["id"], **told})

        while (message := await inbox.get()) is not None and message["do"] != "stop":
            task = asyncio.create_task(do(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        loop.remove_reader(pipe.fileno())


def main(pipe: Connection, spec: dict[str, Any]) -> None:
    """The child process."""
    for name in [n for n in os.environ if n.startswith("MEMGANG_")]:
        del os.environ[name]
    if spec.get("clock_s"):
        real, offset = time.time, spec["clock_s"]
        time.time = lambda: real() + offset  # this client's clock is wrong
    try:
        asyncio.run(_serve(pipe, spec))
    except asyncio.CancelledError:
        sys.exit(3)
