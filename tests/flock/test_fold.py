"""The fold: Python and JavaScript come to the same, and both to what the ledger says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memgang.flock.fold import CAUSES, Fold
from memgang.flock.records import OPS, RINGS, record, ring
from memgang.gang import Gang
from memgang.jobs.report import report
from memgang.llms.simulated import Simulated
from memgang.model import Event, Usage
from memgang.savings import fold as ledger
from memgang.savings import to_dict
from memgang.space import Space
from tests.flock import node

IN_JAVASCRIPT = """
    const { Fold } = await import(WEB + '/fold.js');
    tell(given.map((records) => { const fold = new Fold(); for (const rec of records) fold.apply(rec); return fold.told(); }));
"""

names = st.sampled_from(["a1", "team-1.note-2", "<b>", "ä"])
ids = st.sampled_from(["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"])
numbers = st.integers(0, 3000)
raws = st.sampled_from(["", "constructor", "committed", "failed", "released", "fenced", "ended", "hit", "joined", "reference", "put",
                        "waits", "taken", "died", "overhead", "evicted", "expired", "refused", "exhausted"])
one = st.fixed_dictionaries(
    {"t": st.integers(-5, 400), "op": st.sampled_from(OPS)},
    optional={"raw": raws, "agent": names, "role": st.sampled_from(["note", "answer"]), "obj": ids, "ring": st.sampled_from(RINGS),
              "pos": st.integers(0, 16).map(lambda n: n / 16), "kind": st.just("fact"), "tok": numbers, "bytes": numbers,
              "ms": st.integers(0, 10**6).map(lambda n: n / 1000), "src": st.lists(ids, max_size=3), "call": ids, "fn": st.just("f:g"),
              "ck": st.sampled_from(["llm", "function", "read"]), "by": names, "why": st.sampled_from([*CAUSES, "timeout"]),
              "own": st.lists(numbers, min_size=1, max_size=9), "saved": st.lists(numbers, min_size=1, max_size=9),
              "known": st.just(1), "text": st.sampled_from(["map", "12", "-3", "x", "--5", "9" * 40, "\u0664", " 7"]), "us": numbers})


def folded(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What the Python fold says of them."""
    fold = Fold()
    for rec in records:
        fold.apply(rec)
    return fold.told()


async def events_of(space: Space, tmp_path: Path) -> list[Event]:
    """The events of a small real run with a simulated model."""
    (tmp_path / "text.md").write_text("\n\n".join(
        f"# Part {n}\n\nOn day {n} the council of town {n} bought {n * 3} boats for {n * 100} dollars." for n in range(6)), "utf-8")
    async with Gang(space, llm=Simulated(latency_ms=1), concurrency=8) as gang, gang.run("Boats") as run:
        await report(gang, [str(tmp_path / "text.md")], ["Who bought boats?", "What did they cost?"])
    return [event async for event in space.events(run=run.id)]


async def test_the_fold_of_a_real_run_has_the_totals_of_its_ledger(space: Space, tmp_path: Path) -> None:
    """To the token, in Python and in JavaScript; and what is planned was done."""
    events = await events_of(space, tmp_path)
    began = next(event.at for event in events if event.raw == "run_start")
    records = [record(event, began) for event in events]
    mine = folded(records)
    wanted = to_dict(ledger(events))
    assert mine["totals"] == {name: wanted[name] for name in mine["totals"]}
    assert mine["totals"]["avoided"]["llm_calls"] > 0 and mine["ended"] == "done"
    assert [name for name, _, _ in mine["phases"]] == ["read", "map", "reduce", "answer"]
    assert all(role["planned"] in (0, role["done"]) for role in mine["roles"].values())
    assert mine["roles"]["note"]["planned"] > 0
    assert mine["rings"]["src"] and mine["rings"]["fact"] and mine["rings"]["ans"] == 1
    assert node.run(IN_JAVASCRIPT, [records]) == [mine]


def test_both_languages_come_to_the_same_whatever_is_in_the_log() -> None:
    """Two hundred logs that no run would write: hypothesis makes them, and both fold them."""
    logs: list[list[dict[str, Any]]] = []

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(one, max_size=25))
    def make(records: list[dict[str, Any]]) -> None:
        ends = [{"t": 500, "op": "run_end", "text": "done"}] if len(records) % 2 else []
        logs.append([{"t": 0, "op": "run_start", "text": "a <title>"}, *records, *ends])

    make()
    assert node.run(IN_JAVASCRIPT, logs) == [folded(records) for records in logs]


async def test_totals_do_not_depend_on_the_order_of_records(space: Space, tmp_path: Path) -> None:
    """A batch of reads may be written 100 ms after the lines of changes that came later."""
    events = await events_of(space, tmp_path)
    records = [record(event, events[0].at) for event in events if event.raw != "run_end"]
    straight = folded(records)
    random.Random(7).shuffle(records)
    mixed = folded(records)
    assert mixed["totals"] == straight["totals"] and mixed["rings"] == straight["rings"]
    seen = ("reads", "reuses", "saved", "bytes")
    assert {i: [o[name] for name in seen] for i, o in mixed["lights"].items()} == {
        i: [o[name] for name in seen] for i, o in straight["lights"].items()}
    done = ("reads", "writes", "reuses", "asked", "spent", "saved")
    assert {n: [a[name] for name in done] for n, a in mixed["agents"].items()} == {
        n: [a[name] for name in done] for n, a in straight["agents"].items()}


def test_who_waits_for_whom_is_known_until_the_wait_ends() -> None:
    """The flight names its leader and all who wait; a hit takes one of them off, the answer the flight."""
    fold = Fold()
    for rec in ({"t": 0, "op": "lease", "raw": "claimed", "agent": "a1", "call": "k", "fn": "m:f", "ck": "function"},
                {"t": 5, "op": "wait", "raw": "waits", "agent": "a2", "call": "k", "by": "a1"},
                {"t": 6, "op": "wait", "raw": "waits", "agent": "a3", "call": "k", "by": "a1"}):
        fold.apply(rec)
    assert fold.flights["k"].agent == "a1" and fold.flights["k"].waiting == ["a2", "a3"]
    assert fold.agents["a2"].state == "wait" and fold.agents["a2"].by == "a1"
    fold.apply({"t": 9, "op": "hit", "raw": "joined", "agent": "a2", "call": "k", "obj": "o", "ms": 4.0, "by": "a1"})
    assert fold.flights["k"].waiting == ["a3"] and fold.agents["a2"].wait_ms == 4.0 and fold.agents["a2"].state == "reuse"
    fold.apply({"t": 9, "op": "done", "raw": "committed", "agent": "a1", "call": "k", "ck": "function"})
    assert not fold.flights


def test_a_leader_that_died_is_at_nothing_any_more() -> None:
    """Somebody else tells of it, or takes over: the error is the dead one's, and the one who tells goes on as it was."""
    for ends in ({"op": "error", "raw": "died"}, {"op": "think_start", "raw": "taken"}):
        fold = Fold()
        fold.apply({"t": 0, "op": "think_start", "raw": "claimed", "agent": "a", "call": "k"})
        fold.apply({"t": 1, "op": "read", "agent": "b", "obj": "o"})
        fold.apply({"t": 5, "agent": "b", "call": "k", **ends})
        assert not fold.agents["a"].thinking and fold.agents["a"].state == "error" and fold.agents["a"].errors == 1
        assert fold.agents["b"].errors == 0 and ("k" in fold.flights) == (ends["raw"] == "taken")


def test_a_run_that_ends_ends_no_other() -> None:
    """Of the log of a whole space: while one goes on its agents are shown at work, and after the last none is."""
    fold = Fold()
    for rec in ({"t": 0, "op": "run_start", "text": "one"}, {"t": 1, "op": "run_start", "text": "two"},
                {"t": 2, "op": "run_end", "text": "done"}, {"t": 3, "op": "think_start", "raw": "claimed", "agent": "a", "call": "k"}):
        fold.apply(rec)
    assert not fold.ended and fold.agents["a"].state == "think"
    fold.apply({"t": 4, "op": "run_end", "text": "failed"})
    assert fold.ended == "failed" and fold.agents["a"].state == "idle"
    fold.apply({"t": 5, "op": "run_start", "text": "three"})
    fold.apply({"t": 6, "op": "read", "agent": "a", "obj": "o"})
    assert not fold.ended and fold.agents["a"].state == "read"


def test_a_line_that_comes_late_does_not_turn_an_agent_back() -> None:
    """It is counted, and what the agent does now stays."""
    fold = Fold()
    fold.apply({"t": 10, "op": "think_start", "raw": "claimed", "agent": "a", "call": "k"})
    fold.apply({"t": 4, "op": "read", "agent": "a", "obj": "o"})
    assert fold.agents["a"].state == "think" and fold.agents["a"].reads == 1


@pytest.mark.parametrize(("kind", "role", "where"), [
    ("part", "read", "src"), ("answer", "note", "map"), ("answer", "answer", "red"), ("fact", "note", "fact"),
    ("partition", "find", "part"),
    ("summary", "section", "red"), ("report", "", "ans"), ("run", "", ""), ("something else", "", "map")])
def test_every_kind_of_object_has_its_place(kind: str, role: str, where: str) -> None:
    """A kind nobody knows is a result of the map; a run's record is nowhere."""
    assert ring(kind, role) == where
    event = Event(raw="put", op="write", obj="x" * 32, kind=kind, role=role, at=5)
    assert record(event, 0).get("ring", "") == where and bool(record(event, 0).get("obj")) == bool(where)


def test_to_pin_an_object_is_not_to_write_it() -> None:
    """Nor to make it new, nor to bring back what was forgotten."""
    for raw in ("pinned", "unpinned"):
        assert record(Event(raw=raw, op="write", obj="x" * 32, agent="cli", at=5), 0)["op"] == "other"
    assert record(Event(raw="released", op="think_end", call="k" * 32), 0)["op"] == "think_end"
    assert record(Event(raw="released", op="released", call="k" * 32), 0)["op"] == "done"


def test_a_record_leaves_out_what_is_empty_and_holds_no_secret_field() -> None:
    """An event of a read: eight fields, not forty; and no outline, user, or whole key."""
    event = Event(id="h00-1-0", at=100, raw="read", op="read", agent="a", who="root/a", obj="o" * 32, bytes=7, outline="x", trace="y")
    assert record(event, 40) == {"id": "h00-1-0", "t": 60, "op": "read", "agent": "a", "obj": "o" * 10, "bytes": 7}
    saved = Event(id="i", at=0, raw="hit", op="hit", saved=Usage(calls=1, tokens_out=3))
    assert record(saved, 0)["saved"] == [1, 0, 0, 3]
