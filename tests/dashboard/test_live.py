"""The one reader and its reels: nothing twice, nothing missing, whatever was read before, goes away or is let go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="needs memgang[dashboard]")

import memgang
from memgang.doors.dashboard import live as lives
from memgang.doors.dashboard import routes
from memgang.doors.dashboard import watching as watchings
from memgang.doors.dashboard.live import Live, Reel
from memgang.doors.dashboard.passes import LIFE_S, Passes
from memgang.doors.dashboard.watching import Watching
from memgang.flock import tape as tapes
from memgang.store import log as logs
from tests.chaos.servers import PrivateServer
from tests.gates import Gate, raws, ready, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """A server that a test may kill."""
    with PrivateServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[PrivateServer]:
    """One without a disk: killed and started again, it has nothing of before."""
    with PrivateServer(tmp_path / "forgetful", persistent=False) as running:
        yield running


async def work(space: memgang.Space, run: str, *values: str) -> None:
    """Some events of a run, in both logs."""
    with space.acting_as(agent="worker", run=run):
        for value in values:
            await space.get(await space.put(value))
    await space.flush()


def ids(reel: Reel) -> list[str]:
    """The ids in a reel, in order."""
    return [json.loads(line)["id"] for line in reel.lines]


async def logged(space: memgang.Space, run: str) -> set[str]:
    """The ids in the log."""
    return {event.id async for event in space.events(run=run)}


async def caught_up(space: memgang.Space, *reels: Reel) -> None:
    """Until each reel has what the log has of its run, once."""
    for reel in reels:
        there = await logged(space, reel.header.run)
        await until(lambda: _is(lambda: set(ids(reel)) >= there))  # awaited here
        assert len(ids(reel)) == len(set(ids(reel)))
        assert set(ids(reel)) == await logged(space, reel.header.run)


async def test_a_reel_has_what_came_before_and_what_comes(space: memgang.Space) -> None:
    """Who begins to watch gets the whole run, then what is new, each once and as a tape has it."""
    await work(space, "one", "a", "b")
    live = Live(space)
    async with live.watching("one") as reel:
        await until(lambda: _is(lambda: reel.whole))
        await work(space, "one", "c", "d")
        await caught_up(space, reel)

        told = sorted((json.loads(line) for line in reel.lines), key=lambda words: words["id"])
        assert told == sorted((await tapes.of_run(space, "one")).records, key=lambda words: words["id"])
    await live.aclose()


async def test_a_run_whose_beginning_was_read_past_is_read_from_there(space: memgang.Space) -> None:
    """A run that the reader has passed is whole all the same, and those already watched get nothing twice."""
    live = Live(space)
    async with live.watching("watched") as watched:
        await work(space, "watched", "a")
        await work(space, "other", "b")
        await work(space, "watched", "c")
        await caught_up(space, watched)
        async with live.watching("other") as other:
            await until(lambda: _is(lambda: other.whole))
            await work(space, "watched", "d")

            await caught_up(space, other, watched)
    await live.aclose()


async def test_a_record_knows_of_what_an_earlier_reading_saw(space: memgang.Space, opened: Callable[..., Any]) -> None:
    """What kind of call is waited for is told also when the reading that saw its claim broke off, or went back to a later run."""
    gate, call = Gate(), memgang.Call(kind="function", function="f", arguments=[1])
    live = Live(space)
    async with opened(agent="follower") as other, live.watching("leads") as leads:
        with space.acting_as(agent="leader", run="leads"):
            leading = asyncio.create_task(space.recall(call, gate.then("said")))
        await gate.reached()
        await until(lambda: _is(lambda: any('"claimed"' in line for line in leads.lines)))
        live._start()  # as when the server was away
        with other.acting_as(run="waits"):
            following = asyncio.create_task(other.recall(call, ready("other")))
        await until(lambda: _told(other, "waits"))
        await until(lambda: _is(lambda: "waits" in live._began))
        async with live.watching("waits") as waits:  # goes back, but not as far as the claim
            await until(lambda: _is(lambda: any('"wait"' in line for line in waits.lines)))
            assert [json.loads(line).get("ck") for line in waits.lines if '"wait"' in line] == ["function"]
        gate.open()
        await asyncio.gather(leading, following)
    await live.aclose()


async def test_a_server_that_is_killed_and_comes_back_leaves_no_gap(
    server: PrivateServer, space_name: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader goes on from its cursor: everything once, before and after; who watches is told that it was away."""
    monkeypatch.setattr(lives, "AGAIN_S", (0.05, 0.1))
    async with (memgang.open(server.url, space=space_name, patience_ms=100, host_tier="off") as space,
                memgang.open(server.url, space=space_name, agent="w", host_tier="off") as writer):
        live = Live(space)
        async with live.watching("one") as reel:
            await work(writer, "one", "a", "b")
            await until(lambda: _is(lambda: len(reel.lines) >= 4))
            server.kill()
            await until(lambda: _is(lambda: live.away != ""))
            server.start()
            await until(lambda: _is(lambda: live.away == ""))
            await until(lambda: _done(work(writer, "one", "c")))

            await caught_up(writer, reel)
        await live.aclose()


async def test_a_server_that_lost_its_log_begins_a_new_list(
    forgetful: PrivateServer, space_name: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the log ends before the cursor, ids are given a second time: the list is begun anew under another epoch."""
    monkeypatch.setattr(lives, "AGAIN_S", (0.05, 0.1))
    async with memgang.open(forgetful.url, space=space_name, patience_ms=100, host_tier="off") as space:
        live = Live(space)
        async with live.watching("one") as reel:
            await work(space, "one", *"abcdef")
            await until(lambda: _is(lambda: len(reel.lines) >= 12))
            before = reel.epoch
            forgetful.kill()
            await until(lambda: _is(lambda: live.away != ""))
            forgetful.start()
            await until(lambda: _is(lambda: live.away == ""))
            await until(lambda: _done(work(space, "one", "z")))
            await until(lambda: _is(lambda: reel.whole and 0 < len(reel.lines) < 12))

            process, lost, _ = reel.epoch.split("-")
            assert [process, str(int(lost) - 1)] == before.split("-")[:2]  # so a page knows that its ids mean nothing any more
        await live.aclose()


async def test_a_log_that_was_lost_is_noticed_though_the_server_was_never_seen_to_be_away(
    forgetful: PrivateServer, space_name: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that is started again within the patience of a call, without its data, fails no call: its new log is read all the same."""
    monkeypatch.setattr(lives, "LOOK_S", 0.05)
    async with memgang.open(forgetful.url, space=space_name, patience_ms=60_000, host_tier="off") as space:
        live = Live(space)
        async with live.watching("one") as reel:
            await work(space, "one", *"abcdef")
            await until(lambda: _is(lambda: len(reel.lines) >= 12))
            before = reel.epoch
            forgetful.kill()
            forgetful.start()
            await until(lambda: _done(work(space, "one", "z")))
            await until(lambda: _is(lambda: reel.epoch != before and reel.whole))
            await caught_up(space, reel)

            assert reel.epoch.split("-")[:2] != before.split("-")[:2] and live.away == ""
        await live.aclose()


async def test_a_log_that_was_lost_is_known_by_the_name_of_the_data_when_it_has_grown_again(
    forgetful: PrivateServer, space_name: str,
) -> None:
    """The numbers of a new log say nothing once they have passed those that were read."""
    async with memgang.open(forgetful.url, space=space_name, patience_ms=60_000, host_tier="off", janitor_ms=50) as space:
        reading = logs.Reading()
        assert not await space.has_lost_events("", reading)
        await work(space, "one", "a")
        cursor = await logs.end(space.store.wire, space.store.keys)
        assert not await space.has_lost_events(cursor, reading)
        forgetful.kill()
        forgetful.start()
        await until(lambda: _done(work(space, "one", *"abcdef")))

        assert not await space.has_lost_events(cursor)
        await until(lambda: space.has_lost_events(cursor, reading))  # as soon as somebody has named the new data
        assert await space.has_lost_events(cursor, reading)


async def test_what_nobody_watches_is_let_go(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after the last viewer has left, its records go, and the log is not read any more; who comes again has all."""
    monkeypatch.setattr(lives, "LINGER_S", 0.0)
    live = Live(space)
    await work(space, "one", "a")
    async with live.watching("one") as reel:
        await until(lambda: _is(lambda: reel.whole))
    await until(lambda: _is(lambda: not live._reels and live._reader is None))
    await work(space, "one", "b")
    await work(space, "new", "c")

    async with live.watching("one") as again, live.watching("new") as new:
        await until(lambda: _is(lambda: again.whole and new.whole))
        assert again is not reel
        await caught_up(space, again, new)
    await live.aclose()


async def test_a_list_that_is_read_again_has_another_name(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place means something in one list only: lines are in the order they came in, and the log read again has another."""
    monkeypatch.setattr(lives, "LINGER_S", 0.0)
    live = Live(space)
    await work(space, "one", "a")
    async with live.watching("one") as reel:
        await until(lambda: _is(lambda: reel.whole))
        first = reel.epoch
    await until(lambda: _is(lambda: not live._reels))
    async with live.watching("one") as again:
        process, lost, _ = again.epoch.split("-")
        assert again.epoch != first and [process, lost] == first.split("-")[:2]  # the same ids: what was shown is not void
    await live.aclose()


async def test_scripts_have_each_record_once_when_a_run_is_read_again_in_another_order(
    space: memgang.Space, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line that came late stood at the end, and stands earlier when the log is read again: none is lost, none is there twice."""
    watching = Watching(space.settings)
    watching._live = live = Live(space)
    await work(space, "one", "a", "b")
    async with watching.open():
        async with live.watching("one") as reel:
            await until(lambda: _is(lambda: reel.whole))
            late = reel.lines.pop(0)  # as it stands where the first line came last
            first = await asyncio.to_thread(watching.tape, "one")
            reel.lines.append(late)
            reel.changed()
        live._let_go("one")

        tape = await asyncio.to_thread(watching.tape, "one")
        assert [rec["id"] for rec in tape.records] == [rec["id"] for rec in (await tapes.of_run(space, "one")).records]
        assert len(tape.records) == len(first.records) + 1
        assert (await asyncio.to_thread(watching.fold, "one")).counts["events"] == len(tape.records)
        await live.aclose()
        watching._live = None


async def test_when_the_server_goes_away_again_no_list_is_half_begun_anew(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """All headers are read before anything is changed: an error in between leaves names and lists as they were."""
    live = Live(space)
    await work(space, "one", "a")
    await work(space, "two", "b")
    async with live.watching("one") as one, live.watching("two") as two:
        await until(lambda: _is(lambda: one.whole and two.whole))
        before = [(reel.epoch, list(reel.lines)) for reel in (one, two)], live._cursor, live._generation

        async def away(_: memgang.Space, run: str) -> None:
            if run == "two":
                raise memgang.errors.StoreUnavailable("away again")

        monkeypatch.setattr(lives, "header_of", away)
        with pytest.raises(memgang.errors.StoreUnavailable):
            await live._anew()
        assert before == ([(reel.epoch, list(reel.lines)) for reel in (one, two)], live._cursor, live._generation)
    await live.aclose()


async def test_of_the_whole_space_the_newest_records_are_kept(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much the log holds; what was let go of does not come back when the reader goes back to the beginning of a run."""
    monkeypatch.setattr(lives, "ALL_MAX", 20)
    watching = Watching(space.settings)
    watching._live = live = Live(space)
    async with watching.open():
        async with live.watching(tapes.ALL) as everything:
            await work(space, "old", *"abcdefgh")
            await until(lambda: _is(lambda: everything.upto >= 16))
            seen = await asyncio.to_thread(watching.tape, tapes.ALL)
            await work(space, "one", *"ijklmnopqrstuvwxyz")
            await until(lambda: _is(lambda: everything.upto >= 52))
            assert len(seen.records) >= 16 and len(everything.lines) < 22 and everything.first > 16
            async with live.watching("old") as old:
                await until(lambda: _is(lambda: old.whole))
                await until(lambda: _is(lambda: live._caught_up))
                await caught_up(space, old)

            assert everything.upto == len([event async for event in space.events()])
            assert len(ids(everything)) == len(set(ids(everything))) == len(everything._ids) < 22
            tape = await asyncio.to_thread(watching.tape, tapes.ALL)
            assert [rec["id"] for rec in tape.records] == ids(everything)
            assert (await asyncio.to_thread(watching.fold, tapes.ALL)).counts["events"] == len(everything.lines)
        await live.aclose()
        watching._live = None


def test_the_list_of_runs_is_read_the_less_often_the_longer_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that takes two seconds to make is good for forty; one that takes none, for one."""
    now, asked = [100.0], []
    monkeypatch.setattr(watchings, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watching = Watching(memgang.settings.Settings())

    def ask(_: Any, takes: float = 2.0) -> list[tapes.Header]:
        asked.append(now[0])
        now[0] += takes
        return [tapes.Header("run")]

    monkeypatch.setattr(watching, "ask", ask)
    for later in (0.0, 30.0, 9.0, 2.0):
        now[0] += later
        assert [header.run for header in watching.headers()] == ["run"]
    assert asked == [100.0, 143.0]


def test_a_run_that_was_killed_is_not_live_for_ever() -> None:
    """A day after its start it has no end in the log, and is no longer taken to go on; the space itself always goes on."""
    watching, day = Watching(memgang.settings.Settings()), tapes.DAY_MS
    now = watching.server_ms()
    killed, young, done = (tapes.Header("r", started=now - 2 * day), tapes.Header("r", started=now - day // 2),
                           tapes.Header("r", started=now - 2 * day, ended=now - day, state="done"))
    assert [watching.under_way(header) for header in (killed, young, done)] == [False, True, False]
    assert [watching.standing(header).state for header in (killed, young, done)] == ["no end in the log", "running", "done"]
    assert watching.under_way(tapes.Header(tapes.ALL)) and watching.under_way(tapes.Header("of which nothing is known"))


async def test_a_page_is_told_what_time_it_is_in_the_run_and_whether_it_goes_on(space: memgang.Space) -> None:
    """By the server's clock, and after the newest record; of a run that was killed, that nothing is expected any more."""
    now = space.store.log.server_ms()
    for run, started in (("going", now - 60_000), ("killed", now - 2 * tapes.DAY_MS)):
        with space.acting_as(run=run):
            await space.put({"id": run, "state": "running", "started": started}, name=f"runs/{run}", kind="run", parents=())
    await space.flush()
    watching = Watching(space.settings)
    watching._live = live = Live(space)

    class Socket:
        def __init__(self) -> None:
            self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def send_text(self, text: str) -> None:
            self.told.put_nowait(json.loads(text))

    async with watching.open():
        for run in ("going", "killed"):
            socket = Socket()
            sending = asyncio.create_task(routes._send(watching, socket, run, "", "0"))  # type: ignore[arg-type]
            first = await socket.told.get()
            if run == "going":
                assert 60_000 <= first["now"] <= space.store.log.server_ms() - now + 60_000
                assert not first["over"] and first["header"]["state"] == "running"
            else:
                assert (first["now"], first["over"], first["header"]["state"]) == (0, True, "no end in the log")
            sending.cancel()
            await asyncio.wait([sending])
        await live.aclose()
        watching._live = None


async def test_watching_writes_nothing(space: memgang.Space, opened: Callable[..., Any]) -> None:
    """The log, and so the run's count of events, is the same before and after it was watched."""
    await work(space, "one", "a", "b")
    before = await logged(space, "one"), [event.id async for event in space.events()]
    async with opened(agent="dashboard", host_tier="off") as watching:
        live = Live(watching)
        async with live.watching("one") as reel, live.watching(tapes.ALL) as all_:
            await until(lambda: _is(lambda: reel.whole and all_.whole))
        await live.aclose()

    assert before == (await logged(space, "one"), [event.id async for event in space.events()])


def test_a_pass_is_for_one_run_and_ten_minutes() -> None:
    """Wrong, foreign, changed or old passes open nothing; the same is handed out again while it is good for minutes."""
    now = [1_000_000.0]
    passes = Passes(lambda: now[0])
    text = passes.of("run")
    assert passes.opens(text, "run") and passes.of("run") == text
    end, _, sign = text.partition(".")
    for wrong in ("", ".", text[:-1], text + "0", f"{int(end) + 1}.{sign}", f"{end}.", f"-1.{sign}", "9" * 20 + "." + sign,
                  text.replace(".", ""), "ü.ü", Passes(lambda: now[0]).of("run"), passes.of("other")):
        assert not passes.opens(wrong, "run"), wrong
    assert not passes.opens(text, "other")

    now[0] += LIFE_S - 1
    assert passes.opens(text, "run") and passes.of("run") != text
    now[0] += 1
    assert not passes.opens(text, "run") and passes.opens(passes.of("run"), "run")


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def _told(space: memgang.Space, raw: str) -> bool:
    """Whether the log has such a line."""
    await space.flush()
    return raw in await raws(space)


async def _done(attempt: Any) -> bool:
    """Whether it could be done; without the server it cannot."""
    try:
        await attempt
        return True
    except memgang.errors.StoreUnavailable:
        return False
