"""Pages that are one file: how their script is put together, and how one is shown."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from memgang.errors import ConfigError
from memgang.flock import bundle as bundling
from memgang.flock.showing import Showing
from tests.flock import node


def modules(monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """These are the modules of `web/` now; `a_js` is a.js."""
    bundling.bundle.cache_clear()
    monkeypatch.setattr(bundling, "source", {name.replace("_js", ".js"): text for name, text in texts.items()}.__getitem__)


def test_modules_become_one_script_in_the_order_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in a room of its own: two of them may declare the same name. It does what the modules do."""
    modules(monkeypatch, a_js='// first\nimport { b } from "./b.js";\nimport {\n  c, D,\n} from "./c-d.js";\nconst own = "a";\n'
                              'out.push(own, b(), c, new D().d);\n',
            b_js='import { c } from "./c-d.js";\nconst own = "b";\nexport function b() {\n  // why\n  return own + c;\n}\n',
            **{"c-d_js": 'const own = 1;\nexport const c = own;\nexport class D { d = "d"; }\nout.push("once");\n'})
    script = bundling.bundle("a.js")
    bundling.bundle.cache_clear()
    assert "//" not in script and node.run("const out = []; eval(given); tell(out);", script) == ["once", "a", "b1", 1, "d"]


@pytest.mark.parametrize(("text", "told"), [
    ('import { x as y } from "./b.js";', "renames"), ('export default 1;', "another form"),
    ('export let x = 1;', "another form"),
    ('import * as b from "./b.js";', "another form"),
    ('import { a } from "./a.js";', "circle"), ('import { x } from "elsewhere";', "another form")])
def test_a_module_that_breaks_the_rules_is_named(monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    """The page would not work, and nobody would see it before a browser did."""
    modules(monkeypatch, a_js=text + "\n", b_js="export const x = 1;\n")
    with pytest.raises(ValueError, match=told):
        bundling.bundle("a.js")
    bundling.bundle.cache_clear()


def test_the_shown_page_is_for_this_machine_only() -> None:
    """Another Host (a name that was made to lead here) is refused, another path is not found; the page is not kept by the browser."""
    with Showing("<p>ä</p>") as showing:
        with urllib.request.urlopen(showing.url) as answer:
            assert answer.read().decode() == "<p>ä</p>" and answer.headers["Cache-Control"] == "no-store"
        for path, host, status in (("", "evil.example", 403), ("elsewhere", None, 404)):
            asked = urllib.request.Request(showing.url + path, headers={"Host": host} if host else {})
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(asked)
            assert error.value.code == status
        with pytest.raises(ConfigError, match=r"cannot be listened on.*--port 0"):
            Showing("", int(showing.url.split(":")[2].strip("/")))


def test_nothing_of_the_web_folder_asks_the_network() -> None:
    """No address but our own, in any script or style that is shipped."""
    for file in (Path(bundling.__file__).parent / "web").iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text.replace("url(#", ""), file.name
