"""Classes: what they are called, which are records, and the way from a media type back to a class that is loaded."""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

import msgspec

from memgang.codec.mediatypes import JSON, is_media_type


def is_record(value: Any) -> bool:
    """Whether the value is an instance of a dataclass, a Struct or a pydantic model."""
    return not isinstance(value, type) and is_record_class(type(value))


def is_record_class(kind: Any) -> bool:
    """Whether this is a class of records."""
    if not isinstance(kind, type):
        return False
    return issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or is_pydantic(kind)


def is_pydantic(kind: Any) -> bool:
    """Whether this is a class of pydantic models, without importing pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def class_name(kind: type) -> str:
    """``module:Class``, as media types name a class."""
    # A worker process that was spawned knows the main module as __mp_main__; it is the same class.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def shown(kind: Any) -> str:
    """A class or a type as messages show it."""
    if not isinstance(kind, type) or hasattr(kind, "__args__"):
        return str(kind)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def json_type(value: Any) -> str:
    """The media type of a value that is stored as JSON, with its class if it is a record or a list of one kind of them."""
    if is_record(value):
        return _with_class("type", type(value))  # type: ignore[arg-type]  # classes hash
    if type(value) is list and value and is_record(value[0]):
        kind = type(value[0])
        if all(type(item) is kind for item in value):
            return _with_class("items", kind)  # type: ignore[arg-type]
    return JSON


@functools.lru_cache(maxsize=1024)
def _with_class(parameter: str, kind: type) -> str:
    media_type = f'{JSON};{parameter}="{class_name(kind)}"'
    # A name that does not fit a media type only loses the way back to the class, not the value.
    return media_type if is_media_type(media_type) else JSON


def loaded_class(parameters: dict[str, str]) -> Any:
    """The class a media type names, if it is loaded already and is what it says it is. Never imports."""
    for parameter in ("type", "items"):
        module, colon, path = parameters.get(parameter, "").partition(":")
        if not colon:
            continue
        for name in (module, "__mp_main__") if module == "__main__" else (module,):
            found: Any = sys.modules.get(name)
            for part in path.split("."):
                # Only what is there: getattr could run a module's __getattr__, which may import.
                found = getattr(found, "__dict__", {}).get(part)
            if is_record_class(found) and class_name(found) == f"{module}:{path}":
                return found if parameter == "type" else list[found]
    return None
