"""How fast is the proxy, beside LiteLLM's with Redis and nginx's cache: hits, misses, a hundred at once, start-up and memory?

    make bench ONLY=proxy            # writes benchmarks/results/proxy.json; --quick to see that it works

Five processes: a provider that answers after a fixed time (5 ms for misses, 200 ms for the hundred at once) and counts, callers with
raw connections that are kept open, and the proxies, one worker each, which take turns. MemGang and LiteLLM use the same server, on
TCP. "uvicorn alone" is an ASGI application that reads the request and answers the same bytes: the limit of what a Python proxy can do.
nginx keeps answers by the bytes of the request (`proxy_cache`, `proxy_cache_lock`), knows no streams and answers more than the
callers can ask for: its hits a second are their limit. The answers are those of a chat completion of 90 tokens, the requests plain
but where it says "streamed". "beside the provider" is the time of a call less what the provider itself took for it.

Sketch, before measuring: uvicorn alone takes 60 us of a processor for a request; ours reads the request again (5 us), looks up the
key of what it has read before and finds the answer in the host tier (10 us), and logs it (5 us): 0.7 of uvicorn alone. A miss is the
claim, the provider, and the commit with the object: three round trips of 0.1 ms, 25 events that are read, and two tasks: 1.5 ms.
Would change the design: under 30 times LiteLLM's hits; over 2 ms for a miss; more than one call of the provider for a hundred.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from beside import ends, measured, proxies

CONNECTIONS = (1, 16, 64)
HELD_MS, AT_ONCE, AT_ONCE_MS, FIRST_MS, RATE = 5, 100, 200, 100, 200
OURS, LIMIT, PEERS = "MemGang", "uvicorn alone", ("LiteLLM", "nginx")
WITH_SERVER = "MemGang and its server"  # which it starts; else it joins the one the others use
SLOW = "LiteLLM"  # takes seconds where the others take milliseconds
Ask = Callable[..., Any]


@contextlib.contextmanager
def tried(found: measured.Evidence, who: str, what: str) -> Iterator[None]:
    """A peer that fails at one thing is left out of that; what we fail at ends the benchmark."""
    try:
        yield
    except Exception as error:
        if who == OURS:
            raise
        found.left_out(f"{who}, {what}", error)


def hits(ask: Ask, found: measured.Evidence, names: dict[str, proxies.Proxy], provider: int, rounds: int, seconds: float) -> None:
    """One question that was answered before, as often as it will go; and 200 times a second."""
    prompts = {who: f"0 0 hit-{who.replace(' ', '-')}" for who in names}
    for who, proxy in names.items():  # what is first is a miss; LiteLLM keeps it in the background
        with tried(found, who, "hits"):
            ask("one_by_one", proxy.port, [prompts[who]])
            time.sleep(0.3)
            ask("hits", proxy.port, prompts[who], 16, 0.2)
            if who != LIMIT:
                ask("hits", proxy.port, prompts[who], 1, 0.1, True)
                time.sleep(0.3)
    before = {who: proxies.asked(provider, prompts[who].split()[2]) for who in names}
    for _, who in measured.turns(rounds, list(names)):
        with tried(found, who, "hits"):
            for connections in CONNECTIONS:
                rate, took = ask("hits", names[who].port, prompts[who], connections, seconds)
                at = f"{connections} connection{'s' * (connections > 1)}"
                found.add(f"hits a second, {at}", who, [rate], "hits/s")
                found.add(f"a hit, {at}", who, took, "ms")
            if who != LIMIT:
                rate, took = ask("hits", names[who].port, prompts[who], 16, seconds, True)
                found.add("streamed hits a second, 16 connections", who, [rate], "hits/s")
                found.add("a streamed hit, 16 connections", who, took, "ms")
            if who != SLOW:
                found.add(f"a hit, {RATE} a second", who, ask("steady", names[who].port, prompts[who], RATE, 2 * seconds), "ms")
    for who in names:
        if who != LIMIT and (more := proxies.asked(provider, prompts[who].split()[2]) - before[who]):
            found.found["notes"].append(f"{who} asked the provider {more} times for what should have been hits.")


def misses(ask: Ask, found: measured.Evidence, names: dict[str, proxies.Proxy], rounds: int, count: int) -> None:
    """Questions nobody has asked before, one after the other; "direct" asks the provider itself."""
    for number, who in measured.turns(rounds, list(names)):
        with tried(found, who, "misses"):
            prompts = [f"{HELD_MS} 0 miss-{number}-{which}-{who}" for which in range(count)]
            found.add("a miss, beside the provider", who, ask("one_by_one", names[who].port, prompts)[2:], "ms")  # the first connect


def at_once(ask: Ask, found: measured.Evidence, names: dict[str, proxies.Proxy], provider: int, rounds: int) -> None:
    """A hundred callers with the same question in the same moment."""
    for number, who in measured.turns(rounds, list(names)):
        if who == SLOW and number >= 2:
            continue
        with tried(found, who, "a hundred at once"):
            for stream, how in ((False, "plain"), (True, "streamed")):
                name = f"once-{number}-{how}-{who}"
                first, last = ask("at_once", names[who].port, f"{AT_ONCE_MS} {FIRST_MS} {name}", AT_ONCE, stream)
                row = f"{AT_ONCE} at once, {how}"
                found.add(f"{row}: calls of the provider", who, [proxies.asked(provider, name)], "calls")
                found.add(f"{row}: time to the last answer", who, [max(last)], "ms")
                if stream:
                    found.add(f"{row}: first piece at each", who, first, "ms")
                    found.add(f"{row}: first piece, from the first caller to the last", who, [max(first) - min(first)], "ms")


def starts(found: measured.Evidence, names: list[str], provider: int, redis: int, folder: Path, rounds: int) -> None:
    """From the start of the process to the first answer, and what it holds a second later."""
    for number, who in measured.turns(rounds, names):
        if who == SLOW and number >= 2:
            continue
        with tried(found, who, "starts"):
            cases = ((who, redis),) if who != OURS else ((WITH_SERVER, 0), (OURS, redis))
            for case, server in cases:
                with proxies.started(who, provider, server, folder / f"start-{number}-{case.replace(' ', '-')}") as proxy:
                    time.sleep(1)
                    found.add("from its start to its first answer", case, [proxy.started_s], "ms")
                    found.add("idle memory (RSS)", case, [proxy.memory()], "MiB")


def goals(found: measured.Evidence) -> None:
    """What the proxy promises, beside LiteLLM and the limit."""
    m = found.median

    def worst(what: str, who: str = OURS, part: float = 1.0) -> float | None:
        values = next((values for (of, by, _), values in found.samples.items() if (of, by) == (what, who)), None)
        return measured.percentile(values, part) if values else None

    for connections in CONNECTIONS:
        row = f"hits a second, {connections} connection{'s' * (connections > 1)}"
        found.goal(row, m(row, OURS), ">= 30", "hits/s", peer="LiteLLM", theirs=m(row, "LiteLLM"))
    row = "streamed hits a second, 16 connections"
    found.goal(row, m(row, OURS), ">= 30", "hits/s", peer="LiteLLM", theirs=m(row, "LiteLLM"))
    row = "hits a second, 16 connections"
    found.goal(row, m(row, OURS), ">= 0.5", "hits/s", peer=LIMIT, theirs=m(row, LIMIT))
    row = "a hit, 1 connection"
    found.goal(row + " (p50)", m(row, OURS), "<= 0.05", "ms", peer="LiteLLM", theirs=m(row, "LiteLLM"))
    found.goal(f"a hit, {RATE} a second, open loop (p99)", worst(f"a hit, {RATE} a second", part=0.99), "<= 20", "ms")
    ours, direct = m(row := "a miss, beside the provider", OURS), m(row, "direct")
    found.goal("a miss, over a direct call (p50)", None if ours is None or direct is None else ours - direct, "<= 2", "ms")
    for how in ("plain", "streamed"):
        row = f"{AT_ONCE} at once, {how}"
        found.goal(f"{row}: calls of the provider (the worst round)", worst(f"{row}: calls of the provider"), "== 1", "calls")
        found.goal(f"{row}, {AT_ONCE_MS} ms: time to the last answer", m(f"{row}: time to the last answer", OURS), "<= 250", "ms")
    row = f"{AT_ONCE} at once, streamed: first piece, from the first caller to the last"
    found.goal(row, m(row, OURS), "<= 30", "ms")
    row = "from its start to its first answer"
    found.goal(f"{row}, its own server started too", m(row, WITH_SERVER), "<= 1500", "ms")
    found.goal("idle memory (RSS)", m("idle memory (RSS)", OURS), "<= 100", "MiB")


def measure(args: Any, found: measured.Evidence, folder: Path, redis: int) -> None:
    """All of it, with everybody running and one at work at a time."""
    rounds, quick = args.rounds, args.quick
    provider_end, asgi, callers = (measured.Other(ends.__file__, what) for what in ("provider", "asgi", "callers"))

    def ask(*what: Any) -> Any:
        heard = callers.ask(*what)
        if "error" in heard:
            raise RuntimeError(heard["error"])
        return heard["found"]

    try:
        (provider,), (limit,) = provider_end.hear(30), asgi.hear(30)
        names = [OURS]
        for who in PEERS:
            try:
                proxies.available(who)
                names.append(who)
            except Exception as error:
                found.left_out(who, error)
        with contextlib.ExitStack() as running:
            there: dict[str, proxies.Proxy] = {}
            for who in names:
                try:
                    there[who] = running.enter_context(proxies.started(who, provider, redis, folder / who))
                except Exception as error:
                    found.left_out(who, error)
            found.found["versions"] |= proxies.versions(list(there))
            hits(ask, found, there | {LIMIT: proxies.Proxy(LIMIT, limit)}, provider, rounds, 0.2 if quick else 0.8)
            misses(ask, found, there | {"direct": proxies.Proxy("direct", provider)}, rounds, 12 if quick else 62)
            at_once(ask, found, there, provider, rounds)
        starts(found, list(there), provider, redis, folder, 1 if quick else 3)
    finally:
        for other in (callers, asgi, provider_end):
            other.end()


def main() -> int:
    """Run, print, write."""
    args = measured.settled(measured.arguments(__file__, __doc__, rounds=5, quick_rounds=1).parse_args())
    measured.beside_peers("uvloop")
    found = measured.Evidence(args, ("uvicorn", "uvloop", "aiohttp"), connections=CONNECTIONS, held_ms=HELD_MS, at_once=AT_ONCE,
                              at_once_ms=AT_ONCE_MS, first_ms=FIRST_MS, rate=RATE)
    redis = proxies.free_port()
    with measured.server(redis), tempfile.TemporaryDirectory(prefix="memgang-bench-") as folder:
        measure(args, found, Path(folder), redis)
    goals(found)
    return found.finish()


if __name__ == "__main__":
    sys.exit(main())
