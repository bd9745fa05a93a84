"""Values in plain JSON types: what JSON holds as it is, what is translated, and what is refused, with its path."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from memgang.codec.classes import is_pydantic, is_record, shown
from memgang.codec.frames import frame_kind, numpy_scalar
from memgang.errors import CodecError

INT_BITS_MAX = 4096  # Python itself stops reading integers at 4,300 digits (14,284 bits)
_INT_MAX = (1 << INT_BITS_MAX) - 1


def is_plain(value: Any) -> bool:
    """Whether JSON holds the value exactly as it is, with nothing to translate and nothing to refuse."""
    # Exact types on purpose: a subclass (an enum, a Ref, a NumPy float) may mean more than its base says.
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_INT_MAX <= value <= _INT_MAX)
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) is not str and not is_plain(item)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) is str or is_plain(item) for item in value)
    return False


def check_int(value: int, path: str) -> None:
    """Raise CodecError if the number is longer than readers of JSON take."""
    if not -_INT_MAX <= value <= _INT_MAX:
        raise CodecError(f"{path} is a number of {value.bit_length():,} bits; the limit is {INT_BITS_MAX:,}: use text")


def lowered(value: Any, path: str) -> Any:
    """The value in plain JSON types, or CodecError with the path of what has none."""
    kind = type(value)
    if kind is list or kind is tuple or (isinstance(value, tuple) and not is_record(value)):
        return [lowered(item, f"{path}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise CodecError(
                    f"{path} has the key {key!r} of type {shown(type(key))}: JSON keys are text, use {str(key)!r}")
        plain = {str.__str__(key): lowered(item, f"{path}[{key!r}]") for key, item in value.items()}
        if len(plain) != len(value):
            raise CodecError(f"{path} has two keys that are the same text")
        return plain
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CodecError(f"{path} is {float(value)!r}, which JSON does not have: use None, or a NumPy array")
        return float(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        check_int(value, path)
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if is_record(value):
        return lowered(_fields(value, path), path)
    scalar = numpy_scalar(value)
    if scalar is not None:
        return lowered(scalar, path)
    raise CodecError(f"{path} has the type {shown(kind)}: {_advice(value)}")


def _fields(value: Any, path: str) -> Any:
    """A record as a dict of builtins; dates, decimals, enums, sets and bytes inside as their types read them back."""
    try:
        if is_pydantic(type(value)):
            return value.model_dump(mode="json", by_alias=True, round_trip=True)
        return msgspec.to_builtins(value, order="sorted", str_keys=True, enc_hook=_inside)
    except CodecError:
        raise
    except RecursionError:
        raise CodecError(f"{path} is nested too deeply, or contains itself") from None
    except Exception as error:
        raise CodecError(f"{path} ({shown(type(value))}) has no JSON form: {error}") from error


def _inside(value: Any) -> Any:
    """What msgspec does not know inside a record."""
    if is_pydantic(type(value)):
        return _fields(value, shown(type(value)))
    if isinstance(value, str):
        return str.__str__(value)
    if (scalar := numpy_scalar(value)) is not None:
        return scalar
    raise CodecError(f"a field has the type {shown(type(value))}: {_advice(value)}")


def _advice(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes have no place in JSON; put them on their own and pass the reference"
    if isinstance(value, set | frozenset):
        return "a set has no order; use sorted(...)"
    if callable(value):
        return "code is not a memory; put what it returns"
    if (encoded := frame_kind(value)) is not None:
        return f"put it on its own (it is stored as {encoded}) and pass the reference"
    return ("use str, bytes, JSON-like values, a dataclass, msgspec.Struct, pydantic model, NumPy array or Arrow "
            "table, or encode it yourself and put the bytes with a media_type")
