"""Manners: robots.txt is heeded and read once for all, places and pauses at a host are shared by all processes."""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

import memgang
from memgang.doors.mcp.serving import Options, door_of
from memgang.engines.processes import engine as engine_of
from memgang.errors import ConfigError, ReadError
from memgang.reads import Manners, Reads, robots
from memgang.reads.politeness import _limits
from tests.gates import until
from tests.reads.origin import Origin, Running
from tests.reads.test_pages import askers, go, said

RULES = b"""User-agent: *
Disallow: /private/
Allow: /private/*.html$

User-agent: my-reader
Disallow: /mine
"""


async def code(reads: Reads, url: str) -> str:
    """The code of the error that fetching this gives; empty where it gives a page."""
    try:
        await reads.fetch(url)
        return ""
    except ReadError as error:
        return error.code


async def test_robots_are_heeded_and_asked_once(space: memgang.Space, origin: Origin) -> None:
    """Wildcards, the longest rule, the group of this reader; one request for the rules of a server, and none for what they forbid."""
    origin.page("/robots.txt", RULES, Content_Type="text/plain")
    paths = ("/private/a", "/private/a.html", "/mine", "/open")
    for path in paths:
        origin.page(path)
    async with (Reads(space, Manners(allow=[origin.host], robots=True)) as anybody,
                Reads(space, Manners(allow=[origin.host], robots=True, user_agent="my-reader/2 (me@example.org)")) as mine):
        assert [await code(anybody, origin.address + path) for path in paths] == ["robots", "", "", ""]
        assert await asyncio.gather(*(code(mine, origin.address + path) for path in paths)) == ["", "", "robots", ""]

    assert origin.paths().count("/robots.txt") == 2  # one for each name under which it was asked
    assert origin.paths().count("/private/a") == 1 and origin.paths().count("/mine") == 1
    assert {one.headers["user-agent"] for one in origin.asked} == {"memgang-reader/1", "my-reader/2 (me@example.org)"}


async def test_the_rules_of_the_server_that_is_redirected_to_count(space: memgang.Space, origin: Origin) -> None:
    """Each server is asked for its own rules before it is asked for anything else."""
    with Running() as other:
        other.page("/robots.txt", b"User-agent: *\nDisallow: /", Content_Type="text/plain")
        url = origin.page("/hop", b"", 302, Location=other.page("/page"))
        async with Reads(space, Manners(allow=[origin.host, other.host], robots=True)) as reads:
            assert await code(reads, url) == "robots"
        assert other.paths() == ["/robots.txt"]


@pytest.mark.parametrize("status, allowed, times", [(404, True, 1), (403, True, 1), (500, False, 2), (429, False, 2)])
async def test_a_server_without_rules_asks_for_nothing_one_in_trouble_for_everything(
    space: memgang.Space, origin: Origin, status: int, allowed: bool, times: int,
) -> None:
    """None are remembered as none; trouble is not remembered."""
    origin.page("/robots.txt", b"", status, Retry_After="0")
    url = origin.page("/page")
    async with Reads(space, Manners(allow=[origin.host], robots=True)) as reads:
        assert [await code(reads, url) for _ in range(2)] == ["" if allowed else "robots"] * 2
    assert origin.paths().count("/robots.txt") == times


async def test_robots_hide_no_private_address_and_may_be_long(space: memgang.Space, origin: Origin) -> None:
    """Who may not ask a host is told how to allow it; of rules without end the beginning counts, but no half of a rule."""
    async with Reads(space, Manners(robots=True)) as narrow:
        with pytest.raises(ReadError, match="is not a public address") as told:
            await narrow.fetch(f"{origin.address}/page")
    assert told.value.code == "private" and "Manners(allow=" in told.value.hint and not origin.asked

    for path in ("/page", "/mine"):
        origin.page(path)
    start, last = b"User-agent: *\nDisallow: /mine\n", b"Disallow: /page-of-mine\n"
    filler = b"#" * (robots.BYTES_MAX - len(start) - len(b"\nDisallow: /")) + b"\n"
    rules = start + filler + last + b"#" * 100_000
    for number, (body, more) in enumerate(((rules, {}), (gzip.compress(rules, 0), {"Content_Encoding": "gzip"}))):
        origin.page("/robots.txt", body, Content_Type="text/plain", **more)
        async with Reads(space, Manners(allow=[origin.host], robots=True, user_agent=f"reader-{number}/1")) as reads:
            assert [await code(reads, origin.address + path) for path in ("/mine", "/page")] == ["robots", ""]


async def test_without_the_library_robots_say_what_to_install(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback in the middle of a fetch."""
    monkeypatch.setitem(sys.modules, "protego", None)
    with pytest.raises(ConfigError, match=r"pip install 'memgang\[robots\]'"):
        Reads(space, Manners(robots=True))


async def test_places_at_a_host_are_shared_by_all_processes(space: memgang.Space, origin: Origin) -> None:
    """Two processes want six pages each, all different; never more than one request is under way there."""
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)  # so that those who do not take turns meet
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(handler.path.encode())

    for number in range(6):
        origin.does(f"/{number}", slowly)
    with askers(space.name, f"{origin.address}/", 6, at_once=1) as children:
        go(children)
        assert [await said(child) for child in children] == ["6 6", "6 6"]

    assert origin.most_at_once == 1


async def test_a_host_that_wants_no_more_is_left_alone_by_all(space: memgang.Space, origin: Origin) -> None:
    """One 429 with Retry-After: nobody else asks that host meanwhile, whatever page they want."""
    busy, page = origin.page("/busy", b"", 429, Retry_After="300"), origin.page("/page")
    manners = Manners(allow=[origin.host], at_once=4)
    async with Reads(space, manners) as one, Reads(space, manners) as two:
        assert await code(one, busy) == "status"
        limiter = two._politeness._limiter(origin.host, 0.0)
        assert limiter is not None
        waiting = asyncio.create_task(two.fetch(page))

        async def told() -> bool:
            return limiter.paused_s > 5

        await until(told)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert origin.paths() == ["/busy"]


async def test_the_mcp_server_has_the_same_manners(space: memgang.Space, origin: Origin) -> None:
    """`memgang mcp --robots`: what the rules forbid is refused in one line, and not asked for."""
    origin.page("/robots.txt", RULES, Content_Type="text/plain")
    engine = engine_of("asyncio", cpu_bound=False)
    try:
        door = door_of(space, engine, Options(hosts=[origin.host], robots=True))
        with pytest.raises(ToolError, match=r"robots.txt asks memgang-reader to leave it alone. leave it, ask"):
            await door.call_tool("memgang_fetch_url", {"url": f"{origin.address}/private/a"})
    finally:
        await engine.aclose()
    assert origin.paths() == ["/robots.txt"]


@pytest.mark.parametrize("delay_s, requests, per_s", [(0, 0, 1), (0.25, 4, 1), (0.3, 3, 1), (1, 1, 1), (12.5, 1, 12.5)])
def test_a_delay_is_a_number_of_requests_in_a_time(delay_s: float, requests: int, per_s: float) -> None:
    """Never more often than the delay says, counted over a second or longer."""
    limits = _limits("example.org", 0, delay_s)

    assert (limits.requests_per_minute, limits.per_s) == (requests, per_s)
    assert limits.shared == bool(delay_s)


@pytest.mark.parametrize("wrong", [
    {"delay_s": -1}, {"delay_s": float("nan")}, {"at_once": 1.5}, {"at_once": True}, {"bytes_max": 0}, {"total_s": 0},
    {"redirects_max": 99}, {"user_agent": ""}, {"user_agent": "a\nb"}, {"user_agent": "é"}, {"allow": ["http://a"]}, {"total_s": "5"},
])
def test_wrong_manners_are_named(wrong: dict[str, Any]) -> None:
    """A number that is none, a host that is an address, a name that cannot be sent."""
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "allow" not in wrong else "must be a host"):
        Manners(**wrong)
