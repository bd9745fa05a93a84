"""What makes two calls the same: the canonical form of a call, its key, and its outline.

Two calls are the same if their canonical forms are the same bytes, and only then. Where in doubt, forms differ:
a share that is missed costs one computation, a share that is wrong gives an agent somebody else's answer. So
``1``, ``1.0`` and ``true`` stay apart, ``-0.0`` and ``0.0`` stay apart (they divide differently), and a parameter
left out is not the same as its default written out (the default belongs to the provider, and may change).
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import pathlib
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from memgang.codec import BYTES, TEXT, check_int, class_name, digest, encode, is_plain, is_record, numpy_scalar, ref_of
from memgang.credentials import are_headers, is_credential, may_have_some
from memgang.errors import CodecError
from memgang.model import Call, Ref

# Goes into every key: a change of the form never answers for the old one.
FORM_VERSION = 1

# Longer texts are named by what is in them; shorter ones stay readable in outlines.
SHORT_CHARACTERS = 40

# Of an `llm` call. They say how an answer travels, who asks and who pays, never what the answer is. Those
# of other kinds stay: a tool may well have a parameter called `user`.
LEFT_OUT = frozenset({
    "stream", "stream_options", "user", "metadata",
    "api_key", "authorization", "headers", "extra_headers", "default_headers",
})

_json = msgspec.json.Encoder(order="sorted").encode


# ── the form and the key ───────────────────────────────────────────────────────────────────────


def canonical(call: Call, space: str) -> bytes:
    """The call as the bytes that are equal for equal calls: JSON with sorted keys.

    ``call.arguments`` are JSON-like; make them of Python values with `argument`.

    Raises:
        CodecError: something in it has no JSON form (NaN, bytes, an object); the place is named.
    """
    parameters = call.parameters
    if call.kind == "llm" and not LEFT_OUT.isdisjoint(parameters):
        parameters = {name: value for name, value in parameters.items() if name not in LEFT_OUT}
    if not parameters and call.messages is None and call.tools is None and is_plain(call.arguments):
        # Of most calls only the arguments are new, and of all names theirs is the first: the rest is written once.
        try:
            return b'{"arguments":%b,%b' % (_json(call.arguments), _rest(
                space, call.scope, call.kind, call.function, call.version, call.model, call.system, call.sample))
        except (UnicodeEncodeError, RecursionError, TypeError):
            pass  # what is wrong with it is told below
    form = {
        "form": FORM_VERSION, "space": space, "scope": call.scope, "kind": call.kind, "function": call.function,
        "version": call.version, "model": call.model, "system": call.system, "messages": call.messages,
        "tools": call.tools, "parameters": parameters, "arguments": call.arguments, "sample": call.sample,
    }
    try:
        return _json(form if is_plain(form) else {name: _plain(value, name) for name, value in form.items()})
    except UnicodeEncodeError as error:
        where = error.object[:SHORT_CHARACTERS]
        raise CodecError(f"the call holds half of a surrogate pair, which no UTF-8 has: {where!r}") from None
    except RecursionError:
        raise CodecError("the call is nested too deeply, or contains itself") from None


@functools.lru_cache(maxsize=1024, typed=True)
def _rest(
    space: str, scope: str, kind: str, function: str, version: str, model: str, system: str, sample: int
) -> bytes:
    """The form of a call behind its arguments, where it has no messages, tools or parameters."""
    form = {
        "form": FORM_VERSION, "space": space, "scope": scope, "kind": kind, "function": function, "version": version,
        "model": model, "system": system, "messages": None, "tools": None, "parameters": {}, "sample": sample,
    }
    if not is_plain(form):
        raise TypeError("to be told what is wrong with it")
    return _json(form)[1:]


def call_key(canonical: bytes, secret: bytes) -> str:
    """The key of a call: 32 characters, keyed with the secret of the space (32 bytes), so nobody confirms a guess."""
    return digest(canonical, secret)


def read_json(body: bytes | str) -> Any:
    """JSON from outside, read strictly: what two readers could understand differently is refused.

    Raises:
        CodecError: it is not JSON, or holds a key twice, NaN, or a number too large for a float.
    """
    try:
        return _strict.decode(body if isinstance(body, str) else body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError:
        raise CodecError("the JSON is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and integers with thousands of digits
        raise CodecError(f"this is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CodecError(f"the JSON has the key {twice[:SHORT_CHARACTERS]!r} twice in one object")
    return found


def _refuse_number(text: str) -> Any:
    raise CodecError(f"the JSON holds {text}, which is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text[:SHORT_CHARACTERS])


# Once: `json.loads` makes a new one for each text.
_strict = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_finite)


def _plain(value: Any, path: str) -> Any:
    """The value in exact JSON types; references are marked as `argument` marks them."""
    if is_plain(value):
        return value
    if isinstance(value, Ref):
        return {"$ref": str.__str__(value)}
    if isinstance(value, dict):
        _check_keys(value, path)
        return {str.__str__(key): _plain(item, f"{path}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, str):
        return str.__str__(value)
    return _number(value, path)


def _check_keys(value: dict[Any, Any], path: str) -> None:
    for key in value:
        if not isinstance(key, str):
            raise CodecError(f"{path} has the key {key!r} of type {type(key).__name__}: use text, {str(key)!r}")
    if len({str.__str__(key) for key in value}) != len(value):
        raise CodecError(f"{path} has two keys that are the same text")


def _number(value: Any, path: str) -> Any:
    """None, a bool or a number, of an exact JSON type."""
    if is_plain(value):
        return value
    if (scalar := numpy_scalar(value)) is not None:
        value = scalar
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        check_int(value, path)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CodecError(f"{path} is {float(value)!r}, which is not equal to itself or has no end: use None")
        return float(value)
    if isinstance(value, str):
        return str(value)
    raise CodecError(
        f"{path} has the type {type(value).__module__}.{type(value).__qualname__}, which cannot be part of a call: "
        "pass text, numbers, lists, dicts, a dataclass, an array or table, or put it and pass the reference"
    )


# ── arguments ──────────────────────────────────────────────────────────────────────────────────

# Values with one text that says all about them.
_WRITTEN = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
            decimal.Decimal, uuid.UUID, pathlib.PurePath)


def argument(value: Any) -> Any:
    """One argument of a call in canonical form.

    References, and texts over 40 characters, bytes, arrays and tables, become ``{"$ref": id}``: a value and a
    reference to it are the same argument. Records become their type and fields. In dicts, keys that begin with
    ``$`` get another one, so that no data can pass for a reference.

    Raises:
        CodecError: something in it cannot be part of a call; the path is named.
    """
    try:
        return _argument(value, "argument")
    except RecursionError:
        raise CodecError("the argument is nested too deeply, or contains itself") from None


def _argument(value: Any, path: str) -> Any:
    kind = type(value)
    if kind is str:
        if len(value) <= SHORT_CHARACTERS:
            return value
        return {"$ref": str.__str__(ref_of(TEXT, _content(value, path)))}
    if value is None or kind is bool:
        return value
    if kind is int or kind is float:
        return _number(value, path)
    if kind is Ref:
        return {"$ref": str.__str__(value)}
    if isinstance(value, enum.Enum):
        return {"$type": class_name(kind), "text": value.name or str(value.value)}
    if isinstance(value, dict):
        _check_keys(value, path)
        return {
            "$" + key if key.startswith("$") else str.__str__(key): _argument(item, f"{path}[{key!r}]")
            for key, item in value.items()
        }
    if is_record(value):
        fields = {name: _argument(item, f"{path}.{name}") for name, item in record_fields(value)}
        return {"$type": class_name(kind), "fields": fields}
    if isinstance(value, list | tuple):
        return [_argument(item, f"{path}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, str):
        return _argument(str.__str__(value), path)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$ref": str.__str__(ref_of(BYTES, bytes(value)))}
    if isinstance(value, set | frozenset):
        items = sorted((_argument(item, f"an item of {path}") for item in value), key=_json)
        return {"$type": class_name(kind), "items": items}
    if isinstance(value, _WRITTEN):
        return {"$type": class_name(kind), "text": repr(value) if kind is datetime.timedelta else str(value)}
    if kind.__module__ != "builtins" and numpy_scalar(value) is None and _is_frame(value):
        return {"$ref": str.__str__(ref_of(*encode(value)))}
    return _number(value, path)


def record_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of the fields of a dataclass, Struct or pydantic model; fields not set are left out."""
    names: Iterable[str]
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = [*type(value).model_fields, *(value.model_extra or ())]
    for name in names:
        found = getattr(value, name, msgspec.UNSET)
        if found is not msgspec.UNSET:
            yield name, found


def _content(text: str, path: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise CodecError(f"{path} holds half of a surrogate pair, which no UTF-8 has") from None


def _is_frame(value: Any) -> bool:
    # Anything a user's NumPy, PyArrow, pandas or polars made; `encode` decides, and says no with its reason.
    return any(base.__module__.partition(".")[0] in ("numpy", "pyarrow", "pandas", "polars")
               for base in type(value).__mro__)


# ── outlines: why did this miss? ───────────────────────────────────────────────────────────────

# Shown in this order, because a difference in an early part explains the later ones.
_PARTS = ("kind", "function", "version", "scope", "model", "system", "tools", "messages", "arguments", "parameters",
          "sample")
# Tried in turn until an outline is short enough: (items kept of a list or dict, depth).
_CUTS = ((64, 12), (16, 8), (8, 6), (4, 5), (2, 4), (1, 3), (0, 1))
_SHOWN_CHARACTERS = 80


def outline(canonical: bytes, secret: bytes, limit: int = 700) -> str:
    """The call in at most ``limit`` bytes of JSON, without its content: to see later in what two calls differ.

    Each text over 40 characters is its keyed hash and length; what does not fit is a count and a keyed hash. What is named
    like a credential, and the values of headers, are keyed hashes at any depth, however short.
    """
    if len(canonical) <= limit and b"\\" not in canonical and (short_of := _outlined_text(canonical, secret)) is not None:
        return short_of
    form = _said(msgspec.json.decode(canonical))
    for items, depth in _CUTS:
        short = _json({name: _outlined(value, secret, items, depth) for name, value in form.items()})
        if len(short) <= limit:
            return short.decode("utf-8")
    return _json({"call": _hashed(canonical, secret)}).decode("utf-8")


def _said(form: Any) -> Any:
    """The parts of a call in which something is said; of a short outline, which holds them all, too."""
    if not isinstance(form, dict):
        return form
    return {name: value for name, value in form.items()
            if name in _PARTS and value not in (None, "", {}, []) and (name, value) != ("sample", 0)}


def _outlined_text(canonical: bytes, secret: bytes) -> str | None:
    """The outline of a short call without taking it apart: every second piece between quotes is a text.

    Most calls are short, and every computed one has its outline in the log. None: a number is too long to show, or
    there may be credentials.
    """
    if may_have_some(canonical):
        return None
    pieces = canonical.split(b'"')
    if max(map(len, pieces)) <= SHORT_CHARACTERS:
        return canonical.decode("utf-8")
    for place in range(1, len(pieces), 2):
        if len(pieces[place]) > SHORT_CHARACTERS:
            text = pieces[place].decode("utf-8")
            if len(text) > SHORT_CHARACTERS:
                pieces[place] = f"{_hashed(pieces[place], secret)} {len(text)} characters".encode()
    if any(len(piece) > SHORT_CHARACTERS for piece in pieces[::2]):
        return None
    return b'"'.join(pieces).decode("utf-8")


def _outlined(value: Any, secret: bytes, items: int, depth: int) -> Any:
    if isinstance(value, str):
        if len(value) <= SHORT_CHARACTERS:
            return value
        return f"{_hashed(value.encode('utf-8'), secret)} {len(value)} characters"
    if isinstance(value, int) and abs(value) >= 10**SHORT_CHARACTERS:
        return f"{_hashed(_json(value), secret)} a long number"
    if not isinstance(value, dict | list):
        return value
    if depth == 0 or (items == 0 and value):
        return f"{_hashed(_json(value), secret)} {len(value)} {'keys' if isinstance(value, dict) else 'items'}"
    if isinstance(value, list):
        kept = [_outlined(item, secret, items, depth - 1) for item in value[:items]]
        if len(value) > items:
            kept.append(f"{_hashed(_json(value[items:]), secret)} {len(value) - items} more")
        return kept
    names = sorted(value)
    shown = {_outlined(name, secret, items, 1): _hidden(value[name], secret) if is_credential(name)
             else _headers(value[name], secret, items) if are_headers(name) else _outlined(value[name], secret, items, depth - 1)
             for name in names[:items]}
    if len(names) > items:
        rest = {name: value[name] for name in names[items:]}
        shown["~"] = f"{_hashed(_json(rest), secret)} {len(rest)} more"
    return shown


def _headers(value: Any, secret: bytes, items: int) -> Any:
    """Which there are can be told, as far as there is room; of a list not even that."""
    if not isinstance(value, dict) or len(value) > items:
        return _hidden(value, secret)
    return {_outlined(name, secret, items, 1): _hidden(item, secret) for name, item in sorted(value.items())}


def _hidden(value: Any, secret: bytes) -> Any:
    return value if value is None or isinstance(value, bool) else f"{_hashed(_json(value), secret)} hidden"


def _hashed(data: bytes, secret: bytes) -> str:
    return "~" + digest(data, secret)[:12]


def difference(mine: str, other: str) -> tuple[str, str, str] | None:
    """The first place where two outlines differ, and what each has there, shortened; None if they are equal.

    The place reads like ``messages[2].content``; what only one of them has is ``absent`` in the other.
    """
    a, b = dict(_leaves(_parsed(mine))), dict(_leaves(_parsed(other)))
    if a == b:
        return None
    places = [*a, *(place for place in b if place not in a)]
    ranked = {name: rank for rank, name in enumerate(_PARTS)}
    places.sort(key=lambda place: ranked.get(re.split(r"[.\[]", place, maxsplit=1)[0], len(ranked)))
    place = next(place for place in places if a.get(place) != b.get(place))
    return place, _shown(a.get(place)), _shown(b.get(place))


def likeness(mine: str, other: str) -> float:
    """How much two outlines have in common, from 0 (nothing) to 1 (all): to find the nearest of many."""
    a, b = set(_leaves(_parsed(mine))), set(_leaves(_parsed(other)))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _parsed(text: str) -> Any:
    try:
        form = msgspec.json.decode(text)
        return _said(form) if isinstance(form, dict) and "kind" in form else form
    except (msgspec.DecodeError, RecursionError):
        return {"outline": text}  # cut off or damaged in the log: compared as it is


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, bytes]]:
    """Each place and what stands there, as JSON: Python would call 1, 1.0 and True equal."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{place}.{name}" if place else name)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _leaves(item, f"{place}[{number}]")
    else:
        yield place, _json(value)


def _shown(leaf: bytes | None) -> str:
    if leaf is None:
        return "absent"
    text = leaf.decode("utf-8")
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
