"""How much more memory this process may take before the kernel kills somebody: what its control group leaves.

What is written to shared memory is charged to the control group of who writes it, and cannot be given back by the kernel without
swap. A container that goes over its limit this way is not told so: a process in it is killed.
"""

from __future__ import annotations

import sys
from pathlib import Path


def headroom(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that may still be taken; ``sys.maxsize`` where nothing is limited, or it is not known."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return sys.maxsize
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            return _least(root, path, "memory.max", "memory.current", "inactive_file")
        if "memory" in controllers.split(","):
            return _least(root / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return sys.maxsize


def _least(root: Path, path: str, limit: str, usage: str, cached: str) -> int:
    """Of the group and of all above it: each may be limited. In a container the path is that of the host, and not to be found."""
    group, least = root / path.strip("/"), sys.maxsize
    while True:
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            least = min(least, max(0, most - used + _reclaimable(group / "memory.stat", cached)))
        if group == root or root not in group.parents:
            return least
        group = group.parent


def _number(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None  # "max": none


def _reclaimable(path: Path, word: str) -> int:
    """Of what is counted as used, the files' pages that the kernel drops first. Shared memory is not among them."""
    try:
        for line in path.read_text("ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == word:
                return int(value)
    except (OSError, UnicodeDecodeError, ValueError):
        pass
    return 0
