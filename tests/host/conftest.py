"""A tier by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memgang.store.host import Tier


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[Tier]:
    """A tier by itself, which says that it is live."""
    made = Tier(tmp_path, 16 << 20)
    made.flags.live = time.monotonic() + 3600
    yield made
    made.close()
