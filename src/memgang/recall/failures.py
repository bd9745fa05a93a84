"""What went wrong, by class: who may be told, and whether trying again can help.

    permanent   the call itself is wrong: told to all who ask, for the negative time to live
    transient   it may pass: tried again after a pause, as often as is tried at all; the last error goes to all
    caller      the caller's own (key, rights, quota, memory): told to the caller and to nobody else
"""

from __future__ import annotations

import random
import re
from typing import Any, Literal

import msgspec

from memgang.errors import CodecError, ConfigError, ModelError, StoreFull, StoreUnavailable, TooLarge, WorkFailed

Class = Literal["permanent", "transient", "caller"]

BACKOFF_MS = 200  # before the second attempt; twice as long before each further one
ERROR_BYTES_MAX = 1_000
_SECRET = re.compile(r"(?i)\b(sk-[A-Za-z0-9_-]{6,}|bearer\s+\S+|(?:api[_-]?key|token|password)\s*[=:]\s*\S+)")

# Errors of this process alone. Who shares a flight with one of them asks again: its own key or room may be good.
OF_THE_CALLER = (ModelError, StoreFull, TooLarge, CodecError, ConfigError, MemoryError)


def classified(error: Exception) -> tuple[Class, str]:
    """The class of an error and its code."""
    if isinstance(error, ModelError):
        kind = error.kind if error.kind in ("permanent", "transient", "caller") else "permanent"
        return kind, error.code  # type: ignore[return-value]  # narrowed by the line above
    code = type(error).__name__
    if isinstance(error, WorkFailed):
        return ("transient" if error.kind == "transient" else "permanent"), error.code
    if isinstance(error, MemoryError | StoreFull | TooLarge | CodecError | ConfigError):
        return "caller", code
    if isinstance(error, TimeoutError | ConnectionError | InterruptedError | StoreUnavailable):
        return "transient", code
    return "permanent", code


def pause_ms(error: Exception, attempt: int) -> int:
    """How long to wait after this attempt (from 1): at least what the other side asked for (Retry-After)."""
    asked = error.retry_after_s * 1000 if isinstance(error, ModelError) else 0.0
    backoff: float = BACKOFF_MS * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)  # spreads, hides nothing
    return round(max(asked, backoff))


def redacted(text: str) -> str:
    """An error's text without what looks like a secret, at most 1 KB."""
    return _SECRET.sub("[redacted]", text)[:ERROR_BYTES_MAX]


def told(error: Exception, attempt: int, writer: str) -> bytes:
    """An error as it is kept in a flight: class, code and redacted text; never a traceback, never an object."""
    kind, code = classified(error)
    return msgspec.json.encode(
        {"class": kind, "code": code, "message": redacted(str(error)), "attempt": attempt, "writer": writer})


def work_failed(function: str, error: Exception, attempt: int) -> WorkFailed:
    """The error of the work as its caller gets it; raise it ``from`` the error itself."""
    kind, code = classified(error)
    return WorkFailed(function, "permanent" if kind == "permanent" else "transient", code, redacted(str(error)), attempt)


def retold(function: str, stored: bytes) -> WorkFailed:
    """The error a flight has kept, as those get it who did not do the work."""
    try:
        words = msgspec.json.decode(stored or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        words = {}
    return WorkFailed(function, str(words.get("class", "transient")), str(words.get("code", "unknown")),
                      str(words.get("message", "")), int(words.get("attempt", 1)))
