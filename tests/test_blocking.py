"""`memgang.connect`: the same verbs without an event loop."""

from __future__ import annotations

import threading

import pytest

import memgang
from memgang.errors import UnknownReference


def test_a_blocking_space_does_what_the_other_does(space_name: str) -> None:
    """Put, get, names, history, find, events, forget, from plain code."""
    with memgang.connect(space=space_name, agent="plain") as space:
        ref = space.put({"a": 1}, name="n/x", tags=["t"])
        assert space.get("n/x") == {"a": 1} and space.resolve(ref[:12]) == ref
        assert [v.ref for v in space.history("n/x")] == [ref] and space.names() == {"n/x": ref}
        assert [o.ref for o in space.find(tag="t").objects] == [ref]
        assert {e.raw for e in space.events()} >= {"put", "read", "named"}
        assert space.forget(ref)
        with pytest.raises(UnknownReference):
            space.get(ref)


def test_threads_share_one_computation(space_name: str) -> None:
    """Ten threads ask at once; the plain function runs once."""
    runs: list[int] = []
    barrier = threading.Barrier(10)
    with memgang.connect(space=space_name) as space:

        @space.once(version="1")
        def slow(x: int) -> int:
            runs.append(x)
            return x * 2

        got: list[int] = []

        def ask() -> None:
            barrier.wait()
            got.append(slow(21))

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert got == [42] * 10 and runs == [21]
