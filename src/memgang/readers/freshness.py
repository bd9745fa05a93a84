"""For how long a server lets its page be used without asking again, and whether it may be kept at all (RFC 9111).

A memory is taken as the private cache of whoever holds the credentials a page was fetched with: they are part of the
call's key, so ``private`` pages are shared with nobody else. No freshness is guessed where the server names none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

FRESH_MAX_S = 366 * 24 * 3600.0


class Freshness(NamedTuple):
    """``fresh_s`` seconds from now no question is needed; without ``keep`` the page is for those who wait for it alone."""

    fresh_s: float
    keep: bool


def freshness(headers: Mapping[str, str]) -> Freshness:
    """What the headers of an answer say. Names are looked up as ``Cache-Control``; the mapping ignores case."""
    from urllib.request import parse_http_list  # here: it brings much, and most processes read no page

    directives: dict[str, str] = {}
    for directive in parse_http_list(headers.get("cache-control", "")):
        name, _, value = directive.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        # Said twice and differently: the shorter one, which is wrong in no case.
        if name not in directives or _seconds(value) < _seconds(directives[name]):
            directives[name] = value
    keep = "no-store" not in directives and headers.get("vary", "").strip() != "*"
    if not keep or "no-cache" in directives:
        return Freshness(0.0, keep)
    if "max-age" in directives:
        whole = _seconds(directives["max-age"])
    elif "expires" in headers:
        ends, said = _moment(headers["expires"]), _moment(headers.get("date", ""))
        whole = ends - (said or time.time()) if ends else 0.0  # by the server's own clock, where it tells
    else:
        return Freshness(0.0, keep)
    return Freshness(min(max(whole - _seconds(headers.get("age", "")), 0.0), FRESH_MAX_S), keep)


def retry_after_s(value: str) -> float:
    """How long a server asks to be left alone: seconds, or a date; 0 where it says nothing that can be understood."""
    return _seconds(value) or max((_moment(value) or 0.0) - time.time(), 0.0)


def _seconds(text: str) -> float:
    """A count of seconds; 0 where it is none."""
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0.0


def _moment(text: str) -> float:
    import email.utils  # the same

    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
