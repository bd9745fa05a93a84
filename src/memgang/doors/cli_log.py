"""The log at the command line: print it, seal it, verify it, export it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

import memgang
from memgang import sealing
from memgang.doors.options import AsJson, Limit, SpaceName, run_named, within
from memgang.doors.terminal import line, print_json, say
from memgang.export import export
from memgang.model import Event
from memgang.sealing import Finding, Report, Sealed
from memgang.space import Space
from memgang.store.log import Reading

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def log(
    context: typer.Context,
    run: Annotated[str | None, typer.Option(help="Only of this run; `last` is the last.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    what: Annotated[str | None, typer.Option(help="Only this: put, read, hit, joined, claimed, committed, failed ...")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until stopped.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Print no events: check that the log is what was written.")] = False,
    key: Annotated[str, typer.Option(help="With --verify: the public key to believe, else the one beside the seals.")] = "",
    allow_loss: Annotated[bool, typer.Option(
        "--allow-loss", help="With --verify: data that the server lost is told, and is no failure.")] = False,
    limit: Limit = 50, space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Print the last events, oldest first; with --json one object on each line. With --verify, check them instead."""
    if context.invoked_subcommand is not None:
        return
    if verify:
        _verify(space, key, allow_loss, as_json)
    else:
        _print(run, agent, what, follow, limit, space, as_json)


def _print(run: str | None, agent: str | None, what: str | None, follow: bool, limit: int, space: str | None, as_json: bool) -> None:
    def fits(event: Event) -> bool:
        return (agent is None or event.agent == agent) and (what is None or what in (event.raw, event.op))

    def tell(event: Event) -> None:
        print_json(event, lines=True) if as_json else say(_event(event))

    async def work(opened: Space) -> None:
        wanted = await run_named(opened, run)
        last: deque[Event] = deque(maxlen=limit)
        there = False  # all that was there has been read
        # One reading, whether it goes on or not: a second one would have lines in another order, and could not tell which are new.
        async with contextlib.aclosing(opened.event_pages("", Reading())) as pages:
            async for page in pages:
                for event in page.events:
                    if (wanted is None or event.run == wanted) and fits(event):
                        tell(event) if there else last.append(event)
                if page.whole and not there:
                    there = True
                    for event in last:
                        tell(event)
                    if not follow:
                        return

    within(space, work)


def _event(event: Event) -> str:
    at = datetime.fromtimestamp(event.at / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    about = "mg:" + event.obj[:10] if event.obj else event.call[:10]
    more = [f"{event.bytes:,d} B" if event.bytes else "", f"{event.dur_ms:.0f} ms" if event.dur_ms else "",
            f"saved {event.saved.ms / 1000:.1f} s" if event.saved.ms else "", event.fn.rpartition(":")[2], event.why, event.text]
    return f"{at}  {line(event.raw):<10} {line(event.agent):<18} {line(about):<14} {line(' '.join(more))}".rstrip()


def _verify(space: str | None, key: str, allow_loss: bool, as_json: bool) -> None:
    async def work(opened: Space) -> Report:
        return await sealing.report(opened, key=key)

    found = within(space, work)
    fine = found.ok(allow_loss=allow_loss)
    if as_json:
        print_json({"ok": fine, "space": found.space, "seals": found.seals, "sealed": found.sealed, "unsealed": found.unsealed,
                    "key": found.key, "findings": [_told(finding) for finding in found.findings]})
    else:
        for finding in found.findings:
            say(_finding(finding))
        signed = f"{found.seals:,} seals with {found.sealed:,} entries, signed with {found.key}" if found.seals else "no seals"
        say(f"{'ok' if fine else 'FAILED'}: space {found.space}, {signed}; {found.unsealed:,} entries not yet sealed")
    if not fine:
        raise typer.Exit(1)


def _told(finding: Finding) -> dict[str, object]:
    return {"level": finding.level, "what": finding.what, "log": finding.log, "shard": finding.shard, "first": finding.first,
            "last": finding.last, "detail": finding.detail}


def _finding(finding: Finding) -> str:
    numbers = f"{finding.first}" if finding.first == finding.last else f"{finding.first} to {finding.last}"
    about = f", {numbers}" if finding.last else ""  # 0: it is about no entry
    where = f"{'changes' if finding.log[0] == 'a' else 'reads'} of shard {finding.shard}{about}: " if finding.log else ""
    return f"{finding.level:<8}  {finding.what:<11}  {line(where + finding.detail)}"


@app.command("seal")
def seal(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on sealing what comes, until stopped.")] = False,
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Seal all that is in the log now, and print the public key that verifies it: keep that elsewhere."""
    told: Sealed = within(space, sealing.seal)
    if as_json:
        print_json(told)
    else:
        say(f"sealed: {told.entries:,} entries, up to seal {told.seal} in {told.place}")
        say(f"public key: {told.key}")
    if follow:
        asyncio.run(_stay(space))


async def _stay(space: str | None) -> None:
    async with memgang.open(space=space, agent="sealer", seal=True):
        await asyncio.Event().wait()


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="Where to: a name that ends in .jsonl or .parquet.")],
    run: Annotated[str | None, typer.Option(help="Only of this run; `last` is the last.")] = None,
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Write the events to FILE: one JSON object a line, or a Parquet table."""
    async def work(opened: Space) -> int:
        return await export(opened, file.expanduser(), run=await run_named(opened, run))

    count = within(space, work)
    print_json({"file": str(file), "events": count}) if as_json else say(f"{count:,} events in {file}")
