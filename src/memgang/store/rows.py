"""Events as rows of a file: a line of JSON each, or a table of Parquet with the same fields under the same names.

In the table what was spent and saved has a column for each figure (``own_tokens_in``, ``saved_ms``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, get_args, get_type_hints

import msgspec

from memgang.errors import ConfigError
from memgang.model import Event, Usage


class Rows(Protocol):
    """A file that is being written."""

    def __init__(self, path: Path) -> None: ...

    def add(self, events: Sequence[Event]) -> None:
        """Write some more. OSError: no room."""

    def close(self) -> None:
        """It is whole now."""


class Lines:
    """JSON Lines. What a field has by default is left out."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def add(self, events: Sequence[Event]) -> None:
        """Write some more."""
        # JSON escapes line ends, so that no text of an event can begin a line of its own.
        self._file.write(b"".join([msgspec.json.encode(event) + b"\n" for event in events]))

    def close(self) -> None:
        """It is whole now."""
        self._file.close()


class Table:
    """Parquet; what is added at once is a row group.

    Raises:
        ConfigError: PyArrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ConfigError("Parquet needs PyArrow: pip install 'memgang[arrow]'") from error
        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
        self._hints = get_type_hints(Event)
        columns: list[tuple[str, Any]] = []
        for name, kind in self._hints.items():
            if kind is Usage:
                columns += [(f"{name}_{field}", kinds[of]) for field, of in get_type_hints(Usage).items()]
            elif name == "src":
                columns.append((name, pyarrow.list_(pyarrow.string())))
            else:
                columns.append((name, kinds[kind if kind in kinds else get_args(kind)[0]]))
        self._schema = pyarrow.schema(columns)
        self._table = pyarrow.Table
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, events: Sequence[Event]) -> None:
        """Write some more."""
        self._writer.write_table(self._table.from_pylist([self._row(event) for event in events], schema=self._schema))

    def close(self) -> None:
        """It is whole now."""
        self._writer.close()

    def _row(self, event: Event) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, kind in self._hints.items():
            value = getattr(event, name)
            if kind is Usage:
                row |= {f"{name}_{field}": part for field, part in msgspec.structs.asdict(value).items()}
            else:
                row[name] = list(value) if name == "src" else value
        return row


KINDS: dict[str, type[Rows]] = {".jsonl": Lines, ".parquet": Table}
