"""A comparison as Markdown, as JSON, and as an HTML page with plots that opens offline. Pure."""

from __future__ import annotations

import html
from typing import Any

from memgang.flock.bundle import bundle, source
from memgang.flock.page import POLICY, packed
from memgang.jobs.compare import Comparison, Side
from memgang.model import NO_USAGE, Usage

_CAUSES = {"hit": "hit", "joined": "joined in flight", "read": "read not repeated", "reference": "reference instead of data",
           "prefix": "provider's prompt cache"}


def rows(c: Comparison) -> list[tuple[str, str, str, str, str]]:
    """The table: what, isolated, shared, lower bound, change."""
    a, b = c.isolated, c.shared
    mark = "~" if a.usage.estimated or b.usage.estimated else ""

    def line(what: str, x: float, y: float, bound: str, show: str, less: bool = True) -> tuple[str, str, str, str, str]:
        change = f"{(y - x) / x:+.0%}" if x and less else ""
        return what, format(x, show), format(y, show), bound, change

    u = c.unique
    return [
        line("calls computed, of any kind", a.usage.calls, b.usage.calls, "", ",d"),
        line("model calls", a.usage.llm_calls, b.usage.llm_calls, f"{u.llm_calls:,d}", ",d"),
        line(f"{mark}tokens in", a.usage.tokens_in, b.usage.tokens_in, f"{u.tokens_in:,d}", ",d"),
        line(f"{mark}tokens out", a.usage.tokens_out, b.usage.tokens_out, f"{u.tokens_out:,d}", ",d"),
        line(f"{mark}dollars", a.usage.usd, b.usage.usd, "", ".4f"),
        line("bytes of sources read", a.usage.bytes, b.usage.bytes, "", ",d"),
        line("seconds of work", a.usage.ms / 1000, b.usage.ms / 1000, "", ".1f"),
        line("wall time, s", a.wall_s, b.wall_s, "", ".2f"),
        ("parallel efficiency", f"{c.efficiency(a):.0%}", f"{c.efficiency(b):.0%}", "", ""),
        ("calls reused", f"{a.reuse:.0%}", f"{b.reuse:.0%}", "", ""),
        line("overhead: time with a round trip under way, s", a.overhead_s, b.overhead_s, "", ".2f", less=False),
    ]


def markdown(c: Comparison) -> str:
    """The comparison for a terminal or a file."""
    out = [
        "# Isolated against shared", "",
        f"{len(c.questions)} questions over {', '.join(c.sources)}; model `{c.model}`, {c.agents} agents in each team, both ways.",
    ]
    if c.simulated:
        out.append("The model is simulated: its latency, tokens and prices are made up, the calls and their sharing are real.")
    out += ["", "| | isolated | shared | lower bound | change |", "|---|---:|---:|---:|---:|"]
    out += ["| " + " | ".join(row) + " |" for row in rows(c)]
    out += ["", f"Speed-up {c.speedup:.2f}. All figures are from the ledgers of the two runs; the lower bound is every distinct "
            "prompt once, counted at the model.", "",
            "Avoided by sharing: " + (", ".join(
                f"{_CAUSES.get(why, why)} {u.calls:,d} calls / {u.tokens:,d} tokens" if u.calls else
                f"{_CAUSES.get(why, why)} {u.bytes:,d} bytes"
                for why, u in sorted(c.shared.avoided.items()) if u != NO_USAGE) or "nothing") + ".", "",
            f"- the shared side did exactly the unique work, to the call and to the token: {_yes(c.at_lower_bound())}",
            f"- the ledger adds up (physical + avoided = virtual; avoided = isolated - shared): {_yes(c.adds_up())}", ""]
    return "\n".join(out)


def as_dict(c: Comparison) -> dict[str, Any]:
    """The comparison for programs."""
    def side(s: Side) -> dict[str, Any]:
        return {"physical": usage(s.usage), "avoided": {k: usage(v) for k, v in s.avoided.items()}, "virtual": usage(s.virtual),
                "lost": usage(s.lost), "wall_s": s.wall_s, "overhead_s": s.overhead_s, "asked_of_model": usage(s.asked),
                "reuse_rate": s.reuse, "parallel_efficiency": c.efficiency(s), "teams": s.teams}

    def usage(u: Usage) -> dict[str, Any]:
        return {"calls": u.calls, "llm_calls": u.llm_calls, "tokens_in": u.tokens_in, "tokens_out": u.tokens_out,
                "tokens_cached": u.tokens_cached, "usd": u.usd, "seconds": u.ms / 1000, "bytes": u.bytes, "estimated": u.estimated}

    return {"sources": list(c.sources), "questions": list(c.questions), "model": c.model, "simulated": c.simulated,
            "agents": c.agents, "isolated": side(c.isolated), "shared": side(c.shared), "lower_bound": usage(c.unique),
            "speedup": c.speedup, "at_lower_bound": c.at_lower_bound(), "adds_up": c.adds_up()}


def page(c: Comparison) -> str:
    """One HTML file that asks nobody for anything, light and dark: what both sides did, playing side by side, and what it came to."""
    e = html.escape
    table = "".join("<tr><th scope=row>" + e(r[0]) + "</th>" + "".join(f"<td>{e(x)}</td>" for x in r[1:]) + "</tr>" for r in rows(c))
    plots = "".join(_bars(*p) for p in (
        ("Model calls", c.isolated.usage.llm_calls, c.shared.usage.llm_calls, c.unique.llm_calls, ",.0f"),
        ("Tokens", c.isolated.usage.tokens, c.shared.usage.tokens, c.unique.tokens, ",.0f"),
        ("Dollars", c.isolated.usage.usd, c.shared.usage.usd, None, ".4f"),
        ("Wall time, s", c.isolated.wall_s, c.shared.wall_s, None, ".2f"),
    ))
    asked = "".join(f"<li>{e(q)}</li>" for q in c.questions)
    told = "<p class=note>The model is simulated: latency, tokens and prices are made up; calls and sharing are real.</p>" if c.simulated else ""
    return f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>MemGang: isolated against shared</title><style>{source("flock.css")}{_CSS}</style>
<main><h1>Isolated against shared</h1>
<p>{len(c.questions)} questions over {e(", ".join(c.sources))}; model <code>{e(c.model)}</code>, {c.agents} agents in each team, both ways.</p>{told}
{_flocks(c)}
<div class=plots>{plots}</div>
<table><thead><tr><th></th><th>isolated</th><th>shared</th><th>lower bound</th><th>change</th></tr></thead><tbody>{table}</tbody></table>
<p>Shared did exactly the unique work: <b>{_yes(c.at_lower_bound())}</b>. The ledger adds up: <b>{_yes(c.adds_up())}</b>. Speed-up <b>{c.speedup:.2f}</b>.</p>
<details><summary>Questions</summary><ol>{asked}</ol></details>
<p class=note>Figures are from the ledgers of the two runs; the lower bound is every distinct prompt once, counted at the model.</p>
</main></html>
"""


def _flocks(c: Comparison) -> str:
    """Both sides as they went, the isolated one above: the same work, and gold (a call not made) where memory is shared."""
    tapes = [(name, side, side.tape) for name, side in (("isolated", c.isolated), ("shared", c.shared)) if side.tape is not None]
    shown = "".join(f'<figure><figcaption>{name}: {side.usage.llm_calls:,d} model calls made, {side.virtual.llm_calls - side.usage.llm_calls:,d} not made'
                    f'</figcaption><div class=flock data-tape="{name}"></div></figure>' for name, side, _ in tapes)
    if not shown:
        return ""
    return (f"<div class=flocks>{shown}</div><p><button id=again>Play both again</button></p>"
            + "".join(packed(tape, name) for name, _, tape in tapes) + f'<script type="module">{bundle("page.js")}</script>')


def _bars(title: str, alone: float, shared: float, bound: float | None, show: str) -> str:
    """One small bar chart as SVG: isolated, shared, and the lower bound as a line."""
    most = max(alone, shared, bound or 0) or 1
    out = [f'<svg viewBox="0 0 300 112" role=img aria-label="{html.escape(title)}"><text class=title x=0 y=16>{html.escape(title)}</text>']
    for y, name, value in ((30, "isolated", alone), (66, "shared", shared)):
        width = 200 * value / most
        out.append(f'<rect class={name} x=0 y={y} width="{max(width, 1):.1f}" height=26 rx=3></rect>'
                   f'<text x="{max(width, 1) + 6:.1f}" y={y + 18}>{format(value, show)}</text>')
    if bound:
        x = 200 * bound / most
        out.append(f'<line class=bound x1="{x:.1f}" x2="{x:.1f}" y1=26 y2=98></line><text class=small x=0 y=109>line: lower bound {format(bound, show)}</text>')
    else:
        out.append("<text class=small x=0 y=109>above: isolated, below: shared</text>")
    return "".join(out) + "</svg>"


def _yes(so: bool) -> str:
    return "yes" if so else "no"


_CSS = """
:root{color-scheme:light dark;--ink:#1c2430;--paper:#fbfaf7;--faint:#667085;--line:#d8d5cc;--alone:#c9703a;--shared:#2f7f73}
@media(prefers-color-scheme:dark){:root{--ink:#e6e3da;--paper:#14181d;--faint:#98a2b3;--line:#343a42;--alone:#e09060;--shared:#5cb8a9}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}main{max-width:76rem;margin:auto;padding:2rem 1rem}
.flocks{display:grid;gap:1rem;margin:1.5rem 0}.flocks figure{margin:0}.flocks figcaption{font-weight:600;padding:.2rem 0}
.flock{height:33rem}#again{font:inherit;padding:.3rem .9rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1.5rem;margin:1.5rem 0}svg text{fill:var(--ink);font:13px system-ui,sans-serif}
svg .title{font-weight:600;font-size:14px}svg .small{fill:var(--faint);font-size:11px}.isolated{fill:var(--alone)}.shared{fill:var(--shared)}
.bound{stroke:var(--ink);stroke-width:2;stroke-dasharray:4 3}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.35rem .6rem;border-bottom:1px solid var(--line)}th[scope=row],thead th:first-child{text-align:left;font-weight:400}
.note{color:var(--faint)}code{font-size:.9em}
"""
