"""The example of the README runs as it stands, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_asks_once_and_then_only_whether_it_has_changed(tmp_path: Path) -> None:
    """In a memory of its own."""
    (tmp_path / "host").mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MEMGANG_STATE_DIR": str(tmp_path / "state"),
                        "MEMGANG_RUNTIME_DIR": str(tmp_path / "run"), "MEMGANG_HOST_DIR": str(tmp_path / "host")}
    done = subprocess.run([sys.executable, ROOT / "examples" / "remembered_pages.py"], capture_output=True, text=True, env=env, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "16 pages, 1 object: <p>The pumps" in done.stdout
    assert "unchanged: True; the server was asked 2 times: 200, 39 bytes; 304, no body" in done.stdout
