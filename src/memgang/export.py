"""The log as a file: one event a line (JSON Lines), or a table (Parquet), the oldest first.

What was trimmed from the server and sealed on this host is in it too. The raw entries, as they were sealed, lie beside
the seals; these files are for reading and counting.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from memgang.errors import ConfigError
from memgang.model import Event
from memgang.space import Space
from memgang.store import rows

ROWS = 10_000  # of one row group, and of memory


async def export(space: Space, path: Path, *, run: str | None = None) -> int:
    """Write all events, or those of one run; how many. The file appears when it is whole.

    Raises:
        ConfigError: the name ends in neither .jsonl nor .parquet, there is no such folder, or PyArrow is not installed.
        OSError: it cannot be written. StoreUnavailable: the server does not answer.
    """
    if path.suffix not in rows.KINDS:
        raise ConfigError(f"{path.name!r} must end in .jsonl or .parquet: that says what it becomes")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {path.name} to")
    part, count = path.with_name(f".{path.name}.part"), 0
    try:
        with contextlib.closing(rows.KINDS[path.suffix](part)) as file:
            async for group in _groups(space, run):
                file.add(group)
                count += len(group)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return count


async def _groups(space: Space, run: str | None) -> AsyncIterator[list[Event]]:
    group: list[Event] = []
    async for event in space.events(run=run):
        group.append(event)
        if len(group) == ROWS:
            yield group
            group = []
    if group:
        yield group
