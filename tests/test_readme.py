"""The set-ups of README's "You already have agents", run as written: the proxy, MCP, LangGraph."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.provider import Provider

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "README.md").read_text("utf-8").partition("## You already have agents")[2].partition("\n## ")[0]
BLOCKS = dict(re.findall(r"^```(sh|json|python)\n(.*?)^```", SECTION, re.M | re.S))
# Somebody's agent, who knows nothing of us.
AGENT = """
import openai, time
client = openai.OpenAI(api_key="none")
for attempt in range(200):  # the proxy is only just being started
    try:
        client.chat.completions.create(model="gpt-5-mini", temperature=0, messages=[{"role": "user", "content": "hello"}])
        break
    except openai.APIConnectionError:
        time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a ``memgang`` on its PATH, and a server of its own that is stopped at the end."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "host").mkdir()
    for name, arguments in (("memgang", "-m memgang"), ("python", "")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    yield tmp_path
    subprocess.run(["memgang", "stop", "--force"], env=env(tmp_path), cwd=tmp_path, capture_output=True, check=False)


def env(folder: Path) -> dict[str, str]:
    """What a person's shell has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMGANG_", "OPENAI_"))}
    return kept | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"),
                   "MEMGANG_HOST_DIR": str(folder / "host"), "MEMGANG_STATE_DIR": str(folder / "state"),
                   "MEMGANG_RUNTIME_DIR": str(folder / "run")}


@pytest.mark.skipif(shutil.which("bash") is None, reason="the block is for a shell")
def test_agents_share_by_their_base_url(folder: Path) -> None:
    """The block, without the line of pip, with a provider of ours and a free port; two agents, one call."""
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        port = trying.getsockname()[1]
    provider = Provider()
    (folder / "your_agent.py").write_text(AGENT)
    lines = [line for line in BLOCKS["sh"].splitlines() if not line.startswith("pip ")]
    script = "\n".join(lines).replace("https://api.openai.com/v1", provider.url + "/v1").replace("4180", str(port))
    script = script.replace("--upstream", f"--port {port} --upstream") + "\n" + lines[-1].replace("4180", str(port)) + "\nkill $!\nwait\n"
    shell = subprocess.Popen(["bash", "-e", "-c", script], env=env(folder), cwd=folder, text=True, start_new_session=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = shell.communicate(timeout=90)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
        provider.close()
    assert len(provider.asked) == 1, said


async def test_an_mcp_client_starts_it_as_it_is_written(folder: Path) -> None:
    """The official client, given what the JSON says, finds our tools."""
    mcp = pytest.importorskip("mcp", reason="needs memgang[mcp]")
    from mcp.client.stdio import stdio_client

    told = json.loads(BLOCKS["json"])["mcpServers"]["memgang"]
    server = mcp.StdioServerParameters(command=str(folder / "bin" / told["command"]), args=told["args"], env=env(folder), cwd=folder)
    async with stdio_client(server) as (reading, writing), mcp.ClientSession(reading, writing) as session:
        await session.initialize()
        names = {tool.name for tool in (await session.list_tools()).tools}
    assert {"memgang_put", "memgang_get", "memgang_peek", "work_claim"} <= names


def test_a_graph_is_compiled_and_run_as_it_is_written(folder: Path) -> None:
    """Twice, in two processes: the second is given what the first has found."""
    pytest.importorskip("langgraph", reason="needs memgang[langgraph]")
    (folder / "graph.py").write_text(BLOCKS["python"].replace('state["question"].upper()', 'print("asked") or state["question"].upper()'))
    first, second = (subprocess.run(["python", "graph.py"], env=env(folder), cwd=folder, capture_output=True, text=True, timeout=90,
                                    check=True) for _ in range(2))
    assert "WHAT CHANGED?" in first.stdout and "WHAT CHANGED?" in second.stdout
    assert "asked" in first.stdout and "asked" not in second.stdout
