"""Our own ES modules as one script, for pages that are a single file: `file://` imports nothing.

No tool of the JavaScript world is needed for that, because the modules keep rules that this file sees to: they import only each other,
by name and without renaming; they export at the declaration, and nothing that changes afterwards. Each becomes a function that is
called once and hands out what it exports, so names that two of them declare do not meet.
"""

from __future__ import annotations

import functools
import re
from importlib.resources import files

_IMPORT = re.compile(r"""^import\s*\{([^}]*)\}\s*from\s*["']\./([\w-]+)\.js["'];?[ \t]*$""", re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function\*?|const|class) +(\w+)", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)


def source(name: str) -> str:
    """A file of `web/`, as it is."""
    return (files("memgang.flock") / "web" / name).read_text("utf-8")


@functools.cache
def bundle(entry: str) -> str:
    """The module and all it imports, each behind what it needs; whole lines of comment left out.

    Raises:
        ValueError: a module breaks a rule; which one, and where.
    """
    order: list[str] = []
    _visit(entry.removesuffix(".js"), order, ())
    return "\n".join(_wrapped(name) for name in order)


def _visit(name: str, order: list[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"{' -> '.join((*above, name))}: modules that are joined into one script may not import in a circle")
    if name not in order:
        for _, needed in _IMPORT.findall(source(f"{name}.js")):
            _visit(needed, order, (*above, name))
        order.append(name)


def _wrapped(name: str) -> str:
    text = _COMMENT.sub("", source(f"{name}.js"))
    handed = ", ".join(_EXPORT.findall(text))
    text = _IMPORT.sub(lambda found: _taken(name, found), text)
    text = _EXPORT.sub(lambda found: found[0].removeprefix("export "), text)
    if left := _LEFT.search(text):
        raise ValueError(f"{name}.js: {left[0]!r} is an import or export of another form than the ones that can be joined")
    return f"const {_variable(name)} = (() => {{\n{text}\nreturn {{ {handed} }};\n}})();"


def _taken(name: str, found: re.Match[str]) -> str:
    names = " ".join(found[1].split())
    if " as " in f" {names} ":
        raise ValueError(f"{name}.js: {found[0]!r} renames what it imports; it has one name everywhere")
    return f"const {{ {names} }} = {_variable(found[2])};"


def _variable(name: str) -> str:
    return "module_" + name.replace("-", "_")
