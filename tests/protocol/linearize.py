"""Is a history of concurrent operations one that a single thread could have made? The search of Wing and Gong, with memo.

J. M. Wing, C. Gong: Testing and Verifying Concurrent Objects, JPDC 1993; the memo of states already tried with the
same operations done is G. Lowe's: Testing for Linearizability, CCPE 2017.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

# What an operation does to a state: the state after it, or None where it cannot have had this result there.
Spec = Callable[[Hashable, str, Any, Any], Hashable | None]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what was asked, what came back, and between which ticks."""

    what: str
    asked: Any
    result: Any
    began: int
    ended: int


class History:
    """Records operations of concurrent tasks by one counter of ticks."""

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self.operations: list[Operation] = []

    async def record(self, what: str, asked: Any, work: Awaitable[Any]) -> Any:
        """Await the work and note it down."""
        began = next(self._ticks)
        result = await work
        self.operations.append(Operation(what, asked, result, began, next(self._ticks)))
        await asyncio.sleep(0)
        return result


def linear(operations: Sequence[Operation], first: Hashable, spec: Spec) -> bool:
    """Whether some order of the operations, in which none comes before one that had ended when it began, fits the spec."""
    ops = sorted(operations, key=lambda op: op.began)
    everything = (1 << len(ops)) - 1
    tried: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Hashable]] = [(0, first)]
    while stack:
        done, state = stack.pop()
        if done == everything:
            return True
        earliest = min(op.ended for i, op in enumerate(ops) if not done >> i & 1)
        for i, op in enumerate(ops):
            if done >> i & 1:
                continue
            if op.began > earliest:
                break  # it began after another, not yet placed, had ended
            after = spec(state, op.what, op.asked, op.result)
            if after is not None and (form := (done | 1 << i, after)) not in tried:
                tried.add(form)
                stack.append(form)
    return False
