"""The flock's modules can be joined into one script, and treat text as text."""

from __future__ import annotations

import re

from memgang.flock.bundle import bundle
from tests.flock.conftest import WEB

MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
ASKING = re.compile(r"\bfetch\(|XMLHttpRequest|importScripts|sendBeacon|EventSource")


def test_the_flock_is_one_script_without_imports() -> None:
    """All its modules keep the rules of `bundle`: they import each other in no circle, and rename nothing."""
    script = bundle("flock.js")
    assert "createFlock" in script and not re.search(r"^(import|export)\b", script, re.M)


def test_text_never_becomes_markup_and_nothing_is_asked_for() -> None:
    """No module names what makes markup of text, runs text, or asks others for anything, but for the live connection."""
    element = WEB.parents[1] / "doors/dashboard/element.js"
    for path in [*WEB.glob("*.js"), element]:
        text = path.read_text("utf-8")
        assert not MARKUP.search(text) and not ASKING.search(text), path.name
        assert "WebSocket" not in text or path.name == "live.js", path.name
