"""Times to live, as they are written."""

from __future__ import annotations

import math
import re

from memgang.errors import ConfigError

TTL = str | float | None  # as callers write it: "7d", 90 (seconds), None (for ever)
TTL_DAYS_MAX = 3650

_TTL = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)?\s*\Z", re.ASCII)
_UNIT_S = {None: 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_ttl(ttl: TTL) -> int:
    """A time to live in milliseconds: ``90`` or ``1.5`` (seconds), ``"90s"``, ``"15m"``, ``"1h"``, ``"7d"``, ``"2w"``.

    None is 0: for ever. A time shorter than a millisecond is one millisecond, never 0.

    Raises:
        ConfigError: it has another form, is not greater than 0, or is longer than ten years.
    """
    if ttl is None:
        return 0
    seconds = math.nan
    if isinstance(ttl, str):
        if match := _TTL.match(ttl):
            seconds = float(match[1]) * _UNIT_S[match[2]]
    elif isinstance(ttl, int | float) and not isinstance(ttl, bool):
        try:
            seconds = float(ttl)
        except OverflowError:
            seconds = math.inf
    if math.isnan(seconds):
        raise ConfigError(f"ttl={ttl!r} is not a time: use seconds (90) or a number with s, m, h, d or w (7d)")
    if seconds <= 0:
        raise ConfigError(f"ttl={ttl!r} must be greater than 0; leave it out (None) to keep a value for ever")
    if seconds > TTL_DAYS_MAX * 86_400:
        raise ConfigError(f"ttl={ttl!r} is longer than ten years; leave it out (None) to keep a value for ever")
    return max(1, round(seconds * 1_000))
