"""Every state of a small world keeps the invariants; without a guard, one of them does not."""

from __future__ import annotations

import os

import pytest

from tests.protocol.exhaustive import Broken, Search
from tests.protocol.guards import GUARDS, Guard
from tests.protocol.model import MODEL, Model

SOAK = bool(os.environ.get("MEMGANG_SOAK"))
# What the search must see gone: the guards that hold I1 to I6 up without steps of the clock.
HELD_UP = (
    "prelude: owner and fence compared", "claim: nobody leads beside a living lease", "claim: fence above that of a lost record",
    "beat: only who holds it", "commit: only who holds it", "fail: only who holds it", "release: only who leads",
)


@pytest.mark.catalogue("B9")
@pytest.mark.parametrize("losses", [0, 1] if SOAK else [0])
def test_all_states_of_two_leaders_a_follower_a_crash_and_a_restart(losses: int) -> None:
    """Breadth first, up to renaming, to the last state."""
    search = Search(MODEL, leaders=2, followers=1, crashes=1, restarts=1, losses=losses)
    states = search.run()

    print(f"{states:,} states, {search.edges:,} edges")
    assert states > 10_000


@pytest.mark.catalogue("B9")
@pytest.mark.parametrize("guard", [g for g in GUARDS if g.name in HELD_UP], ids=lambda g: g.name)
def test_the_search_finds_the_state_that_a_missing_guard_allows(guard: Guard) -> None:
    """The search can fail."""
    with pytest.raises(Broken):
        Search(Model.without(*guard.model), leaders=2, followers=0, crashes=1, restarts=1, losses=0, most=60_000).run()
