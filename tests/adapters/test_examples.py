"""The examples of adapters run as they stand, without a key; the second run computes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "openai_wrapped.py": ("openai", ["16 answers, all the same", "sent to the provider: 1"], ["sent to the provider: 0"]),
    "langgraph_shared.py": ("langgraph", ["calls of the model: 1", "the summary is computed"], ["calls of the model: 0", "['Why?']"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_shares(name: str, tmp_path: Path) -> None:
    """In a memory of its own: what the first run has computed, the second recalls."""
    library, first, second = EXAMPLES[name]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    (tmp_path / "host").mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MEMGANG_STATE_DIR": str(tmp_path / "state"),
                        "MEMGANG_RUNTIME_DIR": str(tmp_path / "run"), "MEMGANG_HOST_DIR": str(tmp_path / "host")}
    for expected in (first, second):
        done = subprocess.run([sys.executable, ROOT / "examples" / name], capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        assert all(line in done.stdout for line in expected), done.stdout
