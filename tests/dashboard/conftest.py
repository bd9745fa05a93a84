"""A dashboard as people meet it: its own process on a port of its own, watching a server of its own, in a real browser."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.servers import PrivateServer

SRC = Path(__file__).parents[2] / "src"
ARGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
        "--disable-sync --force-color-profile=srgb").split()


class Dashboard:
    """One `memgang dashboard`. Killed and started again at the same port."""

    def __init__(self, server: PrivateServer, space: str, folder: Path) -> None:
        self.server, self.space, self.folder = server, space, folder
        self._choose()
        self.process: subprocess.Popen[str] | None = None
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("MEMGANG_", "OPENAI_", "STREAMLIT_"))}
        self.env |= {"PYTHONPATH": str(SRC), "MEMGANG_URL": server.url, "MEMGANG_PATIENCE_MS": "200", "HOME": str(folder),
                     "MEMGANG_STATE_DIR": str(folder / "state"), "MEMGANG_RUNTIME_DIR": str(folder / "run"), "MEMGANG_SPACE": space,
                     "PYTHONUNBUFFERED": "1", "STREAMLIT_LOGGER_LEVEL": "debug"}  # as somebody may have set it: it must not open ours

    def _choose(self) -> None:
        with socket.socket() as trying:
            trying.bind(("127.0.0.1", 0))
            self.port = trying.getsockname()[1]
        self.url, self.used = f"http://127.0.0.1:{self.port}", False

    def start(self, *options: str) -> str:
        """Start, and what it says when it is ready. Somebody else may have taken the port since it was chosen: then at another."""
        for _ in range(3):
            first = self._started(*options)
            if first.startswith("memgang dashboard on"):
                self.used = True
                return first
            said = (self.folder / "stderr").read_text()
            if self.used or "cannot listen" not in said:  # pages of the tests know the port once it has been used
                break
            self.kill()
            (self.folder / "stderr").unlink()
            self._choose()
        raise AssertionError(said)

    def said(self) -> str:
        """All that it has printed so far, to either stream."""
        return "".join((self.folder / name).read_text() for name in ("stdout", "stderr"))

    def _started(self, *options: str) -> str:
        self.log = (self.folder / "stderr").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "memgang", "dashboard", "--no-open", "--port", str(self.port), *options], env=self.env, text=True,
            cwd=self.folder, stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL)
        first: queue.Queue[str] = queue.Queue()
        stdout = self.process.stdout
        assert stdout is not None

        def copy() -> None:
            with stdout, (self.folder / "stdout").open("a") as kept:
                line = stdout.readline()
                first.put(line)
                while line:
                    kept.write(line)
                    kept.flush()
                    line = stdout.readline()

        self.copying = threading.Thread(target=copy, daemon=True)
        self.copying.start()
        return first.get(timeout=90)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.log.close()

    def memgang(self, *arguments: str) -> str:
        """What another command says."""
        done = subprocess.run([sys.executable, "-m", "memgang", *arguments], env=self.env, cwd=self.folder, text=True,
                              capture_output=True, timeout=120, check=True)
        return done.stdout


@pytest.fixture(scope="module")
def watched_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServer]:
    """The server of the space that is watched."""
    with PrivateServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def dashboard(watched_server: PrivateServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard on it, for all tests of a module: it takes seconds to start."""
    pytest.importorskip("streamlit", reason="needs memgang[dashboard]")
    running = Dashboard(watched_server, "watched", tmp_path_factory.mktemp("dashboard"))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser: Debian's, or one already there. Nothing is downloaded."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (memgang[dev])")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield browser
        browser.close()


class Look:
    """One page that is looked at, and what it asked for and complained of."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.abroad: list[str] = []
        self.errors: list[str] = []
        page.set_default_timeout(60_000)
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda opened: self._asked(opened.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, url: str) -> None:
        if not url.startswith((self.url, self.url.replace("http", "ws", 1), "data:", "blob:")):
            self.abroad.append(url)

    def go(self, path: str = "/") -> Look:
        """Open an address of the dashboard."""
        self.page.goto(self.url + path)
        return self

    def until(self, condition: str, argument: Any = None) -> Any:
        """Wait until JavaScript says so; a generous limit stands for the time it should take."""
        return self.page.wait_for_function(condition, arg=argument, timeout=60_000)

    def counts(self) -> dict[str, int]:
        """The counters of the flock's fold."""
        return dict(self.page.evaluate("window.__memgang.kept.flock.state().counts"))


@pytest.fixture
def look(dashboard: Dashboard, chromium: Any) -> Iterator[Look]:
    """A page in a browser of its own."""
    # Small and without motion: ten of them are drawn without a GPU, beside everything else.
    context = chromium.new_context(viewport={"width": 960, "height": 640}, reduced_motion="reduce")
    yield Look(context.new_page(), dashboard.url)
    context.close()
