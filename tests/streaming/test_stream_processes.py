"""Streams between processes, with real ones, some of them killed or stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Before the session's fixture clears the environment of MEMGANG_*.
SEED = os.environ.get("MEMGANG_SEED", "")
SOAK = bool(os.environ.get("MEMGANG_SOAK"))


class Workers:
    """Processes of one test; whatever is left of them is killed at its end."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []
        self.said: dict[int, list[dict[str, Any]]] = {}

    def start(self, *args: object) -> subprocess.Popen[str]:
        """One process, when it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.streaming.worker", *map(str, args)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "src"})
        self.all.append(process)
        self.until(process, "ready")
        return process

    def until(self, process: subprocess.Popen[str], word: str) -> dict[str, Any]:
        """The next line with this word in it."""
        assert process.stdout is not None
        for line in process.stdout:
            found: dict[str, Any] = json.loads(line)
            self.said.setdefault(process.pid, []).append(found)
            if word in found:
                return found
        raise AssertionError(f"worker {process.pid} ended with {process.wait()}")

    @staticmethod
    def go(process: subprocess.Popen[str]) -> None:
        """Let its readers join."""
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    for process in workers.all:
        process.kill()
        process.communicate()


@pytest.fixture
def seed() -> int:
    """Printed, and taken from the environment for a replay."""
    number = int(SEED) if SEED else random.randrange(1 << 30)
    print(f"MEMGANG_SEED={number}")
    return number


@pytest.mark.catalogue("E6")
def test_readers_that_join_at_random_are_all_delivered_the_same(workers: Workers, space_name: str, seed: int) -> None:
    """Three processes, 100 pieces a second: one run, and identical bytes for everybody, whenever they came."""
    readers, pieces = (167, 1000) if SOAK else (60, 150)
    seconds = pieces / 100
    processes = [workers.start(space_name, readers, pieces, 10, seconds * 0.9, seed + n, 10_000, "") for n in range(3)]
    for process in processes:
        workers.go(process)
    ends = [workers.until(process, "results") for process in processes]
    results = [result for end in ends for result in end["results"]]
    assert sum(end["runs"] for end in ends) == 1
    assert len(results) == 3 * readers and {r["outcome"] for r in results} == {"whole"}
    assert len({r["hash"] for r in results}) == 1
    assert all(r["lines"] == list(range(pieces)) for r in results)
    assert sum(len(r["lags"]) for r in results) > readers  # they did follow, not only replay


def spliced(result: dict[str, Any]) -> bool:
    """Whether a reader was delivered lines of more than one attempt, or not its first ones."""
    return len(result["attempts"]) > 1 or result["lines"] != list(range(len(result["lines"])))


@pytest.mark.catalogue("A1")
@pytest.mark.parametrize("text", ["", "="])
def test_a_killed_leader_leaves_no_splice(workers: Workers, space_name: str, seed: int, text: str) -> None:
    """kill -9 in mid-stream: who was delivered pieces is told or, where the next attempt says the same, goes on."""
    rng = random.Random(seed)
    for round_ in range(20 if SOAK else 3):
        processes = [workers.start(f"{space_name}-{round_}", 20, 100, 10, 0.2, seed + n, 1000, text) for n in range(3)]
        workers.go(processes[0])
        workers.until(processes[0], "leads")
        for process in processes[1:]:
            workers.go(process)
        time.sleep(rng.uniform(0.25, 0.8))  # the moment of the kill, not a wait for something
        processes[0].kill()
        results = [r for process in processes[1:] for r in workers.until(process, "results")["results"]]
        assert len(results) == 40 and not [r for r in results if spliced(r)]
        if text == "=":  # the same again: nobody notices
            assert {r["outcome"] for r in results} == {"whole"} and {len(r["lines"]) for r in results} == {100}
        else:
            assert "restarted" in {r["outcome"] for r in results}  # those who had been delivered something
            assert {len(r["lines"]) for r in results if r["outcome"] == "whole"} <= {100}


@pytest.mark.catalogue("A4")
def test_a_leader_that_was_stopped_past_its_lease_streams_no_more(workers: Workers, space_name: str, seed: int) -> None:
    """SIGSTOP for three leases, then SIGCONT: its chunks are refused, and no reader, its own included, gets a splice."""
    stopped = workers.start(space_name, 10, 150, 10, 0.1, seed, 500, "")
    others = [workers.start(space_name, 20, 150, 10, join_s, seed + n, 500, "") for n, join_s in ((1, 0.1), (2, 2.0))]
    workers.go(stopped)
    workers.until(stopped, "leads")
    for process in others:
        workers.go(process)
    time.sleep(0.4)
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        results = [r for process in others for r in workers.until(process, "results")["results"]]
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    end = workers.until(stopped, "results")
    assert end["stats"]["executions"] == 1 and end["stats"]["takeovers"] >= 1
    for result in [*results, *end["results"]]:
        assert not spliced(result)
    assert {r["outcome"] for r in end["results"]} == {"restarted"}
    whole = [r for r in results if r["outcome"] == "whole"]  # of those who came after it had been overtaken
    assert whole and len({r["hash"] for r in whole}) == 1 and str(stopped.pid) not in whole[0]["attempts"]
