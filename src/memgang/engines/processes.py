"""The engines by name: where the CPU-bound leaves of a gang run. Both give the same results and the same events.

``asyncio``     leaves run in this process (threads); only untrusted files are read in a worker process
``processes``   leaves run in worker processes, one for each processor, if they can be found there by name
``auto``        ``processes`` where the model is CPU-bound and more than one processor may be used, else ``asyncio``

A leaf is a plain function with plain arguments. Everything that waits or writes (agents, recall, the log) stays on
the event loop of the process that made the gang.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from memgang.engines import child as children
from memgang.engines import functions
from memgang.engines.calls import Limits, NotThere, ahead
from memgang.engines.pool import Counts, Pool
from memgang.errors import CodecError, ConfigError

READERS_MAX = 2  # of the engine asyncio: workers that read files
READERS_PATIENCE_S = 0.5  # the second one starts when a file has waited so long
WARM_S = 0.05  # `auto` starts workers once so much work was done here; `start` does it at once
NAMES = ("auto", "asyncio", "processes")

_log = logging.getLogger("memgang.engines")
_pools: list[tuple[Pool, list[object]]] = []  # each with the engines that use it


@runtime_checkable
class Engine(Protocol):
    """Where leaves run. Belongs to one event loop."""

    name: str
    takes_agents: bool  # whether plain agent functions are run by it unless they say otherwise

    def start(self) -> None:
        """Say that work is about to come. Optional."""
        ...

    @property
    def here(self) -> bool:
        """Whether a leaf that comes now runs in this process, where it need not be made into bytes."""
        ...

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The function's result; it raises what the function raises, or WorkFailed if workers die at it."""
        ...

    async def read(self, function: Callable[..., Any], *args: Any, limits: Limits) -> Any:
        """The same in a worker process and under limits in any case. Raises OverLimit, Crashed, and what the function does."""
        ...

    def spent_here(self, seconds: float) -> None:
        """Be told of a leaf that ran in this process because `here` was true."""
        ...

    async def aclose(self) -> None:
        """Give the workers back."""
        ...


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def engine(name: str | Engine, *, cpu_bound: bool, workers: int | None = None, attempts: int = 3) -> Engine:
    """The engine of this name. ``cpu_bound`` is what `auto` goes by; ``workers`` is one for each processor if not given.

    Raises:
        ConfigError: there is no such engine, fewer than one worker, or this is itself a worker loading its main file.
    """
    if functions.loading_main:
        raise ConfigError("a gang is made while a worker process loads the main file: put what the program does "
                          "under `if __name__ == \"__main__\":`")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers} must be at least 1")
    match name:
        case "asyncio":
            return AsyncioEngine(attempts)
        case "processes":
            return ProcessesEngine(workers or cores(), attempts)
        case "auto":
            if (workers or cores()) > 1 and cpu_bound:
                return ProcessesEngine(workers or cores(), attempts, patient=True)
            return AsyncioEngine(attempts)
        case str():
            raise ConfigError(f"no engine is called {name!r}; there are {', '.join(NAMES)}")
    return name


def prepare(name: str, *, cpu_bound: bool, workers: int | None = None, modules: Sequence[str] = ()) -> bool:
    """Start the workers of an engine that is about to be made, if it has any; they import ``modules`` at once.

    Needs no event loop yet.
    """
    made = engine(name, cpu_bound=cpu_bound, workers=workers)
    if isinstance(made, ProcessesEngine):
        children.prepare(made.workers, modules)
    return isinstance(made, ProcessesEngine)


def begin(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], limits: Limits) -> None:
    """Have prepared workers call the function with each of these arguments while there is nothing else to do.

    Who makes the same call later is given what came of it; what nobody asks for costs nobody a wait, and is
    given up with the workers. Only for functions without side effects.
    """
    name, mark = functions.named(function), functions.mark_of(function)
    children.begin([ahead(-1 - number, name, mark, given, limits) for number, given in enumerate(arguments)])


class AsyncioEngine:
    """Leaves run in threads of this process; files are read in a worker process."""

    name = "asyncio"
    takes_agents = False
    here = True

    def __init__(self, attempts: int = 3) -> None:
        self._attempts = attempts
        self._readers: Pool | None = None

    def spent_here(self, seconds: float) -> None:
        """Nothing depends on it."""

    def start(self) -> None:
        """Nothing to start: the first file starts a worker, and a run that remembers all files needs none."""

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The function in a thread."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def read(self, function: Callable[..., Any], *args: Any, limits: Limits) -> Any:
        """The function in a worker process, under limits."""
        if self._readers is None:
            self._readers = _pool(self, READERS_MAX, READERS_PATIENCE_S)
        return await _limited(self._readers, function, args, limits, self._attempts)

    @property
    def counts(self) -> Counts:
        """What its workers have done."""
        return self._readers.counts if self._readers is not None else Counts()

    async def aclose(self) -> None:
        """Give the workers back."""
        await _leave(self)
        self._readers = None


class ProcessesEngine:
    """Leaves run in worker processes, if these can find the function; else in a thread here, and the reason is logged.

    ``patient``: the first leaves run here, so that a gang with little to do starts no processes.
    """

    name = "processes"

    def __init__(self, workers: int, attempts: int = 3, patient: bool = False) -> None:
        self.workers, self.stays, self.takes_agents = workers, dict[str, str](), not patient
        self._attempts, self._patient, self._done_here_s = attempts, patient, 0.0
        self._pool: Pool | None = None
        self._names: dict[Callable[..., Any], tuple[str, str]] = {}

    def start(self) -> None:
        """Start all workers now. Needs a running event loop."""
        self._patient = False
        self._workers().start()

    @property
    def here(self) -> bool:
        """Whether a leaf that comes now runs here: while `auto` has not seen enough work, and its workers come up."""
        return self._patient and (self._pool is None or not self._pool.up)

    @property
    def counts(self) -> Counts:
        """What its workers have done."""
        return self._pool.counts if self._pool is not None else Counts()

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The function in a worker."""
        if self.here:
            began = time.perf_counter()
            try:
                return await asyncio.to_thread(function, *args, **kwargs)
            finally:
                self.spent_here(time.perf_counter() - began)
        try:
            name, mark = self._name(function)
            return await self._workers().run(name, mark, args, kwargs, attempts=self._attempts)
        except (NotThere, CodecError) as error:
            self._stay(function, str(error))
        except ConfigError as error:
            if function in self._names:
                raise  # of the function itself
            self._stay(function, str(error))
        return await asyncio.to_thread(function, *args, **kwargs)

    async def read(self, function: Callable[..., Any], *args: Any, limits: Limits) -> Any:
        """The function in a worker process, under limits."""
        return await _limited(self._workers(), function, args, limits, self._attempts)

    def spent_here(self, seconds: float) -> None:
        """Count work that was done in this process; when it is enough, workers are started."""
        self._done_here_s += seconds
        if self._patient and self._done_here_s > WARM_S:
            self._workers().start()

    async def aclose(self) -> None:
        """Give the workers back."""
        await _leave(self)
        self._pool = None

    def _workers(self) -> Pool:
        if self._pool is None:
            self._pool = _pool(self, self.workers, READERS_PATIENCE_S if self._patient else 0.0)
        return self._pool

    def _name(self, function: Callable[..., Any]) -> tuple[str, str]:
        known = self._names.get(function)
        if known is None:
            known = self._names[function] = (functions.named(function), functions.mark_of(function))
        return known

    def _stay(self, function: Callable[..., Any], why: str) -> None:
        """Say once why a function does not go to a worker."""
        name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(function))}"
        if self.stays.get(name) != why:
            self.stays[name] = why
            _log.info("%s runs in this process: %s", name, why)


async def _limited(pool: Pool, function: Callable[..., Any], args: tuple[Any, ...], limits: Limits, attempts: int) -> Any:
    name = functions.named(function)
    try:
        return await pool.run(name, functions.mark_of(function), args, limits=limits, attempts=attempts)
    except NotThere as error:
        raise ConfigError(f"{name} cannot run in a worker process: {error}") from error


def _pool(user: object, size: int, patience_s: float) -> Pool:
    """The pool of this size on this event loop, shared by all engines that ask for one."""
    loop = asyncio.get_running_loop()
    for entry in list(_pools):
        if entry[0].loop is not None and entry[0].loop.is_closed():
            _pools.remove(entry)  # its engines were never closed, and nobody can use it any more
            entry[0].abandon()
    for pool, users in _pools:
        if pool.loop is loop and pool.size >= size:
            users.append(user)
            return pool
    made = Pool(size, patience_s)
    made.attach()
    _pools.append((made, [user]))
    return made


async def _leave(user: object) -> None:
    for entry in list(_pools):
        pool, users = entry
        users[:] = [one for one in users if one is not user]
        if not users and pool.loop is asyncio.get_running_loop():
            _pools.remove(entry)
            await pool.aclose()
