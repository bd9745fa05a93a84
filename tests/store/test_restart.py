"""A server with many objects that dies and comes back, with everything that was acknowledged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.settings import Settings
from memgang.store import server

OBJECTS = 100_000 if os.environ.get("MEMGANG_SOAK") else 10_000


@pytest.mark.catalogue("E10")
async def test_a_large_server_restarts_with_all_its_objects(tmp_path: Path, opened: Callable[..., Any]) -> None:
    """Killed with -9 and asked again: the last object put is there, as is the first, and the count is right."""
    own: dict[str, Any] = {"state_dir": tmp_path / "state", "runtime_dir": tmp_path / "run"}
    async with opened(**own) as space:
        refs = []
        for start in range(0, OBJECTS, 2_000):
            refs += await space.put_many([f"value {n}" for n in range(start, start + 2_000)])
        pid = server.status(Settings.load(**own)).pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()

        assert await space.get(refs[-1]) == f"value {OBJECTS - 1}"

        print(f"{OBJECTS} objects: the first answer {time.monotonic() - began:.2f} s after the kill")
        assert await space.get(refs[0]) == "value 0"
        assert (await space.stats())["count"] == OBJECTS
