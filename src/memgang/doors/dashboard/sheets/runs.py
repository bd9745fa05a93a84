"""Runs & log: was this run better than the last, what exactly happened when, is the log intact; and the run as a file."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from memgang import sealing
from memgang.doors.dashboard.texts import command, line, moment, plain, span, told_apart
from memgang.doors.dashboard.view import View
from memgang.errors import MemGangError, StoreUnavailable
from memgang.flock.crew import crew
from memgang.flock.fold import Fold
from memgang.flock.tape import ALL, Header, Tape, encoded, length_ms, mask, under_way
from memgang.sealing import Report
from memgang.space import Space

LINES = 1_000
SPAN = "mg_log_span"  # the seconds of the log that were chosen, and of what
# What is compared: the name, where it is in the totals, whether less is better (None: neither), how many of the unit are one shown.
_COMPARED: Sequence[tuple[str, tuple[str, str], bool | None, float]] = (
    ("LLM calls made", ("physical", "llm_calls"), True, 1), ("LLM calls not made", ("avoided", "llm_calls"), None, 1),
    ("tokens in", ("physical", "tokens_in"), True, 1), ("tokens out", ("physical", "tokens_out"), True, 1),
    ("dollars", ("physical", "micro_usd"), True, 1e6), ("calls of any kind", ("physical", "calls"), True, 1),
    ("bytes of sources read", ("physical", "bytes"), True, 1), ("time in work, s", ("physical", "ms"), True, 1000),
    ("time waited, s", ("counts", "wait_us"), True, 1e6), ("reads", ("counts", "reads"), None, 1),
    ("writes of what was there", ("counts", "known_writes"), None, 1), ("failed", ("counts", "failed"), True, 1))


def compared(one: tuple[Header, Fold], other: tuple[Header, Fold]) -> list[dict[str, Any]]:
    """The table: this run, the other, and the change from the other to this one in percent."""
    mine, theirs = one[1].totals(), other[1].totals()
    table = [_change("time on the clock, s", _lasted(*one) / 1000, _lasted(*other) / 1000),
             _change("agents", len(crew(one[1])), len(crew(other[1]))), _change("objects", len(one[1].lights), len(other[1].lights))]
    return table + [_change(name, mine[part][field] / unit, theirs[part][field] / unit) for name, (part, field), _, unit in _COMPARED]


def _lasted(header: Header, fold: Fold) -> int:
    return header.ended - header.started if header.ended else fold.t


def _change(name: str, mine: float, theirs: float) -> dict[str, Any]:
    return {"": name, "this run": round(mine, 6), "the other": round(theirs, 6),
            "change": f"{(mine - theirs) / theirs:+.0%}" if theirs else ""}


def fitting(tape: Tape, agent: str, ops: Sequence[str], text: str, since_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """The records that fit all filters; ``text`` is looked for in every field."""
    wanted = text.lower().strip()
    return [rec for rec in tape.records
            if since_ms <= rec["t"] <= until_ms and (not agent or rec.get("agent") == agent) and (not ops or rec["op"] in ops)
            and (not wanted or any(wanted in str(value).lower() for value in rec.values()))]


def page(view: View) -> None:
    """Draw it."""
    _list(view)
    tape = view.tape()
    _compare(view, tape)
    _log(view, tape)
    _verify(view)
    _exports(view, tape)


def _list(view: View) -> None:
    st.subheader("Runs")
    now = _now(view)
    st.dataframe([{"run": view.url("runs", run=header.run), **listed(header, now)} for header in view.headers], hide_index=True,
                 column_config={"run": st.column_config.LinkColumn(display_text=r"run=(.+)$")})


def listed(header: Header, now: int) -> dict[str, Any]:
    """The row of a run in the list. ``now``: ms by the server's clock."""
    going = under_way(header, now)
    return {"title": line(header.title, 120), "state": header.state if header.ended or going else "no end in the log",
            "began": moment(header.started), "lasted": span(header.ended - header.started) if header.ended else "runs" if going else "",
            "model": line(header.model, 60), "simulated": header.synthetic}


def _now(view: View) -> int:
    async def clock(space: Space) -> int:
        return space.store.log.server_ms()

    try:
        return view.ask(clock)
    except StoreUnavailable:
        return int(time.time() * 1000)  # what is told by it is a day off or more


def _compare(view: View, tape: Tape) -> None:
    others = [header for header in view.headers if header.run != view.run]
    st.subheader("Compare")
    if not others:
        st.caption("There is no other run in this space to compare it with.")
        return
    names = {header.run: header for header in others}
    labels = told_apart({run: f"{line(found.title or run, 60)} · {moment(found.started)}" for run, found in names.items()})
    other = st.selectbox("This run with", list(names), key="compare_with", index=None, placeholder="choose a run",
                         format_func=lambda run: labels.get(run, run))
    if other:
        st.dataframe(compared((view.header or tape.header, view.fold()), (names[other], view.fold(other))), hide_index=True, key="compared")
        if (view.header or tape.header).model != names[other].model:
            st.caption("They asked different models: tokens and dollars are not of one kind.")


def _log(view: View, tape: Tape) -> None:
    st.subheader("Log")
    agents = sorted({rec["agent"] for rec in tape.records if rec.get("agent")})
    columns = st.columns([2, 3, 3])
    agent = columns[0].selectbox("Agent", agents, index=None, key="log_agent", placeholder="all",
                                 format_func=lambda name: line(name, 80)) or ""
    ops = columns[1].multiselect("What", sorted({rec["op"] for rec in tape.records}), key="log_ops", placeholder="all")
    text = columns[2].text_input("Text in any field", key="log_text", max_chars=200)
    since, until, end = _chosen(view, length_ms(tape))
    first, last = round(since * 1000) if since > 0 else -1 << 60, round(until * 1000) if until < end else 1 << 60
    found = fitting(tape, agent, ops, text, first, last)
    began = (view.header or tape.header).began
    st.dataframe([{
        "at": moment(began + rec["t"], "%H:%M:%S") if began else "", "s": rec["t"] / 1000, "what": rec.get("raw") or rec["op"],
        "agent": line(rec.get("agent", ""), 80), "role": line(rec.get("role", ""), 40), "object": rec.get("obj", ""),
        "call": rec.get("call", ""), "of": line(rec.get("fn", ""), 80), "ms": f"{rec['ms']:,.1f}" if "ms" in rec else "",
        "bytes": f"{rec['bytes']:,}" if "bytes" in rec else "",
        "by": line(rec.get("by", ""), 80),
        "why": line(rec.get("why", ""), 120), "text": line(rec.get("text", ""), 200), "id": rec["id"]} for rec in found[-LINES:]],
        hide_index=True, key="log")
    st.caption(f"{len(found):,} of {len(tape.records):,} events fit" + (f"; the last {LINES:,} are shown." if len(found) > LINES else "."))


def coarse(ms: int) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ... seconds: where a slider may end that is not to change with every record."""
    return next(s for s in (step * 10.0**tens for tens in itertools.count() for step in (1, 2, 5)) if s * 1000 >= ms)


def _chosen(view: View, length: int) -> tuple[float, float, float]:
    """From when to when the log is shown, and how far the slider goes, in seconds.

    A slider that ends elsewhere is another one to Streamlit, and would have forgotten what was chosen each time a run went on. So
    its end moves in steps, and what was chosen is kept beside it; an end that was not chosen moves along.
    """
    end, of = coarse(length), (view.run, view.t)
    there = end if view.t is None else min(max(view.t / 1000, 0.0), end)
    kept = st.session_state.get(SPAN)
    since, until = kept[1] if kept is not None and kept[0] == of else (0.0, None if view.t is None else there)
    chosen: tuple[float, float] = st.slider(
        "Seconds since the run began", 0.0, end, (min(since, end), end if until is None else min(until, end)), key=f"log_span_{end}_{of}")
    st.session_state[SPAN] = of, (chosen[0], chosen[1] if chosen[1] < end else None)
    return *chosen, end


def _verify(view: View) -> None:
    st.subheader("Is the log intact?")
    if not st.button("Verify", key="verify", help="Compares the log with its seals, as `memgang log --verify` does."):
        st.caption("Nothing is checked until you ask. At the command line:")
        st.code(command("memgang", "log", "--verify", "--space", view.space), language=None)
        return
    try:
        found: Report = view.ask(lambda space: sealing.report(space))
    except MemGangError as error:
        st.warning(plain(error.explain(), 600))
        return
    if not found.seals:
        st.info(f"The log has no seals: {found.unsealed:,} entries are as the server has them. `memgang log seal` begins to seal it.")
    elif found.ok():
        st.success(f"Verified: {found.seals:,} seals over {found.sealed:,} entries; {found.unsealed:,} not sealed yet.")
    else:
        st.error(f"{len(found.findings):,} findings.")
    if found.findings:
        st.dataframe([{"level": f.level, "what": f.what, "log": f.log, "shard": f.shard, "first": f.first, "last": f.last,
                       "detail": line(f.detail, 300)} for f in found.findings[:LINES]], hide_index=True)


def _exports(view: View, tape: Tape) -> None:
    """Files that open anywhere, made when they are asked for."""
    from memgang.flock.drawing import drawing
    from memgang.flock.page import page as one_page

    st.subheader("Take it with you")
    masked = st.toggle("Without names", key="export_mask", help="Agents, titles and ids are replaced; times, sizes and figures stay.")
    given, name = mask(tape) if masked else tape, "run" if masked or view.run == ALL else view.run
    moments = length_ms(given) if view.t is None else view.t
    columns = st.columns(3)
    made: list[tuple[str, str, str, Callable[[], str | bytes]]] = [
        ("Page that plays it (HTML)", "html", "text/html", lambda: one_page(given)),
        ("Tape (JSONL)", "jsonl", "application/jsonl", lambda: encoded(given)),
        ("Picture (SVG)", "svg", "image/svg+xml", lambda: drawing(given, moments))]
    for column, (label, kind, mime, make) in zip(columns, made, strict=True):
        column.download_button(label, make, f"{name}.{kind}", mime, key=f"export_{kind}", on_click="ignore")
    st.caption("At the command line, also as PNG and GIF:")
    st.code(command("memgang", "export", view.run, "--html", "run.html", "--gif", "run.gif", *["--mask"] * masked, "--space", view.space),
            language=None)
