"""The command itself: how it starts beside a run, how it ends, and what it says without what it needs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("streamlit", reason="needs memgang[dashboard]")

from websockets.sync import client

from memgang.doors.dashboard import serving
from memgang.flock import dial
from tests.chaos.servers import PrivateServer
from tests.dashboard.conftest import Dashboard


def test_it_ends_at_once_and_quietly_although_it_is_being_watched(watched_server: PrivateServer, tmp_path: Path) -> None:
    """Ctrl-C with an open socket: status 0, no traceback."""
    running = Dashboard(watched_server, "ending", tmp_path)
    running.start()
    process = running.process
    assert process is not None
    with client.connect(running.url.replace("http", "ws") + "/_stcore/stream"):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    running.kill()
    assert (tmp_path / "stderr").read_text() == ""


def test_a_run_opens_one_beside_it_and_says_where(watched_server: PrivateServer, tmp_path: Path) -> None:
    """`memgang run --dashboard` prints the address of its own run; the page is there also when the run is over."""
    there = Dashboard(watched_server, "beside", tmp_path)
    (tmp_path / "doc.md").write_text("# Birds\n\nThe gang has 5 birds.\n")
    words = ["run", "doc.md", "--llm", "simulated:latency_ms=1", "--dashboard", "--out", "r.md"]
    done = subprocess.run([sys.executable, "-m", "memgang", *words], env=there.env, cwd=tmp_path, text=True, capture_output=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    found = re.search(r"memgang dashboard on (http://127\.0\.0\.1:\d+/)\?run=(\S+), space beside; .*\(process (\d+)\)", done.stderr)
    assert found is not None, done.stderr
    try:
        assert found[2] in done.stdout  # the run that is told at the end
        assert httpx.get(found[1]).status_code == 200
    finally:
        os.kill(int(found[3]), signal.SIGTERM)


async def test_one_that_nobody_looks_at_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a page is open it stays; when none has been for a while it is told to end."""
    monkeypatch.setattr(serving, "UNWATCHED_S", 0.05)
    monkeypatch.setattr(serving, "LOOK_S", 0.005)
    told: list[int] = []
    monkeypatch.setattr(serving.signal, "raise_signal", told.append)

    class Looked:
        sockets = 1
        asked = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "sockets":
                Looked.asked += 1
                if Looked.asked >= 30:
                    Looked.sockets = 0
            return super().__getattribute__(name)

    async with asyncio.timeout(30):
        await serving._until_unwatched([Looked()])  # type: ignore[list-item]
    assert told == [signal.SIGTERM] and Looked.asked >= 30


def test_the_frame_has_the_colours_of_the_flock() -> None:
    """Each colour that Streamlit is given is one of the palette's, of the same theme."""
    for name, colour in serving.THEME.items():
        assert colour in dial.colours(name.split(".")[0]).values(), name
    assert len(serving.THEME) == 8


def test_without_the_extra_it_says_which(tmp_path: Path) -> None:
    """Where Streamlit is not installed the error names what to install."""
    script = "import sys; sys.modules['streamlit'] = None\nfrom memgang.doors.entry import main\nmain()"
    env = {**os.environ, "MEMGANG_STATE_DIR": str(tmp_path / "s"), "MEMGANG_RUNTIME_DIR": str(tmp_path / "r")}
    done = subprocess.run([sys.executable, "-c", script, "dashboard", "--no-open"], env=env, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'memgang[dashboard]'" in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told_in_one_line(dashboard: Dashboard) -> None:
    """The second dashboard at one port says so, and what to do."""
    done = subprocess.run([sys.executable, "-m", "memgang", "dashboard", "--no-open", "--port", str(dashboard.port)], env=dashboard.env,
                          text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{dashboard.port}" in done.stderr and "--port 0" in done.stderr
