"""What the commands share: their common options, and how a command meets the library."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

import memgang
from memgang.space import Space

T = TypeVar("T")

SpaceName = Annotated[str | None, typer.Option(
    "--space", "-s", help="The space to use; else MEMGANG_SPACE, else 'default'.", show_default=False)]
AgentName = Annotated[str | None, typer.Option("--agent", help="Act as this agent.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reference = Annotated[str, typer.Argument(
    metavar="REF", help="A reference, its beginning (mg: and 8 characters or more), or a name.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]


def within(space: str | None, work: Callable[[Space], Awaitable[T]], agent: str | None = None) -> T:
    """Open the space, do the work in it, and leave."""
    async def inside() -> T:
        async with memgang.open(space=space, agent=agent or "cli") as opened:
            return await work(opened)

    return asyncio.run(inside())


async def run_named(space: Space, text: str | None) -> str | None:
    """The id of a run as people write it: `last`, or the id itself."""
    if text != "last":
        return text
    runs = await space.names("runs/")
    if not runs:
        raise memgang.errors.UnknownReference("last", "there is no run in this space")
    return list(runs)[-1].removeprefix("runs/")  # run ids sort by time
