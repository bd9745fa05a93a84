"""Values as bytes, and bytes as values: every value has one media type and, for one value, one body.

====================================================  =============================================
value                                                 media type
====================================================  =============================================
str                                                   ``text/plain;charset=utf-8``
bytes, bytearray, memoryview                          ``application/octet-stream``
None, bool, int, float, list, tuple, dict (str keys)  ``application/json``, keys sorted
dataclass, ``msgspec.Struct``, pydantic model         ``application/json;type="module:Class"``
a list of one such class                              ``application/json;items="module:Class"``
NumPy array                                           ``application/x-npy``, C order, no objects
Arrow table, record batch; pandas, polars DataFrame   ``application/vnd.apache.arrow.stream``
====================================================  =============================================

What does not come back as it went in: a tuple comes back as a list, a NumPy scalar as a number, a bytearray
as bytes, a DataFrame as an Arrow table (``.to_pandas()``, ``polars.from_arrow``). A class comes back as itself
only where its module is loaded already; names in data never import anything, and nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from memgang.errors import CodecError, ConfigError
from memgang.model import REF_PREFIX, Ref

TEXT = "text/plain;charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"
NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"

MEDIA_TYPE_CHARACTERS_MAX = 255
TTL_DAYS_MAX = 3650
INT_BITS_MAX = 4096  # Python itself stops reading integers at 4,300 digits (14,284 bits)
_INT_MAX = (1 << INT_BITS_MAX) - 1

_DIGEST_BYTES = 20  # 160 bits: exactly the 32 characters of an id, without padding
_THREADS_FROM_BYTES = 1 << 20  # below this, starting threads costs more than it gives

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = re.compile(rf';\s*({_WORD})=(?:({_WORD})|"([^"\\\x00-\x1f\x7f]*)")')
_MEDIA_TYPE = re.compile(rf"({_WORD}/{_WORD})((?:{_PARAMETER.pattern})*)\Z")


class Encoded(NamedTuple):
    """A value as it is stored: what the bytes are, and the bytes."""

    media_type: str
    body: bytes


# ── digests ────────────────────────────────────────────────────────────────────────────────────


# Base32 ten bits at a time: the standard library's goes by five, in Python too, and each call needs three digests.
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [a + b for a in _LETTERS for b in _LETTERS]
_SHIFTS = range(_DIGEST_BYTES * 8 - 10, -1, -10)


def _spelled(digest: bytes) -> str:
    number = int.from_bytes(digest, "big")
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


def digest(data: bytes, key: bytes | None = None) -> str:
    """The first 160 bits of BLAKE3 as 32 characters of lower-case base32; keyed if a key (32 bytes) is given."""
    hasher = blake3(data) if key is None else blake3(data, key=key)
    return _spelled(hasher.digest(_DIGEST_BYTES))


def ref_of(media_type: str, body: bytes | memoryview) -> Ref:
    """The reference of this content. Media type and length are part of it, so text ``1`` is not JSON ``1``."""
    size = body.nbytes if isinstance(body, memoryview) else len(body)
    head = b"mg1\0%b\0%d\0" % (media_type.encode("utf-8"), size)
    hasher = blake3(head, max_threads=blake3.AUTO if size >= _THREADS_FROM_BYTES else 1)
    hasher.update(body)
    # Made by us, so the pattern check of Ref() would only cost time.
    return str.__new__(Ref, REF_PREFIX + _spelled(hasher.digest(_DIGEST_BYTES)))


# ── times to live ──────────────────────────────────────────────────────────────────────────────

_TTL = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)?\s*\Z", re.ASCII)
_UNIT_S = {None: 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_ttl(ttl: str | float | None) -> int:
    """A time to live in milliseconds: ``90`` or ``1.5`` (seconds), ``"90s"``, ``"15m"``, ``"1h"``, ``"7d"``, ``"2w"``.

    None is 0: for ever. A time shorter than a millisecond is one millisecond, never 0.

    Raises:
        ConfigError: it has another form, is not greater than 0, or is longer than ten years.
    """
    if ttl is None:
        return 0
    seconds = math.nan
    if isinstance(ttl, str):
        if match := _TTL.match(ttl):
            seconds = float(match[1]) * _UNIT_S[match[2]]
    elif isinstance(ttl, int | float) and not isinstance(ttl, bool):
        try:
            seconds = float(ttl)
        except OverflowError:
            seconds = math.inf
    if math.isnan(seconds):
        raise ConfigError(f"ttl={ttl!r} is not a time: use seconds (90) or a number with s, m, h, d or w (7d)")
    if seconds <= 0:
        raise ConfigError(f"ttl={ttl!r} must be greater than 0; leave it out (None) to keep a value for ever")
    if seconds > TTL_DAYS_MAX * 86_400:
        raise ConfigError(f"ttl={ttl!r} is longer than ten years; leave it out (None) to keep a value for ever")
    return max(1, round(seconds * 1_000))


# ── encode ─────────────────────────────────────────────────────────────────────────────────────

_encode_json = msgspec.json.Encoder(order="sorted").encode


def encode(value: Any, media_type: str | None = None) -> Encoded:
    """The media type and the bytes of a value. The same value always gives the same bytes.

    ``media_type`` says more exactly what text or bytes are (``text/markdown``, ``image/png``), or what kind of
    JSON a value is (``application/geo+json``). It is not checked against bytes.

    Raises:
        CodecError: there is no media type for the value, or the one given does not fit it; says what to do.
    """
    kind = type(value)
    if kind is str and media_type is None:
        return Encoded(TEXT, _utf8(value, "value"))
    if isinstance(value, bytes | bytearray | memoryview):
        check_media_type(media_type or BYTES)
        return Encoded(media_type or BYTES, bytes(value))
    if isinstance(value, str) and not _is_json(media_type):
        return _encode_text(str.__str__(value), media_type)
    if (found := _encode_frame(value)) is not None:
        if media_type is not None and media_type != found.media_type:
            raise CodecError(f"a {_name(kind)} is stored as {found.media_type}, not as {media_type}")
        return found
    if media_type is not None and not _is_json(media_type):
        raise CodecError(f"a {_name(kind)} cannot be stored as {media_type}: encode it yourself and put the bytes")
    return Encoded(media_type or _json_type(value), json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A JSON-like value, or one of the classes we know, as JSON with sorted keys; the path is named if it is not.

    Raises:
        CodecError: something in it has no JSON form.
    """
    try:
        if not is_plain(value):
            value = _lowered(value, "value")
        return _encode_json(value)
    except RecursionError:
        raise CodecError("the value is nested too deeply, or contains itself") from None
    except UnicodeEncodeError:
        _find_surrogate(value, "value")
        raise CodecError("a key or text in the value holds half of a surrogate pair") from None


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


def is_record(value: Any) -> bool:
    """Whether the value is an instance of a dataclass, a Struct or a pydantic model."""
    return not isinstance(value, type) and _is_record_class(type(value))


def class_name(kind: type) -> str:
    """``module:Class``, as media types name a class."""
    # A worker process that was spawned knows the main module as __mp_main__; it is the same class.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def check_media_type(media_type: str) -> None:
    """Raise CodecError unless this is ``type/subtype``, with parameters behind it or none."""
    _parse(media_type)


def _encode_text(text: str, media_type: str | None) -> Encoded:
    if media_type is not None:
        essence, parameters = _parse(media_type)
        if essence == BYTES or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
            raise CodecError(f"text is stored as UTF-8, not as {media_type}: encode it yourself and put the bytes")
    return Encoded(media_type or TEXT, _utf8(text, "value"))


def _utf8(text: str, path: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CodecError(
            f"{path} holds half of a surrogate pair at character {error.start}, which no UTF-8 has: "
            "repair the text (text.encode('utf-8', 'replace')), or put bytes"
        ) from None


def _json_type(value: Any) -> str:
    if is_record(value):
        return _with_class("type", type(value))  # type: ignore[arg-type]  # classes hash
    if type(value) is list and value and is_record(value[0]):
        kind = type(value[0])
        if all(type(item) is kind for item in value):
            return _with_class("items", kind)  # type: ignore[arg-type]
    return JSON


@functools.lru_cache(maxsize=1024)
def _with_class(parameter: str, kind: type) -> str:
    media_type = f'{JSON};{parameter}="{class_name(kind)}"'
    # A name that does not fit a media type only loses the way back to the class, not the value.
    return media_type if len(media_type) <= MEDIA_TYPE_CHARACTERS_MAX and _MEDIA_TYPE.match(media_type) else JSON


def _is_record_class(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    return issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or _is_pydantic(kind)


def _is_pydantic(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _lowered(value: Any, path: str) -> Any:
    """The value in plain JSON types, or CodecError with the path of what has none."""
    kind = type(value)
    if kind is list or kind is tuple or (isinstance(value, tuple) and not is_record(value)):
        return [_lowered(item, f"{path}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise CodecError(
                    f"{path} has the key {key!r} of type {_name(type(key))}: JSON keys are text, use {str(key)!r}")
        lowered = {str.__str__(key): _lowered(item, f"{path}[{key!r}]") for key, item in value.items()}
        if len(lowered) != len(value):
            raise CodecError(f"{path} has two keys that are the same text")
        return lowered
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
        return _lowered(_fields(value, path), path)
    scalar = numpy_scalar(value)
    if scalar is not None:
        return _lowered(scalar, path)
    raise CodecError(f"{path} has the type {_name(kind)}: {_advice(value)}")


def _fields(value: Any, path: str) -> Any:
    """A record as a dict of builtins; dates, decimals, enums, sets and bytes inside as their types read them back."""
    try:
        if _is_pydantic(type(value)):
            return value.model_dump(mode="json", by_alias=True, round_trip=True)
        return msgspec.to_builtins(value, order="sorted", str_keys=True, enc_hook=_inside)
    except CodecError:
        raise
    except RecursionError:
        raise CodecError(f"{path} is nested too deeply, or contains itself") from None
    except Exception as error:
        raise CodecError(f"{path} ({_name(type(value))}) has no JSON form: {error}") from error


def _inside(value: Any) -> Any:
    """What msgspec does not know inside a record."""
    if _is_pydantic(type(value)):
        return _fields(value, _name(type(value)))
    if isinstance(value, str):
        return str.__str__(value)
    if (scalar := numpy_scalar(value)) is not None:
        return scalar
    raise CodecError(f"a field has the type {_name(type(value))}: {_advice(value)}")


def numpy_scalar(value: Any) -> bool | int | float | str | None:
    """The Python value of a NumPy scalar that has one, else None."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.bool_ | numpy.integer | numpy.floating | numpy.str_):
        found = value.item()
        # A long double has no Python twin and gives itself back.
        return found if isinstance(found, bool | int | float | str) else None
    return None


def _advice(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes have no place in JSON; put them on their own and pass the reference"
    if isinstance(value, set | frozenset):
        return "a set has no order; use sorted(...)"
    if callable(value):
        return "code is not a memory; put what it returns"
    if (encoded := _frame_kind(value)) is not None:
        return f"put it on its own (it is stored as {encoded}) and pass the reference"
    return ("use str, bytes, JSON-like values, a dataclass, msgspec.Struct, pydantic model, NumPy array or Arrow "
            "table, or encode it yourself and put the bytes with a media_type")


def _find_surrogate(value: Any, path: str) -> None:
    for where, item in _walk(value, path):
        if isinstance(item, str):
            _utf8(item, where)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {path}", key
            yield from _walk(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _walk(item, f"{path}[{place}]")


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# ── arrays and tables: only if the user's own imports brought them ─────────────────────────────


def _frame_kind(value: Any) -> str | None:
    """``NPY`` or ``ARROW`` if the value is an array or a table, without importing anything."""
    for module, names, media_type in (
        ("numpy", ("ndarray",), NPY),
        ("pyarrow", ("Table", "RecordBatch"), ARROW),
        ("pandas", ("DataFrame",), ARROW),
        ("polars", ("DataFrame",), ARROW),
    ):
        loaded = sys.modules.get(module)
        if loaded is not None and any(isinstance(value, getattr(loaded, name, ())) for name in names):
            return media_type
    return None


def _encode_frame(value: Any) -> Encoded | None:
    if type(value).__module__ == "builtins":
        return None
    match _frame_kind(value):
        case "application/x-npy":
            return _encode_array(value)
        case None:
            return None
        case _:
            return _encode_table(value)


def _encode_array(array: Any) -> Encoded:
    import numpy

    if type(array) not in (numpy.ndarray, numpy.memmap):
        raise CodecError(f"a {_name(type(array))} would lose what makes it more than an array: "
                         "put numpy.asarray(value), and a mask on its own")
    if array.dtype.hasobject:
        raise CodecError(f"an array of dtype {array.dtype} holds Python objects, which are never pickled: "
                         "give it a dtype, or put .tolist()")
    out = io.BytesIO()
    # C order, so that equal arrays are equal bytes whatever way they were made.
    numpy.lib.format.write_array(out, numpy.asarray(array, order="C"), allow_pickle=False)
    return Encoded(NPY, out.getvalue())


def _encode_table(value: Any) -> Encoded:
    pyarrow = _pyarrow(f"a {_name(type(value))}")
    try:
        if isinstance(value, pyarrow.RecordBatch):
            table = pyarrow.Table.from_batches([value])
        elif isinstance(value, pyarrow.Table):
            table = value
        elif type(value).__module__.partition(".")[0] == "polars":
            table = value.to_arrow()
        else:
            table = pyarrow.Table.from_pandas(value)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            # One chunk, so that how a table was put together does not show in its bytes.
            stream.write_table(table.combine_chunks())
        return Encoded(ARROW, sink.getvalue().to_pybytes())
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise CodecError(f"a {_name(type(value))} that Arrow cannot hold: {error}") from error


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.ipc  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise CodecError(f"{what} needs PyArrow: pip install pyarrow") from None
    return pyarrow


# ── decode ─────────────────────────────────────────────────────────────────────────────────────


def decode(media_type: str, body: bytes | memoryview, type: Any = None) -> Any:
    """The value behind the bytes, made afresh at each call; arrays and tables are read-only views on ``body``.

    ``type`` is what the caller wants (``Note``, ``list[Note]``, ``Ref``, ``dict[str, int]``). Without it a class
    named by the media type is used if its module is loaded already; else its fields come as a dict.

    Raises:
        CodecError: the bytes are not what the media type says, the value is not of the ``type`` asked for,
            or a library that reads it is missing.
    """
    essence, parameters = _parse(media_type)
    if essence == NPY:
        value = _decode_array(body)
    elif essence == ARROW:
        value = _decode_table(body)
    elif _is_json(media_type):
        return _decode_json(media_type, body, _loaded_class(parameters) if type is None else type)
    elif essence.startswith("text/"):
        charset = parameters.get("charset", "utf-8")
        try:
            value = str(body, charset)
        except (UnicodeDecodeError, LookupError) as error:
            raise CodecError(f"the bytes are not {media_type}: {error}") from error
    else:
        value = bytes(body)
    if type is None or type is Any:
        return value
    if essence in (NPY, ARROW):
        if isinstance(type, _TYPE) and not isinstance(value, type):
            raise CodecError(f"{media_type} is a {_name(value.__class__)}, not {_type_name(type)}")
        return value
    try:
        if isinstance(value, bytes) and type in (bytearray, memoryview):
            return type(value)
        if isinstance(value, bytes):  # msgspec would read bytes for str as base64; bytes are only ever bytes
            if type is not bytes:
                raise CodecError(f"{media_type} is bytes, not {_type_name(type)}")
            return value
        return msgspec.convert(value, type, dec_hook=_outside)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"{media_type} is not {_type_name(type)}: {error}") from error


_TYPE = type  # the parameter of decode() hides it


def _decode_json(media_type: str, body: bytes | memoryview, wanted: Any) -> Any:
    try:
        if wanted is None or wanted is Any:
            return msgspec.json.decode(body)
        return _decoder(wanted).decode(body)
    except RecursionError:
        raise CodecError(f"{media_type}: nested too deeply") from None
    except Exception as error:  # msgspec's own, or whatever a class of the user raised on its fields
        what = media_type if wanted is None else f"{_type_name(wanted)} ({media_type})"
        raise CodecError(f"the bytes are not {what}: {error}") from error


def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    try:
        return _kept_decoder(wanted)
    except TypeError:  # not hashable, or not a type at all: then this says so again
        return msgspec.json.Decoder(wanted, dec_hook=_outside)


@functools.lru_cache(maxsize=256)
def _kept_decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted, dec_hook=_outside)


def _outside(wanted: Any, found: Any) -> Any:
    """Types msgspec does not know: references, pydantic models, and `object`, which is anything."""
    if wanted is object:
        return found
    if isinstance(wanted, type) and issubclass(wanted, Ref):
        return wanted(found)
    if _is_pydantic(wanted):
        # As JSON, because strict models accept a date as text only there.
        return wanted.model_validate_json(_encode_json(found))
    raise CodecError(f"cannot read a {_type_name(wanted)} from JSON")


def _loaded_class(parameters: dict[str, str]) -> Any:
    """The class a media type names, if it is loaded already and is what it says it is. Never imports."""
    for parameter in ("type", "items"):
        module, colon, path = parameters.get(parameter, "").partition(":")
        if not colon:
            continue
        for name in (module, "__mp_main__") if module == "__main__" else (module,):
            found: Any = sys.modules.get(name)
            for part in path.split("."):
                # Only what is there: getattr could run a module's __getattr__, which may import.
                found = getattr(found, "__dict__", {}).get(part)
            if _is_record_class(found) and class_name(found) == f"{module}:{path}":
                return found if parameter == "type" else list[found]
    return None


def _decode_array(body: bytes | memoryview) -> Any:
    try:
        import numpy
    except ImportError:
        raise CodecError(f"{NPY} needs NumPy: pip install numpy") from None
    # The header is short; the numbers behind it are never copied.
    head = io.BytesIO(bytes(body[:65_536]))
    try:
        version = numpy.lib.format.read_magic(head)
        if version == (1, 0):
            shape, fortran, dtype = numpy.lib.format.read_array_header_1_0(head)
        elif version == (2, 0):
            shape, fortran, dtype = numpy.lib.format.read_array_header_2_0(head)
        else:  # 3.0: field names beyond Latin-1, which NumPy reads only as a whole
            array = numpy.lib.format.read_array(io.BytesIO(bytes(body)), allow_pickle=False)
            array.flags.writeable = False
            return array
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never unpickled")
        count = math.prod(shape)
        if len(body) - head.tell() != count * dtype.itemsize:
            raise ValueError(f"{len(body) - head.tell():,} bytes of data for shape {shape} of {dtype}")
        # NumPy refuses a view of nothing, so nothing is made anew.
        array = (numpy.frombuffer(body, dtype, count, head.tell()) if count * dtype.itemsize
                 else numpy.empty(count, dtype)).reshape(shape, order="F" if fortran else "C")
    except Exception as error:
        raise CodecError(f"the bytes are not {NPY}: {error}") from error
    array.flags.writeable = False
    return array


def _decode_table(body: bytes | memoryview) -> Any:
    pyarrow = _pyarrow(ARROW)
    try:
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(body)) as stream:
            table = stream.read_all()
        table.validate()
        return table
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise CodecError(f"the bytes are not {ARROW}: {error}") from error


# ── media types ────────────────────────────────────────────────────────────────────────────────


@functools.lru_cache(maxsize=1024)
def _parse(media_type: str) -> tuple[str, dict[str, str]]:
    """``type/subtype`` in lower case, and the parameters."""
    match = _MEDIA_TYPE.match(media_type) if len(media_type) <= MEDIA_TYPE_CHARACTERS_MAX else None
    if match is None:
        raise CodecError(f"{media_type[:80]!r} is not a media type: type/subtype, up to "
                         f"{MEDIA_TYPE_CHARACTERS_MAX} characters, as in {TEXT}")
    parameters = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PARAMETER.finditer(match[2])}
    return match[1].lower(), parameters


def _is_json(media_type: str | None) -> bool:
    if media_type is None:
        return False
    essence = _parse(media_type)[0]
    return essence == JSON or essence.endswith("+json")


def _type_name(kind: Any) -> str:
    return _name(kind) if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
