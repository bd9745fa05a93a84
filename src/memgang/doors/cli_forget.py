"""The command line: forgetting one object, all that was made from it, or all that was read from a source."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from memgang import errors
from memgang.doors.options import AgentName, AsJson, Reference, SpaceName, within
from memgang.doors.terminal import is_terminal, line, print_json, say, size
from memgang.lineage import Forgotten
from memgang.space import Space

SHOWN = 20  # references of a long list

Reason = Annotated[str, typer.Option(help="Why; it goes into the log.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first. Without a terminal nobody is asked.")]
RemoveNames = Annotated[bool, typer.Option("--remove-names", help="Take away the names that point at what goes.")]
Scrub = Annotated[bool, typer.Option("--scrub", help="Have the server rewrite its files, so that the bytes leave the disk too.")]


def forget(
    ref: Reference,
    cascade: Annotated[bool, typer.Option("--cascade", help="And everything that was made from it.")] = False,
    reason: Reason = "", dry_run: DryRun = False, yes: Yes = False, remove_names: RemoveNames = False, scrub: Scrub = False,
    space: SpaceName = None, agent: AgentName = None, as_json: AsJson = False,
) -> None:
    """Remove an object now, pinned or not; with --cascade also everything that was made from it."""
    async def work(opened: Space, only_look: bool) -> Forgotten:
        whole = await opened.resolve(ref)
        found = await opened.forget(whole, reason, cascade=cascade, dry_run=only_look, remove_names=remove_names)
        if not found:
            raise errors.UnknownReference(whole)
        return found

    _carry_out(work, dry_run, cascade and not yes and not as_json, scrub, space, agent, as_json)


def invalidate(
    source: Annotated[str, typer.Argument(
        metavar="SOURCE", help="A file, folder, glob or URL that was read (it need not exist any more); else a name or reference.")],
    reason: Reason = "", dry_run: DryRun = False, yes: Yes = False, remove_names: RemoveNames = False, scrub: Scrub = False,
    space: SpaceName = None, agent: AgentName = None, as_json: AsJson = False,
) -> None:
    """Forget what was read from SOURCE and everything that was made from it; it is computed anew when asked for."""
    async def work(opened: Space, only_look: bool) -> Forgotten:
        return await opened.invalidate(source, reason, dry_run=only_look, remove_names=remove_names)

    _carry_out(work, dry_run, not yes and not as_json, scrub, space, agent, as_json)


def _carry_out(
    work: Callable[[Space, bool], Awaitable[Forgotten]], dry_run: bool, ask: bool, scrub: bool, space: str | None,
    agent: str | None, as_json: bool,
) -> None:
    if ask and not dry_run and is_terminal() and sys.stdin.isatty():
        _show(within(space, lambda opened: work(opened, True), agent))
        typer.confirm("Forget all this?", abort=True)

    async def all_of_it(opened: Space) -> tuple[Forgotten, bool | None]:
        found = await work(opened, dry_run)
        return found, await opened.scrub() if scrub and not dry_run else None

    found, scrubbed = within(space, all_of_it, agent)
    if as_json:
        one = {"ref": found.roots[0], "forgotten": not dry_run} if len(found.roots) == 1 else {}
        print_json(one | {name: getattr(found, name) for name in found.__struct_fields__} | {"scrubbed": scrubbed})
        return
    _show(found)
    if scrubbed is not None:
        say("the server has rewritten its files" if scrubbed else
            "the server keeps no log of commands, or does not let us have it rewritten: see its own files")


def _show(found: Forgotten) -> None:
    """The reach in a few lines."""
    if len(found.refs) == 1 and not found.answers and not found.names and not found.dry_run:
        say(f"forgotten: {found.refs[0]}")
        return
    objects = f"{len(found.refs):,} object{'s' * (len(found.refs) != 1)}"
    answers = f"{len(found.answers):,} call{'s' * (len(found.answers) != 1)}"
    say(f"{'would forget' if found.dry_run else 'forgotten:'} {objects}, {size(found.bytes)}, and the answers of {answers}")
    names = "taken away" if found.names_removed else "they point at nothing then" if found.dry_run else "they point at nothing now"
    facts = [("kinds", ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())),
             ("of runs", ", ".join(found.runs)),
             ("names", f"{', '.join(found.names)} ({names})" if found.names else ""),
             ("pinned", ", ".join(ref.short for ref in found.pinned)),
             ("stays", f"{len(found.shared):,} parts that another remembered document has too" if found.shared else ""),
             ("unsure", f"{len(found.unsure):,} objects with more parents than are kept" if found.unsure else "")]
    for what, text in facts:
        if text:
            say(f"  {what + ':':<9} {line(text)}")
    if found.dry_run:
        for ref in found.refs[:SHOWN]:
            say(f"  {ref}")
        if len(found.refs) > SHOWN:
            say(f"  and {len(found.refs) - SHOWN:,} more (--json lists all)")
