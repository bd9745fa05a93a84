"""What each line of the log of changes does to the tier of a host that was not asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from memgang.codec import TEXT, ref_of
from memgang.model import NO_USAGE, Answered, Ref
from memgang.space import Space
from tests.gates import until
from tests.host.conftest import place, written

Opened = Callable[..., Any]
A, B = "a" * 32, "b" * 32


async def logged(space: Space, *entries: tuple[str, str, str], trimmed: int = 0) -> None:
    """Lines as the scripts write them (word, about, extra), in one step; when this returns, this host has read them.

    ``trimmed``: so many before them were written, and are gone already."""
    keys, tier, client = space.store.keys, space.store.tier, space.store.sync_client()
    try:
        seq = int(client.hget(keys.at(0, "u"), "seq") or 0) + trimmed
        writing = client.pipeline(transaction=True)
        for seq, (what, about, extra) in enumerate(entries, seq + 1):
            writing.xadd(keys.at(0, "a"), {"e": what, "at": "1", "who": "u/a", "id": about, "x": extra, "n": "{}"}, id=f"{seq}-0")
        writing.hset(keys.at(0, "u"), "seq", str(seq))
        began = time.monotonic()
        writing.execute()
    finally:
        client.close()

    async def read() -> bool:
        return place(tier).seq == seq and tier.flags.live > began

    await until(read)


def kept(space: Space, *fences: int) -> None:
    """Bodies a and b, and an answer to each call named by its fence."""
    tier, now = space.store.tier, time.monotonic()
    for ident in (A, B):
        tier.keep_body(ident, "text/plain", b"x", b"", 0, 0, now)
    for fence in fences:
        tier.keep_answer(f"call{fence}", Answered(Ref("mg:" + A), fence, 0, b"", NO_USAGE), 0, now)


@pytest.mark.catalogue("B12")
@pytest.mark.parametrize("what", ["forgotten", "expired", "evicted"])
async def test_a_body_that_is_gone_at_the_server_is_gone_here(opened: Opened, what: str) -> None:
    """And no late reply brings it back; others stay."""
    async with opened() as space:
        await logged(space, ("put", B, "op new"))
        asked = time.monotonic()
        kept(space)
        await written()
        await logged(space, (what, A, "1"))
        assert not space.store.tier.holds(A) and space.store.tier.holds(B)
        space.store.tier.keep_body(A, "text/plain", b"x", b"", 0, 0, asked)
        await written()
        assert not space.store.tier.holds(A)


@pytest.mark.catalogue("B12")
@pytest.mark.parametrize(("what", "extra", "gone"), [
    ("dropped", "", (3, 5)), ("claimed", "5 10000", (3,)), ("taken", "5 10000", (3,)), ("committed", f"{B} 5", (3,)),
    ("claimed", "nonsense", ()), ("released", "9", ()), ("failed", "permanent", ()), ("died", "9", ())])
async def test_an_answer_that_is_overtaken_at_the_server_goes_here(opened: Opened, what: str, extra: str, gone: tuple[int, ...]) -> None:
    """By who claims, takes over or commits with a greater fence; what is not older stays."""
    async with opened() as space:
        await logged(space, ("put", B, "op new"))  # from here on the log is followed, and the tier not emptied any more
        kept(space, 3, 5)
        await written()
        await logged(space, *((what, f"call{fence}", extra) for fence in (3, 5)))
        assert [fence for fence in (3, 5) if space.store.tier.answer(f"call{fence}", 0) is None] == list(gone)


async def test_a_poisoned_tier_is_emptied_by_who_reads_the_log_and_good_again(opened: Opened) -> None:
    """Somebody could not take something out: whatever it was, it is gone with the rest."""
    async with opened() as space:
        tier = space.store.tier
        kept(space, 3)
        await written()
        tier.flags.poisoned = time.monotonic()

        async def good() -> bool:
            return tier.readable

        await until(good)
        assert not tier.holds(A) and tier.answer("call3", 0) is None and tier.entries.sizes()["bodies"] == 0


async def test_a_long_log_is_read_to_its_end_before_the_tier_is_good(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, however many there are."""
    from memgang.store.host import tail

    monkeypatch.setattr(tail, "PAGE", 7)
    async with opened() as space:
        await logged(space, ("put", B, "op new"))  # from here on the log is followed, and the tier not emptied any more
        kept(space)
        await written()
        await logged(space, *[("put", B, "op new")] * 50, ("forgotten", A, ""))
        assert not space.store.tier.holds(A) and space.store.tier.holds(B)


async def test_one_look_reads_all_pages(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would say that the tier is good while what it has not read yet is still in it."""
    from memgang.store.host import tail

    async with opened() as space:
        await logged(space, ("put", B, "op new"))
        monkeypatch.setattr(space.store._tail, "_ours", lambda: False)  # the thread rests while it is good
        monkeypatch.setattr(tail, "PAGE", 7)
        keys, tier, client = space.store.keys, space.store.tier, space.store.sync_client()
        seq = int(client.hget(keys.at(0, "u"), "seq"))
        with client.pipeline(transaction=True) as writing:
            for n in range(1, 51):
                writing.xadd(keys.at(0, "a"), {"e": "put", "at": "1", "id": B, "x": "op new"}, id=f"{seq + n}-0")
            writing.hset(keys.at(0, "u"), "seq", str(seq + 50))
            writing.execute()
        space.store._tail.look(client)
        assert place(tier).seq == seq + 50
        client.close()


async def test_the_line_that_was_read_last_is_not_carried_out_again(opened: Opened) -> None:
    """It is looked at with each look, to see that it is still there: what was forgotten then and put again stays."""
    async with opened() as space:
        await logged(space, ("forgotten", A, ""))
        kept(space)
        await written()
        await logged(space, ("put", B, "op new"))
        assert space.store.tier.holds(A)


async def test_marks_and_slots_are_tidied_by_who_reads_the_log(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a minute; nobody else does it."""
    async with opened() as space:
        tidied = list[int]()
        monkeypatch.setattr(space.store.tier, "tidy", lambda: tidied.append(1))
        space.store._tail._mended = time.monotonic() - 3600

        async def done() -> bool:
            return bool(tidied)

        await until(done)
        await logged(space, ("put", B, "op new"))
        assert len(tidied) == 1


async def test_a_counter_that_is_no_number_lets_nobody_say_that_the_tier_is_good(opened: Opened) -> None:
    """Somebody has written over it: what is there cannot be known to be all."""
    async with opened() as space:
        wire, keys, tier = space.store.wire, space.store.keys, space.store.tier
        right = await wire.call("HGET", keys.at(0, "u"), "seq") or b"0"
        await wire.call("HSET", keys.at(0, "u"), "seq", "many")
        try:
            async def silent() -> bool:
                return not tier.readable

            await until(silent)
        finally:
            await wire.call("HSET", keys.at(0, "u"), "seq", right)

        async def good() -> bool:
            return tier.readable

        await until(good)


async def test_whatever_befalls_one_look_the_next_is_taken(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody has thought of ends the look and not the thread: without it this host would be silent for good."""
    async with opened() as space:
        tier, failed = space.store.tier, []

        def unthought(*_: Any) -> Any:
            failed.append(1)
            raise KeyError("unthought of")

        monkeypatch.setattr(tier, "places", unthought)

        async def looked() -> bool:
            return len(failed) > 1

        await until(looked)
        monkeypatch.undo()
        since = time.monotonic()

        async def again() -> bool:
            return tier.flags.live > since

        await until(again)


async def test_lines_that_are_gone_before_they_were_read_empty_the_tier(opened: Opened) -> None:
    """Also where nothing stands any more at the place that was read last, by which it would be known."""
    async with opened() as space:
        await logged(space, ("put", B, "op new"))
        await space.store.wire.call("XTRIM", space.store.keys.at(0, "a"), "MAXLEN", 0)

        async def emptied() -> bool:
            return place(space.store.tier).line == b""

        await until(emptied)
        kept(space)
        await written()
        assert space.store.tier.holds(A)
        await logged(space, ("put", B, "op new"), trimmed=1)  # perhaps the one that was gone said that A was
        assert not space.store.tier.holds(A)


async def test_two_who_look_at_the_same_time_do_not_empty_the_tier(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has its reply when the other has read on: its page begins where the tier stood when it asked, and the log is not lost."""
    async with opened() as space:
        await logged(space, ("put", B, "op new"))
        monkeypatch.setattr(space.store._tail, "_ours", lambda: False)  # the thread rests while it is good
        tier, client, other = space.store.tier, space.store.sync_client(), space.store.sync_client()
        tier.flags.live = time.monotonic() + 60.0
        kept(space)
        await written()
        await space.put("a line more in the log")
        made, reached = client.pipeline, list[int | None]()

        def pipeline(**words: Any) -> Any:
            asking = made(**words)
            execute = asking.execute

            def overtaken() -> Any:
                reply = execute()
                space.store._tail.look(other)
                reached.append(place(tier).seq)
                return reply

            asking.execute = overtaken
            return asking

        before = place(tier).seq
        monkeypatch.setattr(client, "pipeline", pipeline)
        space.store._tail.look(client)
        assert reached == [before + 1] and tier.holds(A) and tier.holds(B)
        for one in (client, other):
            one.close()


async def test_who_reads_one_shard_takes_no_other_shard_back_to_where_it_was(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another has read on there meanwhile, and left the line that stands at its place: both go on belonging together."""
    async with opened(shards=2) as space:
        texts = {space.store.keys.shard_of(ref_of(TEXT, text.encode()).id): text for text in map(str, range(64))}
        for text in texts.values():
            await space.put(text)  # from here on both logs are followed
        monkeypatch.setattr(space.store._tail, "_ours", lambda: False)  # the thread rests while it is good
        tier, client, other = space.store.tier, space.store.sync_client(), space.store.sync_client()
        tier.flags.live = time.monotonic() + 60.0
        space.store._tail.look(client)
        kept(space)
        await written()
        made, keys, asked = client.pipeline, space.store.keys, list[int]()

        def line(shard: int) -> None:
            seq = other.hincrby(keys.at(shard, "u"), "seq", 1)
            other.xadd(keys.at(shard, "a"), {"e": "put", "at": "1", "id": B, "x": "op new"}, id=f"{seq}-0")

        def pipeline(**words: Any) -> Any:
            asking = made(**words)
            execute = asking.execute

            def overtaken() -> Any:
                reply = execute()
                if not asked:
                    asked.append(1)
                    line(1)
                    space.store._tail.look(other)
                return reply

            asking.execute = overtaken
            return asking

        line(0)
        monkeypatch.setattr(client, "pipeline", pipeline)
        space.store._tail.look(client)
        assert asked and tier.holds(A)
        space.store._tail.look(client)
        assert tier.holds(A) and tier.holds(B)
        for one in (client, other):
            one.close()


async def test_the_tier_is_as_good_as_it_was_when_the_log_was_asked_for(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the reply was there: what was forgotten in between is not in it."""
    async with opened() as space:
        await logged(space, ("put", B, "op new"))
        monkeypatch.setattr(space.store._tail, "_ours", lambda: False)  # the thread rests, while it is good
        client, asked = space.store.sync_client(), list[float]()
        made = client.pipeline

        def pipeline(**words: Any) -> Any:
            asked.append(time.monotonic())
            return made(**words)

        monkeypatch.setattr(client, "pipeline", pipeline)
        space.store.tier.flags.live = time.monotonic() - 0.1
        space.store._tail.look(client)
        assert len(asked) == 1 and asked[0] - 0.1 < space.store.tier.flags.live <= asked[0]
        client.close()
