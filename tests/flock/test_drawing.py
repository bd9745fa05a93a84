"""The still that no browser makes: the same geometry as the moving picture's, well-formed whatever the names are."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from memgang.flock.dial import Dial, bands, colours, hue_of, phase_roles, ring_names
from memgang.flock.drawing import drawing
from memgang.flock.fold import Fold
from memgang.flock.records import RINGS
from memgang.flock.tape import Header, Tape
from tests.flock import node

SVG = "{http://www.w3.org/2000/svg}"


def records(count: int, seed: int = 3) -> list[dict[str, Any]]:
    """Objects of all rings, some without a place, some made from others, some reused."""
    chance = random.Random(seed)
    made: list[dict[str, Any]] = [{"id": "0", "t": 0, "op": "run_start", "text": "<script>alert(1)</script> & \"more\""}]
    for n in range(count):
        rec: dict[str, Any] = {"id": f"w{n}", "t": n, "op": "write", "raw": "put", "agent": f"<b>{n % 5}", "role": "note",
                               "obj": f"o{n}", "ring": RINGS[n % 6], "kind": "k<i>", "tok": n,
                               "src": [f"o{chance.randrange(n)}"] if n else []}
        if chance.random() < 0.7:
            rec["pos"] = round(chance.random(), 4)
        made.append(rec)
        if n % 4 == 0:
            made.append({"id": f"h{n}", "t": n, "op": "hit", "raw": "hit", "agent": "a", "role": "find", "obj": f"o{n // 2}",
                         "saved": [1, 1, 100, 10, 0, 20]})
    return made


@pytest.mark.parametrize(("count", "size"), [(5, (1440, 860)), (90, (700, 500)), (2000, (1440, 860)), (40, (380, 300))])
def test_objects_stand_where_the_browser_puts_them(count: int, size: tuple[int, int]) -> None:
    """To a hundredth of a pixel, whatever their number and the size of the picture."""
    fold = Fold()
    for rec in records(count):
        fold.apply(rec)
    mine = Dial(*size)
    mine.learn(fold.lights.values())
    theirs = node.run("""
        const { Dial } = await import(WEB + '/layout.js');
        const dial = new Dial();
        dial.resize(given.size[0], given.size[1], 0);
        dial.learn(given.lights, true);
        tell([dial.centre, Object.fromEntries([...dial.spots].map(([id, spot]) => [id, [spot.x, spot.y, spot.room]]))]);
    """, {"size": size, "lights": [{"id": o.id, "ring": o.ring, "pos": o.pos, "kind": o.kind} for o in fold.lights.values()]})
    assert theirs[0] == pytest.approx(mine.centre)
    here = {i: (s.x, s.y, s.room) for i, s in mine.spots.items()}
    assert here == {i: pytest.approx(tuple(xyr), abs=0.01) for i, xyr in theirs[1].items()}


def test_names_of_strangers_are_text_in_the_picture() -> None:
    """A title or an agent's name that looks like a tag is shown, and is no element; the file is well-formed, and fetches nothing."""
    made = records(60)
    title = '<img src=x onerror="y">\x00\x1b\u202e' + "x" * 3000
    text = drawing(Tape(Header("run", title=title, model="simulated", synthetic=True), made), 30)
    root = ET.fromstring(text)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "defs", "radialGradient", "stop", "rect", "g", "path", "circle", "polygon", "title", "text"}
    assert not any(name.startswith("on") or name.endswith("href") for element in root.iter() for name in element.attrib)
    said = [element.text or "" for element in root.iter(SVG + "text")]
    assert any(line.startswith("<img src=x") for line in said) and any("simulated model" in line for line in said)


def test_the_picture_of_a_moment_shows_what_there_was_then() -> None:
    """Half way there are half of the objects, at their places of the end; the numbers are those of that moment."""
    tape = Tape(Header("run"), records(100))
    early, late = (ET.fromstring(drawing(tape, t)) for t in (49, 10**6))

    def dots(root: ET.Element) -> set[tuple[str | None, str | None]]:
        return {(c.get("cx"), c.get("cy")) for c in root.iter(SVG + "circle") if c.get("fill") != "url(#halo)"}

    assert dots(early) < dots(late)
    assert "13 of 13" in "".join(early.itertext()) and "25 of 25" in "".join(late.itertext())


def test_roles_and_phases_are_those_of_the_scripts() -> None:
    """Also for a role that nobody knows: the same hue in both languages."""
    roles = ["note", "find", "answer", "read", "", "somebody's own", "ä\U0001f426", "constructor"]
    theirs = node.run("""
        const { lookOf, phaseOf } = await import(WEB + '/roles.js');
        tell([given.roles.map((role) => lookOf(role).hue), given.phases.map((name) => phaseOf(name).roles)]);
    """, {"roles": roles, "phases": list(phase_roles())})
    assert theirs == [[hue_of(role) for role in roles], list(phase_roles().values())]


def test_how_far_a_phase_is_is_counted_by_its_own_roles() -> None:
    """Ten notes planned and none taken are none of the map, whatever others have done meanwhile."""
    made = [{"id": "1", "t": 0, "op": "run_start"}, {"id": "2", "t": 1, "op": "phase", "text": "map"},
            {"id": "3", "t": 2, "op": "planned", "role": "note", "text": "10"},
            *({"id": f"d{n}", "t": 3, "op": "done", "raw": "committed", "ck": "function", "agent": "f", "role": "find"} for n in range(10))]
    assert "0%" in "".join(ET.fromstring(drawing(Tape(Header("run"), made), 10)).itertext())


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_colours_and_bands_are_those_of_the_scripts(theme: str) -> None:
    """All that the still needs is found in them."""
    assert set(bands()) == set(ring_names()) == set(RINGS)
    assert {"ground", "ink", "mut", "dim", "line", "gold", "goldText", "wait", "error", "idle", "pale", "map", "shuffle", "reduce",
            *RINGS} <= set(colours(theme))
