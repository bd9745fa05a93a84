"""The catalogue of promises has a test for every line, and no test stands for a line that is not there."""

from __future__ import annotations

from tests.catalogue import LINES, marked


def test_every_line_of_the_catalogue_has_a_test() -> None:
    """A promise nobody tests is a wish."""
    missing = sorted(set(LINES) - {line for line, _, _ in marked()})

    assert not missing, f"no test is marked with {', '.join(missing)}"


def test_no_test_stands_for_a_line_that_is_not_there() -> None:
    """A mark with a slip of the pen would count for nothing."""
    unknown = sorted({(line, name) for line, _, name in marked()} - {(line, name) for line, _, name in marked() if line in LINES})

    assert not unknown
