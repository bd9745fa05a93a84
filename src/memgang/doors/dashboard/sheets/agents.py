"""Agents: who is at what, who is slow or only waits, whose memory the others use, and whether the work is balanced."""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from typing import Any

import altair as alt
import streamlit as st

from memgang.doors.dashboard.sheets.charts import chart_of, palette, states
from memgang.doors.dashboard.sheets.shown import records
from memgang.doors.dashboard.texts import line, plain, span
from memgang.doors.dashboard.view import View
from memgang.flock.crew import crew
from memgang.flock.fold import Agent, Fold
from memgang.flock.spans import LLM_CALLS, MICRO_USD, TOKENS_IN, TOKENS_OUT, Span, busy, spans

BARS = 40  # agents in the chart: those with the most to do
OBJECTS = 50
CHOSEN = "mg_sel"  # what is chosen, as the frame keeps it and writes it into the address


def ordered(fold: Fold) -> list[tuple[Agent, int]]:
    """The agents of the table, and how often the others used their memory; those with the most reused memory first."""
    used: Counter[str] = Counter()
    for light in fold.lights.values():
        used[light.by] += light.reuses
    return sorted(((agent, used[agent.name]) for agent in crew(fold)), key=lambda one: (-one[1], one[0].name))


def rows(fold: Fold) -> list[dict[str, Any]]:
    """The table: one row for each of them."""
    return [_row(agent, used) for agent, used in ordered(fold)]


def _row(agent: Agent, used: int) -> dict[str, Any]:
    spent, saved = agent.spent.figures, agent.saved.figures
    return {
        "agent": line(agent.name, 120), "role": line(agent.role, 40), "state": agent.state, "others used its memory": used,
        "at": f"mg:{agent.obj}" if agent.obj else "",
        "waits for": line(agent.by, 80) if agent.state == "wait" else "", "calls made": agent.asked, "calls not made": saved[LLM_CALLS],
        "tokens": spent[TOKENS_IN] + spent[TOKENS_OUT], "tokens not spent": saved[TOKENS_IN] + saved[TOKENS_OUT],
        "dollars": spent[MICRO_USD] / 1e6, "waited, s": round(agent.wait_ms / 1000, 2), "reads": agent.reads, "writes": agent.writes,
        "errors": agent.errors,
    }


def page(view: View) -> None:
    """Draw it."""
    fold = view.fold(t=view.t)
    table = rows(fold)
    if not table:
        st.info("No agent has joined this run yet.")
        return
    _headline(fold, table)
    most = max(1, max(row["others used its memory"] for row in table))
    paint = palette()
    names = [agent.name for agent, _ in ordered(fold)]
    # A selection is the number of a row: a table in another order is another table, in which no row is chosen.
    key = f"agents-{zlib.crc32(repr(names).encode()):08x}"
    st.dataframe(
        table, hide_index=True, key=key, on_select=functools.partial(_picked, key, names), selection_mode="single-row",
        column_config={"dollars": st.column_config.NumberColumn(format="$%.4f"),
                       "others used its memory": st.column_config.ProgressColumn(
                           format="%d", min_value=0, max_value=most, color=paint["gold"])})
    found = spans(records(view))
    name = view.selected[1] if view.selected and view.selected[0] == "agent" else ""
    if name in fold.agents:
        _one(view, fold, fold.agents[name], found)
    _balance(found)


def _picked(key: str, names: list[str]) -> None:
    """A row was chosen, or left again. The name is kept, not the row: in a run that goes on, rows change their places."""
    chosen = st.session_state[key].selection.rows
    st.session_state[CHOSEN] = ("agent", names[chosen[0]]) if chosen else None


def _headline(fold: Fold, table: list[dict[str, Any]]) -> None:
    states = Counter(row["state"] for row in table)
    waits = max(table, key=lambda row: row["waited, s"])
    useful = table[0]
    columns = st.columns(4)
    columns[0].metric("Agents", f"{len(table):,}", help="Those with a role, if any has one: who holds the run together is not counted.")
    columns[1].metric("At work now", f"{sum(states[s] for s in ('think', 'work', 'read', 'write', 'reuse')):,}",
                      help=f"{states['wait']:,} wait, {states['idle']:,} are idle")
    columns[2].metric("Waited longest", f"{waits['waited, s']:.1f} s", help=plain(waits["agent"]))
    columns[3].metric("Errors", f"{sum(row['errors'] for row in table):,}")
    if useful["others used its memory"]:
        st.caption(f"Most useful to the others: **{plain(useful['agent'])}**, whose memory was used "
                   f"{useful['others used its memory']:,} times.")
    if waiting := [(f.agent, f.waiting) for f in fold.flights.values() if f.waiting]:
        st.caption("Now waiting: " + "; ".join(f"{_few(others)} for **{plain(leader, 40)}**" for leader, others in waiting[:5]))


def _few(names: list[str]) -> str:
    told = ", ".join(plain(name, 40) for name in names[:3])
    return f"{told} and {len(names) - 3} more" if len(names) > 3 else told


def _one(view: View, fold: Fold, agent: Agent, found: list[Span]) -> None:
    st.subheader(plain(agent.name, 80))
    mine = [one for one in found if one.agent == agent.name]
    times = busy(mine).get(agent.name, {})
    at_work = ", ".join(f"{name} {span(ms)}" for name, ms in times.items() if ms)
    st.caption(" · ".join(filter(None, (plain(agent.role), at_work))))
    chart = chart_of([_bar(one) for one in mine]).mark_bar(height=16).encode(
        x=alt.X("from:Q", title="s since the run began"), x2="to:Q",
        color=alt.Color("state:N", scale=states(palette())),
        tooltip=["state:N", "from:Q", "to:Q", "object:N", "call of:N"])
    st.altair_chart(chart.properties(height=70), key="lane")
    written = [light for light in fold.lights.values() if light.by == agent.name]
    read = Counter(one.obj for one in mine if one.state in ("read", "reuse") and one.obj)
    left, right = st.columns(2)
    with left:
        st.markdown(f"**Wrote** {len(written):,}")
        st.dataframe([{"object": view.url("memory", kind="object", id=o.id), "kind": line(o.kind, 40), "reused": o.reuses, "reads": o.reads}
                      for o in sorted(written, key=lambda o: -o.reuses)[:OBJECTS]], hide_index=True, column_config=_LINK)
    with right:
        st.markdown(f"**Read** {len(read):,}")
        st.dataframe([{"object": view.url("memory", kind="object", id=ident), "times": often}
                      for ident, often in read.most_common(OBJECTS)], hide_index=True, column_config=_LINK)


_LINK = {"object": st.column_config.LinkColumn(display_text=r"sel=object%3A(.+)$")}


def _bar(one: Span) -> dict[str, Any]:
    return {"from": one.start / 1000, "to": one.end / 1000, "state": one.state, "object": one.obj, "call of": line(one.fn, 80)}


def _balance(found: list[Span]) -> None:
    times = busy(found)
    most = sorted(times, key=lambda name: -sum(times[name].values()))[:BARS]
    if not most:
        return
    st.subheader("Balance")
    values = [{"agent": line(name, 60), "state": state, "seconds": ms / 1000} for name in most for state, ms in times[name].items()]
    st.altair_chart(chart_of(values).mark_bar().encode(
        x=alt.X("seconds:Q", title="seconds"), y=alt.Y("agent:N", sort="-x", title=None),
        color=alt.Color("state:N", scale=states(palette())),
        tooltip=["agent:N", "state:N", "seconds:Q"]), key="balance")
    if len(times) > BARS:
        st.caption(f"The {BARS} agents with the most to do, of {len(times):,}.")
