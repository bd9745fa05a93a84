"""Where the embedded server lives: its directories, files, modes and locks. Starts nothing.

One state directory has one house, and a house has at most one server::

    <state_dir>/server/          0700
        door.lock        held for moments by whoever comes in, goes out or looks after the server
        clients.lock     held shared by every client process while it stays
        alive.lock       held by the server process itself, from before its start to its death
        password         256 random bits, 0600
        server.json      which socket, which program: written before the server is started
        server.conf  server.log  server.pid  appendonlydir/
        stay             if it exists, the server outlives its last client
    <runtime_dir>/<hash of the state directory>/sock

All locks are ``flock``: the kernel frees them when a process dies, however it dies. The server
inherits the open ``alive.lock``, so "does a server run on these files?" never depends on a process
number, which another process may have been given since.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memgang.errors import StoreUnavailable
from memgang.settings import Settings

# sun_path has 108 bytes on Linux and 104 on macOS, one of them for the final NUL.
SOCKET_PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103

# Whoever holds the door may be starting a server; see START_DEADLINE_S in server.py, which is less.
DOOR_DEADLINE_S = 40.0
_DOOR_POLL_S = 0.01


class House:
    """The paths of one state directory's server, and what may be asked of them. Making one touches nothing."""

    def __init__(self, root: Path, runtime: Path) -> None:
        self.root = root
        self.runtime = runtime  # the socket's directory when this process is the one to start the server
        self.socket = runtime / "sock"
        self.door_lock = root / "door.lock"
        self.clients_lock = root / "clients.lock"
        self.alive_lock = root / "alive.lock"
        self.password_file = root / "password"
        self.record_file = root / "server.json"
        self.config_file = root / "server.conf"
        self.log_file = root / "server.log"
        self.pid_file = root / "server.pid"
        self.aof_dir = root / "appendonlydir"
        self.stay_file = root / "stay"

    @classmethod
    def of(cls, settings: Settings) -> House:
        """The house of these settings. Two spellings of one state directory are one house."""
        # The last part is not resolved: when it is a link, build() has to see that and refuse.
        state = settings.state_dir.expanduser().absolute()
        root = Path(os.path.realpath(state.parent)) / state.name / "server"
        mark = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
        runtime = settings.runtime_dir.expanduser().absolute()
        if len(os.fsencode(runtime / mark / "sock")) > SOCKET_PATH_BYTES_MAX:
            short = f"memgang-{os.getuid()}-{hashlib.sha256(os.fsencode(runtime)).hexdigest()[:8]}"
            runtime = Path(tempfile.gettempdir()) / short
            if len(os.fsencode(runtime / mark / "sock")) > SOCKET_PATH_BYTES_MAX:
                runtime = Path("/tmp") / short  # noqa: S108  # TMPDIR itself is deep; the directory is ours alone, or refused
        return cls(root, runtime / mark)

    def build(self) -> None:
        """Make the directory of the state, or check the one that is there.

        Raises:
            StoreUnavailable: it is a link, belongs to someone else, or others may write to it.
        """
        private_directory(self.root.parent, exact=False)
        private_directory(self.root)

    def build_runtime(self) -> None:
        """The same for the directory of the socket."""
        private_directory(self.runtime.parent, exact=False)
        private_directory(self.runtime)

    @contextlib.contextmanager
    def door(self, deadline_s: float = DOOR_DEADLINE_S) -> Iterator[None]:
        """Alone at the door: nobody else of this house comes, goes, starts or stops meanwhile."""
        fd = open_lock(self.door_lock)
        try:
            until = time.monotonic() + deadline_s
            while not try_lock(fd):
                if time.monotonic() >= until:
                    raise StoreUnavailable(
                        f"another process has held {self.door_lock} for {deadline_s:.0f} s, "
                        "as one does that starts the server: end it if it hangs")
                time.sleep(_DOOR_POLL_S)
            yield
        finally:
            close_lock(fd)

    def alive(self) -> bool:
        """Whether a server process runs on these files, here or on another machine that shares them."""
        if not self.alive_lock.exists():
            return False
        fd = open_lock(self.alive_lock)
        try:
            return not try_lock(fd, shared=True)  # shared: two who look at once do not see each other
        finally:
            close_lock(fd)

    def record(self) -> dict[str, Any]:
        """What the last starter wrote down; empty when nothing or nonsense is there."""
        try:
            found = json.loads(self.record_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def password(self, *, make: bool = False) -> str:
        """The server's password, 64 hex digits; '' when there is none. Only who is alone at the door may make it.

        Raises:
            StoreUnavailable: the file is not ours alone.
        """
        try:
            fd = os.open(self.password_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise StoreUnavailable(f"{self.password_file} cannot be read: {error.strerror}") from error
        else:
            with os.fdopen(fd, "rb") as file:
                about = os.fstat(fd)
                if about.st_uid != os.geteuid() or about.st_mode & 0o077 or not stat.S_ISREG(about.st_mode):
                    raise StoreUnavailable(f"{self.password_file} must be a file that only its owner can read: "
                                           "stop the server and delete it, and a new one is made")
                text = file.read(200).decode("ascii", "replace").strip()
        if make and len(text) < 64:
            text = secrets.token_hex(32)
            write_private(self.password_file, text + "\n")
        return text


def private_directory(path: Path, *, exact: bool = True) -> None:
    """Make a directory 0700 whatever the umask, with its parents, or check the one that is there.

    ``exact``: an existing one is ours by name, so a mode that lets others read is put right. Else it
    is somebody's choice, and others may read it but not write to it.

    Raises:
        StoreUnavailable: it is a link, no directory, belongs to someone else, or others may write to it.
    """
    try:
        for parent in [*reversed(path.parents), path]:
            with contextlib.suppress(FileExistsError):
                if not parent.exists() and not parent.is_symlink():
                    os.mkdir(parent, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise StoreUnavailable(f"{path} is a symbolic link; MemGang keeps secrets there and does not follow it: "
                                   "name the real directory in MEMGANG_STATE_DIR or MEMGANG_RUNTIME_DIR") from error
        raise StoreUnavailable(f"the directory {path} cannot be made or opened: {error.strerror}") from error
    try:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid():
            raise StoreUnavailable(f"{path} belongs to user {about.st_uid}, not to you ({os.geteuid()}): "
                                   "name a directory of your own in MEMGANG_STATE_DIR or MEMGANG_RUNTIME_DIR")
        if about.st_mode & 0o022:
            raise StoreUnavailable(f"others may write to {path} (mode {stat.S_IMODE(about.st_mode):04o}): "
                                   f"run `chmod go-w {path}` after a look at what is in it")
        if exact and stat.S_IMODE(about.st_mode) != 0o700:
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def trusted_place(path: str) -> bool:
    """Whether the directory of a socket is there and ours alone."""
    try:
        place = os.lstat(os.path.dirname(path))
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(place.st_mode) and place.st_uid == os.geteuid() and not place.st_mode & 0o077


def trusted_socket(path: str) -> bool:
    """Whether a socket and its directory are ours alone. Asked before a password is sent through it."""
    try:
        node = os.lstat(path)
    except (OSError, ValueError):
        return False
    return trusted_place(path) and stat.S_ISSOCK(node.st_mode) and node.st_uid == os.geteuid()


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; 0600 whatever the umask."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(fd)
    os.replace(new, path)


def allocate(fd: int, size: int) -> None:
    """Give a file its room now: what is mapped and has none on a full file system is a SIGBUS later. OSError: there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    elif (missing := size - os.fstat(fd).st_size) > 0:  # macOS
        os.pwrite(fd, bytes(missing), size - missing)


# Locks -----------------------------------------------------------------------------------------

# The lock files this process has open. A forked child shares them with its parent: were it to keep
# them, the parent's death would not free them. The child closes; it must not unlock, for an unlock
# through any copy frees the lock of all.
_open: set[int] = set()


def open_lock(path: Path) -> int:
    """Open a lock file, 0600, without taking the lock. Not inherited by programs we start."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the lock file {path} cannot be opened: {error.strerror}") from error
    _open.add(fd)
    return fd


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take a lock now or not at all."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreUnavailable(f"this file system does not lock files ({error.strerror}): "
                               "name a local directory in MEMGANG_STATE_DIR") from error
    return True


def close_lock(fd: int) -> None:
    """Close a lock file, which frees the lock unless another process shares it by inheritance."""
    if fd in _open:
        _open.discard(fd)
        os.close(fd)


def _close_inherited() -> None:
    for fd in _open:
        with contextlib.suppress(OSError):
            os.close(fd)
    _open.clear()


os.register_at_fork(after_in_child=_close_inherited)
