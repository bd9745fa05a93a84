"""A file: believed by its stat while it is at rest, else compared by content, and read once for all who ask."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import socket
import stat
import time

import msgspec

from memgang import readers
from memgang.errors import MemGangError, ReadError
from memgang.model import Call, Original, Unreadable, Usage, current_work
from memgang.readers import Fingerprint
from memgang.readers.bodies import too_large
from memgang.reads import keeping
from memgang.space import Space

VERSION = "1"


class Seen(msgspec.Struct, frozen=True):
    """What is kept with an answer: the file as it was, and where its content lies."""

    file: Fingerprint
    body: str


async def read(space: Space, path: str, bytes_max: int, follow: bool) -> Original:
    """See `Reads.read_file`."""
    real = await asyncio.to_thread(_real, path) if follow else path
    validator = b""

    async def compute() -> Original | Unreadable:
        nonlocal validator
        try:
            body, taken = await asyncio.to_thread(_taken, real, bytes_max)
        except ReadError as error:
            validator = b""  # shared with those who wait for it now, and never used again
            return Unreadable(source=real, reason=error.reason, code=error.code, asker=asker(bytes_max))
        kind = mimetypes.guess_type(real)[0] or ""
        # By its content, not by its name: `.ts` is a film to some and a program to others.
        text = _is_text(body)
        ref = await keeping.put(space, body, "text/plain" if text else kind, "utf-8" if text else "")
        if (work := current_work.get()) is not None:
            work.own = work.own + Usage(bytes=len(body))
        validator = msgspec.json.encode(Seen(taken, str(ref)))
        return Original(source=real, ref=ref, media_type=kind or ("text/plain" if text else ""), size=len(body),
                        charset="utf-8" if text else "")

    async def check(kept: bytes) -> bool:
        try:
            seen = msgspec.json.decode(kept, type=Seen)
        except msgspec.DecodeError:
            return False
        look = await asyncio.to_thread(readers.looked, real, seen.file)
        # The same content under another stat, and at rest: one of all reads it once more and records that, so that nobody
        # need compare it again.
        return look in ("at rest", "same") and await keeping.there(space, seen.body)

    while True:
        recalled = await space.recall(Call("read", "memgang.reads:file", VERSION, {"source": real}), compute, kind="original",
                                      check=check, validate=lambda: validator)
        found = await recalled.value()
        if not isinstance(found, Unreadable) or found.asker == asker(bytes_max):
            break  # else it is somebody else who may not read it, or wants less of it
    if isinstance(found, Unreadable):
        raise ReadError(path, found.reason, found.code)
    if not isinstance(found, Original):
        raise MemGangError(f"the memory of {path} is not a file: {type(found).__name__}")
    if found.size > bytes_max:
        raise too_large(path, bytes_max, found.size)
    return found


def asker(bytes_max: int) -> str:
    """What it depends on that a file cannot be read: another machine has others, another user may read others."""
    return f"{socket.gethostname()} {os.geteuid()} {bytes_max}"


def _real(path: str) -> str:
    if not path or "\0" in path:
        raise ReadError(path[:200], "that is no path")
    return os.path.realpath(os.path.expanduser(path))


def _taken(path: str, bytes_max: int) -> tuple[bytes, Fingerprint]:
    """The content of a file whose real path this is, and its fingerprint from before it was read.

    Raises:
        ReadError: it is not there, no file, too large, or its path leads elsewhere by now.
    """
    taken_ns = time.time_ns()
    try:
        # Whoever may write there could put a link in its place since it was judged; then it is not opened, or not kept. And
        # a pipe would hold us up for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISDIR(found.st_mode):
                raise ReadError(path, "it is a folder")
            if not stat.S_ISREG(found.st_mode) or os.path.realpath(path) != path:
                raise ReadError(path, "it is not a regular file, or not the one it was a moment ago")
            if found.st_size > bytes_max:
                raise too_large(path, bytes_max, found.st_size)
            body = file.read(bytes_max + 1)  # it may have grown since
    except IsADirectoryError:
        raise ReadError(path, "it is a folder") from None
    except OSError as error:
        raise ReadError(path, (error.strerror or str(error)).lower()) from error
    if len(body) > bytes_max:
        raise too_large(path, bytes_max)
    return body, readers.of_content(found, body, taken_ns)


def _is_text(body: bytes) -> bool:
    if b"\0" in body or body.startswith(b"%PDF"):
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
