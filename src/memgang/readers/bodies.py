"""Bodies of answers, read and unpacked piece by piece, and never further than a limit.

httpx unpacks each piece of the wire whole: 64 KiB of gzip may become 64 MiB, and packed twice 64 GiB. Here what comes
out is bounded while it comes out, and only what was asked for (`ACCEPT`) is unpacked at all.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from memgang.errors import ReadError

if TYPE_CHECKING:
    import httpx

ACCEPT = "gzip, deflate"
RATIO_MAX = 100  # of what comes out to what came in, once there is so much of it:
RATIO_FROM_BYTES = 1024 * 1024


async def body_of(answer: httpx.Response, url: str, bytes_max: int, *, cut: bool = False) -> bytes:
    """The whole body, unpacked; with ``cut`` of a larger one its beginning.

    From the wire at most one piece (64 KiB) beyond the limit is taken.

    Raises:
        ReadError: it is larger than ``bytes_max``, packed as nobody asked for, a bomb, or cut short.
    """
    said = answer.headers.get("content-length", "")
    if said.isdigit() and int(said) > bytes_max and not cut:
        raise too_large(url, bytes_max, int(said))
    packed = answer.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ReadError(url, f"it is packed in a way that was not asked for ({packed[:40]})", "packing")
    unpack = _Unpacking(packed, url, bytes_max, cut=cut) if packed not in ("", "identity") else None
    pieces: list[bytes] = []
    arrived = size = 0
    async for raw in answer.aiter_raw():
        arrived += len(raw)
        piece = unpack.piece(raw, bytes_max - size) if unpack is not None else raw
        size += len(piece)
        if size > bytes_max or arrived > bytes_max:
            if cut:
                return b"".join([*pieces, piece])[:bytes_max]
            raise too_large(url, bytes_max)
        if size > RATIO_FROM_BYTES and size > arrived * RATIO_MAX:
            raise ReadError(url, f"{arrived:,} bytes unpack to more than {RATIO_MAX} times as many", "packing")
        pieces.append(piece)
    if unpack is not None and arrived and not unpack.whole:
        raise ReadError(url, f"it was cut short after {arrived:,} bytes", "unreachable")
    return b"".join(pieces)


def too_large(source: str, limit: int, size: int = 0) -> ReadError:
    """The error for what is over a limit of bytes; ``size`` where it is known."""
    return ReadError(source, f"it has {size:,} bytes; the limit is {limit:,}" if size else f"it is larger than {limit:,} bytes", "large")


class _Unpacking:
    """One body on its way out of gzip or deflate."""

    def __init__(self, packed: str, url: str, bytes_max: int, *, cut: bool = False) -> None:
        self._gzip, self._url, self._bytes_max, self._cut = packed != "deflate", url, bytes_max, cut
        self._inflate: Any = zlib.decompressobj(31 if self._gzip else 15)
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether the end of the packed stream was seen."""
        return bool(self._inflate.eof)

    def piece(self, raw: bytes, room: int) -> bytes:
        """What comes out of these bytes; one more than there is room for, where it is cut.

        Raises:
            ReadError: it is more than there is room for, or no packed stream.
        """
        out = b""
        while raw:
            if self._inflate.eof:
                if not self._gzip:
                    break  # what follows the end is nothing
                self._inflate = zlib.decompressobj(31)  # a file may be several streams, one behind the other
            try:
                out += self._inflate.decompress(raw, room + 1 - len(out))
            except zlib.error as error:
                if self._gzip or self._begun:
                    raise ReadError(self._url, f"its packing is damaged: {error}", "packing") from None
                self._inflate = zlib.decompressobj(-15)  # many servers leave out the head of deflate
                self._begun = True
                continue
            self._begun = True
            if len(out) > room:
                if self._cut:
                    return bytes(out)
                raise too_large(self._url, self._bytes_max)
            raw = self._inflate.unused_data or self._inflate.unconsumed_tail
        return out
