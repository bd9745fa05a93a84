"""Versions of functions: what goes into the key of a call, so that changed code never answers for the old.

Where in doubt, versions differ: a share that is missed costs one computation, a share that is wrong gives an
agent the answer of other code. What has no version is refused, with what to do about it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import sysconfig
import textwrap
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from memgang.canonical import argument, record_fields
from memgang.codec import class_name, digest, is_record
from memgang.errors import CodecError, ConfigError

_json = msgspec.json.Encoder(order="sorted").encode

_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not compiled in


def version_of(function: Callable[..., Any], deps: Iterable[Any] = ()) -> str:
    """The version of a function, 32 characters: it changes when what the function does may have changed.

    In it: the source without name, decorators, comments and layout (docstrings count, they may be prompts);
    defaults; what the function has closed over; and ``deps``, the things it uses by global name: functions and
    classes (their source), modules (name and ``__version__``), JSON-like values, records, arrays. Of an object
    with a method ``__memgang_key__() -> str``, that text. Not in it: globals that ``deps`` does not name.

    A bound method counts with its object, a partial with its arguments; an instance that can be called needs
    to be a record or have ``__memgang_key__``. A lambda, or a function without source, counts by its bytecode,
    which differs between versions of Python. Functions and classes of the standard library count by name.

    Raises:
        ConfigError: it depends on something that has no version; names the variable and says what to do.
    """
    try:
        known: dict[int, int] = {}
        described = [_described(function, "the function", known)]
        described += [_described(dep, f"deps[{place}]", known) for place, dep in enumerate(deps)]
        return digest(_json(described))
    except RecursionError:
        raise ConfigError(f"{_called(function)} depends on too many things: give version=") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{_called(function)} depends on text with half of a surrogate pair: give version=") from None


def _described(value: Any, where: str, known: dict[int, int]) -> Any:
    """What stands for a value in a version. ``known`` numbers functions and classes under way: recursion ends there."""
    key = getattr(type(value), "__memgang_key__", None)
    if key is not None and not isinstance(value, type):
        return ["key", class_name(type(value)), str(key(value))]
    if isinstance(value, types.FunctionType | type):
        if (number := known.get(id(value))) is not None:
            return ["again", number]
        known[id(value)] = len(known)
        if _is_standard(value):
            return ["standard", value.__module__, value.__qualname__]
        return _of_class(value, where, known) if isinstance(value, type) else _of_function(value, known)
    if isinstance(value, types.MethodType):
        return ["method", _described(value.__func__, where, known),
                _described(value.__self__, f"the object of the method {_called(value)}", known)]
    if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
        owner = getattr(value, "__self__", None)
        owned = owner is not None and not isinstance(owner, types.ModuleType)
        return ["builtin", getattr(value, "__module__", None), value.__qualname__,
                _described(owner, f"the object of {_called(value)}", known) if owned else None]
    if isinstance(value, functools.partial):
        given = _described([value.args, value.keywords], f"an argument of {where}", known)
        return ["partial", _described(value.func, where, known), given]
    if isinstance(value, types.ModuleType):
        return ["module", value.__name__, str(getattr(value, "__version__", ""))]
    if isinstance(value, re.Pattern):
        return ["pattern", repr(value.pattern), value.flags]
    if isinstance(value, types.GenericAlias | types.UnionType) or type(value).__module__ == "typing":
        return ["type", repr(value)]
    if hasattr(value, "__wrapped__"):  # functools.cache and its like, made in C
        return ["wrapped", class_name(type(value)), _described(value.__wrapped__, where, known)]
    return _of_value(value, where, known)


def _of_value(value: Any, where: str, known: dict[int, int]) -> Any:
    if is_record(value):
        # The class too: its methods may decide the answer.
        fields = [[name, _described(item, f"{where}.{name}", known)] for name, item in record_fields(value)]
        return ["record", _described(type(value), where, known), fields]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return ["dict", {str.__str__(name): _described(item, f"{where}[{name!r}]", known)
                         for name, item in value.items()}]
    if isinstance(value, list | tuple):
        return [class_name(type(value)), [_described(item, f"{where}[{n}]", known) for n, item in enumerate(value)]]
    if isinstance(value, float | complex) or value is Ellipsis or value is NotImplemented:
        return ["value", class_name(type(value)), repr(value)]  # NaN and infinities are fine as defaults
    try:
        return ["value", argument(value)]
    except CodecError:
        raise ConfigError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which has no version: pass it as an "
            "argument, name what matters of it in deps= and reach it as a global, or give version="
        ) from None


def _of_function(function: types.FunctionType, known: dict[int, int]) -> Any:
    name = _called(function)
    closed: list[Any] = []
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet: a function that will call itself
            closed.append([variable, "unset"])
            continue
        if value is function or getattr(value, "__wrapped__", None) is function:
            closed.append([variable, "unset"])  # the same, seen after it was set, decorated or not
        elif variable == "__class__":
            closed.append([variable, class_name(value)])  # for super(); the class counts where its object does
        else:
            closed.append([variable, _described(value, f"{variable!r}, which {name} closes over,", known)])
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    defaults = [[p.name, _described(p.default, f"the default of {p.name!r} of {name}", known)]
                for p in parameters if p.default is not p.empty]
    source = _source_of(function.__code__, function.__code__.co_filename)
    return ["function", source or _bytecode(function.__code__), closed, defaults]


def _is_standard(value: Any) -> bool:
    """Whether it came with Python. Its name alone proves nothing: a class made by exec says it is of builtins."""
    if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
        return value.__module__.partition(".")[0] in sys.stdlib_module_names  # NoneType and other parts of the language
    module: Any = sys.modules.get(value.__module__ or "")
    if module is None or module.__name__.partition(".")[0] not in sys.stdlib_module_names:
        return False
    file = getattr(module, "__file__", None)
    if file is not None and (not file.startswith(_STANDARD_LIBRARY) or "site-packages" in file):
        return False
    found = module
    for part in value.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is value


def _of_class(kind: type, where: str, known: dict[int, int]) -> Any:
    bases = [_described(base, where, known) for base in kind.__bases__ if base is not object]
    # Without source it is compiled, and its package's version has to do, or nothing is known of it.
    source = _source(kind, kind.__name__)
    if source is None:
        package = sys.modules.get(kind.__module__.partition(".")[0])
        version = getattr(package, "__version__", None)
        if version is None:
            raise ConfigError(f"{where} is or has the class {class_name(kind)}, which has no source: give version=")
        source = f"{class_name(kind)} {version}"
    return ["class", source, bases]


@functools.lru_cache(maxsize=1024)
def _source_of(code: types.CodeType, file: str) -> str | None:
    """Of a function made again and again (an agent of every team) the source is read once. Equal code of another
    file may have another source: annotations are not in the code."""
    return _source(code, code.co_name)


def _source(thing: Any, name: str) -> str | None:
    """The source as Python would write it, without decorators and the function's own name; None if there is none."""
    try:
        # Of the code object: of a function, inspect would look through decorators at what they wrap.
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    node = tree.body[0] if tree.body else None
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
        node.name, node.decorator_list = "_", []
        return ast.unparse(node)
    if isinstance(node, ast.ClassDef) and node.name == name:
        return ast.unparse(node)
    return None  # a lambda: its line may hold several of them, and the rest of a call


def _bytecode(code: types.CodeType) -> Any:
    return ["bytecode", digest(code.co_code), [_constant(item) for item in code.co_consts], list(code.co_names),
            list(code.co_varnames), list(code.co_freevars), code.co_flags]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    if isinstance(value, tuple):
        return [_constant(item) for item in value]
    if isinstance(value, frozenset):
        return ["frozenset", sorted(repr(item) for item in value)]  # its own order changes with the hash seed
    return [type(value).__name__, repr(value)]


def _called(function: Any) -> str:
    return str(typing.cast("Any", getattr(function, "__qualname__", None)) or repr(function))
