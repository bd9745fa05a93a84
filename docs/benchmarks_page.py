"""docs/benchmarks.md and its plots, from what `make bench` has left in benchmarks/results. Nothing is measured here."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
NOTE = "<!-- Made by `make docs` from benchmarks/results/*.json and docs/benchmarks_page.py; change that instead. -->\n"
# The benchmarks beside peers, and the rows that are drawn of each.
DRAWN = {
    "objects": ("get 1 KiB text, first", "get 1 KiB text, again", "put 1 KiB text", "get 1 MiB bytes, first", "get 100 MiB array, first",
                "put 100 MiB array"),
    "memo": ("hit",),
    "stampede": ("one key: time to the last answer", "Zipf: time to the last answer"),
    "schedulers": ("nothing to do, per call", "50 ms each, 200 at once, in all"),
    "startup": ("from there to the first put and get", "from the start of the process to there", "idle memory of the client (RSS)",
                "idle memory of what it started (PSS)"),
    "proxy": ("hits a second, 16 connections", "a hit, 1 connection", "a miss, beside the provider",
              "100 at once, streamed: first piece at each", "from its start to its first answer", "idle memory (RSS)"),
    "growth": ("put", "get", "recall"),
}
TITLES = {"objects": "Objects", "memo": "Recalled calls", "stampede": "Single flight", "schedulers": "Scheduling",
          "startup": "Start-up and idle memory", "proxy": "Proxy", "growth": "Growth"}
# What the README tells of them: in its own words, and the goal that has the figures.
TOLD = (
    ("a value that another process has put, 1 KiB", "objects", "get of 1 KiB text written by another process"),
    ("the same, recorded, logged and expiring: to put it", "objects", "put of 1 KiB text"),
    ("an array of 100 MiB, to put it", "objects", "put of a 100 MiB array, how much faster"),
    ("an answer that is known, until the hit is in the log", "memo", "recall hit, again, until logged"),
    ("an agent's call: computed, stored, logged", "schedulers", "a call that is computed, stored and logged"),
    ("800 callers in 4 processes, 200 ms of work (by hand: future, SET NX, pub/sub)", "stampede", "one key: time to the last answer"),
    ("known answers over HTTP, 16 connections", "proxy", "hits a second, 16 connections"),
)
STYLE = """<style>
text{fill:#1c2433}.dim{fill:#4a566b;font-size:12px}.grid{stroke:#c9d1de;fill:none}.peer{stroke:#5b6b86;fill:#5b6b86}
.ours{stroke:#2d7a56;fill:#2d7a56}.second{stroke:#a35a1c;fill:#a35a1c}.third{stroke:#6b4fa3;fill:#6b4fa3}.curve{fill:none;stroke-width:2}
@media (prefers-color-scheme:dark){text{fill:#e8edf5}.dim{fill:#b3bfd2}.grid{stroke:#3a465c}.peer{stroke:#8fa0bd;fill:#8fa0bd}
.ours{stroke:#5cc295;fill:#5cc295}.second{stroke:#e0a060;fill:#e0a060}.third{stroke:#b39ce8;fill:#b39ce8}.curve{fill:none}}
</style>"""
LEFT, WIDTH, LINE = 200, 760, 22


def pages() -> dict[str, Callable[[], str]]:
    """The page, and a plot for each result that is there."""
    plots = {f"benchmarks-{name}.svg": lambda found=found: plot(found) for name in DRAWN if (found := result(name))}
    return {"benchmarks.md": page} | plots


def result(name: str) -> dict[str, Any] | None:
    """What `make bench` has written; None where it has not."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def page() -> str:
    """All goals first, then each benchmark with its plot, its figures and its machine."""
    found = {name: result(name) for name in DRAWN}
    out = ["# Benchmarks beside what people would use instead\n", NOTE,
           "Peers are measured in the same run, on the same work, in turn with MemGang, most of them in the same process; their servers "
           "are the same program as MemGang's. Medians decide; p90 and p99 stand beside them. Machines differ, and one machine differs "
           "between minutes, so goals are ratios within one run. What was missed is listed like what was met. Others use less and do "
           "less: only a MemGang object is recorded, expires, is logged and counted against a budget, and only its calls are taken over "
           "from a leader that dies.\n",
           "`make bench` runs everything, `make bench ONLY=name` one; peers go into an environment of their own, "
           "`build/bench-peers`. Benchmarks of MemGang alone are listed in [benchmarks/README.md](../benchmarks/README.md).\n",
           "## Goals\n", "| Measure | MemGang | Beside | Ratio | Goal | |\n|---|--:|---|--:|--:|---|"]
    for name, has in found.items():
        out.append(f"| **[{TITLES[name]}](#{TITLES[name].lower().replace(' ', '-')})** | | | | | |" if has else
                   f"| **{TITLES[name]}** | | | | | not measured yet: `make bench ONLY={name}` |")
        out += [goal_line(goal) for goal in (has["goals"] if has else ())]
    for name, has in found.items():
        out.append(f"\n## {TITLES[name]}\n")
        out.append(section(name, has) if has else f"Not measured yet: `make bench ONLY={name}`.\n")
    return "\n".join(out)


def told() -> str:
    """The table of the README: each figure beside every peer it was measured with, those that lose too."""
    found = {name: result(name) for name in DRAWN}
    goals = [goal for has in found.values() if has for goal in has["goals"] if goal["met"] is not None]
    out = ["| | MemGang | beside |", "|---|--:|---|"]
    for words, name, what in TOLD:
        has = found[name]
        own = [goal for goal in (has["goals"] if has else ()) if goal["what"] == what and goal["peer"]]
        if own:
            beside = ", ".join(f"{goal['peer']} {shown(goal['theirs'], goal['unit'])}" for goal in own)
            out.append(f"| {words} | {shown(own[0]['ours'], own[0]['unit'])} | {beside} |")
    missed = sum(not goal["met"] for goal in goals)
    return "\n".join([*out, "", f"Of {len(goals)} goals {missed} are missed; all of them, with machine, versions, spread and plots: "
                      "[docs/benchmarks.md](docs/benchmarks.md)."])


def goal_line(goal: dict[str, Any]) -> str:
    """One row of the table of goals."""
    sign, limit = goal["goal"].split()
    words = {"<=": "at most", ">=": "at least", "==": "exactly"}[sign]
    ours, theirs = (shown(goal[k], goal["unit"]) for k in ("ours", "theirs"))
    times = f"{goal['figure']:.3g} x" if goal["peer"] and goal["figure"] is not None else ""
    aim = f"{words} {limit} x" if goal["peer"] else f"{words} {shown(float(limit), goal['unit'])}"
    beside = f"{goal['peer']} {theirs}".strip()
    met = {True: "met", False: "**missed**", None: "not measured"}[goal["met"]]
    return f"| {goal['what']} | {ours} | {beside} | {times} | {aim} | {met} |"


def section(name: str, found: dict[str, Any]) -> str:
    """One benchmark."""
    on = found["machine"]
    out = [f"{found['question']}\n"]
    if found["quick"]:
        out.append("**A quick run with small sizes: no evidence.**\n")
    out.append(f"![{html.escape(found['question'])}](benchmarks-{name}.svg)\n")
    out.append(f"`{found['command']}` · {on['day']} · {on['cpus']} x {on['cpu']} ({on['arch']}), {on['ram_gib']} GiB, {on['system']}, "
               f"Python {on['python']}, {on['server']} · " + ", ".join(f"{p} {v}" for p, v in found["versions"].items())
               + f" · rounds: {found['rounds']}\n")
    out += [f"Left out: {peer}: {why}\n" for peer, why in found["left_out"].items()]
    out += [f"{note}\n" for note in found["notes"]]
    out.append("<details><summary>All figures</summary>\n")
    out.append("| | | p50 | p90 | p99 | n |\n|---|---|--:|--:|--:|--:|")
    out += [f"| {row['what']} | {row['who']} | " + " | ".join(shown(row[p], row["unit"]) for p in ("p50", "p90", "p99"))
            + f" | {row['n']:,} |" for row in sorted(found["rows"], key=lambda row: order(found, row))]
    return "\n".join([*out, "\n</details>\n"])


def order(found: dict[str, Any], row: dict[str, Any]) -> tuple[int, bool, float]:
    """Rows of one measure together, in the order in which they came up; ours first, then by what they took."""
    whats = [other["what"] for other in found["rows"]]
    return whats.index(row["what"]), not row["who"].startswith("MemGang"), row["p50"]


def shown(value: float | None, unit: str) -> str:
    """With its unit, in three digits."""
    if value is None:
        return ""
    for name, factor in (("s", 1e6), ("ms", 1e3), ("us", 1.0)):
        if unit == name:
            us = value * factor
            scaled, word = (us / 1e6, "s") if us >= 1e6 else (us / 1e3, "ms") if us >= 1e3 else (us, "µs")
            return f"{three(scaled)} {word}"
    return f"{three(value)} {unit}"


def three(value: float) -> str:
    """Three digits, never as a power."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 or not value else f"{value:.4f}"


def plot(found: dict[str, Any]) -> str:
    """The drawn rows of one benchmark."""
    if found["benchmark"] == "growth":
        return curves(found)
    panels = [(what, [r for r in found["rows"] if r["what"] == what]) for what in DRAWN[found["benchmark"]]]
    return dots(found["question"], [(what, sorted(rows, key=lambda r: r["p50"])) for what, rows in panels if rows])


def dots(title: str, panels: list[tuple[str, list[dict[str, Any]]]]) -> str:
    """A panel for each row, on a logarithmic scale: a dot at p50, a line to p99."""
    out, y = [], 10
    for what, rows in panels:
        low = math.floor(math.log10(max(1e-6, min(r["p50"] for r in rows))))
        high = max(low + 1, math.ceil(math.log10(max(r["p99"] for r in rows))))

        def x(value: float, low: int = low, high: int = high) -> float:
            return LEFT + (WIDTH - LEFT - 90) * (math.log10(max(value, 10**low)) - low) / (high - low)

        bottom = y + 26 + LINE * len(rows)
        out.append(f'<text x="10" y="{y + 16}" font-weight="600">{html.escape(what)}</text>')
        for power in range(low, high + 1):
            out.append(f'<path class="grid" d="M{x(10**power):.1f} {y + 26}V{bottom}"/><text class="dim" text-anchor="middle" '
                       f'x="{x(10**power):.1f}" y="{bottom + 14}">{shown(10**power, rows[0]["unit"])}</text>')
        for n, row in enumerate(rows):
            at, kind = y + 26 + LINE * n + LINE // 2, "ours" if row["who"].startswith("MemGang") else "peer"
            out.append(f'<text x="{LEFT - 12}" y="{at + 5}" text-anchor="end">{html.escape(row["who"])}</text>'
                       f'<path class="{kind}" stroke-width="2" d="M{x(row["p50"]):.1f} {at}H{x(row["p99"]):.1f}"/>'
                       f'<circle class="{kind}" cx="{x(row["p50"]):.1f}" cy="{at}" r="5"/>'
                       f'<text class="dim" x="{x(row["p99"]) + 9:.1f}" y="{at + 4}">{shown(row["p50"], row["unit"])}</text>')
        y = bottom + 28
    return drawing(title, "Dots are medians, lines reach to the 99th percentile; the scale is logarithmic.", y, out)


def curves(found: dict[str, Any]) -> str:
    """Medians against the number of objects, both scales logarithmic."""
    sizes = found["settings"]["sizes"]
    medians = {(r["what"], r["who"]): r["p50"] for r in found["rows"]}
    series = {what: [medians[f"{what} among {size:,}", "MemGang"] for size in sizes] for what in DRAWN["growth"]}
    every = [value for values in series.values() for value in values]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    top, bottom, out = 30, 290, list[str]()

    def place(n: int, value: float) -> tuple[float, float]:
        return 90 + 560 * n / max(1, len(sizes) - 1), bottom - (bottom - top) * (math.log10(value) - low) / max(1, high - low)

    for power in range(low, high + 1):
        y = place(0, 10**power)[1]
        out.append(f'<path class="grid" d="M90 {y:.1f}H650"/><text class="dim" x="80" y="{y + 4:.1f}" text-anchor="end">'
                   f'{shown(10**power, "us")}</text>')
    for n, size in enumerate(sizes):
        out.append(f'<text class="dim" text-anchor="middle" x="{place(n, 10**low)[0]:.1f}" y="{bottom + 20}">{size:,}</text>')
    for kind, (what, values) in zip(("ours", "second", "third"), series.items(), strict=True):
        points = [place(n, value) for n, value in enumerate(values)]
        out.append(f'<path class="{kind} curve" fill="none" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>')
        out += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]
        out.append(f'<text x="{points[-1][0] + 12:.1f}" y="{points[-1][1] + 5:.1f}">{what} {shown(values[-1], "us")}</text>')
    return drawing(found["question"], "Medians of put, get and recall against the number of objects in the space.", bottom + 40, out)


def drawing(title: str, about: str, height: int, marks: list[str]) -> str:
    """The frame of a plot, readable on light and dark."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d" '
            f'font-family="system-ui,sans-serif" font-size="14">\n<title id="t">{html.escape(title)}</title>\n'
            f'<desc id="d">{about}</desc>\n{STYLE}\n' + "\n".join(marks) + "\n</svg>")
