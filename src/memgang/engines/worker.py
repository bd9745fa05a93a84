"""Inside a worker process: one call after the other, each under its limits.

Imports as little as it can, because everything here is paid for at every start.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import select
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from memgang.engines import functions
from memgang.engines.frames import HEAD_BYTES, framed, pack, unpack
from memgang.engines.functions import found, mark_of
from memgang.errors import CodecError
from memgang.model import Context, current_context
from memgang.traceparent import continued

REST_S = 20.0  # a spare worker that nobody has asked for so long ends
GROWN_BYTES = 384 << 20  # one that has grown beyond this by a call gives way to a fresh one


class Order(msgspec.Struct, array_like=True, frozen=True):
    """What a worker is told: ``call`` a function at once, call it ``ahead`` when there is nothing else to do, ``drop`` such a
    call, ``load`` modules, where ``main`` is, or ``rest`` until it is woken."""

    verb: str
    id: int = 0
    function: str = ""
    mark: str = ""
    arguments: bytes = b""
    context: list[str] | None = None
    memory_mb: int = 0  # how much more memory the call may take; 0: no limit
    cpu_s: int = 0  # 0: no limit
    folder: str = ""  # work there from now on; '': where it is
    modules: list[str] = []


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What a worker says: ``up`` at first, then an outcome for each call."""

    outcome: str  # up, done, failed, memory, unknown (the function is not to be found here)
    id: int = 0
    value: bytes = b""
    ms: float = 0.0
    grown: bool = False  # the worker ends after this answer, by itself


_order = msgspec.msgpack.Decoder(Order).decode
_answered = msgspec.msgpack.Encoder().encode


def serve(fd: int) -> None:
    """Serve the calls that come in, until the other side closes. Never returns."""
    buffer = bytearray()
    ahead: dict[int, Order] = {}
    resting = False
    _send(fd, Answer("up"))
    while True:
        if resting and not buffer and not select.select([fd], [], [], REST_S)[0]:
            os._exit(0)
        if ahead and not buffer and not select.select([fd], [], [], 0)[0]:
            _called(fd, ahead.pop(next(iter(ahead))))
            continue
        order = _order(_message(fd, buffer))
        match order.verb:
            case "main":
                functions.main_source[:] = order.function.split("\0")
            case "load":
                for module in order.modules:
                    with contextlib.suppress(Exception):  # it is said where it is needed
                        importlib.import_module(module)
            case "rest":
                resting = True
            case "wake":
                resting = False
                _send(fd, Answer("up"))
            case "ahead":
                ahead[order.id] = order
            case "drop":
                ahead.pop(order.id, None)
            case "call":
                _called(fd, order)


def _called(fd: int, order: Order) -> None:
    if order.folder:
        with contextlib.suppress(OSError):
            os.chdir(order.folder)
    began = time.perf_counter()
    outcome, value = _outcome(order)
    grown = outcome == "memory" or _statm(1, 0) > GROWN_BYTES
    _send(fd, Answer(outcome, order.id, value, (time.perf_counter() - began) * 1000, grown))
    if grown:
        os._exit(0)  # what it holds goes back at once, and nothing half torn down is used again


def _outcome(order: Order) -> tuple[str, bytes]:
    """What came of the call: an answer in any case, as long as this process lives."""
    try:
        try:
            function = found(order.function)
            if order.mark and mark_of(function) != order.mark:
                return "unknown", pack("it is not the same there: its file has changed since it was loaded here")
            arguments, named = unpack(order.arguments, _class)
        except Exception as error:
            return "unknown", pack(f"{type(error).__name__}: {error}"[:500])
        token = current_context.set(Context(*order.context) if order.context else None)
        try:
            with limited(order.memory_mb, order.cpu_s), continued(order.context[4] if order.context else ""):
                value = function(*arguments, **named)
        finally:
            current_context.reset(token)
        return "done", pack(value)
    except MemoryError as error:
        if order.memory_mb:
            return "memory", b""
        return "failed", _failure(error)
    except BaseException as error:
        return "failed", _failure(error)


@contextlib.contextmanager
def limited(memory_mb: int, cpu_s: int) -> Iterator[None]:
    """So much more memory and processor time for what is inside; 0: as much as it likes.

    Only the soft limits move, so they can be taken back. Too much memory is a MemoryError, or the end of native
    code that does not check; too much processor time is SIGXCPU, which ends the process.
    """
    memory, cpu = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)
    if memory_mb:
        _limit(resource.RLIMIT_AS, _statm(0, 1 << 30) + (memory_mb << 20), memory[1])
        _limit(resource.RLIMIT_CORE, 0, 0)  # a parser that crashes leaves no file behind
    if cpu_s:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + cpu_s, cpu[1])
    try:
        yield
    finally:
        if memory_mb:
            _limit(resource.RLIMIT_AS, *memory)
        if cpu_s:
            _limit(resource.RLIMIT_CPU, *cpu)


def _limit(what: int, soft: int, hard: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a system without this limit: the parent watches the clock
        resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _statm(place: int, unknown: int) -> int:
    """Bytes of address space (0) or of memory (1) this process has now; ``unknown`` where the system does not tell.

    Not `getrusage`: its highest figure begins with that of the process that started us.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[place]) * resource.getpagesize()
    except (OSError, ValueError):
        return unknown


def _failure(error: BaseException) -> bytes:
    import traceback

    kind, trace = type(error), "".join(traceback.format_exception(error, limit=-20))[-8_000:]
    name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        return pack((name, error.args, str(error)[:8_000], trace))
    except (CodecError, MemoryError):
        return pack((name, None, str(error)[:8_000], trace))


def _class(name: str) -> Any:
    kind = found(name)
    if not isinstance(kind, type):
        raise CodecError(f"{name} is no class")
    return kind


def _message(fd: int, buffer: bytearray) -> bytes:
    """The next whole message."""
    while len(buffer) < HEAD_BYTES or len(buffer) < (end := HEAD_BYTES + int.from_bytes(buffer[:HEAD_BYTES], "big")):
        try:
            more = os.read(fd, 1 << 20)
        except OSError:  # the other side went before it had read what we said
            more = b""
        if not more:
            os._exit(0)  # nobody is there any more; nothing to clean up that the system does not
        buffer += more
    message = bytes(memoryview(buffer)[HEAD_BYTES:end])
    del buffer[:end]
    return message


def _send(fd: int, answer: Answer) -> None:
    view = memoryview(framed(_answered(answer)))
    while view:
        try:
            view = view[os.write(fd, view):]
        except OSError:
            os._exit(0)
