"""One history against many policies and budgets, and the figures of each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from memgang.eviction.fifo import Fifo
from memgang.eviction.gdsf import Gdsf
from memgang.eviction.history import History
from memgang.eviction.lfu import Lfu
from memgang.eviction.lru import Lru
from memgang.eviction.plain_gdsf import PlainGdsf
from memgang.eviction.policy import Policy
from memgang.eviction.s3fifo import S3Fifo
from memgang.eviction.sieve import Sieve

POLICIES: tuple[type[Policy], ...] = (Lru, Lfu, Fifo, S3Fifo, Sieve, PlainGdsf, Gdsf)
SHARES = (0.05, 0.10, 0.25, 0.50)  # of the working set, where no budget is named


class Outcome(msgspec.Struct, frozen=True):
    """What one policy made of a history. Shares of the costs are of what an unlimited memory would save."""

    policy: str
    requests: int
    hits: int
    misses: int
    bytes_asked: int
    bytes_hit: int
    seconds_asked: float  # what all requests would cost without a memory
    seconds_saved: float
    micro_usd_asked: int
    micro_usd_saved: int
    evictions: int
    too_large: int  # requests for what no eviction could make room for

    @property
    def hit_rate(self) -> float:
        """Hits of all requests."""
        return self.hits / self.requests if self.requests else 0.0

    @property
    def byte_hit_rate(self) -> float:
        """Bytes of the hits of all bytes asked for."""
        return self.bytes_hit / self.bytes_asked if self.bytes_asked else 0.0


class Row(msgspec.Struct, frozen=True):
    """All policies at one budget."""

    budget_bytes: int
    outcomes: list[Outcome]


class Comparison(msgspec.Struct, frozen=True):
    """All policies at all budgets, beside a memory without limit."""

    source: str
    requests: int
    objects: int
    working_set_bytes: int
    kept: int
    kept_bytes: int
    unsized: int
    unlimited: Outcome
    rows: list[Row]


def replay(history: History, policy: Policy, victims: list[str] | None = None) -> Outcome:
    """Ask the policy for all of it, in order; whom it evicts is added to ``victims``, where that is wanted."""
    gone: list[str] = [] if victims is None else victims
    requests = hits = bytes_asked = bytes_hit = usd_asked = usd_saved = too_large = 0
    asked = saved = 0.0
    for what, key, size, seconds, micro_usd in history.steps:
        if what == "drop":
            policy.drop(key)
        elif what == "use":
            if key in policy:
                policy.use(key)
        elif what == "put":
            gone += policy.put(key, size, seconds)
        else:
            requests += 1
            bytes_asked += size
            asked += seconds
            usd_asked += micro_usd
            if what == "ask" and key in policy:
                policy.use(key)
                hits += 1
                bytes_hit += size
                saved += seconds
                usd_saved += micro_usd
            else:
                gone += policy.put(key, size, seconds)
                too_large += size > policy.budget
    return Outcome(policy.name, requests, hits, requests - hits, bytes_asked, bytes_hit, asked, saved, usd_asked, usd_saved,
                   policy.evictions, too_large)


def compare(history: History, budgets: Sequence[int], policies: Sequence[type[Policy]] = POLICIES) -> Comparison:
    """Every policy at every budget (bytes)."""
    sizes = history.sizes()
    total = sum(sizes.values())
    unlimited = replay(history, policies[0](max(total, 1)))
    rows = [Row(budget, [replay(history, policy(budget)) for policy in policies]) for budget in budgets]
    return Comparison(history.source, unlimited.requests, len(sizes), total, history.kept, history.kept_bytes, history.unsized,
                      msgspec.structs.replace(unlimited, policy="unlimited"), rows)
