"""The scripts on a real server do what the model does; and without any one guard they would be seen to differ."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis

from memgang.settings import Settings
from memgang.store import address as addresses
from memgang.store.scripts import assembled
from memgang.store.server import Lodging
from tests.protocol.differential import Scenario, difference
from tests.protocol.guards import GUARDS, Guard
from tests.protocol.model import MODEL, Model
from tests.protocol.served import Served

SOAK = bool(os.environ.get("MEMGANG_SOAK"))
SEED = int(os.environ.get("MEMGANG_SEED", "1"))
LENGTH = 40
SCENARIOS = 2500 if SOAK else 400  # of LENGTH calls
HUNTED = 8000  # scenarios, before a missing guard that nobody has noticed fails its test


@pytest.fixture(scope="module")
def client(private_server: dict[str, str]) -> Iterator[redis.Redis]:
    """A plain connection to the test's own server."""
    settings = Settings.load()
    lodging = Lodging.enter(settings) if settings.url is None else None
    where = lodging.address if lodging is not None else addresses.address(settings)
    client = redis.Redis(**where.redis_kwargs(), protocol=2)
    yield client
    client.close()
    if lodging is not None:
        lodging.leave()


@pytest.mark.catalogue("B5")
def test_the_scripts_do_what_the_model_does(client: redis.Redis) -> None:
    """Same replies, same keys, same messages, same ends of keys, whatever the clock does."""
    served = Served(client, list(MODEL.scripts))
    for seed in range(SEED * 1_000_000, SEED * 1_000_000 + SCENARIOS):
        told = difference(Scenario(seed, LENGTH), served)
        assert told is None, told
    print(f"{SCENARIOS * LENGTH} calls from seed {SEED}: no difference")


@pytest.mark.catalogue("B5")
@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: g.name)
def test_the_comparison_notices_when_a_script_has_lost_a_guard(client: redis.Redis, guard: Guard) -> None:
    """The script, changed in one place, runs on the test's server under a hash of its own; the product never sees it."""
    source = assembled(guard.runs)
    assert source.count(guard.lua[0]) == 1, f"{guard.runs} has changed: the mutation has to be written anew"
    served = Served(client, list(MODEL.scripts), {guard.runs: source.replace(*guard.lua)})

    noticed = next((told for seed in range(SEED, SEED + HUNTED) if (told := difference(Scenario(seed, LENGTH), served))), None)

    assert noticed is not None, f"{HUNTED * LENGTH} calls from seed {SEED} went well without it"


@pytest.mark.parametrize("guard", [g for g in GUARDS if not g.sim], ids=lambda g: g.name)
def test_the_comparison_notices_when_the_model_has_lost_a_guard(client: redis.Redis, guard: Guard) -> None:
    """Those guards that keep the contract and no invariant: the simulator is not asked about them."""
    served, model = Served(client, list(MODEL.scripts)), Model.without(*guard.model)

    def different(seed: int) -> bool:
        try:
            return difference(Scenario(seed, LENGTH, model), served) is not None
        except (KeyError, TypeError, ValueError, IndexError):
            return True  # it no longer understands what it finds

    assert any(different(seed) for seed in range(SEED, SEED + HUNTED)), f"{HUNTED * LENGTH} calls from seed {SEED} went well without it"
