"""The long run: ``python -m tests.chaos.soak --rounds 200 --workers 8 --calls 40 --seed 1 --report build/soak.md``.

Campaigns of 25 rounds, each with a seed and a server of its own, take turns: Valkey and Redis where both are there,
on one host (where death can be proved) and as if on eight; every fourth server keeps nothing on disk. Ends with 1
when one promise was broken. A campaign alone is run again with ``--rounds 25 --seed`` and the seed it printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.havoc import LEASE_S, Outcome, campaign
from tests.chaos.servers import programs

A_CAMPAIGN = 25


def quantile(values: list[float], q: float) -> float:
    """The q-quantile by rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else 0.0


async def soak(rounds: int, workers: int, calls: int, seed: int, folder: Path) -> list[Outcome]:
    """All campaigns, one after another."""
    out = []
    found = list(programs().values())
    for number, begin in enumerate(range(0, rounds, A_CAMPAIGN)):
        # What a campaign is, follows from its seed alone, so that it can be run again by itself.
        own = seed + number
        place = folder / f"campaign-{own}"
        outcome = await campaign(
            place, own, rounds=min(A_CAMPAIGN, rounds - begin), workers=workers, calls=calls, program=found[own % len(found)],
            persistent=own % 4 != 3, hosts=8 if own // 2 % 2 else 1)
        out.append(outcome)
        print(f"seed {own}: {line(outcome)}", flush=True)
        for breach in outcome.breaches[:20]:
            print(f"  {breach}", flush=True)
        if outcome.breaches:
            print(f"  histories kept in {place}", flush=True)
        else:
            shutil.rmtree(place, ignore_errors=True)
    return out


def line(o: Outcome) -> str:
    """One campaign in one line."""
    c = o.counts
    return (f"{o.program}{'' if o.persistent else ' without persistence'}, {f'as {o.hosts} hosts' if o.hosts > 1 else 'one host'}, "
            f"{c['rounds']} rounds in {o.seconds:.0f} s: {c['kills']} kills, {c['stops'] + c['stops past the lease']} stops "
            f"({c['stops past the lease']} past the lease), {c['server kills']} server kills, {c['executions']:,} executions, "
            f"{c['taken over']} taken over, {c['fenced']} fenced, {c['answers read']:,} answers read; {o.wrong} wrong values, "
            f"{o.hung} hung, {len(o.breaches)} breaches")


def report(outcomes: list[Outcome], arguments: dict[str, object], seconds: float) -> str:
    """The Markdown report."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.counts)
    lines = ["# Soak of the fault harness", "",
             f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {seconds:.0f} s, Python {platform.python_version()}, "
             f"lease {LEASE_S} s; " + ", ".join(f"{k} {v}" for k, v in arguments.items() if k != "report"), "",
             "| Must be 0 | |", "|---|---|",
             f"| wrong values | {sum(o.wrong for o in outcomes)} |", f"| hung callers | {sum(o.hung for o in outcomes)} |",
             f"| breaches of I1-I7, I9-I12 in all | {sum(len(o.breaches) for o in outcomes)} |", "", "| Count | |", "|---|---|"]
    lines += [f"| {name} | {total[name]:,} |" for name in sorted(total)]
    lines += ["", "| Takeover after kill -9 of a leader that somebody waited for | n | p50 s | p99 s | max s | to hold |",
              "|---|---|---|---|---|---|"]
    for label, hosts in (("one host: death is proved", 1), ("as if on other hosts: the lease passes", 8)):
        times = [t for o in outcomes if (o.hosts > 1) == (hosts > 1) for t in o.takeover_s]
        if times:
            lines.append(f"| {label} | {len(times)} | {statistics.median(times):.3f} | {quantile(times, 0.99):.3f} | {max(times):.3f} "
                         f"| p99 <= {LEASE_S + 0.5} |")
    lines += ["", "| Seed | Campaign |", "|---|---|", *(f"| {o.seed} | {line(o)} |" for o in outcomes), ""]
    for outcome in outcomes:
        lines += [f"- seed {outcome.seed}: {breach}" for breach in outcome.breaches]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Rounds of kill, stop and server restart; the history is checked.")
    for name, default in (("rounds", 200), ("workers", 8), ("calls", 40)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--seed", type=int, default=0, help="default: made from the time, and printed")
    parser.add_argument("--report", type=Path, help="where to write the report (Markdown, and JSON beside it)")
    given = parser.parse_args()
    given.seed = given.seed or int(time.time())
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="memgang-soak-"))
    outcomes = asyncio.run(soak(given.rounds, given.workers, given.calls, given.seed, folder))
    seconds = time.monotonic() - began
    text = report(outcomes, dict(vars(given)), seconds)
    print(text)
    bad = any(o.breaches for o in outcomes)
    if not bad:
        shutil.rmtree(folder, ignore_errors=True)
    if given.report:
        given.report.parent.mkdir(parents=True, exist_ok=True)
        given.report.write_text(text)
        given.report.with_suffix(".json").write_text(json.dumps([
            {"seed": o.seed, "program": o.program, "persistent": o.persistent, "hosts": o.hosts, "seconds": o.seconds,
             "counts": dict(o.counts), "takeover_s": o.takeover_s, "breaches": [str(b) for b in o.breaches]} for o in outcomes], indent=1))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
