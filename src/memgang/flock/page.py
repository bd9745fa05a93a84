"""One HTML file that plays a tape: script, style and records are in it, and it asks nobody for anything, also from ``file://``.

The records go in compressed, as base64: 100,000 of them would otherwise be 20 MB. A policy in the page itself forbids every request,
so that neither a title nor a mistake of ours can make one.
"""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Iterable

from memgang.flock.bundle import bundle, source
from memgang.flock.tape import Tape, encoded

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(tape: Tape, *, theme: str = "", at_ms: int | None = None, film: bool = False) -> str:
    """The file. ``theme``: dark or light, else as the reader's system is; ``at_ms``: stand still there, else play from the start;
    ``film``: without what is there to be pressed."""
    title = tape.header.title or tape.header.run or "a run"
    return "\n".join(_lines(tape, title, theme, at_ms, film))


def packed(tape: Tape, ident: str) -> str:
    """The tape as an element of a page, which an element with ``data-tape`` of this id plays."""
    text = base64.b64encode(gzip.compress(encoded(tape), 9, mtime=0)).decode("ascii")
    return f'<script type="application/octet-stream" id="{ident}">{text}</script>'


def _lines(tape: Tape, title: str, theme: str, at_ms: int | None, film: bool) -> Iterable[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield f"<title>{html.escape(title)} · MemGang</title>"
    yield f"<style>{source('flock.css')}\n{source('page.css')}</style></head>"
    yield f'<body data-theme="{html.escape(theme)}" data-at="{"" if at_ms is None else int(at_ms)}"{" data-film" if film else ""}>'
    yield '<main id="stage" data-tape="tape"><noscript>This page plays a run of MemGang, and needs JavaScript for it.</noscript></main>'
    yield packed(tape, "tape")
    yield f'<script type="module">{bundle("page.js")}</script>'
    yield "</body></html>"
