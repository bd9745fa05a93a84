"""Random calls of all scripts, made for the model and then carried out by a server: same replies, same keys."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.protocol.calls import Request, Shard
from tests.protocol.keyspace import State
from tests.protocol.model import MODEL, Model
from tests.protocol.served import Served, dumped

HOUR_US = 3_600_000_000
CALLS, IDENTS, NAMES, WHO = ("c1", "c2"), ("aa", "bb", "cc"), ("n1", "n2"), ("u/a", "u/b")
OWNERS, INCS, HOLDERS = ("o1", "o2", "o3"), ("i1", "i2"), ("i1", "@u/a")
BODIES = {"aa": "x" * 10, "bb": "y" * 200, "cc": ""}
# Instants worth standing at, one before and one behind: every comparison of time in the scripts has its two sides there.
INSTANTS = ("until", "expires", "resume", "guard", "since")


class Scenario:
    """One sequence of calls; the same for the same seed."""

    def __init__(self, seed: int, length: int, model: Model = MODEL) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.shard = Shard(f"{{d{seed}.00}}")
        self.state = State()
        self.us = 1_700_000_000_000_000 + self.random.randrange(HOUR_US)
        self.steps: list[tuple[int, list[str], Request]] = []
        self.replies: list[Any] = []
        self.ops = 0
        self.seqs = dict.fromkeys(CALLS, 0)
        # Calls on objects and on flights hardly touch each other: what is of one kind meets more of its own.
        self.makers: list[Callable[[], Request]] = self.random.choice([self.flights, self.objects, self.flights + self.objects])
        for _ in range(length):
            self.pass_time()
            request = self.random.choice(self.steps)[2] if self.steps and self.random.random() < 0.12 else self.request()
            self.steps.append((self.us, self.state.collect(self.us // 1000), request))
            if request.script == "lay":
                self.state.db[request.keys[0]] = request.args[0]
                self.replies.append(True)
                continue
            if request.script == "age":
                self.replies.append(sum(self.state.without(request.keys[0], field) for field in request.args))
                continue
            self.replies.append(model.apply(self.state, self.us, *request))
            if request.script == "drop":
                self.seqs = dict.fromkeys(CALLS, 0)

    @property
    def flights(self) -> list[Callable[[], Request]]:
        return [self.claim] * 5 + [self.beat] * 2 + [self.commit] * 4 + [self.fail] * 2 + [self.release] * 2 + [
            self.chunk] * 4 + [self.drop, self.drop, self.answer, self.answer]

    @property
    def objects(self) -> list[Callable[[], Request]]:
        return [self.put] * 6 + [self.put_many] * 2 + [self.lay, self.age] + [self.get] * 2 + [self.pin] * 2 + [self.forget] * 2 + [
            self.sweep] * 2 + [self.evict] * 2 + [self.touch] * 2 + [self.name] * 4 + [self.kin]

    @property
    def keys(self) -> list[str]:
        """Every key that was declared, the totals first."""
        found = dict.fromkeys([self.shard.head[0]])
        for _, _, request in self.steps:
            found.update(dict.fromkeys(request.keys))
        return list(found)

    def pass_time(self) -> None:
        """Mostly a little; now and then to an instant that something waits for, and sometimes an hour either way."""
        luck = self.random.random()
        if luck < 0.25:
            kept = [int(v.get(f, 0)) for v in self.state.db.values() if isinstance(v, dict) for f in INSTANTS]
            kept += self.state.dead.values()
            ahead = [at for at in kept if at > 0]
            if ahead:
                self.us = (self.random.choice(ahead) + self.random.choice((-1, 0, 1))) * 1000 + self.random.randrange(1000)
        elif luck < 0.29:
            self.us += self.random.choice((HOUR_US, -HOUR_US))
        elif luck < 0.9:
            self.us += self.random.choice((1, 700, 40_000, 400_000, 3_000_000))

    def request(self) -> Request:
        return self.random.choice(self.makers)()

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def op(self) -> str:
        self.ops += 1
        return f"op{self.ops}"

    # ── flights ───────────────────────────────────────────────────────────────────────────────

    def call(self) -> str:
        return self.one("c1", "c1", "c1", "c2")

    def lead(self, call: str) -> tuple[str, str]:
        """Owner and fence: mostly those that lead, else one of them wrong."""
        h = self.state.db.get(self.shard.flight(call)[2]) or {}
        owner, fence = h.get("owner", "o1"), h.get("fence", "0")
        luck = self.random.random()
        if luck < 0.15:
            return self.one(*OWNERS), fence
        if luck < 0.25:
            return owner, str(int(fence) + self.one(-1, 1))
        return owner, fence

    def claim(self) -> Request:
        call = self.call()
        h = self.state.db.get(self.shard.flight(call)[2]) or {}
        unusable = ("", "")
        if "answer" in h and self.random.random() < 0.4:
            unusable = (self.one(h["answer"], h["answer"], "zz"), self.one(h["fence"], h.get("oldfence", h["fence"]), "1"))
        return self.shard.claim(call, self.one(*WHO), self.one(*OWNERS), self.one(*INCS), self.one(1000, 2000), self.one(1, 3, 3),
                                self.one(1500, 5000), unusable, self.one(0, 0, 60_000))

    def beat(self) -> Request:
        call = self.call()
        return self.shard.beat(call, self.one(*WHO), *self.lead(call), self.one(1000, 1000, 1500))

    def commit(self) -> Request:
        call = self.call()
        return self.shard.commit(
            call, self.one(*WHO), *self.lead(call), self.one(*IDENTS), self.one(0, 1, 30_000, 90_000), self.one(0, 1500),
            self.one(0, 31), self.one("", '{"v":1}'), self.one("{}", '{"calls":2}'), self.one(0, 0, 60_000), self.one(True, False))

    def answer(self) -> Request:
        """A put of what a commit will want to point at."""
        return self.shard.put(self.one(*IDENTS[:2]), self.one(*WHO), self.op(), "v" * 5, ttl=self.one(0, 100_000))

    def fail(self) -> Request:
        call = self.call()
        return self.shard.fail(call, self.one(*WHO), *self.lead(call), self.one("permanent", "transient"), self.one('{"e":1}', '{"e":2}'),
                               self.one(0, 200, 5000))

    def release(self) -> Request:
        call = self.call()
        if self.random.random() < 0.3:
            return self.shard.release(call, self.one(*WHO), "", self.one(*INCS))
        return self.shard.release(call, self.one(*WHO), *self.lead(call))

    def drop(self) -> Request:
        answer = (self.state.db.get(self.shard.flight("c1")[2]) or {}).get("answer", "aa")
        calls = self.one([("c1", "")], [("c1", answer)], [("c1", self.one(answer, "bb", "!")), ("c2", self.one("", "!", "aa"))])
        return self.shard.drop(calls, self.one(*WHO), "test")

    def chunk(self) -> Request:
        call = self.call()
        h = self.state.db.get(self.shard.flight(call)[3]) or []
        end = int(h[-1][0][:-2]) if h else 0
        seq = max(1, end + self.one(1, 1, 1, 1, 0, 2))
        return self.shard.chunk(call, self.one(*WHO), *self.lead(call), seq, self.one("data", "data", "head", "end"),
                                self.one("", "ab", "ab\x00\xff", "z" * 30), self.one(1000, 40), self.one(True, False))

    # ── objects and names ─────────────────────────────────────────────────────────────────────

    def put(self) -> Request:
        ident = self.one(*IDENTS)
        body = BODIES[ident]
        size = len(body) + (1 if self.random.random() < 0.05 else 0)
        how = self.one("inline", "inline", "inline", "laid", "host")
        what = {"inline": body, "laid": "1", "host": "h1"}[how]
        parents = " ".join(self.random.sample(("p" * 32, "q" * 32, "r" * 32), self.random.randrange(3)))
        if self.random.random() < 0.1:  # many, so that the first field is soon full
            parents = " ".join(f"{self.random.randrange(999):032d}" for _ in range(64))
        return self.shard.put(
            ident, self.one(*WHO), self.op(), body, self.one(0, 500, 60_000), self.one("0.001", "2.5", "0.3333333333333333"),
            self.one(0, 0, 205, 1000), self.one(0, 1000, 60_000), self.random.random() < 0.2, self.one("", "c1"), parents, how, size, what,
            meta=self.one("{}", '{"k":1}'), trust=self.one(0, 0, 2), share=self.one(0, 0, 200, 215))

    def lay(self) -> Request:
        """A large body on its way, whole or not."""
        ident = self.one(*IDENTS[:2])
        return Request("lay", (f"{self.shard.at}b:{ident}:t:none",), (BODIES[ident][self.one(0, 0, 1):],))

    def age(self) -> Request:
        """A record becomes one of before uses and owners were counted."""
        return Request("age", (self.shard.record(self.one(*IDENTS)),), ("seen", "uses"))

    def put_many(self) -> Request:
        bodies = [(ident, BODIES[ident]) for ident in self.some()]
        return self.shard.put_many(
            bodies, self.one(*WHO), self.op(), self.one(0, 500, 60_000), self.one("0.001", "0.3333333333333333"),
            self.one(0, 0, 205, 1000), self.one(0, 1000, 60_000), self.random.random() < 0.2, self.one("", "p" * 32),
            self.one("{}", '{"k":1}'), share=self.one(0, 0, 205))

    def get(self) -> Request:
        return self.shard.get(*self.some(), most=self.one(1 << 20, 1 << 20, 205, 9))

    def pin(self) -> Request:
        return self.shard.pin(self.one(*IDENTS), self.one(*WHO), self.one(*HOLDERS), self.one(0, 1000, 60_000))

    def some(self) -> list[str]:
        return self.random.sample(IDENTS, self.random.randrange(1, 4))

    def forget(self) -> Request:
        return self.shard.forget(self.some()[:2], self.one(*WHO), self.one("", "because"), self.op(), self.one("-", "-", "root1", "root2"),
                                 self.one(1000, 90_000))

    def sweep(self) -> Request:
        return self.shard.sweep(self.some())

    def evict(self) -> Request:
        return self.shard.evict(self.some(), self.one(0, 1, 10, 100_000), of=self.one("", "", *WHO))

    def touch(self) -> Request:
        reads = [(i, self.one(1, 3, 9)) for i in self.some()]
        return self.shard.touch(self.one(*INCS), self.random.randrange(1, 6), reads, counters=self.one("{}", '{"hits":2,"reads":1}'))

    def name(self) -> Request:
        text = self.one(*NAMES)
        version = (self.state.db.get(f"{self.shard.at}n:{text}") or {}).get("version", "0")
        return self.shard.name(text, self.one(*WHO), self.op(), self.one("", *IDENTS), self.one("*", "0", version, version, "5"))

    def kin(self) -> Request:
        return self.shard.kin(self.some())


def difference(scenario: Scenario, served: Served) -> str | None:
    """What the server does otherwise than the model, in words; None where it does the same."""
    replies, keys = served.run(scenario.steps, scenario.keys)
    for number, (ours, theirs) in enumerate(zip(scenario.replies, replies, strict=True)):
        if _plain(ours) != _plain(theirs):
            us, _, request = scenario.steps[number]
            return (f"seed {scenario.seed}, call {number} at {us}: {request.script} {request.keys} {request.args}\n"
                    f"  model  {ours}\n  server {theirs}")
    expected = dumped(scenario.state, scenario.keys[0])
    wrong = [f"  {key}\n    model  {expected.get(key)}\n    server {keys.get(key)}"
             for key in sorted({*expected, *keys}) if expected.get(key) != keys.get(key)]
    return f"seed {scenario.seed}, after {len(scenario.steps)} calls:\n" + "\n".join(wrong) if wrong else None


def _plain(reply: Any) -> Any:
    """Numbers and their text are told apart by no caller; the cost of an object is a number in whatever spelling."""
    if isinstance(reply, list):
        here = reply[:1] in (["here"], ["parts"], ["elsewhere"])
        return [round(float(part), 12) if here and i == 5 else _plain(part) for i, part in enumerate(reply)]
    return str(reply)
