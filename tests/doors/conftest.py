"""The command line as people meet it: a real process, with a server and a memory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "memgang")


@dataclass
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str
    raw: bytes


@dataclass
class Memgang:
    """Runs `memgang` in a folder; whoever starts a process beside it takes `env`, and so the same server."""

    folder: Path
    env: dict[str, str] = field(init=False)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = {name: value for name, value in os.environ.items() if not name.startswith(("MEMGANG_", "OPENAI_"))}
        own = {name: str(self.folder / name) for name in ("state", "run", "host")}
        (self.folder / "host").mkdir()
        self.env = names | {"MEMGANG_STATE_DIR": own["state"], "MEMGANG_RUNTIME_DIR": own["run"], "MEMGANG_HOST_DIR": own["host"],
                            "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "TERM": "dumb"}

    def __call__(self, *arguments: str, stdin: bytes = b"", **more: str) -> Done:
        done = subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, env=self.env | more, cwd=self.folder, timeout=120)
        return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"), done.stdout)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """A command that goes on; whatever becomes of the test, it does not outlive it."""
        self.started.append(subprocess.Popen([*COMMAND, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                             env=self.env | more, cwd=self.folder))
        return self.started[-1]


@pytest.fixture
def memgang(tmp_path: Path) -> Iterator[Memgang]:
    """The command line with a state directory of its own; its server is stopped at the end."""
    run = Memgang(tmp_path)
    yield run
    for child in run.started:
        child.kill()
        child.wait()
    run("stop", "--force")
