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
# One way of sharing, by five frameworks: one process for all of them, since most of its time is starting.
FRAMEWORKS = {"agents_sdk_shared.py": "agents", "pydantic_ai_shared.py": "pydantic_ai",
              "agent_framework_shared.py": "agent_framework_openai",
              "autogen_shared.py": "autogen_ext", "crewai_shared.py": "crewai"}
IN_TURN = "import runpy, sys; [runpy.run_path(path, run_name='__main__') for path in sys.argv[1:]]"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_shares(name: str, tmp_path: Path) -> None:
    """In a memory of its own: what the first run has computed, the second recalls."""
    library, first, second = EXAMPLES[name]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for expected in (first, second):
        said = _said(tmp_path, ROOT / "examples" / name)
        assert all(line in said for line in expected), said


def test_an_example_of_each_framework_runs_and_calls_its_model_once(tmp_path: Path) -> None:
    """Eight at once, each its way."""
    there = [ROOT / "examples" / name for name, library in FRAMEWORKS.items() if find_spec(library) is not None]
    if not there:
        pytest.skip("none of the frameworks is installed")
    said = _said(tmp_path, "-c", IN_TURN, *there)
    assert said.count("8 answers: Because it was asked.") == said.count("calls of the model: 1") == len(there), said


def _said(tmp_path: Path, *arguments: object) -> str:
    """What a program says, in a memory of its own."""
    (tmp_path / "host").mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MEMGANG_STATE_DIR": str(tmp_path / "state"),
                        "MEMGANG_RUNTIME_DIR": str(tmp_path / "run"), "MEMGANG_HOST_DIR": str(tmp_path / "host")}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=env, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout
