"""A web server of a test's own, on a port of its own, that says what it was asked and waits where it is told to."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = b"<html><head><title>A page</title></head><body><p>The gang reads this page over the wire.</p></body></html>"


@dataclass
class Asked:
    """One request: its path and its headers, names in lower case."""

    path: str
    headers: dict[str, str]

    @property
    def conditional(self) -> bool:
        """Whether it asked only for what has changed."""
        return "if-none-match" in self.headers or "if-modified-since" in self.headers


@dataclass
class Origin:
    """Pages by path; each answers with status, headers and body, or is a function of the handler."""

    asked: list[Asked] = field(default_factory=list)
    pages: dict[str, Any] = field(default_factory=dict)
    most_at_once: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def page(self, path: str, body: bytes = PAGE, status: int = 200, **headers: str) -> str:
        """Serve this from now on; its URL. An ``ETag`` answers conditional requests with 304."""
        said = {"Content-Type": "text/html; charset=utf-8"} | {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, said, body)
        return self.address + path

    def does(self, path: str, answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        """Have a function answer; the URL."""
        self.pages[path] = answer
        return self.address + path

    @property
    def host(self) -> str:
        """Host and port, as `Manners` takes them."""
        return self.address.partition("://")[2]

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.path for asked in self.asked]


class Running:
    """A running origin; ``tls`` makes it one of https, under the name localhost."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.origin = origin = Origin()
        origin.gate.set()
        under_way: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                """Stay quiet."""

            def do_GET(self) -> None:
                """Answer by path."""
                origin.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
                under_way.append(1)
                origin.most_at_once = max(origin.most_at_once, len(under_way))
                try:
                    origin.gate.wait(60)
                    self.answer(origin.pages.get(self.path, (404, {}, b"no")))
                except OSError:
                    pass  # the reader has hung up, as it may
                finally:
                    under_way.pop()

            def answer(self, page: Any) -> None:
                """Send a page."""
                if callable(page):
                    page(self)
                    return
                status, headers, body = page
                if "ETag" in headers and self.headers.get("If-None-Match") == headers["ETag"]:
                    status, body = 304, b""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused certificate is no news
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        origin.address = f"https://localhost:{self._server.server_port}" if tls else f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Origin:
        self._thread.start()
        return self.origin

    def __exit__(self, *_: object) -> None:
        self.origin.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
