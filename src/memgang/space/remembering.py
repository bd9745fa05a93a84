"""Functions that are recalled instead of repeated, and the options of a recall as they are written."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_type_hints

from memgang.canonical import argument
from memgang.codec import TTL, parse_ttl
from memgang.model import Call, Context
from memgang.recall import Formed, Mode, Recalled, Recaller, Terms
from memgang.settings import Settings
from memgang.versions import version_of

Ask = Callable[[Call, Callable[[], Awaitable[Any]], Formed], Awaitable[Recalled]]


def terms(
    settings: Settings, ttl: TTL, mode: Mode, negative_ttl: TTL, refresh_early: float | bool, stale: TTL
) -> Terms:
    """The options of a recall.

    Raises:
        ConfigError: one of them is none.
    """
    return Terms(
        ttl_ms=settings.answer_ttl_ms if ttl == "default" else parse_ttl(ttl), mode=mode,
        negative_ttl_ms=None if negative_ttl is None else parse_ttl(negative_ttl), refresh_early=refresh_early,
        stale_ms=parse_ttl(stale))


class Remembered:
    """A function that is recalled by its name, its version and its arguments. Lives as long as what it decorates."""

    def __init__(
        self, function: Callable[..., Any], recaller: Recaller, recall: Ask, deps: Sequence[Any], version: str | None,
        plainly: bool,
    ) -> None:
        """``plainly``: an answer of this host may be taken as it is, whatever else there may be."""
        self._function, self._recaller, self._recall, self._plainly = function, recaller, recall, plainly
        self._version = version if version is not None else version_of(function, deps)
        self._title = f"{function.__module__}:{function.__qualname__}"
        self._signature = inspect.signature(function)
        self._returns = _returns(function)
        plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in self._signature.parameters.values())
        self._names = list(self._signature.parameters) if plain else None
        self._awaited = inspect.iscoroutinefunction(function)

    def asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Formed]:
        """The call of these arguments.

        Raises:
            TypeError: the function does not take them.
            CodecError: one of them cannot be part of a call.
        """
        if self._names is not None and not kwargs and len(args) == len(self._names):  # what `bind` would say, sooner
            bound = dict(zip(self._names, args, strict=True))
        else:
            found = self._signature.bind(*args, **kwargs)
            found.apply_defaults()
            bound = found.arguments
        call = Call("function", self._title, self._version, {n: argument(v) for n, v in bound.items()})
        return call, self._recaller.form(call)

    def at_hand(
        self, call: Call, formed: Formed, context: Context, loop: asyncio.AbstractEventLoop | None = None
    ) -> tuple[Any] | None:
        """The value in a tuple, if this host has it. ``loop``: that of the space, where the caller is in another thread."""
        return self._recaller.at_hand(call, formed, context, self._returns, loop) if self._plainly else None

    async def ask(self, call: Call, formed: Formed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value, from wherever it comes."""
        async def compute() -> Any:
            if self._awaited:
                return await self._function(*args, **kwargs)
            return await asyncio.to_thread(self._function, *args, **kwargs)

        result = await self._recall(call, compute, formed)
        return await result.value(self._returns)


def _returns(function: Callable[..., Any]) -> Any:
    """What it says it returns; None where that is a name nobody knows here."""
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
