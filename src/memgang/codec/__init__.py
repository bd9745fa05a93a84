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

    mediatypes.py  what bytes are called
    ids.py         what content is called: digests and references
    classes.py     what classes are called
    frames.py      arrays and tables
    plain.py       values in plain JSON types
    text.py        text
    jsontext.py    JSON
    values.py      encode and decode: all of it together
    ttl.py         times to live
"""

from __future__ import annotations

from memgang.codec.classes import class_name, is_record
from memgang.codec.frames import numpy_scalar
from memgang.codec.ids import Hashing, digest, is_of, ref_of
from memgang.codec.jsontext import json_bytes
from memgang.codec.mediatypes import (
    ARROW,
    BYTES,
    JSON,
    MEDIA_TYPE_CHARACTERS_MAX,
    NPY,
    TEXT,
    Encoded,
    check_media_type,
)
from memgang.codec.plain import INT_BITS_MAX, check_int, is_plain
from memgang.codec.ttl import TTL, TTL_DAYS_MAX, parse_ttl
from memgang.codec.values import decode, encode

__all__ = [
    "ARROW", "BYTES", "INT_BITS_MAX", "JSON", "MEDIA_TYPE_CHARACTERS_MAX", "NPY", "TEXT", "TTL", "TTL_DAYS_MAX", "Encoded", "Hashing",
    "check_int", "check_media_type", "class_name", "decode", "digest", "encode", "is_of", "is_plain", "is_record", "json_bytes",
    "numpy_scalar", "parse_ttl", "ref_of",
]
