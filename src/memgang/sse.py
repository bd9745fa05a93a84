"""Server-sent events as the bytes they came in: where one ends, and what it says.

An event is kept with its comments, its names and the blank line that ends it, so that a replay is what was sent.
"""

from __future__ import annotations

import re
from typing import Any

from memgang.canonical import read_json

# A blank line ends an event. Lines end with any of three marks, and nowhere else: not at U+2028 and its like.
_END = re.compile(rb"(?:\r\n\r\n|\n\n|\r\r)")
DONE = b"[DONE]"


class Frames:
    """Cuts a stream of bytes into events, however it comes in blocks."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, block: bytes) -> list[bytes]:
        """The events that are whole now, each with its end."""
        self._rest += block
        found, start = list[bytes](), 0
        for end in _END.finditer(self._rest):
            found.append(self._rest[start:end.end()])
            start = end.end()
        self._rest = self._rest[start:]
        return found

    @property
    def rest(self) -> bytes:
        """What has come of an event that has not ended."""
        return self._rest


def data(event: bytes) -> bytes | None:
    """The data of an event; None where it has none, as a comment."""
    line = event.rstrip(b"\r\n")
    if line.startswith(b"data:") and b"\n" not in line and b"\r" not in line:  # as nearly all are
        return line[5:].removeprefix(b" ")
    lines = [line[5:].removeprefix(b" ") for line in re.split(rb"\r\n|\n|\r", event) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def read(event: bytes) -> dict[str, Any] | None:
    """The object an event brings; None for a comment and for the end marker.

    Raises:
        CodecError: it brings something else.
    """
    text = data(event)
    return None if text is None or text.strip() == DONE else brought(text)


def brought(text: bytes) -> dict[str, Any]:
    """The object that is the data of an event, empty for any other value.

    Raises:
        CodecError: it is no JSON.
    """
    value = read_json(text)
    return value if isinstance(value, dict) else {}


def written(value: bytes, name: str = "") -> bytes:
    """An event with this data."""
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + value + b"\n\n"
