"""Streams that refuse the answer there is, and what a door asks of a space beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from memgang.errors import ConfigError
from memgang.model import Call
from memgang.space import Space

CALL = Call("function", "tests:anew", "1", {"what": "plan"})


async def test_a_stream_asked_anew_replaces_the_answer_and_is_shown_to_nobody_else(space: Space) -> None:
    """Who takes the old answer while the new one is made is given the old one whole, or the new one; never a piece of each."""
    gate, made = asyncio.Event(), 0

    async def produce() -> AsyncIterator[bytes]:
        nonlocal made
        made += 1
        yield b"%d " % made
        if made > 1:
            await gate.wait()
        yield b"end"

    async def read(mode: str = "share") -> bytes:
        return b"".join([piece async for piece in space.stream(CALL, produce, mode=mode)])  # type: ignore[misc, arg-type]

    assert await read() == b"1 end"
    anew = space.stream(CALL, produce, mode="refresh")
    assert await anext(aiter(anew)) == b"2 "
    others = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.wait(others, timeout=0.2)
    gate.set()

    assert {await other for other in others} <= {b"1 end", b"2 end"}
    assert b"".join([piece async for piece in anew]) == b"end" and await read() == b"2 end" and made == 2


async def test_a_stream_for_one_caller_alone_is_refused(space: Space) -> None:
    """There would be nobody to follow it."""
    async def produce() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(ConfigError):
        space.stream(CALL, produce, mode="private")


async def test_settling_waits_for_work_whose_caller_has_left(space: Space) -> None:
    """Afterwards its answer is there, and at hand."""
    gate = asyncio.Event()

    async def work() -> bytes:
        await gate.wait()
        return b"done"

    caller = asyncio.create_task(space.recall(CALL, work))
    await asyncio.wait([caller], timeout=0.1)
    caller.cancel()
    settled = asyncio.create_task(space.settle())
    await asyncio.wait([settled], timeout=0.1)
    assert not settled.done()
    gate.set()
    await settled

    async def never() -> bytes:
        raise AssertionError("it is there")

    found = await space.recall(CALL, never)
    assert await found.value() == b"done" and found.how == "hit"
