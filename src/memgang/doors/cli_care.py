"""Commands that look after memory: stats, why, doctor, stop; cli_log.py has the log."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

import memgang
from memgang import errors, explain
from memgang.doors import cli_log
from memgang.doors.options import AsJson, SpaceName, run_named, within
from memgang.doors.terminal import line, print_json, print_table, say, size
from memgang.explain import Why
from memgang.savings import fold, table, to_dict
from memgang.settings import Settings
from memgang.space import Space
from memgang.store import check, exporter, server

SHOWN = 20  # agents of a long list
LITTLE_BYTES = 64 << 20  # of large bodies in memory; containers that nobody has told otherwise have a quarter of this


def add_to(app: typer.Typer) -> None:
    """Give the application these commands."""
    app.add_typer(cli_log.app, name="log")
    for command in (stats, why, doctor, stop):
        app.command()(command)


def stats(
    run: Annotated[str | None, typer.Option(help="The ledger of this run; `last` is the last.")] = None,
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Print the totals of the space, or with --run what sharing saved in it."""
    async def totals(opened: Space) -> tuple[dict[str, int], dict[str, int]]:
        return await opened.stats(), await opened.bytes_by_agent()

    async def ledger(opened: Space) -> Any:
        wanted = await run_named(opened, run)
        events = [event async for event in opened.events(run=wanted)]
        if not events:
            raise errors.UnknownReference(str(wanted), "the log has nothing of this run")
        return fold(events)

    if run is None:
        found, agents = within(space, totals)
        if as_json:
            print_json({**found, "bytes_by_agent": agents})
            return
        print_table(["WHAT", "TOTAL"], [(k, f"{v:,d}") for k, v in found.items()], right=(1,))
        if agents:
            say()
            shown = [(line(agent), f"{held:,d}") for agent, held in list(agents.items())[:SHOWN]]
            print_table(["WRITTEN FIRST BY", "BYTES"], shown, right=(1,))
            if len(agents) > SHOWN:
                say(f"and {len(agents) - SHOWN:,} more (--json lists all)")
        return
    savings = within(space, ledger)
    if as_json:
        print_json(to_dict(savings))
        return
    say(table(savings))


def why(
    call: Annotated[str, typer.Argument(
        help="The beginning of a call's key, or a function's name; else the newest computation.")] = "",
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Explain why a call was computed and not recalled: the nearest stored call, and where the two first differ."""
    async def work(opened: Space) -> Why:
        wanted = call
        if not wanted:
            async for event in opened.events():
                wanted = event.call if event.raw in ("claimed", "taken") else wanted
        found = await explain.why(opened.store.wire, opened.store.keys, wanted)
        if found is None:
            raise errors.MemGangError(f"the log holds no computation of {call!r}" if call else "the log holds no computation yet")
        return found

    found = within(space, work)
    if as_json:
        print_json(found)
        return
    say(line(f"{found.call[:12]}  {found.fn}  (computed by {found.agent or 'nobody'})"))
    say(line(found.verdict))
    if found.place:
        say(line(f"nearest call: {found.nearest[:12]}; the first difference is at {found.place}"))
        say(f"  here:  {line(found.mine)}")
        say(f"  there: {line(found.other)}")


def doctor(space: SpaceName = None, as_json: AsJson = False) -> None:
    """Look at the server and say what is wrong, a line for each thing; exit status 1 if anything must be mended."""
    settings = Settings.load(space=space)
    found: list[dict[str, str]] = []

    def note(level: str, what: str, detail: str, fix: str = "") -> None:
        found.append({"level": level, "what": what, "detail": detail, "fix": fix})

    try:
        if settings.url:
            note("ok", "server", "your own, named by MEMGANG_URL")
        else:
            note("ok", "program", str(server.find_binary(settings)))
            seen = server.status(settings)
            note("ok" if seen.running or seen.state == "not there" else "warn", "embedded server",
                 f"{seen.server or 'not started yet'}, {seen.state}, {seen.clients} clients, log of {size(seen.aof_bytes)}"
                 f" in {seen.state_dir}{', stays' if seen.stay else ''}")
        asyncio.run(_examine(settings, note))
    except errors.MemGangError as error:
        note("fail", "server", str(error), "" if error.hint == errors.StoreUnavailable.hint else error.hint)
    if as_json:
        print_json(found)
    else:
        for finding in found:
            told = line(f"{finding['what']}: {finding['detail']}{'; ' + finding['fix'] if finding['fix'] else ''}")
            say(f"{finding['level']:<4}  {told}")
    if any(finding["level"] == "fail" for finding in found):
        raise typer.Exit(1)


async def _examine(settings: Settings, note: Any) -> None:
    async with memgang.open(space=settings.space, agent="doctor") as opened:
        client = opened.store.sync_client()
        try:
            for finding in await asyncio.to_thread(check.check, client, opened.name):
                note(finding.level, finding.what, finding.detail, finding.fix)
        finally:
            client.close()
        totals = await opened.stats()
        note("ok", f"space {opened.name}", f"{totals.get('count', 0):,d} objects, {size(totals.get('bytes', 0))}")
        _host(opened, note)
        await asyncio.to_thread(_large, opened, note)
        _exports(opened, note)


def _host(opened: Space, note: Any) -> None:
    found = opened.store.host_state()
    if found is None:
        if opened.settings.host_tier == "off":
            note("ok", "host tier", "off")
        else:
            note("warn", "host tier", "none: there is too little room for it, or no place that is yours alone",
                 "name a directory of your own on a file system with room in MEMGANG_HOST_DIR")
        return
    read = f"log read {found.read_s:.1f} s ago" if found.read_s >= 0 else "log not read yet"
    by = f" by process {found.follower}" if found.follower else ""
    left = f", and of {found.left} dead ones" if found.left else ""
    note("ok" if found.readable else "warn", "host tier",
         f"{found.bodies:,} bodies and {found.answers:,} answers, {size(found.used)} of {size(found.size)} in {found.folder}; "
         f"{'' if found.readable else 'not read from now, '}{read}{by}; events of {found.rings} processes wait to be written{left}")


def _large(opened: Space, note: Any) -> None:
    """Where bodies over the inline limit go, and whether the memory there is worth the name: containers often have 64 MB."""
    large = opened.store.large
    found = large.files.sizes()
    if large.placement == "network":
        note("ok", "large bodies", f"to the server; copies of {size(found['copies'])} on this host")
        return
    small = found["limit"] < LITTLE_BYTES
    note("warn" if small else "ok", "large bodies",
         f"{size(found['ours'])} of {size(found['limit'])} in {large.files.ours.root.parent}, {size(found['spilled'])} on the disk",
         "what is more goes to the disk at once: give the container more shared memory (--shm-size), or name a directory of your own "
         "on a larger file system in MEMGANG_HOST_DIR" if small else "")


def _exports(opened: Space, note: Any) -> None:
    try:
        found = exporter.outcome(opened.settings, opened.name)
    except OSError as error:
        note("warn", "log export", str(error), "nothing is trimmed from the log until it can be written to")
        return
    if found is not None:
        upto = ", ".join(f"{log} to {seq:,}" for log, seq in sorted(found.upto.items())) or "nothing yet"
        note("warn" if found.missing else "ok", "log export", f"{found.files:,} files, {size(found.bytes)} in {found.folder}: {upto}",
             f"nothing is trimmed from the log until there is PyArrow: pip install '{found.missing}'" if found.missing else "")


def stop(
    force: Annotated[bool, typer.Option("--force", help="Also when it has clients; they start it again when they need it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the embedded server; what is stored stays on disk."""
    settings = Settings.load()
    if settings.url:
        raise errors.ConfigError("MEMGANG_URL names a server of your own, which memgang does not stop")
    outcome = server.stop(settings, force)
    if as_json:
        print_json({"outcome": outcome})
    else:
        say({"in use": "it still has clients, and stops with the last of them (--force: now)"}.get(outcome, outcome))
