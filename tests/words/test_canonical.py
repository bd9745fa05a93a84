"""Calls are the same exactly when their canonical forms are; versions change when the work may have changed."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import importlib.util
import json
import linecache
import math
import pathlib
import re
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgang.canonical import (
    LEFT_OUT,
    argument,
    call_key,
    canonical,
    difference,
    likeness,
    outline,
    read_json,
)
from memgang.codec import TEXT, encode, ref_of
from memgang.errors import CodecError, ConfigError
from memgang.model import Call, Ref
from memgang.versions import version_of

SECRET = bytes(range(32))
REF = Ref("mg:" + "a" * 32)
LONG = "The audit found three things, and each of them matters."

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers(-(2**70), 2**70) | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def call(**changes: Any) -> Call:
    return Call(**{"kind": "llm", "function": "f", **changes})


def key(**changes: Any) -> str:
    return call_key(canonical(call(**changes), "default"), SECRET)


def exact(value: Any) -> Any:
    """A value two of which are equal exactly when the JSON they mean is: independent of the code under test."""
    if isinstance(value, dict):
        return ("dict", tuple(sorted((name, exact(item)) for name, item in value.items())))
    if isinstance(value, list | tuple):
        return ("list", tuple(exact(item) for item in value))
    return (type(value).__name__, repr(value))


# ── the canonical form ──


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"parameters": {"a": 1, "b": 2}}, {"parameters": {"b": 2, "a": 1}}),
        ({"arguments": {"x": {"a": 1, "b": [2]}}}, {"arguments": {"x": {"b": [2], "a": 1}}}),
        ({"arguments": (1, 2)}, {"arguments": [1, 2]}),
        ({"arguments": {"r": REF}}, {"arguments": {"r": {"$ref": str(REF)}}}),
        *[
            ({"parameters": {"temperature": 0}}, {"parameters": {"temperature": 0, name: "x"}})
            for name in sorted(LEFT_OUT)
        ],
    ],
)
@pytest.mark.catalogue("C8")
def test_these_calls_are_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Key order, list or tuple, and how the answer travels make no other call."""
    assert key(**one) == key(**other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"arguments": 1}, {"arguments": 1.0}),
        ({"arguments": 1}, {"arguments": True}),
        ({"arguments": 0.0}, {"arguments": -0.0}),
        ({"arguments": 0}, {"arguments": False}),
        ({"arguments": 0}, {"arguments": None}),
        ({"arguments": 1.0}, {"arguments": True}),
        ({"arguments": "1"}, {"arguments": 1}),
        ({"arguments": []}, {"arguments": {}}),
        ({"arguments": ""}, {"arguments": None}),
        ({"arguments": 2**64}, {"arguments": 2**64 + 1}),
        ({"arguments": 2**53 + 1}, {"arguments": float(2**53)}),
        ({"arguments": "é"}, {"arguments": "e\u0301"}),
        ({"arguments": 10**22}, {"arguments": 1e22}),
        ({"parameters": {}}, {"parameters": {"temperature": 1}}),
        ({"parameters": {"top_p": None}}, {"parameters": {}}),
        ({"parameters": {"something_new": 1}}, {"parameters": {}}),
        ({"parameters": {"timeout": 1}}, {"parameters": {}}),
        ({"tools": ["a", "b"]}, {"tools": ["b", "a"]}),
        ({"sample": 0}, {"sample": 1}),
        ({"scope": ""}, {"scope": "acme"}),
        ({"model": "x"}, {"system": "x"}),
        ({"version": "x"}, {"model": "x"}),
        ({"kind": "read"}, {"kind": "tool"}),
        ({"function": "a", "version": "b"}, {"function": "ab"}),
        ({"arguments": str(REF)}, {"arguments": REF}),
        ({"kind": "tool", "parameters": {"user": "a"}}, {"kind": "tool", "parameters": {"user": "b"}}),
        ({"arguments": {"user": "a"}}, {"arguments": {"user": "b"}}),
        ({"messages": [{"metadata": "a"}]}, {"messages": [{"metadata": "b"}]}),
    ],
)
@pytest.mark.catalogue("C8")
def test_these_calls_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Types stay apart, order of tools and messages counts, and a default written out is not one left out."""
    assert key(**one) != key(**other)


calls = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["llm", "function", "read", "tool"]),
        "function": texts,
        "version": texts,
        "model": texts,
        "system": texts,
        "messages": json_values,
        "tools": json_values,
        "arguments": json_values,
        "sample": st.integers(0, 3),
        "scope": texts,
        "parameters": st.dictionaries(texts.filter(lambda name: name not in LEFT_OUT), json_values, max_size=3),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(calls, min_size=2, max_size=12))
def test_calls_are_the_same_exactly_if_their_forms_are(some: list[dict[str, Any]]) -> None:
    """Among thousands of drawn pairs the forms are equal if and only if all parts are, type by type."""
    defaults = msgspec.structs.asdict(call())
    forms = [canonical(call(**given), "default") for given in some]
    meant = [exact({**defaults, "kind": "llm", **given}) for given in some]
    for i in range(len(some)):
        for j in range(i):
            assert (forms[i] == forms[j]) == (meant[i] == meant[j])


@pytest.mark.catalogue("C8")
def test_a_hundred_thousand_differing_pairs_all_differ() -> None:
    """450 calls that look alike, each with each (more than 100,000 pairs): no two keys are equal."""
    leaves: list[Any] = [
        None,
        True,
        False,
        0,
        1,
        -1,
        0.0,
        -0.0,
        1.0,
        "",
        "0",
        "1",
        "null",
        "true",
        [],
        {},
        "[]",
        "{}",
        1e16,
        10**16,
        2**63,
        2**64,
        float(2**63),
        "a\0",
        "\0a",
        "a",
    ]
    shapes: list[Callable[[Any], Any]] = [
        lambda x: x,
        lambda x: [x],
        lambda x: [[x]],
        lambda x: {"a": x},
        lambda x: {"a": [x]},
        lambda x: [x, x],
        lambda x: {"": x},
        lambda x: {"$ref": x},
        lambda x: {"$$ref": x},
    ]
    made = [
        {where: shape(leaf)}
        for where in ("arguments", "messages")
        for shape in shapes
        for leaf in leaves
        if not (leaf is None and shape is shapes[0])
    ]
    assert len(made) * (len(made) - 1) // 2 > 100_000
    assert len({key(**changes) for changes in made}) == len(made)


@given(arguments=json_values, sample=st.integers(0, 3) | st.booleans(), kind=st.sampled_from(["function", "llm"]), name=texts)
def test_the_shortcut_for_calls_of_arguments_alone_writes_the_same(arguments: Any, sample: Any, kind: Any, name: str) -> None:
    """A parameter that is left out keeps from the shortcut, and from nothing else."""
    one = call(kind=kind, function=name, arguments=arguments, sample=sample)
    form = msgspec.json.decode(canonical(one, "s"))
    assert canonical(one, "s") == msgspec.json.encode(form, order="sorted") and form["arguments"] == arguments
    other = canonical(call(kind="llm", function=name, arguments=arguments, sample=sample, parameters={"seed": 1}), "s")
    assert canonical(one, "s") == other.replace(b'"parameters":{"seed":1}', b'"parameters":{}').replace(
        b'"kind":"llm"', f'"kind":"{kind}"'.encode())


@pytest.mark.catalogue("D4")
def test_the_space_and_the_secret_are_in_the_key() -> None:
    """The same call in two spaces, or under two secrets, has two keys of 32 characters."""
    one, other = canonical(call(), "one"), canonical(call(), "two")
    assert re.fullmatch("[a-z2-7]{32}", call_key(one, SECRET))
    assert len({call_key(one, SECRET), call_key(other, SECRET), call_key(one, bytes(32))}) == 3


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"arguments": {"x": [1, math.nan]}}, "arguments['x'][1] is nan"),
        ({"parameters": {"t": math.inf}}, "parameters['t'] is inf"),
        ({"arguments": {1: 2}}, "key 1 of type int"),
        ({"messages": [b"x"]}, "messages[0] has the type builtins.bytes"),
        ({"messages": ["\ud800"]}, "surrogate"),
        ({"tools": [object()]}, "tools[0]"),
        ({"arguments": [2**5000]}, "arguments[0]"),
    ],
)
def test_what_has_no_canonical_form_is_refused_by_place(changes: dict[str, Any], place: str) -> None:
    """NaN is never null, an int key is never text, and the message says where it stands."""
    with pytest.raises(CodecError, match=re.escape(place)):
        canonical(call(**changes), "default")


def test_json_from_outside_is_read_strictly() -> None:
    """Duplicate keys, NaN, infinities and numbers out of range are refused; the rest is read with its types."""
    assert read_json(b'{"a":[1,1.0,true,null,"x"]}') == {"a": [1, 1.0, True, None, "x"]}
    for body in (
        '{"a":1,"a":1}',
        '[{"b":{"a":1,"a":2}}]',
        "NaN",
        "[-Infinity]",
        "1e400",
        "{",
        "",
        b"\xff",
        "[" * 100_000,
        "1" * 5000,
    ):
        with pytest.raises(CodecError):
            read_json(body)


# ── arguments ──


class Mood(enum.StrEnum):
    GOOD = "good"


@dataclasses.dataclass
class Note:
    claim: str
    ref: Ref | None = None


@dataclasses.dataclass
class Other:
    claim: str
    ref: Ref | None = None


class Struct(msgspec.Struct):
    claim: str


def test_a_value_and_a_reference_to_it_are_the_same_argument() -> None:
    """Long text, bytes, arrays and tables become the reference they have when put."""
    for value in [LONG, b"x", bytearray(b"x"), *arrays()]:
        assert argument(value) == argument(ref_of(*encode(value))) == {"$ref": str(ref_of(*encode(value)))}
    assert argument("x" * 40) == "x" * 40 and argument("x" * 41) == {"$ref": str(ref_of(TEXT, b"x" * 41))}


def arrays() -> list[Any]:
    numpy, pyarrow = pytest.importorskip("numpy"), pytest.importorskip("pyarrow")
    return [numpy.arange(3), numpy.zeros((2, 2)), pyarrow.table({"a": [1]})]


def test_arguments_keep_what_tells_them_apart() -> None:
    """Classes with equal fields, an enum and its text, a set and a list, dates and their texts are all different."""
    day = datetime.date(2026, 1, 2)
    some: list[Any] = [
        Note("x"),
        Other("x"),
        Struct("x"),
        {"claim": "x"},
        {"claim": "x", "ref": None},
        Note("x", REF),
        Mood.GOOD,
        "good",
        {1, 2},
        frozenset({1, 2}),
        [1, 2],
        day,
        str(day),
        datetime.datetime(2026, 1, 2),
        decimal.Decimal("1"),
        decimal.Decimal("1.0"),
        1,
        1.0,
        True,
        "1",
        pathlib.PurePosixPath("1"),
        uuid.UUID(int=1),
        datetime.timedelta(1),
        REF,
        str(REF),
        {"$ref": str(REF)},
        {"$$ref": str(REF)},
        {"$type": f"{__name__}:Mood", "text": "GOOD"},
        [REF],
        [str(REF)],
        None,
        [],
        {},
        "",
    ]
    assert len({json.dumps(argument(value), sort_keys=True) for value in some}) == len(some)
    assert argument({2, 1, 3}) == argument({3, 2, 1}) and argument((1, 2)) == argument([1, 2])


def test_numpy_scalars_are_the_numbers_they_hold() -> None:
    """np.float64(1.5) asks the same as 1.5."""
    numpy = pytest.importorskip("numpy")
    assert argument([numpy.float64(1.5), numpy.int8(1), numpy.bool_(True)]) == [1.5, 1, True]
    assert [type(item) for item in argument([numpy.float64(1.5), numpy.int8(1), numpy.bool_(True)])] == [
        float,
        int,
        bool,
    ]


@given(json_values)
@pytest.mark.catalogue("C7")
def test_no_data_passes_for_a_reference(value: Any) -> None:
    """Whatever JSON a user gives, its own "$" keys are escaped, and every argument has a canonical form."""
    canonical(call(arguments=argument(value)), "default")
    assert argument({"$ref": value}) == {"$$ref": argument(value)}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, object()]}, "argument['a'][1] has the type builtins.object"),
        ({1: 2}, "key 1"),
        (math.nan, "argument is nan"),
        (Note(threading.Lock()), "argument.claim has the type _thread.lock"),  # type: ignore[arg-type]
        ("\ud800" * 50, "surrogate"),
        (lambda: 0, "function"),
        ([1j], "argument[0]"),
    ],
)
def test_what_cannot_be_an_argument_is_refused_by_place(value: Any, place: str) -> None:
    """The message names the path and the type."""
    with pytest.raises(CodecError, match=re.escape(place)):
        argument(value)


# ── outlines ──


def outlined(limit: int = 700, **changes: Any) -> str:
    return outline(canonical(call(**changes), "default"), SECRET, limit)


def test_an_outline_holds_no_long_text() -> None:
    """Values and keys over 40 characters are a keyed hash and a length; short ones can be read."""
    text = outlined(system=LONG, arguments={LONG: LONG, "short": "yes"}, model="gpt-5-mini")
    assert LONG not in text and "audit" not in text
    assert "gpt-5-mini" in text and "yes" in text and f"{len(LONG)} characters" in text
    assert outline(canonical(call(system=LONG), "default"), bytes(32)) != outlined(system=LONG)


@settings(max_examples=300, deadline=None)
@given(calls, st.integers(64, 2000))
def test_an_outline_fits_its_limit(changes: dict[str, Any], limit: int) -> None:
    """Whatever the call, the outline is JSON of at most the bytes asked for."""
    text = outlined(limit, **changes)
    assert len(text.encode()) <= limit
    json.loads(text)


def test_a_huge_call_has_a_short_outline_that_still_differs() -> None:
    """A thousand messages fit in 700 bytes, and a change in the last of them shows."""
    messages = [{"role": "user", "content": f"question {n}", "n": list(range(50))} for n in range(1000)]
    one, other = outlined(messages=messages), outlined(messages=[*messages[:-1], {"role": "user"}])
    assert len(one.encode()) <= 700
    place, mine, theirs = difference(one, other) or ("", "", "")
    assert place.startswith("messages") and mine != theirs


@pytest.mark.parametrize(
    ("one", "other", "place", "mine", "theirs"),
    [
        (
            {"parameters": {"temperature": 0}},
            {"parameters": {"temperature": 0.0}},
            "parameters.temperature",
            "0",
            "0.0",
        ),
        ({"messages": [{"content": "a"}]}, {"messages": [{"content": "b"}]}, "messages[0].content", '"a"', '"b"'),
        ({"arguments": [1]}, {"arguments": [1, 2]}, "arguments[1]", "absent", "2"),
        ({"version": "a", "arguments": 1}, {"version": "b", "arguments": 2}, "version", '"a"', '"b"'),
        ({"model": "x"}, {}, "model", '"x"', "absent"),
        ({"sample": 1}, {}, "sample", "1", "absent"),
        ({"arguments": 1}, {"arguments": True}, "arguments", "1", "true"),
    ],
)
def test_a_difference_names_the_first_place(
    one: dict[str, Any], other: dict[str, Any], place: str, mine: str, theirs: str
) -> None:
    """What changed, and what each side has there; an early part of a call is named before a later one."""
    assert difference(outlined(**one), outlined(**other)) == (place, mine, theirs)
    assert difference(outlined(**other), outlined(**one)) == (place, theirs, mine)
    assert difference(outlined(**one), outlined(**one)) is None


def test_likeness_finds_the_nearest() -> None:
    """An equal call is 1, a call that shares nothing near 0, and one change is nearer than two."""
    base = {"model": "m", "arguments": {"a": 1, "b": 2}}
    mine = outlined(**base)
    one = outlined(**{**base, "arguments": {"a": 1, "b": 3}})
    two = outlined(**{**base, "arguments": {"a": 0, "b": 3}})
    assert (
        likeness(mine, mine) == 1.0 > likeness(mine, one) > likeness(mine, two) > likeness(mine, '{"kind":"read"}') == 0
    )


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_damaged_outline_is_compared_as_text(one: str, other: str) -> None:
    """An outline cut off in the log raises nothing."""
    difference(one, other)
    assert 0.0 <= likeness(one, other) <= 1.0


# ── versions ──

_modules = 0


def define(source: str, name: str = "f", **given: Any) -> Any:
    """What the source defines, with a file behind it that inspect can read (in memory, never on disk)."""
    global _modules
    _modules += 1
    file = f"<user module {_modules}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": "user_module", **given}
    exec(compile(source, file, "exec"), space)
    return space[name]


PLAIN = "def f(part):\n    return part.upper()\n"


def shout(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that looks like what it wraps."""

    @functools.wraps(function)
    def inner(*given: Any) -> Any:
        return function(*given) + "!"

    return inner


@pytest.mark.parametrize(
    "same",
    [
        "def g(part):\n    return part.upper()\n",
        "def f(part):\n\n    # a comment\n    return part.upper()  # and another\n",
        "def f( part ):\n        return (part.upper())\n",
        "@deco(ttl='1h')\ndef f(part):\n    return part.upper()\n",
        "if True:\n    def f(part):\n        return part.upper()\n",
    ],
)
def test_name_layout_comments_and_decorators_do_not_change_a_version(same: str) -> None:
    """What a function is called, how it is written down, and the options it is registered with are not its work."""
    name = "g" if "def g" in same else "f"
    assert version_of(define(same, name, deco=lambda ttl: lambda f: f)) == version_of(define(PLAIN))


@pytest.mark.parametrize(
    "other",
    [
        "def f(part):\n    return part.lower()\n",
        "def f(part):\n    'Shout it.'\n    return part.upper()\n",
        "def f(part, n=1):\n    return part.upper()\n",
        "async def f(part):\n    return part.upper()\n",
        "def f(text):\n    return text.upper()\n",
    ],
)
def test_another_body_docstring_or_signature_is_another_version(other: str) -> None:
    """What may change the answer changes the version; a docstring may be a prompt."""
    assert version_of(define(other)) != version_of(define(PLAIN))


def closing_over(value: Any, default: Any = None) -> Callable[..., Any]:
    def f(part: str, how: Any = default) -> Any:
        return value, part, how

    return f


class Keyed:
    def __init__(self, key: str) -> None:
        self.key, self.lock = key, threading.Lock()

    def __memgang_key__(self) -> str:
        return self.key

    def method(self) -> str:
        return self.key


def test_closures_and_defaults_are_part_of_a_version() -> None:
    """Values, functions, classes, modules and keyed objects a function closes over or defaults to all count."""
    values = [
        1,
        1.0,
        True,
        None,
        "a",
        "b",
        [1],
        {"a": 1},
        {"a": 1.0},
        math.nan,
        define(PLAIN),
        define(PLAIN.replace("upper", "lower")),
        Note,
        Other,
        math,
        json,
        Keyed("a"),
        Keyed("b"),
        Note("a"),
        Note("b"),
        re.compile("a"),
        re.compile("b"),
        len,
        json.dumps,
        functools.partial(define(PLAIN), 1),
        functools.partial(define(PLAIN), 2),
        Keyed("a").method,
        Mood.GOOD,
        b"x",
        {1, 2},
        list[int],
        functools.cache(define(PLAIN)),
    ]
    versions = [version_of(closing_over(value)) for value in values] + [
        version_of(closing_over(None, value)) for value in values if value is not None
    ]
    assert len(set(versions)) == len(versions)
    assert versions[: len(values)] == [version_of(closing_over(value)) for value in values]
    assert version_of(closing_over(define(PLAIN))) == version_of(closing_over(define(PLAIN)))


def test_a_function_is_not_looked_through_to_what_it_wraps() -> None:
    """A decorator that changes the answer changes the version, and so does what it wraps."""
    plain, lower = define(PLAIN), define(PLAIN.replace("upper", "lower"))
    assert (
        len({version_of(plain), version_of(shout(plain)), version_of(shout(lower)), version_of(shout(shout(plain)))})
        == 4
    )


def test_deps_are_part_of_a_version() -> None:
    """Globals count when they are named: helpers by source, modules by name and version, values as they are."""
    helper, changed = define(PLAIN), define(PLAIN.replace("upper", "lower"))
    some = [
        (),
        (helper,),
        (changed,),
        (helper, changed),
        (changed, helper),
        ({"prompt": "a"},),
        ({"prompt": "b"},),
        (msgspec,),
        (Note,),
    ]
    assert len({version_of(closing_over(1), deps) for deps in some}) == len(some)


def test_a_base_class_is_part_of_a_class(tmp_path: pathlib.Path) -> None:
    """A change in an inherited method changes the version of what depends on the class."""
    source = "class B:\n    def m(self): return {}\nclass C(B):\n    pass\n"
    made = []
    for number, answer in enumerate((1, 1, 2)):
        path = tmp_path / f"versions_{number}.py"
        path.write_text(source.format(answer))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
            made.append(version_of(closing_over(module.C)))
        finally:
            del sys.modules[path.stem]
    assert made[0] == made[1] != made[2]


def test_code_that_claims_to_come_with_python_is_looked_at() -> None:
    """What the standard library really has counts by name; what only borrows its name counts by what it does."""
    one, other = (define(f"def dumps(x):\n    return {n}\n", "dumps", __name__="json") for n in (1, 2))
    assert len({version_of(closing_over(f)) for f in (one, other, json.dumps)}) == 3
    space: dict[str, Any] = {}
    exec("class C:\n    x = 1", space)
    assert space["C"].__module__ == "builtins"
    with pytest.raises(ConfigError, match="no source"):
        version_of(closing_over(space["C"]))


def test_a_function_that_calls_itself_has_one_version_before_and_after_its_name_is_set() -> None:
    """A decorator asks while the closure is still empty; asking later, decorated or not, gives the same."""
    versions: list[str] = []

    def ask(function: Callable[..., Any]) -> Callable[..., Any]:
        versions.append(version_of(function))
        return function

    def plain() -> Callable[..., Any]:
        @ask
        def alone(n: int) -> int:
            return alone(n - 1) if n else 0

        return alone

    def wrapped() -> Callable[..., Any]:
        @shout
        @ask
        def alone(n: int) -> int:
            return alone(n - 1) if n else 0

        return alone

    ask(plain())
    ask(wrapped().__wrapped__)  # type: ignore[attr-defined]
    assert len(set(versions)) == 1 and len(versions) == 4


def test_recursion_ends() -> None:
    """Functions that call themselves, or each other, through a closure have a version, the same when made again."""

    def make() -> tuple[Any, Any]:
        def even(n: int) -> bool:
            return n == 0 or odd(n - 1)

        def odd(n: int) -> bool:
            return n != 0 and even(n - 1)

        def alone(n: int) -> int:
            return alone(n - 1) if n else 0

        return even, alone

    assert [version_of(f) for f in make()] == [version_of(f) for f in make()]
    assert version_of(make()[0]) != version_of(make()[1])


@pytest.mark.parametrize("value", [threading.Lock(), object(), iter([]), open])
def test_what_has_no_version_is_named_with_the_ways_out(value: Any) -> None:
    """The message names the variable and the function, and says: argument, deps= or version=."""
    if value is open:
        assert version_of(closing_over(value))
        return
    with pytest.raises(ConfigError, match=r"'value', which .*closing_over.*f closes over.*argument.*deps=.*version="):
        version_of(closing_over(value))
    with pytest.raises(ConfigError, match="the default of 'how'"):
        version_of(closing_over(1, value))
    with pytest.raises(ConfigError, match=r"deps\[1\]"):
        version_of(closing_over(1), [1, value])


def test_a_function_without_source_counts_by_its_bytecode() -> None:
    """Lambdas and code made by exec: constants, names and nested code count; the module it claims does not hide it."""

    def bare(source: str, **given: Any) -> Any:
        space: dict[str, Any] = dict(given)  # without __name__ Python calls the function one of builtins
        exec(source, space)
        return space["f"]

    some = [
        "def f(x): return x + 1",
        "def f(x): return x + 2",
        "def f(x): return x.a",
        "def f(x): return x.b",
        "def f(x): return [lambda: x + 1]",
        "def f(x): return [lambda: x + 2]",
        "def f(x): return x in {1, 2}",
    ]
    assert len({version_of(bare(source)) for source in some}) == len(some)
    assert [version_of(bare(source)) for source in some] == [version_of(bare(source)) for source in some]
    pair = (lambda x: x + 1, lambda x: x + 2)
    assert version_of(pair[0]) != version_of(pair[1])


def test_methods_and_callable_objects_count_with_their_object() -> None:
    """A bound method has its object's key in it; an object that can be called needs one."""
    assert version_of(Keyed("a").method) != version_of(Keyed("b").method)
    assert version_of(Keyed("a").method) == version_of(Keyed("a").method)

    class Silent:
        def __call__(self) -> None: ...

    with pytest.raises(ConfigError, match="Silent"):
        version_of(Silent())


def test_versions_do_not_change_with_the_hash_seed() -> None:
    """Two processes give one function one version: sets in it are sorted first."""
    import os
    import subprocess

    program = (
        "from memgang.versions import version_of\nf = lambda x: x in {'a', 'b', 'c', 'd'}\n"
        "def g():\n  s = {'a', 'b', 'c'}\n  def h(): return s\n  return h\nprint(version_of(f), version_of(g()))"
    )
    versions = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(versions) == 1
