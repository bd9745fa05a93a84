"""The ledger: what work was done, what was avoided and why, from the events alone.

    virtual work (what agents alone would have done) = physical work (what was done) + avoided work, by cause

Failed, released and overtaken attempts are `lost`: agents alone would not have needed them, so they stand
on a line of their own. Sums are of whole numbers, so they are exact in any order of the events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from memgang.model import NO_USAGE, Event, Usage

CAUSES = ("hit", "joined", "read", "reference", "prefix")
CAUSE_WORDS = {
    "hit": "answer found in memory", "joined": "joined a computation under way", "read": "source not read again",
    "reference": "given as a reference, never opened", "prefix": "provider's prompt cache",
}


class Row(msgspec.Struct, frozen=True):
    """The books of one agent or one role."""

    physical: Usage = NO_USAGE
    avoided: Usage = NO_USAGE
    lost: Usage = NO_USAGE

    @property
    def virtual(self) -> Usage:
        """What it would have done alone."""
        return self.physical + self.avoided


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of some events. ``overhead_us`` is the time in which a process waited for the store."""

    physical: Usage = NO_USAGE
    avoided: dict[str, Usage] = {}
    lost: Usage = NO_USAGE
    by_agent: dict[str, Row] = {}
    by_role: dict[str, Row] = {}
    events: int = 0
    reads: int = 0
    read_bytes: int = 0
    writes: int = 0
    known_writes: int = 0  # content that was there already: one object, one more writer
    written_bytes: int = 0
    hits: int = 0
    joined: int = 0
    waits: int = 0
    waited_ms: float = 0.0
    takeovers: int = 0
    refused: int = 0
    expired: int = 0
    overhead_us: int = 0

    @property
    def saved(self) -> Usage:
        """All avoided work."""
        return total(self.avoided.values())

    @property
    def virtual(self) -> Usage:
        """What agents alone would have done."""
        return self.physical + self.saved

    def adds_up(self) -> bool:
        """Whether the books of agents and of roles add up to the totals, to the last token."""
        for books in (self.by_agent, self.by_role):
            if total(r.physical for r in books.values()) != self.physical or total(r.lost for r in books.values()) != self.lost:
                return False
            if total(r.virtual for r in books.values()) != self.virtual:
                return False
        return True

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told | {"virtual": msgspec.to_builtins(self.virtual), "saved": msgspec.to_builtins(self.saved),
                       "adds_up": self.adds_up()}


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of usages."""
    whole = NO_USAGE
    for usage in usages:
        whole = whole + usage
    return whole


class Ledger:
    """Keeps the books while events come in, in any order."""

    def __init__(self) -> None:
        self._physical = self._lost = NO_USAGE
        self._avoided: dict[str, Usage] = {}
        self._agents: dict[str, Row] = {}
        self._roles: dict[str, Row] = {}
        self._n: dict[str, int] = {}
        self._waited_ms = 0.0

    def add(self, event: Event) -> None:
        """Enter one event."""
        self._count("events")
        match event.raw:
            case "committed":
                self._physical = self._physical + event.own
                self._book(event, physical=event.own)
            case "failed" | "released" | "fenced":
                self._lost = self._lost + event.own
                self._book(event, lost=event.own)
            case "hit" | "joined" | "reference":
                why = event.why or event.raw
                self._avoided[why] = self._avoided.get(why, NO_USAGE) + event.saved
                self._book(event, avoided=event.saved)
                if event.raw != "reference":
                    self._count("hits" if event.raw == "hit" else "joined")
                self._waited_ms += event.dur_ms if event.raw == "joined" else 0
            case "read":
                self._count("reads")
                self._count("read_bytes", event.bytes)
            case "put":
                self._count("known_writes" if event.known else "writes")
                self._count("written_bytes", 0 if event.known else event.bytes)
            case "waits":
                self._count("waits")
            case "taken":
                self._count("takeovers")
            case "refused" | "expired" as word:
                self._count(word)
            case "overhead":
                self._count("overhead_us", event.overhead_us)

    def savings(self) -> Savings:
        """The books as they stand."""
        return Savings(physical=self._physical, avoided=dict(self._avoided), lost=self._lost, by_agent=dict(self._agents),
                       by_role=dict(self._roles), waited_ms=round(self._waited_ms, 3), **self._n)

    def _count(self, what: str, by: int = 1) -> None:
        self._n[what] = self._n.get(what, 0) + by

    def _book(self, event: Event, physical: Usage = NO_USAGE, avoided: Usage = NO_USAGE, lost: Usage = NO_USAGE) -> None:
        for books, name in ((self._agents, event.agent), (self._roles, event.role or "-")):
            row = books.get(name, Row())
            books[name] = Row(row.physical + physical, row.avoided + avoided, row.lost + lost)


def fold(events: Iterable[Event]) -> Savings:
    """The ledger of these events."""
    ledger = Ledger()
    for event in events:
        ledger.add(event)
    return ledger.savings()


def table(savings: Savings) -> str:
    """The ledger as a Markdown table. Token counts that no provider reported are marked with ~."""
    def row(what: str, u: Usage) -> str:
        mark = "~" if u.estimated and u.tokens else ""
        return (f"| {what} | {u.calls:,d} | {u.llm_calls:,d} | {mark}{u.tokens:,d} | {u.usd:.4f} | {u.ms / 1000:,.1f} |"
                f" {u.bytes:,d} |")

    lines = ["| from the ledger | calls | of a model | tokens | dollars | seconds of work | bytes |",
             "|---|---:|---:|---:|---:|---:|---:|",
             row("**agents alone would have done**", savings.virtual)]
    for why in sorted(savings.avoided, key=lambda w: CAUSES.index(w) if w in CAUSES else 9):
        lines.append(row(f"avoided: {CAUSE_WORDS.get(why, why)}", savings.avoided[why]))
    lines.append(row("**done**", savings.physical))
    if savings.lost != NO_USAGE:
        lines.append(row("lost in attempts that failed or were overtaken", savings.lost))
    lines.append("")
    lines.append(f"Overhead: for {savings.overhead_us / 1e6:.2f} s a round trip to the store was under way. "
                 f"{savings.events:,d} events: {savings.reads:,d} reads, {savings.writes:,d} new objects, "
                 f"{savings.known_writes:,d} that were there already, {savings.hits:,d} hits, {savings.joined:,d} joined.")
    return "\n".join(lines)
