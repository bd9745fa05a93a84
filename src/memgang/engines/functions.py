"""Functions by name: which can be found by another process, and how it finds them.

A function travels as ``module:qualname``, never as code. The worker imports the module and compares a mark of
what it finds with the one it was sent, so that a file which has changed since is noticed and not run.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from memgang.errors import CodecError, ConfigError

MAIN = "__main__"
MAIN_ELSEWHERE = "__mp_main__"  # the name under which multiprocessing too runs the main file in a child

# How to find the main module of the parent: ("path", file) or ("module", name); empty: it has none.
main_source: list[str] = []
# True while the main file runs here: whatever it starts at its top level must not start again.
loading_main = False


def named(function: Callable[..., Any]) -> str:
    """The name by which a worker finds this function.

    Raises:
        ConfigError: no other process can find it, and why.
    """
    what = getattr(function, "__qualname__", repr(function))
    if not inspect.isfunction(function):
        raise ConfigError(f"{what} is a {type(function).__name__}, not a plain function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{what} is asynchronous or a generator")
    if "<locals>" in what or "<lambda>" in what:
        raise ConfigError(f"{what} was defined inside a function, so no other process can find it")
    module = function.__module__
    if _at(sys.modules.get(module), what) is not function:
        raise ConfigError(f"the name {what} in {module} stands for something else")
    if module == MAIN:
        main_of_this_process()  # raises where it cannot be loaded elsewhere
    return f"{module}:{what}"


def found(name: str) -> Any:
    """The function or class of this name, its module imported if need be."""
    module, _, path = name.partition(":")
    if module in (MAIN, MAIN_ELSEWHERE) and main_source:
        home: Any = _main()
    else:
        home = importlib.import_module(module)
    thing = _at(home, path)
    if thing is None:
        raise CodecError(f"there is no {path} in {module}")
    return thing


def mark_of(function: Any) -> str:
    """A mark of what the function does: another one after its body was edited."""
    code = getattr(function, "__code__", None)
    return _mark(code) if isinstance(code, types.CodeType) else ""


@functools.lru_cache(1024)
def _mark(code: types.CodeType) -> str:
    hasher = hashlib.sha256()

    def add(code: types.CodeType) -> None:
        hasher.update(code.co_code)
        hasher.update(repr((code.co_names, code.co_varnames, code.co_name)).encode())
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                add(constant)
            elif not isinstance(constant, frozenset):  # printed in another order in each process
                hasher.update(repr(constant).encode("utf-8", "backslashreplace"))

    add(code)
    return hasher.hexdigest()[:16]


def main_of_this_process() -> list[str]:
    """How a worker finds the main module of this process.

    Raises:
        ConfigError: it has no file, or the file would begin its whole work again when it is loaded.
    """
    main = sys.modules[MAIN]
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        raise ConfigError("the main module has no file that a worker could load; put the function into a module")
    if not _guarded(path):
        raise ConfigError(
            f"{os.path.basename(path)} has no `if __name__ == \"__main__\":`, so a worker that loads it would run all of it")
    spec = getattr(main, "__spec__", None)
    return ["module", spec.name] if spec is not None else ["path", os.path.abspath(path)]


@functools.lru_cache(64)
def _guarded(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.If) and any(
        isinstance(inner, ast.Name) and inner.id == "__name__" for inner in ast.walk(node.test)) for node in tree.body)


def _main() -> types.ModuleType:
    """The parent's main module, run here once under another name."""
    global loading_main
    if (there := sys.modules.get(MAIN_ELSEWHERE)) is not None:
        return there
    import runpy

    module = types.ModuleType(MAIN_ELSEWHERE)
    loading_main = True
    try:
        kind, where = main_source
        run = runpy.run_path if kind == "path" else runpy.run_module
        module.__dict__.update(run(where, run_name=MAIN_ELSEWHERE))
    finally:
        loading_main = False
    sys.modules[MAIN_ELSEWHERE] = sys.modules[MAIN] = module
    return module


def _at(home: Any, path: str) -> Any:
    """What the dotted path leads to; the function itself where an agent stands under its name. None: nothing."""
    for step in path.split("."):
        home = getattr(home, step, None)
    wrapped = getattr(home, "__wrapped__", None)
    return wrapped if wrapped is not None and not inspect.isfunction(home) else home
