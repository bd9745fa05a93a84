"""Flock, the first page: the gang at work, or a run that is over, to be played again."""

from __future__ import annotations

import streamlit as st

from memgang.doors.dashboard.element import flock
from memgang.doors.dashboard.texts import moment, plain, span
from memgang.doors.dashboard.view import View, selection
from memgang.flock.tape import ALL, Header

SELECTED = "mg_selected"  # what was clicked, until the frame has gone there
RENEWED = "mg_renewed"
PAGES = {"agent": "agents", "object": "memory"}


def page(view: View) -> None:
    """Draw it."""
    header = view.header
    if header is None:
        header = Header(view.run, view.space, title="the whole space" if view.run == ALL else "")
    if about := _about(view, header):
        st.caption(about)
    data = {"run": view.run, "mode": "live" if view.under_way(header) else "replay", "url": view.live_url(), "t": view.t,
            "sel": view.selected, "pages": PAGES, "renewed": st.session_state.get(RENEWED, 0)}
    flock(data, _clicked, _renewed)


def _renewed() -> None:
    """The pass has ended, and the script makes another. The page is only told where something differs from what it was given."""
    st.session_state[RENEWED] = st.session_state.get(RENEWED, 0) + 1


def _clicked() -> None:
    found = st.session_state.get("flock")
    what = getattr(found, "select", None)
    if isinstance(what, dict) and (chosen := selection(f"{what.get('kind')}:{what.get('id')}")) is not None:
        st.session_state[SELECTED] = chosen


def _about(view: View, header: Header) -> str:
    """What the flock itself does not say: when it began by the viewer's clock, with what model."""
    parts = [f"Started {plain(moment(header.started))}"] if header.started else []
    if header.ended:
        parts.append(f"{header.state} after {span(header.ended - header.started)}")
    elif not view.under_way(header):
        parts.append(view.state(header))
    if header.model:
        parts.append(plain(header.model, 60))
    if header.synthetic:
        parts.append("simulated model: its figures prove nothing")
    return " · ".join(parts)
