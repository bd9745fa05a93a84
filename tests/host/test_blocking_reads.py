"""Code without an event loop reads what the host has in its own thread."""

from __future__ import annotations

import threading
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
