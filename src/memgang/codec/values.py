"""Encode and decode: which family a value is of, and which a media type."""

from __future__ import annotations

from typing import Any

import msgspec

from memgang.codec.classes import json_type, loaded_class, shown
from memgang.codec.frames import decode_array, decode_table, encode_frame
from memgang.codec.jsontext import decode_json, json_bytes, outside
from memgang.codec.mediatypes import ARROW, BYTES, NPY, TEXT, Encoded, check_media_type, is_json, parse
from memgang.codec.text import decode_text, encode_text, utf8
from memgang.errors import CodecError


def encode(value: Any, media_type: str | None = None) -> Encoded:
    """The media type and the bytes of a value. The same value always gives the same bytes.

    ``media_type`` says more exactly what text or bytes are (``text/markdown``, ``image/png``), or what kind of
    JSON a value is (``application/geo+json``). It is not checked against bytes.

    Raises:
        CodecError: there is no media type for the value, or the one given does not fit it; says what to do.
    """
    kind = type(value)
    if kind is str and media_type is None:
        return Encoded(TEXT, utf8(value, "value"))
    if isinstance(value, bytes | bytearray | memoryview):
        check_media_type(media_type or BYTES)
        return Encoded(media_type or BYTES, bytes(value))
    if isinstance(value, str) and not is_json(media_type):
        return encode_text(str.__str__(value), media_type)
    if (found := encode_frame(value)) is not None:
        if media_type is not None and media_type != found.media_type:
            raise CodecError(f"a {shown(kind)} is stored as {found.media_type}, not as {media_type}")
        return found
    if media_type is not None and not is_json(media_type):
        raise CodecError(f"a {shown(kind)} cannot be stored as {media_type}: encode it yourself and put the bytes")
    return Encoded(media_type or json_type(value), json_bytes(value))


def decode(media_type: str, body: bytes | memoryview, type: Any = None) -> Any:
    """The value behind the bytes, made afresh at each call; arrays and tables are read-only views on ``body``.

    ``type`` is what the caller wants (``Note``, ``list[Note]``, ``Ref``, ``dict[str, int]``). Without it a class
    named by the media type is used if its module is loaded already; else its fields come as a dict.

    Raises:
        CodecError: the bytes are not what the media type says, the value is not of the ``type`` asked for,
            or a library that reads it is missing.
    """
    if media_type == TEXT and (type is None or type is str):
        return decode_text(TEXT, body, "utf-8")
    essence, parameters = parse(media_type)
    if essence == NPY:
        value = decode_array(body)
    elif essence == ARROW:
        value = decode_table(body)
    elif is_json(media_type):
        return decode_json(media_type, body, loaded_class(parameters) if type is None else type)
    elif essence.startswith("text/"):
        value = decode_text(media_type, body, parameters.get("charset", "utf-8"))
    elif type is memoryview:
        return memoryview(body).toreadonly()  # not copied: of a large body, a view of what the host has
    else:
        value = bytes(body)
    if type is None or type is Any:
        return value
    if essence in (NPY, ARROW):
        if isinstance(type, _TYPE) and not isinstance(value, type):
            raise CodecError(f"{media_type} is a {shown(value.__class__)}, not {shown(type)}")
        return value
    try:
        if isinstance(value, bytes) and type is bytearray:
            return bytearray(value)
        if isinstance(value, bytes):  # msgspec would read bytes for str as base64; bytes are only ever bytes
            if type is not bytes:
                raise CodecError(f"{media_type} is bytes, not {shown(type)}")
            return value
        return msgspec.convert(value, type, dec_hook=outside)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"{media_type} is not {shown(type)}: {error}") from error


_TYPE = type  # the parameter of decode() hides it
