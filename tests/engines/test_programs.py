"""Whole programs with workers: they are told to stop, killed, or lose workers, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import alive
from tests.gates import until

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "engines" / "program.py"


class Programs:
    """Programs of one test, each in a process group of its own; all are killed at its end."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def start(self, *command: object, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **env}, start_new_session=True)
        self.all.append(process)
        return process


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    for process in made.all:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str], log: Path) -> list[int]:
    """Wait until the program's workers work; their process numbers."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    pids = [int(pid) for pid in log.read_text().split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    return pids


async def gone(pids: list[int]) -> None:
    """Until none of them is there."""
    async def check() -> bool:
        return not any(map(alive, pids))

    await until(check)


async def test_kill_9_of_the_parent_leaves_no_worker(programs: Programs, tmp_path: Path) -> None:
    """Neither one that computes without a pause nor one that sleeps."""
    process = programs.start(PROGRAM, "busy", tmp_path / "pids")
    pids = ready(process, tmp_path / "pids")
    process.kill()
    await gone(pids)


async def test_ctrl_c_ends_all_without_a_traceback(programs: Programs, tmp_path: Path) -> None:
    """SIGINT to the whole group: the parent ends its workers, and nobody complains."""
    process = programs.start(PROGRAM, "busy", tmp_path / "pids")
    pids = ready(process, tmp_path / "pids")
    os.killpg(process.pid, signal.SIGINT)
    for pid in pids:
        os.kill(pid, signal.SIGINT)  # as if the terminal had reached them too
    out, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert not any(map(alive, pids))


def children_of(pid: int) -> list[int]:
    """The Python processes whose parent this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(fields[1]) == pid and b"start.py" in command:
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_ctrl_c_during_a_run_is_one_word(programs: Programs, tmp_path: Path) -> None:
    """`memgang run` with workers says that it was stopped, and leaves none."""
    for n in range(40):
        words = " ".join(f"The pump number {i} of station {n} was found to leak after {i + n} days of use." for i in range(400))
        (tmp_path / f"{n}.md").write_text(f"# Station {n}\n\n{words}\n")
    process = programs.start("-m", "memgang", "run", tmp_path, "--engine", "processes", "--workers", "2", "--space",
                             f"ctrl-c-{os.getpid()}", "--out", tmp_path / "report.md")
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("map"):
        assert line, "the run ended before it began"
    pids = children_of(process.pid)
    assert len(pids) == 2
    os.killpg(process.pid, signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 130
    assert "stopped" in err
    assert "Traceback" not in err
    await gone(pids)


@pytest.mark.catalogue("A14")
def test_functions_and_records_of_the_main_file_work(programs: Programs) -> None:
    """The file is run in the worker under another name, and the record is the same class here."""
    out, err = programs.start(PROGRAM, "main").communicate(timeout=60)
    here, there, same, stays = out.split()
    assert (here != there, same, stays) == (True, "True", "{}"), err


def test_a_main_file_that_would_begin_again_is_not_loaded(programs: Programs, tmp_path: Path) -> None:
    """Without a guard its functions stay in the parent, with the reason."""
    file = tmp_path / "program.py"
    file.write_text(
        "import asyncio, os\n"
        "from memgang.engines.processes import ProcessesEngine\n"
        "print('begun')\n"
        "def own(): return os.getpid()\n"
        "async def main():\n"
        "    engine = ProcessesEngine(1)\n"
        "    print(await engine.run(own) == os.getpid(), engine.stays)\n"
        "    await engine.aclose()\n"
        "asyncio.run(main())\n")
    out, err = programs.start(file).communicate(timeout=60)
    assert out.count("begun") == 1, err
    assert "True" in out
    assert "has no `if __name__" in out


@pytest.mark.catalogue("A23")
def test_a_map_shuffle_reduce_that_loses_workers_gives_the_same_bytes(programs: Programs, space_name: str) -> None:
    """kill -9 of workers at random: the same reference at the end, no task failed, no more retried than killed."""
    seed = os.environ.get("MEMGANG_SEED", str(random.randrange(1 << 30)))
    print(f"MEMGANG_SEED={seed}")
    kills = 40 if os.environ.get("MEMGANG_SOAK") else 8
    results: list[list[Any]] = []
    for number in (0, kills):
        out, err = programs.start(PROGRAM, "map", f"{space_name}-{number}", number, MEMGANG_SEED=seed).communicate(timeout=300)
        assert out, err
        results.append(out.split(" ", 4))
    (_, lost_none, *_, ref, text), (failed, lost, retried, ref_too, text_too) = results
    assert (ref, text) == (ref_too, text_too)
    assert (lost_none, failed) == ("0", "0")
    assert 0 < int(lost) <= kills
    assert int(retried) <= int(lost)


def test_many_starts_and_ends_leave_no_process(programs: Programs, tmp_path: Path) -> None:
    """Programs that end while their workers still come up."""
    script = ("from memgang.engines import child; import time\n"
              "made = [child.Child() for _ in range(3)]\n"
              "time.sleep({pause}); print(*child.living())")
    pids: list[int] = []
    for pause in (0, 0.02, 0.1):
        out, err = programs.start("-c", script.format(pause=pause)).communicate(timeout=60)
        assert not err
        pids += map(int, out.split())
    ends = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < ends:
        time.sleep(0.01)
    assert len(pids) == 9
    assert not any(map(alive, pids))
