"""Streams for code without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import memgang
from tests.streaming.taps import call


def test_a_plain_loop_reads_a_stream(space_name: str) -> None:
    """Piece by piece, may break off, and finds the answer afterwards."""
    runs = 0

    async def produce() -> AsyncIterator[str]:
        nonlocal runs
        runs += 1
        for piece in "abc":
            yield piece

    with memgang.connect(space=space_name) as space:
        for piece in space.stream(call(), produce):
            assert piece == "a"
            break
        assert "".join(map(str, space.stream(call(), produce))) == "abc" == "".join(map(str, space.stream(call(), produce)))
    assert runs == 1
