"""What a log asks of a memory: every line that is a request, and every line that is none."""

from __future__ import annotations

from typing import Any

from memgang.eviction import History, from_events
from memgang.model import Event, Usage

A, B, K = "a" * 32, "b" * 32, "k" * 32


def log(*lines: tuple[str, str] | tuple[str, str, dict[str, Any]]) -> History:
    """The history of these lines: word, object, what else. One millisecond apart."""
    events = []
    for at, (raw, obj, *more) in enumerate(lines):
        told: dict[str, Any] = {"at": 10_000 + at, "raw": raw, "obj": obj}
        if raw in ("committed", "hit", "joined"):
            told["call"] = f"call of {obj[0]}"
        events.append(Event(**told | (more[0] if more else {})))
    return from_events(events, "test")


def told(history: History) -> list[str]:
    """What and which, shortly."""
    return [f"{step.what} {step.key[0]}" for step in history.steps]


BORN_A = (("put", A, {"bytes": 100}), ("committed", A, {"own": Usage(ms=40, micro_usd=7)}))
BORN_B = (("put", B, {"bytes": 50}), ("committed", B, {"own": Usage(ms=10)}))


def test_a_computed_answer_is_a_miss_and_hits_and_reads_are_requests() -> None:
    """Sizes are those of the put; the cost is what a hit saved, for it is that of the whole call."""
    history = log(*BORN_A, ("hit", A, {"saved": Usage(ms=90, micro_usd=9)}), ("read", A, {"bytes": 100}))

    assert told(history) == ["make a", "ask a", "ask a"]
    assert {(s.size, s.seconds, s.micro_usd) for s in history.steps} == {(100, 0.09, 9)}
    assert history.requests() == 3


def test_what_joined_is_a_use_and_no_request() -> None:
    """It waited for a computation that every policy would have had under way."""
    assert told(log(*BORN_A, ("joined", A), ("reference", A, {"bytes": 100}))) == ["make a", "use a"]


def test_what_was_evicted_and_computed_again_might_have_been_kept() -> None:
    """A larger memory would have answered; a refresh while the answer was there is computed under every policy."""
    again = ("committed", A, {"own": Usage(ms=40)})

    assert told(log(*BORN_A, ("evicted", A), BORN_A[0], again)) == ["make a", "ask a"]
    assert told(log(*BORN_A, again)) == ["make a", "make a"]
    assert told(log(*BORN_A, ("evicted", A), BORN_A[0], ("committed", A, {"call": "other"}))) == ["make a", "make a"]
    assert told(log(*BORN_A, ("evicted", A), BORN_A[0], again, again)) == ["make a", "ask a", "make a"]


def test_what_expired_or_was_forgotten_is_gone_for_all() -> None:
    """And computed under every policy."""
    for word in ("expired", "forgotten"):
        assert told(log(*BORN_A, (word, A), *BORN_A)) == ["make a", "drop a", "make a"]


def test_what_was_put_directly_is_left_out_and_counted() -> None:
    """It cannot be computed again, so no policy has a choice."""
    history = log(("put", K, {"bytes": 1000}), ("read", K, {"bytes": 1000}), ("put", K, {"bytes": 1000, "known": True}), *BORN_A)

    assert told(history) == ["make a"]
    assert (history.kept, history.kept_bytes) == (1, 1000)


def test_what_was_put_directly_and_evicted_was_not_kept() -> None:
    """`keep=False`: the log says so only by its end."""
    history = log(("put", K, {"bytes": 10}), ("read", K, {"bytes": 10}), ("evicted", K, {"bytes": 10}))

    assert told(history) == ["put k", "ask k"] and history.kept == 0


def test_what_is_pinned_is_nobodys_choice_until_it_is_unpinned() -> None:
    """Requests for it are answered under every policy and not counted."""
    history = log(*BORN_A, ("pinned", A), ("hit", A), ("read", A, {"bytes": 100}), ("unpinned", A), ("hit", A))

    assert told(history) == ["make a", "drop a", "put a", "ask a"]


def test_a_read_logged_a_moment_before_its_commit_is_no_miss() -> None:
    """Clocks of processes differ by a little; a read long before is one of an object whose beginning was trimmed."""
    early = ("read", A, {"bytes": 100})

    assert told(log(early, *BORN_A)) == ["use a", "make a"]
    assert told(log(("read", A, {"bytes": 100, "at": 1}), *BORN_A)) == ["ask a", "make a"]


def test_an_object_of_unknown_size_is_left_out_and_counted() -> None:
    """Its put was trimmed, and a hit does not tell a size."""
    history = log(("hit", B), ("hit", B), *BORN_A)

    assert told(history) == ["make a"] and history.unsized == 2


def test_an_answer_whose_beginning_was_trimmed_is_first_a_miss() -> None:
    """For every policy alike: a read tells its size."""
    assert told(log(("hit", B), ("read", B, {"bytes": 50}))) == ["ask b", "ask b"]


def test_a_run_is_told_by_the_whole_log_and_meets_an_empty_memory() -> None:
    """What an earlier run computed has its size and cost there; the earlier requests are not of this run."""
    events = [Event(at=n, raw=raw, obj=A, call="c", run=run, bytes=size, own=Usage(ms=ms), saved=saved)
              for n, (raw, run, size, ms, saved) in enumerate([
                  ("put", "one", 100, 0, Usage()), ("committed", "one", 0, 40, Usage()), ("hit", "one", 0, 0, Usage(ms=40)),
                  ("hit", "two", 0, 0, Usage(ms=40)), ("forgotten", "", 0, 0, Usage()), ("hit", "two", 0, 0, Usage(ms=40))])]
    history = from_events(events, "test", "two")

    assert told(history) == ["ask a", "drop a", "ask a"] and history.unsized == 0
    assert (history.steps[0].size, history.steps[0].seconds) == (100, 0.04)


def test_an_empty_log_is_an_empty_history() -> None:
    """The door says so."""
    assert log().requests() == 0 and log().sizes() == {}


def test_the_working_set_is_every_object_once() -> None:
    """Whatever happens to it."""
    assert log(*BORN_A, *BORN_B, ("hit", A), ("evicted", A), *BORN_A).sizes() == {A: 100, B: 50}
