"""What travels between a process and its workers: frames of bytes, and values in them.

A frame is four bytes of length, big end first, and msgpack. A value comes back as what it was: msgpack itself
knows no tuples, sets, references or records, so each of these is an extension with its parts inside. Whoever
decodes decides which classes a name may stand for; nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from memgang.errors import CodecError
from memgang.model import Ref

HEAD_BYTES = 4
FRAME_BYTES_MAX = (1 << 32) - 1
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1

_TUPLE, _SET, _FROZENSET, _REF, _RECORD, _ENUM, _INT, _DICT, _CODEC, _COMPLEX = range(1, 11)
_PLAIN = frozenset({str, bytes, bool, float, type(None)})

_encode = msgspec.msgpack.Encoder().encode


def framed(message: bytes) -> bytes:
    """The message with its length in front.

    Raises:
        CodecError: it is longer than four bytes can say.
    """
    if len(message) > FRAME_BYTES_MAX:
        raise CodecError(f"a message of {len(message):,} bytes to a worker; the limit is {FRAME_BYTES_MAX:,}")
    return len(message).to_bytes(HEAD_BYTES, "big") + message


def unframed(buffer: bytearray) -> bytes | None:
    """The first whole message, taken off the buffer; None if there is none yet."""
    if len(buffer) < HEAD_BYTES:
        return None
    end = HEAD_BYTES + int.from_bytes(buffer[:HEAD_BYTES], "big")
    if len(buffer) < end:
        return None
    message = bytes(memoryview(buffer)[HEAD_BYTES:end])
    del buffer[:end]
    return message


def pack(value: Any) -> bytes:
    """A value as bytes, to be made the same value again by `unpack`.

    Raises:
        CodecError: something in it has no form outside this process.
    """
    try:
        return _encode(_lowered(value))
    except RecursionError:
        raise CodecError("the value is nested too deeply, or contains itself") from None
    except (UnicodeEncodeError, OverflowError, ValueError) as error:
        raise CodecError(f"the value cannot be sent: {error}") from error


def unpack(data: bytes, find: Callable[[str], Any]) -> Any:
    """The value behind the bytes; ``find`` gives the class that ``module:Class`` stands for, or raises CodecError."""
    def raised(code: int, body: memoryview) -> Any:
        match code:
            case 1 | 2 | 3:
                return (tuple, set, frozenset)[code - 1](decode(body))
            case 4:
                return Ref(str(body, "ascii"))
            case 5:
                name, fields = decode(body)
                return _made(find(name), fields)
            case 6:
                name, member = decode(body)
                return find(name)[member]
            case 7:
                return int(str(body, "ascii"), 16)
            case 8:
                return dict(decode(body))
            case 9:
                return _decoded(*decode(body))
            case 10:
                return complex(*decode(body))
        raise CodecError(f"a frame holds the extension {code}, which this version does not know")

    decode = msgspec.msgpack.Decoder(ext_hook=raised).decode
    try:
        return decode(data)
    except (msgspec.DecodeError, TypeError, ValueError, KeyError) as error:
        raise CodecError(f"a frame cannot be read: {error}") from error


def loaded_class(name: str) -> Any:
    """The class of a name whose module is loaded here already. Names from a worker never import anything."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for step in path.split("."):
        found = getattr(found, step, None)
    if not isinstance(found, type):
        raise CodecError(f"{name} is no class of this process")
    return found


def class_name(kind: type) -> str:
    """``module:Class``. Classes made inside functions have no name that another process could find them by."""
    if "<locals>" in kind.__qualname__:
        raise CodecError(f"{kind.__qualname__} was defined inside a function, so no other process can find it")
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def _lowered(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if _INT_MIN <= value <= _INT_MAX else _ext(_INT, b"%x" % value)
    if kind is list:
        return [item if type(item) in _PLAIN else _lowered(item) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: item if type(item) in _PLAIN else _lowered(item) for key, item in value.items()}
        return _ext(_DICT, _encode([[_lowered(key), _lowered(item)] for key, item in value.items()]))
    if kind is tuple or kind is set or kind is frozenset:
        code = _TUPLE if kind is tuple else _SET if kind is set else _FROZENSET
        return _ext(code, _encode([_lowered(item) for item in value]))
    if kind is Ref:
        return _ext(_REF, value.encode("ascii"))
    if isinstance(value, enum.Enum):
        return _ext(_ENUM, _encode([class_name(kind), value.name]))
    if isinstance(value, msgspec.Struct):
        fields = {name: _lowered(getattr(value, name)) for name in kind.__struct_fields__}
        return _ext(_RECORD, _encode([class_name(kind), fields]))
    if dataclasses.is_dataclass(value):
        fields = {field.name: _lowered(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return _ext(_RECORD, _encode([class_name(kind), fields]))
    if kind is complex:
        return _ext(_COMPLEX, _encode([value.real, value.imag]))
    if kind.__module__.partition(".")[0] in ("numpy", "pyarrow") and kind.__name__ in ("ndarray", "Table"):
        from memgang import codec  # imported here: a worker that never sees an array does without

        stored = codec.encode(value)
        return _ext(_CODEC, _encode([stored.media_type, stored.whole]))
    raise CodecError(f"a {kind.__module__}.{kind.__qualname__} cannot be sent to another process")


def _ext(code: int, body: bytes) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, body)


def _made(kind: Any, fields: dict[str, Any]) -> Any:
    if issubclass(kind, msgspec.Struct):
        return kind(**fields)
    if not dataclasses.is_dataclass(kind):
        raise CodecError(f"{kind.__qualname__} is no record")
    known = {field.name: field.init for field in dataclasses.fields(kind)}
    make: Any = kind
    made = make(**{name: value for name, value in fields.items() if known.get(name)})
    for name, init in known.items():
        if not init:
            object.__setattr__(made, name, fields[name])
    return made


def _decoded(media_type: str, body: bytes) -> Any:
    from memgang import codec

    return codec.decode(media_type, body)
