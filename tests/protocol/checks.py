"""What must always be true: the invariants, judged from what the server was asked and what it replied.

The judge keeps a history of its own and never asks the model what it thinks; only whether a key is there.
True time is the simulation's own, which no step of the server's clock moves.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.protocol.calls import Request
from tests.protocol.keyspace import State

MOST_ATTEMPTS = 3


class Broken(AssertionError):
    """An invariant does not hold."""


class Call:
    """The history of one call key, as the server has made it."""

    __slots__ = ("answers", "attempts", "committed", "dirty", "ended", "good_until", "granted", "highest", "hold", "hold_until", "last",
                 "lease_end", "life", "paused_until", "refused", "state", "steps")

    def __init__(self) -> None:
        self.committed: dict[str, tuple[str, str]] = {}  # fence -> owner and answer; never emptied
        self.highest = 0
        self.lose()

    def lose(self) -> None:
        """The server has no record of it (any more)."""
        self.last: tuple[str, str] | None = None  # owner and fence of the last claim
        self.state = ""
        self.ended = False  # released or failed: `until` is 0
        self.attempts = 0
        self.lease_end = 0
        self.hold = 0
        self.hold_until: float = 0
        self.granted = 0
        self.refused = ""
        self.good_until: float = 0
        self.life = 0
        self.paused_until: float = 0  # after a failure, as long as the clock has not been moved since
        self.steps = 0
        self.dirty = False  # the clock has stepped back since the answer was seen last


class Judge:
    """Judges every call of a script on flights."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.entries: list[tuple[str, str]] = []  # event and extra of each change, in order
        self.steps = 0  # of the clock
        self.back = 0  # how often the clock stepped back
        self.executions = self.cost = self.takeovers = self.fenced = 0
        self.seen: Counter[str] = Counter()

    def lost_data(self) -> None:
        """The server came back empty."""
        for call in self.calls.values():
            call.lose()
        self.entries.clear()
        self.executions = self.cost = self.takeovers = self.fenced = 0

    def stepped(self, by_ms: int, now_ms: int) -> None:
        """The server's clock was moved."""
        self.steps += 1
        if by_ms < 0:
            self.back += 1
            for call in self.calls.values():
                call.dirty = True
                call.lease_end = min(call.lease_end, now_ms + 1000)

    def judge(self, r: Request, reply: list[Any], state: State, existed: bool, true_ms: float, now_ms: int) -> None:
        """One call of a script. ``existed``: the flight was there before it."""
        key = r.keys[2]
        c = self.calls.get(key)
        if c is None:
            c = self.calls[key] = Call()
        if not existed and c.state:
            c.lose()  # its time had come, or somebody has dropped it
        word = reply[0]
        self.seen[r.script + " " + word] += 1
        getattr(self, r.script)(c, r, reply, word, state, true_ms, now_ms)

    def claim(self, c: Call, r: Request, reply: list[Any], word: str, state: State, true_ms: float, now_ms: int) -> None:
        owner = r.args[2]
        if word == "claimed":
            fence, how, n = reply[1], reply[3], reply[4]
            if how == "replay":
                require(c.last == (owner, fence) and not c.ended, "I4",
                        f"{owner} is told it leads with {fence}, the last claim is {c.last}")
                return
            self.seen["claim " + how] += 1
            number = int(fence)
            require(true_ms >= c.paused_until - 1 or c.steps < self.steps, "pause",
                    f"{owner} was given the lead {c.paused_until - true_ms:.0f} ms before the end of the pause")
            # A flight that a step of the clock has collected may leave its pieces for a while; nothing else may.
            require(r.keys[3] not in state.db or c.state in ("", "gone"), "I8", "pieces of an earlier attempt are still there")
            require(number > (c.highest if c.last or not self.back else 0), "I3", f"fence {fence} after {c.highest}")
            if c.state == "running":
                require(c.ended or c.lease_end <= now_ms, "I5",
                        f"{owner} was given the lead while that of {c.last} had {c.lease_end - now_ms} ms to go")
            require(how == ("taken" if c.state == "running" else "new"), "I5", f"claimed as {how} when it was {c.state!r}")
            c.attempts = c.attempts + 1 if c.state == "running" else 1
            require(n == c.attempts <= MOST_ATTEMPTS, "attempts", f"attempt {n}, by our count {c.attempts}")
            self.takeovers += how == "taken"
            self.entries.append(("taken" if how == "taken" else "claimed", fence))
            c.highest = number  # below an earlier one only where the record was lost and the clock had stepped back
            c.last, c.state, c.ended = (owner, fence), "running", False
            c.lease_end = now_ms + int(r.args[4])
            c.hold = int(r.args[6])
            c.hold_until = true_ms + c.hold
            c.granted = self.back
        elif word == "answered":
            self.answered(c, reply[1:3], true_ms, int(r.args[9] or 0), fresh=True)
            require(not (reply[1] == r.args[7] and reply[2] == r.args[8]), "unusable", f"{reply[1]} was refused and is given again")
        elif word == "failed" and reply[3] == 1000 and c.state == "running":
            require(c.attempts >= MOST_ATTEMPTS, "attempts", f"given up after {c.attempts} attempts")
            require(c.ended or c.lease_end <= now_ms, "I5", "given up while somebody leads")
            c.state = "error"
            self.entries.append(("exhausted", c.last[1] if c.last else ""))
        elif word == "failed":
            require(c.state == "error", "fail", f"told of an error when it was {c.state!r}")
        old = reply[{"claimed": 5, "follow": 5, "backoff": 3, "failed": 4}[word]:] if word != "answered" else []
        if old:
            self.answered(c, old[:2], true_ms, int(r.args[9]), fresh=False)

    def answered(self, c: Call, told: list[str], true_ms: float, keep: int, *, fresh: bool) -> None:
        answer, fence = told
        require(c.committed.get(fence, ("", ""))[1] == answer, "I2", f"{answer} of {fence} was never committed: {c.committed}")
        if c.dirty:  # ends at last one life after the first look behind a step of the clock
            c.good_until, c.dirty = max(c.good_until, true_ms + c.life), False
        if c.life:
            require(true_ms <= c.good_until + (0 if fresh else keep) + 1, "I12",
                    f"{answer} served {true_ms - c.good_until:.0f} ms after its end")

    def beat(self, c: Call, r: Request, reply: list[Any], word: str, state: State, true_ms: float, now_ms: int) -> None:
        if word == "held":
            require(c.last == (r.args[2], r.args[3]) and c.state == "running", "I4", f"beat of {r.args[2:4]} held, last is {c.last}")
            require(not c.ended, "I4", f"beat of {r.args[2:4]} held after it was given up")
            if c.granted < self.back:  # the first beat behind a step back: from here one more hold
                c.hold_until, c.granted = max(c.hold_until, true_ms + c.hold), self.back
            require(true_ms <= c.hold_until + 1, "hold", f"renewed {true_ms - c.hold_until:.0f} ms past the hold")
            c.lease_end = now_ms + int(r.args[4])

    def commit(self, c: Call, r: Request, reply: list[Any], word: str, state: State, true_ms: float, now_ms: int) -> None:
        owner, fence, answer, ttl = r.args[2], r.args[3], r.args[4], int(r.args[5])
        if word == "committed":
            if c.state != "running":
                require(c.last == (owner, fence) and c.committed.get(fence) == (owner, answer), "I1",
                        f"commit of {owner} {fence} taken when it was {c.state!r} of {c.last}")
                return
            require(c.last == (owner, fence), "I4", f"commit of {owner} {fence}, the last claim is {c.last}")
            require(fence not in c.committed, "I1", f"fence {fence} has committed {c.committed.get(fence)} and now {answer}")
            require(r.keys[4] in state.db, "I6", f"{answer} is not there")
            c.committed[fence] = (owner, answer)
            c.state = "done"
            c.good_until, c.dirty = (true_ms + ttl if ttl else 0), False
            c.life = ttl
            self.executions += 1
            self.cost += int(r.args[6])
            self.entries.append(("committed", f"{answer} {fence}"))
        elif word == "fenced":
            require(not (c.last == (owner, fence) and c.state == "running"), "P3", f"{owner} {fence} leads and was refused")
            require(not (c.last == (owner, fence) and c.state == "done" and c.committed.get(fence) == (owner, answer)), "repeat",
                    f"{owner} {fence} has committed and was told it was fenced")
            if c.refused != fence:
                c.refused = fence
                self.fenced += 1
                self.entries.append(("fenced", fence))
            c.state = c.state or "gone"

    def fail(self, c: Call, r: Request, reply: list[Any], word: str, state: State, true_ms: float, now_ms: int) -> None:
        mine = c.last == (r.args[2], r.args[3])
        if word == "recorded":
            require(mine, "I4", f"fail of {r.args[2:4]} recorded, last is {c.last}")
            if c.state == "running" and not c.ended:
                c.ended = True
                c.state = "error" if r.args[4] == "permanent" else "running"
                c.paused_until, c.steps = true_ms + int(r.args[6]), self.steps
                self.entries.append(("failed", r.args[4]))
        else:
            require(not (mine and c.state == "running"), "P3", f"fail of {r.args[2:4]} refused though it leads")

    def release(self, c: Call, r: Request, reply: list[Any], word: str, state: State, true_ms: float, now_ms: int) -> None:
        died = r.args[2] == ""
        if word == "released":
            mine = c.last is not None and (c.last[0].startswith(r.args[3] + ".") if died else c.last == (r.args[2], r.args[3]))
            require(mine and c.state == "running", "I4", f"release of {r.args[2:4]}, last is {c.last}, {c.state}")
            if not c.ended:
                c.ended = True
                c.attempts -= not died
                self.entries.append(("died" if died else "released", c.last[1] if c.last else ""))

    def chunk(self, c: Call, r: Request, reply: list[Any], word: str, state: State, true_ms: float, now_ms: int) -> None:
        if word == "written":
            require(c.last == (r.args[2], r.args[3]) and c.state == "running" and not c.ended, "I4",
                    f"piece of {r.args[2:4]} written, last is {c.last} {c.state}")

    def finish(self, state: State, totals: str, log: str) -> None:
        """At the end: the log has every change once and no gap, and the totals are its sums."""
        told = state.db.get(log, [])
        require([int(entry[:-2]) for entry, _ in told] == list(range(1, len(told) + 1)), "I10", "the log has gaps")
        flights = [(f[1], f[9]) for _, f in told if f[1] not in OTHERS]
        require(flights == self.entries, "I10", f"log {flights}, changes {self.entries}")
        require(not [k for k in state.db if ":s:" in k and k not in state.dead], "I8", "a stream that is never collected")
        u = state.db.get(totals, {})
        for counter in ("executions", "takeovers", "fenced", "cost"):
            count = getattr(self, counter)
            require(int(u.get(counter, 0)) == count, "I11", f"{counter} is {u.get(counter)}, there were {count}")


OTHERS = frozenset(("put", "forgotten", "expired", "evicted", "pinned", "unpinned", "named", "dropped"))


def require(true: bool, what: str, told: str) -> None:
    """An invariant."""
    if not true:
        raise Broken(f"{what}: {told}")
