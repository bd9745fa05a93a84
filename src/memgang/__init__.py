"""MemGang: one memory for a gang of AI agents.

An agent puts a value and gets a reference; it passes the reference on, never the
value. Memory objects do not change. An expensive call is recalled, not repeated:
of all the processes that ask at once, one computes and the others are given its
answer. Every read and write leaves a line in a log that is only ever appended to.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memgang.adapters.wrapping import wrap
    from memgang.blocking import BlockingSpace, connect
    from memgang.errors import MemGangError
    from memgang.gang import Gang
    from memgang.limits import Limits
    from memgang.model import Call, Completion, Event, MemoryObject, Original, Prompt, Ref, Usage
    from memgang.reads import Manners
    from memgang.settings import Settings
    from memgang.space import Space, open
    from memgang.tools import Tool, tool

__all__ = [
    "BlockingSpace", "Call", "Completion", "Event", "Gang", "Limits", "Manners", "MemGangError", "MemoryObject", "Original",
    "Prompt", "Ref", "Settings", "Space", "Tool", "Usage", "connect", "open", "tool", "wrap",
]
__version__ = "0.1.0"

# Where each public name lives. They are looked up when they are asked for: a worker process begins with a tenth of
# the package, and pays for no more.
_HOMES = {
    "BlockingSpace": "blocking", "connect": "blocking", "MemGangError": "errors", "Gang": "gang", "Settings": "settings",
    "Limits": "limits", "Manners": "reads",
    "Space": "space", "open": "space", "Tool": "tools", "tool": "tools",
    "wrap": "adapters.wrapping",
} | dict.fromkeys(("Call", "Completion", "Event", "MemoryObject", "Original", "Prompt", "Ref", "Usage"), "model")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
