"""The command line: evict now, or see on paper what each policy would have kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from memgang import errors, eviction
from memgang.doors.options import AsJson, SpaceName, run_named, within
from memgang.doors.terminal import line, print_json, print_table, say, size
from memgang.eviction import Comparison, History
from memgang.space import Space
from memgang.store import shrink

SHOWN = 20  # objects of a long list
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?(%|B|kB|MB|GB)?\Z", re.I)
_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}


def evict(
    to: Annotated[str | None, typer.Option(
        metavar="BYTES", help="Down to so many bytes, such as 500MB; else to the budget of the space.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go first.")] = False,
    simulate: Annotated[bool, typer.Option(
        "--simulate", help="Evict nothing: replay the log against LRU, LFU, FIFO, S3-FIFO, SIEVE and GDSF.")] = False,
    run: Annotated[str | None, typer.Option(help="With --simulate: only the log of this run; `last` is the last.")] = None,
    trace: Annotated[Path | None, typer.Option(
        help="With --simulate: a trace of another cache (one key a line, or 32-bit integers; .gz, .xz), or an exported log "
             "(.jsonl), instead of the log.")] = None,
    form: Annotated[Literal["lines", "ints", "events"] | None, typer.Option(
        "--format", help="What --trace holds: lines, ints or events; else it is told from the content.")] = None,
    costs: Annotated[Literal["lognormal", "zipf"] | None, typer.Option(
        help="With --simulate: draw what each key costs (lognormal or zipf) instead of what the log says, or 1 s in a trace.")] = None,
    seed: Annotated[int, typer.Option(help="With --costs: another number draws other costs.")] = 1,
    budget: Annotated[list[str] | None, typer.Option(
        metavar="BYTES", help="With --simulate: bytes, or a share of the working set such as 10%; may be given several times. "
                              "Else 5%, 10%, 25% and 50%.")] = None,
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Evict now, cheapest to compute again first; or, with --simulate, compare policies and evict nothing."""
    if not simulate:
        if run or trace or form or costs or budget:
            raise typer.BadParameter("--run, --trace, --format, --costs and --budget go with --simulate", param_hint="evict")
        _evict(None if to is None else _amount(to, 0, "--to"), dry_run, space, as_json)
        return
    if to is not None or dry_run:
        raise typer.BadParameter("--to and --dry-run evict; with --simulate name a --budget", param_hint="evict")
    if form and not trace:
        raise typer.BadParameter("it goes with --trace", param_hint="--format")
    if trace and run:
        raise typer.BadParameter("a trace has no runs; leave out --run or --trace", param_hint="--run")
    wanted = budget or [f"{share:.0%}" for share in eviction.SHARES]
    for text in wanted:
        _amount(text, 1, "--budget")  # before anything long begins
    history = eviction.read(trace.expanduser(), form) if trace else within(space, lambda opened: _of_space(opened, run))
    if not history.requests():
        raise errors.MemGangError(
            f"{history.source} holds no request to simulate ({history.kept:,} kept objects): recall something first, or name a --trace")
    if costs:
        history = eviction.drawn(history, costs, seed)
    total = sum(history.sizes().values())
    found = eviction.compare(history, list(dict.fromkeys(_amount(text, total, "--budget") for text in wanted)))
    print_json(_figures(found)) if as_json else _show(found)


async def _of_space(opened: Space, run: str | None) -> History:
    wanted = await run_named(opened, run)
    events = [event async for event in opened.events()]
    if wanted and not any(event.run == wanted for event in events):
        raise errors.UnknownReference(wanted, "the log has nothing of this run")
    return eviction.from_events(events, f"space {opened.name}" + (f", run {wanted}" if wanted else ""), wanted)


def _amount(text: str, total: int, hint: str) -> int:
    """Bytes as people write them. A share is one of ``total``, and needs one."""
    found = _AMOUNT.match(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no number of bytes, such as 500000, 500kB or 10%", param_hint=hint)
    number, unit = float(found[1]), (found[2] or "").lower()
    if unit != "%":
        amount = int(number * _UNITS[unit])
    elif not total:
        raise typer.BadParameter(f"{text!r}: a share of what? Name bytes", param_hint=hint)
    elif number > 100:
        raise typer.BadParameter(f"{text!r} is more than all of it", param_hint=hint)
    else:
        amount = max(int(total * number / 100), 1 if number else 0)
    if amount < 1 and hint == "--budget":
        raise typer.BadParameter(f"{text!r} holds nothing; name at least 1 byte", param_hint=hint)
    return amount


def _evict(to: int | None, dry_run: bool, space: str | None, as_json: bool) -> None:
    found = within(space, lambda opened: shrink.shrink(opened.store, to, dry_run=dry_run))
    if as_json:
        print_json(found)
    else:
        count = len(found.going)
        freed = sum(going.size for going in found.going)
        say(f"{'would evict' if dry_run else 'evicted:'} {count:,} object{'s' * (count != 1)}, {size(freed)}; "
            f"{found.bytes_before:,} bytes before, {found.bytes_after:,} {'then' if dry_run else 'now'}, "
            f"{found.target_bytes:,} asked for")
        if found.going and dry_run:
            print_table(["REF", "SIZE", "SECONDS", "USES", "RANK"], [
                (going.ref.short, size(going.size), f"{going.seconds:.3f}", going.uses,
                 going.why if going.rank is None else f"{going.rank:.3g}") for going in found.going[:SHOWN]], right=(1, 2, 3, 4))
            if count > SHOWN:
                say(f"and {count - SHOWN:,} more (--json lists all)")
    if not found.reached:
        raise errors.MemGangError(
            f"{found.bytes_after - found.target_bytes:,} bytes more than asked for are kept, pinned or written just now; "
            "see `memgang ls`, and `memgang forget` what is not needed")


def _show(found: Comparison) -> None:
    say(line(f"{found.source}: {found.requests:,} requests for {found.objects:,} objects of {size(found.working_set_bytes)}; "
             f"an unlimited memory answers {found.unlimited.hit_rate:.2%} and saves {found.unlimited.seconds_saved:,.3f} s"
             + (f", ${found.unlimited.micro_usd_saved / 1e6:,.6f}" if found.unlimited.micro_usd_saved else "")))
    if found.kept:
        say(f"left out: {found.kept:,} object{'s' * (found.kept != 1)} of {size(found.kept_bytes)}, kept because nothing can "
            "compute them again: they are never evicted, and take room beside the budgets below")
    if found.unsized:
        say(f"left out: {found.unsized:,} events about objects whose size the log does not say")
    for row in found.rows:
        say()
        say(f"budget {row.budget_bytes:,} bytes, {row.budget_bytes / max(found.working_set_bytes, 1):.1%} of the working set")
        heads = ["POLICY", "HITS", "HIT RATE", "BYTE HIT RATE", "SECONDS SAVED", "OF POSSIBLE", "DOLLARS SAVED", "OF POSSIBLE"]
        print_table(heads, [
            (o.policy, f"{o.hits:,}", f"{o.hit_rate:.2%}", f"{o.byte_hit_rate:.2%}", f"{o.seconds_saved:,.3f}",
             _share(o.seconds_saved, found.unlimited.seconds_saved), f"{o.micro_usd_saved / 1e6:,.6f}",
             _share(o.micro_usd_saved, found.unlimited.micro_usd_saved)) for o in row.outcomes], right=range(1, len(heads)))


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def _figures(found: Comparison) -> dict[str, object]:
    """The comparison for JSON, with the rates that people would work out."""
    best = found.unlimited
    rows = [{"budget_bytes": row.budget_bytes, "share": row.budget_bytes / max(found.working_set_bytes, 1), "policies": [
        {name: getattr(o, name) for name in o.__struct_fields__} | {
            "hit_rate": o.hit_rate, "byte_hit_rate": o.byte_hit_rate,
            "seconds_share": o.seconds_saved / best.seconds_saved if best.seconds_saved else None,
            "micro_usd_share": o.micro_usd_saved / best.micro_usd_saved if best.micro_usd_saved else None}
        for o in row.outcomes]} for row in found.rows]
    return {name: getattr(found, name) for name in found.__struct_fields__ if name != "rows"} | {"budgets": rows}
