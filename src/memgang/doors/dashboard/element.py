"""The element of the flock: our canvas in a page of Streamlit. Events reach it by the WebSocket, never by a run of the script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

import memgang.flock

WEB = Path(memgang.flock.__file__).with_name("web")

_SIZE = ".mgd-place{height:clamp(520px,82vh,980px)}.mgd-box{height:100%}"

# Registered when this is first imported, which is in the first run of a script: then there is a runtime to register it with.
_flock = st.components.v2.component(
    "memgang.flock",
    html='<div class="mgd-place"></div>',
    css=_SIZE + "\n" + (css.read_text("utf-8") if (css := WEB / "flock.css").is_file() else ""),
    js=Path(__file__).with_name("element.js").read_text("utf-8"),
)


def flock(data: dict[str, Any], on_select: Callable[[], None], on_renew: Callable[[], None]) -> Any:
    """Show the flock. ``data``: run, mode, url with its pass, t, and the pages that a click leads to."""
    return _flock(key="flock", data=data, on_select_change=on_select, on_renew_change=on_renew)
