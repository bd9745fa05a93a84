"""Limits that gangs in several processes share, seen from the provider's side."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.gates import until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Gangs:
    """Some gangs in processes of their own, and the ledger of the provider they share."""

    def __init__(self, folder: Path, space: str, count: int, **told: Any) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self._told = [{"space": space, "ledger": str(self.ledger), "agent": f"a{n}", **told} for n in range(count)]
        self.processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Gangs:
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
        for told in self._told:
            self.processes.append(await asyncio.create_subprocess_exec(
                sys.executable, str(HERE / "gang_process.py"), json.dumps(told), env=env,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE))
        for process in self.processes:
            await self.said(process)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @staticmethod
    async def said(process: asyncio.subprocess.Process) -> dict[str, Any]:
        """The next line of a process."""
        assert process.stdout is not None
        async with asyncio.timeout(120):
            line = await process.stdout.readline()
        assert line, "the process ended without a word"
        return dict(json.loads(line))

    def go(self) -> None:
        """Let all begin."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")

    async def done(self) -> list[dict[str, Any]]:
        """What each says at its end."""
        return [await self.said(process) for process in self.processes]  # one that has ended has said so before

    def requests(self, how: str = "") -> list[float]:
        """When requests arrived, in order; all, or those that ended so."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return sorted(float(at) for at, end, *_ in lines if not how or end == how)

    def spent(self) -> float:
        """Micro-dollars the provider would bill."""
        return sum(float(line.split()[2]) for line in self.ledger.read_text().splitlines())


def most_in_any(times: list[float], span_s: float) -> int:
    """The largest number of instants in any window of this length."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - span_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.catalogue("D18")
async def test_three_processes_never_send_more_than_their_one_limit_in_any_window(tmp_path: Path, space_name: str) -> None:
    """Counted by the provider, in windows that slide; all the calls are answered in the end, and the limit is used."""
    limits = {"requests_per_minute": 12, "per_s": 2.0}
    async with Gangs(tmp_path, space_name, 3, limits=limits, calls=12, provider={"latency_ms": 20}) as gangs:
        gangs.go()
        ended = await gangs.done()

    assert [e["answered"] for e in ended] == [12, 12, 12], ended
    assert most_in_any(gangs.requests(), 2.0) == 12


@pytest.mark.catalogue("D18")
async def test_a_429_stops_all_processes_for_as_long_as_the_provider_said(tmp_path: Path, space_name: str) -> None:
    """After the refusal only what was on its way arrives, then nothing; the refused call is answered in the end."""
    provider = {"latency_ms": 50, "refuse": 20, "retry_after_s": 2.0}
    async with Gangs(tmp_path, space_name, 3, limits={"concurrency": 6}, calls=20, provider=provider) as gangs:
        gangs.go()
        ended = await gangs.done()

    assert [e["answered"] for e in ended] == [20, 20, 20], ended
    refused = gangs.requests("429")
    assert len(refused) == 1
    behind = [at - refused[0] for at in gangs.requests() if at > refused[0]]
    # At most the places of all were on their way; the rest begins when the pause is over.
    assert len([s for s in behind if s < 2.0]) <= 6, behind
    assert not [s for s in behind if 0.5 < s < 2.0], behind


@pytest.mark.catalogue("D18")
async def test_three_processes_spend_no_more_than_their_one_budget(tmp_path: Path, space_name: str) -> None:
    """By the provider's bill; and those who were refused were told so."""
    limits = {"usd": 0.0012, "name": "purse"}
    async with Gangs(tmp_path, space_name, 3, limits=limits, calls=30, provider={"latency_ms": 20}) as gangs:
        gangs.go()
        ended = await gangs.done()

    bill, calls = gangs.spent(), len(gangs.requests())
    assert bill <= 1200 + bill / calls
    assert bill > 600, "most of the budget can be used"
    assert sum(e["answered"] for e in ended) == calls and all(e["broke"] == 30 - e["answered"] for e in ended), ended


async def holder_is_killed(gangs: Gangs) -> None:
    """The first process holds all places when it is killed; the other's calls go on."""
    holder, other = gangs.processes
    assert holder.stdin is not None and other.stdin is not None

    async def requests(count: int) -> None:
        async def there() -> bool:
            return len(gangs.requests()) >= count

        await until(there, 60)

    holder.stdin.write(b"go\n")
    await requests(2)
    other.stdin.write(b"go\n")
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    await requests(4)


@pytest.mark.catalogue("D18")
async def test_the_places_of_a_killed_process_come_back(tmp_path: Path, space_name: str) -> None:
    """A process that holds all places is killed; the other's calls go on when its leases have passed."""
    async with Gangs(tmp_path, space_name, 2, limits={"concurrency": 2}, calls=4, provider={"latency_ms": 30_000}) as gangs:
        await holder_is_killed(gangs)


@pytest.mark.catalogue("D18")
async def test_the_places_of_a_killed_process_of_this_host_do_not_wait_for_its_leases(tmp_path: Path, space_name: str) -> None:
    """Its leases would last for ten minutes; who waits finds it dead, and gives back its places and its turn in the line."""
    told = {"settings": {"lease_ms": 600_000, "beat_ms": 1000}, "limits": {"concurrency": 2}, "calls": 4}
    async with Gangs(tmp_path, space_name, 2, provider={"latency_ms": 300_000}, **told) as gangs:
        await holder_is_killed(gangs)
