"""The tree of errors is the one drawn, and every error survives a journey to another process."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from memgang import errors
from memgang.errors import MemGangError, status_of

# One example of each, with arguments as they are used. A new class has to be added here, or the first test fails.
EXAMPLES: dict[str, tuple[Any, ...]] = {
    "MemGangError": ("something",),
    "ConfigError": ("lease_ms=0 must be greater than 0",),
    "CodecError": ("no media type",),
    "UnknownReference": ("reports/q3",),
    "ObjectLost": ("mg:x", "its body is gone"),
    "IntegrityError": ("mg:x", "mg:y"),
    "Conflict": ("reports/q3", 1, 2, "mg:x"),
    "ClaimLost": ("port/login", "running", "ana"),
    "LeaseLost": ("abc", 1, 2),
    "Fenced": ("abc", 1, 2),
    "StreamRestarted": ("abc", 120),
    "WorkFailed": ("summarise", "transient", "TimeoutError", "too slow", 3),
    "ReadError": ("a.pdf", "no such file"),
    "ModelError": ("gpt-5-mini", "transient", "429", "slow down", 2.5),
    "BudgetExceeded": ("gpt-5-mini", "run 7", 900_000, 50_000, 1_000_000, 60_000),
    "AllowanceExceeded": ("planner", "money", 900_000, 50_000, 1_000_000, 0.0, 1.0),
    "TooLarge": ("the body", 2_000, 1_000),
    "CallTooLarge": ("this call", 12_000, 10_000),
    "StoreFull": ("the body", 2_000, 1_000),
    "LogBroken": ("line 3 of the seal file is not a seal",),
    "StoreUnavailable": ("no server",),
    "ServerUnfit": ("too old",),
}


def classes() -> dict[str, type[MemGangError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, MemGangError)
    }


def drawn() -> dict[str, str]:
    """Each class in the drawing with its parent."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│ ]*)(?:[├└]── )?([A-Z]\w+)(?: {2,}|$)", line):
            depth = 0 if match[2] == "MemGangError" else len(match[1]) // 4 + 1
            above[depth:] = [match[2]]
            parents[match[2]] = above[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_drawn_is_the_tree_there_is() -> None:
    """The drawing at the head of errors.py names every class, under its parent, and no other."""
    assert drawn() == {name: found.__base__.__name__ for name, found in classes().items() if found.__base__}
    assert set(EXAMPLES) == set(classes())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_error_is_rebuilt_from_its_args(name: str) -> None:
    """Class and args are enough to make the same error elsewhere, with the same message and fields."""
    error = classes()[name](*EXAMPLES[name])
    again = type(error)(*error.args)
    assert str(again) == str(error) and vars(again) == vars(error) and again.args == error.args
    assert all(isinstance(item, str | int | float) for item in error.args)
    assert all(
        str(item) in str(error) or f"{item:,}" in str(error) or item in (2.5, "transient")
        or name in ("WorkFailed", "BudgetExceeded", "AllowanceExceeded")  # the last two speak of dollars
        for item in error.args
        if not isinstance(item, str)
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_message_is_a_finished_sentence(name: str) -> None:
    """No braces left over from formatting, no class names of Python, and the hint comes behind it."""
    error = classes()[name](*EXAMPLES[name])
    assert str(error) and error.explain().startswith(str(error))
    for text in (str(error), error.hint, error.explain()):
        assert "{" not in text and "}" not in text and "None" not in text and "object at" not in text
    assert error.explain().endswith(error.hint)


def test_defaults_leave_whole_sentences() -> None:
    """Errors made with the fewest arguments read well too."""
    assert str(errors.UnknownReference("x")) == "cannot resolve 'x': nothing is stored under it, or it has expired"
    assert str(errors.Conflict("n", 3, 0, "")) == "name 'n' was expected at version 3 but is absent"
    assert str(errors.StoreFull("the body", 0, 0)) == "no room for the body: the server is out of memory"
    assert "may succeed" in errors.WorkFailed("f", "transient", "X", "y").hint
    assert "not help" in errors.WorkFailed("f", "permanent", "X", "y").hint


@pytest.mark.parametrize(("code", "status"), [
    ("429", 429), ("200", 200), ("", None), ("timeout", None), ("\u00b2", None), ("40\u00b2", None), ("\u0664\u0660\u0660", None),
    ("429 rate_limit", None), ("-12", None), ("9" * 5000, None)])
def test_a_code_is_a_status_only_where_it_is_a_number_of_three_digits(code: str, status: int | None) -> None:
    """A server may say anything; nothing of it raises."""
    assert status_of(code) == status


def test_catching_the_parent_catches_the_child() -> None:
    """Who handles a lost lease handles a fenced commit; who handles an unknown reference handles a lost object."""
    assert issubclass(errors.Fenced, errors.LeaseLost) and issubclass(errors.ObjectLost, errors.UnknownReference)
    assert issubclass(errors.ServerUnfit, errors.StoreUnavailable)
