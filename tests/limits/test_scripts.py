"""The scripts of limits: what they admit, against a plain model; leases, repeats, steps of the clock."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from memgang.space import Space
from memgang.store.process import fresh
from memgang.store.quotas import Admitted, Broke, Caps, Paid, Quota, Wait

ME = Paid("me")


async def admit(space: Space, caps: Caps, ticket: str | None = None, *, tokens: int = 1, cost: int = 0, lease_ms: int = 10_000,
                paid: Paid = ME, name: str = "m", purse: str = "p") -> Any:
    return await Quota(space.store.keys, name, purse).admit(
        space.store.wire, caps, ticket or fresh(), who="t/t", lease_ms=lease_ms, tokens=tokens, cost=cost, paid=paid)


async def settle(space: Space, caps: Caps, ticket: str, how: Any = "ok", *, reserved: int = 1, used: int = 1, retry_ms: int = 0,
                 paid: Paid = ME, name: str = "m", purse: str = "p") -> int:
    return await Quota(space.store.keys, name, purse).settle(
        space.store.wire, caps, ticket, how, who="t/t", reserved=reserved, used=used, retry_ms=retry_ms, paid=paid)


async def test_the_limit_of_requests_holds_and_says_how_long_to_wait(space: Space) -> None:
    """The one too many is told to come back when the oldest leaves the window."""
    caps = Caps(requests=3, window_ms=60_000)
    assert [type(await admit(space, caps)) for _ in range(3)] == [Admitted] * 3

    fourth = await admit(space, caps)

    assert isinstance(fourth, Wait) and fourth.why == "requests" and 0 < fourth.ms <= 30_000


async def test_a_repeated_admission_takes_nothing_twice(space: Space) -> None:
    """The same ticket asked again after a lost reply is admitted still, and counts once."""
    caps = Caps(requests=2, places=2, money=100)
    for _ in range(3):
        assert isinstance(await admit(space, caps, "a", cost=40), Admitted)

    assert isinstance(await admit(space, caps, "b", cost=40), Admitted)
    assert isinstance(await admit(space, caps, "c", cost=40), Wait)


async def test_tokens_are_reserved_and_settled_to_what_was_used(space: Space) -> None:
    """What an answer did not use is free for the next call at once."""
    caps = Caps(tokens=100)
    assert isinstance(await admit(space, caps, "a", tokens=90), Admitted)
    assert isinstance(await admit(space, caps, "b", tokens=20), Wait)

    await settle(space, caps, "a", reserved=90, used=10)
    await settle(space, caps, "a", reserved=90, used=10)  # a lost reply

    assert isinstance(await admit(space, caps, "b", tokens=90), Admitted)
    assert isinstance(await admit(space, caps, "c", tokens=1), Wait)


async def test_a_place_comes_back_when_its_holder_ends_or_dies(space: Space) -> None:
    """A settled place is free at once; one whose lease has ended is too, and its late end changes nothing."""
    caps = Caps(places=1)
    assert isinstance(await admit(space, caps, "a"), Admitted)
    assert isinstance(await admit(space, caps, "b"), Wait)
    await settle(space, caps, "a")
    assert isinstance(await admit(space, caps, "b", lease_ms=1), Admitted)
    await asyncio.sleep(0.01)
    assert isinstance(await admit(space, caps, "c"), Admitted)

    await settle(space, caps, "b")

    assert isinstance(await admit(space, caps, "d"), Wait)


async def test_who_came_first_goes_first(space: Space) -> None:
    """A newcomer does not overtake those who wait; who waits no more is stepped over."""
    caps = Caps(places=1)
    await admit(space, caps, "a")
    assert isinstance(await admit(space, caps, "b"), Wait)
    assert isinstance(await admit(space, caps, "c"), Wait)
    await settle(space, caps, "a")

    behind = await admit(space, caps, "c")
    assert isinstance(behind, Wait) and behind.why == "line"
    await settle(space, caps, "b", "unsent")

    assert isinstance(await admit(space, caps, "c"), Admitted)


async def test_a_429_stops_all_until_the_time_the_provider_said(space: Space) -> None:
    """Everybody who asks is told the rest of the pause; a shorter one does not end it sooner."""
    caps = Caps()
    await admit(space, caps, "a")
    await admit(space, caps, "b")
    assert 4_000 < await settle(space, caps, "a", "limited", retry_ms=5_000) <= 5_000
    assert 4_000 < await settle(space, caps, "b", "limited", retry_ms=10) <= 5_000

    told = await admit(space, caps)

    assert isinstance(told, Wait) and told.why == "paused" and 4_000 < told.ms <= 5_000


async def test_places_are_halved_once_for_all_that_were_under_way_and_grow_back(space: Space) -> None:
    """Eight timeouts of one moment halve once; a round of successes gives one place back."""
    caps = Caps(places=8)
    for n in range(8):
        assert isinstance(await admit(space, caps, f"a{n}"), Admitted)
    for n in range(8):
        await settle(space, caps, f"a{n}", "slow")
    await asyncio.sleep(0.005)
    places = []
    for round_ in range(3):
        held = []
        while isinstance(await admit(space, caps, (ticket := f"b{round_}{len(held)}")), Admitted):
            held.append(ticket)
        await settle(space, caps, ticket, "unsent")  # leaves the line
        places.append(len(held))
        for ticket in held:
            await settle(space, caps, ticket)

    assert places == [4, 5, 6]


async def test_money_is_reserved_before_it_is_spent(space: Space) -> None:
    """What others have reserved is waited for; what cannot fit at all is refused with the figures."""
    caps = Caps(money=100)
    assert await admit(space, caps, "a", cost=60) == Admitted(40)
    assert isinstance(await admit(space, caps, "b", cost=60), Wait)
    await settle(space, caps, "a", paid=Paid("me", all=50))
    refused = await admit(space, caps, "b", cost=60, paid=Paid("me", all=50))
    assert refused == Broke("all", 50, 0, 100)

    assert await admit(space, caps, "c", cost=50, paid=Paid("me", all=50)) == Admitted(0)


async def test_money_of_one_agent_is_its_own(space: Space) -> None:
    """One agent at its limit does not stop another."""
    caps = Caps(money_of_agent=100)
    ann, bob = Paid("me", "ann"), Paid("me", "bob")
    await admit(space, caps, "a", cost=100, paid=ann)
    await settle(space, caps, "a", paid=Paid("me", "ann", 100, 100))

    assert await admit(space, caps, "b", cost=1, paid=Paid("me", "ann", 100, 100)) == Broke("agent", 100, 0, 100)
    assert isinstance(await admit(space, caps, "c", cost=100, paid=bob), Admitted)


async def test_who_waits_for_money_of_its_own_run_holds_up_nobody_else(space: Space) -> None:
    """Another run is let in past it, with what both share; more calls of the same run are not, however small."""
    caps = Caps(places=3, money=100)
    await admit(space, caps, "a", cost=60)
    large = await admit(space, caps, "large", cost=60)
    assert isinstance(large, Wait) and large.why == "money"

    small = await admit(space, caps, "small", cost=10)
    assert isinstance(small, Wait) and small.why == "money"
    assert isinstance(await admit(space, caps, "other", cost=60, purse="q"), Admitted)
    assert isinstance(await admit(space, Caps(places=3), "free", purse="z"), Admitted)


async def test_who_has_waited_for_its_own_money_keeps_its_place_in_the_line(space: Space) -> None:
    """When the money is there and no place is, it comes before those who were behind it; small calls starve no large one."""
    caps = Caps(places=1, money=100)
    await admit(space, caps, "a", cost=60)
    assert isinstance(await admit(space, caps, "large", cost=60), Wait)
    assert isinstance(await admit(space, caps, "b", cost=60, purse="q"), Wait)
    assert isinstance(await admit(space, caps, "c", cost=60, purse="z"), Wait)
    await settle(space, caps, "a", paid=Paid("me", all=10))
    assert isinstance(await admit(space, caps, "b", cost=60, purse="q"), Admitted)  # asks first
    waits = await admit(space, caps, "large", cost=60, paid=Paid("me", all=10))
    assert isinstance(waits, Wait) and waits.why == "places"
    await settle(space, caps, "b", purse="q")

    behind = await admit(space, caps, "c", cost=60, purse="z")

    assert isinstance(behind, Wait) and behind.why == "line"
    assert isinstance(await admit(space, caps, "large", cost=60, paid=Paid("me", all=10)), Admitted)


async def test_an_agent_that_waits_for_its_own_money_holds_up_no_other_agent(space: Space) -> None:
    """And none of its own calls overtakes another of them."""
    caps = Caps(money=1000, money_of_agent=100)
    ann, bob = Paid("me", "ann"), Paid("me", "bob")
    await admit(space, caps, "a", cost=60, paid=ann)
    assert isinstance(await admit(space, caps, "large", cost=60, paid=ann), Wait)

    assert isinstance(await admit(space, caps, "b", cost=100, paid=bob), Admitted)
    assert isinstance(await admit(space, caps, "small", cost=10, paid=ann), Wait)


async def test_the_money_of_a_holder_that_died_counts_as_spent_until_it_says_otherwise(space: Space) -> None:
    """The call may have been billed; a holder that was only stopped corrects the sum."""
    caps = Caps(money=100)
    await admit(space, caps, "a", cost=60, lease_ms=1)
    await asyncio.sleep(0.01)
    assert await admit(space, caps, "b", cost=60) == Broke("all", 60, 0, 100)

    await settle(space, caps, "a", paid=Paid("me", all=10))

    assert await admit(space, caps, "b", cost=60, paid=Paid("me", all=10)) == Admitted(30)


async def test_what_was_paid_is_known_again_after_the_server_lost_its_data(space: Space) -> None:
    """Payers say what they have paid in all, so that an empty server learns it with the next question."""
    caps = Caps(money=100)
    await admit(space, caps, "a", cost=60)
    await settle(space, caps, "a", paid=Paid("me", all=60))
    await space.store.wire.call("UNLINK", space.store.keys.purse("p"), space.store.keys.purse("p") + ":r")

    assert await admit(space, caps, "b", cost=60, paid=Paid("me", all=60)) == Broke("all", 60, 0, 100)


async def test_after_a_step_of_the_clock_nothing_lasts_longer_than_it_was_given_for(space: Space) -> None:
    """Instants that lie in the future, as after a step back, count as of now: pauses, leases, the window."""
    caps, keys, wire = Caps(places=1, requests=2, window_ms=300), space.store.keys, space.store.wire
    await admit(space, caps, "a", lease_ms=300)
    limit = keys.limit("m")
    hour = 3_600_000
    now = int((await wire.call("TIME"))[0]) * 1000
    await wire.call("ZADD", f"{limit}:p", now + hour, "a")
    await wire.call("HSET", f"{limit}:w300", now + hour, "2 2")
    await wire.call("HSET", limit, "pause", now + hour, "pause_span", 300)
    for key in (f"{limit}:p", f"{limit}:w300"):
        await wire.call("PERSIST", key)  # their own expiry is of the same clock, and would be an hour later too
    first = await admit(space, caps, "b")
    assert isinstance(first, Wait)

    async with asyncio.timeout(30):
        while isinstance(await admit(space, caps, "b"), Wait):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", [int(os.environ.get("MEMGANG_SEED", "0")) or random.randrange(1 << 30)])
async def test_the_window_is_that_of_a_plain_model(space: Space, seed: int) -> None:
    """Never more in any window than allowed; and never held back once a window and a grain of it have room."""
    print(f"MEMGANG_SEED={seed}")
    drawn = random.Random(seed)
    for case in range(20 if os.environ.get("MEMGANG_SOAK") else 3):
        span = drawn.choice([256, 512, 700])
        grain = span // 256
        requests, tokens = drawn.choice([0, 1, 3, 10]), drawn.choice([0, 20, 50])
        caps, name = Caps(requests=requests, tokens=tokens, window_ms=span), f"w{case}"
        taken: list[tuple[int, int, int]] = []  # earliest and latest instant of the server's clock, tokens
        wants = [drawn.randint(1, 20) for _ in range(40)]
        for want in wants:
            ticket = fresh()
            before = await server_ms(space)
            answer = await admit(space, caps, ticket, tokens=want, name=name)
            after = await server_ms(space)
            perhaps = [t for _, late, t in taken if late + grain > before - span]
            if isinstance(answer, Admitted):
                inside = [t for early, _, t in taken if early > after - span]
                assert not requests or len(inside) < requests
                assert not tokens or not inside or sum(inside) + want <= tokens
                taken.append((before, after, want))
            else:
                full = (requests and len(perhaps) >= requests) or (tokens and perhaps and sum(perhaps) + want > tokens)
                assert full, f"held back with room: {answer}"
                await settle(space, caps, ticket, "unsent", name=name)  # leaves the line
            await asyncio.sleep(drawn.random() * span / 8000)


async def server_ms(space: Space) -> int:
    seconds, micros = await space.store.wire.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
