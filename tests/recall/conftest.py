"""A server of the test's own that can go away and come back."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from memgang.settings import Settings
from memgang.store import server


class Own:
    """A server on a port of this machine, without a log on disk: what goes away comes back empty."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self._command = [server.find_binary(Settings.load()).path, "--port", str(port), "--save", "", "--dir", str(folder),
                         "--bind", "127.0.0.1"]
        self.url, self.admin = f"redis://127.0.0.1:{port}/0", redis.Redis(port=port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        while True:
            try:
                self.admin.ping()
                return
            except redis.ConnectionError:
                assert self._process.poll() is None

    def go_away(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """It runs, and is gone with the test."""
    found = Own(tmp_path)
    found.start()
    yield found
    found.admin.close()
    found.go_away()
