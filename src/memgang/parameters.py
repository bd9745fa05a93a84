"""What an agent's parameters want: references where they are annotated ``Ref``, else the values behind them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from memgang.canonical import argument
from memgang.errors import ConfigError
from memgang.model import Ref
from memgang.space import Space

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What one parameter wants. ``whole`` and ``item`` are the classes to decode to; None: as stored."""

    references: bool
    whole: Any = None
    item: Any = None


class Parameters:
    """The parameters of one function, looked at once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        hints = {name: _hint(function, p.annotation) for name, p in self._signature.parameters.items()}
        self.wanted = {name: _wanted(hint, self._signature.parameters[name]) for name, hint in hints.items()}
        self.returns = record_type(_hint(function, self._signature.return_annotation))
        kinds = [p.kind for p in self._signature.parameters.values()]
        fixed = all(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)
        self._names: tuple[str, ...] | None = tuple(self.wanted) if fixed else None

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter, defaults put in, so that ``f(1)`` and ``f(x=1)`` are one call.

        Raises:
            TypeError: they do not fit, in the words Python has for it.
        """
        names = self._names
        if names is not None and not kwargs and len(args) == len(names):
            return dict(zip(names, args, strict=True))
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def canonical(self, bound: dict[str, Any]) -> dict[str, Any]:
        """The arguments as a call holds them."""
        return {name: argument(value) for name, value in bound.items()}

    async def opened(self, space: Space, bound: dict[str, Any]) -> dict[str, Any]:
        """The arguments with the value in place of each reference, where the value is wanted."""
        return {name: value if self.wanted[name].references else await _opened(space, value, self.wanted[name])
                for name, value in bound.items()}

    def given(self, bound: dict[str, Any]) -> list[Ref]:
        """The references that are handed on as references."""
        return list(dict.fromkeys(
            ref for name, value in bound.items() if self.wanted[name].references for ref in references(value)))

    def spread(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as the function takes them."""
        bound = inspect.BoundArguments(self._signature, typing.cast("Any", values))
        return list(bound.args), bound.kwargs


def references(value: Any) -> Iterator[Ref]:
    """All references in a value made of lists, tuples, sets and dicts."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)


def record_type(hint: Any) -> Any:
    """The annotation, if a record class is in it, so that decoding needs it; else None."""
    if isinstance(hint, type) and not typing.get_args(hint):
        record = issubclass(hint, msgspec.Struct) or dataclasses.is_dataclass(hint) or hasattr(hint, "model_fields")
        return hint if record else None
    if any(record_type(inner) is not None for inner in typing.get_args(hint)):
        return hint
    return None


async def _opened(space: Space, value: Any, wanted: Wanted) -> Any:
    if isinstance(value, Ref):
        return await space.get(value, wanted.whole)
    if isinstance(value, list | tuple) and any(isinstance(item, Ref) for item in value):
        at = [place for place, item in enumerate(value) if isinstance(item, Ref)]
        filled = list(value)
        for place, found in zip(at, await space.get_many([value[p] for p in at], wanted.item), strict=True):
            filled[place] = found
        return filled if isinstance(value, list) else tuple(filled)
    if isinstance(value, dict) and any(isinstance(item, Ref) for item in value.values()):
        names = [name for name, item in value.items() if isinstance(item, Ref)]
        found = await space.get_many([value[name] for name in names], wanted.item)
        return value | dict(zip(names, found, strict=True))
    return value


def _wanted(hint: Any, parameter: inspect.Parameter) -> Wanted:
    if _names_ref(hint):
        return Wanted(references=True)
    if parameter.kind in _VARIADIC:  # the annotation is that of each item
        return Wanted(references=False, item=record_type(hint))
    inner = [a for a in typing.get_args(hint) if a is not type(None) and a is not Ellipsis]
    if (len(inner) == 1 and isinstance(hint, types.UnionType)) or typing.get_origin(hint) is typing.Union:
        inner = list(typing.get_args(inner[0])) if len(inner) == 1 else []  # list[Note] | None: look inside
    return Wanted(references=False, whole=record_type(hint), item=record_type(inner[-1]) if inner else None)


def _names_ref(hint: Any) -> bool:
    if isinstance(hint, str):  # cannot be resolved: a class defined inside a function
        return re.search(r"\bRef\b", hint) is not None
    if isinstance(hint, type) and not typing.get_args(hint):
        return issubclass(hint, Ref)
    return any(_names_ref(inner) for inner in typing.get_args(hint))


def _hint(function: Callable[..., Any], annotation: Any) -> Any:
    """The annotation as a type; as text where it names something that cannot be seen from the module."""
    if not isinstance(annotation, str):
        return annotation
    while isinstance(function, functools.partial):
        function = function.func
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}))["it"]
    except (NameError, AttributeError, TypeError):
        return annotation
    except SyntaxError as error:
        raise ConfigError(f"the annotation {annotation!r} is not an expression") from error
