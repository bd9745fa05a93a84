"""A browser that shows the flock: Debian's Chromium, driven by Playwright from a thread of its own.

Playwright's synchronous side leaves a loop running in its thread, in which no asynchronous test could run afterwards.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import memgang.flock

WEB = Path(memgang.flock.__file__).parent / "web"
FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync --force-color-profile=srgb").split()
# The flock is not started: tests step it, so that nothing depends on how fast the machine is.
HTML = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="/flock.css">
<style>html,body{margin:0;height:100%}#root{height:100vh}</style><div id="root"></div>
<script type="module">
import { createFlock } from "/flock.js";
window.make = (options) => { window.flock = createFlock(document.getElementById("root"), options); };
window.ready = true;
</script>"""


class Page:
    """One page; every call goes to the browser's thread."""

    def __init__(self, run: Callable[..., Any], page: Any, home: str) -> None:
        self._run, self._page, self.home = run, page, home
        self.errors: list[str] = []
        self.requests: list[str] = []
        # In the browser's thread too: after an asynchronous test this one has no event loop, and cannot be given a listener's.
        run(page.on, "pageerror", lambda error: self.errors.append(str(error)))
        run(page.on, "console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        run(page.on, "request", lambda request: self.requests.append(request.url))
        run(page.on, "dialog", lambda dialog: self.errors.append("a dialog"))

    def js(self, expression: str, value: Any = None) -> Any:
        """What an expression, or a function of ``value``, comes to in the page."""
        return self._run(self._page.evaluate, expression, value)

    def press(self, *keys: str) -> None:
        """Presses keys where the focus is."""
        for key in keys:
            self._run(self._page.keyboard.press, key)

    def type(self, text: str) -> None:
        """Types a text where the focus is."""
        self._run(self._page.keyboard.insert_text, text)

    def focus(self, selector: str) -> None:
        """Gives an element the focus."""
        self._run(self._page.focus, selector)

    def click(self, selector: str, x: float, y: float) -> None:
        """Clicks at a place of an element."""
        self._run(self._page.click, selector, position={"x": x, "y": y})

    def size(self, width: int, height: int) -> None:
        """Gives the window another size, and waits until the page has drawn in it."""
        self._run(self._page.set_viewport_size, {"width": width, "height": height})
        self.drawn()

    def drawn(self) -> None:
        """Waits until the page has drawn, and has told its observers how large its parts are."""
        self.js("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def elsewhere(self) -> list[str]:
        """Requests that went to anybody but the test's own server."""
        return [url for url in self.requests if not url.startswith((self.home, "data:"))]


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """The address of a server that has the flock's files, and one page."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                return super().do_GET()
            body = HTML.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(WEB))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[tuple[Any, Callable[..., Any]]]:
    """The browser, and what runs a function in its thread."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install memgang[dev]")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium: apt install chromium")
    with ThreadPoolExecutor(1) as pool:

        def run(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
            return pool.submit(function, *args, **named).result()

        driver = run(playwright.sync_playwright().start)
        browser = run(driver.chromium.launch, executable_path=path, args=FLAGS)
        yield browser, run
        run(browser.close)
        run(driver.stop)


@pytest.fixture(scope="session")
def pages(chromium: tuple[Any, Callable[..., Any]], web: str) -> Iterator[Callable[..., Page]]:
    """Opens pages, and gives the same one again to tests that leave it as it was."""
    browser, run = chromium
    shared: dict[str, Page] = {}
    contexts = []

    def page(motion: str, fresh: bool) -> Page:
        if fresh or motion not in shared:
            context = run(browser.new_context, viewport={"width": 1440, "height": 860}, reduced_motion=motion)
            contexts.append(context)
            opened = Page(run, run(context.new_page), web)
            run(opened._page.goto, web)
            run(opened._page.wait_for_function, "window.ready")
            if fresh:
                return opened
            shared[motion] = opened
        return shared[motion]

    yield page
    for context in contexts:
        run(context.close)


@pytest.fixture
def open_page(pages: Callable[..., Page]) -> Callable[..., Page]:
    """A page with a flock in it: ``open_page(tape, theme="dark", width=1440)``. ``fresh``: for a test that changes the page itself."""

    def open_it(tape: tuple[dict[str, Any], list[dict[str, Any]]] | None = None, *, width: int = 1440, height: int = 860,
                motion: str = "no-preference", fresh: bool = False, **options: Any) -> Page:
        page = pages(motion, fresh)
        page.js("() => { document.title = ''; if (window.flock) flock.destroy(); }")
        page.size(width, height)
        page.js("(options) => window.make(options)", {"autoplay": False, **options})
        page.drawn()  # else the stage may be measured, and everything placed anew, between two looks at it
        if tape is not None:
            header, records = tape
            # As text: a value of so many parts takes the driver seconds.
            page.js("([header, records]) => { flock.header(header); flock.load(JSON.parse(records)); }", [header, json.dumps(records)])
        page.errors.clear()
        page.requests.clear()
        return page

    return open_it
