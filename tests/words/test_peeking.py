"""Peeking: parts of a text under a budget, and paths of JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.errors import ConfigError
from memgang.peeking import at_path, characters, fitting, lines, matches, tokens

TEXT = "".join(f"line {n} of the text\n" for n in range(1, 101))
BOOKS = {"store": {"books": [{"title": "One", "price": 8}, {"title": "Two", "price": 9}, {"title": "Three", "price": 10}], "odd key": 1}}


@given(st.text(), st.integers(1, 50))
def test_what_is_shown_is_a_beginning_and_fits(text: str, budget: int) -> None:
    """A cut text is a prefix, never over its budget, and whole where it fits."""
    shown = fitting(text, budget)

    assert text.startswith(shown)
    assert len(shown.encode()) <= budget * 4
    assert len(text.encode()) > budget * 4 or shown == text


@given(st.text(max_size=300), st.integers(1, 20))
def test_slices_put_together_are_the_text(text: str, budget: int) -> None:
    """Going on where the last slice ended brings every character once."""
    whole, at = "", 0
    while True:
        piece = characters(text, at, None, budget)
        whole, at = whole + piece.text, piece.last
        if not piece.more:
            break
    assert whole == text


def test_lines_are_counted_from_one() -> None:
    """The lines that are asked for, and how many there are."""
    piece = lines(TEXT, 3, 4, 100)

    assert (piece.text, piece.first, piece.last, piece.total, piece.more) == ("line 3 of the text\nline 4 of the text\n", 3, 4, 100, True)
    assert lines(TEXT, 99, None, 100).more is False
    assert lines(TEXT, 1, None, 10).last == 2  # two of them have 38 bytes


def test_a_line_that_does_not_fit_is_cut_and_says_so() -> None:
    """One line of a megabyte is not given whole because it is one line."""
    piece = lines("x" * 1000, 1, None, 10)

    assert (len(piece.text), piece.more) == (40, True)


def test_places_are_found_with_their_line() -> None:
    """Upper and lower case alike; all are counted, those that fit are shown."""
    found, total = matches(TEXT, "LINE 42", 100)

    assert (total, found[0].line) == (1, 42)
    assert TEXT[found[0].at:].startswith("line 42")
    few, all_of_them = matches(TEXT, "line", 50)
    assert (all_of_them, 0 < len(few) < 100) == (100, True)


def test_a_letter_that_grows_in_lower_case_hides_nothing_and_moves_nothing() -> None:
    """One dotted capital I in a text, and the rest of it is still found in upper and lower case, where it stands."""
    text = "\u0130stanbul \u0130zmir: an ERROR"
    found, total = matches(text, "error", 100)

    assert (total, text[found[0].at:]) == (1, "ERROR")
    assert matches(text, "\u0130STANBUL", 100)[1] == matches(text, "istanbul", 100)[1] == 1
    assert all(len(chr(point).replace("\u0130", "i").lower()) == 1 for point in range(0x110000))


@pytest.mark.parametrize("mark", ["\f", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_a_place_is_in_the_line_it_is_said_to_be_in(mark: str) -> None:
    """Whatever other marks the text holds between its lines: a search and a look at lines count the same."""
    text = f"one{mark}still one\nthe needle\nlast"
    [match], _ = matches(text, "needle", 100)

    assert lines(text, match.line, match.line, 100).text == "the needle\n"


@pytest.mark.parametrize(("path", "values"), [
    ("$.store.books[0].title", ["One"]), ("$.store.books[-1].title", ["Three"]), ("$.store.books[*].price", [8, 9, 10]),
    ("$.store.books[1:].title", ["Two", "Three"]), ("$..title", ["One", "Two", "Three"]), ("$.store['odd key']", [1]),
    ('$["store"]["books"][0]["price"]', [8]), ("$.nothing.here", []), ("$.store.books[9]", []), ("$", [BOOKS]),
])
def test_paths_lead_to_values(path: str, values: list[object]) -> None:
    """The documented forms of a path."""
    assert at_path(BOOKS, path) == values


@pytest.mark.parametrize("path", ["", "store", "$.", "$[", "$[x]", "$['a", "$x", "$[1:2:0]", "$[1:2:3:4]", "$.."])
def test_a_wrong_path_is_named(path: str) -> None:
    """What is no path is refused and shown."""
    with pytest.raises(ConfigError, match="path"):
        at_path(BOOKS, path)


def test_deep_data_does_not_overflow_the_stack() -> None:
    """A value of a thousand levels is walked like any other."""
    value: object = {"x": 1}
    for _ in range(100_000):
        value = [value]

    assert at_path(value, "$..x") == [1]


@pytest.mark.parametrize("wrong", [
    lambda: characters("a", 0, 0, 1), lambda: characters("a", 0, 1, 0), lambda: lines("a", 0, None, 1), lambda: lines("a", 3, 2, 1),
    lambda: matches("a", "", 1),
])
def test_wrong_numbers_are_refused(wrong) -> None:
    """Nothing is guessed where a number makes no sense."""
    with pytest.raises(ConfigError):
        wrong()


def test_tokens_are_an_estimate_that_never_is_zero_for_something() -> None:
    """Four bytes for one, rounded up."""
    assert [tokens(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert json.dumps(tokens(10)) == "3"
