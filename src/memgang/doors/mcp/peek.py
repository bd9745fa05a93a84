"""The tool that looks into a large value without taking all of it."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from memgang import peeking
from memgang.doors.mcp.door import Door
from memgang.doors.mcp.memory import Reference
from memgang.doors.mcp.results import Card, Encoding, Marked, Shown, card, shown
from memgang.errors import ConfigError

BUDGET_MAX = 50_000  # tokens

Mode = Literal["slice", "lines", "search", "path"]


class Piece(Card, Marked):
    """A part of a value."""

    encoding: Encoding = Field(description="How the value is written here: places are counted in this text.")
    unit: Literal["characters", "lines", "matches", "values"]
    first: int = Field(description="The first one shown: lines, matches and values from 1, characters from 0.")
    last: int = Field(description="The last one shown; of characters, the place behind it.")
    total: int = Field(description="How many there are in all.")
    more: bool = Field(description="Whether there is more: behind what is shown, or cut off by the budget.")
    text: str = Field(description="The part. Of a search: the places, each with its line. Of a path: the values, a line of JSON each.")


class Peek:
    """The tool of one door."""

    def __init__(self, door: Door) -> None:
        self._space = door.space
        door.offer(self.peek, "memgang_peek", "Read a part of a value", reads=True, repeats=True)

    async def peek(
        self, ref: Reference,
        mode: Annotated[Mode, Field(description="slice (characters), lines, search (places with these words), path (of JSON).")] = "slice",
        start: Annotated[int, Field(description="The first character, from 0 (negative: from the end); the first line, from 1.")] = 0,
        count: Annotated[int, Field(ge=0, description="How many characters or lines; 0: as many as fit.")] = 0,
        query: Annotated[str, Field(max_length=1_000, description="search: words, upper and lower case alike. "
                                    "path: $.users[0].name, $.users[*].name, $..name")] = "",
        budget: Annotated[int, Field(ge=1, le=BUDGET_MAX, description="How many tokens the part may have (estimated).")] = 1_000,
    ) -> Piece:
        """Read a part of a value: a slice, lines, the places where something stands, or a path of a JSON value, under a budget."""
        whole = await self._space.resolve(ref)
        record = await self._space.describe(whole)
        value = await self._space.get(whole)
        # Megabytes of text are cut and searched; the other agents of this server need not wait for it.
        part = await asyncio.to_thread(_part, value, record.media_type, mode, start, count, query, budget)
        return Piece(**card(record), **part)


def _part(value: Any, media_type: str, mode: Mode, start: int, count: int, query: str, budget: int) -> dict[str, Any]:
    told = shown(value, media_type)
    match mode:
        case "slice":
            return _piece(told, "characters", peeking.characters(told.text, start, count or None, budget))
        case "lines":
            first = start or 1
            return _piece(told, "lines", peeking.lines(told.text, first, first + count - 1 if count else None, budget))
        case "search":
            found, total = peeking.matches(told.text, query, budget)
            text = "\n".join(f"line {match.line}, character {match.at}: {' '.join(match.text.split())}" for match in found)
            return {"encoding": told.encoding, "unit": "matches", "first": min(1, len(found)), "last": len(found), "total": total,
                    "more": len(found) < total, "text": text}
    if told.encoding != "json":
        raise ConfigError(f"a path is for JSON values, and this is {media_type}: look with slice, lines or search")
    values = peeking.at_path(told.value, query)
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in values)
    piece = peeking.lines(lines, 1, None, budget)
    return _piece(told, "values", piece) | {"first": min(1, len(values)), "total": len(values)}


def _piece(told: Shown, unit: str, piece: peeking.Piece) -> dict[str, Any]:
    return {"encoding": told.encoding, "unit": unit, "first": piece.first, "last": piece.last, "total": piece.total,
            "more": piece.more, "text": piece.text}
