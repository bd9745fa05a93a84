"""Text: UTF-8, as it is."""

from __future__ import annotations

from memgang.codec.mediatypes import BYTES, TEXT, Encoded, parse
from memgang.errors import CodecError


def encode_text(text: str, media_type: str | None) -> Encoded:
    """Text as the bytes of a media type that text may have.

    Raises:
        CodecError: the media type is of bytes or of another charset, or UTF-8 does not have the text.
    """
    if media_type is not None:
        essence, parameters = parse(media_type)
        if essence == BYTES or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
            raise CodecError(f"text is stored as UTF-8, not as {media_type}: encode it yourself and put the bytes")
    return Encoded(media_type or TEXT, utf8(text, "value"))


def decode_text(media_type: str, body: bytes | memoryview, charset: str) -> str:
    """The text behind the bytes.

    Raises:
        CodecError: they are not of this charset, or nobody knows it.
    """
    try:
        return str(body, charset)
    except (UnicodeDecodeError, LookupError) as error:
        raise CodecError(f"the bytes are not {media_type}: {error}") from error


def utf8(text: str, path: str) -> bytes:
    """Text as UTF-8, or CodecError with the path of what has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CodecError(
            f"{path} holds half of a surrogate pair at character {error.start}, which no UTF-8 has: "
            "repair the text (text.encode('utf-8', 'replace')), or put bytes"
        ) from None
