"""One server process in one house: is it there, start it, stop it. The caller is alone at the door.

Nothing here counts clients; ``server.py`` decides when to call it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from enum import Enum
from pathlib import Path

import redis
from redis import exceptions as failures
from redis.backoff import NoBackoff
from redis.retry import Retry

from memgang.errors import StoreUnavailable
from memgang.settings import Settings
from memgang.store.address import Address
from memgang.store.binary import Binary, find_binary, server_environment
from memgang.store.house import (
    DOOR_DEADLINE_S,
    House,
    close_lock,
    open_lock,
    trusted_place,
    trusted_socket,
    try_lock,
    write_private,
)

USER = "memgang"

# From the start of the program to the first PONG. A long log may need more: then this start is
# reported as failed, but the server goes on loading and the next one who comes finds it.
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0
_PING_TIMEOUT_S = 2.0
_POLL_S = 0.01
_LOG_BYTES_MAX = 1 << 20

assert START_DEADLINE_S + STOP_DEADLINE_S < DOOR_DEADLINE_S, "who waits at the door would give up on a good start"

# The default user cannot log in (off, no password), and yet keeps its rights: Redis 7.0 loads its append-only
# file as that user and checks every transaction in it again. Without rights it refused what scripts had
# written, said so in its log only, and came up empty.
_CONFIG = """\
# Written by MemGang at every start of its embedded server; changes are lost.
port 0
tls-port 0
unixsocket {socket}
unixsocketperm 600
daemonize yes
pidfile {pidfile}
logfile {logfile}
dir {dir}
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
enable-debug-command no
enable-module-command no
enable-protected-configs no
user default off resetpass ~* &* +@all
user {user} on #{secret} ~* &* +@all -debug -module -replicaof -slaveof -failover -migrate -sync -psync
"""


class Pulse(Enum):
    """What a knock at the recorded socket brought."""

    READY = "ready"
    LOADING = "loading its log"
    SILENT = "does not answer"  # a socket, but no reply in time: stopped, or in a long script
    ABSENT = "not there"


def address_of(house: House) -> Address:
    """The address written down by the last starter; the socket is '' when there is none."""
    path = str(house.record().get("socket", ""))
    return Address(url=f"unix://{path}", socket=path, username=USER, password=house.password(), embedded=True)


def client(where: Address) -> redis.Redis:
    """A short-lived client that does not try again: here a failure is an answer."""
    return redis.Redis(**where.redis_kwargs(), socket_timeout=_PING_TIMEOUT_S, socket_connect_timeout=_PING_TIMEOUT_S,
                       retry=Retry(NoBackoff(), 0))


def pulse(house: House) -> Pulse:
    """Knock at the recorded socket, if it and its directory are ours. Only the right server knows the password."""
    where = address_of(house)
    if not where.socket or not where.password or not trusted_socket(where.socket):
        return Pulse.ABSENT
    with client(where) as server:
        try:
            server.ping()
        except failures.BusyLoadingError:
            return Pulse.LOADING
        except failures.TimeoutError:
            return Pulse.SILENT
        except (failures.RedisError, OSError):
            return Pulse.ABSENT
    return Pulse.READY


def ensure(house: House, settings: Settings) -> None:
    """Return when a server answers: the one that runs, or one started now.

    Raises:
        StoreUnavailable: none could be started, or the one that runs cannot be reached; with the reason.
    """
    if pulse(house) is Pulse.READY:
        return
    lock = open_lock(house.alive_lock)
    try:
        if not _wait_for_end_or_answer(house, lock):
            return
        _start(house, settings, lock)
    finally:
        close_lock(lock)


def _wait_for_end_or_answer(house: House, lock: int) -> bool:
    """True: nobody runs here and ``lock`` is ours. False: the server answers after all.

    Raises:
        StoreUnavailable: a server holds the files and stays out of reach.
    """
    until = time.monotonic() + START_DEADLINE_S
    turned_out = False
    while not try_lock(lock):
        state = pulse(house)
        if state is Pulse.READY:
            return False
        if state is Pulse.ABSENT and not turned_out and not os.path.exists(str(house.record().get("socket", ""))):
            # Its socket was deleted under it, as happens to /run/user/<uid> at the last logout. It
            # will never be reached again, so it has to make room; it writes its log out first.
            turned_out = _terminate(house)
        if time.monotonic() >= until:
            raise StoreUnavailable(_out_of_reach(house, state))
        time.sleep(_POLL_S)
    return True


def _out_of_reach(house: House, state: Pulse) -> str:
    record = house.record()
    here, there = socket.gethostname(), str(record.get("host", ""))
    if there and there != here:
        return (f"the embedded server of {house.root.parent} runs on host {there}, and this is {here}: "
                "name a state directory on a local disk, or one server for all in MEMGANG_URL")
    if state is Pulse.LOADING:
        return f"the embedded server in {house.root} is still loading its log: try again in a moment"
    pid = _pid(house)
    return (f"the embedded server in {house.root} runs{f' as process {pid}' if pid else ''}, but is {state.value} "
            f"at {record.get('socket', '(no socket)')}: end it and try again")


def _start(house: House, settings: Settings, lock: int) -> None:
    binary = find_binary(settings)
    before = house.record()
    path = _socket_path(house, before)
    password = house.password(make=True)
    _rotate(house.log_file)
    log_begin = house.log_file.stat().st_size
    write_private(house.config_file, _CONFIG.format(
        socket=_quoted(path), pidfile=_quoted(house.pid_file), logfile=_quoted(house.log_file),
        dir=_quoted(house.root), user=USER, secret=hashlib.sha256(password.encode()).hexdigest()))
    house.pid_file.unlink(missing_ok=True)
    # The record before the server: were we to die in between, the next one still knows where to knock.
    write_private(house.record_file, json.dumps({
        "socket": str(path), "host": socket.gethostname(), "server": str(binary), "path": str(binary.path)}))
    try:
        # A session of its own, so that no Ctrl-C in our terminal reaches it; the config by file, so
        # that `ps` shows nothing. It inherits the lock: from here on the kernel knows whether it lives.
        with subprocess.Popen(
            [binary.path, house.config_file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=house.root, env=server_environment(), umask=0o077,
            start_new_session=True, pass_fds=(lock,),
        ) as program:
            said, _ = program.communicate(timeout=START_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"{binary.path} did not go into the background in {START_DEADLINE_S:.0f} s") from error
    except OSError as error:
        raise StoreUnavailable(f"{binary.path} cannot be started: {error.strerror}") from error
    close_lock(lock)  # ours; the server's copy keeps it
    if program.returncode != 0:
        raise _failed(house, binary, before, log_begin, said.decode("utf-8", "replace"))
    until = time.monotonic() + START_DEADLINE_S
    while (state := pulse(house)) is not Pulse.READY:
        if not house.alive():
            raise _failed(house, binary, before, log_begin, "")
        if time.monotonic() >= until:
            raise StoreUnavailable(_out_of_reach(house, state))
        time.sleep(_POLL_S)


def _socket_path(house: House, before: dict[str, object]) -> Path:
    """Where the server shall listen: where it did, while that place is ours, for its clients knock there again.

    Raises:
        StoreUnavailable: the directory for a new socket is not ours alone.
    """
    if before.get("host") == socket.gethostname() and trusted_place(path := str(before.get("socket", ""))):
        return Path(path)
    house.build_runtime()
    return house.socket


def _failed(house: House, binary: Binary, before: dict[str, object], log_begin: int, said: str) -> StoreUnavailable:
    """A start that failed, with the end of what the server wrote about it."""
    with house.log_file.open("rb") as log:
        log.seek(log_begin)
        lines = (said + log.read(64 * 1024).decode("utf-8", "replace")).strip().splitlines()
    why = " | ".join(line.strip() for line in lines[-6:] if line.strip()) or "it wrote nothing"
    was = before.get("server")
    hint = f" (its files were last written by {was})" if was and was != str(binary) else ""
    return StoreUnavailable(f"the embedded server ({binary} at {binary.path}) ended at its start{hint}: {why}; "
                            f"its log is {house.log_file}")


def shut_down(house: House) -> None:
    """Stop the server cleanly: its log is written out and on disk when this returns.

    Raises:
        StoreUnavailable: it did not end in time.
    """
    until = time.monotonic() + STOP_DEADLINE_S
    asked = 0.0
    while house.alive():
        now = time.monotonic()
        if now >= until:
            raise StoreUnavailable(f"the embedded server in {house.root} did not stop within {STOP_DEADLINE_S:.0f} s")
        if now - asked >= 1.0:  # asked again, for it refuses while it writes its first log
            asked = now
            where = address_of(house)
            if where.socket and trusted_socket(where.socket):
                with client(where) as server, contextlib.suppress(failures.RedisError, OSError):
                    server.shutdown(nosave=True)  # nosave: no snapshot; the log is written out all the same
            else:
                _terminate(house)
        time.sleep(_POLL_S)
    house.pid_file.unlink(missing_ok=True)


def _pid(house: House) -> int:
    """The number the server wrote down, or 0. Not a proof of anything."""
    try:
        return int(house.pid_file.read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _terminate(house: House) -> bool:
    """Ask the process that wrote the pid file to end, if it is proven to be the server of this house.

    The proof is that it has our lock file open, which only /proc tells; elsewhere nobody is ended.
    """
    pid = _pid(house)
    try:
        lock = os.stat(house.alive_lock)
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                about = os.stat(entry.path)
                if pid > 1 and (about.st_dev, about.st_ino) == (lock.st_dev, lock.st_ino):
                    os.kill(pid, signal.SIGTERM)
                    return True
    except OSError:
        pass
    return False


def _rotate(log: Path) -> None:
    """An empty or short log file, 0600; the one before it is kept once."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES_MAX:
            os.replace(log, log.with_name(log.name + ".1"))
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _quoted(path: Path) -> str:
    """A path as the server's config reads it; every byte outside plain ASCII is escaped."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+ "
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path)) + '"'
