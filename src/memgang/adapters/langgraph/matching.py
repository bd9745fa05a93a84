"""Which items and which namespaces are meant: LangGraph's filters and match conditions, on plain values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langgraph.store.base import MatchCondition

Namespace = tuple[str, ...]

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}


def fits(value: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    """Whether an item's value fits all of a filter. ``"user.name"`` is a field of that name, else the ``name`` in ``user``.

    Raises:
        ValueError: the filter has an operator that LangGraph does not document.
    """
    return all(_same(_field(value, field), want) for field, want in (wanted or {}).items())


def _field(value: dict[str, Any], field: str) -> Any:
    found: Any = value
    if field in value or "." not in field:
        return value.get(field)
    for step in field.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _same(found: Any, want: Any) -> bool:
    if isinstance(want, dict):
        if any(isinstance(key, str) and key.startswith("$") for key in want):
            return all(_holds(found, sign, operand) for sign, operand in want.items())
        return isinstance(found, dict) and all(_same(found.get(key), inner) for key, inner in want.items())
    if isinstance(want, list | tuple):
        return (isinstance(found, list | tuple) and len(found) == len(want)
                and all(_same(one, other) for one, other in zip(found, want, strict=True)))
    return bool(found == want)


def _holds(found: Any, sign: str, operand: Any) -> bool:
    if sign == "$eq":
        return bool(found == operand)
    if sign == "$ne":
        return bool(found != operand)
    if sign not in _ORDERED:
        raise ValueError(f"unsupported operator {sign!r}: use one of $eq, $ne, {', '.join(_ORDERED)}")
    if isinstance(found, str) and isinstance(operand, str):
        return _ORDERED[sign](found, operand)
    try:
        return _ORDERED[sign](float(found), float(operand))
    except (TypeError, ValueError):  # what is missing, or no number, is neither more nor less
        return False


def listed(
    namespaces: Iterable[Namespace], conditions: Sequence[MatchCondition] | None, max_depth: int | None, limit: int, offset: int,
) -> list[Namespace]:
    """The namespaces that fit all conditions, cut to the depth, in order, and of these a page."""
    fitting = {
        namespace if max_depth is None else namespace[:max_depth]
        for namespace in namespaces if all(_matches(condition, namespace) for condition in conditions or ())
    }
    return sorted(fitting)[offset:offset + limit]


def _matches(condition: MatchCondition, namespace: Namespace) -> bool:
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    if condition.match_type == "prefix":
        part = namespace[:len(path)]
    elif condition.match_type == "suffix":
        part = namespace[len(namespace) - len(path):]
    else:
        raise ValueError(f"unsupported match type {condition.match_type!r}: use prefix or suffix")
    return all(want in ("*", step) for want, step in zip(path, part, strict=True))
