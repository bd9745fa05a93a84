"""Functions that are recalled instead of repeated, and the options of a recall as they are written."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_type_hints

from memgang.canonical import argument
from memgang.codec import TTL, parse_ttl
from memgang.model import Call
from memgang.recall import Mode, Recalled, Terms
from memgang.settings import Settings
from memgang.versions import version_of

Ask = Callable[[Call, Callable[[], Awaitable[Any]]], Awaitable[Recalled]]


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


def remembered(function: Callable[..., Any], recall: Ask, deps: Sequence[Any], version: str | None) -> Callable[..., Any]:
    """The function, awaited, recalled by its name, its version and its arguments."""
    known = version if version is not None else version_of(function, deps)
    title, signature = f"{function.__module__}:{function.__qualname__}", inspect.signature(function)
    returns = _returns(function)

    @functools.wraps(function)
    async def recalled(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        call = Call("function", title, known, {n: argument(v) for n, v in bound.arguments.items()})

        async def compute() -> Any:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            return await asyncio.to_thread(function, *args, **kwargs)

        result = await recall(call, compute)
        return await result.value(returns)

    return recalled


def _returns(function: Callable[..., Any]) -> Any:
    """What it says it returns; None where that is a name nobody knows here."""
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
