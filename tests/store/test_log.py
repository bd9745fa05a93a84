"""Raw entries of the logs become events, and the logs of all shards one stream."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from memgang.errors import ConfigError
from memgang.model import NO_USAGE, Event, Usage
from memgang.store import log
from memgang.store.events import spent
from memgang.store.keys import Keys
from memgang.store.wire import Wire


def changed(e: str, about: str, x: str = "", at: int = 1000, **note: Any) -> dict[bytes, bytes]:
    """An entry of the log of changes."""
    return {b"e": e.encode(), b"at": str(at).encode(), b"who": b"me/ann", b"id": about.encode(), b"x": x.encode(),
            b"n": msgspec.json.encode(note)}


def batched(*lines: list[Any], at: int = 1000) -> dict[bytes, bytes]:
    """An entry of the log of reads."""
    return {b"at": str(at).encode(), b"who": b"me/ann", b"id": b"inc#1", b"x": msgspec.msgpack.encode(lines),
            b"n": msgspec.json.encode([["me/ann", "map", "r1", "t1", ""]])}


def line(what: str, at: int = 1000, usage: list[int] | None = None, **words: Any) -> list[Any]:
    """A line of a batch."""
    return [what, at, 0, words.get("obj", ""), words.get("call", ""), words.get("us", 0), words.get("size", 0),
            words.get("why", ""), usage or [], words.get("by", ""), words.get("text", ""), words.get("fn", "")]


def test_a_commit_carries_answer_fence_and_own_usage() -> None:
    """Of a language model's call it is the end of thinking."""
    own = Usage(1, 1, 10, 5, 2, 33, 44, 55, True)
    event = log.change(0, 7, changed("committed", "ck", "answer 12345", fn="f", call="llm", model="m", **spent(own)))
    assert (event.id, event.op, event.call, event.obj, event.fence) == ("a00-7-0", "think_end", "ck", "answer", 12345)
    assert (event.own, event.model, event.agent, event.dur_ms) == (own, "m", "ann", 44.0)


@pytest.mark.parametrize(("raw", "kind", "op"), [
    ("claimed", "llm", "think_start"), ("taken", "llm", "think_start"), ("claimed", "function", "lease"),
    ("failed", "llm", "think_end"), ("released", "llm", "think_end"), ("failed", "tool", "error"),
    ("forgotten", "", "evict"), ("evicted", "", "evict"), ("expired", "", "expire"), ("put", "", "write"),
    ("waits", "", "wait"), ("joined", "", "hit"), ("hit", "", "hit"), ("refused", "", "error"),
    ("began", "", "think_start"), ("ended", "", "think_end"), ("phase", "", "phase"), ("overhead", "", "agg")])
def test_words_of_the_log_have_a_wider_class(raw: str, kind: str, op: str) -> None:
    """The classes pictures and folds use."""
    assert log.op_of(raw, kind) == op


def test_a_put_says_whether_it_was_known_and_where_it_belongs() -> None:
    """Kind, place and parents come from the note."""
    event = log.change(1, 2, changed("put", "oid", "op1 known", kind="part", pos=0.5, bytes=9, src=["p1"], src_n=3))
    assert (event.id, event.obj, event.known, event.kind, event.pos) == ("a01-2-0", "oid", True, "part", 0.5)
    assert (event.src, event.src_n, event.bytes, event.own) == (("p1",), 3, 9, NO_USAGE)


def test_a_batch_becomes_one_event_for_each_line() -> None:
    """Saved usage, author, context and overhead are where they belong."""
    found = log.batch(0, 3, batched(
        line("hit", 900, [1, 1, 2, 3, 0, 4, 5, 6, 0], call="ck", obj="oid", why="hit", by="me/bob", us=1500),
        line("overhead", us=77)))
    hit, overhead = found
    assert (hit.id, hit.at, hit.run, hit.role, hit.task, hit.by) == ("h00-3-0", 900, "r1", "map", "t1", "bob")
    assert (hit.saved, hit.own, hit.dur_ms) == (Usage(1, 1, 2, 3, 0, 4, 5, 6), NO_USAGE, 1.5)
    assert (overhead.op, overhead.overhead_us, overhead.dur_ms) == ("agg", 77, 0.0)


def test_a_damaged_line_does_not_hide_the_others() -> None:
    """It becomes an event of its own."""
    found = log.batch(0, 1, batched(line("read", obj="oid"), ["read", "not a time", 0], line("read", obj="oid")))
    assert [event.raw for event in found] == ["read", "damaged", "read"]
    assert log.batch(0, 1, {b"x": b"\xc1"})[0].raw == "damaged"
    assert log.change(0, 1, {b"e": b"put", b"n": b"{"}).raw == "damaged"
    assert log.change(0, 1, changed("committed", "ck", "a 1", ms="many")).raw == "damaged"


def test_the_same_write_twice_is_one_event() -> None:
    """Entries of equal op, and `fenced` of equal fence, count once."""
    reading = log.Reading()
    puts = [log.change(0, n, changed("put", "oid", f"{op} new")) for n, op in enumerate(["x", "x", "y"])]
    late = [log.change(0, n, changed("fenced", "ck", "5")) for n in (4, 5)]
    assert [reading.take(event) for event in puts + late] == [True, False, True, True, False]
    assert puts[0].text == ""  # the op is nothing to show


def test_a_wait_knows_whose_work_it_waits_for() -> None:
    """The leader comes from the call's claim."""
    reading = log.Reading()
    reading.take(log.change(0, 1, changed("claimed", "ck", "5", fn="f", call="llm")))
    wait, gone = Event(raw="waits", op="wait", call="ck"), Event(raw="released", op="released", call="ck")
    assert reading.take(wait) and reading.take(gone)
    assert (wait.by, wait.fn, gone.op) == ("ann", "f", "think_end")


class Recorded:
    """A wire that answers XRANGE and XREVRANGE from lists, as the server does."""

    def __init__(self, logs: dict[str, list[dict[bytes, bytes]]]) -> None:
        self.logs = logs

    def call(self, *command: Any) -> asyncio.Future[Any]:
        """The entries asked for."""
        name, key, first, last, _, count = command
        entries = [[f"{n}-0".encode(), [w for pair in fields.items() for w in pair]]
                   for n, fields in enumerate(self.logs.get(key, []), 1)]
        if name == "XRANGE":
            start, stop = int(first.split("-")[0]), len(entries) if last == "+" else int(last.split("-")[0])
            entries = entries[start - 1:stop][:count]
        else:
            entries = entries[::-1][:count]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(entries)
        return future


KEYS = Keys("t", 2)


def recorded() -> Wire:
    """Two shards whose logs overlap in time, each a few pages long when a page holds two; batches span other lines."""
    return cast("Wire", Recorded({
        KEYS.at(0, "a"): [changed("put", "o", f"a{n} new", at=1000 + 2000 * n) for n in range(7)],
        KEYS.at(1, "a"): [changed("put", "o", f"b{n} new", at=9500 + 500 * n) for n in range(3)],
        KEYS.at(1, "h"): [batched(line("read", 2300 + 2000 * n), line("read", 3100 + 2000 * n), at=3150 + 2000 * n)
                          for n in range(5)]}))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_all_logs_are_merged_by_time_whatever_the_page(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is lost, none repeated, and time never steps back."""
    monkeypatch.setattr(log, "PAGE", size)
    found = [event async for event in log.read(recorded(), KEYS)]
    assert len({event.id for event in found}) == len(found) == 20
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert [event.seq for event in found] == list(range(1, 21))


async def test_a_reading_goes_on_at_its_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """From any page's cursor the rest comes, and nothing between is lost; from the last, nothing."""
    monkeypatch.setattr(log, "PAGE", 2)
    wire = recorded()
    found = [page async for page in log.pages(wire, KEYS)]
    whole = {event.id for page in found for event in page.events}
    before: set[str] = set()
    for page in found:
        before |= {event.id for event in page.events}
        assert before | {event.id async for event in log.read(wire, KEYS, page.cursor)} == whole
    assert found[-1].cursor == await log.end(wire, KEYS) == "7-0-3-5"
    assert not [event async for event in log.read(wire, KEYS, found[-1].cursor)]


async def test_a_reading_ends_where_it_is_told() -> None:
    """`until` is a cursor; what is behind it stays away."""
    found = [event async for event in log.read(recorded(), KEYS, "1-0-0-0", "3-0-0-1")]
    assert sorted(event.id for event in found) == ["a00-2-0", "a00-3-0", "h01-1-0", "h01-1-1"]


async def test_following_hands_on_what_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line written after the end was reached arrives."""
    monkeypatch.setattr(log, "POLL_S", 0)
    lines = [changed("put", "o", "one new")]
    following = log.follow(cast("Wire", Recorded({KEYS.at(0, "a"): lines})), KEYS)
    assert (await anext(following)).id == "a00-1-0"
    lines.append(changed("put", "o", "two new"))
    assert (await anext(following)).id == "a00-2-0"


def test_a_cursor_of_another_space_is_refused() -> None:
    """Its number of shards does not fit, or it is no cursor at all."""
    assert log.parse_cursor("", 2) == [0, 0, 0, 0]
    for text in ("1-2", "1-2-3-x", "1--2-3"):
        with pytest.raises(ConfigError):
            log.parse_cursor(text, 2)
