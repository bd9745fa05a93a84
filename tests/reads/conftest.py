"""What tests of remembered reads share: origins, and readers that may ask them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import memgang
from memgang.reads import Manners, Reads
from tests.reads.origin import Origin, Running


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A web server of this test."""
    with Running() as origin:
        yield origin


@pytest.fixture
async def reads(space: memgang.Space, origin: Origin) -> AsyncIterator[Reads]:
    """Reads that may ask this test's origin, although it is not public."""
    async with Reads(space, Manners(allow=[origin.host])) as reads:
        yield reads
