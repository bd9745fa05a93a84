"""What the server replies, as we read it: hashes, walks, and refusals as errors of our tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import NoPermissionError, OutOfMemoryError, RedisError

from memgang.errors import MemGangError, ServerUnfit, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from memgang.store.wire import Argument, Wire

T = TypeVar("T")

WALK = 1_000  # members a step of a walk looks at


def pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Names with their values: a hash, or the fields of an entry, as the server lists them."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def word(words: Sequence[bytes], name: bytes) -> bytes:
    """A field of an entry, or nothing. Of an entry of any form: those who verify look at what others have written."""
    return next((value for key, value in zip(words[::2], words[1::2], strict=False) if key == name), b"")


def written(words: Sequence[bytes]) -> int:
    """When an entry was written, in ms of the server's clock; 0 where it is not one of ours."""
    return number(word(words, b"at")) or 0


def number(text: bytes) -> int | None:
    """A count as the server keeps it. None: it is none, whoever wrote it."""
    # No longer than the server's own: Python refuses to read thousands of digits, and does so by an error.
    return int(text) if text.isdigit() and len(text) <= 19 else None


def shown(text: bytes) -> str:
    """What somebody else has written, short enough to be told."""
    return repr(text[:40].decode("utf-8", "replace")) + (f"... ({len(text):,} bytes)" if len(text) > 40 else "")


async def walked(wire: Wire, command: str, key: str, *more: Argument) -> AsyncIterator[tuple[bytes, bytes]]:
    """All pairs of a hash (HSCAN) or members of a sorted set with their scores (ZSCAN); some may come twice."""
    cursor: Any = b"0"
    while True:
        cursor, page = await carried(wire.call(command, key, cursor, *more, "COUNT", WALK), "read")
        for pair in pairs(page):
            yield pair
        if cursor == b"0":
            return


async def carried(work: Awaitable[T], what: str) -> T:
    """What comes of the work; a refusal of the server as an error of our tree."""
    try:
        return await work
    except RedisError as error:
        raise translated(error, what) from error


def translated(error: Exception, what: str) -> Exception:
    """A server's refusal as an error of our tree; anything else unchanged."""
    if isinstance(error, MemGangError):
        return error
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return StoreFull(what, 0, 0)
    if isinstance(error, NoPermissionError) or text.startswith("NOPERM"):
        return ServerUnfit(f"the server's user may not {what}: {text}")
    if "MISCONF" in text:
        return StoreUnavailable(f"the server cannot write to its disk and takes no writes: {text[:200]}")
    if isinstance(error, RedisError):
        return StoreUnavailable(f"cannot {what}: {text[:300]}")
    return error
