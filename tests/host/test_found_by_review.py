"""Interleavings that a review found, each once wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.errors import StoreUnavailable
from memgang.model import NO_USAGE, Answered, Context, Ref
from memgang.store import events
from memgang.store.events import EventLog, written_for_the_dead
from memgang.store.host import Tier, enter
from memgang.store.host import tier as tiers
from tests.host.conftest import place, written


async def test_all_marks_may_grow_old(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last one that is removed LMDB shows an empty one, which is no mark."""
    tier.take_out(["a", "b"], ["call"])
    monkeypatch.setattr(tiers, "MARK_S", -1.0)
    tier.tidy()
    with tier.entries.env.begin() as reading:
        assert reading.stat(tier.entries.marks)["entries"] == 0


async def test_a_reply_older_than_marks_are_kept_is_not_kept(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was stopped meanwhile; whether it was forgotten since, nobody can say any more."""
    asked = time.monotonic() - tiers.MARK_S
    tier.keep_body("a", "text/plain", b"x", b"", 0, 0, asked)
    tier.keep_answer("call", Answered(Ref("mg:" + "a" * 32), 5, 0, b"", NO_USAGE), 0, asked)
    assert tier.body("a", 0) is None and tier.answer("call", 0) is None


async def test_a_late_older_answer_is_not_read_while_it_waits_to_be_refused(tier: Tier) -> None:
    def answer(fence: int) -> Answered:
        return Answered(Ref("mg:" + "a" * 32), fence, 0, b"", NO_USAGE)

    tier.keep_answer("call", answer(2), 0, time.monotonic())
    await written()
    tier.keep_answer("call", answer(1), 0, time.monotonic())
    found = tier.answer("call", 0)
    assert found is not None and found.fence == 2
    tier.take_out(overtaken={"call": 5})
    tier.keep_answer("call", answer(1), 0, time.monotonic())
    assert tier.answer("call", 0) is None


async def test_what_waits_to_be_written_goes_with_the_rest_when_another_process_empties_the_tier(tier: Tier) -> None:
    """With the marks, by which it would be known that it was forgotten meanwhile; also what was asked for before and comes later."""
    asked = time.monotonic()
    tier.keep_body("a", "text/plain", b"x", b"", 0, 0, asked)
    tier.keep_answer("call", Answered(Ref("mg:" + "a" * 32), 5, 0, b"", NO_USAGE), 0, asked)
    assert tier.body("a", 0) is not None and tier.answer("call", 0) is not None
    emptying = "import sys, pathlib; from memgang.store.host import Tier; assert Tier(pathlib.Path(sys.argv[1]), 16 << 20).clear({})"
    subprocess.run([sys.executable, "-c", emptying, str(tier.folder)], check=True, timeout=60)  # our loop has no turn
    tier.keep_body("b", "text/plain", b"x", b"", 0, 0, asked)
    assert tier.body("a", 0) is None and tier.answer("call", 0) is None and tier.bodies(["a", "b"], 0) == [None, None]
    tier.keep_body("a", "text/plain", b"x", b"", 0, 0, time.monotonic())
    assert tier.body("a", 0) is not None


async def test_a_log_that_came_back_shorter_and_has_grown_again_empties_the_tier(opened: Callable[..., Any]) -> None:
    """The entry read last is not what it was: what was written between is not known."""
    async with opened() as space:
        tier, stream = space.store.tier, space.store.keys.log("a00")
        ref = await space.put("x")
        await written()
        client = space.store.sync_client()
        space.store._tail.look(client)
        space.store._tail.look(client)
        assert tier.holds(ref.id) and place(tier).line
        tier.take_out(lasts={"a00": b"another"})
        space.store._tail.look(client)
        assert not tier.holds(ref.id)
        other = await space.put("y")
        await written()
        space.store._tail.look(client)
        assert tier.holds(other.id)
        [(entry, _)] = client.xrevrange(stream, count=1)
        client.xdel(stream, entry)  # trimmed: nothing is known, and nothing is waited for
        space.store._tail.look(client)
        assert not tier.holds(other.id)
        space.store._tail.look(client)
        third = await space.put("z")
        await written()
        space.store._tail.look(client)
        assert tier.holds(third.id)
        client.close()


def test_all_who_come_have_a_map_of_the_size_of_the_first(tmp_path: Path) -> None:
    """In a smaller one nothing could be read any more when the data have outgrown it."""
    first = enter("server", "space", base=tmp_path, bytes_max=32 << 20)
    assert first is not None
    assert int((first.folder / "size").read_text().split()[0]) == first.tier.entries.sizes()["size"] == 32 << 20
    first.leave()


async def test_lines_without_a_place_in_the_ring_do_not_shift_the_numbers(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring was full for a while, and then the process is killed: what it had is written, under the next numbers."""
    async with opened(flush_ms=3_600_000, flush_events=50) as space:
        store = space.store
        log = EventLog(store.wire, store.keys, flush_ms=3_600_000, flush_events=50)
        log.keep_in(store.home.rings)
        ring = log._ring
        assert ring is not None
        context = Context("u/victim")
        for n in range(30):
            log.add("mark", context, text=f"a{n}")
        monkeypatch.setattr(ring, "_closed", True)  # no room
        for n in range(170):
            log.add("mark", context, text=f"b{n}")
        monkeypatch.setattr(ring, "_closed", False)
        for n in range(40):
            log.add("mark", context, text=f"c{n}")
        await log.flush()
        for n in range(60):
            log.add("mark", context, text=f"d{n}")
        ring.leave()  # killed
        assert await written_for_the_dead(store.wire, store.keys, store.home.rings) == 60
        texts = [event.text async for event in space.events() if event.raw == "mark"]
        assert sorted(texts) == sorted([f"a{n}" for n in range(30)] + [f"b{n}" for n in range(170)] + [f"c{n}" for n in range(40)]
                                       + [f"d{n}" for n in range(60)])
        assert await written_for_the_dead(store.wire, store.keys, store.home.rings) == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_a_janitor_that_ends_while_it_writes_for_the_dead_doubles_nothing(opened: Callable[..., Any], sent: bool) -> None:
    """The ring goes before its numbers do: whoever comes next finds the one or neither."""
    async with opened() as space:
        store = space.store
        log = EventLog(store.wire, store.keys, flush_ms=3_600_000, flush_events=50)
        log.keep_in(store.home.rings)
        for n in range(10):
            log.add("mark", Context("u/victim"), text=f"a{n}")
        assert log._ring is not None
        log._ring.leave()
        call, deleted = store.wire.call, []

        async def ended(*command: Any) -> Any:
            if command[0] == "HDEL":
                deleted.append(command)
                if sent:
                    await call(*command)
                raise ConnectionError("ended")
            return await call(*command)

        store.wire.call = ended
        with pytest.raises(ConnectionError):
            await written_for_the_dead(store.wire, store.keys, store.home.rings)
        store.wire.call = call
        await written_for_the_dead(store.wire, store.keys, store.home.rings)
        assert deleted and len([e async for e in space.events() if e.raw == "mark"]) == 10


async def died_behind_the_first_batch(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has it; nobody was told, and the process is gone."""
    real, sent = events.touched, []

    async def once(*arguments: Any) -> bool:
        if sent:
            raise StoreUnavailable("killed")
        sent.append(1)
        return await real(*arguments)

    with monkeypatch.context() as dying:
        dying.setattr(events, "touched", once)
        with pytest.raises(StoreUnavailable):
            await log.flush()
    assert log._ring is not None
    log._ring.leave()
    log._closed = True


async def test_lines_with_and_without_a_place_are_never_in_one_batch(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes for the dead sees the former only: under one number there would be another batch than the server has."""
    async with opened(janitor_ms=3_600_000) as space:
        store = space.store
        log = EventLog(store.wire, store.keys, flush_ms=3_600_000, flush_events=50)
        log.keep_in(store.home.rings)
        for n in range(30):
            log.add("mark", Context("u/victim"), text=f"a{n}")
        monkeypatch.setattr(log._ring, "_closed", True)  # no room
        for n in range(15):
            log._waiting.append((0, Context("u/victim"), ["mark", 1, 0, "", "", 0, 0, "", [], "", f"b{n}", ""], 0))
        monkeypatch.setattr(log._ring, "_closed", False)
        for n in range(30):
            log._waiting.append((0, Context("u/victim"), line := ["mark", 1, 0, "", "", 0, 0, "", [], "", f"c{n}", ""],
                                 log._kept(0, Context("u/victim"), line)))
        await died_behind_the_first_batch(log, monkeypatch)
        await written_for_the_dead(store.wire, store.keys, store.home.rings)
        texts = [event.text async for event in space.events() if event.raw == "mark" and event.text[0] != "b"]
        assert sorted(texts) == sorted([f"a{n}" for n in range(30)] + [f"c{n}" for n in range(30)])


async def test_lines_of_other_threads_are_written_in_the_order_of_the_ring(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach the loop later than they reach the ring; who writes for the dead has only its order."""
    async with opened(janitor_ms=3_600_000) as space:
        store = space.store
        log = EventLog(store.wire, store.keys, flush_ms=3_600_000, flush_events=1)
        log.keep_in(store.home.rings)
        monkeypatch.setattr(log, "_noticed", lambda: None)
        log.add("mark", Context("u/victim"), text="thread", loop=asyncio.get_running_loop())
        log.add("mark", Context("u/victim"), text="loop")
        await died_behind_the_first_batch(log, monkeypatch)
        await written_for_the_dead(store.wire, store.keys, store.home.rings)
        assert [event.text async for event in space.events() if event.raw == "mark"] == ["thread", "loop"]
