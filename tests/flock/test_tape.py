"""Tapes: of a run, from and to a file, without names; and a space does not grow by being watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import ConfigError, UnknownReference
from memgang.flock import tape as tapes
from memgang.flock.fold import Fold
from memgang.flock.tape import Header, Tape
from memgang.savings import to_dict


async def worked(space: memgang.Space, title: str = "a title") -> tuple[str, Any]:
    """A small real run: its id and its savings."""
    async with memgang.Gang(space, "simulated:latency_ms=1", concurrency=4) as gang:
        @gang.agent(role="map", agents=4)
        async def note(text: str, ask: memgang.Ask) -> str:
            return await ask(f"What does it say? {text}")

        async with gang.run(title) as run:
            await gang.phase("map")
            await gang.map(note, ["one", "two", "three", "one"])
        return run.id, await gang.savings()


def folded(tape: Tape) -> Fold:
    fold = Fold()
    for words in tape.records:
        fold.apply(words)
    return fold


async def test_a_tape_of_a_run_folds_to_what_its_ledger_says(space: memgang.Space) -> None:
    """Header and records of a run are those of its record and its log."""
    run, savings = await worked(space)

    tape = await tapes.of_run(space, run)

    header = tape.header
    assert (header.run, header.space, header.title, header.state) == (run, space.name, "a title", "done")
    assert 0 < header.started == header.began <= header.ended
    assert header.synthetic and header.model.startswith("simulated") and header.price is not None
    told, ledger = folded(tape).totals(), to_dict(savings)
    for name in ("virtual", "physical", "avoided", "lost", "avoided_by_cause", "counts", "overhead_us"):
        assert told[name] == ledger[name], name


async def test_the_log_does_not_grow_by_being_watched(space: memgang.Space, opened: Callable[..., Any]) -> None:
    """Who makes tapes and lists runs, from another process as it were, leaves no line in the log."""
    run, _ = await worked(space)
    before = [event.id async for event in space.events()]

    async with opened(agent="observer", host_tier="off") as watching:
        await tapes.of_run(watching, run)
        await tapes.headers(watching)
        await tapes.of_run(watching, tapes.ALL)

    assert before == [event.id async for event in space.events()]


async def test_runs_under_way_are_listed_first(space: memgang.Space) -> None:
    """The list of runs begins with those that run, then the newest."""
    first, _ = await worked(space)
    second, _ = await worked(space)
    now = space.store.log.server_ms()
    for run, started in (("20200101-000000-000abcdef", now - 1000), ("20200102-000000-000abcdef", now - 2 * tapes.DAY_MS)):
        await space.put({"state": "running", "started": started, "title": 5, "price": "none"}, name=f"runs/{run}", kind="run")

    listed = await tapes.headers(space)

    # The other one has no end either, but was begun two days ago: it was killed.
    assert [header.run for header in listed] == ["20200101-000000-000abcdef", second, first, "20200102-000000-000abcdef"]
    assert listed[0].title == "" and listed[0].price is None  # of another form than ours: not taken on trust


async def test_a_run_without_a_record_is_known_by_its_log(space: memgang.Space) -> None:
    """Start, title and end of a run that has no record come from its marks."""
    with space.acting_as(agent="a", run="mine"):
        space.mark("run_start", "from marks")
        space.mark("run_end", "stopped")

    tape = await tapes.of_run(space, "mine")

    assert (tape.header.title, tape.header.state) == ("from marks", "stopped")
    assert tape.header.began and tape.records[0]["t"] == 0
    with pytest.raises(UnknownReference):
        await tapes.of_run(space, "nobody-s")


async def test_a_file_gives_back_the_same_tape(space: memgang.Space, tmp_path: Path) -> None:
    """A tape written and read is the same, whatever stands in its texts."""
    run, _ = await worked(space, "<img onerror=alert(1)> \u2028 ünïcode\n")
    tape = await tapes.of_run(space, run)

    tapes.write(tape, tmp_path / "run.jsonl")

    assert tapes.read(tmp_path / "run.jsonl") == tape


@pytest.mark.parametrize(("text", "told"), [
    (b"", "no tape"), (b"\xff\xfe", "no tape"), (b'{"id":"a","t":1}', "no tape"),
    (b'{"memgang_tape":9,"header":{"run":"r"}}', "form 9"),
    (b'{"memgang_tape":1,"header":{"run":"r"}}\n[]', "line 2"),
    (b'{"memgang_tape":1,"header":{"run":"r"}}\n{"id":"a","t":0,"op":"read"}\n{"id":"b","t":0,"op":"hit","saved":["x"]}', "line 3"),
    (b'{"memgang_tape":1,"header":{"run":"r"}}\n{"id":"b","t":"now","op":"hit"}', "line 2"),
])
def test_a_file_that_is_no_tape_is_refused_with_its_line(text: bytes, told: str) -> None:
    """What is wrong with a file, and where, is told in one sentence."""
    with pytest.raises(ConfigError, match=told):
        tapes.decoded(text)


def test_a_masked_tape_has_no_names_and_the_same_figures() -> None:
    """Aliases stand for names, the same for the same; nothing secret is left, and totals do not change."""
    records = [
        {"id": "1", "t": 0, "op": "run_start", "agent": "SECRET-cli", "text": "SECRET title"},
        {"id": "2", "t": 1, "op": "phase", "agent": "SECRET-cli", "text": "map"},
        {"id": "3", "t": 2, "op": "write", "raw": "put", "agent": "SECRET-a", "obj": "SECRETobj1", "ring": "map", "bytes": 10},
        {"id": "4", "t": 3, "op": "hit", "agent": "SECRET-b", "by": "SECRET-a", "obj": "SECRETobj1", "call": "SECRETcall",
         "why": "hit", "saved": [1, 1, 100, 10], "fn": "SECRET.module:f", "task": "SECRETtask"},
        {"id": "5", "t": 4, "op": "error", "raw": "failed", "agent": "SECRET-b", "why": "SECRET at /home", "call": "SECRETcall"},
        {"id": "6", "t": 5, "op": "write", "raw": "put", "agent": "SECRET-b", "obj": "SECRETobj2", "src": ["SECRETobj1"]},
        {"id": "7", "t": 6, "op": "name", "raw": "named", "agent": "SECRET-b", "obj": "SECRETobj2", "text": "SECRET name"},
    ]
    tape = Tape(Header("SECRET-run", "SECRET-space", "SECRET title"), records)

    masked = tapes.mask(tape)

    assert b"SECRET" not in tapes.encoded(masked)
    assert masked.header.masked and masked.records[3]["by"] == masked.records[2]["agent"]
    assert masked.records[5]["src"] == [masked.records[2]["obj"]]
    assert folded(masked).totals() == folded(tape).totals()
    assert masked == tapes.mask(tape)


def test_a_run_comes_with_the_package() -> None:
    """For a first look, and for a dashboard with nothing to show: a real run of the demo, whole, with what it saved."""
    demo = tapes.demo()
    fold = Fold()
    for words in demo.records:
        fold.apply(words)
    assert fold.ended == "done" and not demo.header.synthetic and "NIST" in demo.header.title
    assert fold.totals()["avoided"]["llm_calls"] > fold.totals()["physical"]["llm_calls"] > 0
