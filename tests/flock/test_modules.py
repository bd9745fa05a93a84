"""The flock's modules can be joined into one script, and treat text as text."""

from __future__ import annotations

import re

from tests.flock.conftest import WEB

TOP = re.compile(r"^(?:export )?(?:async )?(?:const|let|class|function)\s+(?:\{([^}]*)\}|(\w+)(?:\s*=[^,;({\[`\"']*,\s*(\w+)\s*=)?)", re.M)


def modules() -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(WEB.glob("*.js"))}


def test_no_name_at_the_top_of_a_module_is_used_twice() -> None:
    """Joined, all share one scope; also names after a comma in one `const`."""
    seen: dict[str, str] = {}
    for file, text in modules().items():
        names = []
        for line in re.findall(r"^(?:export )?(?:async )?(?:const|let|class|function) .*$", text, re.M):
            names.append(re.sub(r"^(?:export )?(?:async )?(?:const|let|class|function) ", "", line).split("(")[0].split("=")[0].split("{")[0].split()[0])
            if re.match(r"(?:export )?const [A-Z_0-9]+ = [^,{\[(]+, ", line):
                names += re.findall(r", ([A-Z_0-9]+) = ", line)
        for name in names:
            assert name not in seen, f"{name} is in {file} and in {seen[name]}"
            seen[name] = file
    assert len(seen) > 60


def test_imports_are_one_line_without_other_names_and_lead_to_files_that_are_there() -> None:
    """What joins the modules strips these lines, and needs no more."""
    for file, text in modules().items():
        for line in re.findall(r"^import .*$", text, re.M):
            found = re.fullmatch(r'import \{ [\w, ]+ \} from "\./(\w+\.js)";', line)
            assert found and (WEB / found[1]).exists(), (file, line)
        assert "export default" not in text and not re.search(r"^export \{", text, re.M) and "import(" not in text


def test_text_never_becomes_markup_and_nothing_is_fetched() -> None:
    """No module names what makes markup of text, runs text, or asks others for anything, but for the live connection."""
    for file, text in modules().items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|fetch\(|XMLHttpRequest|importScripts", text), file
        if file != "live.js":
            assert "WebSocket" not in text, file
