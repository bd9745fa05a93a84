"""Work in a thread that is seen through to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def through(work: Callable[[], T]) -> T:
    """In a thread, and to its end: who is cancelled must not free the lock while the thread still writes."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
