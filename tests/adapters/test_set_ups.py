"""The set-ups of docs/adapters.md run as written, against a provider on a port; a second run asks nothing."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import memgang
from tests.adapters.provider import Provider

PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text("utf-8")
BLOCKS = {
    f"{title} {number}".removesuffix(" 0"): block
    for title, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", section, re.M | re.S))
}
ASKS = "result =", "answer ="


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """The provider that the SDKs' own variables name."""
    found = Provider()
    monkeypatch.setenv("OPENAI_BASE_URL", found.url + "/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine-12345678")
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    yield found
    found.close()
    if find_spec("langchain_core") is not None:  # one of the set-ups holds for the whole process
        from langchain_core.globals import set_llm_cache

        set_llm_cache(None)


@pytest.mark.parametrize("title", BLOCKS)
async def test_a_set_up_runs_as_written(title: str, blocking: memgang.BlockingSpace, provider: Provider) -> None:
    """Twice; where it asks a model, the model is asked once."""
    block = BLOCKS[title]
    needed = {name.partition(".")[0] for node in ast.walk(ast.parse(block, mode="exec")) for name in _imported(node)}
    if missing := sorted(name for name in needed if find_spec(name) is None):
        pytest.skip(f"not installed: {', '.join(missing)}")
    code = compile(block, f"docs/adapters.md, {title}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for number in range(2):
        # Two agents, each with its first ask: an answer is shared where the model samples, too.
        with blocking.awaited.acting_as(agent=f"agent-{number}"):
            names: dict[str, Any] = {"space": blocking, "builder": _builder()}
            if code.co_flags & inspect.CO_COROUTINE:
                await eval(code, names)
            else:  # as a program without an event loop would
                await asyncio.to_thread(eval, code, names)
    assert len(provider.asked) == any(word in block for word in ASKS)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [name.name for name in node.names] if isinstance(node, ast.Import) else []


def _builder() -> Any:
    if find_spec("langgraph") is None:
        return None
    from langgraph.graph import END, START, StateGraph

    builder = StateGraph(dict)
    builder.add_node("only", lambda state: state)
    return builder.add_edge(START, "only").add_edge("only", END)
