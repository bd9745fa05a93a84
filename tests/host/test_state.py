"""What is told of a tier to who looks after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from memgang.model import Context
from memgang.store.events import EventLog
from memgang.store.host.tail import follower
from tests.gates import until
from tests.host.conftest import written


async def test_the_state_of_a_tier_tells_what_is_there_and_what_waits(opened: Callable[..., Any]) -> None:
    """Entries and bytes, who follows the log and how lately, rings of the living and of the dead; what cannot be read is said."""
    async with opened(janitor_ms=3_600_000) as space:
        store = space.store
        await space.put("x" * 5000)
        await written()
        dead = EventLog(store.wire, store.keys, flush_ms=3_600_000, flush_events=50)
        dead.keep_in(store.home.rings)
        dead.add("mark", Context("u/victim"), text="left")
        dead._ring.leave()

        async def followed() -> bool:
            return store.host_state().follower == os.getpid()

        await until(followed)
        found = store.host_state()
        assert (found.folder, found.bodies, found.answers, found.rings, found.left) == (str(store.home.folder), 1, 0, 1, 1)
        assert 5000 < found.used < found.size and found.readable and 0 <= found.read_s < 30
        store.tier.flags.poisoned = 1.0
        assert not store.host_state().readable
        folder = store.home.folder
    assert follower(folder) == 0
    async with opened(host_tier="off") as without:
        assert without.store.host_state() is None
