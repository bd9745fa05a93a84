"""The documentation is read by tests: what is generated is current, examples run, headers tell the truth."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang import errors
from memgang.settings import Settings
from memgang.store import scripts

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")


def test_generated_pages_are_current() -> None:
    """docs/*.md are what `make docs` would write."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_every_setting_is_documented() -> None:
    """docs/settings.md has a heading with a sentence for each field of Settings."""
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    documented = set(re.findall(r"^## (\w+)\n\n[A-Z]", text, re.M))

    assert {field.name for field in fields(Settings)} == documented


@pytest.mark.parametrize("name", scripts.script_names())
def test_lua_header_names_exactly_what_the_body_uses(name: str) -> None:
    """A script's KEYS and ARGV are the ones its header promises, the prelude's included."""
    lines = scripts.assembled(name).splitlines()
    header = "\n".join(line for line in lines if line.startswith("--"))
    body = "\n".join(line.partition("--")[0] for line in lines if not line.startswith("--"))

    for slot in ("KEYS", "ARGV"):
        used, promised = (set(re.findall(rf"{slot}\[(\d+)\]", text)) for text in (body, header))
        assert used <= promised, f"{name}: the header does not tell of {slot} {sorted(used - promised)}"
        # `[5..]` in a header: a list walked by a variable, whose numbers the body need not write.
        walked = re.search(rf"{slot}\[[^\d\]]", body) is not None
        assert walked or promised <= used, f"{name}: the body does not use {slot} {sorted(promised - used)}"


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_no_message_has_lost_its_f(path: Path) -> None:
    """No text given to an error shows a {placeholder} to the user."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            inside_f = {id(c) for j in ast.walk(node.exc) if isinstance(j, ast.JoinedStr) for c in ast.walk(j)}
            for text in ast.walk(node.exc):
                if isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in inside_f:
                    assert not re.search(r"\{\w+[^}]*\}", text.value), f"{path.name}:{text.lineno}: {text.value}"


SAMPLES: dict[str, tuple[Any, ...]] = {
    "UnknownReference": ("mg:abc",), "ObjectLost": ("mg:abc",), "IntegrityError": ("mg:abc", "sizes differ"),
    "Conflict": ("a", 1, 2, "mg:x"), "ClaimLost": ("port/a", "running", "ana"), "LeaseLost": ("f", 1, 2), "Fenced": ("f", 1, 2),
    "StreamRestarted": ("call", 12), "WorkFailed": ("call", "transient", "x", "y"), "ReadError": ("file.pdf", "it is empty"),
    "ModelError": ("m", "transient", "429", "slow down"), "TooLarge": ("body", 2, 1),
    "CallTooLarge": ("call", 2, 1), "BudgetExceeded": ("m", "run 1", 9, 1, 10, 5),
    "AllowanceExceeded": ("planner", "tokens", 9, 1, 10, 0.0, 1.0), "StoreFull": ("body", 2, 1),
}


@pytest.mark.parametrize("kind", [k for k in vars(errors).values()
                                  if isinstance(k, type) and issubclass(k, errors.MemGangError)])
def test_every_error_is_one_line_and_crosses_a_process(kind: type[errors.MemGangError]) -> None:
    """str(error) is one line without placeholders, its args rebuild it, and it stands in the tree."""
    error = kind(*SAMPLES.get(kind.__name__, ("something is wrong",)))

    assert str(kind(*error.args)) == str(error)
    assert "\n" not in error.explain() and "{" not in error.explain()
    assert kind.__name__ in (errors.__doc__ or "")
    assert not error.hint.endswith(".")


def blocks() -> list[tuple[str, str]]:
    """The Python examples of the pages that people read first."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8") if (ROOT / page).exists() else ""
        found += [(f"{page}-{n}", code) for n, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S), 1)]
    return found


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks()])
async def test_examples_run(
    code: str, space_name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every Python block of the pages runs as it stands, on a real server, from the root of the project."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MEMGANG_SPACE", space_name)
    tree = compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    scope: dict[str, Any] = {"memgang": memgang, "asyncio": asyncio, "__name__": "example"}

    outcome = eval(tree, scope)  # the project's own page
    if asyncio.iscoroutine(outcome):
        await outcome


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Relative links of the pages name files that exist."""
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text("utf-8")):
        assert (ROOT / link).exists(), link
