"""What the benchmarks beside peers share: the peers' environment, a private server, rounds in turn, and how evidence is kept.

Not a benchmark itself. Peers are installed once into `build/bench-peers/.venv`, MemGang beside them, and the benchmark
goes on with that interpreter: ours and theirs run on the same Python, mostly in the same process. A peer that cannot be
installed is left out, and the result says so.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import json
import operator
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENV = ROOT / "build" / "bench-peers" / ".venv"
PEERS = ("ray", "lmdb", "cashews[redis]", "dogpile.cache", "aiocache[redis]", "diskcache", "joblib", "langgraph>=1,<2",
         "langchain-community", "dask", "distributed")


def beside_peers(*peers: str) -> None:
    """Go on in the environment of the peers, which is made first where it is missing or MemGang needs something new.

    ``peers`` are those that are needed, as pip is told; without any all are.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as users have it: byte code is kept
    if Path(sys.prefix).resolve() == ENV.resolve():
        return
    pip = [str(ENV / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    stamp, needs = ENV.parent / "memgang", f"{ROOT}[numpy,proxy]\n" + (ROOT / "pyproject.toml").read_text("utf-8")
    if not stamp.exists() or stamp.read_text("utf-8") != needs:
        print(f"installing MemGang into {ENV.relative_to(ROOT)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENV)], check=True)
        subprocess.run([*pip, "--editable", needs.partition("\n")[0]], check=True, stderr=subprocess.DEVNULL)
        stamp.write_text(needs, encoding="utf-8")
    done = ENV.parent / "peers"
    here = done.read_text("utf-8").splitlines() if done.exists() else []
    for peer in peers or PEERS:
        if peer not in here:
            print(f"installing {peer}", flush=True)
            tried = subprocess.run([*pip, peer], capture_output=True, text=True, check=False)
            if tried.returncode == 0:
                here.append(peer)
            else:
                print(f"left out: {peer}: {tried.stderr.strip().splitlines()[-1][:200]}", flush=True)
    done.write_text("\n".join(here) + "\n", encoding="utf-8")
    os.execv(ENV / "bin" / "python", [str(ENV / "bin" / "python"), *sys.argv])


def apart(name: str, package: str) -> Path:
    """The folder of programs of a peer that wants other versions than ours of what both need: an environment of its own.

    Raises:
        RuntimeError: it cannot be installed.
    """
    env = ENV.parent / name / ".venv"
    if not (stamp := env.parent / "package").exists() or stamp.read_text("utf-8") != package:
        print(f"installing {package}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(env)], check=True)
        tried = subprocess.run([env / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", package],
                               capture_output=True, text=True, check=False)
        if tried.returncode:
            raise RuntimeError(tried.stderr.strip().splitlines()[-1][:200])
        stamp.write_text(package, encoding="utf-8")
    return env / "bin"


def arguments(script: str, question: str | None, *, rounds: int, quick_rounds: int = 2) -> argparse.ArgumentParser:
    """The options all have; what `--quick` measures is written to build/, since it is no evidence."""
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works; written to build/bench")
    parser.add_argument("--rounds", type=int, help=f"default: {rounds}, with --quick {quick_rounds}")
    parser.add_argument("--out", type=Path)
    parser.set_defaults(script=Path(script), question=question, usual=(rounds, quick_rounds))
    return parser


def settled(args: argparse.Namespace) -> argparse.Namespace:
    """The options with what follows from others."""
    if args.rounds is None:
        args.rounds = args.usual[args.quick]
    folder = ROOT / "build" / "bench" if args.quick else ROOT / "benchmarks" / "results"
    args.out = args.out or folder / f"{args.script.stem}.json"
    return args


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A memory of its own for MemGang, gone afterwards; the folder."""
    with tempfile.TemporaryDirectory(prefix="memgang-bench-") as folder:
        os.environ.update(MEMGANG_STATE_DIR=folder + "/state", MEMGANG_RUNTIME_DIR=folder + "/run")
        try:
            yield Path(folder)
        finally:
            from memgang.settings import Settings
            from memgang.store import server as embedded

            settings = Settings.load()
            if embedded.status(settings).pid:  # a benchmark that failed has left it
                embedded.stop(settings)


def program() -> str:
    """The path of the server program that MemGang would start."""
    from memgang.settings import Settings
    from memgang.store.binary import find_binary

    return str(find_binary(Settings.load()).path)


@contextlib.contextmanager
def server(port: int = 0) -> Iterator[str]:
    """A server of the peers' own, the same program as MemGang's, on a private socket, keeping nothing; the socket's path.

    With a port, on that of 127.0.0.1 as well.
    """
    with tempfile.TemporaryDirectory(prefix="memgang-bench-") as folder:
        path = folder + "/server"
        running = subprocess.Popen(
            [program(), "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", "", "--appendonly", "no",
             "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            for _ in range(500):
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
                    door.connect(path)
                    break
                time.sleep(0.01)
            yield path
        finally:
            running.terminate()
            running.wait()


class Other:
    """Another process of a script; it is asked, and answers, in lines of JSON."""

    def __init__(self, script: str, *words: str) -> None:
        self.process = subprocess.Popen([sys.executable, script, *words], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, *what: Any) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def hear(self, limit_s: float = 600.0) -> Any:
        """The next line of JSON; anything else is what a library had to say. Ends the process when none comes in time."""
        assert self.process.stdout is not None
        guard = threading.Timer(limit_s, self.process.kill)
        guard.start()
        try:
            while line := self.process.stdout.readline():
                if line[0] in "[{":
                    return json.loads(line)
        finally:
            guard.cancel()
        status = self.process.wait()
        raise RuntimeError(f"took longer than {limit_s:g} s" if status == -9 else f"the other process ended with status {status}")

    def ask(self, *what: Any) -> Any:
        """Send a line and wait for the answer."""
        self.tell(*what)
        return self.hear()

    def end(self) -> None:
        """Close its input, by which it ends."""
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def turns(rounds: int, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Everyone in every round, each time another one first; garbage is collected before, not within."""
    for number in range(rounds):
        for place in range(len(names)):
            gc.collect()
            yield number, names[(number + place) % len(names)]


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of them does not exceed."""
    return sorted(values)[max(0, -int(-len(values) * part // 1) - 1)]


class Evidence:
    """What a benchmark has found: rows, goals, who was left out; printed and written."""

    def __init__(self, args: argparse.Namespace, packages: Sequence[str] = (), **settings: Any) -> None:
        self.out: Path = args.out
        self.samples: dict[tuple[str, str, str], list[float]] = {}
        self.found: dict[str, Any] = {
            "benchmark": args.script.stem, "question": (args.question or "").splitlines()[0],
            "command": f"make bench ONLY={args.script.stem}", "quick": args.quick, "rounds": args.rounds, "settings": settings,
            "machine": machine(), "versions": {p: v for p in ("memgang", "redis", *packages) if (v := version(p))},
            "rows": [], "goals": [], "left_out": {}, "notes": []}

    def add(self, what: str, who: str, values: Sequence[float], unit: str = "us") -> None:
        """More samples of a row; times are given in seconds where the unit is one of time."""
        scale = {"us": 1e6, "ms": 1e3, "s": 1.0}.get(unit, 1.0)
        self.samples.setdefault((what, who, unit), []).extend(v * scale for v in values)

    def median(self, what: str, who: str) -> float | None:
        """Of a row; None where it was not measured."""
        for (of, by, _), values in self.samples.items():
            if (of, by) == (what, who) and values:
                return percentile(values, 0.5)
        return None

    def goal(self, what: str, ours: float | None, goal: str, unit: str = "us", *, peer: str = "", theirs: float | None = None,
             inverse: bool = False) -> None:
        """One line of the goals: ``goal`` is "<= 0.25" or ">= 5"; with a peer it is about the ratio (inverse: theirs to ours)."""
        figure = ours
        if peer:
            figure = None if not ours or not theirs else theirs / ours if inverse else ours / theirs
        sign, limit = goal.split()
        met = None if figure is None else {"<=": operator.le, ">=": operator.ge, "==": operator.eq}[sign](figure, float(limit))
        self.found["goals"].append({"what": what, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs,
                                    "figure": figure, "goal": goal, "met": met})

    def left_out(self, peer: str, why: object) -> None:
        """A peer that could not be measured."""
        print(f"left out: {peer}: {why}", file=sys.stderr, flush=True)
        self.found["left_out"][peer] = str(why).splitlines()[0][:200] if str(why) else repr(why)

    def finish(self) -> int:
        """Print the tables, write the file; status 0, whatever was missed: a missed goal is a finding, not a failure."""
        for (what, who, unit), values in self.samples.items():
            self.found["rows"].append({"what": what, "who": who, "unit": unit, "n": len(values)}
                                      | {f"p{p}": rounded(percentile(values, p / 100)) for p in (50, 90, 99)})
        print(f"\n{'':52}{'':24}{'p50':>11}{'p90':>11}{'p99':>11}{'n':>8}")
        for row in self.found["rows"]:
            print(f"{row['what'][:51]:52}{row['who'][:23]:24}"
                  + "".join(f"{row[p]:11,.7g}" for p in ("p50", "p90", "p99")) + f"{row['n']:8} {row['unit']}")
        for goal in self.found["goals"]:
            goal |= {k: None if goal[k] is None else rounded(goal[k]) for k in ("ours", "theirs", "figure")}
            shown = {True: "met", False: "MISSED", None: "not measured"}[goal["met"]]
            print(f"{shown:13}{goal['what']}: {goal['figure']} (goal {goal['goal']}"
                  + (f" of {goal['peer']}" if goal["peer"] else f" {goal['unit']}") + ")")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        print(f"written: {self.out}")
        return 0


def rounded(value: float) -> float:
    """Four digits: more would claim what was not measured."""
    return float(f"{value:.4g}")


def memory(pid: int | str = "self") -> dict[str, int]:
    """Resident, proportional and private anonymous bytes of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    sizes = {words[0][:-1]: int(words[1]) * 1024 for line in lines if (words := line.split())}
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "anonymous": sizes["Anonymous"]}


def version(package: str) -> str | None:
    """Of an installed package."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    from memgang.settings import Settings
    from memgang.store.binary import find_binary

    about, ram = Path("/proc/cpuinfo"), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = [line.partition(": ")[2] for line in about.read_text().splitlines() if line.startswith("model name")] if about.exists() else []
    return {"cpus": os.cpu_count(), "cpu": model[0] if model else platform.processor(), "arch": platform.machine(),
            "ram_gib": round(ram / 2**30), "system": f"{platform.system()} {platform.release().partition('-')[0]}",
            "python": platform.python_version(), "server": str(find_binary(Settings.load())),
            "day": time.strftime("%Y-%m-%d")}
