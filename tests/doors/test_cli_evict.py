"""`memgang evict` as people meet it: what goes, what would go, what each policy would have kept, and wrong input."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from tests.doors.conftest import Memgang

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
def small(memgang: Memgang) -> Memgang:
    """A space `small` of four answers and one kept object, which is the one commands take."""
    memgang.env["MEMGANG_SPACE"] = "small"
    (memgang.folder / "loop.trace").write_text("".join(f"{n % 20}\n" for n in range(400)))
    subprocess.run([sys.executable, "-c", SCRIPT], env=memgang.env, cwd=memgang.folder, check=True, timeout=120)
    return memgang


def test_the_log_of_a_space_is_replayed_and_nothing_is_evicted(small: Memgang) -> None:
    """Four answers asked for eight times; the figures add up; the kept object is told apart."""
    told = json.loads(small("evict", "--simulate", "--budget", "50%", "--budget", "4kB", "--json").out)

    assert (told["requests"], told["objects"], told["working_set_bytes"], told["kept"]) == (8, 4, 4000, 1)
    assert told["unlimited"]["hits"] == 4
    assert [b["budget_bytes"] for b in told["budgets"]] == [2000, 4000]
    for row in told["budgets"]:
        assert [p["policy"] for p in row["policies"]] == ["LRU", "LFU", "FIFO", "S3-FIFO", "SIEVE", "GDSF plain", "GDSF"]
        assert all(p["hits"] + p["misses"] == 8 for p in row["policies"])
    assert {(p["hits"], p["seconds_share"]) for p in told["budgets"][1]["policies"]} == {(4, 1.0)}

    shown = small("evict", "--simulate").out
    assert "space small: 8 requests for 4 objects of 4.0 kB" in shown and "left out: 1 object of 24 B" in shown
    assert shown.count("S3-FIFO") == 4
    totals = json.loads(small("stats", "--json").out)
    assert totals["count"] == 5 and sum(totals["bytes_by_agent"].values()) == totals["bytes"]
    assert re.search(r"WRITTEN FIRST BY +BYTES\n\S+/\S+ +[\d,]+\n", small("stats").out)


def test_what_a_dry_run_names_then_goes(small: Memgang) -> None:
    """The cheapest first; the kept object stays, and when more was asked for the command says so and fails."""
    dry = small("evict", "--to", "3.1kB", "--dry-run")
    assert dry.status == 0 and dry.out.startswith("would evict 1 object, 1.0 kB")
    planned = json.loads(small("evict", "--to", "3.1kB", "--dry-run", "--json").out)

    done = json.loads(small("evict", "--to", "3.1kB", "--json").out)
    assert [g["ref"] for g in done["going"]] == [g["ref"] for g in planned["going"]] and len(done["going"]) == 1
    assert done["bytes_after"] == planned["bytes_after"] < 3100

    rest = small("evict", "--to", "0")
    assert rest.status == 1 and "evicted: 3 objects" in rest.out
    assert "kept, pinned or written just now" in rest.err and "Traceback" not in rest.err
    assert json.loads(small("stats", "--json").out)["count"] == 1


def test_a_trace_and_an_exported_log_are_replayed_too(small: Memgang) -> None:
    """A loop is what LRU cannot do; drawn costs depend on the seed; the export gives what the space gave."""
    loop = ("evict", "--simulate", "--trace", "loop.trace", "--budget", "10", "--json")
    policies = {p["policy"]: p for p in json.loads(small(*loop).out)["budgets"][0]["policies"]}
    assert policies["LRU"]["hits"] == 0 and policies["LFU"]["requests"] == 400

    first, second, other = (small(*loop, "--costs", "zipf", "--seed", seed).out for seed in "112")
    assert first == second != other

    small("log", "export", "log.jsonl")
    told = [json.loads(small("evict", "--simulate", "--json", *more).out) for more in ((), ("--trace", "log.jsonl"))]
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


def test_wrong_input_is_one_line_with_a_reason(small: Memgang) -> None:
    """No traceback, and nothing was evicted."""
    for arguments, status, reason in WRONG:
        done = small("evict", *arguments)

        assert done.status == status, (arguments, done.err)
        assert reason in " ".join(done.err.split()) and "Traceback" not in done.err, (arguments, done.err)
    assert json.loads(small("stats", "--json").out)["count"] == 5
