"""The flock's colours are told apart by everybody, and stand out from the ground."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.flock.conftest import WEB, Page

# Machado, Oliveira and Fernandes 2009, severity 1; for linear RGB.
SIGHTS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
LEAST = {"normal": 25, "protan": 12, "deutan": 12, "tritan": 12}  # CIE76


def linear(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue))  # type: ignore[return-value]


def luminance(colour: str) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, sight: str) -> tuple[float, float, float]:
    rgb = linear(colour)
    red, green, blue = (min(1.0, max(0.0, sum(a * b for a, b in zip(row, rgb, strict=True)))) for row in SIGHTS[sight])
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(one: str, other: str, sight: str) -> float:
    return sum((a - b) ** 2 for a, b in zip(lab(one, sight), lab(other, sight), strict=True)) ** 0.5  # type: ignore[no-any-return]


@pytest.fixture
def palette(open_page: Callable[..., Page]) -> Any:
    return open_page().js("async () => { const { THEMES, APART } = await import('/palette.js'); return [THEMES, APART]; }")


def test_hues_seen_side_by_side_are_apart_for_every_kind_of_sight(palette: Any) -> None:
    """No pair of the flock's or the stream's hues comes closer than CIE76 12, in either theme."""
    themes, apart = palette
    close = [
        f"{theme} {sight}: {one} and {other} are {far:.1f} apart"
        for theme, hues in themes.items() for names in apart.values() for one, other in itertools.combinations(names, 2)
        for sight in SIGHTS if (far := distance(hues[one], hues[other], sight)) < LEAST[sight]
    ]
    assert not close


def test_hues_stand_out_from_the_ground_and_text_is_legible(palette: Any) -> None:
    """Graphics have a contrast of 3:1 with the ground, text of 4.5:1 (WCAG 2)."""
    themes, apart = palette
    for theme, hues in themes.items():
        for name in {name for names in apart.values() for name in names} | {"src", "fact", "part", "red", "pale"}:
            assert contrast(hues[name], hues["ground"]) >= 3, (theme, name)
        for name in ("ink", "mut", "goldText", "dim"):
            assert contrast(hues[name], hues["ground"]) >= (4.5 if name != "dim" else 4), (theme, name)


def test_gold_is_used_for_nothing_but_reuse(palette: Any) -> None:
    """No other hue is gold, or near it, in either theme."""
    for hues in palette[0].values():
        colours = {name: value for name, value in hues.items() if isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value)}
        for name, colour in colours.items():
            if name not in ("gold", "goldText"):
                assert distance(colour, hues["gold"], "normal") > 25, name


def test_the_style_sheet_has_the_colours_of_the_palette(palette: Any) -> None:
    """`flock.css` and `palette.js` name the same value for each hue."""
    css = (WEB / "flock.css").read_text("utf-8")
    for theme, hues in palette[0].items():
        block = re.search(rf"^\.mg\.{theme} {{\n(.*?)^}}", css, re.S | re.M)
        assert block
        told = dict(re.findall(r"--mg-(\w+): (#\w+);", block[1]))
        assert told == {name: value for name, value in hues.items() if name in told} and len(told) >= 20
