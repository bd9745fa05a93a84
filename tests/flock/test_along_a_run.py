"""What the pages say of a run along its time, and of what came from what."""

from __future__ import annotations

from typing import Any

from memgang.flock.descent import children, critical_path, down, up
from memgang.flock.fold import Fold
from memgang.flock.spans import growth, spans


def put(t: int, obj: str, src: str = "", ring: str = "map", agent: str = "a") -> dict[str, Any]:
    """A write, made from the objects whose names stand in src."""
    return {"t": t, "op": "write", "raw": "put", "agent": agent, "obj": obj, "ring": ring, "src": list(src)}


def fold_of(*records: dict[str, Any]) -> Fold:
    """The fold of these records."""
    fold = Fold()
    for rec in records:
        fold.apply(rec)
    return fold


CHAIN = (put(10, "s", ring="src"), put(12, "z", ring="src"), put(50, "m", "s"), put(90, "n", "z"), put(95, "f", "mn"),
         put(99, "r", "fs", ring="ans"))


def test_an_object_knows_what_it_rests_on_and_what_rests_on_it() -> None:
    """With the number of steps, the shortest where there are two ways."""
    fold = fold_of(*CHAIN)
    assert up(fold, "r") == {"f": 1, "s": 1, "m": 2, "n": 2, "z": 3}
    assert down(fold, "z") == {"n": 1, "f": 2, "r": 3} == down(fold, "z", children(fold))
    assert up(fold, "s") == {} and down(fold, "r") == {} and up(fold, "nowhere") == {}


def test_the_critical_path_goes_from_the_answer_to_the_parent_that_came_last() -> None:
    """The answer waited for f, f for n (not m, which was there long before), n for z; the times add up to the whole."""
    path = critical_path(fold_of(*CHAIN))
    assert [step.light.id for step in path] == ["z", "n", "f", "r"]
    assert [step.after_ms for step in path] == [12, 78, 5, 4] and sum(step.after_ms for step in path) == 99
    assert [step.light.id for step in critical_path(fold_of(*CHAIN), "m")] == ["s", "m"]
    assert critical_path(Fold()) == []


def test_a_circle_of_equal_content_ends() -> None:
    """Who writes what is there already may have made it from what came of it; the first writer's word is kept."""
    fold = fold_of(put(5, "a"), put(6, "b", "a"), put(7, "a", "b"))
    assert [step.light.id for step in critical_path(fold, "b")] == ["a", "b"]
    assert up(fold, "b") == {"a": 1} and up(fold_of(put(5, "a", "b"), put(6, "b", "a")), "a") == {"b": 1}


def test_spans_say_who_did_what_from_when_to_when() -> None:
    """A wait is as long as the hit that ended it says; what fails is red; what has not ended goes on to the last record."""
    found = spans([
        {"t": 0, "op": "think_start", "raw": "claimed", "agent": "a", "call": "k", "fn": "m"},
        {"t": 30, "op": "think_end", "raw": "committed", "agent": "a", "call": "k", "obj": "o"},
        {"t": 40, "op": "hit", "raw": "joined", "agent": "b", "call": "k", "ms": 25.0, "by": "a"},
        {"t": 50, "op": "think_start", "raw": "claimed", "agent": "b", "call": "l"},
        {"t": 60, "op": "think_end", "raw": "failed", "agent": "b", "call": "l"},
        {"t": 70, "op": "lease", "raw": "claimed", "agent": "b", "call": "n"},
        {"t": 99, "op": "phase", "text": "map"}])
    assert [(s.agent, s.state, s.start, s.end) for s in found] == [
        ("a", "think", 0, 30), ("b", "wait", 15, 40), ("b", "reuse", 40, 60), ("b", "error", 50, 60), ("b", "work", 70, 99)]
    assert found[0].obj == "o" and found[1].by == "a"


def test_who_died_was_at_work_until_it_was_told_and_a_reference_is_no_reuse() -> None:
    """Not to the end of the run; and bytes that did not travel are no call that was not made."""
    found = spans([
        {"t": 0, "op": "think_start", "raw": "claimed", "agent": "a", "call": "k"},
        {"t": 5, "op": "error", "raw": "died", "agent": "b", "call": "k"},
        {"t": 7, "op": "hit", "raw": "reference", "agent": "b", "obj": "o"},
        {"t": 900, "op": "phase", "text": "map"}])
    assert [(s.agent, s.state, s.start, s.end) for s in found] == [("a", "error", 0, 5)]


def test_growth_ends_with_the_totals_of_the_run() -> None:
    """Whatever the number of points; calls are those of language models, by cause."""
    records = [{"t": 100 * n, "op": "hit", "raw": "hit", "agent": "a", "why": "hit", "saved": [2, 1, 10, 5, 0, 7]} for n in range(10)]
    records.append({"t": 950, "op": "think_end", "raw": "committed", "agent": "a", "call": "k", "own": [1, 1, 3, 4, 0, 9]})
    for points in (1, 3, 200):
        moments = growth(records, points)
        assert len(moments) == points
        last = moments[-1]
        assert (last.calls, last.tokens, last.micro_usd, last.saved_calls["hit"], last.saved_tokens["hit"]) == (1, 7, 9, 10, 150)
    assert growth([]) == []
