"""Can a caller tell by time what another tenant has asked, or how much of a guessed token is right?

    make bench ONLY=door_timing      writes benchmarks/results/door_timing.json

D3: one tenant has had an answer made. Another asks the same question, and one nobody has asked, in turn, each a miss of its own: the
two-sample Kolmogorov-Smirnov test of both lists of times should not part them (p > 0.01).
D11: tokens that are wrong in the first and in the last character of their secret, in turn: Welch's t of the times it takes to say so,
without the slowest twentieth of each, should stay below 4.5.

Sketch: a scope is in the key of a call, so both questions take the same way; a token is compared by its hash, in constant
time. Both lists are of one process and one machine, so what else runs there hits both; a test that failed here once is repeated with
more asks before anybody believes it. It is a measurement and not part of `make test`, because it is one of time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import random
import statistics
import sys
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

import httpx

import memgang
from memgang.doors.proxy.serving import Place, proxy_of
from memgang.doors.proxy.upstream import Upstreams, read_upstreams
from memgang.store import tokens

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.proxy.upstream import Upstream, served  # not installed: a provider that costs nothing

RESULT = Path(__file__).parent / "results" / "door_timing.json"


def ks(one: list[float], other: list[float]) -> float:
    """The p-value of the two-sample Kolmogorov-Smirnov test, by its limit for many samples."""
    first, second = sorted(one), sorted(other)
    apart = max(abs(bisect_right(first, x) / len(first) - bisect_right(second, x) / len(second)) for x in first + second)
    size = math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    at = (size + 0.12 + 0.11 / size) * apart
    if at < 0.2:
        return 1.0
    return min(max(2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * at * at) for k in range(1, 101)), 0.0), 1.0)


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t, without the slowest twentieth of each."""
    first, second = (sorted(times)[:len(times) * 19 // 20] for times in (one, other))
    spread = math.sqrt(statistics.variance(first) / len(first) + statistics.variance(second) / len(second))
    return (statistics.mean(first) - statistics.mean(second)) / spread


async def measured(asks: int) -> dict[str, Any]:
    """Both lists of both questions, and what they say."""
    upstream = Upstream()
    async with memgang.open(space="door-timing", agent="bench") as space, served(upstream) as there:
        upstreams = Upstreams(read_upstreams([there], "", ""), 20)
        app = await proxy_of(space, upstreams, Place(host="127.0.0.1", port=0))
        red, blue = [(await tokens.create(space.store, "a", scope))[1] for scope in ("red", "blue")]
        known = tokens.Tokens(space.store)
        await known.refresh()
        times: dict[str, list[float]] = {name: [] for name in ("remembered", "unknown", "first", "last")}
        async with served(app) as url, httpx.AsyncClient(timeout=60) as http:
            async def ask(token: str, text: str) -> float:
                began = time.perf_counter()
                reply = await http.post(url + "/chat/completions", headers={"authorization": f"Bearer {token}"},
                                        json={"model": "m", "temperature": 0, "messages": [{"role": "user", "content": text}]})
                assert reply.headers["x-memgang-cache"] == "miss", reply.text
                return time.perf_counter() - began

            stamp = time.time_ns()
            for number in range(asks):
                await ask(red, f"{stamp} {number} remembered")
            for number in range(asks):
                order = ("remembered", "unknown") if number % 2 else ("unknown", "remembered")
                for name in order:
                    spent = await ask(blue, f"{stamp} {number} {name}")
                    if number >= asks // 10:  # the first warm everything up
                        times[name].append(spent)
        wrong = {}
        for name, place in (("first", len(tokens.SIGN) + 13), ("last", len(red) - 1)):
            wrong[name] = f"{red[:place]}{'A' if red[place] != 'A' else 'B'}{red[place + 1:]}"
        for _ in range(asks * 10):
            for name in random.sample(("first", "last"), 2):
                shown = wrong[name]
                began = time.perf_counter()
                found = await known.owner(shown)
                times[name].append(time.perf_counter() - began)
                assert found is None
        await app.aclose()
        await upstreams.aclose()
    return {
        "asks": asks, "python": platform.python_version(), "machine": platform.machine(),
        "D3": {"p": round(ks(times["remembered"], times["unknown"]), 4),
               "median_ms": {name: round(statistics.median(times[name]) * 1000, 3) for name in ("remembered", "unknown")}},
        "D11": {"t": round(welch(times["first"], times["last"]), 2),
                "median_us": {name: round(statistics.median(times[name]) * 1e6, 2) for name in ("first", "last")}},
        "times_s": {name: [round(t, 7) for t in times[name][:2000]] for name in times}}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--asks", type=int, default=1000)
    result = asyncio.run(measured(given.parse_args().asks))
    RESULT.write_text(json.dumps(result) + "\n", encoding="utf-8")
    shown = {name: result[name] for name in ("asks", "D3", "D11")}
    print(json.dumps(shown, indent=2))
    print(f"D3 {'holds' if result['D3']['p'] > 0.01 else 'DOES NOT HOLD'} (p > 0.01), "
          f"D11 {'holds' if abs(result['D11']['t']) < 4.5 else 'DOES NOT HOLD'} (|t| < 4.5)")


if __name__ == "__main__":
    main()
