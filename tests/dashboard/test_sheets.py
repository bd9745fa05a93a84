"""The pages beside the flock: what they say of a run, and that each of them can be looked at."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

import memgang
from tests.chaos.servers import PrivateServer
from tests.dashboard.conftest import Dashboard, Look

pytest.importorskip("streamlit", reason="needs memgang[dashboard]")

import streamlit as st
from streamlit.testing.v1 import AppTest

from memgang.doors.dashboard.sheets import agents, charts, memory, runs, savings, timeline
from memgang.doors.dashboard.sheets.charts import treemap
from memgang.doors.dashboard.view import View
from memgang.doors.dashboard.watching import Watching
from memgang.flock import tape as tapes
from memgang.flock.bundle import source
from memgang.flock.crew import crew
from memgang.flock.dial import colours
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


class Still:
    """In place of `Watching`: one run that stands still, and a space for what is asked of it."""

    def __init__(self, records: list[dict[str, Any]], header: Header, url: str = "") -> None:
        self.header, self.records, self.url = header, records, url
        self.settings, self.allow_write = SimpleNamespace(space="a; b"), bool(url)

    def tape(self, run: str) -> Tape:
        """The run."""
        return Tape(self.header, self.records)

    def fold(self, run: str, t: int | None = None) -> Fold:
        """What it came to."""
        made = Fold()
        for rec in self.records:
            if t is None or rec["t"] <= t:
                made.apply(rec)
        return made

    def ask(self, work: Callable[[Any], Any]) -> Any:
        """Ask the space that the test made."""
        async def inside() -> Any:
            if not self.url:
                raise memgang.errors.StoreUnavailable("no server in this test")
            async with memgang.open(url=self.url, space="forgets", host_tier="off") as space:
                return await work(space)

        return asyncio.run(inside())


def drawn(page: Callable[[View], None], still: Still, **given: Any) -> AppTest:
    """A page as Streamlit draws it, without a browser; ``given`` goes to the view."""
    def app() -> None:
        import streamlit

        streamlit.session_state["page"](streamlit.session_state["view"])

    test = AppTest.from_function(app, default_timeout=60)
    test.session_state["page"] = page
    test.session_state["view"] = View(cast("Watching", still), still.header.run, headers=[still.header], **given)
    test.run()
    assert not test.exception
    return test


def told(test: AppTest) -> str:
    """All that the page says in Markdown."""
    found: list[Any] = [one for kind in ("markdown", "caption", "subheader", "info", "warning", "success") for one in test.get(kind)]
    return "\n".join(one.value for one in found)


def again(test: AppTest) -> AppTest:
    """The page once more, as after any click."""
    test.run()
    assert not test.exception
    return test


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
    assert [agent.name for agent, _ in agents.ordered(fold)] == ["n1", "n2", "r", "w"]


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


def test_a_gang_without_roles_is_not_an_empty_run() -> None:
    """Where some agents have a role, those are the crew; where none has, all are: in the table and where runs are compared."""
    nameless = [{name: value for name, value in rec.items() if name != "role"} for rec in RECORDS]
    still = Still(nameless, Header("run"))
    fold = still.fold("run")
    assert [agent.name for agent in crew(fold)] == ["r", "n1", "n2", "w"]
    assert [row["agent"] for row in agents.rows(fold)] == ["n1", "n2", "r", "w"]
    holder = Still([*RECORDS, {"id": "11", "t": 9001, "op": "join", "agent": "main"}], Header("run")).fold("run")
    assert "main" in holder.agents and "main" not in [agent.name for agent in crew(holder)]
    table = {row[""]: row for row in runs.compared((Header("a"), holder), (Header("b"), fold))}
    assert table["agents"] == {"": "agents", "this run": 4, "the other": 4, "change": "+0%"}


def test_a_run_that_was_killed_does_not_run_for_ever() -> None:
    """A day after its start, without an end in the log, it is none that runs."""
    started = 1_700_000_000_000
    for header, now, state, lasted in (
            (Header("r", started=started), started + 1000, "running", "runs"),
            (Header("r", started=started), started + tapes.DAY_MS, "no end in the log", ""),
            (Header("r", started=started, ended=started + 2000, state="failed"), started + tapes.DAY_MS, "failed", "2.0 s")):
        row = runs.listed(header, now)
        assert (row["state"], row["lasted"]) == (state, lasted)


def test_a_page_at_a_moment_knows_nothing_of_what_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 98 ms nobody had waited or used the fact, and the report was not written: not in tables, lanes or the timeline."""
    seen: list[Any] = []
    monkeypatch.setattr(timeline, "_chart", lambda shown, fold, squeeze: seen.append((shown, fold.t)))
    still = Still(RECORDS, Header("run"))
    drawn(timeline.page, still, t=98)
    (shown, last), = seen
    assert {one.state for one in shown} == {"think", "work"} and last == 95
    drawn(timeline.page, still)
    assert "wait" in {one.state for one in seen[1][0]} and seen[1][1] == 9000

    read = [*RECORDS[:7], {"id": "8", "t": 97, "op": "read", "agent": "n2", "obj": "fact"}, *RECORDS[8:]]
    still = Still(read, Header("run"))
    used = [drawn(memory.page, still, t=t, selected=("object", "fact")).dataframe[2].value.to_dict("records") for t in (96, 98, None)]
    assert used == [[], [{"agent": "n2", "times": 1}], [{"agent": "n2", "times": 2}]]
    lanes = [drawn(agents.page, still, t=t, selected=("agent", "n2")).dataframe[2].value.to_dict("records") for t in (98, None)]
    assert [[row["times"] for row in rows] for rows in lanes] == [[1], [2]]


def test_what_agents_and_kinds_are_called_is_no_markdown() -> None:
    """Neither in a heading, nor in a help, nor in the sentence about the longest step: a link in a name is no link."""
    evil = "[here](https://example.org) **now**"
    named = [{name: evil if value in ("n2", "report") else value for name, value in rec.items()} for rec in RECORDS]
    still = Still(named, Header("run"))
    tests = [drawn(agents.page, still, selected=("agent", evil)), drawn(memory.page, still, selected=("object", "end")),
             drawn(timeline.page, still)]
    for test in tests:
        helps = "\n".join(one.help for one in test.metric)
        assert "here" in told(test) and "](" not in told(test) + helps and "**now" not in told(test) + helps


def test_a_command_to_be_copied_is_one_command() -> None:
    """Whatever a space, a run or an object is called; it names the run that is meant, also without names and for the whole space."""
    for run in ("run; rm -rf x", tapes.ALL):
        test = drawn(runs.page, Still(RECORDS, Header(run)))
        assert [shlex.split(code.value) for code in test.code] == [
            ["memgang", "log", "--verify", "--space", "a; b"],
            ["memgang", "export", run, "--html", "run.html", "--gif", "run.gif", "--space", "a; b"]]
        test.toggle(key="export_mask").set_value(True)
        assert shlex.split(again(test).code[1].value)[2:] == [run, "--html", "run.html", "--gif", "run.gif", "--mask", "--space", "a; b"]
    odd = [{name: "part$(x)" if value == "part" else value for name, value in rec.items()} for rec in RECORDS]
    test = drawn(memory.page, Still(odd, Header("run")), selected=("object", "part$(x)"))
    ref = "mg:part$(x)"
    assert [shlex.split(text) for text in test.code[0].value.splitlines()] == [
        ["memgang", "show", ref, "--space", "a; b"], ["memgang", "pin", ref, "--space", "a; b"],
        ["memgang", "forget", ref, "--cascade", "--space", "a; b"]]
    assert "memgang invalidate SOURCE" in told(test)
    assert "memgang invalidate" not in told(drawn(memory.page, Still(odd, Header("run")), selected=("object", "fact")))


def test_there_is_no_price_only_where_no_dollars_were_counted() -> None:
    """Dollars without a price table were counted all the same; the page does not call them 0."""
    assert "price table was not recorded" in told(drawn(savings.page, Still(RECORDS, Header("run", model="m"))))
    free = [{name: [*value[:5], 0, *value[6:]] if name in ("own", "saved") else value for name, value in rec.items()} for rec in RECORDS]
    assert "There is no price for m: its dollars are 0" in told(drawn(savings.page, Still(free, Header("run", model="m"))))


def test_the_seconds_that_were_chosen_stay_while_a_run_goes_on() -> None:
    """The slider ends at steps; what was chosen outlives also a step, an end that was not chosen moves along, another run begins anew."""
    assert [runs.coarse(ms) for ms in (0, 1000, 1001, 9000, 10_001, 60_000, 120_000)] == [1, 1, 2, 10, 20, 100, 200]
    still = Still(list(RECORDS), Header("run"))
    test = drawn(runs.page, still)
    assert test.slider[0].value == (0.0, 10.0)
    test.slider[0].set_value((2.0, 10.0))
    again(test)
    still.records.append({"id": "11", "t": 9500, "op": "join", "agent": "w"})
    assert again(test).slider[0].value == (2.0, 10.0)
    still.records.append({"id": "12", "t": 15_000, "op": "join", "agent": "w"})
    assert again(test).slider[0].value == (2.0, 20.0)
    test.slider[0].set_value((2.0, 5.0))
    again(test)
    still.records.append({"id": "13", "t": 25_000, "op": "join", "agent": "w"})
    assert again(test).slider[0].value == (2.0, 5.0) and test.slider[0].max == 50
    test.session_state["view"] = View(cast("Watching", still), "other", headers=[still.header])
    assert again(test).slider[0].value == (0.0, 50.0)
    test.session_state["view"] = View(cast("Watching", still), "other", t=9000, headers=[still.header])
    assert again(test).slider[0].value == (0.0, 9.0)


def test_a_chosen_agent_stays_the_same_when_the_table_is_sorted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is kept, where the frame keeps what was clicked; a table in another order is another one, where no row is chosen."""
    given: list[dict[str, Any]] = []
    real = st.dataframe

    def spy(data: Any, **options: Any) -> Any:
        given.append(options)
        return real(data, **options)

    monkeypatch.setattr(st, "dataframe", spy)
    still = Still(list(RECORDS), Header("run"))
    drawn(agents.page, still)
    first = given[0]
    state: dict[str, Any] = {first["key"]: SimpleNamespace(selection=SimpleNamespace(rows=[2]))}
    monkeypatch.setattr(st, "session_state", state)
    first["on_select"]()
    assert state[agents.CHOSEN] == ("agent", "r")
    state[first["key"]].selection.rows = []
    first["on_select"]()
    assert state[agents.CHOSEN] is None
    monkeypatch.undo()
    monkeypatch.setattr(st, "dataframe", spy)
    given.clear()
    still.records.append({"id": "11", "t": 9001, "op": "join", "agent": "a", "role": "read"})
    test = drawn(agents.page, still, selected=("agent", "r"))
    assert given[0]["key"] != first["key"] and test.subheader[0].value == "r"


def _light(colour: str) -> float:
    parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    return sum(share * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
               for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_charts_are_in_the_viewers_theme(theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """States have the flock's hues in it, and every colour of a chart stands out from the ground of its page."""
    from memgang.doors.dashboard.serving import THEME

    monkeypatch.setattr(type(st.context), "theme", property(lambda _: SimpleNamespace(type=theme)))
    paint = charts.palette()
    assert paint == colours(theme)
    states, causes = charts.states(paint).to_dict(), charts.causes(paint).to_dict()
    hues = dict(re.findall(r'(\w+): "(\w+)"', source("palette.js").partition("STATE_HUES = {")[2].partition("}")[0]))
    assert dict(zip(states["domain"], states["range"], strict=True)) == {state: paint[hue] for state, hue in hues.items()}
    ground = _light(THEME[f"{theme}.backgroundColor"])
    for colour in [*states["range"], *causes["range"]]:
        one, other = sorted((_light(colour), ground))
        assert (other + 0.05) / (one + 0.05) > 2.5, colour
    assert len(set(causes["range"])) == len(charts.CAUSES)
    charts_of = [drawn(page, Still(RECORDS, Header("run")), selected=("agent", "n1"))
                 for page in (agents.page, savings.page, timeline.page, memory.page)]
    specs = "\n".join(one.proto.spec for test in charts_of for one in test.get("vega_lite_chart"))
    assert colours(theme)["gold"] in specs
    assert colours({"dark": "light", "light": "dark"}[theme])["gold"] not in specs


@pytest.fixture
def made_of(watched_server: PrivateServer) -> Iterator[tuple[str, list[str]]]:
    """A space in which one object was made from another: the server's address and their ids."""
    async def work() -> list[str]:
        async with memgang.open(url=watched_server.url, space="forgets", host_tier="off") as space:
            part = await space.put("a part that was read", kind="part")
            return [str(ref) for ref in (part, await space.put("a fact made of it", kind="fact", parents=[part]))]

    yield watched_server.url, asyncio.run(work())


def test_nothing_is_forgotten_at_one_click(made_of: tuple[str, list[str]]) -> None:
    """The first click says how far it would reach, a second may leave it; only who confirms that takes anything away."""
    url, refs = made_of
    ids = [ref.removeprefix("mg:")[:10] for ref in refs]
    records = [{"id": "1", "t": 1, "op": "write", "agent": "r", "role": "read", "obj": ids[0], "ring": "src", "kind": "part", "bytes": 20},
               {"id": "2", "t": 2, "op": "write", "agent": "r", "role": "read", "obj": ids[1], "ring": "fact", "kind": "fact",
                "src": [ids[0]], "bytes": 17}]
    still = Still(records, Header("run"), url)

    async def there(space: Any) -> list[bool]:
        return [found is not None for found in await space.describe_many([Ref(ref) for ref in refs])]

    def click(key: str) -> str:
        test.button(key=f"{key}-{ids[0]}").click()
        return told(again(test))

    test = drawn(memory.page, still, selected=("object", ids[0]))
    assert "This would forget 2 objects" in click("forget") and still.ask(there) == [True, True]
    assert "This would forget" not in click("keep") and still.ask(there) == [True, True]
    click("forget")
    assert "Forgotten: 2 objects" in click("sure") and still.ask(there) == [False, False]


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
        look.go("/agents")
        look.until("text => document.body.innerText.includes(text)", "Balance")
        look.until("() => !document.querySelector('[data-testid=stStatusWidget]')")  # a click must not meet a table that is drawn anew
        look.page.locator(".stDataFrameGlideDataEditor").first.click(position={"x": 15, "y": 52})  # the box of the first row
        look.until("() => new URLSearchParams(location.search).get('sel')?.startsWith('agent:')")
        look.until("() => /Wrote/.test(document.body.innerText)")
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
