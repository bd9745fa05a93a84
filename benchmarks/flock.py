"""How smoothly does the flock fly in a browser without a GPU, how soon is a long run loaded and sought, and does its memory grow?

    make bench ONLY=flock      # writes benchmarks/results/flock.json; --quick to see that it works

Headless Chromium with `--disable-gpu`, a window of 1440x860, tapes that are synthetic (`tests/flock/synthetic.py`) and played from
within their busiest phase. Frames are counted by the page itself: their rate, and the milliseconds of script in each.
"level" is what the governor had come to: 1 draws fewer arcs, 2 no trails and one pixel a pixel.

Sketch, before measuring: a frame of 500 agents is 500 birds and at most 170 arcs in some 30 paths, 3 to 8 ms of script, and the same
again for the rasterizer; so 60 frames a second for 8 and 50 agents, 50 or more for 500 with 10,000 objects. A record costs about
5 us to load and 2 us to fold again: 93,000 of them half a second, and a fifth of one for each seek backwards. The heap is the records,
some 400 bytes each. Played over and over it must not grow.
Would change the design: under 50 frames a second at level 1, over 1 s for load and seek, or a heap that grows from round to round.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import platform
import shutil
import statistics
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.flock.synthetic import tape  # noqa: E402

WEB = ROOT / "src" / "memgang" / "flock" / "web"
FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync --force-color-profile=srgb --enable-precise-memory-info").split()
PAGE = """async () => {
  document.documentElement.style.height = document.body.style.height = "100%"; document.body.style.margin = 0;
  const sheet = document.createElement("link"); sheet.rel = "stylesheet"; sheet.href = "/flock.css"; document.head.append(sheet);
  const root = document.createElement("div"); root.style.height = "100vh"; document.body.replaceChildren(root);
  const { createFlock } = await import("/flock.js");
  window.make = () => { window.flock = createFlock(root, { autoplay: true }); };
  window.make();
}"""
FLIGHT = """async ([t, seconds]) => {
  flock.seek(t); flock.start(); flock.play();
  await new Promise((done) => setTimeout(done, 3000)); // the governor's time to settle
  flock.perf.on = true; flock.perf.js = []; flock.perf.dt = [];
  await new Promise((done) => setTimeout(done, seconds * 1000));
  flock.perf.on = false; flock.stop();
  return [flock.perf.dt, flock.perf.js, flock.perf.level, flock.state().lights.size];
}"""


class Browser:
    """Pages of the flock, and their heaps."""

    def __init__(self, chromium: Any, home: str) -> None:
        self.chromium, self.home = chromium, home

    def page(self, records: list[dict[str, Any]] | None, ratio: float = 1) -> Any:
        page = self.chromium.new_context(viewport={"width": 1440, "height": 860}, device_scale_factor=ratio).new_page()
        page.goto(self.home + "/flock.css")
        page.evaluate(PAGE)
        if records is not None:
            page.evaluate("(text) => { window.tape = JSON.parse(text); }", json.dumps(records))
        return page

    def heap_mb(self, page: Any) -> float:
        """What the page's heap holds after a collection."""
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        used: float = session.send("Runtime.getHeapUsage")["usedSize"]
        session.detach()
        return round(used / 1e6, 1)


def flight(browser: Browser, agents: int, ratio: float, seconds: float) -> dict[str, Any]:
    """Frames of a busy phase."""
    records = tape(agents)[1]
    page = browser.page(records, ratio)
    page.evaluate("flock.load(tape)")
    load = os.getloadavg()[0]
    frames, script, level, objects = page.evaluate(FLIGHT, [records[-1]["t"] * 0.18, seconds])
    script.sort()
    found = {"agents": agents, "objects": objects, "pixel_ratio": ratio, "fps": round(1000 * len(frames) / sum(frames), 1),
             "script_ms_p50": round(script[len(script) // 2], 1), "script_ms_p95": round(script[int(len(script) * 0.95)], 1),
             "level": level, "heap_mb": browser.heap_mb(page), "load_before": round(load, 2)}
    page.context.close()
    return found


def long_run(browser: Browser, chunks: int, rounds: int) -> dict[str, Any]:
    """Loading a long run and seeking in it."""
    records = tape(500, chunks=chunks, seconds=600)[1]
    page = browser.page(records)
    loads, seeks = [], []
    for _ in range(rounds):
        load, back, forth = page.evaluate("""() => {
            const out = [], end = tape.at(-1).t;
            const timed = (act) => { const t = performance.now(); act(); out.push(performance.now() - t); };
            timed(() => flock.load(tape)); timed(() => flock.seek(end * 0.9)); timed(() => flock.seek(end * 0.5));
            return out; }""")
        loads.append(load + back)
        seeks.append(forth)
    found = {"records": len(records), "objects": page.evaluate("flock.state().lights.size"), "rounds": rounds,
             "load_and_seek_ms": round(statistics.median(loads)), "seek_backwards_ms": round(statistics.median(seeks)),
             "heap_mb": browser.heap_mb(page)}
    page.context.close()
    return found


def growth(browser: Browser, rounds: int) -> dict[str, Any]:
    """The heap while a busy run is played over and over, and while flocks are made and left."""
    page = browser.page(tape(500)[1])
    page.evaluate("flock.load(tape)")
    played = []
    for _ in range(rounds):
        page.evaluate("""async () => { flock.seek(0); flock.setSpeed(8); flock.play();
            for (let i = 0; i < 320; i++) { flock.frame(1 / 60); if (i % 8 === 0) await new Promise((done) => setTimeout(done)); } }""")
        played.append(browser.heap_mb(page))
    page.evaluate("() => { flock.destroy(); window.tape = null; make(); }")
    before = browser.heap_mb(page)
    page.evaluate("() => { for (let i = 0; i < 50; i++) { flock.destroy(); make(); flock.start(); } }")
    after = browser.heap_mb(page)
    page.context.close()
    return {"played_mb": played, "before_50_made_mb": before, "after_50_made_mb": after}


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works; written to build/bench")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("left out: pip install playwright")
        return 0
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        print("left out: there is no Chromium; apt install chromium")
        return 0
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(WEB))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seconds, rounds = (2.0, 1) if args.quick else (10.0, 5)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        browser = Browser(chromium, f"http://127.0.0.1:{server.server_port}")
        result: dict[str, Any] = {
            "question": (__doc__ or "").splitlines()[0], "window": "1440x860", "browser": f"Chromium {chromium.version}, headless, no GPU",
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system(),
                        "arch": platform.machine()},
            "flights": []}
        for agents, ratio in ((8, 1), (50, 1), (500, 1), (500, 2)):
            # The machine is shared: the round in the middle stands for all, and the rates of all are told.
            flights = sorted((flight(browser, agents, ratio, seconds) for _ in range(1 if args.quick else 3)), key=lambda one: one["fps"])
            found = flights[len(flights) // 2] | {"fps_of_rounds": [one["fps"] for one in flights]}
            result["flights"].append(found)
            print(f"{agents:>3} agents, {found['objects']:>6,} objects, ratio {ratio}: {found['fps_of_rounds']} frames a second, script "
                  f"{found['script_ms_p50']} ms (p95 {found['script_ms_p95']}), level {found['level']}, heap {found['heap_mb']} MB")
        result["long_run"] = long_run(browser, 1_500 if args.quick else 12_400, rounds)
        print("long run:", result["long_run"])
        result["growth"] = growth(browser, 2 if args.quick else 12)
        print("heap:", result["growth"])
        chromium.close()
    server.shutdown()
    out = args.out or (ROOT / "build" / "bench" / "flock.json" if args.quick else Path(__file__).parent / "results" / "flock.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
