"""Synthetic tapes: runs that nobody ran, in the form of real records, for pictures and measurements of any size.

Their title says so, and their header. A gang maps the chunks of a document, asks for shared facts (computed once, joined by who
asks meanwhile, reused by who asks later), shuffles results into partitions and reduces those to one answer.
The same arguments give the same tape. `python -m tests.flock.synthetic 8 > run.jsonl` writes one as a file.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from typing import Any

Record = dict[str, Any]


def tape(agents: int, *, chunks: int | None = None, seconds: int = 40, seed: int = 7) -> tuple[Record, list[Record]]:
    """The header and the records of a run of so many agents."""
    run = _Run(agents, chunks or max(24, min(5000, agents * 10)), seconds * 1000, seed)
    run.play()
    title = f"Due-diligence digest (synthetic, {agents} agents)"
    header = {"run": f"synthetic-{agents}", "space": "synthetic", "title": title, "started": 1_780_000_000_000,
              "ended": 1_780_000_000_000 + seconds * 1000, "state": "done", "model": "simulated", "price": None, "version": "0",
              "synthetic": True, "masked": False, "began": 1_780_000_000_000}
    return header, run.told(title)


class _Run:
    def __init__(self, agents: int, chunks: int, length: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.agents = [f"a{number:0{3 if agents > 99 else 2}}" for number in range(1, agents + 1)]
        self.chunks, self.length = chunks, length
        self.facts = min(40, 8 + agents // 8)
        self.parts = min(60, 12 + agents // 8)
        self.records: list[Record] = []
        self.results: list[tuple[str, str]] = []  # object, its writer
        self.calls = 0
        self.end = 0.0

    def say(self, t: float, op: str, agent: str = "", **fields: Any) -> None:
        self.records.append({"t": round(t), "op": op, **({"agent": agent} if agent else {}), **fields})

    def spread(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def play(self) -> None:
        length = self.length
        self.say(0, "phase", text="read")
        for number, agent in enumerate(self.agents):
            self.say(20 + number / len(self.agents) * length * 0.02, "join", agent)
        for number in range(self.chunks):
            self.say(length * (0.004 + 0.036 * number / self.chunks), "write", self.agents[0], raw="put", role="read", obj=f"c{number:05}",
                     ring="src", kind="part", pos=round((number + 0.5) / self.chunks, 5), tok=self.random.randint(1400, 2300), bytes=6000)
        self.say(length * 0.05, "phase", text="map")
        self.say(length * 0.05, "planned", role="map", text=str(self.chunks))
        free = self.map(length * 0.05, length * 0.5)
        self.say(free, "phase", text="shuffle")
        free = self.shuffle(free + length * 0.005, length * 0.16)
        self.say(free, "phase", text="reduce")
        self.say(free, "planned", role="reduce", text=str(self.parts))
        free = self.reduce(free + length * 0.005, length * 0.18)
        self.answer(free + length * 0.01)

    def think(self, t: float, agent: str, role: str, kind: str, ms: float, obj: str, ring: str, src: list[str], **more: Any) -> list[int]:
        """A call of the model and the object that came of it; returns what it cost."""
        self.calls += 1
        call, out = f"k{self.calls:06}", self.random.randint(250, 700)
        cost = [1, 1, self.random.randint(1200, 3000), out, 0, out * 12, round(ms)]
        self.say(t, "think_start", agent, role=role, call=call, fn="ask", ck="llm", model="simulated")
        self.say(t + ms, "write", agent, raw="put", role=role, obj=obj, ring=ring, kind=kind, tok=out, bytes=out * 4, src=src, **more)
        self.say(t + ms, "think_end", agent, raw="committed", role=role, obj=obj, call=call, ck="llm", tok=out, ms=round(ms), own=cost)
        return cost

    def map(self, began: float, lasts: float) -> float:
        each = lasts / max(1, self.chunks / len(self.agents))
        ready: dict[int, tuple[float, str, list[int]]] = {}  # fact -> from when, by whom, cost
        weights = [1 / (1 + number * 0.55) for number in range(self.facts)]
        heap = [(began + self.spread(0, each * 0.4), agent) for agent in self.agents]
        heapq.heapify(heap)
        last = began
        for chunk in range(self.chunks):
            t, agent = heapq.heappop(heap)
            took, source = each * self.spread(0.55, 1.25), f"c{chunk:05}"
            self.say(t, "read", agent, role="map", obj=source, bytes=6000)
            t += took * 0.14
            for turn in range(2):
                if self.random.random() > (0.85 if turn == 0 else 0.45):
                    continue
                fact = 0 if chunk < len(self.agents) and turn == 0 else self.random.choices(range(self.facts), weights)[0]
                name, call = f"f{fact:03}", f"q{fact:03}"
                if fact not in ready:
                    self.say(t, "lease", agent, raw="claimed", role="map", call=call, fn="facts", ck="tool")
                    cost = self.think(t + 5, agent, "map", "fact", took * 0.48, name, "fact", [source],
                                      pos=round(fact * 0.618 % 1, 4))
                    t += took * 0.5
                    self.say(t, "done", agent, raw="committed", role="map", call=call, fn="facts", ck="tool", obj=name, own=[1])
                    ready[fact] = (t, agent, cost)
                    continue
                there, by, cost = ready[fact]
                waited = max(0.0, there - t)
                if waited:
                    self.say(t, "wait", agent, raw="waits", role="map", call=call, ck="tool", by=by)
                    t = there + self.spread(5, 60)
                self.say(t, "hit", agent, role="map", obj=name, call=call, ck="tool", by=by, why="joined" if waited else "hit", saved=cost,
                         **({"raw": "joined", "ms": round(waited)} if waited else {}))
                t += took * 0.1
            if self.random.random() < 0.02:
                self.say(t, "error", agent, raw="refused", role="map", obj=source, why="rate limited; tried again")
                t += took * 0.2
            result = f"m{chunk:05}"
            self.think(t, agent, "map", "answer", took * 0.45, result, "map", [source])
            t += took * 0.47
            self.say(t, "done", agent, raw="committed", role="map", call=f"m{chunk:05}", fn="map", ck="function", obj=result, own=[1])
            self.results.append((result, agent))
            t += took * 0.06
            last = max(last, t)
            heapq.heappush(heap, (t, agent))
        return last

    def shuffle(self, began: float, lasts: float) -> float:
        fan = max(2, min(9, round(self.chunks / self.parts * 1.2)))
        free = dict.fromkeys(self.agents, began)
        each = lasts / -(-self.parts // len(self.agents))
        for part in range(self.parts):
            agent = self.agents[part % len(self.agents)]
            t, source = free[agent] + self.spread(0, each * 0.1), []
            for turn in range(fan):
                result = self.results[(part + turn * self.parts + self.random.randrange(7)) % len(self.results)][0]
                source.append(result)
                self.say(t, "read", agent, role="shuffle", obj=result, bytes=1700)
                t += each * 0.8 / fan * self.spread(0.6, 1.2)
            self.say(t, "write", agent, raw="put", role="shuffle", obj=f"p{part:03}", ring="part", kind="partition", tok=fan * 420,
                     bytes=fan * 1700, src=source)
            free[agent] = t + each * 0.08
        return max(free.values())

    def reduce(self, began: float, lasts: float) -> float:
        free = dict.fromkeys(self.agents, began)
        each = lasts / -(-self.parts // len(self.agents))
        for part in range(self.parts):
            agent = self.agents[(part * 3 + 1) % len(self.agents)]
            t, fact = free[agent] + self.spread(0, each * 0.08), self.random.randrange(min(self.facts, 8))
            self.say(t, "read", agent, role="reduce", obj=f"p{part:03}", bytes=9000)
            t += each * 0.12
            self.say(t, "hit", agent, role="reduce", obj=f"f{fact:03}", call=f"q{fact:03}", ck="tool", by=self.agents[0], why="hit",
                     saved=[1, 1, 1900, 420, 0, 5040, 900])
            t += each * 0.12
            self.think(t, agent, "reduce", "summary", each * 0.5, f"r{part:03}", "red", [f"p{part:03}", f"f{fact:03}"])
            t += each * 0.52
            self.say(t, "done", agent, raw="committed", role="reduce", call=f"r{part:03}", fn="reduce", ck="function",
                     obj=f"r{part:03}", own=[1])
            free[agent] = t + each * 0.06
        return max(free.values())

    def answer(self, began: float) -> None:
        self.say(began, "phase", text="answer")
        agent, left = self.agents[1 % len(self.agents)], max(self.length - began, self.length * 0.06)
        for part in range(self.parts):
            self.say(began + left * 0.3 * part / self.parts, "read", agent, role="answer", obj=f"r{part:03}", bytes=2400)
        self.think(began + left * 0.35, agent, "answer", "report", left * 0.45, "answer", "ans",
                   [f"r{part:03}" for part in range(self.parts)])
        self.end = began + left * 0.9

    def told(self, title: str) -> list[Record]:
        self.say(0, "run_start", text=title)
        self.say(self.end, "run_end", text="done")
        for record in self.records:  # whatever chance made of it, it lasts as long as was asked for
            record["t"] = round(record["t"] * self.length / self.end)
        self.records.sort(key=lambda record: (record["t"], record["op"] != "run_start", record["op"] == "run_end"))
        return [{"id": f"s{number:06}", **record} for number, record in enumerate(self.records)]


if __name__ == "__main__":
    told, records = tape(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
    print(json.dumps({"memgang_tape": 1, "header": told}))
    for record in records:
        print(json.dumps(record, separators=(",", ":")))
