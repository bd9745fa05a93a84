"""`memgang.connect`: the same verbs without an event loop."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
from typing import Any

import pytest

import memgang
from memgang.errors import StoreUnavailable, UnknownReference


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


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_that_uses_its_parents_space_is_told_and_does_not_wait_for_ever(space_name: str) -> None:
    """The thread that would do the work is not in the child, as with a pool of processes and a space that is global."""
    with memgang.connect(space=space_name) as space:
        ref = space.put("of the parent")
        inbox, out = os.pipe()
        if (pid := os.fork()) == 0:
            signal.alarm(20)  # else a child that waits would outlive the test
            told = []
            for use in (lambda: space.get(ref), lambda: space.put("of the child"), space.close):
                try:
                    told.append(str(use()))
                except Exception as error:
                    told.append(type(error).__name__)
            with memgang.connect(space=space_name) as own:
                told.append(own.get(ref))
            os.write(out, json.dumps(told).encode() + b"\n")
            os._exit(0)
        os.close(out)
        with os.fdopen(inbox) as reader:
            line = reader.readline()
        os.waitpid(pid, 0)
        assert line and json.loads(line) == ["ConfigError", "ConfigError", "None", "of the parent"]
        assert space.get(ref) == "of the parent"


@pytest.mark.parametrize("what", ["an object", "an answer"])
def test_a_thread_that_reads_while_another_closes_the_space_has_what_it_found(
        space_name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or is told that the space is closed; never that something was None."""
    with memgang.connect(space=space_name) as space, memgang.connect(space=space_name) as other:
        double = space.once(version="1")(lambda x: 2 * x)
        read = functools.partial(space.get, other.put("text")) if what == "an object" else functools.partial(double, 21)
        value = read()
        tier = space.awaited.store.tier
        name = "body" if what == "an object" else "recalled"
        look, closing = getattr(tier, name), list[bool]()

        def closed_meanwhile(*args: Any, **words: Any) -> Any:
            found = look(*args, **words)
            monkeypatch.undo()
            closing.append(found is not None)
            space.close()
            return found

        monkeypatch.setattr(tier, name, closed_meanwhile)
        assert read() == value and closing == [True]
        with pytest.raises(StoreUnavailable, match="closed"):
            read()
