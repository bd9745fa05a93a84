"""The HTTP connections of a door: uvicorn's, with limits that it has not. Who sends too much or too slowly is sent away.

    head     a request's first line and headers: so many bytes and fields, within so many seconds of its first byte
    body     is there within so many seconds, answered or not: what an answered request goes on sending ends the connection
    answer   is taken: who has not read anything for so many seconds is not written to any more

What is no HTTP, or might be read as two requests by one server and as one by another, ends the connection with a 400;
that is the parser's business (llhttp), and trailers are refused on top, since they would come in behind all checks.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from memgang.doors.guarding import Patience

_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


class _Refused(Exception):  # raised through the parser, which makes an error of its own of it
    """The head is not to be read on."""


class Guarded(HttpToolsProtocol):
    """One connection. A door's own class says how much ``patience`` it has (`guarding.guarded`)."""

    patience: Patience

    def connection_made(self, transport: Any) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._size = self._fields = 0  # of the head under way
        self._fed = 0  # bytes since it began: a field without an end is in no size yet
        self._headed = False  # a request is under way, and its head is whole
        self._status, self._ended = 400, False
        super().connection_made(transport)
        self._wait(self.patience.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:  # it has been told; what it goes on sending is not parsed
            self._fed += len(data)
            if self._fed > self.patience.linger_bytes:
                self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if not self._headed:
            if self._timer is None:
                self._wait(self.patience.head_s)
            if self._fed > self.patience.head_bytes:
                self._refuse(431)
                return
            self._fed += len(data)
        super().data_received(data)

    # ── what the parser finds ─────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._size = self._fields = 0
        self._headed = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headed:
            raise _Refused("trailers")
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        # Another host than the Host that is checked; and a body that is read as what comes behind the change of protocol.
        if not self.url.startswith(b"/") and self.url != b"*" or self.parser.should_upgrade() and _has_body(self.headers):
            raise _Refused("ambiguous")
        self._headed, self._fed = True, 0
        self._wait(self.patience.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._headed = False
        self._wait(None)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._wait(None)  # from here on it is another protocol's connection
        super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # It has its answer and still sends its body: another request could only come behind what nobody wants to read.
        # Where the head of the next has begun to come, nothing is in its way.
        if self._headed and self.cycle.response_complete:
            self._end()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self.patience.head_bytes or self._fields > self.patience.head_fields:
            self._status = 431
            raise _Refused("too much of a head")

    # ── sending away ──────────────────────────────────────────────────────────────────────

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._status)

    def _refuse(self, status: int) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            kind = "invalid_request_error"
            body = json.dumps({"error": {"message": _REASONS[status], "type": kind, "param": None, "code": f"http_{status}"}}).encode()
            self.transport.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n".encode() + body)
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True  # or it would answer once more
                self.cycle.message_event.set()
            self._end()
        else:
            self.transport.close()

    def _end(self) -> None:
        """No more is said or heard."""
        self._ended, self._fed = True, 0
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._wait(self.patience.linger_s)

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._late) if seconds is not None else None

    def _late(self) -> None:
        self._timer = None
        if self._ended:
            self.transport.abort()
        elif self.pipeline:  # it is we who do not read on
            self._wait(self.patience.body_s)
        elif self._fed and not self._headed:
            self._refuse(408)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        # Not closed: that would wait for the peer to take what is written, and it takes nothing.
        self._stalled = self.loop.call_later(self.patience.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or name == b"content-length" and value.strip(b" 0") for name, value in headers)
