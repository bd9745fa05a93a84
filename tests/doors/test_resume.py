"""A run that is killed, or whose server is, goes on where it stopped and writes the same report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gates import until

from memgang.settings import Settings
from memgang.store import server

SOURCE = Path(__file__).parents[2] / "examples" / "nist-800-63-3" / "sp800-63c"
# A made-up delay for each question to the model, so that there is a half way to be killed at.
SHORT_LEASE = {"MEMGANG_LEASE_MS": "1000", "MEMGANG_BEAT_MS": "250"}


def command(space: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "memgang", "run", str(SOURCE), "-q", "What is a holder-of-key assertion?", "--space", space,
            "--llm", "simulated:latency_ms=60,tokens_per_s=5000", "--agents", "4", "--out", str(out), "--json"]


def start(space: str, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command(space, out), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, **SHORT_LEASE, "PYTHONPATH": "src"})


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def words(report: Path) -> str:
    """The report without its table of figures."""
    return report.read_text().partition("## What the gang did")[0]


async def some_work_is_done(opened: Callable[..., Any], space: str) -> None:
    async with opened(space=space) as looking:
        async def enough() -> bool:
            return (await looking.stats()).get("executions", 0) >= 20

        await until(enough, 60)


async def test_a_killed_run_goes_on_where_it_stopped(
    tmp_path: Path, opened: Callable[..., Any], space_name: str
) -> None:
    """kill -9 half way, the same command again: the same report, and finished steps are hits."""
    whole = ended(start(f"{space_name}-w", tmp_path / "whole.md"))
    first = start(f"{space_name}-k", tmp_path / "killed.md")
    await some_work_is_done(opened, f"{space_name}-k")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = ended(start(f"{space_name}-k", tmp_path / "killed.md"))
    assert words(tmp_path / "killed.md") == words(tmp_path / "whole.md")
    assert again["savings"]["physical"]["llm_calls"] < whole["savings"]["physical"]["llm_calls"]


async def test_a_run_outlives_its_server(tmp_path: Path, opened: Callable[..., Any], space_name: str) -> None:
    """kill -9 of the embedded server half way: the run brings it back and writes the same report."""
    ended(start(f"{space_name}-w", tmp_path / "whole.md"))
    running = start(f"{space_name}-s", tmp_path / "survived.md")
    await some_work_is_done(opened, f"{space_name}-s")
    pid = server.status(Settings.load()).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    ended(running)
    assert words(tmp_path / "survived.md") == words(tmp_path / "whole.md")
