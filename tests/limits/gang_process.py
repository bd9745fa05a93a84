"""A gang in a process of its own, for tests and benchmarks of limits: ``python tests/limits/gang_process.py '{"space": ...}'``.

The provider is simulated and shared by all processes through one file: it notes when each request arrived (by the clock
all processes of a machine share) and what became of it, and refuses by itself what is over ``provider_rpm``.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import time
from typing import Any

import memgang
from memgang.errors import BudgetExceeded, ModelError, WorkFailed
from memgang.llms.simulated import Simulated
from memgang.model import Completion, Prompt


class Provider(Simulated):
    """Simulated, with one ledger for all processes: a line ``arrived end micro-dollars`` for each request."""

    def __init__(self, ledger: str, *, most: int = 0, per_s: float = 60, refuse: int = 0, cost_factor: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ledger, self._most, self._per_s, self._refuse, self._cost = ledger, most, per_s, refuse, cost_factor

    async def complete(self, prompt: Prompt) -> Completion:
        """Arrive, be refused or answered."""
        now, completion = time.monotonic(), self._answer(prompt, 0)
        with open(self._ledger, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            seen = [line.split() for line in file]
            many = self._most and sum(float(at) > now - self._per_s for at, how, *_ in seen if how == "ok") >= self._most
            first = len(seen) == self._refuse - 1  # the n-th of all is refused, whatever the limit
            how = "429" if many or first else "ok"
            spent = completion.tokens_in * 0.25 + completion.tokens_out * 2 if how == "ok" else 0
            file.write(f"{now:.6f} {how} {spent:.2f} {os.getpid()}\n")
        if how == "429":
            raise ModelError(self.name, "transient", "429 simulated", "too many requests", self.retry_after_s)
        await asyncio.sleep(self.latency_ms / 1000)
        return completion


async def main(told: dict[str, Any]) -> None:
    """Open, say ready, wait for a line, ask, say what came of it."""
    provider = Provider(told["ledger"], **told.get("provider", {}))
    settings = {"lease_ms": 1000, "beat_ms": 250, **told.get("settings", {})}
    async with (
        memgang.open(space=told["space"], agent=told.get("agent", "a"), **settings) as space,
        memgang.Gang(space, provider, concurrency=told.get("concurrency", 16), limits=memgang.Limits(**told["limits"])) as gang,
    ):
        print(json.dumps({"ready": os.getpid()}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        answered, broke, failed = 0, 0, []

        async def ask(number: int) -> None:
            nonlocal answered, broke
            try:
                await gang.llm(f"Question {number} of process {os.getpid()}: {'why ' * told.get('long', 5)}")
                answered += 1
            except BudgetExceeded:
                broke += 1
            except (ModelError, WorkFailed) as error:
                failed.append(str(error))

        asking = [asyncio.create_task(ask(n)) for n in range(told["calls"])]
        await asyncio.wait(asking, timeout=told.get("seconds"))
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        print(json.dumps({"answered": answered, "broke": broke, "failed": failed}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
