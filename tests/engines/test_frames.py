"""Values travel as they are, or not at all."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgang.engines.frames import framed, loaded_class, pack, unframed, unpack
from memgang.errors import CodecError
from memgang.model import Prompt, Ref
from tests.engines.leaves import Note


class Colour(enum.Enum):
    """A choice."""

    RED = 1


@dataclasses.dataclass
class Point:
    """A record with a field that is not given."""

    x: int
    y: tuple[int, ...] = ()
    sum: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.sum = self.x + sum(self.y)


def there_and_back(value: Any) -> Any:
    """What arrives."""
    return unpack(pack(value), loaded_class)


@pytest.mark.parametrize("value", [
    None, True, 3, -(2**63), 2**64 - 1, 2**200, -(2**90), 1.5, math.inf, "ä\0", b"\xff", (), (1, (2,)), [1, (2, [3])], {1, 2},
    frozenset({"a"}), {"a": (1,)}, {1: "b", (2, 3): None}, Ref("mg:" + "a" * 32), Note("t", ("a",)), [Note("t")], Colour.RED,
    Point(1, (2, 3)), Prompt(instruction="i", passages=("p", "q")), 1 + 2j,
], ids=lambda value: repr(value)[:40])
def test_a_value_arrives_as_what_it_was(value: Any) -> None:
    """Tuples stay tuples, references references, records records."""
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_any_plain_value_arrives_as_what_it_was(value: Any) -> None:
    """The same value with the same types all the way down."""
    assert repr(there_and_back(value)) == repr(value)


def test_an_array_arrives_with_its_type() -> None:
    """Arrays go as bytes, not as lists."""
    found = there_and_back({"a": numpy.arange(6, dtype="float32").reshape(2, 3)})["a"]
    assert (found.dtype, found.tolist()) == (numpy.dtype("float32"), [[0, 1, 2], [3, 4, 5]])


def test_what_has_no_form_is_refused_before_anything_is_sent() -> None:
    """Objects of no known kind, local classes, and values that contain themselves."""
    class Local:
        pass

    itself: list[Any] = []
    itself.append(itself)
    for value in (object(), Local(), lambda: 1, itself, "\ud800"):
        with pytest.raises(CodecError):
            pack(value)


def test_a_name_from_a_worker_imports_nothing() -> None:
    """A class whose module is not loaded, and what is no record, are refused."""
    for name in ("antigravity:Thing", "os:system", "memgang.model:nothing"):
        with pytest.raises(CodecError):
            loaded_class(name)
    forged = pack(Note("t")).replace(b"tests.engines.leaves:Note", b"subprocess:Popen.........")
    with pytest.raises(CodecError):
        unpack(forged, loaded_class)


def test_frames_are_cut_where_they_end() -> None:
    """Whatever pieces they come in."""
    buffer, found = bytearray(), []
    for byte in framed(b"one") + framed(b"") + framed(b"two" * 1000):
        buffer.append(byte)
        while (message := unframed(buffer)) is not None:
            found.append(message)
    assert found == [b"one", b"", b"two" * 1000]
