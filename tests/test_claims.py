"""Claims: one of all who ask has the work, the others see who, and a dead holder's work is free again."""

from __future__ import annotations

import asyncio

import pytest

from memgang.claims import Claims
from memgang.errors import ClaimLost, ConfigError, UnknownReference
from tests.gates import until


async def test_of_many_who_claim_at_once_one_has_it(opened) -> None:
    """Twenty claims from four openers of the space: one token, and all see the same holder."""
    async with opened(agent="a") as a, opened(agent="b") as b, opened(agent="c") as c, opened(agent="d") as d:
        found = await asyncio.gather(*(Claims(space).claim("port/login") for space in (a, b, c, d) for _ in range(5)))

    assert len([claim for claim in found if claim.token]) == 1
    assert len({(claim.who, claim.since, claim.version) for claim in found}) == 1
    assert {claim.state for claim in found} == {"running"}


async def test_who_looked_before_another_claimed_does_not_claim_over_it(space) -> None:
    """Between the look and the claim of one, another claims: the first is told so, and both see one holder."""
    looked, go = asyncio.Event(), asyncio.Event()

    class Slow(Claims):
        async def _write(self, *args, **kwargs):
            looked.set()
            await go.wait()
            return await super()._write(*args, **kwargs)

    slow = asyncio.create_task(Slow(space).claim("a"))
    await looked.wait()
    with space.acting_as(agent="quick"):
        quick = await Claims(space).claim("a")
    go.set()

    assert quick.token and not (await slow).token
    assert (await slow).who == quick.who


async def test_what_came_of_it_is_told_to_who_waits(opened) -> None:
    """Whoever waits is told the outcome and its reference as soon as there is one; nobody is given the work again."""
    async with opened(agent="ana") as ana, opened(agent="ben") as ben:
        mine = await Claims(ana).claim("port/login", note="new forms")
        waiting = asyncio.create_task(Claims(ben).wait("port/login", 60))
        ref = await ana.put("the new login page")
        await Claims(ana).finish("port/login", mine.token, "two files", ref)
        seen = await waiting

        assert (seen.state, seen.outcome, seen.result, seen.note, seen.token) == ("done", "two files", ref, "new forms", "")
        assert seen.who.endswith("/ana")
        assert (await Claims(ben).claim("port/login")).state == "done"
        assert (await Claims(ben).claim("port/login", again=True)).token


async def test_a_claim_ends_by_itself(space) -> None:
    """Whoever is not heard of again loses the work, and others see who that was."""
    first = await Claims(space).claim("a", ttl="1s")

    async def over() -> bool:
        return (await Claims(space).status("a")).state == "expired"

    await until(over)
    assert (await Claims(space).status("a")).who == first.who
    with space.acting_as(agent="heir"):
        second = await Claims(space).claim("a")
    assert second.token and second.who.endswith("/heir")
    with pytest.raises(ClaimLost, match="running, by .*/heir"):
        await Claims(space).finish("a", first.token)


async def test_late_is_not_lost_while_nobody_else_has_it(space) -> None:
    """What came of it may be told after the end of the claim, as long as nobody has claimed since."""
    claim = await Claims(space).claim("a", ttl="1s")

    async def over() -> bool:
        return (await Claims(space).status("a")).state == "expired"

    await until(over)
    assert (await Claims(space).finish("a", claim.token, "late, but done")).state == "done"


async def test_the_holder_keeps_the_work_and_nobody_else(space) -> None:
    """Renewing needs the token, keeps the beginning and the note, and gives a token that works."""
    claims = Claims(space)
    first = await claims.claim("a", note="mine")
    assert not (await claims.claim("a", token="1.guess")).token

    again = await claims.claim("a", ttl="1h", token=first.token)

    assert (again.since, again.note) == (first.since, "mine")
    assert again.until > first.until
    assert (await claims.finish("a", again.token, state="given_up")).state == "given_up"
    assert (await claims.claim("a")).token


async def test_an_ended_claim_is_not_ended_twice(space) -> None:
    """A second ending is refused: what came of it stays as it was told."""
    claims = Claims(space)
    claim = await claims.claim("a")
    await claims.finish("a", claim.token, "first")

    with pytest.raises(ClaimLost, match="is not yours: it is done"):
        await claims.finish("a", claim.token, "second")
    assert (await claims.status("a")).outcome == "first"


async def test_the_token_stands_nowhere_in_the_space(space) -> None:
    """Who may read everything still cannot end somebody else's claim."""
    claim = await Claims(space).claim("a")
    record = await space.get("work/a")

    assert claim.token.partition(".")[2] not in str(record)


async def test_the_board_lists_what_there_is(space) -> None:
    """All work by prefix, free work by its own name."""
    claims = Claims(space)
    for work in ("x/one", "x/two", "y/one"):
        await claims.claim(work)

    assert [claim.work for claim in await claims.all("x/")] == ["x/one", "x/two"]
    assert (await claims.status("z")).state == "free"


async def test_waiting_ends_with_its_time(space) -> None:
    """Work that goes on is shown as it stands."""
    await Claims(space).claim("a")

    assert (await Claims(space).wait("a", 0.01)).state == "running"


async def test_nonsense_is_refused_with_a_reason(space) -> None:
    """No time to end, an impossible name, a result that is not there, a note without end."""
    claims = Claims(space)
    for wrong in ({"ttl": None}, {"ttl": "5ms"}, {"note": "x" * 3_000}):
        with pytest.raises(ConfigError):
            await claims.claim("a", **wrong)
    for name in ("", "a//b", "../a", "a b", "x/" * 20):
        with pytest.raises(ConfigError):
            await claims.claim(name)
    claim = await claims.claim("a")
    with pytest.raises(ConfigError):
        await claims.finish("a", claim.token, state="undone")  # type: ignore[arg-type]
    with pytest.raises(UnknownReference):
        await claims.finish("a", claim.token, result="mg:" + "a" * 32)  # type: ignore[arg-type]
    await space.set_name("work/b", await space.put("no claim"))
    with pytest.raises(ConfigError, match="not a claim"):
        await claims.status("b")
