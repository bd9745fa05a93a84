"""The figures in the documentation are those of the code as it is: some of them are computed anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memgang.eviction import compare, drawn, read

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "benchmarks" / "results" / "eviction.json").read_text("utf-8"))
DATA = ROOT / "benchmarks" / "data" / "cache-traces"


@pytest.mark.parametrize(("kind", "name", "file"), [
    ("log", "report-runs", "report-runs.jsonl.xz"), ("given", "lirs-multi1", "lirs-multi1.trace.gz"),
    ("zipf", "lirs-multi1", "lirs-multi1.trace.gz"), ("from the log", "lirs-multi1", "lirs-multi1.trace.gz"),
])
def test_the_evidence_is_what_the_simulator_finds(kind: str, name: str, file: str) -> None:
    """Two budgets of the log and of the smallest trace; `make bench ONLY=eviction` computes all."""
    history = read(DATA / file)
    if kind == "zipf":
        history = drawn(history, "zipf", FOUND["seed"])
    if kind == "from the log":
        log = read(DATA / "report-runs.jsonl.xz")
        history = drawn(history, sorted({s.key: s.seconds for s in log.steps if s.what in ("ask", "make")}.values()), FOUND["seed"])
    shares = {"5%": 0.05, "50%": 0.5}
    total = sum(history.sizes().values())
    rows = compare(history, [int(total * share) for share in shares.values()]).rows

    for share, row in zip(shares, rows, strict=True):
        assert {o.policy: o.hits for o in row.outcomes} == {
            policy: figures["hits"] for policy, figures in FOUND[kind][name]["budgets"][share].items()}


def test_eviction_by_cost_saves_most_at_every_budget_on_record() -> None:
    """On the log and on every costed trace, more than any policy without costs; and nowhere fewer hits than LRU where costs are equal."""
    told = FOUND["verdict"]["GDSF"]
    assert (told["compared in cost"], told["saves less"], told["compared in hits"], told["fewer hits than LRU"]) == (65, [], 64, {})
    assert [same.endswith(": 0.00%, LRU 0.00%") for same in told["saves the same"]] == [True]
    assert sum(map(len, told["saves less with a seed"].values())) <= 1 and told["all seeds"] == 225
