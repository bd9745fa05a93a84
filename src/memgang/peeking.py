"""A look into a large text without taking all of it: a slice, lines, places where something stands, under a budget.

Pure functions on text. A budget is in tokens, of which nobody here knows how a model would count them: four bytes
of UTF-8 are taken for one, and every count is called estimated.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from memgang.errors import ConfigError

BYTES_PER_TOKEN = 4
AROUND = 80  # characters shown on each side of a match
MATCHES_MAX = 100
# Nothing else ends a line, such as the form feed between two pages or U+2028 in a value of JSON: places are counted so, too.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Piece(msgspec.Struct, frozen=True):
    """A part of a text. ``first`` and ``last`` count lines from 1, or characters from 0 with ``last`` behind the end.

    ``total`` is how many there are in all; ``more`` says that the budget or the end of what was asked cut it off.
    """

    text: str
    first: int
    last: int
    total: int
    more: bool


class Match(msgspec.Struct, frozen=True):
    """A place where a text has what was looked for: its line from 1, its character from 0, and what stands around it."""

    line: int
    at: int
    text: str


def tokens(size: int) -> int:
    """How many tokens so many bytes of text may be: an estimate."""
    return math.ceil(size / BYTES_PER_TOKEN)


def fitting(text: str, budget: int) -> str:
    """The beginning of the text that fits into so many tokens, cut between characters."""
    most = _bytes(budget)
    if len(text) * BYTES_PER_TOKEN <= most:  # no character of UTF-8 has more bytes than that
        return text
    return text[:most].encode("utf-8", "surrogatepass")[:most].decode("utf-8", "ignore")


def characters(text: str, start: int, length: int | None, budget: int) -> Piece:
    """The characters from ``start`` (from 0; negative: from the end), ``length`` of them or as many as fit.

    Raises:
        ConfigError: the length or the budget is below 1.
    """
    if length is not None and length < 1:
        raise ConfigError(f"length={length} must be at least 1 character")
    first = max(0, len(text) + start) if start < 0 else min(start, len(text))
    wanted = text[first:] if length is None else text[first:first + length]
    shown = fitting(wanted, budget)
    return Piece(shown, first, first + len(shown), len(text), first + len(shown) < len(text))


def lines(text: str, first: int, last: int | None, budget: int) -> Piece:
    """The lines from ``first`` to ``last`` (from 1, both in), as many as fit; one that does not fit alone is cut.

    Raises:
        ConfigError: the lines are counted from 1 upwards; the budget is below 1.
    """
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"lines {first} to {last} are none: they are counted from 1, and the last is not before the first")
    all_of_them = _LINE.findall(text)
    wanted = all_of_them[first - 1:last]
    left, taken = _bytes(budget), list[str]()
    for line in wanted:
        size = len(line.encode("utf-8", "surrogatepass"))
        if size > left:
            if not taken:
                taken.append(fitting(line, budget))
            break
        taken.append(line)
        left -= size
    end = first - 1 + len(taken)
    whole = "".join(taken)
    cut = bool(wanted) and len(whole) < sum(len(line) for line in wanted[:len(taken)])
    return Piece(whole, first, end, len(all_of_them), cut or end < len(all_of_them))


def matches(text: str, wanted: str, budget: int) -> tuple[list[Match], int]:
    """Where the text has these words, upper and lower case alike, as many places as fit; and how many there are in all.

    No pattern language: one that a stranger writes can take for ever on a text that another stranger wrote.

    Raises:
        ConfigError: nothing is looked for, or the budget is below 1.
    """
    if not wanted:
        raise ConfigError("there is nothing to look for: give some words")
    left, found, count = _bytes(budget), list[Match](), 0
    # The one character that grows in lower case, by a dot of its own: places behind it would be off.
    lower, needle = (one.replace("\u0130", "i").lower() for one in (text, wanted))
    at, line, counted = lower.find(needle), 1, 0
    while at >= 0:
        count += 1
        line += text.count("\n", counted, at)
        counted = at
        if len(found) < MATCHES_MAX:
            shown = text[max(0, at - AROUND):at + len(wanted) + AROUND]
            size = len(shown.encode("utf-8", "surrogatepass"))
            if size <= left or not found:
                left -= size
                found.append(Match(line, at, fitting(shown, budget)))
        at = lower.find(needle, at + len(needle))
    return found, count


def at_path(value: Any, path: str) -> list[Any]:
    """The values at a path of JSON: ``$.users[0].name``, ``$['odd key']``, ``$.users[*].name``, ``$.users[1:3]``, ``$..name``.

    The part of RFC 9535 without filters. Nothing found is an empty list.

    Raises:
        ConfigError: it is not such a path.
    """
    found = [value]
    for step in _steps(path):
        found = [inner for one in found for inner in _into(one, step)]
    return found


Step = tuple[str, Any]  # "key" name | "index" number | "slice" slice | "all" None | "deep" name


def _steps(path: str) -> list[Step]:
    text = path.strip()
    if not text.startswith("$"):
        raise ConfigError(f"path {path[:80]!r} must begin with $, as in $.users[0].name")
    at, out = 1, list[Step]()
    while at < len(text):
        if text.startswith("..", at):
            end = _name_ends(text, at + 2)
            name, at = text[at + 2:end], end
            out.append(("deep", name))
        elif text[at] == ".":
            end = _name_ends(text, at + 1)
            name, at = text[at + 1:end], end
            out.append(("all", None) if name == "*" else ("key", name))
        elif text[at] == "[":
            quoted = text[at + 1:at + 2] in ("'", '"')
            closing = text[at + 1] + "]" if quoted else "]"
            end = text.find(closing, at + 2 if quoted else at + 1)
            if end < 0:
                raise ConfigError(f"path {path[:80]!r} has a [ that is not closed")
            inside = text[at + 2:end] if quoted else text[at + 1:end]
            out.append(("key", inside) if quoted else _numbered(inside, path))
            at = end + len(closing)
            continue
        else:
            raise ConfigError(f"path {path[:80]!r} is not understood at {text[at:at + 10]!r}")
        if not name:
            raise ConfigError(f"path {path[:80]!r} has a step without a name")
    return out


def _name_ends(text: str, at: int) -> int:
    while at < len(text) and text[at] not in ".[":
        at += 1
    return at


def _numbered(inside: str, path: str) -> Step:
    text = inside.strip()
    if text == "*":
        return "all", None
    try:
        if ":" in text:
            parts = [int(part) if part.strip() else None for part in text.split(":")]
            if len(parts) > 3 or parts[2:] == [0]:
                raise ValueError
            return "slice", slice(*parts)
        return "index", int(text)
    except ValueError:
        raise ConfigError(f"path {path[:80]!r}: [{inside[:40]}] is not a number, a range, * or a quoted name") from None


def _into(value: Any, step: Step) -> list[Any]:
    kind, what = step
    match kind, value:
        case "key", dict():
            return [value[what]] if what in value else []
        case "index", list():
            return [value[what]] if -len(value) <= what < len(value) else []
        case "slice", list():
            return list(value[what])
        case "all", dict():
            return list(value.values())
        case "all", list():
            return list(value)
        case "deep", _:
            return _below(value, what)
    return []


def _below(value: Any, name: str) -> list[Any]:
    """All that is called so, at any depth, outer ones first. Not by calling itself: data from strangers may be deep."""
    out, waiting = list[Any](), [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            out += [inner for key, inner in one.items() if name in (key, "*")]
            waiting += reversed(list(one.values()))
        elif isinstance(one, list):
            out += one if name == "*" else []
            waiting += reversed(one)
    return out


def _bytes(budget: int) -> int:
    if budget < 1:
        raise ConfigError(f"budget={budget} must be at least 1 token")
    return budget * BYTES_PER_TOKEN
