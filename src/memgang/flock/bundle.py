"""Our own ES modules as one script, for pages that are a single file: `file://` imports nothing.

No tool of the JavaScript world is needed for that, because the modules keep three rules, which this file sees to: they import
only each other, by name and without renaming; they export at the declaration; and no two of them declare the same name.
"""

from __future__ import annotations

import functools
import re
from importlib.resources import files

_IMPORT = re.compile(r"""^import\s*\{[^}]*\}\s*from\s*["']\./([\w-]+\.js)["'];?[ \t]*$""", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)
_RENAMED = re.compile(r"^import\s*\{[^}]*\bas\b[^}]*\}", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)


def source(name: str) -> str:
    """A file of `web/`, as it is."""
    return (files("memgang.flock") / "web" / name).read_text("utf-8")


@functools.cache
def bundle(entry: str) -> str:
    """The module and all it imports, in an order in which each stands behind what it needs; whole lines of comment left out.

    Raises:
        ValueError: a module breaks a rule; which one, and where.
    """
    order: list[str] = []
    _visit(entry, order, ())
    return "\n".join(_joined(name) for name in order)


def _visit(name: str, order: list[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"{' -> '.join((*above, name))}: modules that are joined into one script may not import in a circle")
    if name not in order:
        for needed in _IMPORT.findall(source(name)):
            _visit(needed, order, (*above, name))
        order.append(name)


def _joined(name: str) -> str:
    text = source(name)
    if renamed := _RENAMED.search(text):
        raise ValueError(f"{name}: {renamed[0]!r} renames what it imports; in one script it has one name")
    text = _EXPORT.sub("", _IMPORT.sub("", text))
    if left := _LEFT.search(text):
        raise ValueError(f"{name}: {left[0]!r} is an import or export of another form than the ones that can be joined")
    return _COMMENT.sub("", text)
