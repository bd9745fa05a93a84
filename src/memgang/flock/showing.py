"""One page, served on this machine until it is stopped: for `memgang replay`, without Streamlit."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from memgang.errors import ConfigError

HOST = "127.0.0.1"
STALLED_S = 10.0  # a browser that says nothing for so long is let go


class Showing:
    """Serves the page at ``url`` while the block lasts. Listens on the loopback address only.

    Raises:
        ConfigError: the port is taken.
    """

    def __init__(self, page: str, port: int = 0) -> None:
        body = page.encode("utf-8")

        class Handler(BaseHTTPRequestHandler):
            timeout = STALLED_S
            server_version, sys_version = "memgang", ""

            def do_GET(self) -> None:
                # A page elsewhere that has its own name lead here (DNS rebinding) is not shown what a run was.
                if self.headers.get("Host", "") not in allowed:
                    self.send_error(403, "this page is for 127.0.0.1 only")
                elif self.path.partition("?")[0] != "/":
                    self.send_error(404)
                else:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html; charset=utf-8")
                    self.send_header("Content-Length", str(len(body)))
                    self.send_header("Cache-Control", "no-store")
                    self.send_header("X-Content-Type-Options", "nosniff")
                    self.end_headers()
                    if self.command == "GET":
                        self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing: the command line is for the person."""

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except OSError as error:
            raise ConfigError(f"port {port} of {HOST} cannot be listened on ({error.strerror}); --port 0 takes a free one") from error
        port = self._server.server_address[1]
        allowed = {f"{name}:{port}" for name in (HOST, "localhost")}
        self.url = f"http://{HOST}:{port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="memgang-replay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while self._thread.is_alive():
                self._thread.join(1.0)
