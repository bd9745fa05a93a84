"""How long after it happened is an event in the browser, and what does a dashboard cost while ten look at it?

    make bench ONLY=dashboard    # writes benchmarks/results/dashboard.json; needs chromium

Sketch, before measuring: a change is in the log at once, a read up to 50 ms later (its batch); the one reader asks every 50 ms; what
comes within 50 ms travels together. So 50 ms in the middle for changes, 75 for reads, and p95 at 130, on idle cores. A record is 200
bytes, encoded once for all viewers: 10 viewers at 500 events a second are 1 MB/s and 200 frames a second, some 3 % of a core.
Delay is from the server's time of the event to the browser's when the message is there, both of one host; the flock shows it 250 ms
later on purpose. Writer, server, dashboard and browser share the same cores, and the browser draws without a GPU.
Would change the design: p95 above 200 ms, or more than 5 % of a core for ten viewers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import memgang

ROOT = Path(__file__).parent.parent
SPACE = "bench"
EVENTS_S, VIEWERS = 500, 10
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
# In the page, before anything of it runs: when each record came, beside when it happened.
LISTEN = """
window.late = {a: [], h: []};
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...words) {
    super(...words);
    if (!String(words[0]).includes("/mg/live")) return;
    let began = 0, before = 0; // of the page's first look: these were there already
    this.addEventListener("message", ({ data }) => {
      const now = Date.now(), told = JSON.parse(data);
      if (told.header) [began, before] = [told.header.began, before || told.upto];
      if (told.records && told.next > before) for (const rec of told.records) window.late[rec.id[0]].push(now - began - rec.t);
    });
  }
};
"""


async def write(seconds: float, run: str) -> None:
    """Events at an even rate: an object put and read, by eight agents in turn."""
    async with memgang.open(space=SPACE, agent="writer") as space:
        with space.acting_as(run=run):
            now = space.store.log.server_ms()
            await space.put({"id": run, "title": "bench", "state": "running", "started": now, "ended": 0}, name=f"runs/{run}", kind="run")
        print("there", flush=True)
        began, number = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            due = int((time.monotonic() - began) * EVENTS_S / 2)
            while number < due:
                number += 1
                with space.acting_as(agent=f"w{number % 8}", role="map", run=run):
                    await space.get(await space.put(f"value {number}", kind="note", pos=number % 100 / 100))
            await asyncio.sleep(0.005)
    print(json.dumps({"events": 2 * number}), flush=True)


def cpu_s(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p95, p99 and the maximum, in ms."""
    ordered = sorted(values) or [0.0]
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))]
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))} | {"events": len(values)}


def started(*words: str) -> subprocess.Popen[str]:
    """One of our processes, when it has said its first line."""
    process = subprocess.Popen([sys.executable, *words], text=True, stdout=subprocess.PIPE, cwd=ROOT)
    process.first = process.stdout.readline()  # type: ignore[attr-defined, union-attr]
    return process


def one_round(seconds: float, chromium: str, run: str) -> dict[str, Any]:
    """One browser's delay, then ten viewers' cost, each while the same number of events a second is written."""
    from playwright.sync_api import sync_playwright

    dashboard = started("-m", "memgang", "dashboard", "--no-open", "--port", "0", "--space", SPACE)
    address = dashboard.first.split()[3].rstrip(",")  # type: ignore[attr-defined]
    try:
        writer = started(__file__, "--write", str(seconds), "--run", run)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script(LISTEN)
            page.goto(f"{address}/?run={run}")
            writer.wait()
            page.wait_for_timeout(1000)
            late = page.evaluate("window.late")
            url = page.evaluate("window.__memgang.kept.data.url")
            browser.close()
        return {"changes": percentiles(late["a"]), "reads": percentiles(late["h"]), "all": percentiles(late["a"] + late["h"]),
                "ten_viewers": viewers(seconds, address, url, run, dashboard.pid)}
    finally:
        dashboard.terminate()
        dashboard.wait()


def viewers(seconds: float, address: str, url: str, run: str, pid: int) -> dict[str, Any]:
    """What the dashboard's process uses while ten sockets are sent all that is written."""
    from websockets.asyncio.client import connect

    got = [0] * VIEWERS

    async def look(number: int) -> None:
        async with connect(f"{address.replace('http', 'ws')}{url}&from=0", max_size=None) as socket:
            async for text in socket:
                got[number] += len(json.loads(text).get("records", ()))

    async def all_of_them() -> tuple[float, float]:
        looking = [asyncio.create_task(look(number)) for number in range(VIEWERS)]
        await asyncio.sleep(1.5)  # what was there before
        for number in range(VIEWERS):
            got[number] = 0
        writer = await asyncio.to_thread(started, __file__, "--write", str(seconds), "--run", run)
        before, began = cpu_s(pid), time.monotonic()
        await asyncio.to_thread(writer.wait)
        used, took = cpu_s(pid) - before, time.monotonic() - began
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        return used, took

    used, took = asyncio.run(all_of_them())
    return {"viewers": VIEWERS, "events_a_second": round(sum(got) / VIEWERS / took), "cpu_share": round(used / took, 3)}


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--write", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dashboard.json")
    args = parser.parse_args()
    if args.write:
        asyncio.run(write(args.write, args.run))
        return 0
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("left out: needs a browser (Debian: apt install chromium)")
        return 0
    result: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0], "events_a_second": EVENTS_S, "unit": "ms",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(), "arch": platform.machine()}}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(MEMGANG_STATE_DIR=home + "/state", MEMGANG_RUNTIME_DIR=home + "/run", MEMGANG_STAY="1",
                          PYTHONPATH=str(ROOT / "src"))
        result["rounds"] = []
        for number in range(args.rounds):
            load = os.getloadavg()[0]
            found = one_round(args.seconds, chromium, f"20300101-000000-bench{number}") | {"load_before": round(load, 2)}
            result["rounds"].append(found)
            print(f"round {number}: event to browser, ms: {found['all']}\n  changes {found['changes']}\n  reads   {found['reads']}\n"
                  f"  ten viewers: {found['ten_viewers']}; load before {found['load_before']}")
        subprocess.run([sys.executable, "-m", "memgang", "stop"], capture_output=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
