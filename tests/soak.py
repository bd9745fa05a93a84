"""The long tests, one after the other, with one report: ``python -m tests.soak --report build/soak.md [--seed N] [--only WORD]``.

Each part is a command of its own that prints its seeds; the report keeps what it said, so any of it can be run again alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import subprocess
import sys
import time
from pathlib import Path

PARTS: tuple[tuple[str, list[str]], ...] = (
    ("200 rounds of kill, stop and server restart, 8 workers, 40 calls a round",
     ["-m", "tests.chaos.soak", "--rounds", "200", "--workers", "8", "--calls", "40", "--seed", "{seed}"]),
    ("a million schedules of the protocol", ["-m", "tests.protocol.simulate", "--schedules", "1000000", "--seed", "{seed}"]),
    ("the tests of the catalogue, all counts raised", ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-m", "catalogue"]),
)
TAIL = 80  # lines of each part that go into the report


def main() -> int:
    """Run all parts; 1 if any of them failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, default=Path("build/soak.md"))
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--only", default="", help="only parts whose title or command holds this word")
    args = parser.parse_args()
    lines = ["# Soak", "", f"Seed {args.seed}; {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
             f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}.", ""]
    failed = 0
    for title, command in PARTS:
        if args.only not in f"{title} {' '.join(command)}":
            continue
        full = [part.format(seed=args.seed) for part in command]
        print(f"== {title}\n   python {' '.join(full)}", flush=True)
        began = time.monotonic()
        running = subprocess.Popen([sys.executable, *full], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                   env={**os.environ, "MEMGANG_SOAK": "1", "MEMGANG_SEED": str(args.seed)})
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            print(line, end="", flush=True)
            said.append(line)
        status = running.wait()
        failed += status != 0
        lines += [f"## {title}", "", f"`python {' '.join(full)}`: {'passed' if status == 0 else f'FAILED with status {status}'} "
                  f"after {time.monotonic() - began:,.0f} s", "", "```text", *(line.rstrip() for line in said[-TAIL:]), "```", ""]
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text("\n".join(lines), encoding="utf-8")
    print(f"report: {args.report}; {failed} parts failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
