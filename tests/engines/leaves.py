"""Plain functions for worker processes, which import them by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from memgang.model import current_context


class Note(msgspec.Struct, frozen=True):
    """A record."""

    text: str
    cites: tuple[str, ...] = ()


class Odd(Exception):
    """An error of our own."""


def same(value: Any) -> Any:
    """The value, there and back."""
    return value


def pid(_: Any = None) -> int:
    """The process that works."""
    return os.getpid()


def words(text: str) -> Note:
    """Some work with a result that depends on its input alone."""
    return Note(" ".join(sorted(text.split())), (text[:3],))


def slow_words(text: str, seconds: float = 0.02) -> Note:
    """The same, slowly enough to be hit in the middle."""
    time.sleep(seconds)
    return words(text)


def merged(notes: list[Note]) -> Note:
    """A reduction."""
    return Note(" ".join(sorted({word for note in notes for word in note.text.split()})))


def fails(kind: str) -> None:
    """Raise."""
    if kind == "odd":
        raise Odd("a", 2)
    if kind == "exit":
        sys.exit(3)
    raise ValueError(kind)


def noisy(count: int) -> str:
    """Print where a frame might be."""
    for _ in range(count):
        print("x" * 100)
        sys.stdout.flush()
        os.write(1, b"\x00\x00\x00\x05hello")
    return "said"


def die(how: str) -> None:
    """End this process in some way."""
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
    signal.pause()


def die_once(marker: str) -> str:
    """Die the first time, work the second."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def hang(_: Any = None) -> None:
    """Never end, without using the processor."""
    while True:
        signal.pause()


def hang_touching(marker: str) -> None:
    """Say that it has begun, then never end."""
    Path(marker).write_text(str(os.getpid()))
    hang()


def spin(_: Any = None) -> None:
    """Never end, using the processor."""
    while True:
        pass


def eat(_: Any = None) -> int:
    """Take more and more memory."""
    held = []
    while True:
        held.append(bytearray(16 << 20))


def segfault(_: Any = None) -> None:
    """What native code does with a bad file."""
    os.kill(os.getpid(), signal.SIGSEGV)
    signal.pause()


def acting() -> list[str]:
    """Who acts here."""
    context = current_context.get()
    return [] if context is None else [context.who, context.role, context.run]


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def unsendable() -> Any:
    """A result that has no form outside its process."""
    return open(os.devnull)


def noted(path: str, value: Any) -> Any:
    """The value; that it was asked for stands in the file."""
    with open(path, "a") as file:
        file.write(f"{value}\n")
    return value


def slowly_noted(path: str, value: Any) -> Any:
    """The same, in a while."""
    time.sleep(0.02)
    return noted(path, value)


def fails_at_first(path: str) -> str:
    """Well, except for the first time."""
    if not Path(path).exists():
        noted(path, "failed")
        raise ValueError("at first")
    return "well"


def dies_at_gate(path: str, at_it: str) -> None:
    """Says that it is here, waits for a file to be there, and dies."""
    Path(at_it).touch()
    while not Path(path).exists():
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)


def trace_here(_: Any = None) -> str:
    """The trace and span this work belongs to, where OpenTelemetry is known."""
    from opentelemetry import trace

    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x} {span.span_id:016x}"
