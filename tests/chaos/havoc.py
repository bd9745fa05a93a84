"""The agent of chaos: seeded, it kills and stops workers and the server while they work, and counts what it did.

``campaign`` is one server, one space, some workers and a number of rounds under havoc, with the history
checked at the end. `soak.py` strings campaigns together; the tests run short ones.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.crew import Crew, Member
from tests.chaos.history import Breach, Facts, check, load, takeovers
from tests.chaos.servers import PrivateServer, programs
from tests.chaos.witness import Witness

LEASE_S, POLL_S = 0.3, 1.0
SETTINGS: dict[str, Any] = dict(
    lease_ms=300, beat_ms=75, hold_ms=5000, poll_ms=1000, attempts=60, negative_ttl_ms=100, janitor_ms=500, socket_timeout_s=2.0)
ROUND_S = 90.0  # a worker that has not ended a round by then hangs
KILLS_A_ROUND = 3


@dataclass(slots=True)
class Outcome:
    """What a campaign did and what came of it."""

    seed: int
    program: str
    persistent: bool
    hosts: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    takeover_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def wrong(self) -> int:
        return sum(b.invariant in ("value", "I9") for b in self.breaches)

    @property
    def hung(self) -> int:
        return sum(b.invariant == "I7" for b in self.breaches)


def _leads(history: Path) -> bool:
    """Whether the end of a worker's history shows a computation that has begun and not ended."""
    with history.open("rb") as file:
        file.seek(max(0, history.stat().st_size - 6000))
        lines = file.read()
    return lines.count(b'"e": "begin"') > lines.count(b'"e": "end"')


class Havoc:
    """Strikes at random moments while a round runs."""

    def __init__(self, crew: Crew, server: PrivateServer, witness: Witness, seed: int, odds: dict[str, int],
                 hosts: int = 1) -> None:
        self._hosts = hosts
        self._crew, self._server, self._witness = crew, server, witness
        self.chance = random.Random(f"havoc {seed}")
        self._odds = odds
        self._seed = seed
        self._started = 0
        self.counts: Counter[str] = Counter()
        self.kills: dict[int, float] = {}
        self.stood: list[tuple[int, float, float]] = []
        self.downs: list[tuple[float, float]] = []

    async def enlist(self) -> Member:
        """A new worker."""
        self._started += 1
        home = self._crew.folder / f"host{self._started % self._hosts}"  # death can be proved to those of the same place only
        (home / "shm").mkdir(parents=True, exist_ok=True)
        return await self._crew.start(f"w{self._started}", runtime_dir=str(home), host_dir=str(home / "shm"))

    async def round(self, number: int, calls: int, keys: int) -> None:
        """One round under havoc: ends when every worker that still lives has done its calls."""
        working = {asyncio.ensure_future(m.ask("round", number=number, calls=calls, keys=keys)): m for m in self._crew.members}
        deadline, kills = time.monotonic() + ROUND_S, 0
        while working:
            done, _ = await asyncio.wait(working, timeout=self.chance.expovariate(1 / 0.12), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                told = task.result()
                self.counts["values"] += told.get("values", 0)
                if "crashed" in told:
                    raise RuntimeError(f"worker {working[task].name} failed: {told['crashed']}")
                del working[task]
            if not working:
                break
            if time.monotonic() > deadline:
                for member in working.values():
                    member.kill()  # not struck off as killed: what it did not return counts as hung
                    self._crew.members.remove(member)
                break
            what = self.chance.choices(list(self._odds), list(self._odds.values()))[0]
            if what == "kill" and kills < KILLS_A_ROUND:
                kills += 1
                replacement = await self._kill()
                working[asyncio.ensure_future(replacement.ask("round", number=number, calls=calls, keys=keys))] = replacement
            elif what in ("stop", "stop long"):
                await self._stop(self.chance.uniform(0.02, 0.2) if what == "stop" else LEASE_S * self.chance.uniform(1.3, 3.0))
            elif what == "server":
                await self._server_dies()

    def _victim(self) -> Member:
        """Any worker; three times in four one that leads a computation just now, for that is where it hurts."""
        leading = [m for m in self._crew.members if _leads(Path(m.spec["history"]))]
        return self.chance.choice(leading if leading and self.chance.random() < 0.75 else self._crew.members)

    async def _kill(self) -> Member:
        victim = self._victim()
        self.kills[victim.pid] = self._crew.lose(victim)
        self.counts["kills"] += 1
        return await self.enlist()

    async def _stop(self, seconds: float) -> None:
        victim = self._victim()
        since = time.monotonic()
        victim.stop()
        await asyncio.sleep(seconds)
        victim.go_on()
        self.stood.append((victim.pid, since, time.monotonic()))
        self.counts["stops" if seconds < LEASE_S else "stops past the lease"] += 1

    async def _server_dies(self) -> None:
        since = time.monotonic()
        await asyncio.to_thread(self._server.kill)
        if not self._server.persistent:
            self._witness.died()
        await asyncio.sleep(self.chance.uniform(0, 0.2))
        await asyncio.to_thread(self._server.start)
        self.downs.append((since, time.monotonic() + 0.25))  # and the time in which clients come back
        self.counts["server kills"] += 1


def server_program(path: str) -> str:
    """The program given, or the one MemGang would start."""
    return path or next(iter(programs().values()))


async def campaign(
    folder: Path, seed: int, *, rounds: int, workers: int = 8, calls: int = 40, keys: int = 10, program: str = "",
    persistent: bool = True, odds: dict[str, int] | None = None, hosts: int = 1,
    options: Sequence[str] = (),
) -> Outcome:
    """Some rounds under havoc on a server of their own, and the verdict on their history."""
    began = time.monotonic()
    outcome = Outcome(seed, Path(server_program(program)).name, persistent, hosts)
    odds = odds or {"kill": 30, "stop": 20, "stop long": 12, "server": 4, "nothing": 20}
    with PrivateServer(folder / "server", program=program, persistent=persistent, options=options) as server:
        witness = Witness(server, "chaos")
        witness.start()
        async with Crew(server.url, "chaos", folder / "histories", seed, **SETTINGS) as crew:
            havoc = Havoc(crew, server, witness, seed, odds, hosts)
            for _ in range(workers):
                await havoc.enlist()
            for number in range(rounds):
                await havoc.round(number, calls, keys)
            await crew.end()
            facts = Facts(dead=set(havoc.kills), stood=havoc.stood, wall=time.time() - time.monotonic(), lease_s=LEASE_S,
                          bound_s=max(LEASE_S, SETTINGS["hold_ms"] / 1000) + POLL_S + 15.0)
            facts.hosts = {member.name: str(member.spec["host_dir"]) for member in crew.all}
            load(crew.histories(), facts)
        witness.close(facts)
    outcome.breaches = check(facts)
    outcome.counts = havoc.counts
    outcome.takeover_s = takeovers(facts, havoc.kills, havoc.downs)
    words = Counter(e.e for life in facts.lives for e in life.entries)
    outcome.counts.update({
        "rounds": rounds, "calls": sum(o.op == "recall" for o in facts.ops), "operations": len(facts.ops),
        "executions": len(facts.begins), "commits": words["committed"], "taken over": words["taken"],
        "fenced": words["fenced"], "released": words["released"], "lives of the data": len(facts.lives),
        "answers read": sum(o.op == "recall" and o.good and o.told["how"] in ("hit", "joined") for o in facts.ops),
        "reads at hand": sum(o.op == "get" and o.good and o.told["hand"] for o in facts.ops),
        "degraded": sum(o.op == "recall" and o.good and o.told["degraded"] for o in facts.ops),
        "errors": sum(o.t1 is not None and "error" in o.told for o in facts.ops),
    })
    for op in facts.ops:
        if op.t1 is not None and "error" in op.told:
            outcome.counts["error " + op.told["error"]] += 1
    outcome.seconds = time.monotonic() - began
    return outcome
