"""Errors by class: who is told, for how long, and when it is tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.gates import Gate, raws, ready

from memgang.errors import Fenced, ModelError, StoreUnavailable, WorkFailed
from memgang.model import NO_USAGE, Call, Claimed
from memgang.recall.failures import classified, pause_ms, redacted, retold, told
from memgang.space import Space
from memgang.store import scripts
from memgang.store.process import incarnation

pytestmark = pytest.mark.core


def call(what: object = "plan") -> Call:
    return Call("function", "tests:failures", "1", {"what": what})


async def test_a_failure_is_remembered_for_as_long_as_the_call_says(space: Space) -> None:
    """negative_ttl of this call, not of the settings: an hour is told to all, a moment is over soon."""
    with pytest.raises(WorkFailed):
        await space.recall(call(1), ready(ValueError("no")), negative_ttl="1h")
    with pytest.raises(WorkFailed):
        await space.recall(call(2), ready(ValueError("no")), negative_ttl=0.01)
    assert int(await space.store.wire.call("HGET", space.store.keys.flight(space.key(call(1))), "pause")) == 3_600_000
    await asyncio.sleep(0.05)
    with pytest.raises(WorkFailed):
        await space.recall(call(1), ready("never"))
    assert await (await space.recall(call(2), ready("there"))).value() == "there"


async def test_nobody_tries_again_before_the_other_side_wants_it(opened: Callable[..., Any]) -> None:
    """Retry-After of the leader's model holds for its followers in other processes too."""
    async with opened() as one, opened() as two:
        gate, runs = Gate(), list[float]()

        async def busy() -> str:
            runs.append(time.monotonic())
            if len(runs) == 1:
                return str(await gate.then(ModelError("m", "transient", "429", "slow down", retry_after_s=0.7))())
            return "there"

        leading = asyncio.create_task(one.recall(call(), busy))
        await gate.reached()
        following = asyncio.create_task(two.recall(call(), busy))
        began = time.monotonic()
        gate.open()
        assert {await (await t).value() for t in (leading, following)} == {"there"}
        assert len(runs) == 2 and runs[1] - began >= 0.7


async def test_a_failure_of_who_was_overtaken_is_nobodys(opened: Callable[..., Any]) -> None:
    """It fails for good after somebody newer has begun: it follows that one, and its caller gets the answer."""
    slow, quick = Gate(), Gate()
    async with opened(lease_ms=20_000_000, beat_ms=3_600_000) as first, opened() as second:
        late = asyncio.create_task(first.recall(call(), slow.then(ValueError("no"))))
        await slow.reached()
        await second.store.wire.call("HSET", second.store.keys.flight(second.key(call())), "until", 1)
        newer = asyncio.create_task(second.recall(call(), quick.then("new")))
        await quick.reached()
        slow.open()
        await asyncio.sleep(0)
        quick.open()
        assert await (await newer).value() == "new"
        assert await (await late).value() == "new"
        assert "failed" not in await raws(second)


async def test_a_refusal_that_is_repeated_is_counted_once(space: Space) -> None:
    """A commit whose reply was lost and that goes again: one event, one in the totals; also where the flight is gone."""
    wire, keys = space.store.wire, space.store.keys
    ref = await space.put("value")

    def commit(what: str, fence: int) -> Any:
        return scripts.commit(wire, scripts.commit_command(
            keys, space.key(call(what)), who="p/late", note=b"{}", owner="late", fence=fence, answer=ref, ttl_ms=1000,
            own=NO_USAGE, validator=b"", usage=NO_USAGE), space.key(call(what)), fence)

    async def refused(what: str, fence: int, times: int) -> None:
        for _ in range(times):
            with pytest.raises(Fenced):
                await commit(what, fence)

    newer = await scripts.claim(wire, keys, space.key(call("led")), who="p/newer", note=b"{}", owner="newer",
                                inc=incarnation(), lease_ms=60_000, attempts=3, hold_ms=60_000)
    assert isinstance(newer, Claimed)
    await refused("led", 5, 3)
    await refused("gone", 5, 3)
    assert (await space.stats())["fenced"] == 2
    await refused("led", 6, 1)
    assert (await space.stats())["fenced"] == 3
    events = [e for e in await wire.call("XRANGE", keys.at(0, "a"), "-", "+") if b"fenced" in e[1]]
    assert len(events) == 3
    assert int(await wire.call("PTTL", keys.flight(space.key(call("gone"))))) > 0  # nothing of it stays
    assert (await space.recall(call("gone"), ready("there"))).how == "computed"


async def test_what_cannot_be_told_to_others_ends_with_its_caller(space: Space) -> None:
    """Out of memory, a wrong key: the same error comes up, the flight is free at once."""
    for error in (MemoryError("all used up"), ModelError("m", "caller", "401", "wrong key")):
        with pytest.raises(type(error)):
            await space.recall(call(type(error).__name__), ready(error))
        assert (await space.recall(call(type(error).__name__), ready("fine"))).how == "computed"


@pytest.mark.parametrize(("error", "kind"), [
    (ValueError("x"), "permanent"), (KeyError("x"), "permanent"), (TimeoutError(), "transient"),
    (ConnectionResetError(), "transient"), (StoreUnavailable("x"), "transient"), (MemoryError(), "caller"),
    (ModelError("m", "caller", "403", "x"), "caller"), (ModelError("m", "transient", "503", "x"), "transient"),
    (ModelError("m", "permanent", "400", "x"), "permanent"), (ModelError("m", "odd", "?", "x"), "permanent"),
    (WorkFailed("f", "transient", "TimeoutError", "x"), "transient"), (WorkFailed("f", "permanent", "V", "x"), "permanent"),
])
def test_errors_have_a_class(error: Exception, kind: str) -> None:
    """Who may be told, and whether trying again can help."""
    assert classified(error)[0] == kind


def test_pauses_grow_and_give_way_to_what_was_asked() -> None:
    """200 ms doubled with each attempt, a fifth more or less; Retry-After where that is longer."""
    for attempt, middle in ((1, 200), (2, 400), (3, 800)):
        pauses = [pause_ms(TimeoutError(), attempt) for _ in range(100)]
        assert middle * 0.8 - 1 <= min(pauses) < max(pauses) <= middle * 1.2 + 1
    assert pause_ms(ModelError("m", "transient", "429", "x", retry_after_s=30), 1) == 30_000


def test_what_is_kept_of_an_error_is_short_and_without_secrets() -> None:
    """Class, code, text up to 1 KB; a record that cannot be read is still an error."""
    kept = told(ValueError("key sk-abcdef123456 " + "x" * 5_000), 2, "p/a")
    error = retold("f", kept)
    assert (error.kind, error.code, error.attempt) == ("permanent", "ValueError", 2)
    assert len(error.message) <= 1_000 and "sk-abcdef" not in error.message
    assert "hunter2" not in redacted("password=hunter2") and "abc" not in redacted("Bearer abc")
    assert retold("f", b"\xff").kind == "transient"
