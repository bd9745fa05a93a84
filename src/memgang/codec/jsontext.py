"""JSON with sorted keys, and back: into plain values, or into what the caller wants."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import msgspec

from memgang.codec.classes import is_pydantic, shown
from memgang.codec.plain import is_plain, lowered
from memgang.codec.text import utf8
from memgang.errors import CodecError
from memgang.model import Ref

_encode_json = msgspec.json.Encoder(order="sorted").encode


def json_bytes(value: Any) -> bytes:
    """A JSON-like value, or one of the classes we know, as JSON with sorted keys; the path is named if it is not.

    Raises:
        CodecError: something in it has no JSON form.
    """
    try:
        if not is_plain(value):
            value = lowered(value, "value")
        return _encode_json(value)
    except RecursionError:
        raise CodecError("the value is nested too deeply, or contains itself") from None
    except UnicodeEncodeError:
        _find_surrogate(value, "value")
        raise CodecError("a key or text in the value holds half of a surrogate pair") from None


def _find_surrogate(value: Any, path: str) -> None:
    for where, item in _walk(value, path):
        if isinstance(item, str):
            utf8(item, where)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {path}", key
            yield from _walk(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _walk(item, f"{path}[{place}]")


def decode_json(media_type: str, body: bytes | memoryview, wanted: Any) -> Any:
    """The value behind JSON, as the type that is wanted, if one is.

    Raises:
        CodecError: the bytes are no JSON, or none of this type.
    """
    try:
        if wanted is None or wanted is Any:
            return msgspec.json.decode(body)
        return _decoder(wanted).decode(body)
    except RecursionError:
        raise CodecError(f"{media_type}: nested too deeply") from None
    except Exception as error:  # msgspec's own, or whatever a class of the user raised on its fields
        what = media_type if wanted is None else f"{shown(wanted)} ({media_type})"
        raise CodecError(f"the bytes are not {what}: {error}") from error


def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    try:
        return _kept_decoder(wanted)
    except TypeError:  # not hashable, or not a type at all: then this says so again
        return msgspec.json.Decoder(wanted, dec_hook=outside)


@functools.lru_cache(maxsize=256)
def _kept_decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted, dec_hook=outside)


def outside(wanted: Any, found: Any) -> Any:
    """Types msgspec does not know: references, pydantic models, and `object`, which is anything."""
    if wanted is object:
        return found
    if isinstance(wanted, type) and issubclass(wanted, Ref):
        return wanted(found)
    if is_pydantic(wanted):
        # As JSON, because strict models accept a date as text only there.
        return wanted.model_validate_json(_encode_json(found))
    raise CodecError(f"cannot read a {shown(wanted)} from JSON")
