"""`memgang evict` as people meet it: what goes, what would go, what each policy would have kept, and wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, memgang
from memgang.model import Call
async def main():
    async with memgang.open(space="small", guard_ms=1, host_tier="off") as space:
        async def work(n):
            await asyncio.sleep(n / 1000)
            return f"{n:04d}".ljust(1000, "x")
        for n in (1, 2, 3, 1, 2, 1, 4, 1):
            await (await space.recall(Call("function", "tests:n", str(n), {}), lambda n=n: work(n))).value()
        await space.put("cannot be computed again")
        await asyncio.sleep(0.02)
asyncio.run(main())
"""


@pytest.fixture
def memgang(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs `memgang` with a server of its own and a space `small` of four answers and one kept object."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MEMGANG_", "OPENAI_"))}
    env |= {"MEMGANG_STATE_DIR": str(tmp_path / "state"), "MEMGANG_RUNTIME_DIR": str(tmp_path / "run"), "COLUMNS": "200",
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "TERM": "dumb", "MEMGANG_SPACE": "small"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "memgang", *arguments], capture_output=True, text=True, env=env,
                              cwd=tmp_path, timeout=120)

    (tmp_path / "loop.trace").write_text("".join(f"{n % 20}\n" for n in range(400)))
    subprocess.run([sys.executable, "-c", SCRIPT], env=env, cwd=tmp_path, check=True, timeout=120)
    yield run
    run("stop", "--force")


Memgang = Callable[..., subprocess.CompletedProcess[str]]


def test_the_log_of_a_space_is_replayed_and_nothing_is_evicted(memgang: Memgang) -> None:
    """Four answers asked for eight times; the figures add up; the kept object is told apart."""
    told = json.loads(memgang("evict", "--simulate", "--budget", "50%", "--budget", "4kB", "--json").stdout)

    assert (told["requests"], told["objects"], told["working_set_bytes"], told["kept"]) == (8, 4, 4000, 1)
    assert told["unlimited"]["hits"] == 4
    assert [b["budget_bytes"] for b in told["budgets"]] == [2000, 4000]
    for row in told["budgets"]:
        assert [p["policy"] for p in row["policies"]] == ["LRU", "LFU", "FIFO", "S3-FIFO", "SIEVE", "GDSF", "GDSF spaced"]
        assert all(p["hits"] + p["misses"] == 8 for p in row["policies"])
    assert {(p["hits"], p["seconds_share"]) for p in told["budgets"][1]["policies"]} == {(4, 1.0)}

    shown = memgang("evict", "--simulate").stdout
    assert "space small: 8 requests for 4 objects of 4.0 kB" in shown and "left out: 1 object of 24 B" in shown
    assert shown.count("S3-FIFO") == 4
    assert json.loads(memgang("stats", "--json").stdout)["count"] == 5


def test_what_a_dry_run_names_then_goes(memgang: Memgang) -> None:
    """The cheapest first; the kept object stays, and when more was asked for the command says so and fails."""
    dry = memgang("evict", "--to", "3.1kB", "--dry-run")
    assert dry.returncode == 0 and dry.stdout.startswith("would evict 1 object, 1.0 kB")
    planned = json.loads(memgang("evict", "--to", "3.1kB", "--dry-run", "--json").stdout)

    done = json.loads(memgang("evict", "--to", "3.1kB", "--json").stdout)
    assert [g["ref"] for g in done["going"]] == [g["ref"] for g in planned["going"]] and len(done["going"]) == 1
    assert done["bytes_after"] == planned["bytes_after"] < 3100

    rest = memgang("evict", "--to", "0")
    assert rest.returncode == 1 and "evicted: 3 objects" in rest.stdout
    assert "kept, pinned or written just now" in rest.stderr and "Traceback" not in rest.stderr
    assert json.loads(memgang("stats", "--json").stdout)["count"] == 1


def test_a_trace_and_an_exported_log_are_replayed_too(memgang: Memgang) -> None:
    """A loop is what LRU cannot do; drawn costs depend on the seed; the export gives what the space gave."""
    loop = ("evict", "--simulate", "--trace", "loop.trace", "--budget", "10", "--json")
    policies = {p["policy"]: p for p in json.loads(memgang(*loop).stdout)["budgets"][0]["policies"]}
    assert policies["LRU"]["hits"] == 0 and policies["LFU"]["requests"] == 400

    first, second, other = (memgang(*loop, "--costs", "zipf", "--seed", seed).stdout for seed in "112")
    assert first == second != other

    memgang("log", "export", "log.jsonl")
    told = [json.loads(memgang("evict", "--simulate", "--json", *more).stdout) for more in ((), ("--trace", "log.jsonl"))]
    assert told[0].pop("source") == "space small" and told[1].pop("source") == "log.jsonl"
    assert told[0] == told[1]


WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("--simulate", "--trace", "none.trace"), 1, "none.trace: No such file or directory"),
    (("--simulate", "--trace", "."), 1, "Is a directory"),
    (("--simulate", "--trace", "loop.trace", "--format", "events"), 1, "line 1 is no event of an exported log"),
    (("--simulate", "--trace", "loop.trace", "--budget", "0"), 2, "'0' holds nothing; name at least 1 byte"),
    (("--simulate", "--budget", "0%"), 2, "'0%' holds nothing"),
    (("--simulate", "--budget", "120%"), 2, "more than all of it"),
    (("--simulate", "--budget", "-5"), 2, "is no number of bytes"),
    (("--simulate", "--space", "empty"), 1, "holds no request to simulate"),
    (("--simulate", "--run", "nobody"), 1, "the log has nothing of this run"),
    (("--simulate", "--format", "lines"), 2, "it goes with --trace"),
    (("--simulate", "--run", "x", "--trace", "loop.trace"), 2, "a trace has no runs"),
    (("--simulate", "--costs", "cheap"), 2, "--costs"),
    (("--simulate", "--to", "5"), 2, "--to and --dry-run evict"),
    (("--budget", "10%",), 2, "go with --simulate"),
    (("--to", "10%"), 2, "a share of what?"),
    (("--to", "lots"), 2, "is no number of bytes"),
    ((), 1, "this space has no budget (budget_bytes=0)"),
]


def test_wrong_input_is_one_line_with_a_reason(memgang: Memgang) -> None:
    """No traceback, and nothing was evicted."""
    for arguments, status, reason in WRONG:
        done = memgang("evict", *arguments)

        assert done.returncode == status, (arguments, done.stderr)
        assert reason in " ".join(done.stderr.split()) and "Traceback" not in done.stderr, (arguments, done.stderr)
    assert json.loads(memgang("stats", "--json").stdout)["count"] == 5
