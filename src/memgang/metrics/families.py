"""The table of all metrics: the page, its documentation and the test of the Grafana dashboard are made from it.

Names are those of Prometheus: base units (seconds, bytes; dollars for money), counters end with ``_total`` on the page. What was
spent, saved and lost are families of their own, so that no query adds up work that never happened with work that was paid for.
Labels have a handful of values that are known here; the names of agents and limits are on the page only where somebody asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from memgang.store.tallies import CAUSES, KINDS, of_kind, saved_by

Labels = tuple[str, ...]
MICRO, MILLI = 1_000_000, 1_000  # readings in millionths or thousandths


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric. ``readings``: which one stands behind each combination of labels (`memgang.store.readings`), divided by ``divisor``.

    A counter that nothing has raised yet is 0; a gauge that cannot be read is left out. ``each``: there is a sample for each limit
    or agent that was asked for, whose name stands for ``*`` in the reading.
    """

    name: str  # without _total
    kind: Literal["counter", "gauge"]
    help: str
    readings: Mapping[Labels, str]
    unit: str
    labels: Labels
    divisor: int
    each: Literal["", "limit", "agent"]

    @property
    def shown(self) -> str:
        """The name of its samples on the page."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _family(
    name: str, kind: Literal["counter", "gauge"], help: str, readings: str | Mapping[Labels, str], *, unit: str = "",
    labels: Labels = (), divisor: int = 1, each: Literal["", "limit", "agent"] = "",
) -> Family:
    found: Mapping[Labels, str] = {(): readings} if isinstance(readings, str) else readings
    return Family(name=name, kind=kind, help=help, readings=found, unit=unit, labels=labels, divisor=divisor, each=each)


def _by(counter: str) -> Mapping[Labels, str]:
    """The counter of each cause."""
    return {(cause,): saved_by(counter, cause) for cause in CAUSES}


_OUTCOMES = {"hit": "hits", "joined": "joined", "computed": "executions", "failed": "failed"}
_CALLS: dict[Labels, str] = {(kind, outcome): of_kind(counter, kind) for kind in KINDS for outcome, counter in _OUTCOMES.items()}
_TYPES = {"input": "tok_in", "output": "tok_out"}

UP = _family("memgang_up", "gauge", "1 while the server answers; else 0, and only what this process knows is on the page.",
             "up")

FAMILIES: tuple[Family, ...] = (
    UP,
    _family("memgang_objects", "gauge", "Memory objects in the space.", "count"),
    _family("memgang_objects_bytes", "gauge", "Bytes of the memory objects in the space.", "bytes", unit="bytes"),
    _family("memgang_budget_bytes", "gauge", "The budget of the space, as set for this process; absent where there is none.",
            "budget", unit="bytes"),
    _family("memgang_calls", "counter",
            "Calls by how they were answered: hit (the answer was there), joined (somebody was at it), computed, failed (an attempt).",
            _CALLS, labels=("kind", "outcome")),
    _family("memgang_reads", "counter", "Memory objects read.", "reads"),
    _family("memgang_refused", "counter", "What was refused: limits, conflicts, wrong references.", "refused"),
    _family("memgang_waits", "counter", "Waits for a call that somebody else computes; of those within one process, the long ones.",
            "waits"),
    _family("memgang_wait_seconds", "counter", "Time spent in those waits that ended with the answer.", "wait_us", unit="seconds",
            divisor=MICRO),
    _family("memgang_takeovers", "counter", "Calls taken over from a leader whose lease had ended.", "takeovers"),
    _family("memgang_fenced", "counter", "Answers that came after somebody newer had claimed the call.", "fenced"),
    _family("memgang_released", "counter", "Attempts given up by those who made them.", "released"),
    _family("memgang_died", "counter", "Attempts whose process died; what they spent is not known.", "died"),
    _family("memgang_spent_llm_calls", "counter", "Calls of a language model that were made and whose answers were used.", "llm_calls"),
    _family("memgang_spent_tokens", "counter", "Tokens that committed attempts used themselves.",
            {(kind,): name for kind, name in _TYPES.items()}, unit="tokens", labels=("type",)),
    _family("memgang_spent_cached_tokens", "counter", "Of the spent input tokens, those the provider had in its prompt cache.",
            "tok_cached", unit="tokens"),
    _family("memgang_spent_dollars", "counter", "What committed attempts cost, by the price table.", "usd", unit="dollars",
            divisor=MICRO),
    _family("memgang_spent_seconds", "counter", "Time that committed attempts worked themselves.", "cost", unit="seconds",
            divisor=MILLI),
    _family("memgang_saved_calls", "counter", "Computations of any kind that were not made, by what saved them.", _by("calls"),
            labels=("cause",)),
    _family("memgang_saved_llm_calls", "counter", "Calls of a language model that were not made.", _by("llm_calls"),
            labels=("cause",)),
    _family("memgang_saved_tokens", "counter", "Tokens that were not used.",
            {(cause, kind): saved_by(name, cause) for cause in CAUSES for kind, name in _TYPES.items()},
            unit="tokens", labels=("cause", "type")),
    _family("memgang_saved_dollars", "counter", "What was not paid, by the price table.", _by("usd"), unit="dollars",
            labels=("cause",), divisor=MICRO),
    _family("memgang_saved_seconds", "counter", "Work that was not done again.", _by("ms"), unit="seconds", labels=("cause",),
            divisor=MILLI),
    _family("memgang_saved_bytes", "counter", "Bytes that did not travel: references that were given and never opened.",
            _by("bytes"), unit="bytes", labels=("cause",)),
    _family("memgang_lost_tokens", "counter", "Tokens of attempts without a used answer: failed, given up, fenced.",
            {(kind,): f"lost_{name}" for kind, name in _TYPES.items()}, unit="tokens", labels=("type",)),
    _family("memgang_lost_dollars", "counter", "What those attempts cost.", "lost_usd", unit="dollars", divisor=MICRO),
    _family("memgang_lost_seconds", "counter", "Time that those attempts worked.", "lost_ms", unit="seconds", divisor=MILLI),
    _family("memgang_overhead_seconds", "counter", "Time in which somebody waited for the server.", "overhead_us", unit="seconds",
            divisor=MICRO),
    _family("memgang_evictions", "counter", "Memory objects evicted to make room.", "evictions"),
    _family("memgang_evicted_bytes", "counter", "Bytes evicted to make room.", "evicted_bytes", unit="bytes"),
    _family("memgang_expirations", "counter", "Memory objects removed because their time to live had passed.", "expired"),
    _family("memgang_log_entries", "gauge", "Entries the log holds now: one for each change, one for each batch of reads.",
            {("changes",): "log:changes", ("reads",): "log:reads"}, labels=("log",)),
    _family("memgang_log_written_entries", "counter", "Entries ever written to the log.",
            {("changes",): "seq", ("reads",): "reads_seq"}, labels=("log",)),
    _family("memgang_janitor_age_seconds", "gauge", "Since expired objects were last looked for, by the server's clock.",
            "sweep_age_ms", unit="seconds", divisor=MILLI),
    _family("memgang_host_bytes", "gauge", "Bytes in the host tier of this exporter's host.", "host:used", unit="bytes"),
    _family("memgang_host_limit_bytes", "gauge", "The most the host tier may hold.", "host:size", unit="bytes"),
    _family("memgang_host_entries", "gauge", "What the host tier holds.",
            {("bodies",): "host:bodies", ("answers",): "host:answers"}, labels=("what",)),
    _family("memgang_host_readable", "gauge", "1 while the host tier may be read without asking the server.", "host:readable"),
    _family("memgang_host_processes", "gauge", "Processes of this host whose events wait to be written.",
            {("living",): "host:rings", ("dead",): "host:left"}, labels=("state",)),
    _family("memgang_limit_running_calls", "gauge", "Calls of a language model under way within a limit (--limit).",
            "limit:*:running", labels=("limit",), each="limit"),
    _family("memgang_limit_waiting_calls", "gauge", "Callers in the line before a limit; of each process, the first.",
            "limit:*:waiting", labels=("limit",), each="limit"),
    _family("memgang_limit_allowed_calls", "gauge", "How many may be under way while the provider is busy; absent while it is not.",
            "limit:*:allowed", labels=("limit",), each="limit"),
    _family("memgang_limit_pause_seconds", "gauge", "For how long nobody begins, because the provider asked for it.",
            "limit:*:pause_ms", unit="seconds", labels=("limit",), divisor=MILLI, each="limit"),
    _family("memgang_agent_bytes", "gauge", "Bytes of what an agent was first to write (--agents).", "agent:*", unit="bytes",
            labels=("agent",), each="agent"),
)

# The counters the server is asked for. What holds no count is read otherwise.
COUNTERS: tuple[str, ...] = tuple(sorted({
    reading for family in FAMILIES for reading in family.readings.values()
    if family.kind == "counter" or reading in ("count", "bytes")}))
