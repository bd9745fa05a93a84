"""How much a door takes from a connection; what sees to it is in `connections.py`, which needs uvicorn, an extra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much a connection may ask of a door before anything is known of it."""

    head_bytes: int = 64 * 1024
    head_fields: int = 200
    head_s: float = 15.0
    body_s: float = 45.0  # longer than the doors themselves wait, who can say why
    stalled_s: float = 60.0
    linger_s: float = 2.0  # so long, and so many bytes, of what is still sent are taken and thrown away:
    linger_bytes: int = 4_000_000  # a closed door would take the answer with it


def guarded(patience: Patience) -> type[Any]:
    """A class of connections for uvicorn (``http=``). One of them lives as long as its connection."""
    from memgang.doors.connections import Guarded  # only a door that serves needs it

    return type("Guarded", (Guarded,), {"patience": patience})
