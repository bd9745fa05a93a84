"""What the charts of all pages share: the colours of states and causes, in the viewer's theme. Gold is reuse, here too, and
nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import streamlit as st

from memgang.flock.dial import colours

# What each state is painted with, by the palette's names (`STATE_HUES` of palette.js).
_HUES = {"think": "think", "work": "idle", "wait": "wait", "read": "read", "write": "write", "reuse": "gold", "error": "error"}
STATES = list(_HUES)
# How much of its gold each cause keeps; what was made and paid for has none.
_GOLD = {"hit": 1.0, "joined": 0.86, "read": 0.74, "reference": 0.62, "prefix": 0.52}
CAUSES = ["made", *_GOLD]


def palette() -> dict[str, str]:
    """The colours in the theme the viewer has; those of the light one until the browser has told, as a page is drawn then."""
    return colours("dark" if st.context.theme.type == "dark" else "light")


def states(paint: dict[str, str]) -> alt.Scale:
    """The colours of what agents do."""
    return alt.Scale(domain=STATES, range=[paint[_HUES[state]] for state in STATES])


def causes(paint: dict[str, str]) -> alt.Scale:
    """The colours of why a call was not made, the first one the flock's gold, and of those that were."""
    return alt.Scale(domain=CAUSES, range=[paint["idle"], *(_darker(paint["gold"], share) for share in _GOLD.values())])


def _darker(colour: str, share: float) -> str:
    return "#" + "".join(f"{round(int(colour[at:at + 2], 16) * share):02x}" for at in (1, 3, 5))


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
