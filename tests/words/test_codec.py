"""Values come back as they went in, and whatever would not is refused with its place and what to do."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import os
import re
import subprocess
import sys
import types
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgang.codec import (
    ARROW,
    BYTES,
    JSON,
    NPY,
    TEXT,
    Encoded,
    check_media_type,
    decode,
    digest,
    encode,
    is_of,
    json_bytes,
    parse_ttl,
    ref_of,
)
from memgang.errors import CodecError, ConfigError
from memgang.model import Ref

REF = Ref("mg:" + "a" * 32)

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | finite | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


class Mood(enum.Enum):
    GOOD = "good"


@dataclasses.dataclass
class Inner:
    ref: Ref
    day: datetime.date = datetime.date(2026, 1, 2)


@dataclasses.dataclass
class Note:
    claim: str
    inner: Inner | None = None
    tags: set[str] = dataclasses.field(default_factory=set)
    mood: Mood = Mood.GOOD
    counts: dict[int, str] = dataclasses.field(default_factory=dict)
    picture: bytes = b""


Alias = Note


class Struct(msgspec.Struct, tag=True, rename="camel"):
    page_end: int
    where: Ref | None = None


def back(stored: Encoded, type: Any = None) -> Any:
    return decode(stored.media_type, stored.whole, type)


def there_and_back(value: Any, type: Any = None) -> Any:
    return back(encode(value), type)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down: Python calls 1 and True equal."""
    return json_bytes(a) == json_bytes(b) and repr(a) == repr(b)


# ── text, bytes, JSON ──


@given(texts)
@pytest.mark.catalogue("C5")
def test_text_comes_back_exactly(text: str) -> None:
    """Any Unicode text, with NUL, right-to-left marks or decomposed accents, is untouched."""
    assert there_and_back(text) == text


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 159))
def test_content_is_that_of_its_reference_and_of_no_other(body: bytes, other: bytes, bit: int) -> None:
    """Compared as a number: the same as comparing what is spelled, down to a single bit."""
    ref = ref_of(BYTES, body)
    assert is_of(ref, BYTES, body) and is_of(ref, BYTES, memoryview(body))
    assert is_of(ref, BYTES, other) == (body == other)
    assert not is_of(ref, TEXT, body)
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    place, flip = divmod(bit, 5)
    changed = letters[letters.index(ref.id[place]) ^ (1 << flip)]
    assert not is_of(Ref("mg:" + ref.id[:place] + changed + ref.id[place + 1:]), BYTES, body)


@given(st.binary())
def test_bytes_come_back_exactly_from_any_buffer(data: bytes) -> None:
    """bytes, bytearray and memoryview of the same content are one memory object."""
    assert encode(data) == encode(bytearray(data)) == encode(memoryview(data))
    assert there_and_back(data) == data
    assert decode(BYTES, memoryview(data)) == data


@given(json_values)
def test_json_comes_back_with_its_types(value: Any) -> None:
    """Numbers beyond 64 bits, -0.0, nesting and empty containers survive; an int never turns into a float."""
    if not isinstance(value, str):
        assert encode(value).media_type == JSON
    back = there_and_back(value)
    assert same_unordered(back, value)


def same_unordered(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same_unordered(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same_unordered, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@given(st.dictionaries(texts, st.integers(), min_size=2))
def test_the_order_of_keys_does_not_show_in_the_bytes(value: dict[str, int]) -> None:
    """Two dicts that are equal are one memory object, however they were filled."""
    assert encode(value) == encode(dict(reversed(value.items())))


def test_a_value_that_can_change_is_made_afresh() -> None:
    """What one reader does to a list, no other reader sees."""
    stored = encode([[1]])
    back(stored)[0].append(2)
    assert back(stored) == [[1]]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 2**20 - 1, 2**20, 2**20 + 1])
@pytest.mark.catalogue("C4")
def test_bodies_of_every_size_around_the_limits_round_trip(size: int) -> None:
    """The threads used from 1 MiB on change no digest: it is that of the whole input at once."""
    import base64

    from blake3 import blake3

    body = bytes(size)
    assert there_and_back(body) == body
    head = f"mg1\0{BYTES}\0{size}\0".encode()
    expected = base64.b32encode(blake3(head + body).digest(20)).decode().lower()
    assert ref_of(BYTES, body) == ref_of(BYTES, memoryview(body)) == f"mg:{expected}"


@pytest.mark.parametrize(
    ("value", "place", "advice"),
    [
        (float("nan"), "value is nan", "None"),
        ({"a": [0, math.inf]}, "value['a'][1] is inf", "None"),
        ({"a": {1: 2}}, "value['a'] has the key 1 of type int", "'1'"),
        ({"a": [0, 1, 2, {3}]}, "value['a'][3] has the type set", "sorted"),
        ([b"x"], "value[0] has the type bytes", "reference"),
        (frozenset(), "value has the type frozenset", "sorted"),
        ([object()], "value[0] has the type object", "dataclass"),
        (len, "builtin_function_or_method", "what it returns"),
        ({"when": datetime.date(2026, 1, 1)}, "value['when'] has the type datetime.date", "media_type"),
        ("a\ud800", "value holds half of a surrogate pair at character 1", "repair"),
        ({"t": ["\udc00"]}, "value['t'][0] holds half of a surrogate pair", "repair"),
        ({"\ud800": 1}, "a key of value holds half of a surrogate pair", "repair"),
        (1j, "value has the type complex", "use str"),
        (Note, "value has the type type", ""),
    ],
)
def test_what_has_no_form_is_refused_with_its_place_and_advice(value: Any, place: str, advice: str) -> None:
    """The message names the path, the type, and what to do instead."""
    with pytest.raises(CodecError) as caught:
        encode(value)
    assert place in str(caught.value)
    assert advice in str(caught.value)


def test_numbers_are_as_long_as_can_be_read_back() -> None:
    """4,096 bits round trip; more is refused, alone and inside."""
    longest = 2**4096 - 1
    assert there_and_back([longest, -longest]) == [longest, -longest]
    for value in (longest + 1, [longest + 1], {"a": -longest - 1}):
        with pytest.raises(CodecError, match="4,097 bits"):
            encode(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle ends in a CodecError, not in a crash."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contains itself"):
        encode(loop)
    with pytest.raises(CodecError, match="nested too deeply"):
        decode(JSON, b"[" * 100_000)


# ── media types given by the caller ──


def test_a_media_type_given_is_kept() -> None:
    """Text, bytes and JSON may say more exactly what they are, and come back as what they are."""
    assert back(encode("# hi", "text/markdown")) == "# hi"
    assert back(encode(b"\x89PNG", "image/png")) == b"\x89PNG"
    assert back(encode({"type": "Point"}, "application/geo+json")) == {"type": "Point"}
    assert back(encode("x", JSON)) == "x" and encode("x", JSON).body == b'"x"'
    assert decode("text/plain;charset=latin-1", b"\xe9") == "é"


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ("x", "nonsense"),
        ("x", "a/b\0c"),
        ("x", "text/plain\n"),
        ("x", "text/" + "x" * 300),
        (b"x", "no slash"),
        ("x", BYTES),
        ("x", "text/plain;charset=utf-16"),
        ({"a": 1}, "text/plain"),
        (1, "image/png"),
    ],
)
def test_a_media_type_that_does_not_fit_is_refused(value: Any, media_type: str) -> None:
    """A malformed media type, or one the value cannot have, is a CodecError."""
    with pytest.raises(CodecError):
        encode(value, media_type)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (TEXT, b"\xff"),
        (JSON, b"{"),
        (JSON, b"NaN"),
        (JSON, b""),
        (NPY, b"no"),
        (NPY, b""),
        (ARROW, b"no"),
        ("text/plain;charset=klingon", b"x"),
        ("text/plain;charset=hex", b"00"),
        ("nonsense", b""),
    ],
)
def test_bytes_that_are_not_what_they_say_are_refused(media_type: str, body: bytes) -> None:
    """Damaged bodies end in a CodecError and nothing else."""
    with pytest.raises(CodecError):
        decode(media_type, body)


@given(
    st.sampled_from([TEXT, JSON, NPY, ARROW, 'application/json;type="memgang.model:Usage"']), st.binary(max_size=200)
)
@pytest.mark.catalogue("C11")
def test_any_bytes_decode_or_raise_a_codec_error(media_type: str, body: bytes) -> None:
    """Bytes from nowhere never raise anything but CodecError."""
    try:
        decode(media_type, body)
    except CodecError:
        pass


# ── ids ──


@pytest.mark.catalogue("D4")
def test_a_reference_is_160_bits_of_keyed_or_plain_blake3() -> None:
    """32 characters of a-z2-7; a key changes all of them."""
    assert re.fullmatch("[a-z2-7]{32}", digest(b"x"))
    assert digest(b"x") != digest(b"x", bytes(32)) != digest(b"x", b"k" * 32)
    assert Ref(ref_of(TEXT, b"x")) == ref_of(TEXT, b"x")


@pytest.mark.catalogue("D4")
def test_values_that_look_alike_have_different_references() -> None:
    """Text 1, JSON 1, 1.0, true, "1", bytes 1, and twins in NFC and NFD are all different objects."""
    alike: list[Any] = [
        "1",
        1,
        1.0,
        True,
        b"1",
        [1],
        ["1"],
        {"1": 1},
        "é",
        "e\u0301",
        "",
        b"",
        None,
        [],
        {},
        0,
        0.0,
        -0.0,
        False,
        "null",
        "[]",
        "{}",
        "true",
        "1\0",
        "\01",
    ]
    refs = {ref_of(*encode(value)) for value in alike} | {
        ref_of(*encode("1", JSON)),
        ref_of(*encode("1", "text/markdown")),
    }
    assert len(refs) == len(alike) + 2


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(st.sampled_from([TEXT, JSON, BYTES, "a/b", "a/b1"]), st.binary(max_size=12)), min_size=2, unique=True
    )
)
def test_different_content_has_different_references(contents: list[tuple[str, bytes]]) -> None:
    """No two pairs of media type and body meet in one id, wherever the border between the two lies."""
    assert len({ref_of(*content) for content in contents}) == len(contents)


@pytest.mark.catalogue("D4")
def test_the_border_between_media_type_and_body_counts() -> None:
    """A body that continues like a media type and length does not collide with one that is longer."""
    assert ref_of("a/b", b"1\0x") != ref_of("a/b\0" + "3", b"1\0x") != ref_of("a/b", b"\x001\0x")


# ── classes ──


def test_records_come_back_as_their_class() -> None:
    """A dataclass with references, dates, sets, enums, int keys and bytes inside is equal after the journey."""
    note = Note("x", Inner(REF), {"b", "a"}, Mood.GOOD, {10: "x", 9: "y"}, b"\0\xff")
    back = there_and_back(note)
    assert back == note
    assert type(back.inner.ref) is Ref
    assert encode(note).media_type == f'application/json;type="{__name__}:Note"'
    assert there_and_back([note, note]) == [note, note]
    assert there_and_back(Struct(3, REF)) == Struct(3, REF)


def test_pydantic_models_come_back_as_their_class() -> None:
    """Aliases, strict models, and models inside dataclasses survive."""
    import pydantic

    assert there_and_back(Model(**{"claim-text": "x", "day": datetime.date(2026, 1, 2)})) == Model(
        **{"claim-text": "x", "day": datetime.date(2026, 1, 2)}
    )
    assert isinstance(there_and_back(Holder(Model(**{"claim-text": "x"}))).model, pydantic.BaseModel)


def test_a_type_asked_for_wins() -> None:
    """`type=` gives classes, lists of them, references and numbers; what does not fit is a CodecError."""
    note = Note("x", Inner(REF))
    assert decode(JSON, encode(note).body, Note) == note
    assert there_and_back([note, {"claim": "y"}, note], list[dict[str, Any]])[1] == {"claim": "y"}
    assert there_and_back(note, dict)["claim"] == "x"
    assert back(encode([str(REF)]), list[Ref]) == [REF]
    assert type(there_and_back(str(REF), Ref)) is Ref
    assert type(there_and_back(REF, Ref)) is Ref and type(there_and_back(REF)) is str
    assert there_and_back(b"x", bytes) == b"x" and there_and_back(b"x", bytearray) == bytearray(b"x")
    for value, wanted in [
        ({"a": 1}, Note),
        (1, str),
        ("x", Ref),
        ("1", int),
        (b"x", str),
        ([1], list[str]),
        ("x", Note),
    ]:
        with pytest.raises(CodecError):
            there_and_back(value, wanted)


@pytest.mark.catalogue("D1")
def test_nothing_is_imported_by_name_from_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A media type that names a module not loaded, another name of a class, or what is no record, gives plain data."""
    asked: list[str] = []
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = asked.append  # type: ignore[method-assign]  # a module that imports when it is asked
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    body = b'{"claim":"x"}'
    for name in (
        "antigravity:geohash",
        "os:system",
        "subprocess:Popen",
        "memgang.codec:decode",
        "x:y",
        ":",
        "json:x.y",
        f"{__name__}:Mood",
        f"{__name__}:Alias",
        "lazy:Note",
        f"{__name__}:dataclasses.dataclass",
    ):
        assert decode(f'application/json;type="{name}"', body) == {"claim": "x"}
    assert "antigravity" not in sys.modules and asked == []


def test_a_class_made_in_a_function_comes_back_as_a_dict() -> None:
    """It cannot be found by name, so its fields come back."""

    @dataclasses.dataclass
    class Local:
        x: int

    assert there_and_back(Local(1)) == {"x": 1}
    assert there_and_back(Local(1), Local) == Local(1)


def test_a_record_with_what_json_cannot_hold_is_refused() -> None:
    """NaN and foreign objects are found inside records too."""
    for value in (Note("x", inner=object()), Note(math.nan), [Note("x", inner=math.inf)]):  # type: ignore[arg-type]
        with pytest.raises(CodecError):
            encode(value)


# ── arrays and tables ──


def test_arrays_come_back_as_read_only_views() -> None:
    """Numbers, shape and dtype are kept; the array looks at the very bytes it was given."""
    np = pytest.importorskip("numpy")
    for array in (
        np.arange(12.0).reshape(3, 4),
        np.array(3),
        np.zeros((0, 5)),
        np.zeros((2, 3), order="F"),
        np.array([True, False]),
        np.array(["a", "bc"]),
        np.array(["2026-01-01"], "M8[D]"),
        np.array([(1, 2.0)], [("a", ">i4"), ("é", "f8")]),
        np.array([(1,)], [("漢", "i4")]),
        np.array([np.nan]),
    ):
        back = there_and_back(array)
        assert back.dtype == array.dtype and back.shape == array.shape
        assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
        with pytest.raises(ValueError, match="read-only"):
            back[...] = back
    body = encode(np.arange(5)).body
    pages = bytearray(body)
    view = decode(NPY, memoryview(pages))
    pages[-8] = 99
    assert view[-1] == 99 and not view.flags.writeable


@pytest.mark.parametrize("make", ["rng.random(200_000)", "rng.random((500, 400))[:, ::2]", "np.asfortranarray(rng.random((500, 400)))",
                                  "np.arange(200_000).view('M8[s]')", "np.zeros(100_000, [('a', '>i4'), ('b', 'f8')])",
                                  "np.zeros(100_000, [('漢', 'i4'), ('b', 'f8')])"])
def test_a_large_array_is_what_numpy_would_write_and_is_not_copied(make: str) -> None:
    """Header and numbers in two pieces are the bytes that `numpy.save` makes, whatever the array's layout and type."""
    import io

    np = pytest.importorskip("numpy")
    array = eval(make, {"np": np, "rng": np.random.default_rng(1)})
    out, stored = io.BytesIO(), encode(array)
    np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    assert stored.whole == out.getvalue() and stored.size == len(out.getvalue())
    assert ref_of(*stored) == ref_of(stored.media_type, stored.whole)
    assert np.array_equal(back(stored), array)
    if array.flags.c_contiguous and "漢" not in make:
        assert np.shares_memory(np.frombuffer(stored.body, "u1"), array)


def test_equal_arrays_are_one_object_whatever_their_layout() -> None:
    """C order, Fortran order and a slice of something larger have the same bytes."""
    np = pytest.importorskip("numpy")
    array = np.arange(12).reshape(3, 4)
    assert encode(array) == encode(np.asfortranarray(array)) == encode(np.arange(24).reshape(3, 8)[:, :4] * 0 + array)
    assert encode(array[:, ::2]) == encode(array[:, ::2].copy())


@pytest.mark.catalogue("D1")
def test_arrays_that_hold_objects_are_refused_both_ways() -> None:
    """Nothing is pickled and nothing is unpickled."""
    import io

    np = pytest.importorskip("numpy")
    array = np.array([{}], dtype=object)
    with pytest.raises(CodecError, match="never pickled"):
        encode(array)
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=True)
    with pytest.raises(CodecError, match="never unpickled"):
        decode(NPY, out.getvalue())
    with pytest.raises(CodecError, match="mask"):
        encode(np.ma.array([1], mask=[True]))
    with pytest.raises(CodecError, match="bytes of data"):
        decode(NPY, encode(np.arange(3)).body[:-1])
    with pytest.raises(CodecError, match=r"value\['a'\].*on its own"):
        encode({"a": array})


def test_numpy_scalars_are_numbers() -> None:
    """np.float64(1.5) and 1.5 are the same memory; a complex or a date has no JSON form."""
    np = pytest.importorskip("numpy")
    assert encode(np.float64(1.5)) == encode(1.5) and encode([np.int32(3), np.bool_(True)]) == encode([3, True])
    assert encode(np.float32(0.5)) == encode(0.5)
    for refused in (
        np.complex128(1),
        np.datetime64("2026-01-01"),
        np.float64("nan"),
        np.float32("inf"),
        np.longdouble(1),
    ):
        with pytest.raises(CodecError):
            encode(refused)


def test_tables_come_back_as_arrow_tables() -> None:
    """Tables and record batches keep schema and rows; how they were chunked does not show."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [1, None, 3], "b": ["x", "y", None]})
    assert there_and_back(table).equals(table)
    assert encode(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == encode(table)
    assert encode(table.to_batches()[0]) == encode(table)
    assert there_and_back(table.slice(0, 0)).schema == table.schema
    assert decode(ARROW, memoryview(encode(table).body), pa.Table).equals(table)


def test_data_frames_travel_through_arrow() -> None:
    """pandas and polars frames are stored as Arrow and come back as a table."""
    pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert there_and_back(frame).to_pandas().equals(frame)
    with pytest.raises(CodecError, match="Arrow"):
        encode(pd.DataFrame({"a": [object()]}))
    pl = pytest.importorskip("polars")
    other = pl.DataFrame({"a": [1, 2]})
    assert pl.from_arrow(there_and_back(other)).equals(other)


def test_heavy_libraries_are_never_imported_for_plain_values() -> None:
    """A process that stores text, JSON and records does not pay for NumPy, PyArrow, pandas or pydantic."""
    program = (
        "import sys, dataclasses; from memgang.codec import *; from memgang.canonical import argument\n"
        "from memgang.versions import version_of\n"
        "@dataclasses.dataclass\nclass A: x: int = 1\n"
        "for v in ('x', 1, [1.5], A(), {'a': None}, b'x'): e = encode(v); decode(e.media_type, e.whole); argument(v)\n"
        "print([m for m in ('numpy', 'pyarrow', 'pandas', 'polars', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of an array without NumPy say what to install."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(CodecError, match="pip install numpy"):
        decode(NPY, b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CodecError, match="pip install pyarrow"):
        decode(ARROW, b"")


# ── times to live ──


@pytest.mark.parametrize(
    ("ttl", "ms"),
    [
        (None, 0),
        (90, 90_000),
        (1.5, 1_500),
        ("90s", 90_000),
        ("15m", 900_000),
        ("1h", 3_600_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("90", 90_000),
        (" 1.5 h ", 5_400_000),
        (1e-9, 1),
        ("3650d", 3650 * 86_400_000),
    ],
)
def test_times_to_live_are_milliseconds(ttl: Any, ms: int) -> None:
    """Seconds as numbers, units as letters, None for ever, and never by rounding 'for ever'."""
    assert parse_ttl(ttl) == ms


@pytest.mark.parametrize(
    "ttl",
    [0, -1, "0", "-1s", math.nan, math.inf, "nan", "", "x", "1y", "1h30m", True, "3651d", 10**400, "9" * 400, [], "٣s"],
)
def test_a_time_that_is_none_is_refused(ttl: Any) -> None:
    """Zero, negative, NaN, unknown units and more than ten years are a ConfigError that shows the value."""
    with pytest.raises(ConfigError, match="ttl="):
        parse_ttl(ttl)


def test_check_media_type_takes_what_encode_makes() -> None:
    """Every media type we write passes our own check."""
    for value in ("x", b"x", 1, Note("x"), [Note("x")]):
        check_media_type(encode(value).media_type)


try:
    import pydantic
except ImportError:  # its own test is then skipped by the import in it
    pass
else:

    class Model(pydantic.BaseModel, strict=True):
        claim: str = pydantic.Field(alias="claim-text")
        day: datetime.date | None = None

    @dataclasses.dataclass
    class Holder:
        model: Model
