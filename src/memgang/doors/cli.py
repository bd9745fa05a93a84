"""The command line: `memgang`. Commands for memory; see cli_run.py for jobs and cli_care.py for looking after it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

import memgang
from memgang import errors
from memgang.canonical import read_json
from memgang.codec import encode, parse_ttl
from memgang.doors import (
    cli_care,
    cli_dashboard,
    cli_evict,
    cli_forget,
    cli_mcp,
    cli_metrics,
    cli_proxy,
    cli_replay,
    cli_run,
    cli_token,
)
from memgang.doors.options import AgentName, AsJson, Limit, Reference, SpaceName, run_named, within
from memgang.doors.terminal import age, is_terminal, line, print_json, print_table, say, size
from memgang.model import Document, MemoryObject, Place, Ref
from memgang.space import Found, Space

app = typer.Typer(
    name="memgang", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="One memory for a gang of AI agents: what one has computed, the others recall.",
    epilog="With --debug anywhere, errors come with a traceback.")
names_app = typer.Typer(help="Names: mutable pointers to references, changed by compare-and-set.", rich_markup_mode=None)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"memgang {memgang.__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


app.command("run")(cli_run.run)
app.command("compare")(cli_run.compare)
app.command("mcp")(cli_mcp.mcp)
app.command("replay")(cli_replay.replay)
app.command("export")(cli_replay.export)
app.command("dashboard")(cli_dashboard.dashboard)


@app.command()
def put(
    file: Annotated[str, typer.Argument(help="A file; - is standard input.")] = "-",
    text: Annotated[str | None, typer.Option(help="Store this text instead of a file.")] = None,
    as_type: Annotated[str, typer.Option("--type", help="auto (text where it is UTF-8, else bytes), text, json or bytes.")] = "auto",
    name: Annotated[str | None, typer.Option(help="Point this name at it.")] = None,
    ttl: Annotated[str | None, typer.Option(help="Time to live, such as 15m or 7d; else it stays.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    kind: Annotated[str, typer.Option(help="What kind of object it is.")] = "other",
    space: SpaceName = None, agent: AgentName = None, as_json: AsJson = False,
) -> None:
    """Store a file, standard input or a text, and print its reference."""
    if as_type not in ("auto", "text", "json", "bytes"):
        raise typer.BadParameter("it must be auto, text, json or bytes", param_hint="--type")
    if text is not None:
        body = text.encode("utf-8", "surrogateescape")
    else:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
    value = _value(body, as_type)

    async def work(opened: Space) -> Ref:
        return await opened.put(value, name=name, ttl=ttl, tags=tag or (), kind=kind)

    ref = within(space, work, agent)
    print_json({"ref": ref, "name": name, "bytes": len(body)}) if as_json else say(ref)


def _value(body: bytes, as_type: str) -> Any:
    if as_type == "bytes":
        return body
    try:
        text = body.decode("utf-8")
        return read_json(text) if as_type == "json" else text
    except ValueError as error:
        if as_type == "auto":
            return body
        raise errors.CodecError(f"this is not {as_type}: {error}") from error


@app.command()
def get(
    ref: Reference,
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    space: SpaceName = None, agent: AgentName = None, as_json: AsJson = False,
) -> None:
    """Print the value behind REF: text as it is, records as JSON, anything else as its bytes."""
    async def work(opened: Space) -> tuple[MemoryObject, Any]:
        whole = await opened.resolve(ref)
        record = await opened.describe(whole)
        return record, await opened.get(whole)

    record, value = within(space, work, agent)
    if as_json:
        shown = value if not isinstance(value, bytes) else value.hex()
        print_json({"ref": record.ref, "media_type": record.media_type, "value": shown})
        return
    if isinstance(value, str):
        body = value.encode("utf-8")
    elif isinstance(value, bytes):
        body = value
    elif "json" in record.media_type or isinstance(value, msgspec.Struct):
        body = (json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2, ensure_ascii=False) + "\n").encode()
    else:
        body = encode(value, record.media_type).whole
    if out is not None:
        out.write_bytes(body)
    elif not is_terminal():
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
    elif isinstance(value, str) or body[:1] in b"{[" or "json" in record.media_type:
        say(body.decode("utf-8").rstrip("\n"))
    else:
        say(f"{len(body):,} bytes of {record.media_type}: write them with --out FILE, or pipe them")


@app.command()
def show(ref: Reference, space: SpaceName = None, as_json: AsJson = False) -> None:
    """Print what is known of REF: its places in documents, its writers and parents, and how it begins."""
    async def work(opened: Space) -> dict[str, Any]:
        whole = await opened.resolve(ref)
        record = await opened.describe(whole)
        try:
            value = await opened.get(whole)
        except errors.ObjectLost:
            value = None
        parents = [Ref(p) for p in record.parents]
        found = await _places(opened, {record.ref, *parents})
        told: dict[str, Any] = msgspec.to_builtins(record, enc_hook=str)
        told |= {"places": found.get(record.ref, []), "now": opened.store.log.server_ms(),
                 "parents": [{"ref": p, "places": found.get(p, [])} for p in parents],
                 "names": [n for n, r in (await opened.names()).items() if r == whole],
                 "begins": value[:600] if isinstance(value, str) else ""}
        return told

    told = within(space, work)
    if as_json:
        print_json(told)
        return
    say(told["ref"])
    now, meta = told["now"], told["meta"]
    facts = [("what", f"{meta.get('kind', 'other')}, {told['media_type']}, {size(told['size'])}"),
             ("written", f"{age(told['at'], now)} ago by {', '.join(told['writers'])}"),
             ("expires", age(told["expires"], now) if told["expires"] else "never"),
             ("tags", ", ".join(meta.get("tags", ()))), ("run", meta.get("run", "")), ("call", told["call"]),
             ("names", ", ".join(told["names"])), ("pinned by", ", ".join(told["pins"]))]
    for what, text in facts:
        if text:
            say(f"  {what + ':':<10} {line(text)}")
    for place in told["places"]:
        say(f"  {'source:':<10} {line(_place(place))}")
    for parent in told["parents"]:
        say(f"  {'from:':<10} {parent['ref']}")
        for place in parent["places"]:
            say(f"  {'':<10}   {line(_place(place))}")
    if told["begins"]:
        say("\n" + told["begins"].strip() + (" ..." if told["size"] > 600 else ""))


async def _places(space: Space, wanted: set[Ref]) -> dict[Ref, list[dict[str, Any]]]:
    """Where these parts stand, in every document that the space remembers."""
    found: dict[Ref, list[dict[str, Any]]] = {}
    cursor = ""
    while True:
        page: Found = await space.find(kind="document", limit=200, cursor=cursor)
        for record in page.objects:
            try:
                document = await space.get(record.ref)
            except errors.UnknownReference:
                continue  # expired since
            if isinstance(document, Document):
                for place in document.places:
                    if place.ref in wanted:
                        told = _told(document, place)
                        if told not in found.setdefault(place.ref, []):
                            found[place.ref].append(told)
        cursor = page.cursor
        if not cursor:
            return found


def _told(document: Document, place: Place) -> dict[str, Any]:
    return {"source": document.source, "title": document.title, "page": place.page, "page_end": place.page_end,
            "line": place.line, "headings": list(place.headings), "pos": place.pos}


def _place(told: dict[str, Any]) -> str:
    where = [str(told["source"])]
    if told["page"]:
        last = f"-{told['page_end']}" if told["page_end"] > told["page"] else ""
        where.append(f"page {told['page']}{last}")
    if told["line"]:
        where.append(f"line {told['line']}")
    if told["headings"]:
        where.append(" > ".join(told["headings"]))
    return ", ".join(where)


@app.command()
def ls(limit: Limit = 20, space: SpaceName = None, as_json: AsJson = False) -> None:
    """List the newest objects."""
    _list(space, as_json, {"limit": limit})


@app.command()
def find(
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    by: Annotated[str | None, typer.Option(help="Written by this agent.")] = None,
    media_type: Annotated[str | None, typer.Option("--type", help="Whose media type begins so.")] = None,
    run: Annotated[str | None, typer.Option(help="Made in this run; `last` is the last.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind: part, fact, document, report, run, answer, other ...")] = None,
    since: Annotated[str | None, typer.Option(help="Not older than this, such as 1h.")] = None,
    cursor: Annotated[str, typer.Option(help="Go on where an earlier find ended.")] = "",
    limit: Limit = 50, space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """List the objects that fit all filters, the newest first."""
    _list(space, as_json, {"tag": tag, "agent": by, "media_type": media_type, "run": run, "kind": kind, "since": since,
                           "cursor": cursor, "limit": limit})


def _list(space: str | None, as_json: bool, filters: dict[str, Any]) -> None:
    async def work(opened: Space) -> tuple[Found, int]:
        now = opened.store.log.server_ms()
        if filters.get("since"):
            filters["since"] = now - parse_ttl(filters["since"])
        filters["run"] = await run_named(opened, filters.get("run"))
        return await opened.find(**filters), now

    found, now = within(space, work)
    if as_json:
        print_json(found)
        return
    print_table(["REF", "KIND", "SIZE", "AGE", "EXPIRES", "BY", "TYPE", "TAGS"], [
        (o.ref.short, o.meta.get("kind", "other"), size(o.size), age(o.at, now), age(o.expires, now),
         o.writers[0].rpartition("/")[2] if o.writers else "", o.media_type.partition(";")[0], ",".join(o.meta.get("tags", ())))
        for o in found.objects], right=(2, 3))
    if found.cursor:
        say(f"(more: memgang find --cursor {found.cursor})")


@names_app.callback(invoke_without_command=True)
def _names(context: typer.Context, space: SpaceName = None, as_json: AsJson = False) -> None:
    """Names: mutable pointers to references. Without a command, list all of them."""
    if context.invoked_subcommand is None:
        names_list("", space, as_json)


@names_app.command("list")
def names_list(
    prefix: Annotated[str, typer.Argument(help="Only names that begin so.")] = "", space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """List names and where they point."""
    found = within(space, lambda opened: opened.names(prefix))
    print_json(found) if as_json else print_table(["NAME", "REF"], list(found.items()))


@names_app.command("set")
def names_set(
    name: str, ref: Reference,
    expect: Annotated[int | None, typer.Option(min=0, help="The version seen last, 0 for a new name; else any.")] = None,
    space: SpaceName = None, agent: AgentName = None, as_json: AsJson = False,
) -> None:
    """Point NAME at REF."""
    async def work(opened: Space) -> tuple[Ref, int]:
        whole = await opened.resolve(ref)
        return whole, await opened.set_name(name, whole, expect=expect)

    whole, version = within(space, work, agent)
    print_json({"name": name, "ref": whole, "version": version}) if as_json else say(f"{name} is {whole}, version {version}")


@names_app.command("remove")
def names_remove(
    name: str, expect: Annotated[int | None, typer.Option(min=1, help="The version seen last; else any.")] = None,
    space: SpaceName = None, agent: AgentName = None, as_json: AsJson = False,
) -> None:
    """Take NAME away; its history stays."""
    async def work(opened: Space) -> int:
        now = await opened.version(name)
        if now is None or now.ref is None:
            raise errors.UnknownReference(name, "no object has this name")
        return await opened.set_name(name, None, expect=expect)

    version = within(space, work, agent)
    print_json({"name": name, "ref": None, "version": version}) if as_json else say(f"{name} is gone, version {version}")


@names_app.command("history")
def names_history(name: str, limit: Limit = 50, space: SpaceName = None, as_json: AsJson = False) -> None:
    """Show the versions of NAME, the newest first."""
    async def work(opened: Space) -> tuple[list[Any], int]:
        return list(await opened.history(name, limit)), opened.store.log.server_ms()

    versions, now = within(space, work)
    if not versions:
        raise errors.UnknownReference(name, "this name never was")
    if as_json:
        print_json(versions)
    else:
        print_table(["VERSION", "REF", "AGE", "BY"],
                    [(v.version, v.ref or "(taken away)", age(v.at, now), v.who) for v in versions], right=(0, 2))


app.add_typer(names_app, name="names")


app.command("forget")(cli_forget.forget)
app.command("invalidate")(cli_forget.invalidate)
app.command("evict")(cli_evict.evict)


@app.command()
def pin(
    ref: Reference, ttl: Annotated[str, typer.Option(help="For how long.")] = "1h",
    off: Annotated[bool, typer.Option("--off", help="End the pin instead.")] = False,
    holder: Annotated[str, typer.Option(help="Who holds the pin.")] = "cli",
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Keep an object from eviction for a while."""
    async def work(opened: Space) -> tuple[Ref, int]:
        whole = await opened.resolve(ref)
        if off:
            await opened.unpin(whole, holder)
            return whole, 0
        deadline = await opened.pin(whole, ttl, holder)
        return whole, deadline - opened.store.log.server_ms()

    whole, left = within(space, work)
    if as_json:
        print_json({"ref": whole, "pinned_ms": left})
    else:
        say(f"not pinned by {holder} any more: {whole}" if off else f"pinned by {holder} for {ttl}: {whole}")


app.command("proxy")(cli_proxy.proxy)
app.command("metrics")(cli_metrics.metrics)
app.add_typer(cli_token.app, name="token")
cli_care.add_to(app)


def main() -> None:
    """The entry point: errors are one line with the next step; a traceback only with --debug."""
    arguments = sys.argv[1:]
    until = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:until]
    arguments = [a for a in arguments[:until] if a != "--debug"] + arguments[until:]
    # A run that is told to end gives its calls up, as with Ctrl-C: others need not wait for its leases.
    signal.signal(signal.SIGTERM, _told_to_end)
    try:
        app(args=arguments, prog_name="memgang")
    except KeyboardInterrupt:
        _fail("stopped", 130, debug)
    except asyncio.CancelledError:
        _fail("stopped", 130, debug)
    except BaseExceptionGroup as group:
        _fail(_sentence(_first(group)), 1, debug)
    except Exception as error:
        _fail(_sentence(error), 1, debug)


def _told_to_end(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background: Ctrl-C is not for us
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(error: BaseException) -> str:
    if isinstance(error, errors.MemGangError):
        return error.explain()
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error}. Run it again with --debug to see where"


def _fail(text: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"memgang: {line(text)}", err=True)
    raise SystemExit(status)
