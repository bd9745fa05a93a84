"""One call of a worker: what it may take, how it is told apart, and the ways in which it ends other than well."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from memgang.engines.frames import loaded_class, pack, unpack
from memgang.engines.worker import Order
from memgang.errors import CodecError, WorkFailed


class Limits(msgspec.Struct, frozen=True):
    """What one call may take: seconds on the clock, seconds of a processor, megabytes above what the worker has."""

    wall_s: float
    cpu_s: int
    memory_mb: int


class OverLimit(Exception):
    """A call took more than it may. ``what`` says which limit, as a phrase that goes on after "the parser"."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Crashed(WorkFailed):
    """The worker died at this call, as often as it was tried. ``how`` says of what."""

    def __init__(self, call: str, how: str, attempts: int) -> None:
        super().__init__(call, "permanent", "WorkerDied", how, attempts)
        self.args = (call, how, attempts)
        self.how = how


class NotThere(Exception):
    """The worker cannot find the function, or what it is given; the call was not begun."""


@dataclass(slots=True, eq=False)
class Item:
    """One call on its way: its order, who waits for it, and how often it was tried."""

    id: int
    name: str
    order: Order
    future: asyncio.Future[bytes]
    limits: Limits | None
    attempts: int
    tried: int = 0
    began: float = 0.0  # when it became the first of its worker
    left: float = 0.0  # when its caller left; 0: still there


def ahead(number: int, name: str, mark: str, args: Sequence[Any], limits: Limits) -> Order:
    """A call to be made when there is nothing else to do. ``number`` is below 0: those of other calls are above."""
    return Order("ahead", number, name, mark, pack((list(args), {})), memory_mb=limits.memory_mb, cpu_s=limits.cpu_s)


def same(order: Order) -> tuple[object, ...]:
    """What makes two orders the same call."""
    return order.function, order.mark, order.arguments, order.memory_mb, order.cpu_s


def of_what(status: int | None) -> str:
    """What ended a worker, from its exit status."""
    if status is None:
        return "closing its connection"
    if status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"
    return f"exit with status {status}"


class RemoteError(Exception):
    """An error in a worker whose own class cannot be made here. Its class has that one's name."""


def rebuilt(data: bytes) -> Exception:
    """The error a worker has sent, of its own class where that is known here."""
    try:
        name, args, text, trace = unpack(data, loaded_class)
    except CodecError:
        return RemoteError("a worker failed, and what it said of it cannot be read")
    made: Exception | None = None
    if name == "builtins:SystemExit" or name == "builtins:KeyboardInterrupt":
        text = f"{name.partition(':')[2]}: {text}"  # in a worker it ends the call, not the program
    elif args is not None:
        try:
            kind = loaded_class(name)
            made = kind(*args) if issubclass(kind, Exception) else None
        except Exception:
            made = None
    if made is None or str(made) != text:
        made = type(name.rpartition(":")[2].rpartition(".")[2], (RemoteError,), {"__module__": __name__})(text)
    made.add_note(f"in a worker process:\n{trace}")
    return made
