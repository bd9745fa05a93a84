"""Digests and references: 160 bits of BLAKE3 as 32 characters."""

from __future__ import annotations

from blake3 import blake3

from memgang.model import REF_PREFIX, Ref

_DIGEST_BYTES = 20  # 160 bits: exactly the 32 characters of an id, without padding
_JOINED_BYTES = 4096  # up to here it is sooner copied behind its head than handed over by itself
_THREADS_FROM_BYTES = 1 << 20  # below this, starting threads costs more than it gives

# Base32 ten bits at a time: the standard library's goes by five, in Python too, and each call needs three digests.
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [a + b for a in _LETTERS for b in _LETTERS]
_DIGITS = bytes.maketrans(_LETTERS.encode(), b"0123456789abcdefghijklmnopqrstuv")  # as `int` reads base 32
_SHIFTS = range(_DIGEST_BYTES * 8 - 10, -1, -10)


def _spelled(digest: bytes) -> str:
    number = int.from_bytes(digest, "big")
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


def digest(data: bytes, key: bytes | None = None) -> str:
    """The first 160 bits of BLAKE3 as 32 characters of lower-case base32; keyed if a key (32 bytes) is given."""
    hasher = blake3(data) if key is None else blake3(data, key=key)
    return _spelled(hasher.digest(_DIGEST_BYTES))


def ref_of(media_type: str, body: bytes | memoryview, head: bytes = b"") -> Ref:
    """The reference of this content. Media type and length are part of it, so text ``1`` is not JSON ``1``.

    ``head`` stands before the body, and is content like it.
    """
    # Made by us, so the pattern check of Ref() would only cost time.
    return str.__new__(Ref, REF_PREFIX + _spelled(_hashed(media_type, body, head)))


def is_of(ref: Ref, media_type: str, body: bytes | memoryview) -> bool:
    """Whether this is the reference of this content. Sooner than to spell its reference and compare."""
    return int(ref[len(REF_PREFIX):].encode().translate(_DIGITS), 32) == int.from_bytes(_hashed(media_type, body), "big")


def _hashed(media_type: str, body: bytes | memoryview, head: bytes = b"") -> bytes:
    size = len(head) + (body.nbytes if isinstance(body, memoryview) else len(body))
    first = b"mg1\0%b\0%d\0%b" % (media_type.encode("utf-8"), size, head)
    if size <= _JOINED_BYTES:
        return blake3(b"".join((first, body))).digest(_DIGEST_BYTES)
    hasher = blake3(first, max_threads=blake3.AUTO if size >= _THREADS_FROM_BYTES else 1)
    hasher.update(body)
    return hasher.digest(_DIGEST_BYTES)


class Hashing:
    """The reference of content that comes in pieces, of which the size is known."""

    def __init__(self, media_type: str, size: int) -> None:
        self._hasher = blake3(b"mg1\0%b\0%d\0" % (media_type.encode("utf-8"), size))

    def add(self, piece: bytes | bytearray | memoryview) -> None:
        """The next piece. Others run meanwhile: the lock of the interpreter is not held."""
        self._hasher.update(piece)

    def ref(self) -> Ref:
        """Of all that came."""
        return str.__new__(Ref, REF_PREFIX + _spelled(self._hasher.digest(_DIGEST_BYTES)))
