"""Timeline: who did what when, which chain of memory the run had to wait for, and where nobody did anything."""

from __future__ import annotations

from typing import Any

import altair as alt
import streamlit as st

from memgang.doors.dashboard.sheets.charts import STATES, chart_of, palette
from memgang.doors.dashboard.sheets.charts import states as state_colours
from memgang.doors.dashboard.sheets.shown import records
from memgang.doors.dashboard.texts import line, plain, span
from memgang.doors.dashboard.view import View
from memgang.flock.descent import Step, critical_path
from memgang.flock.fold import Fold
from memgang.flock.spans import Span, spans

ROWS = 100  # agents that fit
BARS = 5_000  # spans a browser draws without stutter; above, the shortest are left out, and that is said
IDLE_MS = 250  # a time in which nobody does anything for longer is squeezed to this


def squeezed(found: list[Span]) -> tuple[list[Span], int]:
    """The spans without the times in which nobody did anything, and how many ms were taken out."""
    out: list[Span] = []
    until = taken = 0
    for one in sorted(found, key=lambda one: one.start):
        if one.start - until > IDLE_MS:
            taken += one.start - until - IDLE_MS
        until = max(until, one.end)
        out.append(one._replace(start=one.start - taken, end=one.end - taken))
    return out, taken


def picked(found: list[Span], states: list[str], agents: int = ROWS, most: int = BARS) -> tuple[list[Span], int, int]:
    """The spans to draw: of these states, of the agents with the most of them, the longest. And how many agents and spans are left out."""
    wanted = [one for one in found if one.state in states]
    times: dict[str, int] = {}
    for one in wanted:
        times[one.agent] = times.get(one.agent, 0) + one.end - one.start
    shown = set(sorted(times, key=lambda name: (-times[name], name))[:agents])
    theirs = [one for one in wanted if one.agent in shown]
    longest = sorted(theirs, key=lambda one: one.start - one.end)[:most]
    return sorted(longest, key=lambda one: one.start), len(times) - len(shown), len(theirs) - len(longest)


def path_rows(path: list[Step], view: View) -> list[dict[str, Any]]:
    """The critical path as a table."""
    return [{"object": view.url("memory", kind="object", id=step.light.id), "kind": line(step.light.kind, 40),
             "by": line(step.light.by, 80), "written at, s": step.light.born / 1000, "after its last parent, s": step.after_ms / 1000}
            for step in path]


def page(view: View) -> None:
    """Draw it."""
    found = spans(records(view))
    fold = view.fold(t=view.t)
    if not found:
        st.info("Nothing had happened in this run by then." if view.t is not None else "Nothing has happened in this run yet.")
        return
    left, middle, right = st.columns([3, 1, 1], vertical_alignment="bottom")
    states = left.pills("Show", STATES, selection_mode="multi", default=["think", "work", "wait", "reuse", "error"], key="timeline_states")
    squeeze = middle.toggle("Squeeze idle gaps", key="timeline_squeeze")
    failed = right.toggle("Failed only", key="timeline_failed")
    shown, agents, bars = picked(found, ["error"] if failed else list(states or STATES))
    taken = 0
    if squeeze:
        shown, taken = squeezed(shown)
    if shown:
        _chart(shown, fold, squeeze)
    else:
        st.info("Nothing of that kind." if not failed else "Nothing failed.")
    notes = [f"{agents:,} agents with less to do are not shown" if agents else "", f"{bars:,} shorter spans are not shown" if bars else "",
             f"{span(taken)} in which nobody did anything were taken out" if taken else ""]
    if any(notes):
        st.caption("; ".join(filter(None, notes)) + ".")
    _path(view, fold)


def _chart(shown: list[Span], fold: Fold, squeeze: bool) -> None:
    values = [{"agent": line(one.agent, 60), "state": one.state, "from": one.start / 1000, "to": one.end / 1000, "role": line(one.role, 40),
               "object": one.obj, "call of": line(one.fn, 80), "waits for": line(one.by, 60)} for one in shown]
    paint = palette()
    rows = len({value["agent"] for value in values})
    bars = chart_of(values).mark_bar().encode(
        x=alt.X("from:Q", title="s since the run began" + (", without idle gaps" if squeeze else "")), x2="to:Q",
        y=alt.Y("agent:N", title=None, sort=alt.EncodingSortField("from", op="min"), axis=alt.Axis(labelOverlap=False)),
        color=alt.Color("state:N", scale=state_colours(paint)),
        tooltip=["agent:N", "role:N", "state:N", "from:Q", "to:Q", "object:N", "call of:N", "waits for:N"])
    layers = [bars]
    if not squeeze:
        phases = [{"phase": line(name, 40), "from": max(0, began) / 1000} for name, began, _ in fold.phases]
        layers.append(chart_of(phases).mark_rule(strokeDash=[3, 3], color=paint["mut"]).encode(x="from:Q", tooltip=["phase:N"]))
    st.altair_chart(alt.layer(*layers).properties(height=max(160, 13 * rows)).interactive(bind_y=False), key="stream")
    began = " · ".join(f"{plain(name, 40)} from {max(0, at) / 1000:.1f} s" for name, at, _ in fold.phases)
    st.caption(f"Phases, dashed: {began}. Drag to move, scroll to zoom, double-click for the whole.")


def _path(view: View, fold: Fold) -> None:
    """Why it took this long."""
    path = critical_path(fold)
    if not path:
        return
    st.subheader("Critical path")
    longest = max(path, key=lambda step: step.after_ms)
    st.caption(f"The chain of memory that the last answer had to wait for: {len(path)} objects. "
               f"Longest: {span(longest.after_ms)} until this {plain(longest.light.kind or 'object', 40)} was written. "
               "More agents help only where a step of it is work that could be divided.")
    st.dataframe(path_rows(path, view), hide_index=True, key="path", column_config={
        "object": st.column_config.LinkColumn(display_text=r"sel=object%3A(.+)$"),
        "after its last parent, s": st.column_config.ProgressColumn(
            format="%.2f", min_value=0.0, max_value=max(0.001, longest.after_ms / 1000))})
