"""The embedded server: one for all processes of a user that share a state directory.

Whoever comes first starts it, the others find it, and who leaves last stops it. Each client process
holds a shared ``flock``; who leaves and then, alone at the door, can have it exclusively was the
last. The kernel frees the lock of a process that was killed, so nobody has to be counted::

    A enters                A alone at the door: no server -> starts it
    B enters                finds it
    A is killed             its lock is free; B's is not
    B leaves                B gets the lock exclusively: nobody else is there -> stops the server

A server that was started to stay outlives its last client until ``stop()``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redis import exceptions as failures

from memgang.errors import ConfigError, StoreUnavailable
from memgang.settings import Settings
from memgang.store import boot
from memgang.store.address import Address
from memgang.store.binary import find_binary
from memgang.store.house import House, close_lock, open_lock, try_lock

__all__ = ["Lodging", "Status", "find_binary", "serve", "status", "stop"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Stay:
    """This process's place in one house: one lock, however many Spaces are open in it."""

    house: House
    fd: int
    guests: int = 0


# By the root of the house. A forked child is no client until it enters by itself: its copies of the
# locks are closed by house.py, and the parent's stays are none of its own.
_stays: dict[Path, _Stay] = {}
_guard = threading.RLock()


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()  # another thread of the parent may have held it
    _stays.clear()


os.register_at_fork(after_in_child=_after_fork)


class Lodging:
    """A stay at the embedded server. Lives as long as the Space that entered; ``leave()`` ends it.

    All methods block for milliseconds, and for up to half a minute while a server starts: call the
    ones that begin with ``a`` from an event loop.
    """

    def __init__(self, settings: Settings, house: House, address: Address) -> None:
        self._settings, self._house = settings, house
        self._pid = os.getpid()
        self._here = True
        self.address = address  # as of the last enter() or ensure()

    @classmethod
    def enter(cls, settings: Settings) -> Lodging:
        """Find the server of ``settings.state_dir`` or start it, and be counted as a client of it.

        Raises:
            StoreUnavailable: no program to start, a directory that is not ours alone, a start that failed.
            ConfigError: the settings name a server of their own.
        """
        if settings.url:
            raise ConfigError("url names a server, so the embedded one is not used")
        house = House.of(settings)
        house.build()
        with house.door(), _guard:
            _check_in(house)
            try:
                boot.ensure(house, settings)
                if settings.stay:
                    house.stay_file.touch(mode=0o600)
            except BaseException:
                _check_out(house)
                raise
            return cls(settings, house, boot.address_of(house))

    def ensure(self) -> Address:
        """After a broken connection: see that the server runs, start it again if it died, and say where it is.

        May be called by any number of clients at once; one looks after the server, the others wait.

        Raises:
            StoreUnavailable: it cannot be started or reached.
        """
        self._house.build()
        with self._house.door(), _guard:
            if self._pid != os.getpid() and self._here:  # in a child: the stay of the parent is not ours
                _check_in(self._house)
                self._pid = os.getpid()
            boot.ensure(self._house, self._settings)
            self.address = boot.address_of(self._house)
            return self.address

    def leave(self) -> None:
        """End this stay; the last one out stops the server, unless it is to stay. Safe to call twice.

        Never raises: a server that cannot be stopped is logged and left to the next one who leaves.
        """
        if self._here and self._pid == os.getpid():
            self._here = False
            _leave(self._house)

    @classmethod
    async def aenter(cls, settings: Settings) -> Lodging:
        """`enter` without blocking the event loop. A cancelled caller leaves again when it is in."""
        task = asyncio.ensure_future(asyncio.to_thread(cls.enter, settings))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_leave_again)
            raise

    async def aensure(self) -> Address:
        """`ensure` without blocking the event loop."""
        return await asyncio.to_thread(self.ensure)

    async def aleave(self) -> None:
        """`leave` without blocking the event loop."""
        await asyncio.to_thread(self.leave)


def _leave_again(task: asyncio.Task[Lodging]) -> None:
    if not task.cancelled() and task.exception() is None:
        threading.Thread(target=task.result().leave, name="memgang-leave").start()


def _check_in(house: House) -> None:
    stay = _stays.get(house.root)
    if stay is None:
        fd = open_lock(house.clients_lock)
        # Nobody holds it exclusively but for a moment and alone at the door, where we are now.
        if not try_lock(fd, shared=True):
            close_lock(fd)
            raise StoreUnavailable(f"{house.clients_lock} is held by a program that is not MemGang")
        stay = _stays[house.root] = _Stay(house, fd)
        atexit.unregister(_leave_all)
        atexit.register(_leave_all)  # for processes that forget; last in, so before what it needs is gone
    stay.guests += 1


def _check_out(house: House) -> bool:
    """One guest less. True: this process was the house's last client, and its lock is now exclusive and gone."""
    stay = _stays.get(house.root)
    if stay is None:
        return False
    stay.guests -= 1
    if stay.guests > 0:
        return False
    del _stays[house.root]
    try:
        return try_lock(stay.fd)
    finally:
        close_lock(stay.fd)


def _leave(house: House) -> None:
    try:
        # The door first: were the lock given up before, two who leave at once could each see the
        # other's, and nobody would stop the server.
        with house.door(), _guard:
            if _check_out(house) and not house.stay_file.exists():
                boot.shut_down(house)
    except StoreUnavailable as error:
        with _guard:
            _check_out(house)
        _log.warning("the embedded server was not stopped: %s", error)


def _leave_all() -> None:
    for stay in list(_stays.values()):
        stay.guests = 1
        _leave(stay.house)


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of an embedded server. ``clients`` are processes; sizes are bytes."""

    running: bool  # a server process holds the files
    state: str  # "ready", "loading its log", "does not answer", "not there"
    pid: int
    server: str  # "valkey 9.1.2"
    socket: str
    clients: int
    stay: bool
    state_dir: Path
    aof_bytes: int
    memory_bytes: int
    uptime_s: int
    log: Path


def status(settings: Settings) -> Status:
    """Look at the server of ``settings.state_dir`` without starting, waiting for or changing anything.

    Raises:
        StoreUnavailable: the password file is not ours alone.
    """
    house = House.of(settings)
    running = house.alive()
    seen = boot.pulse(house) if running else boot.Pulse.ABSENT
    info: dict[str, object] = {}
    if seen is boot.Pulse.READY:
        with boot.client(boot.address_of(house)) as server, contextlib.suppress(failures.RedisError, OSError):
            info = server.info()
    record = house.record()
    aof = sum(f.stat().st_size for f in house.aof_dir.iterdir() if f.is_file()) if house.aof_dir.is_dir() else 0
    return Status(
        running=running, state=seen.value, pid=_number(info, "process_id"), server=str(record.get("server", "")),
        socket=str(record.get("socket", "")), clients=_clients(house), stay=house.stay_file.exists(),
        state_dir=house.root.parent, aof_bytes=aof, memory_bytes=_number(info, "used_memory"),
        uptime_s=_number(info, "uptime_in_seconds"), log=house.log_file,
    )


def _number(info: dict[str, object], name: str) -> int:
    value = info.get(name, 0)
    return value if isinstance(value, int) else 0


def _clients(house: House) -> int:
    """How many processes hold the clients' lock. Where there is no /proc/locks: 1 means "at least one"."""
    if not house.clients_lock.exists():
        return 0
    try:
        inode = os.stat(house.clients_lock).st_ino
        with open("/proc/locks", encoding="ascii") as locks:
            held = [line.split() for line in locks if f":{inode} " in line]
        return len({words[4] for words in held if words[1] == "FLOCK"})
    except OSError:
        pass
    with house.door(deadline_s=1.0):
        fd = open_lock(house.clients_lock)
        try:
            return 0 if try_lock(fd) else 1
        finally:
            close_lock(fd)


def serve(settings: Settings) -> Status:
    """Start the server, if it does not run, so that it stays without clients until ``stop()``.

    Raises:
        StoreUnavailable: see ``Lodging.enter``.
    """
    Lodging.enter(settings.with_(stay=True)).leave()
    return status(settings)


def stop(settings: Settings, force: bool = False) -> Literal["stopped", "not running", "in use"]:
    """End a stay, and the server with it when it has no clients, or in any case with ``force``.

    ``in use``: it still has clients (this process may be one) and now stops with the last of them.
    Clients of a server stopped by force start it again when they need it.

    Raises:
        StoreUnavailable: the server cannot be reached or does not end.
    """
    house = House.of(settings)
    if not house.root.is_dir():
        return "not running"
    house.build()
    with house.door(), _guard:
        house.stay_file.unlink(missing_ok=True)
        if not house.alive():
            return "not running"
        if not force:
            fd = open_lock(house.clients_lock)
            try:
                if not try_lock(fd):
                    return "in use"
            finally:
                close_lock(fd)
        boot.shut_down(house)
        return "stopped"
