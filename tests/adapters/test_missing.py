"""An adapter whose library is missing says which to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("adapter", "library", "extra"), [
    ("langgraph", "langgraph", "memgang[langgraph]"), ("langchain", "langchain_core", "memgang[langchain]"),
    ("agents", "agents", "memgang[agents]"), ("pydantic_ai", "pydantic_ai", "memgang[pydantic-ai]"),
    ("agent_framework", "agent_framework", "memgang[agent-framework]"), ("autogen", "autogen_core", "memgang[autogen]"),
])
def test_an_adapter_without_its_library_names_the_extra(adapter: str, library: str, extra: str) -> None:
    """As an error of ours, with the command to type; the rest of MemGang works without it."""
    code = (f"import sys; sys.modules[{library!r}] = None\nimport memgang, memgang.errors\nmemgang.wrap, memgang.connect\n"
            f"try:\n    import memgang.adapters.{adapter}\nexcept memgang.errors.ConfigError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])

    assert done.returncode == 0, done.stderr
    assert f"pip install '{extra}'" in done.stdout
