"""The commands `replay` and `export`: a run as it went, in files that open anywhere."""

from __future__ import annotations

import json
import signal
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.doors.conftest import Memgang

from memgang.flock import film

TEXT = "\n\n".join(f"# Part {n}\n\nOn day {n} the council of town {n} bought {n * 3} boats for {n * 100} dollars." for n in range(6))
TITLE = "<img src=x onerror=alert(1)> Boats"


@pytest.fixture
def ran(memgang: Memgang) -> Iterator[Memgang]:
    """A command line behind which a gang has written a report."""
    (memgang.folder / "text.md").write_text(TEXT, "utf-8")
    assert memgang("run", "text.md", "-q", "Who bought boats?", "--title", TITLE, "--out", "out.md").status == 0
    yield memgang


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser: Debian's, or one already there. Nothing is downloaded."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (memgang[film])")
    try:
        path = film.browser()
    except Exception as error:
        pytest.skip(str(error))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=film.flags())
        yield browser
        browser.close()


def test_one_file_plays_the_run_with_the_totals_of_its_ledger_and_asks_nobody(ran: Memgang, chromium: Any) -> None:
    """From ``file://``, under a policy that forbids all requests; a title that looks like a tag is text."""
    assert ran("export", "--html", "run.html").status == 0
    assert (ran.folder / "run.html").stat().st_size < 300_000
    asked: list[str] = []
    errors: list[str] = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((ran.folder / "run.html").as_uri())
    page.wait_for_selector("body[data-state=ready]")
    page.evaluate("flock.pause(); flock.seek(10 ** 9)")
    shown = page.evaluate("flock.state().totals()")
    stats = json.loads(ran("stats", "--run", "last", "--json").out)
    assert shown == {name: stats[name] for name in shown} and shown["avoided"]["llm_calls"] > 0
    assert TITLE in page.inner_text("body") and page.locator("img").count() == 0
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == [] == errors
    page.close()


def test_a_tape_is_the_run_for_programs_and_for_whoever_has_no_server(ran: Memgang) -> None:
    """Written, it is played, drawn and written again elsewhere without the space; what it holds stays the same."""
    told = json.loads(ran("export", "last", "--jsonl", "run.jsonl", "--svg", "run.svg", "--json").out)
    lines = (ran.folder / "run.jsonl").read_text("utf-8").splitlines()
    assert told["records"] == len(lines) - 1 and told["files"]["jsonl"]["bytes"] == (ran.folder / "run.jsonl").stat().st_size
    elsewhere = {"MEMGANG_URL": "redis://127.0.0.1:1/0"}
    assert ran("export", "run.jsonl", "--jsonl", "again.jsonl", "--html", "run.html", "--svg", "again.svg", **elsewhere).status == 0
    assert (ran.folder / "again.jsonl").read_bytes() == (ran.folder / "run.jsonl").read_bytes()
    assert (ran.folder / "again.svg").read_bytes() == (ran.folder / "run.svg").read_bytes()
    assert TITLE in "".join(ET.parse(ran.folder / "run.svg").getroot().itertext())


def test_a_mask_hides_every_name(ran: Memgang) -> None:
    """Neither the title nor an agent's name nor an id of an object is in any file; the figures are the same."""
    ran("export", "--jsonl", "open.jsonl")
    assert ran("export", "--mask", "--jsonl", "masked.jsonl", "--svg", "masked.svg", "--html", "masked.html").status == 0
    opened = [json.loads(line) for line in (ran.folder / "open.jsonl").read_text("utf-8").splitlines()[1:]]
    masked = (ran.folder / "masked.jsonl").read_text("utf-8")
    for secret in {TITLE, *(rec["agent"] for rec in opened if rec.get("agent")), *(rec["obj"] for rec in opened if rec.get("obj"))}:
        assert json.dumps(secret) not in masked and secret not in (ran.folder / "masked.svg").read_text("utf-8")
    assert [rec.get("own") for rec in opened] == [json.loads(line).get("own") for line in masked.splitlines()[1:]]


def test_pictures_and_films_are_taken_by_the_browser_that_is_there(ran: Memgang, chromium: Any) -> None:
    """A PNG of the size that was asked for, and a GIF that moves."""
    from PIL import Image

    done = ran("export", "--png", "run.png", "--gif", "run.gif", "--width", "480", "--height", "320", "--seconds", "1", "--fps", "4",
               "--theme", "light")
    assert done.status == 0, done.err
    with Image.open(ran.folder / "run.png") as still, Image.open(ran.folder / "run.gif") as moving:
        assert still.size == moving.size == (480, 320)
        assert getattr(moving, "n_frames", 1) >= 3


@pytest.mark.parametrize(("arguments", "told"), [
    ((), "nothing to write"), (("--html", "no/such/run.html"), "no folder"), (("--svg", "."), "is a folder"),
    (("--png", "x.png"), "MEMGANG_BROWSER"), (("nowhere.jsonl", "--html", "x.html"), "nowhere.jsonl"),
    (("out.md", "--html", "x.html"), "is no tape"),
    (("20200101-000000-none", "--html", "x.html"), "no such run")])
def test_what_cannot_be_exported_is_told_in_one_line(ran: Memgang, arguments: tuple[str, ...], told: str) -> None:
    """Without a traceback, and without a file that is half there."""
    done = ran("export", *arguments, MEMGANG_BROWSER="/nowhere/chromium")
    assert done.status not in (0, None) and told in done.err and "Traceback" not in done.err
    assert not list(ran.folder.glob("x.*")) and not list(ran.folder.glob(".*part"))


def test_replay_serves_the_run_until_it_is_stopped(ran: Memgang) -> None:
    """On a free port of this machine; Ctrl-C ends it."""
    serving = ran.start("replay", "last", "--no-open")
    assert serving.stdout is not None
    url = serving.stdout.readline().split()[0]
    with urllib.request.urlopen(url) as answer:
        assert b'id="tape"' in answer.read()
    serving.send_signal(signal.SIGINT)
    assert serving.wait(30) == 0


def test_a_replay_needs_neither_streamlit_nor_a_browser_package(ran: Memgang, tmp_path: Path) -> None:
    """With every optional package hidden the page, the tape and the drawing are written all the same."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ("streamlit", "playwright", "PIL", "altair", "pandas", "numpy", "pyarrow"):
        (hidden / f"{name}.py").write_text("raise ImportError('hidden')", "utf-8")
    path = f"{hidden}:{ran.env['PYTHONPATH']}"
    assert ran("export", "--html", "run.html", "--jsonl", "run.jsonl", "--svg", "run.svg", PYTHONPATH=path).status == 0
    done = ran("export", "--png", "x.png", PYTHONPATH=path)
    assert done.status != 0 and "memgang[film]" in done.err
