"""The dial: where in the picture an object stands. The geometry of `web/layout.js` for a whole run, in Python, for pictures that no
browser makes; a test holds the two together. Colours and bands are read from the scripts, so that they stand in one place.

Radius is the distance to the answer: each ring is a band. Angle is the place in the document, clockwise from the bottom, where a gap
is left for the names of the rings.
"""

from __future__ import annotations

import bisect
import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from memgang.flock.bundle import source
from memgang.flock.fold import Light
from memgang.flock.records import RINGS

TURN = math.pi * 2
ONE_ROW, ROWS_MAX, GAP_PX = 120, 14, 76
EVEN_UNTIL = 8  # with fewer parts the document is taken as even


@functools.cache
def bands() -> dict[str, tuple[float, float]]:
    """Each ring's inner and outer radius, in parts of the dial's."""
    block = _block(source("layout.js"), "BANDS")
    return {ring: (float(one), float(two)) for ring, one, two in re.findall(r"(\w+): \[([\d.]+), ([\d.]+)\]", block)}


@functools.cache
def ring_names() -> dict[str, str]:
    """What each ring is called."""
    return dict(re.findall(r'(\w+): "([^"]+)"', _block(source("layout.js"), "RING_NAMES")))


@functools.cache
def colours(theme: str) -> dict[str, str]:
    """The palette of a theme: dark or light."""
    found = re.search(rf"\b{theme}: \{{(.*?)\n  \}}", source("palette.js"), re.DOTALL)
    assert found is not None, theme
    return dict(re.findall(r'(\w+): "(#[0-9a-f]{6})"', found[1]))


@functools.cache
def looks() -> dict[str, str]:
    """Role -> hue."""
    return dict(re.findall(r'"?(\w*)"?: "(\w+)"', _block(source("roles.js"), "LOOK_OF")))


def hue_of(role: str) -> str:
    """The hue of a role; one that is not known has one of three, always the same."""
    return looks().get(role) or ("map", "shuffle", "reduce")[_hash(role) % 3]


@functools.cache
def phase_roles() -> dict[str, list[str]]:
    """The roles by whose calls the progress of a phase is counted."""
    block = re.search(r"const PHASES = \{(.*?)\n\};", source("roles.js"), re.DOTALL)
    assert block is not None
    return {name: re.findall(r'"(\w+)"', roles) for name, roles in re.findall(r"(\w+): \{.*?roles: \[(.*?)\] \}", block[1])}


def _hash(text: str) -> int:
    """`hashOf` of roles.js: FNV-1a over UTF-16, mixed."""
    units = text.encode("utf-16-le", "surrogatepass")
    value = 2166136261
    for at in range(0, len(units), 2):
        value = (value ^ units[at] ^ units[at + 1] << 8) * 16777619 & 0xFFFFFFFF
    value ^= value >> 15
    value = value * 2246822519 & 0xFFFFFFFF
    return value ^ value >> 13


def _block(text: str, name: str) -> str:
    found = re.search(rf"const {name} = \{{(.*?)\}};", text, re.DOTALL)
    assert found is not None, name
    return found[1]


@dataclass(slots=True)
class Spot:
    """Where one object stands; ``room`` is how many pixels there are to the next."""

    light: Light
    index: int
    x: float = 0.0
    y: float = 0.0
    slot: int = 0
    room: float = 40.0


@dataclass
class Dial:
    """A dial of a certain size, in pixels; ``left`` of them at the left are covered by something else."""

    width: float
    height: float
    left: float = 0.0
    spots: dict[str, Spot] = field(default_factory=dict)
    sources: list[float] = field(default_factory=list)  # places of the source's parts, sorted

    def __post_init__(self) -> None:
        roomy = self.width > 620
        self.cx = self.width / 2 + self.left * 0.3
        self.cy = self.height / 2 + (1 if roomy else 0)
        self.rx = max(60.0, min((self.width - (100 if roomy else 56)) / 2 - self.left * 0.3, self.height * 0.85) / 1.07)
        self.ry = max(60.0, (self.height / 2 - (24 if roomy else 20)) / 1.09)
        self.centre = max(22.0, min(43.0, min(self.rx, self.ry) * 0.17))

    def gap(self, radius: float) -> float:
        """Half the angle of the gap at the bottom, at a part of the radius."""
        return min(0.95, math.asin(min(0.95, min(GAP_PX, self.rx * 0.24) / (self.rx * radius))))

    def point(self, angle: float, radius: float) -> tuple[float, float]:
        """A place in the picture."""
        return self.cx + math.cos(angle) * self.rx * radius, self.cy + math.sin(angle) * self.ry * radius

    def angle_at(self, place: float, radius: float) -> float:
        """The angle of a place 0..1 in the document."""
        gap = self.gap(radius)
        return math.pi / 2 + gap + (TURN - 2 * gap) * place

    def learn(self, lights: Iterable[Light]) -> None:
        """Give all objects of a run their places."""
        by_ring: defaultdict[str, list[Spot]] = defaultdict(list)
        for index, light in enumerate(lights):
            spot = self.spots[light.id] = Spot(light, index)
            by_ring[light.ring if light.ring in RINGS else "map"].append(spot)
        self.sources = sorted(spot.light.pos for spot in by_ring["src"] if spot.light.pos is not None)
        for ring, spots in by_ring.items():
            if spots:
                self._place(ring, spots, self._arranged(spots))

    def share(self, pos: float) -> float:
        """A place in the document as its share of the way round: where parts of the source are close together there is more room, on
        all rings alike, so that a result stands straight inside what it was made from."""
        count = len(self.sources)
        if count < EVEN_UNTIL:
            return max(0.0, min(1.0, pos))
        low, last = bisect.bisect_left(self.sources, pos), bisect.bisect_right(self.sources, pos)
        if last > low:
            return (low + last) / 2 / count
        before, after = self.sources[low - 1] if low else 0.0, self.sources[low] if low < count else 1.0
        return (low - 0.5 + ((pos - before) / (after - before) if after > before else 0.5)) / count

    def _arranged(self, spots: Sequence[Spot]) -> int:
        """Give each its slot, as near to its place in the document as the others let it; those without one take what is left, by
        order. The number of slots: so many that where they stand closest each still finds one near its own."""
        known = sorted((s for s in spots if s.light.pos is not None), key=lambda s: (s.light.pos, s.index))
        wanted = [max(0.0, min(0.9999, self.share(s.light.pos))) for s in known if s.light.pos is not None]
        parts = [0] * 12
        for share in wanted:
            parts[math.floor(share * 12)] += 1
        places = max(8, len(spots), math.ceil(min(len(spots) * 2.2, max(parts) * 12)))
        taken = [False] * places
        last = -1
        for spot, share in zip(known, wanted, strict=True):
            last = spot.slot = max(last + 1, math.floor(share * places))
        limit = places
        for spot in reversed(known):
            limit = spot.slot = min(spot.slot, limit - 1)
            taken[limit] = True
        others = [spot for spot in spots if spot.light.pos is None]
        free = [slot for slot in range(places) if not taken[slot]]
        for place, spot in enumerate(others):
            spot.slot = free[min(len(free) - 1, math.floor((place + 0.5) * len(free) / len(others)))]
        return places

    def _place(self, ring: str, spots: Sequence[Spot], places: int) -> None:
        inner, outer = bands()[ring]
        middle = (inner + outer) / 2
        arc = (TURN - 2 * self.gap(max(middle, 0.1))) * math.sqrt((self.rx**2 + self.ry**2) / 2) * middle
        deep = places * (outer - inner) * (self.rx + self.ry) / 2 / max(arc, 1)
        rows = 1 if places <= ONE_ROW and arc / places > 5 else max(2, min(ROWS_MAX, math.ceil(math.sqrt(deep))))
        columns = math.ceil(places / rows)
        for spot in spots:
            spot.room = min(arc / columns, (outer - inner) * self.ry / (rows - 1) if rows > 1 else 99)
            if ring == "ans":
                spot.x, spot.y = self.cx, self.cy
                continue
            column, row = divmod(spot.slot, rows)
            radius = middle if rows == 1 else outer + (inner - outer) * row / (rows - 1)
            spot.x, spot.y = self.point(self.angle_at((column + 0.5) / columns, middle), radius)
