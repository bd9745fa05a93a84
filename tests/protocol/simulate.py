"""A seeded simulator of the protocol: processes, a server, and everything that can go wrong between them.

    python -m tests.protocol.simulate --schedules 1000000 --seed N      prints figures, and the seeds that failed
    python -m tests.protocol.simulate --replay SEED                     one schedule, step by step

One schedule is one interleaving: at each step one of the tasks that could go on does. A request may be lost on its way,
its reply may be (the client then asks again), it may be carried out twice, the second time late; a process may be
stopped beyond its lease, or killed; a caller may leave; the server may restart, with its data or without; its clock
may step by an hour. Nothing waits in real time. After each step the judge (checks.py) says whether all still holds.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.protocol.calls import Request, Shard
from tests.protocol.checks import Broken, Judge, require
from tests.protocol.client import LISTEN, SLEEP, SPAWN, WAIT, Cancelled, Process, Steps, Terms, recall, tail
from tests.protocol.keyspace import State
from tests.protocol.model import MODEL, Model
from tests.protocol.wares import Warden, janitor, user

EPOCH_US = 1_700_000_000_000_000
HOUR_MS = 3_600_000
HORIZON_MS = 100_000  # by then every caller has its end, whatever went wrong: all waits of a schedule are far below it
TROUBLED_MS = 12_000  # then no more misfortunes: what hangs is not helped along by the next one
MOST_STEPS = 4000
SHARD = Shard()


@dataclass
class Odds:
    """How likely each misfortune is, for each request or each step."""

    lost_request: float = 0.02
    lost_reply: float = 0.02
    twice: float = 0.02
    lost_message: float = 0.1
    stopped: float = 0.008
    killed: float = 0.005
    cancelled: float = 0.004
    restarted: float = 0.002
    emptied: float = 0.001
    clock: float = 0.002
    removed: float = 0.002


CALM = Odds(*[0.0] * 11)


class Task:
    """A generator that runs in a process, and what it waits for."""

    __slots__ = ("caller", "due", "ear", "gen", "heard", "name", "process", "request", "sent", "waiting")

    def __init__(self, process: Node, gen: Steps, due: float, name: str, caller: bool) -> None:
        self.process, self.gen, self.due, self.name, self.caller = process, gen, due, name, caller
        self.request: Request | None = None
        self.sent: Any = None
        self.ear: str | None = None
        self.heard = self.waiting = False

    def close(self) -> None:
        """Listen no more."""
        self.ear = None


@dataclass
class Node:
    """A process as the world sees it."""

    process: Process
    tasks: list[Task] = field(default_factory=list)
    until: float = 0.0  # stopped until then


class Schedule:
    """One run, from its seed."""

    def __init__(self, seed: int, model: Model = MODEL, odds: Odds | None = None, trace: Callable[[str], None] | None = None) -> None:
        self.luck = luck = random.Random(seed)
        self.random = luck.random
        self.model, self.trace = model, trace
        self.odds = odds or Odds()
        self.state = State()
        self.judge: Judge | Warden = Judge()
        self.ms = 0.0  # true time
        self.offset = 0.0  # of the server's clock
        self.tasks: list[Task] = []
        self.ghosts: list[tuple[float, Request]] = []  # repeats that are still on their way
        self.met: Counter[str] = Counter()
        self.dead: set[str] = set()
        self.steps = 0
        self.ended: list[tuple[str, str, str]] = []
        self.terms = Terms(ttl=luck.choice((0, 1, 2000, 60_000)), stale=luck.choice((0, 0, 0, 3000)))
        self.wares = luck.random() < 0.2
        if luck.random() < 0.2:  # deaths and steps of the clock together, or they would hardly ever meet
            self.odds = Odds(**{**vars(self.odds), "clock": self.odds.clock * 10, "killed": self.odds.killed * 3})
        if self.wares:
            self.judge = Warden()
            for number in range(3):
                process = Process(f"p{number}", luck, SHARD, self.terms, _nobody)
                self.start(Node(process), user(process, 12) if number else janitor(process, 8), luck.random() * 50, "user", True)
            return
        same_host = luck.random() < 0.4
        self.streams = luck.random() < 0.25
        for number in range(luck.choice((2, 3, 3, 4))):
            process = Process(f"p{number}", luck, SHARD, self.terms, self.dead.__contains__ if same_host else _nobody, self.streams)
            node = Node(process)
            if self.streams and luck.random() < 0.7:
                reader = tail(process, "c", lambda: any(t.caller for t in self.tasks), self.read)
                self.start(node, reader, luck.random() * 600, "tail", False)
            for _ in range(2 if luck.random() < 0.2 else 1):
                self.start(node, recall(process, "c"), luck.random() * 600 if luck.random() < 0.7 else luck.random() * 5000, "recall", True)

    def start(self, node: Node, gen: Steps, at: float, name: str, caller: bool) -> None:
        task = Task(node, gen, at, f"{node.process.inc} {name}", caller)
        node.tasks.append(task)
        self.tasks.append(task)

    def read(self, fence: str, pieces: list[str]) -> None:
        """A reader has these pieces of the attempt with this fence.

        Raises:
            Broken: they are not its beginning.
        """
        self.met["pieces read"] += 1
        require(pieces == [f"{fence}/{n}" for n in range(len(pieces))], "I8", f"read {pieces} of the attempt {fence}")

    # ── running ───────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """To the end of all tasks.

        Raises:
            Broken: an invariant does not hold.
        """
        tasks, odds, rand = self.tasks, self.odds, self.random
        misfortune = odds.stopped + odds.killed + odds.cancelled + odds.restarted + odds.emptied + odds.clock + odds.removed
        while tasks:
            self.steps += 1
            ms = self.ms
            ready = [task for task in tasks if task.due <= ms]
            if not ready:
                soonest = min(task.due for task in tasks)
                if self.ghosts and self.ghosts[0][0] < soonest:
                    self.ms = max(ms, self.ghosts[0][0])
                    self.haunt()
                else:
                    self.ms = soonest
                require(self.ms < HORIZON_MS and self.steps < MOST_STEPS, "I7", f"{[t.name for t in tasks]} never end")
                continue
            if ms < TROUBLED_MS and rand() < misfortune:
                self.strike(rand() * misfortune)
                continue
            if self.ghosts and self.ghosts[0][0] <= ms:
                self.haunt()
            self.go(ready[int(rand() * len(ready))] if len(ready) > 1 else ready[0])
            self.ms += rand() * 3
        for _ in range(len(self.ghosts)):
            self.haunt()
        self.judge.finish(self.state, SHARD.head[0], SHARD.head[1])

    def go(self, task: Task) -> None:
        """One task makes one step."""
        request = task.request
        if request is not None:
            chance, odds = self.random(), self.odds
            if chance < odds.lost_request:
                self.met["request lost"] += 1
                task.due = self.ms + self.random() * 500
                return
            reply = self.serve(request, task.name)
            chance -= odds.lost_request
            if chance < odds.lost_reply:
                self.met["reply lost"] += 1
                task.due = self.ms + self.random() * 500
                return
            if chance < odds.lost_reply + odds.twice and request.script not in _ONCE:
                self.met["carried out twice"] += 1
                self.ghosts.append((self.ms + self.random() * self.luck.choice((5, 500, 5000)), request))
                self.ghosts.sort()
            task.request, task.sent = None, reply
        elif task.waiting:
            task.waiting, task.sent, task.heard = False, task.heard, False
        self.resume(task)

    def resume(self, task: Task, error: Exception | None = None) -> None:
        try:
            wanted = task.gen.send(task.sent) if error is None else task.gen.throw(error)
        except StopIteration as end:
            self.gone(task, end.value or ("", ""))
            return
        except Cancelled:
            self.gone(task, ("cancelled", ""))
            return
        task.sent = None
        while wanted[0] in (LISTEN, SPAWN):
            answer = None
            if wanted[0] == SPAWN:
                self.start(task.process, wanted[1], self.ms, "beats" if wanted[1].__name__ == "beats" else "aside", False)
            else:
                task.ear, task.heard, answer = wanted[1], False, task
            try:
                wanted = task.gen.send(answer)
            except StopIteration as end:
                self.gone(task, end.value or ("", ""))
                return
            except Cancelled:
                self.gone(task, ("cancelled", ""))
                return
        if wanted[0] == SLEEP:
            task.due = self.ms + wanted[1]
        elif wanted[0] == WAIT:
            task.waiting = True
            task.due = self.ms if task.heard else self.ms + wanted[1]
        else:
            task.request = wanted
            task.due = self.ms
        if task.due < task.process.until:
            task.due = task.process.until

    def gone(self, task: Task, end: tuple[str, str]) -> None:
        self.tasks.remove(task)
        task.process.tasks.remove(task)
        if task.caller:
            self.met["ended " + end[0]] += 1
            self.ended.append((task.name, *end))
            if isinstance(self.judge, Judge) and end[0] in ("hit", "computed", "won", "stale"):
                known = {answer for call in self.judge.calls.values() for _, answer in call.committed.values()}
                require(end[1] in known, "I2", f"{task.name} ended with {end}, which nobody has committed")
            if self.trace:
                self.trace(f"{self.ms:9.1f} {task.name}: ends with {end}")

    # ── the server ────────────────────────────────────────────────────────────────────────────

    @property
    def now_us(self) -> int:
        """The server's clock."""
        return EPOCH_US + int((self.ms + self.offset) * 1000)

    def serve(self, request: Request, by: str) -> Any:
        """The server carries out a request; the judge looks at what it did."""
        state, us = self.state, self.now_us
        if state.dead:
            state.collect(us // 1000)
        if request.script == "exists":
            return request.keys[0] in state.db
        if request.script == "entries":  # XRANGE: the entries behind a cursor, or up to one
            low, high = int(request.args[0]), int(request.args[1])
            return [(int(e[:-2]), f[1], f[3]) for e, f in state.db.get(request.keys[0], ()) if low < int(e[:-2]) <= high]
        existed = len(request.keys) > 2 and request.keys[2] in state.db
        reply = self.model.apply(state, us, *request)
        if self.trace:
            self.trace(f"{self.ms:9.1f} {by}: {request.script} {' '.join(request.args)} -> {reply}")
        if self.wares or request.script not in _OBJECTS:
            self.judge.judge(request, reply, state, existed, self.ms, us // 1000)
        if state.sent:
            self.deliver()
        return reply

    def deliver(self) -> None:
        for channel, _ in self.state.sent:
            for task in self.tasks:
                if task.ear == channel and self.random() >= self.odds.lost_message:
                    self.hear(task)
        self.state.sent.clear()

    def hear(self, task: Task) -> None:
        task.heard = True
        if task.waiting:
            task.due = max(self.ms, task.process.until)

    def haunt(self) -> None:
        """A request that was repeated arrives for the second time; nobody hears the reply."""
        self.serve(self.ghosts.pop(0)[1], "ghost")

    # ── misfortunes ───────────────────────────────────────────────────────────────────────────

    def strike(self, chance: float) -> None:
        """One of the misfortunes."""
        for what, odds in vars(self.odds).items():
            if what in _OF_REQUESTS:
                continue
            if chance < odds:
                self.met[what] += 1
                getattr(self, what)()
                return
            chance -= odds

    def stopped(self) -> None:
        """SIGSTOP of a process, at times beyond its lease."""
        node = self.luck.choice(self.tasks).process
        node.until = self.ms + self.luck.choice((100, 900, 1100, 2500, 4500))
        for task in node.tasks:
            task.due = max(task.due, node.until)
        self.say(f"{node.process.inc} is stopped until {node.until:.1f}")

    def killed(self) -> None:
        node = self.luck.choice(self.tasks).process
        self.dead.add(node.process.inc)
        for task in node.tasks:
            self.tasks.remove(task)
        node.tasks.clear()
        self.say(f"{node.process.inc} is killed")
        if self.tasks and self.random() < self.odds.clock * 10:
            self.met["clock"] += 1
            self.clock()

    def cancelled(self) -> None:
        """A caller leaves."""
        callers = [task for task in self.tasks if task.caller and task.due <= self.ms]
        if not callers:
            return
        task = self.luck.choice(callers)
        if task.request is None and not task.waiting and task.gen.gi_frame.f_lasti < 0:
            return  # has not begun
        self.say(f"{task.name} is cancelled")
        if task.request is not None and self.random() < 0.5:
            self.serve(task.request, task.name)  # it was on its way
        task.request, task.waiting = None, False
        self.resume(task, Cancelled())

    def restarted(self) -> None:
        """The server restarts with its data: who listens is woken, for messages may have been missed."""
        self.say("the server restarts")
        self.ms += 5
        for task in self.tasks:
            if task.ear:
                self.hear(task)

    def emptied(self) -> None:
        """The server restarts without its data."""
        sent = self.state.met
        self.state = State()
        self.state.met = sent
        self.judge.lost_data()
        self.say("the server has lost its data")
        self.restarted()

    def clock(self) -> None:
        """The server's clock steps by an hour."""
        by = self.luck.choice((HOUR_MS, -HOUR_MS))
        if self.met["clock"] <= 3:
            self.offset += by
            self.judge.stepped(by, self.now_us // 1000)
            self.say(f"the server's clock steps by {by} ms")

    def removed(self) -> None:
        """An object is forgotten by somebody."""
        if self.wares:
            return
        records = [key for key in self.state.db if ":o:" in key]
        if records:
            self.serve(SHARD.forget([self.luck.choice(records).rpartition(":")[2]], "u/x", "", f"f{self.steps}"), "somebody")

    def say(self, what: str) -> None:
        if self.trace:
            self.trace(f"{self.ms:9.1f} ** {what}")


_OBJECTS = frozenset(("put", "put_many", "forget", "get", "pin", "sweep", "evict", "touch", "name", "kin", "drop"))
# Not late: a put that arrives behind somebody's forget brings the object back, and a forget behind a put takes it away.
_ONCE = frozenset(("put", "put_many", "forget", "get", "pin", "sweep", "evict", "exists", "entries"))
_OF_REQUESTS = frozenset(("lost_request", "lost_reply", "twice", "lost_message"))


def _nobody(_: str) -> bool:
    return False


def try_one(
    seed: int, model: Model = MODEL, odds: Odds | None = None, trace: Callable[[str], None] | None = None
) -> tuple[Schedule, str | None]:
    """Run one schedule; what it broke, if anything."""
    schedule = Schedule(seed, model, odds, trace)
    try:
        schedule.run()
    except Broken as broken:
        return schedule, str(broken)
    except (KeyError, ValueError, TypeError, IndexError) as error:  # a step that no longer knows what it has before it
        return schedule, f"{type(error).__name__}: {error}"
    return schedule, None


def hunt(seeds: Iterable[int], model: Model, odds: Odds | None = None) -> tuple[int, str] | None:
    """The first seed that breaks something, and what."""
    for seed in seeds:
        if (broken := try_one(seed, model, odds)[1]) is not None:
            return seed, broken
    return None


def simulate(schedules: int, seed: int, report: Callable[[str], None] = print) -> list[int]:
    """Run so many schedules from a seed on; prints figures; the seeds that failed."""
    met: Counter[str] = Counter()
    failed: list[int] = []
    steps, began = 0, time.perf_counter()
    for number in range(seed, seed + schedules):
        schedule, broken = try_one(number)
        met.update(schedule.met)
        met.update(schedule.judge.seen)
        met.update(schedule.state.met)
        steps += schedule.steps
        if broken:
            failed.append(number)
            if len(failed) <= 10:
                report(f"seed {number}: {broken}")
    took = time.perf_counter() - began
    report(f"{schedules} schedules from seed {seed}: {len(failed)} failed; {steps / schedules:.0f} steps each, "
           f"{schedules / took:,.0f} schedules a second, {took:.1f} s")
    report("met: " + ", ".join(f"{what} {count}" for what, count in sorted(met.items())))
    return failed


def main() -> int:
    """The command line; 1 if a schedule failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("MEMGANG_SEED", "0")))
    parser.add_argument("--replay", type=int, default=None)
    args = parser.parse_args()
    if args.replay is not None:
        _, broken = try_one(args.replay, trace=print)
        print(broken or "nothing broke")
        return broken is not None
    return bool(simulate(args.schedules, args.seed))


if __name__ == "__main__":
    sys.exit(main())
