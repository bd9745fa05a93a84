"""Texts on pages: what strangers wrote shown as it is, and times as the viewer's clock has them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import streamlit as st

TEXT_MAX = 300

_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=@])")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def line(text: str, most: int = TEXT_MAX) -> str:
    """Text as one line without control characters, cut; for what shows text as it is (options, tables, `st.text`)."""
    short = _CONTROLS.sub(" ", text[: 4 * most]).strip()
    return short if len(short) <= most else short[: most - 1] + "…"


def plain(text: str, most: int = TEXT_MAX) -> str:
    """The same for what reads Markdown (labels, captions, `st.write`): no mark in it means anything."""
    return _MARKS.sub(r"\\\1", line(text, most))


def command(*words: str) -> str:
    """A command to be copied into a shell, which takes each word as it is: a space or a run may have any name."""
    return shlex.join(line(word) for word in words)


def told_apart(labels: Mapping[str, str]) -> dict[str, str]:
    """What each run is called in a list to choose from; those that would be called the same get their ids too.

    The browser tells Streamlit the label that was chosen, no more: of two that are the same, the other one would be shown.
    """
    often = Counter(labels.values())
    return {run: f"{label} · {line(run)}" if often[label] > 1 else label for run, label in labels.items()}


def zone() -> tzinfo:
    """The viewer's time zone; UTC where the browser does not tell."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (KeyError, ValueError, OSError):
        return UTC


def moment(ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time of the server as the viewer's clock has it."""
    if not 0 < ms < 1 << 47:
        return "-"
    return datetime.fromtimestamp(ms / 1000, zone()).strftime(form)


def span(ms: float) -> str:
    """How long."""
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
