"""When an attempt at a stream is replaced: go on where the new one begins with the same, else say so; never a splice."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from memgang.errors import ModelError, StreamRestarted, WorkFailed
from memgang.model import Lead, current_work
from memgang.space import Space
from memgang.store import chunks, scripts
from memgang.streaming import RESTARTED, Attempt, Crossing
from tests.gates import Gate, until
from tests.streaming.taps import Reader, Tap, call, never

SEED = os.environ.get("MEMGANG_SEED", "")  # before the session's fixture clears the environment of MEMGANG_*
TRANSIENT = ModelError("m", "transient", "503", "later")


@pytest.fixture
async def other(opened: Callable[..., Any]) -> AsyncIterator[Space]:
    """The same space as another process would have it."""
    async with opened(lease_ms=1000, beat_ms=250, agent="other") as other:
        yield other


async def test_a_second_attempt_that_begins_with_the_same_is_gone_on_with(space: Space, other: Space) -> None:
    """The provider fails in the middle and answers the same again, cut otherwise: nobody notices."""
    tap = Tap().give("one ", "two ")
    here = await Reader(space, tap).reached(2)
    there = await Reader(other, tap).reached(2)  # either may make the second attempt
    tap.end(TRANSIENT).give("one tw", "o three ", "four").end()
    for reader in (here, there):
        assert await reader.done() == "one two three four"
        assert reader.got == ["one ", "two ", "three ", "four"]
    assert tap.runs == 2


async def test_a_second_attempt_that_begins_otherwise_ends_the_stream(space: Space, other: Space) -> None:
    """Who was delivered something else is told; who was delivered nothing yet starts over; the answer is the second's."""
    tap = Tap().give("one ", "two ")
    told = [await Reader(space, tap).reached(2), await Reader(other, tap).reached(2)]
    marked = await Reader(other, tap, restart="marker").reached(2)
    tap.end(TRANSIENT)
    await until(lambda: asyncio.sleep(0, tap.runs == 2))
    tap.give("uno ", "dos").end()
    for reader in told:
        with pytest.raises(StreamRestarted) as caught:
            await reader.done()
        assert reader.text == "one two " and caught.value.delivered == 8
    await marked.done()
    assert marked.got == ["one ", "two ", RESTARTED, "uno ", "dos"] and marked.got[2] is RESTARTED
    assert await Reader(other, never).done() == "uno dos"


async def test_an_answer_that_is_shorter_than_what_was_delivered_ends_the_stream(space: Space) -> None:
    """The second attempt ends before it has said again what the first had said."""
    tap = Tap().give("one ", "two ")
    reader = await Reader(space, tap).reached(2)
    tap.end(TRANSIENT).give("one ").end()
    with pytest.raises(StreamRestarted):
        await reader.done()


async def test_attempts_end(space: Space, other: Space) -> None:
    """Every attempt fails on the way: all readers end with the last one's error, and nothing is kept."""
    tap = Tap().give("a")
    here = await Reader(space, tap).reached(1)
    there = await Reader(other, tap).reached(1)
    tap.end(TRANSIENT).give("a").end(TRANSIENT).give("a").end(TRANSIENT)
    for reader in (here, there):
        with pytest.raises(WorkFailed, match="503"):
            await reader.done()
        assert reader.got == ["a"]
    assert tap.runs == 3


@pytest.mark.catalogue("A4")
@pytest.mark.parametrize("same", [True, False])
async def test_a_leader_that_was_overtaken_stops_and_follows(space: Space, other: Space, same: bool) -> None:
    """Its next chunk is refused: it produces no more, its readers go on with the winner's stream or are told."""
    slow = Tap().give("one ")
    late = await Reader(space, slow).reached(1)
    await overtake(space, late.stream.key)
    quick = Tap().give("one " if same else "uno ", "two")
    winner = await Reader(other, quick).reached(2)
    slow.give("too late")
    await until(lambda: asyncio.sleep(0, slow.closed == 1))
    quick.end()
    assert await winner.done() == ("one two" if same else "uno two")
    if same:  # what came before the refusal was delivered: it is not the winner's
        with pytest.raises(StreamRestarted):
            await late.done()
        assert late.got == ["one ", "too late"]
    else:
        with pytest.raises(StreamRestarted):
            await late.done()
    assert await Reader(space, never).done() == winner.text


@pytest.mark.catalogue("A7")
async def test_a_server_that_has_lost_everything_is_streamed_to_again(space: Space, other: Space) -> None:
    """Flight and chunks are gone: the leader claims again, and who was delivered the same goes on."""
    tap = Tap().give("a", "b")
    here = await Reader(space, tap).reached(2)
    there = await Reader(other, Tap().give("a", "b", "c").end()).reached(2)
    keys = space.store.keys
    await space.store.wire.call("UNLINK", keys.flight(here.stream.key), keys.at(0, f"s:{here.stream.key}"))
    tap.give("c")  # refused
    await until(lambda: asyncio.sleep(0, tap.closed == 1))
    tap.give("a", "b", "c").end()
    assert await here.done() == await there.done() == "abc"


async def test_chunks_that_the_server_has_lost_are_sent_again(space: Space, other: Space) -> None:
    """A restarted server may have lost its last second: the stream is filled up from there, and nothing comes twice."""
    tap = Tap().give("a")
    here = await Reader(space, tap).reached(1)
    there = await Reader(other, never).reached(1)
    wire, key = space.store.wire, space.store.keys.at(0, f"s:{here.stream.key}")
    before = await wire.call("DUMP", key)
    tap.give("b")
    await there.reached(2)
    assert await wire.call("RESTORE", key, 60_000, before, "REPLACE") == b"OK"
    tap.give("c").end()
    assert await here.done() == await there.done() == "abc" and there.got == ["a", "b", "c"]
    entries = await wire.call("XRANGE", key, "-", "+")
    assert [fields[1] for _, fields in entries] == [b"head", b"data", b"data", b"data", b"end"]


async def overtake(space: Space, key: str) -> None:
    """Move the lease into the past, as if the leader had been stopped for longer than it."""
    await space.store.wire.call("HSET", space.store.keys.flight(key), "until", 1)


# ── the script ────────────────────────────────────────────────────────────────────────────────


async def led(space: Space) -> tuple[Any, Lead, Callable[..., Any], asyncio.Task[Any], Gate]:
    """A lead of a call under way, and a way to append to its stream."""
    gate, leads = Gate(), list[Lead]()

    async def work() -> str:
        now = current_work.get()
        assert now is not None and now.lead is not None
        leads.append(now.lead)
        return str(await gate.then("x")())

    task = asyncio.create_task(space.recall(call(), work))
    await gate.reached()
    lead = leads[0]

    def append(seq: int, kind: chunks.Kind = "data", data: bytes = b"\x91\xa1a", **changes: Any) -> Any:
        options: dict[str, Any] = {"who": "w", "owner": lead.owner, "fence": lead.fence, "seq": seq, "kind": kind, "data": data}
        return chunks.append(space.store.wire, space.store.keys, lead.call, **options | changes)

    return space.store, lead, append, task, gate


@pytest.mark.catalogue("A4", "A8")
async def test_the_script_takes_what_comes_next_from_whoever_leads(space: Space) -> None:
    """Written, written again, a gap, a conflict, full, and lost to everybody else."""
    store, lead, append, task, gate = await led(space)
    head = str(lead.fence).encode()
    assert await append(2) == chunks.Gap(0)
    assert await append(1, "head", head) == await append(1, "head", head) == chunks.Written()
    assert await append(2) == await append(2) == await append(1, "head", head) == chunks.Written()
    assert await append(2, data=b"\x91\xa1b") == chunks.Conflict()
    assert await append(9) == chunks.Gap(2)
    assert await append(3, limit=len(head) + 4) == chunks.Full(len(head) + 3)
    assert await append(3, fence=lead.fence - 1) == await append(3, owner="other") == chunks.Lost(lead.fence)
    page = await chunks.read(store.wire, store.keys, lead.call)
    assert page == chunks.Page(lead.fence, 2, ["a"], False, False)
    assert await append(3, "end", b"", limit=1) == chunks.Written()  # there is always room for the end
    page = await chunks.read(store.wire, store.keys, lead.call, fence=lead.fence, after=2)
    assert page == chunks.Page(lead.fence, 3, [], True, False)
    assert await chunks.read(store.wire, store.keys, lead.call, fence=lead.fence + 1, after=2) is None
    await scripts.release(store.wire, store.keys, lead.call, who="w", note=b"", owner=lead.owner, fence=lead.fence)
    assert await append(4) == chunks.Lost(lead.fence)
    gate.open()
    await task


async def test_a_stream_never_outlives_its_flight(space: Space, opened: Callable[..., Any]) -> None:
    """Neither that of a leader that died, nor that of an answer with a short life: old pieces are nobody's first ones."""
    tap = Tap().give("a")
    reader = await Reader(space, tap, ttl=1).reached(1)
    wire, keys = space.store.wire, space.store.keys
    stream, flight = keys.at(0, f"s:{reader.stream.key}"), keys.flight(reader.stream.key)
    await until(lambda: wire.call("EXISTS", stream))
    left, long = await asyncio.gather(wire.call("PTTL", stream), wire.call("PTTL", flight))
    assert 0 < left <= long
    tap.end()
    await reader.done()
    assert await wire.call("PTTL", stream) <= 1000

    tap = Tap().give("b").end()
    assert await Reader(space, tap, n=1).done() == "b"
    assert 0 < await wire.call("PTTL", keys.at(0, f"s:{space.key(call(1))}")) <= 60_000


# ── comparing ─────────────────────────────────────────────────────────────────────────────────


def cut(text: str, rng: random.Random) -> list[Any]:
    """A text in pieces."""
    pieces = []
    while text:
        n = rng.randint(1, 5)
        pieces.append(text[:n])
        text = text[n:]
    return pieces


def test_a_crossing_is_made_exactly_where_the_beginning_is_the_same() -> None:
    """Against plain text, 3,000 pairs at random, the new one arriving piece by piece."""
    seed = int(SEED) if SEED else random.randrange(1 << 30)
    print(f"MEMGANG_SEED={seed}")
    rng = random.Random(seed)
    for _ in range(3000):
        old = "".join(rng.choices("ab", k=rng.randint(0, 12)))
        new = old[:rng.randint(0, 12)] + "".join(rng.choices("ab", k=rng.randint(0, 8)))
        pieces, coming = cut(old, rng), cut(new, rng)
        delivered = rng.randint(0, len(pieces))
        said = "".join(pieces[:delivered])
        attempt = Attempt(2)
        crossing = Crossing(pieces, delivered, attempt)
        same = crossing.compare()
        while same is None and coming:
            attempt.pieces.append(coming.pop(0))
            same = crossing.compare()
        if same:
            assert new.startswith(said)
            attempt.pieces += coming
            at, rest = crossing.rest()
            assert said + str(rest or "") + "".join(map(str, attempt.pieces[at:])) == new
        elif same is None:
            assert len(new) < len(said) and said.startswith(new)
        else:
            assert not new.startswith(said) and not said.startswith(new)


def test_text_is_never_the_beginning_of_bytes() -> None:
    """Two attempts of different kinds have nothing in common."""
    assert Crossing(["a"], 1, Attempt(2, [b"a"])).compare() is False
    assert Crossing(["a"], 0, Attempt(2, [b"a"])).compare() is True
