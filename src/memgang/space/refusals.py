"""Refusals are events too."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from memgang.errors import Conflict, IntegrityError, MemGangError, StoreFull, TooLarge
from memgang.model import Context
from memgang.store.store import Store

T = TypeVar("T")

REFUSALS = (Conflict, StoreFull, TooLarge, IntegrityError)


async def guarded(store: Store, context: Context, work: Awaitable[T]) -> T:
    """Run a write; a refusal goes into the log."""
    try:
        return await work
    except REFUSALS as error:
        refused(store, context, error)
        raise


def refused(store: Store, context: Context, error: MemGangError, ident: str = "") -> None:
    """Log the class of an error: never its text, which may hold what the caller wrote."""
    store.log.add("refused", context, obj=ident, text=type(error).__name__)
