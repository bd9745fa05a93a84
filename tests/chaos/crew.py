"""The workers of one test or soak: started fast, spoken to, killed and stopped."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.chaos import worker

ROOT = Path(__file__).parent.parent.parent
_numbers = itertools.count(1)


def _context() -> Any:
    # One process imports everything once, and each worker is a fork of it: a start costs milliseconds, and 200
    # rounds of killing become affordable.
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(
        [str(ROOT / "src"), str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.worker", "redis.asyncio.connection", "getpass", "encodings.idna"])
    return context


class Member:
    """One worker process, as its master sees it."""

    def __init__(self, process: ForkServerProcess, pipe: Connection, spec: dict[str, Any]) -> None:
        self.process, self.pipe, self.spec = process, pipe, spec
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.waiting[0] = self.ready
        self.gone = asyncio.Event()
        self.stopped_at: float | None = None
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._heard)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def _heard(self) -> None:
        try:
            told = self.pipe.recv()
        except (EOFError, OSError):
            self._left()
            return
        future = self.waiting.pop(told["id"], None)
        if future is not None and not future.done():
            future.set_result(told)

    def _left(self) -> None:
        if not self.gone.is_set():
            asyncio.get_running_loop().remove_reader(self.pipe.fileno())
            self.gone.set()
            for future in self.waiting.values():
                if not future.done():
                    future.set_result({"gone": True})
            self.waiting.clear()

    async def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """Have it do something; ``{"gone": True}`` when it died over it."""
        if self.gone.is_set():
            return {"gone": True}
        number = next(_numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        try:
            self.pipe.send({"id": number, "do": do, **words})
        except OSError:
            self._left()
            return {"gone": True}
        return await future

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> float:
        """kill -9; the moment before."""
        at = time.monotonic()
        self.signal(signal.SIGKILL)
        return at

    def stop(self) -> None:
        """SIGSTOP: it stands still and knows nothing of it."""
        self.stopped_at = time.monotonic()
        self.signal(signal.SIGSTOP)

    def go_on(self) -> float:
        """SIGCONT; for how long it stood."""
        self.signal(signal.SIGCONT)
        stood = time.monotonic() - (self.stopped_at or time.monotonic())
        self.stopped_at = None
        return stood


class Crew:
    """All workers of one space. Leaving the block kills whatever is left of them."""

    def __init__(self, url: str, space: str, folder: Path, seed: int, **settings: Any) -> None:
        self.folder, self.seed = folder, seed
        self.common = {"url": url, "space": space, "runtime_dir": str(folder / "run"), **settings}
        self.members: list[Member] = []
        self.all: list[Member] = []
        self._context = _context()
        folder.mkdir(parents=True, exist_ok=True)

    async def start(self, name: str, **settings: Any) -> Member:
        """Start a worker and wait until it has opened the space."""
        ours, theirs = self._context.Pipe()
        spec = {**self.common, **settings, "name": name, "seed": self.seed, "history": str(self.folder / f"{name}.jsonl")}
        process = self._context.Process(target=worker.main, args=(theirs, spec), daemon=True)
        process.start()
        theirs.close()
        member = Member(process, ours, spec)
        self.members.append(member)
        self.all.append(member)
        async with asyncio.timeout(60):
            told = await member.ready
        if "ready" not in told:
            raise RuntimeError(f"worker {name} ended at its start with {process.exitcode}")
        return member

    def lose(self, member: Member) -> float:
        """kill -9 of one, and strike it off; the moment before."""
        at = member.kill()
        self.members.remove(member)
        return at

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(self, *_: Any) -> None:
        for member in self.all:
            if member.process.is_alive():
                member.process.kill()
        for member in self.all:
            await asyncio.to_thread(member.process.join, 10)
            member._left()
            member.pipe.close()

    async def end(self) -> None:
        """Ask all to stop, and wait: what they had to say is in the log afterwards."""
        for member in list(self.members):
            waiting = asyncio.ensure_future(member.ask("stop"))
            try:
                async with asyncio.timeout(30):
                    await member.gone.wait()
            except TimeoutError:
                raise AssertionError(f"worker {member.name} did not stop within 30 s") from None
            finally:
                waiting.cancel()
        self.members.clear()

    def histories(self) -> Iterator[Path]:
        """The files they wrote."""
        return iter(sorted(self.folder.glob("*.jsonl")))
