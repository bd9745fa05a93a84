"""Every policy once more, as slow and plain as it can be written: lists that are searched from end to end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Op = tuple[str, str, int, float]  # ask | put | drop, key, size, cost


@dataclass
class Thing:
    """One object that is here, with everything any policy wants to know of it."""

    key: str
    size: int
    cost: float
    came: int
    used: int
    uses: int = 1
    mark: bool = False
    rank: float = 0.0
    at: int = 0  # bytes evicted at its last use


@dataclass
class Slow:
    """A memory of one list. ``policy`` is the name of the policy."""

    policy: str
    budget: int
    here: list[Thing] = field(default_factory=list)
    moment: int = 0
    clock: float = 0.0
    evicted: int = 0
    hand: str | None = None

    def find(self, key: str) -> Thing | None:
        """Search from the front."""
        return next((t for t in self.here if t.key == key), None)

    def do(self, op: Op) -> tuple[bool, list[str]]:
        """Whether it was a hit, and who went."""
        what, key, size, cost = op
        self.moment += 1
        thing = self.find(key)
        if what == "drop":
            if thing:
                self.remove(thing)
            return False, []
        if thing:
            if what == "put":
                thing.cost = max(thing.cost, cost)
            self.touch(thing, counts=what == "ask" or not self.policy.startswith("GDSF"))
            return what == "ask", []
        if size > self.budget:
            return False, []
        gone = []
        while sum(t.size for t in self.here) + size > self.budget:
            victim = self.choose()
            gone.append(victim.key)
            self.remove(victim)
        thing = Thing(key, size, cost, self.moment, self.moment)
        self.here.append(thing)
        self.rank(thing)
        return False, gone

    def touch(self, thing: Thing, counts: bool) -> None:
        """A use."""
        total = sum(t.size for t in self.here)
        if counts and (self.policy != "GDSF" or self.evicted - thing.at >= total):
            thing.uses += 1
        thing.used, thing.mark = self.moment, True
        self.rank(thing)

    def rank(self, thing: Thing) -> None:
        """Write its rank, as of now."""
        cost, size = max(thing.cost, 0.001), max(thing.size, 1)
        thing.at = self.evicted
        if self.policy == "GDSF plain":
            thing.rank = self.clock + thing.uses * cost / size
        if self.policy == "GDSF":
            saved = min(thing.uses, 4) * cost / size
            thing.rank = self.clock + saved * math.sqrt(saved)
            self.clock += thing.rank * 2**-51

    def choose(self) -> Thing:
        """Who goes next."""
        if self.policy == "SIEVE":
            line = self.here  # the oldest first
            at = next((n for n, t in enumerate(line) if t.key == self.hand), 0)
            while line[at].mark:
                line[at].mark = False
                at = (at + 1) % len(line)
            self.hand = line[at].key
            return line[at]
        orders: dict[str, Any] = {
            "FIFO": lambda t: t.came, "LRU": lambda t: t.used, "LFU": lambda t: (t.uses, t.used),
            "GDSF": lambda t: (t.rank, t.key), "GDSF plain": lambda t: (t.rank, t.key)}
        victim: Thing = min(self.here, key=orders[self.policy])
        if self.policy.startswith("GDSF"):
            self.clock = max(self.clock, victim.rank)
            self.evicted += victim.size
        return victim

    def remove(self, thing: Thing) -> None:
        """Out, and the hand to the next newer."""
        if self.hand == thing.key:
            at = self.here.index(thing) + 1
            self.hand = self.here[at].key if at < len(self.here) else None
        self.here.remove(thing)


class SlowS3:
    """S3-FIFO over three lists of ``[key, size, uses]``, the oldest first."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.small: list[list[Any]] = []
        self.main: list[list[Any]] = []
        self.ghost: list[list[Any]] = []

    def do(self, op: Op) -> tuple[bool, list[str]]:
        """Whether it was a hit, and who went."""
        what, key, size, _ = op
        found = next((t for t in self.small + self.main if t[0] == key), None)
        if what == "drop":
            self.small = [t for t in self.small if t[0] != key]
            self.main = [t for t in self.main if t[0] != key]
            return False, []
        if found:
            found[2] = min(3, found[2] + 1)
            return what == "ask", []
        if size > self.budget:
            return False, []
        gone: list[str] = []
        while sum(t[1] for t in self.small + self.main) + size > self.budget:
            if self.small and (sum(t[1] for t in self.small) >= 0.1 * self.budget or not self.main):
                self.shrink_small(gone)
            else:
                self.shrink_main(gone)
        ghost = next((t for t in self.ghost if t[0] == key), None)
        if ghost:
            self.ghost.remove(ghost)
            self.main.append([key, size, 0])
        else:
            self.small.append([key, size, 0])
        return False, gone

    def shrink_small(self, gone: list[str]) -> None:
        """Until one of the small line has gone, or all have moved."""
        before = len(gone)
        while self.small:
            key, size, uses = self.small.pop(0)
            if uses > 1:
                self.main.append([key, size, 0])
                if sum(t[1] for t in self.main) > 0.9 * self.budget:
                    self.shrink_main(gone)
            else:
                gone.append(key)
                self.ghost.append([key, size])
                while sum(t[1] for t in self.ghost) > 0.9 * self.budget:
                    self.ghost.pop(0)
                return
        if len(gone) == before:
            self.shrink_main(gone)

    def shrink_main(self, gone: list[str]) -> None:
        """Until one has gone."""
        while True:
            key, size, uses = self.main.pop(0)
            if not uses:
                gone.append(key)
                return
            self.main.append([key, size, uses - 1])


def slowly(policy: str, budget: int) -> Slow | SlowS3:
    """The slow form of a policy by its name."""
    return SlowS3(budget) if policy == "S3-FIFO" else Slow(policy, budget)
