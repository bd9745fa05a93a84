"""The ledger: what a gang spent, what it did not have to spend and why, from one pass over the log.

Physical is what committed attempts spent themselves. Avoided is what hits, joined calls, remembered
reads, unopened references and the provider's prompt cache did not spend. Virtual is their sum: what
agents without a common memory would have spent. Lost is what attempts without a committed answer spent;
MemGang's own overhead is a line of its own; both are in neither of the other sums. All figures are
whole numbers, so the order of events does not matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from typing import Any

import msgspec

from memgang.model import NO_USAGE, Event, Usage
from memgang.settings import PRICES

CAUSES = ("hit", "joined", "read", "reference", "prefix")
NOBODY = "(none)"
_SPENT = frozenset({"committed", "ended"})
_LOST = frozenset({"failed", "released", "fenced"})


class Row(msgspec.Struct, frozen=True):
    """The figures of one agent or role."""

    physical: Usage = NO_USAGE
    avoided: Usage = NO_USAGE
    lost: Usage = NO_USAGE

    @property
    def virtual(self) -> Usage:
        """What it would have spent without the others."""
        return self.physical + self.avoided


class Counts(msgspec.Struct, frozen=True):
    """How often what happened. ``known_writes`` are writes of what was there already; they are in ``writes`` too."""

    events: int = 0
    reads: int = 0
    hits: int = 0
    joined: int = 0
    writes: int = 0
    known_writes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0  # of new objects
    bytes_known: int = 0  # of writes of what was there already
    waits: int = 0
    wait_us: int = 0
    takeovers: int = 0
    died: int = 0  # attempts whose process died: what they spent is not known
    failed: int = 0
    refused: int = 0
    expired: int = 0
    damaged: int = 0


class Savings(msgspec.Struct, frozen=True):
    """What the log says was spent, avoided and lost."""

    physical: Usage
    lost: Usage
    avoided: dict[str, Usage]  # every cause, in the order of CAUSES
    by_agent: dict[str, Row]
    by_role: dict[str, Row]
    counts: Counts
    overhead_us: int
    estimated: bool  # some token counts no provider reported
    unpriced: tuple[str, ...]  # models that used tokens and have no price: their dollars are missing

    @property
    def avoided_total(self) -> Usage:
        """What was not spent, for all causes."""
        return _sum(self.avoided.values())

    @property
    def virtual(self) -> Usage:
        """Physical and avoided: what agents without a common memory would have spent."""
        return self.physical + self.avoided_total

    @property
    def overhead(self) -> float:
        """Time spent in MemGang itself, in seconds."""
        return self.overhead_us / 1_000_000

    def check(self) -> None:
        """See that the figures add up exactly, by agent, by role and by cause.

        Raises:
            AssertionError: they do not; the line that differs is named.
        """
        for name, rows in (("agent", self.by_agent), ("role", self.by_role)):
            for column, total in (("physical", self.physical), ("avoided", self.avoided_total), ("lost", self.lost)):
                _same(f"{column} by {name}", _sum(getattr(row, column) for row in rows.values()), total)
            _same(f"virtual by {name}", _sum(row.virtual for row in rows.values()), self.virtual)
        _same("avoided", self.virtual - self.physical, self.avoided_total)

    def adds_up(self) -> bool:
        """Whether `check` finds nothing."""
        try:
            self.check()
        except AssertionError:
            return False
        return True


class Ledger:
    """Adds events up as they come. ``priced`` are the names of models that have a price."""

    def __init__(self, priced: Container[str] = PRICES) -> None:
        self._priced = priced
        self._agents: defaultdict[str, list[Usage]] = defaultdict(_row)
        self._roles: defaultdict[str, list[Usage]] = defaultdict(_row)
        self._totals = _row()
        self._avoided = dict.fromkeys(CAUSES, NO_USAGE)
        self._counts: Counter[str] = Counter()
        self._models: dict[str, Usage] = {}
        self._overhead_us = 0

    def add(self, event: Event) -> None:
        """Count one event. Each must come once; the reader of the log sees to that."""
        self._count(event)
        if event.own != NO_USAGE:
            if event.raw in _SPENT:
                self._book(event, 0, event.own)
            elif event.raw in _LOST:
                self._book(event, 2, event.own)
            if event.model:
                self._models[event.model] = self._models.get(event.model, NO_USAGE) + event.own
        if event.saved != NO_USAGE:
            cause = event.why if event.why in CAUSES else "joined" if event.raw == "joined" else "hit"
            self._avoided[cause] += event.saved
            self._book(event, 1, event.saved)

    def savings(self) -> Savings:
        """The sums so far."""
        physical, avoided, lost = self._totals
        return Savings(
            physical=physical, lost=lost, avoided=dict(self._avoided), by_agent=_rows(self._agents),
            by_role=_rows(self._roles), counts=Counts(**self._counts), overhead_us=self._overhead_us,
            estimated=physical.estimated or avoided.estimated or lost.estimated,
            unpriced=tuple(sorted(name for name, usage in self._models.items() if self._unpriced(name, usage))))

    def _book(self, event: Event, column: int, usage: Usage) -> None:
        for row in (self._totals, self._agents[event.agent or NOBODY], self._roles[event.role or NOBODY]):
            row[column] += usage

    def _unpriced(self, name: str, usage: Usage) -> bool:
        # Models are written with their provider (openai:gpt-5) or settings (simulated:latency_ms=5).
        return usage.tokens > 0 and usage.micro_usd == 0 and not any(
            part in self._priced for part in (name, *name.split(":")))

    def _count(self, event: Event) -> None:
        counts = self._counts
        counts["events"] += 1
        match event.raw:
            case "read":
                counts["reads"] += 1
                counts["bytes_read"] += event.bytes
            case "hit":
                counts["hits"] += 1
            case "joined":  # its length is the wait it ends
                counts["joined"] += 1
                counts["wait_us"] += round(event.dur_ms * 1000)
            case "put":
                counts["writes"] += 1
                counts["known_writes"] += event.known
                counts["bytes_known" if event.known else "bytes_written"] += event.bytes
            case "waits":
                counts["waits"] += 1
            case "taken":
                counts["takeovers"] += 1
            case "died" | "failed" | "refused" | "expired" | "damaged":
                counts[event.raw] += 1
            case "overhead":
                self._overhead_us += event.overhead_us


def fold(events: Iterable[Event], priced: Container[str] = PRICES) -> Savings:
    """The savings of these events, in any order, each of them once."""
    ledger = Ledger(priced)
    for event in events:
        ledger.add(event)
    return ledger.savings()


def to_dict(savings: Savings) -> dict[str, Any]:
    """The savings for JSON: money in whole micro-dollars, times in ms, sizes in bytes; no field left out."""
    return {
        "source": "ledger",
        "virtual": _figures(savings.virtual), "physical": _figures(savings.physical),
        "avoided": _figures(savings.avoided_total), "lost": _figures(savings.lost),
        "avoided_by_cause": {cause: _figures(usage) for cause, usage in savings.avoided.items()},
        "by_agent": {name: _row_figures(row) for name, row in savings.by_agent.items()},
        "by_role": {name: _row_figures(row) for name, row in savings.by_role.items()},
        "counts": msgspec.to_builtins(savings.counts), "overhead_us": savings.overhead_us,
        "estimated": savings.estimated, "unpriced": list(savings.unpriced),
    }


def table(savings: Savings) -> str:
    """The savings as Markdown, for reports and terminals; figures with ~ rest on estimated token counts."""
    counts = savings.counts
    lines = [f"From the ledger, {counts.events:,} events.", "", _head("")]
    lines.append(_line("without a common memory (virtual)", savings.virtual))
    lines.append(_line("spent (physical)", savings.physical))
    lines += [_line(f"avoided: {cause}", usage) for cause, usage in savings.avoided.items() if usage != NO_USAGE]
    lines += [_line("avoided, all", savings.avoided_total), _line("lost (not in the sums above)", savings.lost)]
    for title, rows in (("role", savings.by_role), ("agent", savings.by_agent)):
        if rows:
            lines += ["", _head(f"by {title}")]
        for name, row in rows.items():
            shown = name.replace("|", "\\|")
            lines.append(_line(f"{shown}: spent", row.physical))
            lines.append(_line(f"{shown}: avoided", row.avoided))
            if row.lost != NO_USAGE:
                lines.append(_line(f"{shown}: lost", row.lost))
    lines += ["", f"- MemGang's own overhead: {savings.overhead:.3f} s",
              f"- {counts.reads:,} reads ({counts.bytes_read:,} bytes); {counts.writes:,} writes, of which "
              f"{counts.known_writes:,} were there already ({counts.bytes_written:,} bytes new, "
              f"{counts.bytes_known:,} known)",
              f"- {counts.waits:,} waits ({counts.wait_us / 1_000_000:.3f} s in those that joined); "
              f"{counts.takeovers:,} takeovers"]
    if counts.died:
        lines.append(f"- {counts.died:,} attempts whose process died: what they spent is not known")
    if savings.estimated:
        lines.append("- ~ marks figures that rest on estimated token counts")
    if savings.unpriced:
        lines.append(f"- without a price, so their dollars are missing: {', '.join(savings.unpriced)}")
    return "\n".join(lines) + "\n"


def _row() -> list[Usage]:
    return [NO_USAGE, NO_USAGE, NO_USAGE]


def _rows(found: dict[str, list[Usage]]) -> dict[str, Row]:
    return {name: Row(*found[name]) for name in sorted(found)}


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum(usages, NO_USAGE)


def _figures(usage: Usage) -> dict[str, Any]:
    return {name: getattr(usage, name) for name in Usage.__struct_fields__}


def _row_figures(row: Row) -> dict[str, Any]:
    return {"virtual": _figures(row.virtual), "physical": _figures(row.physical),
            "avoided": _figures(row.avoided), "lost": _figures(row.lost)}


def _same(what: str, one: Usage, other: Usage) -> None:
    mine, theirs = _figures(one), _figures(other)
    for name in mine:
        if mine[name] != theirs[name] and name != "estimated":
            raise AssertionError(f"{what}: {name} is {mine[name]:,} added up and {theirs[name]:,} in all")


def _head(title: str) -> str:
    return (f"| {title} | calls | LLM calls | tokens in | of these cached | tokens out | dollars | seconds | bytes |\n"
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|")


def _line(name: str, usage: Usage) -> str:
    about = "~" if usage.estimated else ""
    return (f"| {name} | {usage.calls:,} | {usage.llm_calls:,} | {about}{usage.tokens_in:,} | "
            f"{usage.tokens_cached:,} | {about}{usage.tokens_out:,} | {about}{usage.usd:,.6f} | {usage.ms / 1000:,.3f} | {usage.bytes:,} |")
