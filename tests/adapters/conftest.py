"""What the tests of adapters share: a space for code without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import memgang


@pytest.fixture
def blocking(space_name: str) -> Iterator[memgang.BlockingSpace]:
    """An empty space of `memgang.connect`, with a short lease."""
    with memgang.connect(space=space_name, agent="tester", lease_ms=1000, beat_ms=250) as space:
        yield space
