"""Streams joined in flight: everybody is delivered the same, from the first piece on, and only what is whole is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from memgang.errors import CodecError, ConfigError, ModelError, StoreUnavailable, WorkFailed
from memgang.space import Space
from memgang.store import chunks, scripts
from tests.gates import Gate, ready, until
from tests.streaming.taps import Reader, Tap, call, never

QUICK = {"lease_ms": 1000, "beat_ms": 250, "poll_ms": 100}


@pytest.fixture
async def other(opened: Callable[..., Any]) -> AsyncIterator[Space]:
    """The same space as another process would have it: with connections, flights and feeds of its own."""
    async with opened(lease_ms=1000, beat_ms=250, agent="other") as other:
        yield other


async def test_everybody_is_delivered_every_piece_from_the_first_one_on(space: Space, other: Space) -> None:
    """Here and elsewhere, early and late: the same pieces, of one run, while it runs."""
    tap = Tap().give("one ", "two ")
    early = await Reader(space, tap).reached(2)
    here, there = Reader(space, never), Reader(other, never)
    await here.reached(2)
    await there.reached(2)
    late = Reader(other, never)
    await late.reached(2)
    tap.give("three").end()
    for reader in (early, here, there, late):
        assert await reader.done() == "one two three"
        assert reader.got == ["one ", "two ", "three"]
    assert tap.runs == 1
    assert [r.stream.recalled.how for r in (early, here, there, late) if r.stream.recalled] == ["computed", *["joined"] * 3]


async def test_what_was_streamed_is_an_answer_like_any_other(space: Space, other: Space) -> None:
    """Recall finds it, a later stream is given it in one piece, and one who recalls while it runs gets it at the end."""
    tap = Tap().give("a", "b")
    first = await Reader(space, tap).reached(2)
    waiting = asyncio.create_task(other.recall(call(), ready("never")))
    tap.end()
    assert await first.done() == "ab"
    assert await (await waiting).value() == "ab"
    hit = await other.recall(call(), ready("never"))
    assert hit.how == "hit" and await hit.value(str) == "ab"
    again = Reader(other, never)
    assert await again.done() == "ab" and again.got == ["ab"]
    assert again.stream.recalled is not None and again.stream.recalled.ref == hit.ref


async def test_a_stream_joins_work_that_does_not_stream(space: Space, other: Space) -> None:
    """A plain recall leads: its readers are given the answer when it is there."""
    gate = Gate()
    work = asyncio.create_task(space.recall(call(), gate.then("the answer")))
    await gate.reached()
    here, there = Reader(space, never), Reader(other, never)
    gate.open()
    assert await here.done() == await there.done() == "the answer" == await (await work).value()


async def test_bytes_are_streamed_as_bytes_and_empty_pieces_are_dropped(space: Space, other: Space) -> None:
    """Pieces keep their type on the way, also where one is larger than a batch."""
    large = bytes(range(256)) * 1000
    tap = Tap().give(b"\x00\xff", b"")
    here = await Reader(space, tap).reached(1)
    there = Reader(other, never)
    await there.reached(1)
    tap.give(large, b"end").end()
    assert await here.done() == await there.done() == b"\x00\xff" + large + b"end"
    assert here.got == there.got == [b"\x00\xff", large, b"end"]


async def test_a_stream_without_a_piece_is_an_empty_answer(space: Space, other: Space) -> None:
    """Nothing is delivered, and the answer is an empty text."""
    assert await Reader(space, Tap().end()).done() == "" == await Reader(other, never).done()


@pytest.mark.parametrize("piece", [1, None, b"bytes after text"])
async def test_a_piece_of_another_kind_ends_the_stream(space: Space, piece: Any) -> None:
    """It is the producer's own mistake, and nothing is kept."""
    with pytest.raises(CodecError):
        await Reader(space, Tap().give("text", piece).end()).done()
    assert (await space.recall(call(), ready("x"))).how == "computed"


async def test_an_answer_that_is_no_text_cannot_be_streamed(space: Space) -> None:
    """What was recalled as a record is not cut into pieces."""
    await space.recall(call(), ready({"a": 1}))
    with pytest.raises(CodecError, match="recall it instead"):
        await Reader(space, never).done()


async def test_a_policy_that_does_not_exist_is_refused(space: Space) -> None:
    """At once, not at the first restart."""
    with pytest.raises(ConfigError, match="restart='again'"):
        space.stream(call(), never, restart="again")


@pytest.mark.catalogue("C10")
async def test_a_failure_on_the_way_keeps_nothing_and_reaches_everybody(space: Space, other: Space) -> None:
    """A permanent error: those who follow here and elsewhere end with it, and there is no answer."""
    tap = Tap().give("half of ")
    readers = [await Reader(space, tap).reached(1)]
    readers += [await Reader(space, never).reached(1), await Reader(other, never).reached(1)]
    tap.end(ModelError("m", "permanent", "400", "refused"))
    for reader in readers:
        with pytest.raises(WorkFailed, match="400"):
            await reader.done()
        assert reader.got == ["half of "]
    assert (await space.stats()).get("executions", 0) == 0


async def test_the_callers_own_fault_is_not_shared(space: Space, other: Space) -> None:
    """The leader's key is refused: it is told so, and the next one tries with its own."""
    bad, good = Tap().give("one "), Tap()
    first = await Reader(space, bad).reached(1)
    readers = [await Reader(space, good).reached(1), await Reader(other, good).reached(1)]
    bad.end(ModelError("m", "caller", "401", "no"))
    with pytest.raises(ModelError, match="401"):
        await first.done()
    good.give("one ", "two").end()
    for reader in readers:
        assert await reader.done() == "one two"
    assert good.runs == 1


async def test_a_slow_reader_holds_up_nobody(space: Space) -> None:
    """One that takes its time is delivered the same, from the shared list, after all others have ended."""
    tap = Tap()
    slow = space.stream(call(), tap)
    tap.give("0")
    got = [await anext(slow)]
    quick = Reader(space, never)
    tap.give(*map(str, range(1, 500))).end()
    assert await quick.done() == "".join(map(str, range(500)))
    async for piece in slow:
        got.append(piece)
    assert "".join(got) == quick.text and len(got) == 500


@pytest.mark.parametrize("policy", ["finish", "cancel"])
async def test_a_reader_that_leaves_is_not_missed(opened: Callable[..., Any], policy: str) -> None:
    """Others go on; when the last one has left, the setting decides whether the work is finished."""
    async with opened(**QUICK, on_abandon=policy) as space:
        tap = Tap().give("a")
        readers = [await Reader(space, tap).reached(1), await Reader(space, never).reached(1), await Reader(space, never).reached(1)]
        readers[0].task.cancel()  # the one who opened it
        await asyncio.wait([readers[0].task])
        tap.give("b")
        await readers[1].reached(2)
        readers[1].task.cancel()
        await readers[2].reached(2)
        assert tap.closed == 0
        readers[2].task.cancel()
        await asyncio.wait([readers[2].task])
        if policy == "cancel":
            await until(lambda: asyncio.sleep(0, tap.closed == 1))
            assert await Reader(space, Tap().give("x").end()).done() == "x"
        else:
            tap.give("c").end()
            assert await Reader(space, never).done() == "abc"


async def test_a_reader_may_break_off_and_come_back(space: Space) -> None:
    """Leaving a loop early leaves the stream; coming back begins at its first piece."""
    tap = Tap().give("a", "b")
    async for piece in space.stream(call(), tap):
        assert piece == "a"
        break
    back = Reader(space, never)
    await back.reached(2)
    tap.give("c").end()
    assert await back.done() == "abc" and tap.runs == 1


async def test_a_stream_over_the_limit_is_followed_by_its_object(
    space: Space, other: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere the pieces stop at the limit, and the rest comes with the answer; here nothing changes."""
    send = chunks.append

    async def small(*args: Any, **options: Any) -> chunks.Appended:
        return await send(*args, **{**options, "limit": 100})

    monkeypatch.setattr(chunks, "append", small)
    tap = Tap().give("x" * 60)
    here = await Reader(space, tap).reached(1)
    there = Reader(other, never)
    await there.reached(1)
    tap.give("y" * 60)
    await here.reached(2)
    tap.give("z" * 60).end()
    assert await here.done() == await there.done() == "x" * 60 + "y" * 60 + "z" * 60
    assert here.got == ["x" * 60, "y" * 60, "z" * 60] and there.got == ["x" * 60, "y" * 60 + "z" * 60]


@pytest.mark.catalogue("A8")
async def test_every_chunk_sent_twice_is_in_the_stream_once(
    space: Space, other: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that was lost makes the wire repeat the command; nobody is delivered a piece twice."""
    send, sent = chunks.append, 0

    async def twice(*args: Any, **options: Any) -> chunks.Appended:
        nonlocal sent
        sent += 1
        assert await send(*args, **options) == await send(*args, **options) == chunks.Written()
        return chunks.Written()

    monkeypatch.setattr(chunks, "append", twice)
    tap = Tap().give("a")
    here = await Reader(space, tap).reached(1)
    there = Reader(other, never)
    for n, piece in enumerate("bcdefg", 2):
        tap.give(piece)
        await there.reached(n)
    key = space.store.keys.at(0, f"s:{here.stream.key}")
    tap.end()
    assert await here.done() == await there.done() == "abcdefg" and there.got == list("abcdefg")
    assert await space.store.wire.call("XLEN", key) == sent


async def test_the_end_of_a_stream_travels_with_its_last_pieces(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leads waits for both before it commits: one round trip, not two."""
    send, order = chunks.append, list[str]()

    async def noted(*args: Any, **options: Any) -> chunks.Appended:
        order.append(f"{options['kind']} sent")
        try:
            return await send(*args, **options)
        finally:
            order.append(f"{options['kind']} there")

    monkeypatch.setattr(chunks, "append", noted)
    assert await Reader(space, Tap().give("a" * chunks.BATCH_BYTES, "b").end()).done() == "a" * chunks.BATCH_BYTES + "b"

    assert order == ["head sent", "head there", "data sent", "end sent", "data there", "end there"]


async def test_an_end_that_overtakes_the_last_pieces_is_sent_again(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are under way at once; the server takes no entry before the one in front of it."""
    send, sent = chunks.append, list[tuple[str, chunks.Appended]]()

    async def crossed(*args: Any, **options: Any) -> chunks.Appended:
        kind = options["kind"]
        if kind == "data" and not any(known == "end" for known, _ in sent):
            await overtaken.wait()
        sent.append((kind, await send(*args, **options)))
        if kind == "end":
            overtaken.set()
        return sent[-1][1]

    overtaken = asyncio.Event()
    monkeypatch.setattr(chunks, "append", crossed)
    assert await Reader(space, Tap().give("a", "b").end()).done() == "ab"

    assert [kind for kind, _ in sent] == ["head", "end", "data", "end"]
    assert sent[1][1] == chunks.Gap(1) and sent[2][1] == sent[3][1] == chunks.Written()


async def test_a_late_reader_is_given_page_after_page(space: Space, other: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is longer than what is read at once, joined near its end."""
    monkeypatch.setattr(chunks, "PAGE", 3)
    monkeypatch.setattr(chunks, "ENTRY_BYTES", 4)
    words = [f"{n:03} " for n in range(40)]
    tap = Tap().give(*words)
    here = await Reader(space, tap).reached(40)
    there = await Reader(other, never).reached(40)
    tap.give("end").end()
    assert await here.done() == await there.done() == "".join(words) + "end"
    assert there.got == [*words, "end"]


async def test_a_wake_up_that_is_lost_is_made_good_by_the_poll(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No message arrives at all: pieces are found by asking."""
    async with opened(**QUICK) as space, opened(**QUICK, agent="other") as other:
        monkeypatch.setattr(other.store.wakeups, "_heard", lambda message: None)
        monkeypatch.setattr("memgang.store.wakeups.CONFIRM_S", 0.05)
        tap = Tap().give("a")
        here = await Reader(space, tap).reached(1)
        there = await Reader(other, never).reached(1)
        tap.give("b")
        await there.reached(2)
        tap.give("c").end()
        assert await here.done() == await there.done() == "abc"


async def test_pieces_are_heard_of_and_wake_nobody_else(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader elsewhere need not poll; one who only recalls is not made to ask again for each batch."""
    slow = {"lease_ms": 60_000, "beat_ms": 10_000, "poll_ms": 60_000}
    async with opened(**slow) as space, opened(**slow, agent="other") as other, opened(**slow, agent="third") as third:
        tap = Tap().give("0")
        here = await Reader(space, tap).reached(1)
        claim, claims = scripts.claim, 0

        async def counted(*args: Any, **options: Any) -> Any:
            nonlocal claims
            claims += 1
            return await claim(*args, **options)

        monkeypatch.setattr(scripts, "claim", counted)
        waiting = asyncio.create_task(third.recall(call(), ready("never")))
        there = await Reader(other, never).reached(1)
        await until(lambda: asyncio.sleep(0, claims >= 4))  # each asks, listens, and asks again
        for n in range(1, 30):
            tap.give(str(n))
            await there.reached(n + 1)
        assert claims < 15  # and perhaps once more when its connection was there
        tap.end()
        assert await here.done() == await there.done() == await (await waiting).value() == "".join(map(str, range(30)))


async def test_what_no_leader_has_written_is_not_delivered(space: Space, other: Space) -> None:
    """Damaged chunks are no pieces: who follows is given the answer."""
    tap = Tap().give("a")
    here = await Reader(space, tap).reached(1)
    key = space.store.keys.at(0, f"s:{here.stream.key}")
    wire = space.store.wire
    await until(lambda: wire.call("EXISTS", key))
    await wire.call("XADD", key, "1000-0", "k", "data", "d", b"\xc1 no msgpack")
    await wire.call("XADD", key, "1001-0", "k", "data", "d", b"\x91\x01")
    there = Reader(other, never)
    tap.give("b").end()
    assert await here.done() == await there.done() == "ab"


async def test_without_a_server_a_stream_is_made_here_and_marked(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of this process share it; nothing is remembered, and the reader can see that."""

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    tap = Tap().give("a")
    with monkeypatch.context() as patched:
        patched.setattr("memgang.store.scripts.claim", away)
        readers = [await Reader(space, tap).reached(1), await Reader(space, never).reached(1)]
        assert all(reader.stream.degraded for reader in readers)
        tap.give("b").end()
        for reader in readers:
            assert await reader.done() == "ab" and reader.stream.degraded
    assert await Reader(space, Tap().give("c").end()).done() == "c"


async def test_a_server_that_takes_no_chunks_does_not_stop_the_leader(
    space: Space, other: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who follow elsewhere are given the answer at the end."""

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(chunks, "append", away)
    tap = Tap().give("a")
    here = await Reader(space, tap).reached(1)
    there = Reader(other, never)
    tap.give("b").end()
    assert await here.done() == await there.done() == "ab" and there.got == ["ab"]


async def test_closing_the_space_ends_its_streams(opened: Callable[..., Any]) -> None:
    """Readers are told, the producer is closed, and others need not wait for the lease."""
    tap = Tap().give("a")
    async with opened(lease_ms=60_000, beat_ms=10_000, agent="b") as other:
        async with opened(lease_ms=60_000, beat_ms=10_000) as space:
            reader = await Reader(space, tap).reached(1)
            there = await Reader(other, Tap().give("a", "b").end()).reached(1)
        with pytest.raises(StoreUnavailable):
            await reader.done()
        assert tap.closed == 1
        assert await there.done() == "ab" and there.got == ["a", "b"]
