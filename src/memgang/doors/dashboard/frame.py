"""The frame: which run, which page, and what is said when there is nothing to show or no server to ask.

A link says it all: /PAGE?run=RUN&t=MS&sel=agent:NAME (or object:ID). What a person chooses goes into the address.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from memgang.doors.dashboard.live import ALL_MAX
from memgang.doors.dashboard.sheets import flock
from memgang.doors.dashboard.texts import line, moment, plain, span, told_apart
from memgang.doors.dashboard.view import View, selection
from memgang.doors.dashboard.watching import RUNS_MAX, Watching, current
from memgang.errors import MemGangError, StoreUnavailable
from memgang.flock.tape import ALL, Header

LOOK_S = 2.0  # how often the list of runs, and whether the server answers, is looked at
PAGES = (("agents", "Agents"), ("memory", "Memory"), ("savings", "Savings"), ("timeline", "Timeline"), ("runs", "Runs & log"))

ICON = Path(__file__).with_name("bird.svg")  # a name of an icon would be asked of another host

# Streamlit leaves a hand's breadth above each page; the flock needs the room.
STYLE = "<style>.stMainBlockContainer{padding:3.6rem 2rem 1rem}</style>"

Draw = Callable[[View], None]


def draw() -> None:
    """Draw the page that is asked for."""
    st.set_page_config(page_title="MemGang", page_icon=str(ICON), layout="wide")
    st.html(STYLE)
    watching = current()
    headers, away = _runs(watching)
    _from_address()
    run = _chosen(headers)
    places = {name: st.Page(functools.partial(_shown, name), title=title, url_path=name) for name, title in PAGES if _module(name)}
    first = st.Page(functools.partial(_shown, "flock"), title="Flock", default=True)
    page = st.navigation([first, *places.values()])
    state = st.session_state
    state["mg_view"] = View(watching, run, state.get("mg_t"), state.get("mg_sel"), headers)
    state["mg_away"] = away
    with st.sidebar:
        _sidebar(watching, headers, run)
        _follow(_seen(headers, away))
    _to_address(run)
    if (clicked := state.pop(flock.SELECTED, None)) is not None:
        state["mg_sel"] = clicked
        if (place := places.get(flock.PAGES[clicked[0]])) is not None:
            st.switch_page(place)
    page.run()


def _shown(name: str) -> None:
    view, away = st.session_state["mg_view"], st.session_state["mg_away"]
    if away:
        st.warning(f"The server does not answer: {plain(away)}", icon=":material/cloud_off:")
        st.markdown("This page goes on by itself when it is back. To see what is wrong:")
        st.code(f"memgang doctor --space {view.space}", language=None)
    if not view.run:
        if not away:
            _nothing(view)
        return
    if view.run == ALL:
        st.caption(f"All runs of the space together: the newest {ALL_MAX:,} events, where the log holds more.")
    if view.t is not None:
        _past(name, view.t)
    try:
        _module(name)(view)
    except StoreUnavailable as error:
        if not away:
            st.warning(f"The server does not answer: {plain(str(error))}", icon=":material/cloud_off:")
    except MemGangError as error:
        st.error(plain(error.explain(), 600))


def _past(name: str, t: int) -> None:
    """Say that this is not now: who follows a link may not see it in the address."""
    said, way_out = st.columns([5, 1], vertical_alignment="center")
    what = "The address opens this run at" if name == "flock" else "As of"  # there the moment goes on, or is moved
    said.info(f"{what} {span(t)} after it began.", icon=":material/history:")
    way_out.button("Show all of it", key="mg_clear_t", on_click=_now, width="stretch")


def _now() -> None:
    st.session_state["mg_t"] = None


def _nothing(view: View) -> None:
    st.subheader(f"Nothing has run in space {plain(view.space)} yet")
    st.markdown("Start a run in a terminal; it appears here by itself:")
    st.code(f"memgang run --space {view.space} README.md -q 'What is this about?'", language=None)
    st.link_button("Play a run that comes with MemGang", "/mg/demo", icon=":material/play_arrow:",
                   help="A recorded run of `make demo`; it has nothing to do with this space.")
    st.markdown("Or look at another space:")
    st.code("memgang dashboard --space NAME", language=None)


@functools.cache
def _module(name: str) -> Draw | Any:
    """What draws a page; None where there is no such page."""
    whole = f"memgang.doors.dashboard.sheets.{name}"
    return importlib.import_module(whole).page if importlib.util.find_spec(whole) is not None else None


# ── which run ─────────────────────────────────────────────────────────────────────────────────


def _runs(watching: Watching) -> tuple[list[Header], str]:
    """The runs there are; while the server is away those seen last, and why it is."""
    state = st.session_state
    try:
        state["mg_headers"] = watching.headers()
        return state["mg_headers"], ""
    except MemGangError as error:
        return state.get("mg_headers", []), str(error)


def _chosen(headers: list[Header]) -> str:
    state = st.session_state
    run = state.get("mg_run") or (headers[0].run if headers else "")
    if run:
        state["mg_run"] = run  # before the widget of this key is drawn
    return str(run)


def _from_address() -> None:
    """What the address says, when a person has opened or changed it; what we wrote there ourselves says nothing new."""
    state, words = st.session_state, st.query_params.to_dict()
    if words == state.get("mg_wrote", {}) or not words:
        return
    if words.get("run"):
        state["mg_run"] = words["run"][:200]
    t = words.get("t", "")
    state["mg_t"] = int(t) if t.isascii() and t.isdigit() and len(t) < 12 else None
    state["mg_sel"] = selection(words.get("sel", ""))


def _to_address(run: str) -> None:
    state, words = st.session_state, dict[str, str]()
    if run:
        words["run"] = run
    if state.get("mg_t") is not None:
        words["t"] = str(state["mg_t"])
    if state.get("mg_sel"):
        words["sel"] = ":".join(state["mg_sel"])
    if words != st.query_params.to_dict():
        st.query_params.from_dict(words)
    state["mg_wrote"] = words


def _sidebar(watching: Watching, headers: list[Header], run: str) -> None:
    known = {header.run: header for header in headers}
    choices = [*known, *([run] if run and run not in known else []), *([ALL] if run != ALL else [])]

    def told(name: str) -> str:
        if name == ALL:
            return "all of the space"
        header = known.get(name)
        if header is None:
            return line(name, 60)
        mark = "● " if watching.under_way(header) else ""
        return f"{mark}{moment(header.started, '%d %b %H:%M')} · {line(header.title or name, 60)}"

    if headers or run:
        labels = told_apart({name: told(name) for name in choices})
        st.selectbox("Run", choices, format_func=lambda name: labels.get(name, name), key="mg_run", on_change=_other_run,
                     help="Those under way come first.")
    if len(headers) >= RUNS_MAX:
        st.caption(f"The newest {RUNS_MAX} runs are listed; `?run=` in the address shows any.")
    st.caption(f"Space **{plain(watching.settings.space)}**")


def _other_run() -> None:
    st.session_state["mg_t"] = st.session_state["mg_sel"] = None


# ── following ─────────────────────────────────────────────────────────────────────────────────


def _seen(headers: list[Header], away: str) -> tuple[Any, ...]:
    """What has the page drawn again when it changes."""
    return (bool(away), *((header.run, header.ended) for header in headers))


@st.fragment(run_every=LOOK_S)
def _follow(shown: tuple[Any, ...]) -> None:
    """Look whether a run has begun or ended, or the server has gone or come back."""
    if _seen(*_runs(current())) != shown:
        st.rerun()
