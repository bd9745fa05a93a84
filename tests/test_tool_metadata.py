"""What a tool is, in the names other frameworks use, decides whether its answers are used again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import memgang
from memgang.errors import ConfigError
from tests.gates import Gate


@pytest.mark.parametrize(("marks", "runs"), [
    ({}, 2),
    ({"cacheable": True}, 1),
    ({"cacheable": True, "destructive": True, "volatile": True}, 1),
    ({"cacheable": False, "read_only": True, "idempotent": True}, 2),
    ({"cacheable": False, "reads": ()}, 2),
    ({"destructive": True, "read_only": True, "idempotent": True}, 2),
    ({"volatile": True, "reads": ()}, 2),
    ({"read_only": True, "idempotent": True}, 1),
    ({"read_only": True}, 2),
    ({"idempotent": True}, 2),
    ({"idempotent": True, "reads": ()}, 1),
])
async def test_the_first_mark_that_applies_decides(space: memgang.Space, marks: dict[str, Any], runs: int) -> None:
    """Explicit, then destructive or volatile, then read-only and idempotent, then what it says it reads."""
    ran = []

    @memgang.tool(space, **marks)
    def look(x: int) -> int:
        ran.append(x)
        return x * 2

    assert [await look(2), await look(2)] == [4, 4] and len(ran) == runs


@pytest.mark.parametrize(("marks", "runs"), [({}, 1), ({"destructive": True}, 3), ({"volatile": True}, 3), ({"cacheable": False}, 3)])
async def test_what_must_not_be_shared_runs_for_each_also_at_once(space: memgang.Space, marks: dict[str, Any], runs: int) -> None:
    """Three callers at the same moment: an order sent three times is three orders."""
    gate = Gate()

    @memgang.tool(space, version="1", **marks)
    async def send(x: int) -> int:
        await gate.then(None)()
        return x

    calling = [asyncio.create_task(send(1)) for _ in range(3)]
    await gate.reached()
    gate.open()
    assert await asyncio.gather(*calling) == [1, 1, 1] and gate.runs == runs


async def test_arguments_that_change_nothing_can_be_left_out(space: memgang.Space, tmp_path: Any) -> None:
    """Calls that differ in nothing else are one call; the tool is given them all the same."""
    ran = []

    @memgang.tool(space, cacheable=True, ignored_arg_names=["trace"])
    def look(x: int, trace: str = "") -> int:
        ran.append(trace)
        return x

    assert [await look(1, trace="a"), await look(1, trace="b"), await look(2, "c")] == [1, 1, 2] and ran == ["a", "c"]


async def test_an_argument_to_ignore_that_is_none_is_told_at_once(space: memgang.Space) -> None:
    """By name, where the tool is made."""
    with pytest.raises(ConfigError, match="no argument tracer"):
        memgang.tool(space, ignored_arg_names="tracer")(lambda trace: trace)


async def test_a_gang_makes_tools_of_its_space(space: memgang.Space) -> None:
    """With marks and without; what is not remembered runs again."""
    gang, ran = memgang.Gang(space), list[int]()

    @gang.tool
    def look(x: int) -> int:
        ran.append(x)
        return x

    @gang.tool(read_only=True, idempotent=True)
    def read(x: int) -> int:
        ran.append(-x)
        return x

    assert [await call for call in (look(1), look(1), read(1), read(1))] == [1] * 4 and ran == [1, 1, -1]
