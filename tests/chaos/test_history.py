"""The checker itself: a good history passes, and a breach of each invariant planted in it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.codec import encode, ref_of
from tests.chaos.history import Entry, Facts, Life, Op, check, load, takeovers

VALUE = {"key": "k", "by": "w1.1.1"}
ANSWER, TEXT, NAMED = ref_of(*encode(VALUE)), ref_of(*encode("text")), ref_of(*encode("named"))
OTHER = ref_of(*encode("other"))


def op(n: str, kind: str, t0: float, t1: float | None, asked: dict[str, Any], told: dict[str, Any], pid: int = 1) -> Op:
    return Op(n, kind, f"w{pid}", pid, t0, t1, asked, told)


def good() -> Facts:
    """A call claimed by 1, taken over by 2, committed once and read; an object put, read and forgotten; a name written."""
    entries = [
        Entry(1, "claimed", 10.0, "ck", "100"), Entry(2, "taken", 10.4, "ck", "200"),
        Entry(3, "put", 10.5, ANSWER.id, "op1 new"), Entry(4, "committed", 10.5, "ck", f"{ANSWER.id} 200"),
        Entry(5, "fenced", 10.6, "ck", "100"), Entry(6, "put", 10.7, TEXT.id, "op2 new"), Entry(7, "put", 10.8, NAMED.id, "op3 new"),
        Entry(8, "named", 10.9, "nh", f"{NAMED.id} 7"), Entry(9, "forgotten", 11.0, TEXT.id, "chaos"),
    ]
    recalled = {"ref": ANSWER, "how": "joined", "degraded": False, "value": VALUE}
    return Facts(
        ops=[
            op("a", "recall", 10.0, 10.6, {"key": "k", "ck": "ck"}, {**recalled, "how": "computed"}),
            op("b", "recall", 10.1, 10.6, {"key": "k", "ck": "ck"}, recalled, pid=2),
            op("c", "put", 10.65, 10.75, {"text": "text", "ttl": None}, {"ref": TEXT}),
            op("d", "get", 10.8, 10.85, {"ref": TEXT}, {"hash": TEXT}),
            op("e", "name", 10.75, 10.95, {"name": "x"}, {"ref": NAMED, "saw": 0, "version": 7}),
            op("f", "forget", 10.95, 11.05, {"ref": TEXT}, {"was": True}),
            op("g", "get", 11.2, 11.25, {"ref": TEXT}, {"error": "UnknownReference"}),
            op("h", "look", 11.2, 11.25, {"name": "x"}, {"version": 7, "ref": NAMED}),
        ],
        begins=[{"t": 10.0, "key": "k", "attempt": "w3.3.1", "ck": "ck", "fence": 100, "pid": 3},
                {"t": 10.4, "key": "k", "attempt": "w1.1.1", "ck": "ck", "fence": 200, "pid": 1}],
        lives=[Life(entries, [1, 2, 3])], sizes={ANSWER.id: 30, NAMED.id: 5}, lease_s=0.3,
        totals={"bytes": 35, "count": 2, "b:u/a": 30, "b:u/b": 5}, owners={ANSWER.id: "u/a", NAMED.id: "u/b"})


def again(facts: Facts, after: str, *new: Entry) -> None:
    """Put entries behind the first one of this kind and number the log anew."""
    entries = facts.lives[0].entries
    place = next(i for i, e in enumerate(entries) if e.e == after) + 1
    entries[place:place] = new
    facts.lives[0].entries = [Entry(i, e.e, e.at, e.id, e.x, e.who) for i, e in enumerate(entries, 1)]


def change(facts: Facts, what: str, **words: Any) -> None:
    """Change the first entry of this kind."""
    entries = facts.lives[0].entries
    place = next(i for i, e in enumerate(entries) if e.e == what)
    old = entries[place]
    entries[place] = Entry(**{**{f: getattr(old, f) for f in ("seq", "e", "at", "id", "x", "who")}, **words})


def told(facts: Facts, n: str, **words: Any) -> None:
    next(o for o in facts.ops if o.n == n).told.update(words)


def ended(facts: Facts, n: str, t1: float | None) -> None:
    next(o for o in facts.ops if o.n == n).t1 = t1


def without(facts: Facts, what: str, renumber: bool = True) -> None:
    entries = [e for e in facts.lives[0].entries if e.e != what]
    facts.lives[0].entries = [Entry(i, e.e, e.at, e.id, e.x) for i, e in enumerate(entries, 1)] if renumber else entries


def second_life(facts: Facts) -> None:
    """The server came back empty and gave a fence that is not above the old ones."""
    facts.lives[0].ended = 20.0
    facts.lives.append(Life([Entry(1, "claimed", 21.0, "ck", "150")]))


PLANTED: dict[str, tuple[str, Callable[[Facts], None]]] = {
    "two commits in one epoch": ("I1", lambda f: again(f, "committed", Entry(0, "committed", 10.6, "ck", f"{OTHER.id} 200"))),
    "an answer that was never committed": ("I2", lambda f: change(f, "committed", x=f"{NAMED.id} 200")),
    "an answer of an epoch that was over": ("I2", lambda f: (again(f, "fenced", Entry(0, "claimed", 10.62, "ck", "300")),
                                             f.ops.append(op("z", "recall", 12.0, 12.1, dict(f.ops[1].asked), dict(f.ops[1].told), 2)))[0]),
    "a fence that does not rise": ("I3", lambda f: change(f, "taken", x="100")),
    "a fence that falls over a restart": ("I3", second_life),
    "one fence given twice": ("I3", lambda f: f.begins[1].update(fence=100)),
    "a commit by who was replaced": ("I4", lambda f: change(f, "committed", x=f"{ANSWER.id} 100")),
    "a commit without a claim": ("I4", lambda f: change(f, "committed", id="ck2")),
    "a takeover within the lease": ("I5", lambda f: change(f, "taken", at=10.2)),
    "a claim beside a running one": ("I5", lambda f: change(f, "taken", e="claimed")),
    "an answer without an object": ("I6", lambda f: change(f, "put", id=OTHER.id)),
    "a call that never ends": ("I7", lambda f: ended(f, "b", None)),
    "a call that takes too long": ("I7", lambda f: ended(f, "b", 99.0)),
    "bytes of another object": ("I9", lambda f: told(f, "d", hash=OTHER)),
    "a value under a foreign reference": ("I9", lambda f: (told(f, "a", ref=OTHER), None)[1]),
    "a gap in the log": ("I10", lambda f: without(f, "fenced", renumber=False)),
    "a gap in the log of reads": ("I10", lambda f: f.lives[0].reads.remove(2)),
    "an entry that was taken back": ("I10", lambda f: f.rolled_back.append("entry 9 was seen and is gone")),
    "a put without an entry": ("I10", lambda f: f.lives[0].entries.pop(5) and None),
    "a forget without an entry": ("I10", lambda f: without(f, "forgotten")),
    "a name without an entry": ("I10", lambda f: without(f, "named")),
    "a write that happened twice": ("I10", lambda f: again(f, "named", Entry(0, "named", 10.9, "nh", f"{NAMED.id} 7"))),
    "a put that happened twice": ("I10", lambda f: again(f, "fenced", Entry(0, "put", 10.6, ANSWER.id, "op1 new"))),
    "a lost update of a name": ("I10", lambda f: told(f, "e", saw=3)),
    "one version given to two": ("I10", lambda f: f.ops.append(op("y", "name", 10.7, 10.9, {"name": "x"}, dict(f.ops[4].told)))),
    "totals that are wrong": ("I11", lambda f: f.totals.update(bytes=34) if f.totals else None),
    "bytes of another agent": ("I11", lambda f: f.owners.update({NAMED.id: "u/a"})),
    "bytes of an agent that has none": ("I11", lambda f: f.totals.update({"b:u/c": 0}) if f.totals else None),
    "a read after the forget": ("I12", lambda f: f.ops.append(op("x", "get", 11.2, 11.3, {"ref": TEXT}, {"hash": TEXT}))),
    "a read on its own host after the forget": ("I12", lambda f: (f.hosts.update(w1="a", w2="b"), f.ops.append(
        op("x", "get", 11.2, 11.3, {"ref": TEXT}, {"hash": TEXT})))[0] and None),
    "a read on another host a second after the forget": ("I12", lambda f: (f.hosts.update(w1="a", w2="b"), f.ops.append(
        op("x", "get", 12.2, 12.3, {"ref": TEXT}, {"hash": TEXT}, pid=2)))[0] and None),
    "a read after the end of life": ("I12", lambda f: (f.ops[2].asked.update(ttl=0.01),
                                                      f.ops.append(op("x", "get", 10.9, 10.92, {"ref": TEXT}, {"hash": TEXT})))[0]),
    "a name that goes back": ("I12", lambda f: told(f, "h", version=6)),
    "a value of another call": ("value", lambda f: told(f, "b", value={"key": "other", "by": "w1.1.1"})),
    "a value nobody computed": ("value", lambda f: told(f, "b", value={"key": "k", "by": "w9.9.9"})),
}


@pytest.mark.catalogue("B1")
def test_a_good_history_has_no_breach() -> None:
    """The history all plants grow in is clean."""
    assert check(good()) == []


@pytest.mark.catalogue("B1")
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_breach_is_found(what: str) -> None:
    """Each by the invariant it breaks."""
    invariant, plant = PLANTED[what]
    facts = good()
    plant(facts)
    assert invariant in {b.invariant for b in check(facts)}, [str(b) for b in check(facts)]


def test_what_is_allowed_is_no_breach() -> None:
    """A killed caller, a stopped one, what an empty server forgot, a put after a forget, an answer made without a server."""
    facts = good()
    facts.ops.append(op("k", "recall", 10.0, None, {"key": "k", "ck": "ck"}, {}, pid=7))
    facts.dead.add(7)
    facts.ops.append(op("s", "get", 10.0, 99.0, {"ref": ANSWER}, {"hash": ANSWER}, pid=8))
    facts.stood.append((8, 11.0, 98.0))
    facts.begins.append({"t": 10.0, "key": "q", "attempt": "w5.5.1", "ck": "", "fence": 0, "pid": 5})
    own = {"key": "q", "by": "w5.5.1"}
    facts.ops.append(op("q", "recall", 10.0, 10.2, {"key": "q", "ck": "cq"},
                        {"ref": ref_of(*encode(own)), "how": "computed", "degraded": True, "value": own}, pid=5))
    facts.hosts.update(w1="a", w2="b")  # what another host reads within a second of a forget
    facts.ops.append(op("r", "get", 11.9, 12.0, {"ref": TEXT}, {"hash": TEXT}, pid=2))
    assert [str(b) for b in check(facts)] == []
    again(facts, "forgotten", Entry(0, "put", 11.1, TEXT.id, "op9 new"))
    facts.ops.append(op("t", "get", 11.2, 11.3, {"ref": TEXT}, {"hash": TEXT}))
    assert [str(b) for b in check(facts)] == []
    facts.lives[0].ended = 11.5
    facts.ops.append(op("u", "put", 11.3, 11.4, {"text": "unseen", "ttl": None}, {"ref": OTHER}))
    assert [str(b) for b in check(facts)] == []


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """kill -9 in the middle of a write costs that line and nothing else."""
    lines = [{"e": "invoke", "n": "1", "op": "put", "w": "w", "pid": 1, "t": 1.0}, {"e": "return", "n": "1", "t": 2.0, "ref": TEXT}]
    (tmp_path / "w.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"e": "invoke", "n": "2", "op')
    facts = Facts()
    load([tmp_path / "w.jsonl"], facts)
    assert [(o.op, o.t1, o.told["ref"]) for o in facts.ops] == [("put", 2.0, TEXT)]


def test_a_takeover_is_timed_where_somebody_waited() -> None:
    """From the kill to the next attempt, and not while the server was away."""
    facts = good()
    assert takeovers(facts, {3: 10.2}, []) == [pytest.approx(0.2)]
    assert takeovers(facts, {3: 10.2}, [(10.3, 10.35)]) == []
    facts.ops = facts.ops[2:]
    assert takeovers(facts, {3: 10.2}, []) == []
