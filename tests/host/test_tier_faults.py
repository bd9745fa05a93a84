"""Processes that die or stop while they use the tier, and readers that have nobody to tell them that it is good."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memgang.errors import UnknownReference
from memgang.store.host import Home, Tier, enter
from memgang.store.host import tail as tails
from tests.gates import until
from tests.host.writer import body

KILLS = 500 if os.environ.get("MEMGANG_SOAK") else 50


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """This process's place in a tier that others of the test share."""
    made = enter("store", "space", base=tmp_path, bytes_max=16 << 20)
    assert made is not None
    yield made
    made.leave()


def start(base: Path, seed: int) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-m", "tests.host.writer", str(base), str(seed)], stdout=subprocess.PIPE,
                               text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    return process


def whole(tier: Tier) -> int:
    """How many bodies there are; each is right, and what is counted is what is there."""
    with tier.entries.env.begin() as reading:
        found = dict(reading.cursor(db=tier.entries.bodies))
        assert reading.stat(tier.entries.ages)["entries"] == len(found)
    for key, raw in found.items():
        assert raw.endswith(body(int(key[1:])))
    return len(found)


@pytest.mark.catalogue("A27")
def test_writers_and_readers_that_are_killed_leave_the_tier_whole(home: Home, tmp_path: Path) -> None:
    """Again and again, at any moment: nothing torn, no reader's slot lost, and it does not grow."""
    chance = random.Random(27)
    writers = [start(tmp_path, n) for n in range(2)]
    try:
        for n in range(KILLS):
            time.sleep(chance.uniform(0.001, 0.02))
            victim = chance.randrange(2)
            writers[victim].send_signal(signal.SIGKILL)
            writers[victim].wait()
            assert "wrong" not in (writers[victim].stdout or []).read()  # type: ignore[union-attr]
            writers[victim] = start(tmp_path, 100 + n)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert whole(home.tier) > 0
    home.tier.tidy()
    assert "no active readers" in home.tier.entries.env.readers()
    if home.tier.flags.poisoned:  # somebody could not take something out in time
        assert home.tier.clear({})
    home.tier.take_out(["k1"])
    assert not home.tier.flags.poisoned
    assert (home.folder / "tier" / "data.mdb").stat().st_size <= 16 << 20


@pytest.mark.catalogue("A25")
def test_a_process_that_is_stopped_at_any_moment_delays_nobody_by_much(home: Home, tmp_path: Path) -> None:
    """Whatever it was at: keeping goes on or is left out, and what must go is gone or read by nobody."""
    writer = start(tmp_path, 25)
    chance, longest = random.Random(25), 0.0
    try:
        for n in range(60):
            time.sleep(chance.uniform(0.0005, 0.005))
            writer.send_signal(signal.SIGSTOP)
            os.waitpid(writer.pid, os.WUNTRACED)
            home.tier.flags.live = time.monotonic() + 10
            began = time.monotonic()
            home.tier.take_out([f"k{n}"])
            longest = max(longest, time.monotonic() - began)
            assert home.tier.body(f"k{n}", 0) is None
            writer.send_signal(signal.SIGCONT)
            if home.tier.flags.poisoned:
                ends = time.monotonic() + 30
                while not home.tier.clear({}):
                    assert time.monotonic() < ends
    finally:
        writer.kill()
        writer.wait()
    assert longest < 5  # of 0.05 s; a hang is what is meant


@pytest.mark.catalogue("A28")
async def test_while_the_server_is_away_nobody_reads_what_nobody_can_vouch_for(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is not read any more (its reader is stopped): a second later the tier is silent, and good again afterwards."""
    async with opened() as space:
        ref = await space.put("x")
        await asyncio.sleep(0)
        assert space.store.objects.at_hand(ref) is not None

        def stopped(*_: Any) -> None:
            raise OSError("stopped")

        monkeypatch.setattr(tails.Tail, "look", stopped)

        async def silent() -> bool:
            return space.store.objects.at_hand(ref) is None

        await until(silent)
        assert await space.get(ref) == "x"  # by asking
        monkeypatch.undo()

        async def good() -> bool:
            return space.store.objects.at_hand(ref) is not None

        await until(good)


async def test_a_process_whose_turn_it_is_to_read_the_log_and_that_does_not_is_replaced(
    opened: Callable[..., Any], space_name: str
) -> None:
    """Another process of the host has the role, and is stopped with it: this one reads the log as well."""
    program = (
        "import asyncio, sys, memgang\n"
        "async def main():\n"
        f"    async with memgang.open(space={space_name!r}, agent='other') as space:\n"
        "        print(space.store._tail._lock is not None, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n")
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        async with opened() as space:
            ref = await space.put("x")
            other.send_signal(signal.SIGSTOP)
            os.waitpid(other.pid, os.WUNTRACED)
            tier = space.store.tier
            stopped = time.monotonic()

            async def read_again() -> bool:
                return tier.flags.live > stopped

            await until(read_again)
            assert space.store.objects.at_hand(ref) is not None
            assert await space.forget(ref)
            with pytest.raises(UnknownReference):
                await space.get(ref)
    finally:
        other.kill()
        other.wait()
