"""A tier by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memgang.store.host import Tier
from memgang.store.host.tier import KEEP_S, Place


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[Tier]:
    """A tier by itself, which says that it is live."""
    made = Tier(tmp_path, 16 << 20)
    made.flags.live = time.monotonic() + 3600
    yield made
    made.close()


async def written() -> None:
    """What was kept by now is written: of two timers the one that ends later is carried out later."""
    await asyncio.sleep(2 * KEEP_S)


def place(tier: Tier) -> Place:
    """How far the log of changes of the first shard was read."""
    return tier.places(["a00"])[0]["a00"]
