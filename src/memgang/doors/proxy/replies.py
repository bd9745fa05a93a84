"""What goes back to a caller: answers with their headers, and errors in the form the clients know."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from memgang import sse
from memgang.answers.answer import encoded
from memgang.doors.proxy.upstream import Refusal

JSON = "application/json"
STREAM = "text/event-stream; charset=utf-8"

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
          413: "invalid_request_error", 429: "rate_limit_error"}
_QUOTA = "insufficient_quota"  # is its own type and code


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its body whole, or piece by piece. A body in pieces has begun, so that closing it gives back what it holds."""

    status: int
    body: bytes | AsyncGenerator[bytes, None]
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def error_body(status: int, code: str, message: str) -> bytes:
    """An error as OpenAI's clients read it."""
    kind = code if code == _QUOTA else _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return encoded({"error": {"message": message, "type": kind, "param": None, "code": code}})


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error of ours."""
    return Reply(status, error_body(status, code, message), headers=headers)


def passed_on(refusal: Refusal, **headers: str) -> Reply:
    """An error of the upstream, as it was said."""
    return Reply(refusal.status, refusal.body, refusal.content_type,
                 headers | ({"retry-after": refusal.retry_after} if refusal.retry_after else {}))


def error_event(route: str, code: str, message: str, number: int) -> bytes:
    """An error in a stream that has begun: no end marker follows it."""
    if route == "responses":
        # The documented fields, and those by which the official client knows that it must raise.
        said = {"code": code, "message": message, "param": None}
        fields = {"type": "error", **said, "sequence_number": number, "error": {"type": "server_error", **said}}
        return sse.written(encoded(fields), "error")
    return sse.written(error_body(502, code, message))
