"""What the charts of all pages share: the colours of states and causes. Gold is reuse, here too, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt

STATES = ["think", "work", "wait", "read", "write", "reuse", "error"]
STATE_COLOURS = ["#7468f2", "#66708f", "#ff8a4c", "#8fa3d8", "#cf8bff", "#ffd166", "#ff6b6b"]
CAUSES = ["made", "hit", "joined", "read", "reference", "prefix"]
CAUSE_COLOURS = ["#66708f", "#ffd166", "#e0a93b", "#c08a2a", "#94691f", "#6b4c16"]


def chart_of(values: list[dict[str, Any]]) -> alt.Chart:
    """A chart of these values."""
    return alt.Chart(alt.Data(values=values))  # type: ignore[no-untyped-call]


class Tile(NamedTuple):
    """A rectangle of a treemap, in a field of 1 by 1."""

    name: str
    value: float
    x: float
    y: float
    x2: float
    y2: float


def treemap(parts: Sequence[tuple[str, float]], width: float = 1.0, height: float = 1.0) -> list[Tile]:
    """Areas in proportion to the values, as near to squares as rows of them allow (M. Bruls, K. Huizing, J. van Wijk,
    "Squarified Treemaps", 2000). Values that are not above 0 have no tile."""
    left = sorted(((name, value) for name, value in parts if value > 0), key=lambda part: -part[1])
    whole = sum(value for _, value in left)
    tiles: list[Tile] = []
    x, y, w, h = 0.0, 0.0, width, height
    scale = width * height / whole if whole else 0.0
    while left:
        side = min(w, h)
        count = 1
        while count < len(left) and _worst(left[:count + 1], side, scale) <= _worst(left[:count], side, scale):
            count += 1
        row, left = left[:count], left[count:]
        thick = sum(value for _, value in row) * scale / side if side else 0.0
        along = 0.0
        for name, value in row:
            long = value * scale / thick if thick else 0.0
            tiles.append(Tile(name, value, x + along, y, x + along + long, y + thick) if w <= h else
                         Tile(name, value, x, y + along, x + thick, y + along + long))
            along += long
        x, y, w, h = (x, y + thick, w, h - thick) if w <= h else (x + thick, y, w - thick, h)
    return tiles


def _worst(row: Sequence[tuple[str, float]], side: float, scale: float) -> float:
    """The least square of the row's shapes: how much longer than wide."""
    areas = [value * scale for _, value in row]
    total = sum(areas)
    return max(max(side * side * area / total**2, total**2 / (side * side * area)) for area in areas) if side and total else float("inf")
