"""Concurrent operations on one key look as if they had been done one after the other."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from memgang.errors import Conflict, Fenced, UnknownReference
from memgang.model import NO_USAGE, Answered, Claimed, Follow, Ref
from memgang.space import Space
from memgang.store import scripts
from tests.protocol.linearize import History, Operation, linear

SOAK = bool(os.environ.get("MEMGANG_SOAK"))
SEED = int(os.environ.get("MEMGANG_SEED", "1"))
WINDOWS, TASKS, TURNS = (1000 if SOAK else 40), 6, 25  # 150 operations a window


# ── what each kind of thing should do ──────────────────────────────────────────────────────────


def an_object(state: Hashable, what: str, asked: Any, result: Any) -> Hashable | None:
    """Present or absent."""
    match what:
        case "put":
            return "here"
        case "get":
            return state if result == (state == "here") else None
        case "forget":
            return "absent" if result == (state == "here") else None
    raise AssertionError(what)


def a_name(state: Hashable, what: str, asked: Any, result: Any) -> Hashable | None:
    """(version, reference), written by compare-and-set."""
    assert isinstance(state, tuple)
    version, _ = state
    if what == "read":
        return state if result == state else None
    wanted, expect = asked
    if result[0] == "conflict":
        return state if expect not in (None, version) and result[1:] == state else None
    return (result[1], wanted) if expect in (None, version) and result[1] > version else None


def a_call(state: Hashable, what: str, asked: Any, result: Any) -> Hashable | None:
    """(absent | running | done, owner, fence, answer)."""
    assert isinstance(state, tuple)
    now, owner, fence, answer = state
    match what, result[0]:
        case "claim", "answered":
            return state if now == "done" and result[1:] == (answer, fence) else None
        case "claim", "follow":
            return state if now == "running" and owner != asked and result[1] == fence else None
        case "claim", "claimed":
            return ("running", asked, result[1], "") if now == "absent" and result[1] > fence else None
        case "commit", "committed":
            return ("done", owner, fence, asked[2]) if now == "running" and (owner, fence) == asked[:2] else None
        case "commit", "fenced":
            return state if (owner, fence) != asked[:2] or now == "absent" else None
        case "drop", _:
            # Of a call that is not there a refused commit leaves a note, so that it is counted once: that may go as well.
            return ("absent", "", fence, "") if result[0] or now == "absent" else None
    return None


# ── histories ──────────────────────────────────────────────────────────────────────────────────


async def together(work: Callable[[int], Any]) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(work(task) for task in range(TASKS)))


async def object_history(spaces: list[Space], luck: random.Random, number: int) -> tuple[list[Operation], Hashable]:
    history, text = History(), f"text {number}"
    ref = await spaces[0].put(text)
    await spaces[0].forget(ref)

    async def there(space: Space) -> bool:
        try:
            return bool(await space.get(ref) == text)
        except UnknownReference:
            return False

    async def work(task: int) -> None:
        space = spaces[task % len(spaces)]
        for _ in range(TURNS):
            match luck.choice(("put", "put", "get", "get", "forget")):
                case "put":
                    await history.record("put", None, space.put(text))
                case "get":
                    await history.record("get", None, there(space))
                case _:
                    await history.record("forget", None, _forgotten(space, ref))

    await together(work)
    return history.operations, "absent"


async def _forgotten(space: Space, ref: Ref) -> bool:
    return bool(await space.forget(ref))


async def name_history(spaces: list[Space], luck: random.Random, number: int) -> tuple[list[Operation], Hashable]:
    history, name = History(), f"name{number}"
    refs = [await spaces[0].put(f"text {n}") for n in range(3)]

    async def write(space: Space, ref: Ref, expect: int | None) -> tuple[Any, ...]:
        try:
            return "named", await space.set_name(name, ref, expect=expect)
        except Conflict as conflict:
            return "conflict", conflict.version, conflict.ref or ""

    async def read(space: Space) -> tuple[int, str]:
        found = await space.version(name)
        return (found.version, found.ref or "") if found else (0, "")

    async def work(task: int) -> None:
        space, seen = spaces[task % len(spaces)], 0
        for _ in range(TURNS):
            if luck.random() < 0.5:
                seen = (await history.record("read", None, read(space)))[0]
            else:
                asked = luck.choice(refs), luck.choice((None, seen, seen))
                await history.record("write", asked, write(space, *asked))

    await together(work)
    return history.operations, (0, "")


async def call_history(spaces: list[Space], luck: random.Random, number: int) -> tuple[list[Operation], Hashable]:
    history, call = History(), f"{number:032d}".translate(str.maketrans("0123456789", "abcdefghij"))
    refs = [await spaces[0].put(f"answer {n}", keep=False) for n in range(3)]

    async def claim(space: Space, owner: str) -> tuple[Any, ...]:
        s = space.store
        outcome = await scripts.claim(s.wire, s.keys, call, who="u/t", note=b"", owner=owner, inc="i", lease_ms=600_000,
                                      attempts=3, hold_ms=600_000)
        match outcome:
            case Answered():
                return "answered", outcome.ref, outcome.fence
            case Follow():
                return "follow", outcome.fence
            case Claimed():
                return "claimed", outcome.fence
        raise AssertionError(outcome)

    async def commit(space: Space, owner: str, fence: int, ref: Ref) -> tuple[Any, ...]:
        s = space.store
        command = scripts.commit_command(s.keys, call, who="u/t", note=b"", owner=owner, fence=fence, answer=ref, ttl_ms=0,
                                         own=NO_USAGE, validator=b"", usage=NO_USAGE)
        try:
            await scripts.commit(s.wire, command, call, fence)
            return ("committed",)
        except Fenced:
            return ("fenced",)

    async def drop(space: Space) -> tuple[bool]:
        s = space.store
        gone = await scripts.drop(s.wire, s.keys, s.keys.shard_of(call), [(call, "")], who="u/t", note=b"", reason="test")
        return (gone[0] is not None,)

    async def work(task: int) -> None:
        space = spaces[task % len(spaces)]
        for turn in range(TURNS):
            if luck.random() < 0.15:
                await history.record("drop", None, drop(space))
                continue
            owner = f"{task}.{turn}"
            outcome = await history.record("claim", owner, claim(space, owner))
            if outcome[0] == "claimed":
                if luck.random() < 0.3:
                    await asyncio.sleep(0.002)  # now and then long enough to be dropped meanwhile
                ref = luck.choice(refs)
                await history.record("commit", (owner, outcome[1], ref), commit(space, owner, outcome[1], ref))

    await together(work)
    return history.operations, ("absent", "", 0, "")


@pytest.mark.catalogue("B2")
@pytest.mark.parametrize("make, spec", [(object_history, an_object), (name_history, a_name), (call_history, a_call)],
                         ids=["object", "name", "call"])
async def test_what_is_done_at_once_could_have_been_done_in_some_order(opened: Callable[..., Any], make: Any, spec: Any) -> None:
    """Tasks of two spaces on connections of their own; every window has an order that explains all results."""
    async with opened() as one, opened() as other:
        overlapping = 0
        for window in range(WINDOWS):
            luck = random.Random(SEED * 10_000 + window)
            operations, first = await make([one, other], luck, SEED * 10_000 + window)
            overlapping += sum(b.began < a.ended for a, b in zip(operations, operations[1:], strict=False))
            assert linear(operations, first, spec), f"seed {SEED}, window {window}: no order explains {operations}"
        assert overlapping > WINDOWS * 10, "they were done one after the other: nothing was tested"
        print(f"{WINDOWS} windows from seed {SEED}, {overlapping} pairs at once")


def test_a_history_that_no_order_explains_is_found() -> None:
    """A read that misses what was put before it began, and one version given to two writers."""
    lost = [Operation("put", None, None, 0, 1), Operation("get", None, False, 2, 3)]
    twice = [Operation("write", ("a", None), ("named", 5), 0, 2), Operation("write", ("b", None), ("named", 5), 1, 3)]

    assert not linear(lost, "absent", an_object)
    assert not linear(twice, (0, ""), a_name)
    assert linear([*lost, Operation("forget", None, True, 0, 9)], "absent", an_object)
