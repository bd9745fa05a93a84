"""Stills and films of a tape, taken in a real browser that nobody sees: Chromium, driven by Playwright (extra ``film``).

The browser is one that is there already; nothing is downloaded. A film is made by steps of the picture's own clock, not of the
wall's: a slow machine gives the same frames, later.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
from collections.abc import Iterator
from typing import Any

from memgang.errors import ConfigError
from memgang.flock.dial import colours
from memgang.flock.page import page
from memgang.flock.tape import Tape

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--force-color-profile=srgb")
STEP_S = 1 / 50  # of the picture's own clock, at most
FRAMES_MAX = 1_200  # of one film: all of them are in memory when it is put together
END_S = 1.5  # how long a film stays at the end
COLOURS = 64
WIDTH_MIN = 900
LOADED_MS = 60_000


def browser(named: str | None = None) -> str:
    """The path of a Chromium: the one that is named, or one on PATH.

    Raises:
        ConfigError: there is none.
    """
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = f"MEMGANG_BROWSER={named} is no program" if named else "no Chromium is on PATH, and MEMGANG_BROWSER names none"
        raise ConfigError(f"{missing}: a browser takes the pictures (Debian, Ubuntu: apt install chromium); --html and --svg need none")
    return found


def flags() -> list[str]:
    """How the browser is started. Its sandbox stays, but for root, for whom Chromium has none."""
    return [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


def still(tape: Tape, at_ms: int, *, width: int, height: int, theme: str = "dark", named: str | None = None) -> bytes:
    """The picture at that moment of the run, as PNG. Raises ConfigError: no browser, or the extra is not installed."""
    with _stage(tape, width, height, theme, named) as stage:
        stage.evaluate("(t) => { flock.stop(); flock.seek(t); }", at_ms)
        return _shot(stage)


def film(
    tape: Tape, *, width: int, height: int, seconds: float, fps: int, theme: str = "dark", named: str | None = None,
) -> bytes:
    """The whole run in so many seconds, as an animated GIF that begins again at its end.

    Raises:
        ConfigError: as `still`, or it has too many frames.
    """
    frames = max(2, round(seconds * fps))
    if frames > FRAMES_MAX:
        raise ConfigError(f"{seconds:g} s at {fps} pictures a second are {frames:,} pictures; at most {FRAMES_MAX:,}")
    steps = math.ceil(1 / fps / STEP_S)
    # Small films are taken large: the words stay words, and the picture keeps its columns.
    wide = max(width, WIDTH_MIN)
    pictures = []
    with _stage(tape, wide, round(height * wide / width), theme, named, film=True) as stage:
        stage.evaluate("(seconds) => { flock.stop(); flock.seek(0); flock.playIn(seconds); }", seconds)
        for _ in range(frames + round(END_S * fps)):
            stage.evaluate("([n, dt]) => { for (let i = 0; i < n; i++) flock.frame(dt); }", [steps, 1 / fps / steps])
            pictures.append(_shot(stage))
    return _gif(pictures, fps, (width, height), [*colours(theme).values()])


@contextlib.contextmanager
def _stage(tape: Tape, width: int, height: int, theme: str, named: str | None, *, film: bool = False) -> Iterator[Any]:
    """A page that shows the tape and moves only when told."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise ConfigError("pictures are taken by Playwright: pip install 'memgang[film]'; --html and --svg need no browser") from error
    path = browser(named)
    with sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=path, args=flags())
        except Error as error:
            raise ConfigError(f"{path} does not start: {str(error).splitlines()[0]}") from error
        try:
            # Our own steps are scripts from outside, which the page's policy would refuse.
            stage = chromium.new_page(viewport={"width": width, "height": height}, bypass_csp=True,
                                      color_scheme="light" if theme == "light" else "dark")
            stage.set_content(page(tape, theme=theme, at_ms=0, film=film), wait_until="load")
            stage.wait_for_selector("body[data-state]", timeout=LOADED_MS)
            yield stage
        finally:
            chromium.close()


def _shot(stage: Any) -> bytes:
    png: bytes = stage.screenshot(type="png", animations="disabled", caret="hide")
    return png


def _gif(pictures: list[bytes], fps: int, size: tuple[int, int], hues: list[str]) -> bytes:
    from PIL import Image

    images = [Image.open(io.BytesIO(picture)).convert("RGB").resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    # One palette for all, made from pictures of the whole run: with one for each, still areas flicker and nothing can be left out.
    # Our own hues are in it whatever their share of the pixels: gold means something.
    some = images[:: max(1, len(images) // 8)]
    strip = Image.new("RGB", (size[0], size[1] * len(some)))
    for place, image in enumerate(some):
        strip.paste(image, (0, place * size[1]))
    found = strip.quantize(COLOURS - len(hues), method=Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(found[: 3 * (COLOURS - len(hues))] + [int(hue[at:at + 2], 16) for hue in hues for at in (1, 3, 5)])
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, optimize=True, disposal=1)
    return out.getvalue()
