"""MemGang: one memory for a gang of AI agents.

An agent puts a value and gets a reference; it passes the reference on, never the
value. Memory objects do not change. An expensive call is recalled, not repeated:
of all the processes that ask at once, one computes and the others are given its
answer. Every read and write leaves a line in a log that is only ever appended to.
"""

from memgang.blocking import BlockingSpace, connect
from memgang.errors import MemGangError
from memgang.gang import Gang
from memgang.model import Call, Completion, Event, MemoryObject, Prompt, Ref, Usage
from memgang.settings import Settings
from memgang.space import Space, open
from memgang.tools import Tool, tool

__all__ = [
    "BlockingSpace", "Call", "Completion", "Event", "Gang", "MemGangError", "MemoryObject", "Prompt", "Ref", "Settings",
    "Space", "Tool", "Usage", "connect", "open", "tool",
]
__version__ = "0.1.0"
