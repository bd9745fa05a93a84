"""The pages beside the flock: what they say of a run, and that each of them can be looked at."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard, Look

pytest.importorskip("streamlit", reason="needs memgang[dashboard]")

from memgang.doors.dashboard.sheets import agents, memory, runs, savings, timeline
from memgang.doors.dashboard.sheets.charts import treemap
from memgang.flock.fold import Fold
from memgang.flock.spans import Span, busy, spans
from memgang.flock.tape import Header, Tape
from memgang.model import MemoryObject, Ref

RECORDS: list[dict[str, Any]] = [
    {"id": "1", "t": 0, "op": "run_start", "text": "title"},
    {"id": "2", "t": 1, "op": "write", "raw": "put", "agent": "r", "role": "read", "obj": "part", "ring": "src",
     "kind": "part", "bytes": 1000},
    {"id": "3", "t": 2, "op": "write", "raw": "put", "agent": "r", "role": "read", "obj": "left", "ring": "src",
     "kind": "part", "bytes": 400},
    {"id": "4", "t": 5, "op": "lease", "raw": "claimed", "agent": "n1", "role": "note", "call": "c", "fn": "f", "ck": "function"},
    {"id": "5", "t": 10, "op": "think_start", "raw": "claimed", "agent": "n1", "role": "note", "call": "m", "ck": "llm"},
    {"id": "6", "t": 90, "op": "think_end", "raw": "committed", "agent": "n1", "role": "note", "call": "m", "ck": "llm",
     "own": [1, 1, 100, 20, 0, 7, 80]},
    {"id": "7", "t": 95, "op": "write", "raw": "put", "agent": "n1", "role": "note", "obj": "fact", "ring": "fact", "kind": "fact",
     "src": ["part"], "bytes": 50},
    {"id": "8", "t": 99, "op": "done", "raw": "committed", "agent": "n1", "role": "note", "call": "c", "ck": "function"},
    {"id": "9", "t": 105, "op": "hit", "raw": "joined", "agent": "n2", "role": "note", "obj": "fact", "call": "c", "ms": 60.0, "by": "n1",
     "why": "joined", "saved": [2, 1, 100, 20, 0, 7, 80], "ck": "function"},
    {"id": "10", "t": 9000, "op": "write", "raw": "put", "agent": "w", "role": "answer", "obj": "end", "ring": "ans", "kind": "report",
     "src": ["fact"], "bytes": 10},
]


@pytest.fixture
def fold() -> Fold:
    """What these records came to."""
    made = Fold()
    for rec in RECORDS:
        made.apply(rec)
    return made


def test_agents_are_listed_with_what_the_others_had_of_them(fold: Fold) -> None:
    """Whose memory was reused stands first; calls not made and waits are told apart from those made."""
    table = agents.rows(fold)
    assert [row["agent"] for row in table] == ["n1", "n2", "r", "w"]
    first, second = table[:2]
    assert (first["others used its memory"], first["calls made"], first["calls not made"], first["tokens"]) == (1, 1, 0, 120)
    assert (second["calls made"], second["calls not made"], second["tokens not spent"], second["waited, s"]) == (0, 1, 120, 0.06)
    assert agents.list_of_names(fold, table) == ["n1", "n2", "r", "w"]


def test_an_agents_time_is_counted_once_though_work_contains_questions() -> None:
    """94 ms of work with 80 ms of thinking inside are 80 and 14; a wait inside nobody's work is a wait."""
    assert busy(spans(RECORDS)) == {"n1": {"think": 80, "work": 14}, "n2": {"wait": 60}}
    assert busy([Span("a", "", "think", 0, 10), Span("a", "", "think", 5, 20)]) == {"a": {"think": 20}}


def test_memory_that_was_made_into_something_was_used(fold: Fold) -> None:
    """The part behind the fact was never read by name; the other one was for nothing, the report is for people."""
    assert [light.id for light in memory.listed(fold, "never used")] == ["left"]
    assert memory.listed(fold, "hottest")[0].id == "fact"
    assert [light.id for light in memory.listed(fold, "biggest")] == ["part", "left", "fact", "end"]
    assert memory.by_kind(fold)[0] == {"kind": "part", "objects": 2, "bytes": 1400, "reads": 0, "reused": 0, "never used": 1}


def test_the_forecast_says_how_much_goes_when() -> None:
    """In equal steps up to the last; what never expires, or has, is in none."""
    def record(expires: int, size: int) -> MemoryObject:
        return MemoryObject(Ref("mg:" + "a" * 32), "text/plain", size, 0, expires, ("a",))

    found = memory.forecast([record(0, 1), record(900, 2), record(1000 + 3_600_000, 30), record(1000 + 7_200_000, 400)], 1000, 4)
    assert found == [{"in": 0.5, "bytes": 0}, {"in": 1.0, "bytes": 0}, {"in": 1.5, "bytes": 30}, {"in": 2.0, "bytes": 400}]
    assert memory.forecast([record(0, 1)], 1000) == []


def test_savings_add_up_on_the_page_as_in_the_ledger(fold: Fold) -> None:
    """Only causes that saved something have a line; spent and not spent are what it would have been alone."""
    table = {row[""]: row for row in savings.by_cause(fold.totals())}
    assert list(table)[:2] == ["not spent: joined while it was computed", "not spent, in all"]
    assert table["spent"]["tokens in"] + table["not spent, in all"]["tokens in"] == table["without a common memory"]["tokens in"] == 200
    assert [(row["role"], row["LLM calls"], row["not made"]) for row in savings.by_role(fold)][:2] == [("answer", 0, 0), ("note", 1, 1)]


def test_the_timeline_can_leave_out_what_is_idle() -> None:
    """9 s in which nobody does anything become a quarter of a second; no span loses its length."""
    found = [one for one in spans(RECORDS) if one.state != "work"]
    shorter, taken = timeline.squeezed(found)
    assert taken > 8_000 and max(one.end for one in shorter) < 1_000
    assert sorted(one.end - one.start for one in shorter) == sorted(one.end - one.start for one in found)
    shown, agents_left, spans_left = timeline.picked(found, ["think", "wait"], agents=1, most=5)
    assert [one.state for one in shown] == ["think"] and agents_left == 1 and spans_left == 0


def test_the_log_is_filtered_by_agent_kind_text_and_time() -> None:
    """All filters at once; the text is looked for in every field, whatever its case."""
    tape = Tape(Header("run"), RECORDS)
    assert [rec["id"] for rec in runs.fitting(tape, "n1", [], "", 0, 10**9)] == ["4", "5", "6", "7", "8"]
    assert [rec["id"] for rec in runs.fitting(tape, "", ["write"], "FACT", 0, 10**9)] == ["7", "10"]
    assert [rec["id"] for rec in runs.fitting(tape, "", [], "", 90, 99)] == ["6", "7", "8"]


def test_two_runs_are_compared_line_by_line(fold: Fold) -> None:
    """The change is from the other to this one."""
    other = Fold()
    for rec in RECORDS[:7]:
        other.apply(rec)
    table = {row[""]: row for row in runs.compared((Header("a"), fold), (Header("b", started=5, ended=4505), other))}
    assert table["time on the clock, s"] == {"": "time on the clock, s", "this run": 9.0, "the other": 4.5, "change": "+100%"}
    assert table["LLM calls made"]["this run"] == table["LLM calls made"]["the other"] == 1
    assert table["LLM calls not made"]["the other"] == 0


def test_a_treemap_fills_its_field_in_proportion() -> None:
    """Areas are as the values; no tile overlaps another or sticks out; nothing is nothing."""
    parts = [("a", 6), ("b", 6), ("c", 4), ("d", 3), ("e", 2), ("f", 2), ("g", 1), ("none", 0)]
    tiles = treemap(parts, width=2.0)
    assert {t.name: pytest.approx((t.x2 - t.x) * (t.y2 - t.y)) for t in tiles} == {name: value / 12 for name, value in parts if value}
    near = 1e-9
    for one in tiles:
        assert -near <= one.x < one.x2 <= 2 + near and -near <= one.y < one.y2 <= 1 + near
        assert not any(one is not o and one.x < o.x2 - near and o.x < one.x2 - near and one.y < o.y2 - near and o.y < one.y2 - near
                       for o in tiles)
    assert treemap([]) == []


def test_every_page_shows_a_real_run_and_can_be_linked_to(dashboard: Dashboard, chromium: Any, tmp_path: Any) -> None:
    """By its address, without an error or a request to elsewhere; an object's page shows where it is from, and its content when asked."""
    text = "# Boats\n\nThe town bought 3 boats for 300 dollars on Monday.\n\n# Bridges\n\nIt sold 2 bridges."
    (tmp_path / "text.md").write_text(text, "utf-8")
    dashboard.memgang("run", str(tmp_path / "text.md"), "-q", "Who bought boats?", "--title", "<img src=x onerror=alert(1)> *bold*",
                      "--out", str(tmp_path / "out.md"))
    look = Look(chromium.new_page(viewport={"width": 1280, "height": 900}), dashboard.url)
    try:
        signs = {"agents": "Balance", "memory": "Bytes by kind", "savings": "What it cost", "timeline": "Critical path",
                 "runs": "Is the log intact?"}
        for page, sign in signs.items():
            look.go(f"/{page}")
            look.until("text => document.body.innerText.includes(text)", sign)
            look.until("() => !document.querySelector('[data-testid=stStatusWidget]')")
            assert look.page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
        tape = dashboard.memgang("export", "last", "--jsonl", str(tmp_path / "tape.jsonl"), "--json")
        assert '"records"' in tape
        fact = re.search(r'"obj":"(\w+)","ring":"fact"', (tmp_path / "tape.jsonl").read_text("utf-8").replace(" ", ""))
        assert fact is not None
        look.go(f"/memory?sel=object:{fact[1]}")
        look.until("text => document.body.innerText.includes(text)", "Made from it")
        assert "300 dollars" not in look.page.inner_text("body"), "content is masked until it is asked for"
        look.page.get_by_text("Show what is in it").click()
        look.until("() => document.querySelector('[data-testid=stCode]') && /boats|bridges/.test(document.body.innerText)")
        assert not look.abroad and not look.errors
    finally:
        look.page.close()
