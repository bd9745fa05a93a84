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


def change(e: str, about: str, x: str = "", **note: Any) -> Event:
    """An entry of the log of changes as an event."""
    return log._change(changed(e, about, x, **note))[0]


def test_a_commit_carries_answer_fence_and_own_usage() -> None:
    """Of a language model's call it is the end of thinking."""
    own = Usage(1, 1, 10, 5, 2, 33, 44, 55, True)
    event = change("committed", "ck", "answer 12345", fn="f", call="llm", model="m", **spent(own))
    assert (event.op, event.call, event.obj, event.fence) == ("think_end", "ck", "answer", 12345)
    assert (event.own, event.model, event.agent, event.dur_ms) == (own, "m", "ann", 44)


@pytest.mark.parametrize(("raw", "kind", "op"), [
    ("claimed", "llm", "think_start"), ("taken", "llm", "think_start"), ("claimed", "function", "lease"),
    ("released", "llm", "think_end"), ("fenced", "llm", "think_end"), ("failed", "tool", "error"),
    ("forgotten", "", "evict"), ("evicted", "", "evict"), ("expired", "", "expire"), ("put", "", "write")])
def test_changes_have_a_wider_class(raw: str, kind: str, op: str) -> None:
    """The classes pictures and folds use."""
    assert change(raw, "about", "5", call=kind).op == op


@pytest.mark.parametrize(("raw", "op"), [
    ("waits", "wait"), ("joined", "hit"), ("hit", "hit"), ("refused", "error"), ("read", "read"),
    ("began", "think_start"), ("ended", "think_end"), ("phase", "phase"), ("overhead", "agg")])
def test_reads_and_marks_have_a_wider_class(raw: str, op: str) -> None:
    """Marks of a run keep their own word."""
    assert log._batch(batched(line(raw)))[0].op == op


def test_a_put_says_whether_it_was_known_and_where_it_belongs() -> None:
    """Kind, place and parents come from the note."""
    event = change("put", "oid", "op1 known", kind="part", pos=0.5, bytes=9, src=["p1"], src_n=3)
    assert (event.obj, event.known, event.kind, event.pos) == ("oid", True, "part", 0.5)
    assert (event.src, event.src_n, event.bytes, event.own) == (("p1",), 3, 9, NO_USAGE)


def test_a_batch_becomes_one_event_for_each_line() -> None:
    """Saved usage, author, context and overhead are where they belong."""
    hit, overhead = log._batch(batched(
        line("hit", 900, [1, 1, 2, 3, 0, 4, 5, 6, 0], call="ck", obj="oid", why="hit", by="me/bob", us=1500),
        line("overhead", us=77)))
    assert (hit.at, hit.run, hit.role, hit.task, hit.by) == (900, "r1", "map", "t1", "bob")
    assert (hit.saved, hit.own, hit.dur_ms) == (Usage(1, 1, 2, 3, 0, 4, 5, 6), NO_USAGE, 1.5)
    assert (overhead.op, overhead.overhead_us) == ("agg", 77)


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
            start, stop = int(first.lstrip("(").split("-")[0]) + 1, len(entries) if last == "+" else int(last.split("-")[0])
            entries = entries[start - 1:stop][:count]
        else:
            entries = entries[::-1][:count]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(entries)
        return future


KEYS = Keys("t", 2)


def recorded() -> Wire:
    """Two shards whose logs interleave, each a few pages long when a page holds two."""
    return cast("Wire", Recorded({
        KEYS.at(0, "a"): [changed("put", "o", f"a{n} new", at=1000 + 2000 * n) for n in range(7)],
        KEYS.at(1, "a"): [changed("put", "o", f"b{n} new", at=2000 + 2000 * n) for n in range(3)],
        KEYS.at(1, "h"): [batched(line("read", 1500 + 2000 * n), line("read", 1600 + 2000 * n), at=1700 + 2000 * n)
                          for n in range(5)]}))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_all_logs_are_merged_by_time_whatever_the_page(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is lost, none repeated, and time never steps back."""
    monkeypatch.setattr(log, "PAGE", size)
    found = [event async for event in log.read(recorded(), KEYS)]
    assert len({event.id for event in found}) == len(found) == 20
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert [event.seq for event in found] == list(range(1, 21))


async def test_a_reading_goes_on_at_its_cursor() -> None:
    """Behind the cursor of a finished reading there is nothing; behind an older one, the rest."""
    wire = recorded()
    reader = log.Reader(wire, KEYS)
    whole = [event.id async for event in reader.rest()]
    assert reader.cursor == "7.0.3.5" and not [event async for event in log.read(wire, KEYS, reader.cursor)]
    rest = {event.id async for event in log.read(wire, KEYS, "2.0.3.4")}
    assert rest == {name for name in whole if name.startswith(("a.00.", "h.01.5.")) and name[:7] not in ("a.00.1.", "a.00.2.")}


async def test_the_same_change_twice_is_one_event() -> None:
    """Puts of equal op, and `fenced` of equal fence, count once: a reply was lost and the script ran again."""
    twice = [changed("put", "o", "x new"), changed("put", "o", "x new"), changed("put", "o", "y known"),
             changed("fenced", "ck", "5"), changed("fenced", "ck", "5")]
    found = [event async for event in log.read(cast("Wire", Recorded({KEYS.at(0, "a"): twice})), KEYS)]
    assert [event.raw for event in found] == ["put", "put", "fenced"]


async def test_following_hands_on_what_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line written after the end was reached arrives."""
    monkeypatch.setattr(log, "POLL_S", 0)
    lines = [changed("put", "o", "one new")]
    following = log.follow(cast("Wire", Recorded({KEYS.at(0, "a"): lines})), KEYS)
    assert (await anext(following)).id == "a.00.1.0"
    lines.append(changed("put", "o", "two new"))
    assert (await anext(following)).id == "a.00.2.0"


@pytest.mark.parametrize("text", ["1.2", "1.2.3.x", "1..2.3"])
async def test_a_cursor_of_another_space_is_refused(text: str) -> None:
    """Its number of shards does not fit, or it is no cursor at all."""
    with pytest.raises(ConfigError):
        log.Reader(recorded(), KEYS, text)
