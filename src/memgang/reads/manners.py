"""Manners: whom of the web may be asked, how often, for how much, and under which name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from memgang.errors import ConfigError
from memgang.readers import Reach, web

_OWN = frozenset({"large", "slow", "redirect", "robots"})  # codes of failures that other manners might not meet
PRODUCT_MAX = 200  # characters of a user agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How pages are fetched.

    Only public addresses are asked, at each redirect anew, and the hosts in ``allow`` (``docs.internal``,
    ``127.0.0.1:8000``); ``anywhere`` lifts that, for URLs that a person has named. ``robots`` heeds robots.txt and its
    crawl delay (needs ``memgang[robots]``). ``delay_s`` is the time between two requests to one host, ``at_once`` how many are
    under way there; both are shared by all processes that use the space and give the same numbers. 0: no limit.
    ``bytes_max`` is of one page after unpacking, or of one file; ``total_s`` is for one page with all its redirects, without
    the time it waits for its turn.

    Raises:
        ConfigError: a number is none or out of range, a host is none, or the user agent cannot stand in a header.
    """

    allow: Sequence[str] = ()
    anywhere: bool = False
    robots: bool = False
    user_agent: str = web.USER_AGENT
    delay_s: float = 0.0
    at_once: int = 0
    bytes_max: int = web.BYTES_MAX
    total_s: float = web.TOTAL_S
    redirects_max: int = web.REDIRECTS_MAX

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow", (self.allow,) if isinstance(self.allow, str) else tuple(self.allow))
        Reach(self.allow)
        for name, least, most in (("delay_s", 0, 3600), ("at_once", 0, 1000), ("bytes_max", 1, 1 << 40), ("total_s", 0.1, 3600),
                                  ("redirects_max", 0, 20)):
            value = getattr(self, name)
            whole = name in ("at_once", "bytes_max", "redirects_max")
            if (isinstance(value, bool) or not isinstance(value, int if whole else int | float)
                    or not math.isfinite(value) or not least <= value <= most):
                raise ConfigError(f"{name}={value!r} must be {'a whole number' if whole else 'a number'} from {least:,} to {most:,}")
        agent = self.user_agent
        if not (agent.strip() and agent.isascii() and agent.isprintable() and len(agent) <= PRODUCT_MAX):
            raise ConfigError(f"user_agent={agent[:40]!r} must be 1 to {PRODUCT_MAX} printable ASCII characters, "
                              "as in 'my-reader/1 (me@example.org)'")

    @property
    def reach(self) -> Reach | None:
        """Whom it may ask; None: anybody."""
        return None if self.anywhere else Reach(self.allow)

    @property
    def reach_key(self) -> str:
        """What of it belongs into keys: who may not ask an address is not given what somebody who may has read there."""
        return "" if self.anywhere else " ".join(sorted(host.lower() for host in self.allow)) or "public"

    def asker(self, code: str) -> str:
        """What a failure of this code depends on, and no key tells apart: pages are shared by who allows more and less of them."""
        return f"{self.bytes_max} {self.total_s:g} {self.redirects_max} {self.robots:d}" if code in _OWN else ""

    @property
    def bounds(self) -> web.Bounds:
        """The limits of one fetch."""
        return web.Bounds(self.bytes_max, self.total_s, self.redirects_max)
