"""How facts look in a terminal and in a pipe: tables, JSON, ages, and nothing that could command the terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import typer

# C0 without tab and newline, DEL, C1, and the marks that turn the direction of text: what is stored was written
# by strangers, and a terminal obeys some of these.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text without control characters, for a line of ours."""
    return _CONTROLS.sub("", text.replace("\r\n", "\n"))


def line(text: object) -> str:
    """Text as one harmless line."""
    return " ".join(harmless(str(text)).split())


def is_terminal() -> bool:
    """Whether a person sees what we print."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """Print; for a terminal without control characters, for a pipe as it is."""
    typer.echo(harmless(text) if is_terminal() else text)


def print_json(value: Any, lines: bool = False) -> None:
    """Print a value as JSON; with ``lines`` on one line."""
    plain = msgspec.to_builtins(value, enc_hook=str)
    typer.echo(json.dumps(plain, indent=None if lines else 2, ensure_ascii=is_terminal()))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Print columns; ``right`` are those of numbers. Nothing is cut off."""
    cells = [[line(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    for row in cells:
        shown = (c.rjust(w) if at in right else c.ljust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True)))
        typer.echo("  ".join(shown).rstrip())


def age(at_ms: int, now_ms: int) -> str:
    """How long ago, or in how long: `3m`, `in 2h`, `-` for never."""
    if not at_ms:
        return "-"
    seconds = (now_ms - at_ms) / 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if abs(seconds) >= length:
            return f"{'in ' if seconds < 0 else ''}{abs(seconds) / length:.0f}{unit}"
    return f"{'in ' if seconds < 0 else ''}{abs(seconds):.0f}s"


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
