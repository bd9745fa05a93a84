"""Keeping house: by one process at a time, whatever fails, and never again by nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.chaos.servers import PrivateServer
from tests.gates import until

import memgang
from memgang.model import Context
from memgang.store import janitor
from memgang.store.events import EventLog
from memgang.store.host.ring import Ring
from memgang.store.keys import Keys
from memgang.store.process import incarnation

HOUR_MS = 3_600_000


async def expired(space: memgang.Space, many: int = 1) -> list[Any]:
    """Objects whose time is over; nobody reads them again."""
    refs = [await space.put(f"short {n} {asyncio.get_running_loop().time()}", ttl=0.001) for n in range(many)]
    await asyncio.sleep(0.005)  # their life, by the server's clock
    return refs


async def swept(space: memgang.Space, ref: Any) -> bool:
    return ref.id in [event.obj async for event in space.events() if event.raw == "expired"]


async def turn(space: memgang.Space, **settings: Any) -> bool:
    """Whether this process, with these settings, has the turn now."""
    return await janitor._alone(space.store.wire, space.store.keys, space.settings.with_(**settings))


async def resting(space: memgang.Space) -> None:
    """Until its own janitor has had its first round; the next is an hour away."""
    async def done() -> bool:
        return await space.store.wire.call("GET", Keys.janitor(space.name)) == incarnation().encode()

    await until(done)


async def test_of_many_processes_one_has_the_turn_until_its_period_ends(opened: Callable[..., Any]) -> None:
    """The next is given it by the server's clock, whether the first lives or not."""
    async with opened(janitor_ms=HOUR_MS) as space:
        key, wire = Keys.janitor(space.name), space.store.wire
        await resting(space)
        await wire.call("DEL", key)
        assert [await turn(space, janitor_ms=200) for _ in range(3)] == [True, False, False]
        assert await wire.call("GET", key) == incarnation().encode()

        async def ended() -> bool:
            return await turn(space, janitor_ms=200)

        await until(ended)


async def test_a_turn_that_would_last_for_hours_is_ended_by_the_next_who_looks(opened: Callable[..., Any]) -> None:
    """The server's clock stepped back, or whoever had it has a longer period."""
    async with opened(janitor_ms=HOUR_MS) as space:
        await resting(space)
        await space.store.wire.call("SET", Keys.janitor(space.name), "somebody", "PX", HOUR_MS)
        assert not await turn(space, janitor_ms=2 * HOUR_MS)
        assert await turn(space, janitor_ms=5_000)
        assert 0 < await space.store.wire.call("PTTL", Keys.janitor(space.name)) <= 5_000


async def test_a_full_server_is_swept_though_it_takes_no_key(tmp_path: Any) -> None:
    """It needs the sweep most; with room again there is one turn again."""
    with PrivateServer(tmp_path / "s") as server, server.admin() as admin:
        admin.set(Keys.janitor("full"), "somebody", px=HOUR_MS // 2)  # nothing is swept before it is full
        async with memgang.open(server.url, space="full", agent="tester", janitor_ms=HOUR_MS, runtime_dir=tmp_path / "r",
                                host_dir=tmp_path) as space:
            [ref] = await expired(space)
            await space.store.wire.call("DEL", Keys.janitor(space.name))
            admin.config_set("maxmemory", 1)
            assert await turn(space) and await turn(space)
            store = space.store

            async def gone() -> bool:
                return await janitor.one_round(store.wire, store.keys, store.objects, store.log, space.settings) == 1

            await until(gone)
            admin.config_set("maxmemory", 0)
            assert await swept(space, ref)
            assert await turn(space) and not await turn(space)


@pytest.mark.parametrize("what", ["measure", "rings", "error"])
async def test_a_step_that_fails_keeps_no_other_from_being_done(
    opened: Callable[..., Any], what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    """Another program's value under a key of ours, or an error nobody has thought of: what has expired is swept all the same."""
    async with opened(janitor_ms=20) as space:
        if what == "rings":
            await space.store.wire.call("SET", space.store.keys.at(0, "q"), "no hash")
            left = EventLog(space.store.wire, space.store.keys, flush_ms=HOUR_MS, flush_events=50)
            left.keep_in(space.store.home.rings)
            left.add("mark", Context("u/victim"), text="left")
            left._ring.leave()
        elif what == "error":
            async def unthought(*_: Any) -> Any:
                raise KeyError("unthought of")

            monkeypatch.setattr(janitor, "written_for_the_dead", unthought)
        else:
            async def refused() -> None:
                raise TypeError("no")

            monkeypatch.setattr(space.store.log, "measure_offset", refused)
        with caplog.at_level(logging.ERROR, "memgang"):
            [ref] = await expired(space)

            async def gone() -> bool:
                return await swept(space, ref)

            await until(gone)
        assert ("house was not kept" in caplog.text) == (what == "error")
        if what == "rings":
            await space.store.wire.call("DEL", space.store.keys.at(0, "q"))

            async def written() -> bool:
                return "left" in [event.text async for event in space.events() if event.raw == "mark"]

            await until(written)


async def test_a_ring_that_nobody_can_read_keeps_no_other_from_being_written(opened: Callable[..., Any]) -> None:
    """Frames that are whole and are not ours: what is before them is told, they are not, and the ring goes."""
    async with opened(janitor_ms=HOUR_MS) as space:
        store = space.store
        rings = [Ring(store.home.rings, name, 50) for name in ("0first", "1second")]
        rings[0].add(0, Context("u/a"), ["mark", 1, 0, "", "", 0, 0, "", [], "", "before", ""])
        rings[0].add(0, Context("u/a"), ["mark"])
        rings[0].add(300, Context("u/a"), ["mark", 1, 0, "", "", 0, 0, "", [], "", "behind", ""])
        rings[1].add(0, Context("u/a"), ["mark", 1, 0, "", "", 0, 0, "", [], "", "second", ""])
        for ring in rings:
            ring.leave()
        assert await janitor.written_for_the_dead(store.wire, store.keys, store.home.rings) == 2
        assert [event.text async for event in space.events() if event.raw == "mark"] == ["before", "second"]
        assert [path.name for path in store.home.rings.iterdir()] == [store.log._source]


async def test_many_who_keep_house_sweep_each_object_once(opened: Callable[..., Any]) -> None:
    """Also where all of them are at it in the same moment."""
    async with AsyncExitStack() as stack:
        spaces = [await stack.enter_async_context(opened(janitor_ms=20 if n else HOUR_MS)) for n in range(4)]
        refs = await expired(spaces[0], 200)
        await asyncio.gather(*(janitor.one_round(s.store.wire, s.store.keys, s.store.objects, s.store.log, s.settings) for s in spaces))

        async def all_gone() -> bool:
            return (await spaces[0].stats())["count"] == 0

        await until(all_gone)
        told = [event.obj async for event in spaces[0].events() if event.raw == "expired"]
        assert sorted(told) == sorted(ref.id for ref in refs)
