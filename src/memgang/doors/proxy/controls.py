"""What a caller says about remembering: HTTP's Cache-Control, and the `cache` field LiteLLM's users know.

    Cache-Control: no-store        {"cache": {"no-store": true}}      asked for this caller alone, kept nowhere
    Cache-Control: no-cache        {"cache": {"no-cache": true}}      asked anew; the answer replaces the one there is
    Cache-Control: max-age=60      {"cache": {"s-maxage": 60}}        an answer older than this is asked anew
                                   {"cache": {"ttl": 600}}            how long the answer may be used
                                   {"cache": {"namespace": "a"}}      shared only with those who say the same
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from memgang.errors import CodecError


@dataclass(frozen=True, slots=True)
class Controls:
    """How one request is to be answered. ``max_age_s`` None: any age; ``ttl_s`` None: as the space is set."""

    store: bool = True
    anew: bool = False
    max_age_s: float | None = None
    ttl_s: float | None = None
    namespace: str = ""


def of_header(text: str) -> Controls:
    """What Cache-Control says. Words nobody knows are passed over, as HTTP asks."""
    found = Controls()
    for word in text.lower().split(","):
        name, _, value = word.strip().partition("=")
        if name == "no-store":
            found = replace(found, store=False)
        elif name == "no-cache":
            found = replace(found, anew=True)
        elif name == "max-age" and (seconds := value.strip('" ')).isdecimal() and len(seconds) < 16:
            found = _aged(found, float(seconds))
    return found


def of_field(found: Controls, field: Any) -> Controls:
    """What the body's `cache` field says, over what the header said.

    Raises:
        CodecError: a value is none of its kind.
    """
    if field is None:
        return found
    if not isinstance(field, dict):
        raise CodecError("cache must be an object, such as {\"no-cache\": true}")
    for name, value in field.items():
        if name in ("no-store", "no-cache"):
            if not isinstance(value, bool):
                raise CodecError(f"cache: {name} must be true or false")
            found = replace(found, store=found.store and not value) if name == "no-store" else replace(found, anew=found.anew or value)
        elif name in ("ttl", "s-maxage", "s-max-age", "max-age"):
            seconds = _seconds(name, value)
            if seconds is not None:
                found = replace(found, ttl_s=seconds) if name == "ttl" else _aged(found, seconds)
        elif name == "namespace":
            if not isinstance(value, str):
                raise CodecError("cache: namespace must be text")
            found = replace(found, namespace=value)
    if found.ttl_s == 0:  # of no use a moment later
        found = replace(found, store=False)
    return found


def _aged(found: Controls, seconds: float) -> Controls:
    oldest = seconds if found.max_age_s is None else min(seconds, found.max_age_s)
    # No answer is younger than now: whoever allows none asks anew.
    return replace(found, max_age_s=oldest, anew=found.anew or oldest == 0)


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf or value > 1e10:
        raise CodecError(f"cache: {name} must be a number of seconds")
    return float(value)
