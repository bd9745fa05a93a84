"""Histories from files: traces of other caches, and logs of spaces that were exported. The only file of this room that reads.

- **lines**: one key a line, as the LIRS traces have it (a line ``*`` parts phases and is passed over);
- **ints**: 32-bit big-endian integers without anything between, as cache2k's traces have it;
- **events**: what `memgang log export FILE.jsonl` wrote.

Packed with gzip or xz or not at all. Keys of the first two have one byte and one second each.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import struct
import zlib
from pathlib import Path
from typing import Literal

import msgspec

from memgang.errors import ReadError
from memgang.eviction.history import History, Step, from_events
from memgang.model import Event

Format = Literal["lines", "ints", "events"]
FORMATS: tuple[Format, ...] = ("lines", "ints", "events")
BYTES_MAX = 1 << 28  # of a trace, unpacked

_TEXT = frozenset(b"\t\n\r") | frozenset(range(32, 127))


def read(path: Path, form: Format | None = None) -> History:
    """The history in a file; without ``form`` it is told from the content.

    Raises:
        ReadError: it is no trace, damaged, empty or too long. OSError: it cannot be opened.
    """
    packed = path.read_bytes()
    try:
        body = _unpacked(packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ReadError(str(path), f"it is packed and damaged ({error})") from error
    if len(body) > BYTES_MAX:
        raise ReadError(str(path), f"it is longer than {BYTES_MAX:,} bytes unpacked")
    if not body.strip():
        raise ReadError(str(path), "it holds no request")
    match form or _form(body):
        case "events":
            return _events(path, body)
        case "lines":
            keys = _lines(path, body)
        case "ints":
            keys = _ints(path, body)
    ids = {key: _id(key) for key in set(keys)}
    return History(path.name, [Step("ask", ids[key]) for key in keys])


def _unpacked(body: bytes) -> bytes:
    """The content, or a little more of it than is allowed."""
    if body[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=io.BytesIO(body)).read(BYTES_MAX + 1)
    if body[:6] == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(io.BytesIO(body)).read(BYTES_MAX + 1)
    return body


def _form(body: bytes) -> Format:
    if body[:1] == b"{":
        return "events"
    return "lines" if _TEXT.issuperset(body[:4096]) else "ints"


def _id(key: str) -> str:
    """A key as an id looks: made from it, so that its order among others says nothing."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def _lines(path: Path, body: bytes) -> list[str]:
    try:
        keys = [line.strip() for line in body.decode("ascii").splitlines()]
    except UnicodeDecodeError as error:
        raise ReadError(str(path), f"byte {error.start:,} is no ASCII text, and a trace of lines has one key a line") from error
    for number, key in enumerate(keys, 1):
        if " " in key or "\t" in key:
            raise ReadError(str(path), f"line {number:,} has {len(key.split())} words, and a trace of lines has one key a line")
    keys = [key for key in keys if key and key != "*"]
    if not keys:
        raise ReadError(str(path), "it holds no request")
    return keys


def _ints(path: Path, body: bytes) -> list[str]:
    if len(body) % 4:
        raise ReadError(str(path), f"its {len(body):,} bytes are neither text nor whole 32-bit integers")
    return [str(key) for (key,) in struct.iter_unpack(">i", body)]


def _events(path: Path, body: bytes) -> History:
    decoder = msgspec.json.Decoder(Event)
    events = []
    for number, line in enumerate(body.splitlines(), 1):
        try:
            events.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ReadError(str(path), f"line {number:,} is no event of an exported log ({error})") from error
    return from_events(events, path.name)
