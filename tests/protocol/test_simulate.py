"""The protocol under seeded misfortune: no schedule breaks an invariant, and without any one guard some schedule does."""

from __future__ import annotations

import os

import pytest

from tests.protocol.guards import GUARDS, Guard
from tests.protocol.model import Model
from tests.protocol.simulate import hunt, simulate, try_one

SOAK = bool(os.environ.get("MEMGANG_SOAK"))
SEED = int(os.environ.get("MEMGANG_SEED", "1"))
SCHEDULES = 1_000_000 if SOAK else 100_000
HUNTED = 300_000  # schedules after which a missing guard that nobody has noticed fails its test


@pytest.mark.catalogue("B4")
def test_no_schedule_breaks_an_invariant() -> None:
    """Interleavings, lost requests and replies, repeats, pauses, deaths, restarts and steps of the clock."""
    failed = simulate(SCHEDULES, SEED)

    assert not failed, f"replay with: python -m tests.protocol.simulate --replay {failed[0]}"


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    """What failed once can be looked at."""
    first, second = list[str](), list[str]()
    for seed in range(SEED, SEED + 20):
        try_one(seed, trace=first.append)
        try_one(seed, trace=second.append)

    assert first == second and len(first) > 100


@pytest.mark.catalogue("B4")
@pytest.mark.parametrize("guard", [g for g in GUARDS if g.sim], ids=lambda g: g.name)
def test_the_simulator_notices_when_a_guard_is_gone(guard: Guard) -> None:
    """A guard nobody would miss protects nothing, or nobody looks."""
    noticed = hunt(range(SEED, SEED + HUNTED), Model.without(*guard.model))

    assert noticed is not None, f"{HUNTED} schedules from seed {SEED} went well without it"
    print(f"{guard.name}: seed {noticed[0]}: {noticed[1]}")
