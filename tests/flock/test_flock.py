"""The flock in a real browser: what it shows, and what can be done with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from memgang.flock.fold import Fold
from tests.flock import node
from tests.flock.conftest import Page
from tests.flock.synthetic import tape

Open = Callable[..., Page]
STATE = "(t) => { flock.seek(t); return JSON.stringify([flock.state().told(), flock.birds(), flock.labels()]); }"


PLAYED = "(t) => { flock.seek(t); flock.play(); for (let i = 0; i < 6; i++) flock.frame(1 / 20); flock.pause(); }"
TOLD = "(t) => { flock.seek(t); return JSON.stringify(flock.state().told()); }"
# A live player by itself, in Node: with nothing to draw on.
ALONE = """
        const { Player } = await import(WEB + "/player.js");
        class Alone extends Player { changed() {} fit() {} drawNow() {} }
        const player = new Alone("live", {});
        player.still = { dirty: false, threadsOf() {} };
        player.words = { slots: { clear() {} } };
        player.empty();
"""


def overlaps(boxes: list[list[float]]) -> list[tuple[list[float], list[float]]]:
    return [(a, b) for a, b in itertools.combinations(boxes, 2)
            if a[0] < b[0] + b[2] - 0.01 and b[0] < a[0] + a[2] - 0.01 and a[1] < b[1] + b[3] - 0.01 and b[1] < a[1] + a[3] - 0.01]


@pytest.mark.parametrize(("agents", "width"), [(3, 1440), (8, 1100), (24, 1440), (8, 480)])
def test_no_two_labels_overlap_at_any_time(open_page: Open, agents: int, width: int) -> None:
    """At 20 moments of a run, sought and played on from, no two labels cover each other, and there are some."""
    header, records = tape(agents)
    page = open_page((header, records), width=width)
    end = records[-1]["t"]
    for number in range(20):
        page.js(PLAYED, end * (number + 0.5) / 20)
        boxes = page.js("flock.labels()")
        assert len(boxes) >= 5
        assert not overlaps(boxes), number
    assert not page.errors


def test_a_moment_sought_twice_is_the_same_twice(open_page: Open) -> None:
    """Totals, birds and labels are the same however one came to a moment: forwards, backwards, or after playing."""
    header, records = tape(8)
    page = open_page((header, records))
    page.js(STATE, 15_000)
    page.drawn()  # the stream has its rows now, and the stage what is left
    first = page.js(STATE, 15_000)
    page.js(STATE, 39_000)
    assert page.js(STATE, 15_000) == first
    page.js(STATE, 3_000)
    page.js("() => { flock.play(); for (let i = 0; i < 40; i++) flock.frame(1 / 60); flock.pause(); }")
    assert page.js(STATE, 15_000) == first


def test_what_is_shown_at_a_moment_is_the_fold_of_the_records_until_then(open_page: Open) -> None:
    """The state in the page is that of Python's fold."""
    header, records = tape(8)
    page = open_page((header, records))
    for t in (0, 5_000, 22_222, 40_000):
        fold = Fold()
        for record in records:
            if record["t"] <= t:
                fold.apply(record)
        assert json.loads(page.js(TOLD, t)) == json.loads(json.dumps(fold.told()))


def test_a_live_run_ends_as_its_replay_whatever_the_order_and_however_often_records_come(open_page: Open) -> None:
    """Batches with late and repeated records come to the totals of the whole tape."""
    header, records = tape(8)
    page = open_page(mode="live", autoplay=True)
    page.js("(header) => flock.header(header)", {**header, "state": "running"})
    batches = [records[at : at + 60] for at in range(0, len(records), 60)]
    for number, batch in enumerate(batches):
        if number % 3 == 1:
            batch = [*batch[30:], *batch[:30], *batches[number - 1][-20:]]  # out of order, and some again
        page.js("(records) => { flock.push(records); flock.frame(1 / 30); }", batch)
    page.js("() => { for (let i = 0; i < 100; i++) flock.frame(0.25); }")
    fold = Fold()
    for record in records:
        fold.apply(record)
    assert json.loads(page.js("JSON.stringify(flock.state().totals())")) == json.loads(json.dumps(fold.totals()))
    assert page.js("document.querySelector('.mg-badge').textContent") == "finished"
    assert page.js("document.querySelector('.mg-big b').textContent").rstrip("%").isdigit()
    assert not page.errors


def test_the_clock_of_a_live_run_is_the_servers(open_page: Open) -> None:
    """A page that is opened while nothing happens shows the time it is, not that of the newest record; all that was is in the fold."""
    header, records = tape(3)
    early = [record for record in records if record["t"] < 9_000]
    page = open_page(mode="live", autoplay=True)
    clock = "() => document.querySelector('.mg-clock').textContent"
    page.js("([header, records]) => { flock.header(header, 125000); flock.frame(0.3); flock.push(records); flock.frame(0.3); }",
            [{**header, "state": "running"}, early])
    assert page.js(clock) == "2:05"
    assert page.js("flock.state().counts.events") == len(early)
    page.js("""() => { flock.status({ connection: 'lost' }); flock.frame(0.3); flock.status({ connection: 'live' });
        flock.header({}, 185000); flock.frame(0.3); }""")
    assert page.js(clock) == "3:05"
    page.js("() => { flock.header({}, 1000); flock.seek(3000); flock.follow(); flock.frame(0.3); }")  # it never goes back
    assert page.js(clock) == "3:05" and not page.errors


@pytest.mark.parametrize("moments", [[0, 0], [0, 3_000, 3_000]], ids=["a run of no length", "a last record of the same moment"])
def test_records_that_come_when_their_moment_is_reached_are_counted(moments: list[int]) -> None:
    """The clock of a run that is over stands at its newest record; what comes then, of that very moment, counts all the same."""
    counted = node.run(ALONE + """
        player.connection = "ended";
        for (const record of given) {
          player.push([record]);
          for (let i = 0; i < 20; i++) player.go(0.25);
        }
        tell(player.fold.counts.events);""",
        [{"id": str(n), "t": t, "op": "write", "agent": "a", "role": "map", "obj": str(n)} for n, t in enumerate(moments)])
    assert counted == len(moments)


@pytest.mark.parametrize("late", [15, 20, 22, 25, 30])
def test_a_live_run_that_is_looked_back_at_has_all_up_to_that_moment(late: int) -> None:
    """What is written late counts at the moment that is shown as it does when that moment is sought afterwards."""
    counted = node.run(ALONE + """
        player.push(given.slice(0, -1));
        player.seek(25);
        player.pause();
        player.push(given.slice(-1));
        const shown = player.fold.counts.events;
        player.seek(0);
        player.seek(25);
        tell([shown, player.fold.counts.events]);""",
        [{"id": str(n), "t": t, "op": "write", "agent": "a", "role": "map", "obj": str(n)} for n, t in enumerate((10, 20, 30, late))])
    assert counted[0] == counted[1] == (3 if late <= 25 else 2)


def test_a_page_that_rests_goes_on_when_the_next_run_begins() -> None:
    """Of a whole space, one run ends and another begins later: the page that rested in between shows what comes of it."""
    shown = node.run(ALONE + """
        player.connection = "live";
        const untilItRests = () => {
          for (let i = 0; i < 1000 && (player.urgent || !player.resting()); i++) { // as `start` of flock.js asks for frames
            player.urgent = false;
            player.go(0.05);
          }
        };
        const shown = [];
        for (const records of given) {
          player.push(records);
          untilItRests();
          shown.push([player.fold.counts.events, player.fold.ended]);
        }
        tell(shown);""",
        [[{"id": f"{t}", "t": t, "op": op, "agent": "a", "role": "map"} for t, op in records] for records in (
            [(0, "run_start"), (10, "write"), (20, "run_end")], [(60_000, "run_start"), (60_010, "write")], [(120_000, "run_end")])])
    assert shown == [[3, "done"], [5, ""], [6, "done"]]


def test_what_is_long_past_when_it_comes_is_not_flown() -> None:
    """All that was before a live page was opened is in the fold at once; only what has just happened moves birds and arcs."""
    taken, shown = node.run(ALONE + """
        const flown = [];
        player.effects.take = (record) => flown.push(record.id);
        player.tell(60000);
        player.go(0.01);
        player.push(given);
        player.go(0.01);
        tell([flown, player.fold.counts.events]);""",
        [{"id": ident, "t": t, "op": "write", "agent": "a", "role": "map", "obj": ident} for ident, t in (("old", 1_000), ("new", 59_000))])
    assert taken == ["new"] and shown == 2


HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def hostile(name: str) -> list[dict[str, Any]]:
    """A run all of whose names are `name`."""
    steps: list[dict[str, Any]] = [
        {"op": "run_start", "text": name}, {"op": "phase", "text": name}, {"op": "join", "agent": name},
        {"op": "write", "raw": "put", "agent": name, "role": name, "obj": "o1", "ring": "fact", "kind": name, "tok": 9},
        {"op": "think_start", "agent": name, "role": name, "call": name, "fn": name, "ck": "llm", "model": name},
        {"op": "wait", "agent": name + "2", "role": name, "call": name, "by": name},
        {"op": "hit", "agent": name + "2", "role": name, "obj": "o1", "call": name, "by": name, "why": name, "saved": [1, 1, 5, 5]},
        {"op": "write", "raw": "put", "agent": name, "role": "map", "obj": name, "ring": name, "kind": "x", "src": ["o1", name]},
        {"op": "wait", "agent": name + "2", "role": name, "call": name, "by": name},
        {"op": "error", "raw": "failed", "agent": name, "role": name, "why": name}, {"op": "odd", "agent": name},
    ]
    return [{"id": f"{number}", "t": 1000 + number * 10, **step} for number, step in enumerate(steps)]


@pytest.mark.parametrize("name", [HOSTILE, "x" * 10_000, "__proto__", "\u202e\0\ud800</script>"], ids=["markup", "long", "proto", "odd"])
def test_names_are_shown_as_text_whatever_they_are(open_page: Open, name: str) -> None:
    """Markup is not made, scripts are not run, nothing is asked of anybody, and long names do not push anything off the page."""
    page = open_page(({"run": name, "title": name}, hostile(name)))
    before = len(page.requests)
    page.js("""() => { flock.seek(1200); flock.play(); for (let i = 0; i < 30; i++) flock.frame(0.02);
        flock.search("x"); flock.select("object", "o1"); flock.frame(0.02); document.querySelector(".mg-tables").click(); flock.frame(0.3);
        const box = document.querySelector(".mg-moving, .mg-stage").getBoundingClientRect();
        for (let x = 0; x < box.width; x += 40) document.querySelector(".mg-stage canvas:nth-of-type(2)").dispatchEvent(
          new PointerEvent("pointermove", { bubbles: true, clientX: box.left + x, clientY: box.top + box.height / 2 })); }""")
    assert page.js("document.title") == ""
    assert page.js("document.querySelectorAll('#root img, #root script').length") == 0
    assert not page.errors
    assert page.requests[before:] == []
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    assert page.js("document.querySelector('.mg').scrollWidth <= innerWidth")
    if name == HOSTILE:
        assert HOSTILE[:20] in page.js("document.querySelector('.mg-title').textContent")


def test_an_address_that_runs_a_script_is_not_linked(open_page: Open) -> None:
    """Only addresses of this site and of the web become links, whatever `href` answers."""
    header, records = tape(3)
    page = open_page()
    kept = {"javascript:alert(1)": None, "//elsewhere.example/x": None, "data:text/html,x": None, "?sel=1": "?sel=1", "/a": "/a"}
    for address, link in kept.items():
        page.js("""([address, header, records]) => { window.make({ autoplay: false, href: () => address });
            flock.header(header); flock.load(records); flock.seek(30000); }""", [address, header, records])
        assert page.js("document.querySelector('.mg-hot a').getAttribute('href')") == link


def test_with_reduced_motion_nothing_trails_and_wings_are_still(open_page: Open) -> None:
    """The system's wish is asked; the picture is complete, without trails and particles."""
    page = open_page(tape(8), motion="reduce")
    script = """() => { const proto = CanvasRenderingContext2D.prototype, draw = proto.lineTo; let lines = 0;
        proto.lineTo = function (...at) { lines++; return draw.apply(this, at); };
        flock.seek(14000); flock.play(); for (let i = 0; i < 20; i++) flock.frame(1 / 60);
        lines = 0; flock.frame(1 / 60); proto.lineTo = draw; return lines; }"""
    calm = page.js(script)
    page.js("flock.setReduced(false)")
    assert page.js(script) > calm
    assert len(page.js("flock.labels()")) > 5


def test_the_moment_is_a_slider_for_the_keyboard(open_page: Open) -> None:
    """Arrows and page keys move it, space plays, and its value is said in words."""
    page = open_page(tape(8))
    page.js("flock.seek(10000)")
    page.focus(".mg-slider")
    moment = "flock.state() && Number(document.querySelector('.mg-slider').getAttribute('aria-valuenow'))"
    for key, t in (("ArrowRight", 11_000), ("PageUp", 16_000), ("ArrowLeft", 15_000), ("PageDown", 10_000), ("Home", 0), ("End", 40_000)):
        page.press(key)
        assert page.js(moment) == t
    page.press("Home", "Space")
    page.js("flock.frame(0.25)")
    assert page.js("document.querySelector('.mg-play').getAttribute('aria-label')") == "Pause"
    page.press("Space")
    page.js("flock.frame(0.25)")
    assert page.js("document.querySelector('.mg-play').getAttribute('aria-label')") == "Play"
    assert "LLM calls not made" in page.js("document.querySelector('.mg-slider').getAttribute('aria-valuetext')")


def test_search_finds_and_flies_and_escape_comes_home(open_page: Open) -> None:
    """A slash leads to the search; Enter chooses what was found; Escape lets go of it."""
    page = open_page(tape(8))
    page.js("flock.seek(20000)")
    page.focus(".mg-stage")
    page.press("/")
    page.type("fact 3")
    assert page.js("document.querySelector('.mg-found').textContent") == "1/1"
    far = page.js("JSON.stringify(flock.labels())")
    page.press("Enter")
    page.js("() => { for (let i = 0; i < 120; i++) flock.frame(1 / 60); }")
    assert page.js("JSON.stringify(flock.labels())") != far
    page.press("Escape", "Escape")
    page.js("() => { for (let i = 0; i < 240; i++) flock.frame(1 / 60); }")
    assert page.js("flock.search('a0')") == 8
    assert page.js("flock.search('nothing of that name')") == 0


def test_a_click_chooses_and_tells_and_the_tables_say_the_same(open_page: Open) -> None:
    """`onSelect` hears of clicks on the picture and in the tables; the tables have a row for each agent."""
    page = open_page()
    header, records = tape(8)
    page.js("""([header, records]) => { window.told = []; window.make({ autoplay: false, onSelect: (it) => told.push(it) });
        flock.header(header); flock.load(records); flock.seek(20000); }""", [header, records])
    name, x, y, _ = page.js("flock.birds()")[2]
    page.click(".mg-stage", x, y)
    assert page.js("told") == [{"kind": "agent", "id": name}]
    page.js("document.querySelector('.mg-tables').click()")
    assert page.js("document.querySelectorAll('.mg-table table:first-of-type tbody tr').length") == 8
    page.js("document.querySelector('.mg-table table:last-of-type tbody .mg-name').focus()")
    page.press("Enter")
    assert page.js("told[1].kind") == "object"


def test_what_is_wrong_is_said_in_a_line(open_page: Open) -> None:
    """An empty page says what to run; a lost or refused connection is said, also aloud; with records the line goes."""
    page = open_page(mode="live")
    page.js("flock.status({ connection: 'empty' })")
    line = "document.querySelector('.mg-line').hidden ? '' : document.querySelector('.mg-line').textContent"
    assert "memgang run" in page.js(line)
    page.js("(records) => { flock.status({ connection: 'live' }); flock.push(records); flock.frame(0.3); }", tape(3)[1][:50])
    assert page.js(line) == ""
    page.js("() => { flock.status({ connection: 'lost' }); flock.frame(0.3); }")
    assert "lost" in page.js(line) and "lost" in page.js("document.querySelector('.mg-heard').textContent")
    page.js("() => { flock.status({ connection: 'refused', text: 'Your token has expired.' }); flock.frame(0.3); }")
    assert page.js(line) == "Your token has expired."


def test_phases_and_failures_are_said_aloud_and_nothing_else(open_page: Open) -> None:
    """A screen reader hears of a phase as it begins and of the end, not of each event."""
    page = open_page(tape(3), autoplay=True)
    said = page.js("""() => { const said = new Set(); flock.play(); flock.setSpeed(4);
        for (let i = 0; i < 600; i++) { flock.frame(1 / 30); said.add(document.querySelector(".mg-heard").textContent); }
        return [...said].filter(Boolean); }""")
    phases = [f"Phase {name} begins" for name in ("read", "map", "shuffle", "reduce", "answer")]
    assert [text for text in said if text.startswith("Phase")] == phases
    assert all(text.startswith(("Phase", "The run is over")) or "failed so far" in text for text in said)


def test_themes_sizes_and_leaving_do_not_disturb(open_page: Open) -> None:
    """Another theme or size draws the same moment; a flock that is destroyed leaves nothing, and another can be made, many times."""
    page = open_page(tape(24))
    page.js("flock.seek(20000)")
    told = page.js("JSON.stringify(flock.state().told())")
    for width, height, theme in ((480, 860, "light"), (820, 600, "dark"), (1440, 860, "light")):
        page.size(width, height)
        page.js("(theme) => flock.setTheme(theme)", theme)
        assert not overlaps(page.js("flock.labels()"))
        assert page.js("document.querySelector('.mg').scrollWidth") <= width
    assert page.js("JSON.stringify(flock.state().told())") == told
    assert page.js("flock.png()").startswith("data:image/png;base64,")
    page.js("() => { flock.destroy(); for (let i = 0; i < 50; i++) { make({ autoplay: false }); flock.start(); flock.destroy(); } }")
    assert page.js("document.getElementById('root').children.length") == 0
    assert not page.errors and not page.elsewhere()


def test_500_agents_and_10000_objects_are_shown(open_page: Open, record_property: Callable[[str, Any], None]) -> None:
    """The largest picture that is promised draws, and all birds are on it. How long a frame takes is noted, not judged."""
    page = open_page(tape(500))
    took = page.js("""() => { flock.seek(12000); flock.perf.on = true; flock.play();
        for (let i = 0; i < 9; i++) flock.frame(1 / 60); flock.pause();
        return flock.perf.js.sort((a, b) => a - b)[4]; }""")
    record_property("ms_of_script_per_frame", took)
    birds = page.js("flock.birds()")
    assert len(birds) == 500 and all(-60 < x < 1300 and -60 < y < 860 for _, x, y, _ in birds)
    page.js("flock.seek(38000)")
    assert page.js("flock.state().lights.size") >= 10_000
    assert not overlaps(page.js("flock.labels()")) and not page.errors
