"""A server of the harness's own: started, killed, started again, with or without persistence. No other server is touched."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from memgang.settings import Settings
from memgang.store.binary import find_binary

START_S = 30.0


def programs() -> dict[str, str]:
    """The server programs there are: the one MemGang would start, and Debian's redis-server where it is installed."""
    found = find_binary(Settings.load())
    out = {found.name: str(found.path)}
    other = shutil.which("redis-server")
    if other and os.path.realpath(other) != os.path.realpath(found.path):
        out.setdefault("redis", other)
    return out


class PrivateServer:
    """One server process at a socket of its own. ``kill`` is kill -9; ``start`` afterwards is the restart."""

    def __init__(
        self, folder: Path, *, program: str = "", persistent: bool = True, options: Sequence[str] = (), preload: str = "",
        environment: dict[str, str] | None = None, file_bytes_max: int = 0,
    ) -> None:
        self.folder, self.persistent, self.options = folder, persistent, tuple(options)
        self.program = program or str(find_binary(Settings.load()).path)
        self._environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **(environment or {})}
        if preload:
            self._environment["LD_PRELOAD"] = preload
        self._file_bytes_max = file_bytes_max
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = str(folder / "s")
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start and wait for the first PONG. Data of the last life is read where it was kept."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        keep = ["--appendonly", "yes", "--appendfsync", "everysec"] if self.persistent else ["--appendonly", "no"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", str(self.folder),
                 "--maxmemory-policy", "noeviction", "--enable-debug-command", "yes", *keep, *self.options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment,
                restore_signals=False,  # SIGXFSZ stays ignored: a file at its limit is an error of write, not a death
                preexec_fn=self._limit if self._file_bytes_max else None)
        self.starts += 1
        until = time.monotonic() + START_S
        with self.admin() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if self.process.poll() is not None or time.monotonic() > until:
                        said = (self.folder / "log").read_text(errors="replace")[-2000:]
                        raise RuntimeError(f"{self.program} did not start: {said}") from None
                    time.sleep(0.005)

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._file_bytes_max, resource.RLIM_INFINITY))

    def admin(self) -> redis.Redis:
        """A client that does not try again."""
        return redis.Redis(unix_socket_path=self.socket, retry=Retry(NoBackoff(), 0), socket_timeout=10)

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> PrivateServer:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
