"""Who this process is: an incarnation made anew after each fork, and what it may say of itself."""

from __future__ import annotations

import getpass
import itertools
import os
import re
import secrets
import sys
from pathlib import Path

_inc = secrets.token_hex(16)
_own = secrets.token_hex(10)
_numbers = itertools.count()


def incarnation() -> str:
    """A random 128-bit name of this process; never that of another, also where process numbers repeat."""
    return _inc


def _after_fork() -> None:
    global _inc, _own
    _inc, _own = secrets.token_hex(16), secrets.token_hex(10)  # a child never acts as its parent


os.register_at_fork(after_in_child=_after_fork)


def fresh() -> str:
    """A token nobody else has: the owner of one attempt to lead, or the op of one write.

    80 random bits of this process, which nobody can guess, and a number that it never gives twice: each call
    needs several, and new random bits are a system call each.
    """
    return f"{_own}{next(_numbers):012x}"


def principal() -> str:
    """The user of the operating system, in the characters a label may have."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid{os.getuid()}"
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:64] or "nobody"


def default_agent() -> str:
    """The name of the program and its process number, for who gives no name of an agent."""
    program = re.sub(r"[^A-Za-z0-9._-]", "_", Path(sys.argv[0] if sys.argv else "").stem)[:40].strip("_.") or "python"
    return f"{program}-{os.getpid()}"
