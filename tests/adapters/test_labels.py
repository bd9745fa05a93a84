"""Any text can be a step of a name, and comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.adapters.labels import below, packed, unpacked
from memgang.errors import CodecError
from memgang.store.keys import check_name

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(texts, min_size=1, max_size=6))
def test_a_path_comes_back_from_its_name_as_it_was(path: list[str]) -> None:
    """Whatever is in it, the name is one that MemGang takes, lies below the path's beginning, and says the path."""
    name = packed("store", path)

    assert check_name(name) == name
    assert unpacked("store", name) in (tuple(path), None)
    assert name.startswith(below("store", path[:-1]) if path[:-1] else "store/")


@given(st.lists(texts, min_size=1, max_size=9), st.lists(texts, min_size=1, max_size=9))
def test_different_paths_have_different_names(one: list[str], other: list[str]) -> None:
    """Also those that are too deep or too long to be read back."""
    assert (packed("store", one) == packed("store", other)) == (one == other)


@pytest.mark.parametrize("path", [["."], [".."], [""], ["_"], ["_-"], ["_2e"], ["a/b"], ["ü"], ["\x00"]])
def test_what_names_do_not_allow_is_written_out(path: list[str]) -> None:
    """Dots, slashes, what looks like an escape, and nothing at all come back as they were."""
    assert unpacked("store", packed("store", path)) == tuple(path)


@pytest.mark.parametrize("path", [["x" * 65], ["a"] * 8])
def test_what_is_too_long_or_too_deep_is_folded(path: list[str]) -> None:
    """Its name has a fixed length and says nothing; the object has to."""
    name = packed("store", path)

    assert name.startswith("store/_/") and unpacked("store", name) is None


def test_half_a_surrogate_pair_is_refused_with_the_key() -> None:
    """It has no UTF-8, and so no name."""
    with pytest.raises(CodecError, match="surrogate"):
        packed("store", ["\ud800"])
