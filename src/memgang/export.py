"""The log as a file: one event a line (JSON Lines), or a table (Parquet), the oldest first.

What was trimmed from the server and sealed on this host is in it too. The raw entries, as they were sealed, lie beside
the seals; these files are for reading and counting.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from memgang.errors import ConfigError
from memgang.model import Event, Usage
from memgang.space import Space

ROWS = 10_000  # of one row group, and of memory


async def export(space: Space, path: Path, *, run: str | None = None) -> int:
    """Write all events, or those of one run; how many. The file appears when it is whole.

    Raises:
        ConfigError: the name ends in neither .jsonl nor .parquet, there is no such folder, or PyArrow is not installed.
        OSError: it cannot be written. StoreUnavailable: the server does not answer.
    """
    writers: dict[str, Callable[[Path, AsyncIterator[list[Event]]], Any]] = {".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix not in writers:
        raise ConfigError(f"{path.name!r} must end in .jsonl or .parquet: that says what it becomes")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {path.name} to")
    part = path.with_name(f".{path.name}.part")
    try:
        count = int(await writers[path.suffix](part, _groups(space, run)))
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


async def _jsonl(path: Path, groups: AsyncIterator[list[Event]]) -> int:
    count = 0
    with path.open("wb") as file:
        async for group in groups:
            # JSON escapes line ends, so that no text of an event can begin a line of its own.
            file.write(b"".join([msgspec.json.encode(event) + b"\n" for event in group]))
            count += len(group)
    return count


async def _parquet(path: Path, groups: AsyncIterator[list[Event]]) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet needs PyArrow: pip install 'memgang[arrow]'") from error
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    hints = get_type_hints(Event)
    columns: list[tuple[str, Any]] = []
    for name, kind in hints.items():
        if kind is Usage:
            columns += [(f"{name}_{field}", kinds[of]) for field, of in get_type_hints(Usage).items()]
        elif name == "src":
            columns.append((name, pyarrow.list_(pyarrow.string())))
        else:
            columns.append((name, kinds[kind if kind in kinds else get_args(kind)[0]]))
    schema, count = pyarrow.schema(columns), 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        async for group in groups:
            writer.write_table(pyarrow.Table.from_pylist([_row(event, hints) for event in group], schema=schema))
            count += len(group)
    return count


def _row(event: Event, hints: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, kind in hints.items():
        value = getattr(event, name)
        if kind is Usage:
            row |= {f"{name}_{field}": part for field, part in msgspec.structs.asdict(value).items()}
        else:
            row[name] = list(value) if name == "src" else value
    return row
