"""Pools and engines that are closed with their test, and a look at whether any worker is left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable

import pytest

from memgang.engines import child
from memgang.engines.pool import Pool
from memgang.engines.processes import ProcessesEngine


@pytest.fixture
async def pool() -> AsyncIterator[Callable[[int], Pool]]:
    """Makes pools of so many workers."""
    made: list[Pool] = []

    def make(size: int) -> Pool:
        made.append(Pool(size))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()
    child.end_all()


@pytest.fixture
async def engine() -> AsyncIterator[ProcessesEngine]:
    """An engine of two workers."""
    made = ProcessesEngine(2)
    yield made
    await made.aclose()
    child.end_all()


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] != b"Z"
    return True
