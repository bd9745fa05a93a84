"""One worker process as its parent sees it: started, spoken to, ended. Workers outlive a pool, to be used by the next."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from memgang.engines.frames import framed, unframed
from memgang.engines.worker import Answer, Order
from memgang.errors import ConfigError

_START = Path(__file__).with_name("start.py")
RECEIVE_BYTES = 1 << 20

_ordered = msgspec.msgpack.Encoder().encode
_answer = msgspec.msgpack.Decoder(Answer).decode

# All living workers of this process, and of these the ones that no pool uses.
_all: set[Child] = set()
_spare: list[Child] = []
_lifeline: tuple[int, int] | None = None  # its writing end is held by this process alone and never written to


class Child:
    """A worker process. ``up`` once it has said so; then it may be sent orders."""

    def __init__(self) -> None:
        """Start one; it comes up by itself.

        Raises:
            ConfigError: no process can be started here.
        """
        global _lifeline
        if not sys.executable:
            raise ConfigError("worker processes need the path of the Python interpreter, and sys.executable is empty")
        if _lifeline is None:
            _lifeline = os.pipe()
        self.up = self.used = False
        self.ahead: list[Order] = []  # what it was given to do before there was a pool, see `begin`
        self.folder = ""  # where it works; '': where this process was when it was started
        self.path = list(sys.path)
        self.socket, theirs = socket.socketpair()
        # The kernel's "die with the parent" means the thread that started it; only the main one lives as long as we do.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
        try:
            self.process = subprocess.Popen(
                [sys.executable, *optimised, "-P", str(_START), str(theirs.fileno()), str(parent)],
                stdin=_lifeline[0], pass_fds=[theirs.fileno()], process_group=0)
        except OSError as error:
            self.socket.close()
            raise ConfigError(f"a worker process could not be started: {error.strerror}") from error
        finally:
            theirs.close()
        self.socket.setblocking(False)
        self._inbox, self._outbox = bytearray(), bytearray()
        _all.add(self)
        self.write("\0".join(entry or os.getcwd() for entry in self.path).encode("utf-8", "surrogateescape"))

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.socket.fileno()

    def order(self, order: Order) -> None:
        """Tell it something."""
        self.write(_ordered(order))

    def write(self, message: bytes) -> None:
        """Send a message, or as much as fits; `waiting` says whether something is left for `flush`."""
        self._outbox += framed(message)
        self.flush()

    @property
    def waiting(self) -> bool:
        """Whether something still has to be written."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Write what the socket takes. A worker that is gone is noticed by who reads."""
        while self._outbox:
            try:
                sent = self.socket.send(memoryview(self._outbox)[:RECEIVE_BYTES])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._outbox.clear()
                return
            del self._outbox[:sent]

    def received(self) -> tuple[list[Answer], bool]:
        """What it has said since, and whether it is still there."""
        alive = True
        try:
            data = self.socket.recv(RECEIVE_BYTES)
            self._inbox += data
            alive = bool(data)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            alive = False
        answers = []
        while (message := unframed(self._inbox)) is not None:
            try:
                answers.append(_answer(message))
            except msgspec.DecodeError:  # no worker of ours says this: whatever is there is not to be trusted
                return answers, False
        return answers, alive

    def ended(self) -> int | None:
        """Its exit status, or None while it lives."""
        return self.process.poll()

    def kill(self) -> None:
        """End it now; `ended` tells when it has gone."""
        _all.discard(self)
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def usable(self) -> bool:
        """Whether another pool may take it over."""
        return not self._outbox and not self._inbox and self.path == sys.path and self.ended() is None


def prepare(count: int, modules: Sequence[str]) -> None:
    """Start workers for a pool that is about to be made, so that they come up while this process still imports."""
    while len(_spare) < count:
        child = Child()
        child.order(Order("load", modules=list(modules)))
        _spare.append(child)


def begin(orders: Sequence[Order]) -> None:
    """Give calls to the prepared workers, in turn; the pool that takes these over knows what they are at."""
    fresh = [child for child in _spare if not child.used]
    for number, order in enumerate(orders if fresh else ()):
        child = fresh[number % len(fresh)]
        child.order(order)
        child.ahead.append(order)


def begun() -> bool:
    """Whether a worker that nobody has taken was given calls already."""
    return any(child.ahead for child in _spare)


def take() -> Child:
    """A spare worker, or a new one."""
    while _spare:
        child = _spare.pop()
        if not child.used and child.path == sys.path and child.ended() is None:
            child.used = True
            return child
        if child.usable():
            child.up = False
            child.order(Order("wake"))
            return child
        child.kill()
        child.process.wait()
    child = Child()
    child.used = True
    return child


def spare(child: Child, most: int) -> None:
    """Give a worker back that has nothing to do; it ends by itself when nobody takes it for a while."""
    if len(_spare) < most and child.usable():
        child.order(Order("rest"))
        _spare.append(child)
    else:
        child.kill()
        child.process.wait()


def living() -> list[int]:
    """The process numbers of all workers of this process."""
    return sorted(child.process.pid for child in _all if child.ended() is None)


def end_all() -> None:
    """Kill all workers of this process and wait until they have gone."""
    children = list(_all)
    for child in children:
        child.kill()
    for child in children:
        child.process.wait()
    _spare.clear()


def _forget_in_child_of_fork() -> None:
    # They belong to the process that was forked. Its end of the pipe must not be kept open here, or they would
    # not notice its death.
    global _lifeline
    for child in _all:
        child.socket.close()
        child.process.returncode = 0  # not ours to wait for
    _all.clear()
    _spare.clear()
    if _lifeline is not None:
        for end in _lifeline:
            os.close(end)
        _lifeline = None


atexit.register(end_all)
os.register_at_fork(after_in_child=_forget_in_child_of_fork)

