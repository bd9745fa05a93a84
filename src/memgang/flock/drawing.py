"""A still of a run as SVG: drawn by nobody's browser, sharp at any size, for papers and for machines without a screen.

The same dial as the moving picture's (`dial.py`), with what can be said in one moment: objects and what they were made from, reuse
in gold, agents at what they are at, how far the phase is, and the numbers. Text is escaped; nothing in it runs or is fetched.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from memgang.flock.crew import crew
from memgang.flock.dial import TURN, Dial, Spot, bands, colours, hue_of, phase_roles, ring_names
from memgang.flock.fold import Agent, Fold
from memgang.flock.records import RINGS
from memgang.flock.tape import Header, Tape

CAPTION_PX, TITLE_PX, MARGIN_PX = 58, 40, 18
HOTTEST = 5
TITLE_MAX = 120
FONT = "Inter, 'Segoe UI', system-ui, sans-serif"
# What XML 1.0 cannot hold, and the marks that turn the direction of text.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
# A bird that flies to the right: tip, wing, tail, wing; in parts of its size.
_BIRD = ((1.0, 0.0), (-0.85, 0.9), (-0.35, 0.0), (-0.85, -0.9))


def drawing(tape: Tape, at_ms: int, *, width: int = 1440, height: int = 860, theme: str = "dark") -> str:
    """The picture at that moment of the run. ``theme``: dark or light; sizes in pixels."""
    whole, now = Fold(), Fold()
    for words in tape.records:
        whole.apply(words)
        if words["t"] <= at_ms:
            now.apply(words)
    dial = Dial(width, height - CAPTION_PX - TITLE_PX)
    dial.learn(whole.lights.values())
    return "\n".join(_lines(tape.header, now, at_ms, dial, width, height, colours(theme)))


def _lines(header: Header, fold: Fold, at_ms: int, dial: Dial, width: int, height: int, hue: dict[str, str]) -> Iterator[str]:
    title = _safe(header.title or header.run or "a run", TITLE_MAX)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           f'role="img" aria-label="{title.replace(chr(34), "&quot;")}" font-family="{FONT}">')
    yield (f'<defs><radialGradient id="halo"><stop offset="0" stop-color="{hue["gold"]}" stop-opacity=".75"/>'
           f'<stop offset=".35" stop-color="{hue["gold"]}" stop-opacity=".22"/>'
           f'<stop offset="1" stop-color="{hue["gold"]}" stop-opacity="0"/>'
           "</radialGradient></defs>")
    yield f'<rect width="{width}" height="{height}" fill="{hue["ground"]}"/>'
    yield _text(MARGIN_PX, 26, f"{title}", hue["ink"], size=15, weight=650)
    yield f'<g transform="translate(0 {TITLE_PX})">'
    yield from _rings(fold, dial, hue)
    yield from _threads(fold, dial, hue)
    yield from _lights(fold, dial, hue)
    yield from _birds(fold, dial, hue)
    yield from _centre(fold, dial, hue)
    yield from _names(fold, dial, hue)
    yield "</g>"
    yield from _caption(header, fold, at_ms, width, height, hue)
    yield "</svg>"


def _rings(fold: Fold, dial: Dial, hue: dict[str, str]) -> Iterator[str]:
    counts = fold.told()["rings"]
    for ring in RINGS[:-1]:
        middle = sum(bands()[ring]) / 2
        gap = dial.gap(middle)
        (x1, y1), (x2, y2) = dial.point(math.pi / 2 + gap, middle), dial.point(math.pi / 2 - gap, middle)
        yield (f'<path d="M{x1:.1f} {y1:.1f}A{dial.rx * middle:.1f} {dial.ry * middle:.1f} 0 1 1 {x2:.1f} {y2:.1f}" '
               f'fill="none" stroke="{hue["dim"]}" stroke-opacity=".25"/>')
        yield _text(dial.cx, dial.cy + dial.ry * middle + 4, f"{ring_names()[ring]}  {counts[ring]:,}", hue["mut"],
                    anchor="middle", weight=600)


def _threads(fold: Fold, dial: Dial, hue: dict[str, str]) -> Iterator[str]:
    """From parents to children, bent to the centre: the shuffle shows as chords, the reduction as spokes."""
    pairs = [(dial.spots[parent], dial.spots[light.id]) for light in fold.lights.values() if light.written
             for parent in light.src if parent in fold.lights]
    faint = 0.3 if len(pairs) < 1500 else 0.08
    for one, other in pairs:
        pull = 0.55 if other.light.ring == "part" else 0.18
        x = (one.x + other.x) / 2 * (1 - pull) + dial.cx * pull
        y = (one.y + other.y) / 2 * (1 - pull) + dial.cy * pull
        yield (f'<path d="M{one.x:.1f} {one.y:.1f}Q{x:.1f} {y:.1f} {other.x:.1f} {other.y:.1f}" fill="none" '
               f'stroke="{hue.get(other.light.ring, hue["map"])}" stroke-opacity="{faint}" stroke-width=".8"/>')


def _lights(fold: Fold, dial: Dial, hue: dict[str, str]) -> Iterator[str]:
    most = max((light.reuses for light in fold.lights.values()), default=0)
    for light in fold.lights.values():
        if light.ring == "ans":
            continue
        spot = dial.spots[light.id]
        radius = min(max(1.4, min(3.6, math.sqrt(light.tok) / 7)), max(1.0, spot.room * 0.42))
        if light.reuses:
            halo = min(5 + 25 * math.sqrt(light.reuses / most), max(5.0, spot.room * 0.9))
            yield f'<circle cx="{spot.x:.1f}" cy="{spot.y:.1f}" r="{halo:.1f}" fill="url(#halo)"/>'
        solid = light.written and not light.gone
        paint = hue["gold"] if light.reuses else hue.get(light.ring, hue["map"])
        yield (f'<circle cx="{spot.x:.1f}" cy="{spot.y:.1f}" r="{radius:.1f}" '
               + (f'fill="{paint}"/>' if solid else f'fill="none" stroke="{paint}" stroke-opacity=".5"/>'))


def _birds(fold: Fold, dial: Dial, hue: dict[str, str]) -> Iterator[str]:
    agents = crew(fold)
    size = 9 if len(agents) <= 12 else 7 if len(agents) <= 120 else 4
    for number, agent in enumerate(agents):
        x, y, heading = _perch(agent, number, len(agents), dial)
        points = " ".join(f"{x + size * (a * math.cos(heading) - c * math.sin(heading)):.1f},"
                          f"{y + size * (a * math.sin(heading) + c * math.cos(heading)):.1f}" for a, c in _BIRD)
        at_work = agent.state not in ("idle", "gone")
        paint = hue["wait"] if agent.state == "wait" else hue["error"] if agent.state == "error" else hue[hue_of(agent.role)]
        yield (f'<polygon points="{points}" fill="{paint if at_work else hue["idle"]}" fill-opacity="{1 if at_work else 0.55}" '
               f'stroke="{hue["ground"]}" stroke-width=".7"><title>{_safe(agent.name, 80)}</title></polygon>')


def _perch(agent: Agent, number: int, count: int, dial: Dial) -> tuple[float, float, float]:
    """Where an agent is, and where it looks to; the same for a name in every picture."""
    chance = zlib.crc32(agent.name.encode()) / 2**32 * TURN
    spot = dial.spots.get(agent.obj)
    if agent.state in ("idle", "gone") or spot is None:
        along = TURN * number / max(count, 1)
        return *dial.point(along, 0.36 + 0.03 * math.sin(chance)), along + math.pi / 2
    away = dial.centre * 1.5 if spot.light.ring == "ans" else 22.0
    x, y = spot.x + math.cos(chance) * away, spot.y + math.sin(chance) * away
    return x, y, math.atan2(spot.y - y, spot.x - x)


def _centre(fold: Fold, dial: Dial, hue: dict[str, str]) -> Iterator[str]:
    name = fold.phases[-1][0] if fold.phases else ""
    roles = [fold.roles[role] for role in phase_roles().get(name, [name]) if role in fold.roles] or list(fold.roles.values())
    planned = sum(role.planned for role in roles)
    share = 1.0 if fold.ended else min(1.0, sum(role.done for role in roles) / planned) if planned else 0.0
    radius, paint = dial.centre, hue["reduce"] if fold.ended else hue["map"]
    yield f'<circle cx="{dial.cx:.1f}" cy="{dial.cy:.1f}" r="{radius + 9:.1f}" fill="{hue["ground"]}" fill-opacity=".85"/>'
    yield f'<circle cx="{dial.cx:.1f}" cy="{dial.cy:.1f}" r="{radius:.1f}" fill="none" stroke="{hue["line"]}" stroke-width="4"/>'
    length = TURN * radius
    yield (f'<circle cx="{dial.cx:.1f}" cy="{dial.cy:.1f}" r="{radius:.1f}" fill="none" stroke="{paint}" stroke-width="4" '
           f'stroke-dasharray="{length * share:.1f} {length:.1f}" transform="rotate(-90 {dial.cx:.1f} {dial.cy:.1f})"/>')
    says = _safe("answer" if fold.ended == "done" else fold.ended or name, 12)
    if planned and not fold.ended:
        yield _text(dial.cx, dial.cy + 2, f"{math.floor(share * 100)}%", hue["ink"], anchor="middle", size=16, weight=700)
        yield _text(dial.cx, dial.cy + 18, says, hue["mut"], anchor="middle")
    else:
        yield _text(dial.cx, dial.cy + 5, says, hue["ink"], anchor="middle", size=13, weight=650)


def _names(fold: Fold, dial: Dial, hue: dict[str, str]) -> Iterator[str]:
    """What was reused most, where there is room to say so."""
    taken: list[tuple[float, float]] = []
    most = max((light.reuses for light in fold.lights.values()), default=0)
    hottest = [light for light in fold.lights.values() if light.reuses >= max(3, most / 4)]
    hottest.sort(key=lambda light: (-light.reuses, light.id))
    for light in hottest[:HOTTEST * 3]:
        spot: Spot = dial.spots[light.id]
        x, y = spot.x, spot.y - 12
        if len(taken) < HOTTEST and all(abs(x - a) > 90 or abs(y - b) > 16 for a, b in taken):
            taken.append((x, y))
            yield _text(x, y, f"{_safe(light.kind, 12)} ×{light.reuses:,}", hue["goldText"], anchor="middle", weight=650,
                        ground=hue["ground"])


def _caption(header: Header, fold: Fold, at_ms: int, width: int, height: int, hue: dict[str, str]) -> Iterator[str]:
    totals = fold.totals()
    made, saved = totals["physical"]["llm_calls"], totals["avoided"]["llm_calls"]
    tokens = totals["avoided"]["tokens_in"] + totals["avoided"]["tokens_out"]
    dollars = totals["avoided"]["micro_usd"] / 1e6
    about = "~" if totals["avoided"]["estimated"] else ""
    share = f"{math.floor(saved / (made + saved) * 100)}%" if made + saved else "0%"  # down: 99.6 is not all
    yield _text(MARGIN_PX, height - 30, share, hue["goldText"], size=26, weight=700)
    counted = f"of LLM calls not made: {saved:,} of {made + saved:,}; {about}{tokens:,} tokens, {about}${dollars:,.4f}"
    yield _text(MARGIN_PX + 74, height - 32, counted, hue["ink"], size=13)
    began = datetime.fromtimestamp(header.began / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if header.began else ""
    facts = [_safe(header.run, 60), began, f"at {at_ms / 1000:.1f} s", f"{len(crew(fold)):,} agents, {len(fold.lights):,} objects",
             f"model {_safe(header.model, 60)}" if header.model else "", f"MemGang {_safe(header.version, 20)}" if header.version else "",
             "simulated model: latency, tokens and prices are made up" if header.synthetic else "", "names masked" if header.masked else ""]
    yield _text(MARGIN_PX, height - 10, " · ".join(filter(None, facts)), hue["mut"])
    yield _text(width - MARGIN_PX, height - 32, "gold: a call not made", hue["goldText"], anchor="end", size=12)


def _safe(text: str, most: int) -> str:
    """A stranger's text as XML may hold it."""
    return escape(_CONTROLS.sub(" ", text)[:most])


def _text(x: float, y: float, text: str, paint: str, *, anchor: str = "start", size: int = 11, weight: int = 500, ground: str = "") -> str:
    edge = f'stroke="{ground}" stroke-width="4" stroke-linejoin="round" paint-order="stroke" ' if ground else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" fill="{paint}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'{edge}xml:space="preserve">{text}</text>')
