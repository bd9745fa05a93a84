"""Short campaigns of kill, stop and restart with each push; the long ones are ``python -m tests.chaos.soak``."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.havoc import campaign
from tests.chaos.servers import programs
from tests.chaos.soak import line, report, soak


@pytest.mark.catalogue("B1", "A1", "A4", "A6", "A7")
@pytest.mark.parametrize("persistent", [True, False], ids=["kept", "nothing kept"])
@pytest.mark.parametrize("hosts", [1, 8])
async def test_histories_of_eight_processes_under_havoc_keep_the_invariants(
    place: Path, seed: int, hosts: int, persistent: bool, many: Callable[[int, int], int]
) -> None:
    """Kills, stops and server restarts while eight workers recall, put, forget and name: no wrong value, no hang, no breach."""
    program = random.Random(seed).choice(list(programs().values()))
    outcome = await campaign(place, seed, rounds=many(4, 50), program=program, persistent=persistent, hosts=hosts)
    print(line(outcome))
    assert [str(b) for b in outcome.breaches] == []
    assert outcome.counts["answers read"] > 100 and outcome.counts["kills"] > 0


async def test_the_soak_tells_its_seeds_and_counts(place: Path, seed: int) -> None:
    """The fifth seed of each push goes by way of the soak's own command; its report has what a reader needs to run it again."""
    outcomes = await soak(2, 4, 20, seed, place)
    text = report(outcomes, {"seed": seed}, 1.0)
    assert f"| {seed} |" in text and "| wrong values | 0 |" in text and "| hung callers | 0 |" in text
    assert outcomes[0].breaches == []
