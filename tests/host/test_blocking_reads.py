"""Code without an event loop reads what the host has in its own thread."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

import memgang
from memgang.blocking import BlockingSpace


def test_a_read_of_what_is_at_hand_is_no_turn_of_the_loop_and_is_logged(space_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads, a thousand reads each: all right, all in the log."""
    with memgang.connect(space=space_name, agent="tester") as space:
        refs = [space.put(f"text {i}") for i in range(20)]
        space.get(refs[-1])

        def no_turn(*_: Any) -> None:
            raise AssertionError("it asked the loop")

        monkeypatch.setattr(BlockingSpace, "_wait", no_turn)
        wrong: list[Any] = []

        def read() -> None:
            for i in range(1000):
                if (found := space.get(refs[i % 20])) != f"text {i % 20}":
                    wrong.append(found)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        monkeypatch.undo()
        assert wrong == []
        assert sum(event.raw == "read" for event in space.events()) == 8001


def test_an_answer_at_hand_is_no_turn_of_the_loop_and_is_logged(space_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads, plain and async functions, defaults and keywords: all right, nothing computed again, every hit in the log."""
    with memgang.connect(space=space_name, agent="tester") as space:
        made = Counter[str]()

        @space.once
        def plain(number: int, more: str = "!") -> str:
            made["plain"] += 1
            return f"text {number}{more}"

        @space.once(ttl="1h", version="2")
        async def awaited(number: int) -> dict[str, int]:
            made["awaited"] += 1
            return {"number": number}

        for i in range(10):
            plain(i), awaited(i)
        space.get(space.put("the log is written to here"))

        def no_turn(*_: Any) -> None:
            raise AssertionError("it asked the loop")

        monkeypatch.setattr(BlockingSpace, "_wait", no_turn)
        wrong: list[Any] = []

        def ask() -> None:
            for i in range(100):
                n = i % 10
                found = plain(n), plain(n, "!"), plain(number=n), awaited(n)
                if found != (f"text {n}!", f"text {n}!", f"text {n}!", {"number": n}):
                    wrong.append(found)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        monkeypatch.undo()
        assert wrong == [] and made == {"plain": 10, "awaited": 10}
        hits = [event for event in space.events() if event.raw == "hit"]
        assert len(hits) == 8 * 400 and all(event.saved.calls == 1 and event.who.endswith("/tester") and event.call for event in hits)
        assert space.stats()["hits"] == 8 * 400


@pytest.mark.parametrize("options", [{"sample": "fresh"}, {"mode": "refresh"}, {"mode": "private"}, {"refresh_early": 0.5}])
def test_whoever_wants_more_than_the_answer_at_hand_asks_the_loop(
    space_name: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """What is to be computed anew, or may have to be, is not answered in passing."""
    with memgang.connect(space=space_name) as space:
        def work() -> str:
            return "done"

        asked, wait = [], BlockingSpace._wait
        space.once(work, version="1")()
        other = space.once(work, version="1", ttl="1h", **options)

        def counted(blocking: BlockingSpace, coroutine: Any) -> Any:
            asked.append(coroutine)
            return wait(blocking, coroutine)

        monkeypatch.setattr(BlockingSpace, "_wait", counted)
        assert other() == "done" and len(asked) == 1


def test_with_a_strict_audit_a_hit_is_written_before_it_returns(space_name: str) -> None:
    """So it is not taken in the caller's thread."""
    with memgang.connect(space=space_name, audit="strict") as space, memgang.connect(space=space_name) as witness:
        work = space.once(lambda: "done", version="1")
        work(), work()
        assert [event.raw for event in witness.events()].count("hit") == 1
