"""Media types: what the bytes of a value are, with parameters behind it."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from memgang.errors import CodecError

TEXT = "text/plain;charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"
NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"

MEDIA_TYPE_CHARACTERS_MAX = 255

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = re.compile(rf';\s*({_WORD})=(?:({_WORD})|"([^"\\\x00-\x1f\x7f]*)")')
_MEDIA_TYPE = re.compile(rf"({_WORD}/{_WORD})((?:{_PARAMETER.pattern})*)\Z")


class Encoded(NamedTuple):
    """A value as it is stored: what the bytes are, and the bytes: ``head``, and then ``body``.

    The body of an array is the array's own memory: a hundred megabytes are not copied only to be copied again. It
    must not change until it is stored.
    """

    media_type: str
    body: bytes | memoryview
    head: bytes = b""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.head) + len(self.body)  # a view of an array is one of bytes

    @property
    def whole(self) -> bytes:
        """All of them in one piece."""
        return self.body if isinstance(self.body, bytes) and not self.head else b"".join((self.head, self.body))


@functools.lru_cache(maxsize=1024)
def parse(media_type: str) -> tuple[str, dict[str, str]]:
    """``type/subtype`` in lower case, and the parameters.

    Raises:
        CodecError: it is not a media type.
    """
    match = _MEDIA_TYPE.match(media_type) if len(media_type) <= MEDIA_TYPE_CHARACTERS_MAX else None
    if match is None:
        raise CodecError(f"{media_type[:80]!r} is not a media type: type/subtype, up to "
                         f"{MEDIA_TYPE_CHARACTERS_MAX} characters, as in {TEXT}")
    parameters = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PARAMETER.finditer(match[2])}
    return match[1].lower(), parameters


def check_media_type(media_type: str) -> None:
    """Raise CodecError unless this is ``type/subtype``, with parameters behind it or none."""
    parse(media_type)


def is_media_type(text: str) -> bool:
    """Whether this is one."""
    return len(text) <= MEDIA_TYPE_CHARACTERS_MAX and _MEDIA_TYPE.match(text) is not None


def is_json(media_type: str | None) -> bool:
    """Whether it is JSON or one of its kinds (``application/geo+json``)."""
    if media_type is None:
        return False
    essence = parse(media_type)[0]
    return essence == JSON or essence.endswith("+json")
