"""Each guard of the tier by itself, in the order in which it would be missed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lmdb
import pytest

from memgang.model import NO_USAGE, Answered, Ref
from memgang.store.host import Tier, entries
from memgang.store.host import tier as tiers
from tests.host.conftest import written

A = "a" * 32


def answer(fence: int, *, expires: int = 0, ref: str = A) -> Answered:
    return Answered(Ref("mg:" + ref), fence, expires, b"", NO_USAGE)


def body(tier: Tier, ident: str, text: bytes = b"x", *, expires: int = 0, now_ms: int = 0, since: float | None = None) -> None:
    tier.keep_body(ident, "text/plain", text, b"", expires, now_ms, time.monotonic() if since is None else since)


# ── the end of life ──────────────────────────────────────────────────────────────────────────────


async def test_what_has_ended_is_not_read_though_nobody_has_taken_it_out(tier: Tier) -> None:
    """By the server's clock as it is told; also where that has stepped back by more than a second, for nobody knows then."""
    body(tier, "a", expires=10_000, now_ms=4_000)
    tier.keep_answer("call", answer(1, expires=10_000), 4_000, time.monotonic())
    for done in (False, True):
        for now, there in ((4_000, True), (9_999, True), (10_000, False), (20_000, False), (3_000, True), (2_999, False), (1, False)):
            assert (tier.body("a", now) is not None) == there, (done, now)
            assert (tier.answer("call", now) is not None) == there, (done, now)
        await written()


async def test_what_never_ends_is_read_at_any_time(tier: Tier) -> None:
    body(tier, "a", now_ms=5_000)
    tier.keep_answer("call", answer(1), 5_000, time.monotonic())
    await written()
    for now in (0, 1, 1 << 50):
        assert tier.body("a", now) is not None and tier.answer("call", now) is not None


# ── what waits to be written ─────────────────────────────────────────────────────────────────────


async def test_what_waits_to_be_written_is_read_already_and_is_gone_when_it_is_taken_out(tier: Tier) -> None:
    """In the same turn of the loop: the newer of what waits and what is written; nothing, where it must go."""
    body(tier, "a", b"old")
    tier.keep_answer("call", answer(2), 0, time.monotonic())
    assert tier.body("a", 0)[:3] == ("text/plain", b"old", b"") and tier.holds("a")
    assert tier.answer("call", 0).fence == 2
    await written()
    assert tier._waiting == {}
    body(tier, "a", b"new")
    tier.keep_answer("call", answer(3), 0, time.monotonic())
    assert tier.body("a", 0).body == b"new" and tier.answer("call", 0).fence == 3
    tier.take_out(["a"], ["call"])
    assert tier.body("a", 0) is None and tier.answer("call", 0) is None and not tier.holds("a")
    await written()
    assert tier.body("a", 0) is None and tier.answer("call", 0) is None


async def test_an_answer_that_waits_is_overtaken_too(tier: Tier) -> None:
    tier.keep_answer("call", answer(2), 0, time.monotonic())
    tier.overtake("call", 5)
    assert tier.answer("call", 0) is None and b"=call" not in tier._waiting
    tier.keep_answer("call", answer(5), 0, time.monotonic())
    tier.overtake("call", 5)
    assert tier.answer("call", 0).fence == 5
    await written()
    tier.overtake("call", 5)  # one that is written and not older stays
    assert tier.answer("call", 0).fence == 5


async def test_who_claims_what_nobody_remembers_writes_nothing(tier: Tier) -> None:
    """Most calls have no older answer: that costs a look and no transaction."""
    before = tier.entries.env.info()["last_txnid"]
    tier.overtake("call", 5)
    assert tier.entries.env.info()["last_txnid"] == before


async def test_nothing_is_written_while_somebody_takes_something_out(tier: Tier) -> None:
    """He may have to wait for another process; the loop does not wait with him, and what was to be kept goes."""
    body(tier, "a")
    with tier._turn:
        tier.write_out()
        assert tier._waiting == {}
    assert tier.body("a", 0) is None


async def test_what_is_taken_out_while_it_is_being_written_is_not_written(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at what waits and the writing, by a thread of this process that had its turn before."""
    body(tier, "a")
    body(tier, "b")
    begin = tier.entries.number

    def late(txn: lmdb.Transaction, name: bytes, unknown: int = 0) -> int:
        tier._waiting.pop(b"a", None)
        return begin(txn, name, unknown)

    monkeypatch.setattr(tier.entries, "number", late)
    await written()
    monkeypatch.undo()
    assert tier.body("a", 0) is None and tier.body("b", 0) is not None


async def test_a_body_over_a_mebibyte_is_not_kept(tier: Tier) -> None:
    body(tier, "a", bytes(tiers.BODY_MAX))
    body(tier, "b", bytes(tiers.BODY_MAX + 1))
    await written()
    assert tier.body("a", 0) is not None and not tier.holds("b")


# ── marks ────────────────────────────────────────────────────────────────────────────────────────


async def test_an_overtaken_answer_leaves_a_mark_that_only_rises(tier: Tier) -> None:
    """Claims are told late and out of order; and what was taken out at a time stays out for questions from before."""
    asked = time.monotonic()
    tier.take_out(answers=["call"])
    tier.take_out(overtaken={"call": 7})
    tier.take_out(overtaken={"call": 5})
    tier.keep_answer("call", answer(6), 0, time.monotonic())
    await written()
    assert tier.answer("call", 0) is None
    tier.keep_answer("call", answer(8), 0, asked)
    await written()
    assert tier.answer("call", 0) is None
    tier.keep_answer("call", answer(7), 0, time.monotonic())
    await written()
    assert tier.answer("call", 0).fence == 7


async def test_a_replaced_answer_goes_and_its_successor_may_come_at_once(tier: Tier) -> None:
    """`replaced` takes out smaller fences, written or not read by anybody, and leaves no mark: a commit is not a claim."""
    tier.keep_answer("call", answer(3), 0, time.monotonic())
    await written()
    tier.take_out(replaced={"call": 3})
    assert tier.answer("call", 0).fence == 3
    tier.take_out(replaced={"call": 4})
    assert tier.answer("call", 0) is None
    tier.keep_answer("call", answer(4), 0, time.monotonic())
    await written()
    assert tier.answer("call", 0).fence == 4


async def test_marks_that_are_young_stay_when_it_is_tidied(tier: Tier) -> None:
    asked = time.monotonic()
    tier.take_out(["a"])
    tier.tidy()
    body(tier, "a", since=asked)
    await written()
    assert tier.body("a", 0) is None


READER = """
import os, sys
from pathlib import Path
from memgang.store.host.entries import Entries
entries = Entries(Path(sys.argv[1]) / "tier", 16 << 20)
reading = entries.env.begin()
reading.get(b"x")
print("reading", flush=True)
os.kill(os.getpid(), 9)
"""


async def test_the_slot_of_a_killed_reader_is_given_back_when_it_is_tidied(tier: Tier) -> None:
    """What it saw would be kept for it for ever: the map would fill with old pages."""
    child = subprocess.run([sys.executable, "-c", READER, str(tier.folder)], capture_output=True, text=True, check=False)
    assert child.stdout == "reading\n" and child.returncode == -9, child.stderr
    assert "no active readers" not in tier.entries.env.readers()
    tier.tidy()
    assert "no active readers" in tier.entries.env.readers()


# ── poison and clearing ──────────────────────────────────────────────────────────────────────────


async def test_a_poison_set_while_everything_is_cleared_stays(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process could not take something out meanwhile, which may have been kept again behind the clearing."""
    tier.flags.poisoned = 1.0
    clear = tier.entries.clear

    def meanwhile(writing: lmdb.Transaction) -> None:
        clear(writing)
        tier.flags.poisoned = 2.0

    monkeypatch.setattr(tier.entries, "clear", meanwhile)
    assert tier.clear({"a00": 1}) and tier.flags.poisoned == 2.0 and not tier.readable
    monkeypatch.undo()
    assert tier.clear({"a00": 1}) and not tier.flags.poisoned and tier.readable


async def test_what_cannot_be_cleared_or_taken_out_forbids_reading(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file system: the transaction fails."""
    def full(*_: Any, **__: Any) -> Any:
        raise lmdb.DiskError("no room")

    body(tier, "a")
    await written()
    monkeypatch.setattr(tier.entries, "remove", full)
    tier.take_out(["a"])
    assert tier.flags.poisoned and tier.body("a", 0) is None
    assert tier.clear({}) and not tier.flags.poisoned
    monkeypatch.setattr(tier.entries, "clear", full)
    assert not tier.clear({}) and tier.flags.poisoned


async def test_nobody_waits_again_for_a_writer_that_is_known_to_be_stopped(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first who must take something out waits; after that reading is forbidden anyway."""
    waited = list[float]()

    def stopped(patience_s: float) -> bool:
        waited.append(patience_s)
        return False

    monkeypatch.setattr(tier, "_may_write", stopped)
    tier.take_out(["a"])
    tier.take_out(["b"])
    monkeypatch.undo()
    assert waited == [tiers.TAKE_S, 0.0] and tier.flags.poisoned


async def test_while_it_is_poisoned_nothing_is_kept(tier: Tier) -> None:
    """It would be cleared with the rest, and a claim of that time must not be missed."""
    tier.flags.poisoned = time.monotonic()
    body(tier, "a")
    tier.keep_answer("call", answer(1), 0, time.monotonic())
    assert tier._waiting == {}
    body(tier, "b")
    tier.flags.poisoned = 0.0
    await written()
    assert not tier.holds("a") and not tier.holds("b")


async def test_what_waited_when_it_was_poisoned_is_not_written(tier: Tier) -> None:
    body(tier, "a")
    tier.flags.poisoned = time.monotonic()
    await written()
    tier.flags.poisoned = 0.0
    assert not tier.holds("a")


async def test_what_was_asked_for_before_it_was_cleared_by_another_process_is_not_written(tier: Tier) -> None:
    """It waits in this process, which has not heard of it; the word in memory says when that was."""
    body(tier, "a")
    tier.flags.cleared = time.monotonic()
    body(tier, "b", since=tier.flags.cleared + 0.001)
    await written()
    assert not tier.holds("a") and tier.holds("b")


async def test_clearing_leaves_what_is_waited_for_the_log_and_the_server_known(tier: Tier) -> None:
    body(tier, "a")
    tier.take_out(["b"], cursors={"a00": 3, "a01": 4}, lasts={"a00": b"x"})
    body(tier, "c")
    assert tier.clear({"a00": 9}, b"server")
    assert tier._waiting == {}
    assert tier.places(["a00", "a01"]) == ({"a00": tiers.Place(9, b""), "a01": tiers.Place(None, b"")}, b"server")
    assert tier.entries.sizes()["bodies"] == tier.entries.sizes()["used"] == 0


async def test_a_tier_that_is_closed_takes_and_gives_nothing(tmp_path: Path) -> None:
    tier = Tier(tmp_path, 16 << 20)
    tier.flags.live = time.monotonic() + 3600
    body(tier, "a")
    await written()
    tier.close()
    tier.close()
    assert tier.body("a", 0) is None and tier.answer("a", 0) is None and not tier.readable
    body(tier, "b")
    tier.take_out(["a"])
    tier.overtake("call", 1)
    tier.tidy()
    assert not tier.clear({}) and tier._waiting == {}


async def test_a_thread_that_reads_while_it_is_closed_finds_nothing(tier: Tier) -> None:
    """It may stand between the look at `off` and the look at the words in memory."""
    tier.flags.close()
    assert not tier.readable and tier.body("a", 0) is None


# ── room ─────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_written_again_is_the_youngest_and_is_counted_once(tmp_path: Path) -> None:
    """The oldest go, by the last writing; answers among them."""
    tier = Tier(tmp_path, 4 << 20)
    tier.flags.live = time.monotonic() + 3600
    try:
        body(tier, "first", bytes(100_000))
        tier.keep_answer("first", answer(1), 0, time.monotonic())
        await written()
        one = tier.entries.sizes()["used"]
        body(tier, "first", bytes(100_000))
        tier.keep_answer("first", answer(1), 0, time.monotonic())
        await written()
        assert tier.entries.sizes()["used"] == one
        body(tier, "second", bytes(100_000))
        tier.keep_answer("second", answer(1), 0, time.monotonic())
        await written()
        body(tier, "first", bytes(100_000))
        tier.keep_answer("first", answer(1), 0, time.monotonic())
        await written()
        number = 0
        while tier.holds("second"):
            number += 1
            body(tier, f"k{number}", bytes(100_000))
            await written()
            if tier.holds("second"):
                assert tier.holds("first")
        sizes = tier.entries.sizes()
        assert sizes["used"] <= sizes["size"] * entries.LOW and number > 10
        with tier.entries.env.begin() as reading:
            assert reading.stat(tier.entries.ages)["entries"] == sizes["bodies"] + sizes["answers"]
        assert tier.answer("second", 0) is None
    finally:
        tier.close()
