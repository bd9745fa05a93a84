"""Pages: asked for once by all, again only when that is due, and never for the wrong ears."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import ConfigError, ReadError, UnknownReference
from memgang.model import Call
from memgang.reads import Manners, Reads
from memgang.reads.pages import VERSION, asked
from tests.gates import until
from tests.reads.origin import PAGE, Origin, Running

SECRET = "sekret-1234567890"


@contextlib.contextmanager
def askers(space: str, url: str, callers: int, *, max_age_s: float = 0.0, at_once: int = 0) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have opened the space and wait for a word to ask."""
    command = [sys.executable, str(Path(__file__).with_name("asker.py")), space, url, str(callers), str(max_age_s), str(at_once)]
    env = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    running = [subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for child in running:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
        yield running
    finally:
        for child in running:
            child.kill()
            child.communicate()


def go(children: list[subprocess.Popen[str]]) -> None:
    """Let them ask."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()


async def said(child: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert child.stdout is not None
    return (await asyncio.to_thread(child.stdout.readline)).strip()


async def test_fifty_callers_in_two_processes_are_one_request(space: memgang.Space, reads: Reads, origin: Origin) -> None:
    """Of all who want a page at once one asks; so it is when the page is known and has to be asked for again."""
    url = origin.page("/page", ETag='"1"')
    flight = space.store.keys.flight(space.key(Call("read", "memgang.reads:page", VERSION, asked(space, reads.manners, url, {}))))
    for conditional in (False, True):
        origin.asked.clear()
        origin.gate.clear()
        with askers(space.name, url, 25) as children:
            go(children)

            async def both_there() -> bool:
                # One process stands at the origin, the other listens for what comes of that.
                heard = await space.store.wire.call("PUBSUB", "SHARDNUMSUB", flight)
                return len(origin.asked) == 1 and int(heard[1]) == 1

            await until(both_there)
            origin.gate.set()
            assert [await said(child) for child in children] == ["25 1", "25 1"]
        assert [one.conditional for one in origin.asked] == [conditional]


async def test_an_unchanged_page_does_not_travel_again_and_the_ledger_says_so(space: memgang.Space, origin: Origin) -> None:
    """304: the same object, its bytes spent once and saved once."""
    url = origin.page("/page", ETag='"1"')
    async with memgang.Gang(space, manners=Manners(allow=[origin.host])) as gang:
        first = await gang.fetch(url)
        assert await gang.fetch(url) == first
        assert await space.get(first.ref) == PAGE.decode()
        sums = await gang.savings()

    assert [one.headers.get("if-none-match") for one in origin.asked] == [None, '"1"']
    assert sums.physical.bytes == len(PAGE)
    assert sums.avoided["read"].bytes == len(PAGE)


async def test_a_changed_page_is_another_object(reads: Reads, origin: Origin) -> None:
    """The condition fails, the new body comes with the same request."""
    url = origin.page("/page", ETag='"1"')
    first = await reads.fetch(url)
    origin.page("/page", PAGE + b"<p>more", ETag='"2"')

    second = await reads.fetch(url)

    assert second.ref != first.ref and second.etag == '"2"'
    assert len(origin.asked) == 2


async def test_a_fresh_page_is_not_asked_for(reads: Reads, origin: Origin) -> None:
    """Cache-Control: max-age is believed; the caller may believe less, or more."""
    fresh, dated = origin.page("/fresh", Cache_Control="max-age=3600"), origin.page("/dated", Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
    for _ in range(3):
        await reads.fetch(fresh)
        await reads.fetch(dated, max_age_s=3600)
    assert origin.paths() == ["/fresh", "/dated"]

    await reads.fetch(fresh, max_age_s=0)
    await reads.fetch(dated)

    assert origin.paths() == ["/fresh", "/dated"] * 2
    assert [one.conditional for one in origin.asked[2:]] == [False, True]


async def test_what_must_not_be_stored_is_asked_for_each_time(reads: Reads, origin: Origin) -> None:
    """no-store: those who wait share it, and nobody else; no condition can be made."""
    url = origin.page("/page", ETag='"1"', Cache_Control="no-store, max-age=60")

    pages = await asyncio.gather(*(reads.fetch(url) for _ in range(5)))
    assert len(origin.asked) == 1 and len({page.ref for page in pages}) == 1
    await reads.fetch(url)

    assert [one.conditional for one in origin.asked] == [False, False]


async def test_a_page_whose_body_was_forgotten_is_fetched_whole(space: memgang.Space, reads: Reads, origin: Origin) -> None:
    """No condition is made about a body that nobody has; nor is a fresh record without one handed out."""
    url = origin.page("/page", ETag='"1"', Cache_Control="max-age=3600")
    page = await reads.fetch(url)
    await space.forget(page.ref)

    assert await space.get((await reads.fetch(url)).ref) == PAGE.decode()
    assert [one.conditional for one in origin.asked] == [False, False]


async def test_a_page_is_forgotten_by_its_address(space: memgang.Space, reads: Reads, origin: Origin) -> None:
    """`Space.invalidate` takes record, body and answer; the next fetch asks for all of it."""
    url = origin.page("/page", ETag='"1"', Cache_Control="max-age=3600")
    page = await reads.fetch(url)

    assert page.ref in (await space.invalidate(url)).refs
    with pytest.raises(UnknownReference):
        await space.get(page.ref)
    await reads.fetch(url)
    assert [one.conditional for one in origin.asked] == [False, False]


async def test_a_page_that_is_parsed_is_fetched_the_same_way(space: memgang.Space, origin: Origin) -> None:
    """`Gang.read` rests on `Gang.fetch`: without validators the page is fetched again, and parsed only if it differs."""
    url = origin.page("/page")
    async with memgang.Gang(space, manners=Manners(allow=[origin.host])) as gang:
        first = await gang.read(url)
        assert await gang.read(url) == first
        origin.page("/page", PAGE.replace(b"over the wire", b"from afar"))
        assert await gang.read(url) != first

    fns = [event.fn async for event in space.events() if event.raw == "committed"]
    assert fns.count("memgang.readers:read") == 2
    assert len(origin.asked) == 3


@pytest.mark.parametrize("body, kind, value", [
    ("é".encode(), "text/plain; charset=utf-8", "é"), ("é".encode("latin-1"), "text/plain; charset=latin-1", "é"),
    (b"\xff\xfe\x00", "text/html", b"\xff\xfe\x00"), (b'{"a": 1, "a": 2}', "application/json", '{"a": 1, "a": 2}'),
    (b"\x93NUMPY junk", "application/x-npy", b"\x93NUMPY junk"), (b"\x89PNG", "image/png", b"\x89PNG"),
    (b"plain", "", "plain"), (b"%PDF-1.4", "application/pdf", b"%PDF-1.4"), (b"x", "text/plain; charset=klingon", b"x"),
])
async def test_a_body_is_kept_as_it_came(
    space: memgang.Space, reads: Reads, origin: Origin, body: bytes, kind: str, value: Any,
) -> None:
    """Text is a str, all else bytes; nothing of a stranger's is decoded as an array or a table."""
    page = await reads.fetch(origin.page("/page", body, Content_Type=kind))

    assert await space.get(page.ref) == value
    assert await reads.body(page) == body


@pytest.mark.catalogue("D15")
async def test_credentials_are_shared_with_nobody_and_stand_nowhere(space: memgang.Space, reads: Reads, origin: Origin) -> None:
    """Whoever gives the same is given the same; whoever gives none asks for themselves. Only hashes are kept."""
    url = origin.page("/page", Cache_Control="max-age=3600")
    mine, token = {"Authorization": f"Bearer {SECRET}"}, f"{url}?t=1&access_token={SECRET}"
    origin.page(f"/page?t=1&access_token={SECRET}", PAGE + b"<p>for one", ETag='"1"')
    for _ in range(2):
        await reads.fetch(url, headers=mine)
        page = await reads.fetch(token)
    await reads.fetch(url)
    await reads.fetch(url, headers={"Authorization": "Bearer another"})
    with pytest.raises(ReadError) as missing:
        await reads.fetch(f"{origin.address}/missing?api_key={SECRET}")

    assert len(origin.asked) == 6 and SECRET in origin.asked[0].headers["authorization"]
    assert page.source.endswith("?t=1&access_token=...")
    assert SECRET not in missing.value.explain()
    assert SECRET not in str(asked(space, reads.manners, token, mine))  # of which short texts stand in outlines as they are
    assert page.ref in (await space.invalidate(token, dry_run=True)).refs
    kept = [repr(event) async for event in space.events()]
    for record in (await space.find(limit=1000)).objects:
        kept += [repr(record), repr(await space.get(record.ref))]
    assert kept and not [line for line in kept if SECRET in line]


async def test_credentials_go_to_the_named_server_alone(space: memgang.Space, origin: Origin) -> None:
    """A redirect to another origin is followed without them."""
    with Running() as other:
        there = other.page("/page")
        url = origin.page("/hop", b"", 302, Location=there)
        async with Reads(space, Manners(allow=[origin.host, other.host])) as reads:
            page = await reads.fetch(url, headers={"Authorization": SECRET, "Cookie": SECRET, "X-Api-Key": SECRET, "Accept-Language": "pt"})

        assert page.final_url == there
        assert other.asked[0].headers["accept-language"] == "pt"
        assert SECRET not in str(other.asked[0].headers) and SECRET in str(origin.asked[0].headers)


@pytest.mark.parametrize("url, options, error, says", [
    ("http://me:pw@example.org/", {}, ConfigError, "holds a user or password"),
    ("ftp://example.org/", {}, ReadError, "not an http or https address"),
    ("http://example.org/", {"headers": {"Host": "x"}}, ConfigError, "header Host is decided by the fetcher"),
    ("http://example.org/", {"headers": {"X-Key": f"a\n{SECRET}"}}, ConfigError, "value of header X-Key must be"),
    ("http://example.org/", {"headers": {"a b": "c"}}, ConfigError, "header's name"),
    ("http://example.org/", {"max_age_s": -1}, ConfigError, "max_age_s=-1 must be 0 or more"),
    ("http://[/", {}, ReadError, "not an address"), ("http://a:99999/", {}, ReadError, "not an address"),
])
async def test_what_cannot_be_asked_is_told_before_anybody_is(
    reads: Reads, url: str, options: dict[str, Any], error: type[Exception], says: str,
) -> None:
    """A wrong address or header is one line, which repeats no value of a header."""
    with pytest.raises(error, match=says) as told:
        await reads.fetch(url, **options)
    assert SECRET not in str(told.value)


async def test_a_failure_is_told_to_those_who_wait_and_to_nobody_later(reads: Reads, origin: Origin) -> None:
    """404 for all who asked at once by one request; the next one asks again and finds the page."""
    origin.gate.clear()
    url = f"{origin.address}/page"
    waiting = [asyncio.create_task(reads.fetch(url)) for _ in range(5)]

    async def reached() -> bool:
        return len(origin.asked) == 1

    await until(reached)
    origin.gate.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    origin.page("/page")

    assert {(type(error), getattr(error, "code", "")) for error in told} == {(ReadError, "missing")}
    assert len(origin.asked) == 1
    assert (await reads.fetch(url)).size == len(PAGE)


async def test_a_failure_by_ones_own_limits_is_told_to_nobody_else(space: memgang.Space, origin: Origin) -> None:
    """Too large, too many redirects: who has joined the asker and takes more asks again, and all who have its limits are told."""
    origin.page("/page")
    for url, code, less in ((f"{origin.address}/page", "large", {"bytes_max": 10}),
                            (origin.page("/hop", b"", 302, Location="/page"), "redirect", {"redirects_max": 0})):
        origin.gate.clear()
        origin.asked.clear()
        async with Reads(space, Manners(allow=[origin.host], **less)) as narrow, Reads(space, Manners(allow=[origin.host])) as wide:
            waiting = [asyncio.create_task(reads.fetch(url)) for reads in (narrow, wide, narrow)]

            async def reached() -> bool:
                return len(origin.asked) == 1

            await until(reached)
            origin.gate.set()
            first, page, second = await asyncio.gather(*waiting, return_exceptions=True)

        assert not isinstance(page, BaseException) and page.size == len(PAGE)
        assert isinstance(first, ReadError) and isinstance(second, ReadError) and first.code == second.code == code


async def test_code_without_a_loop_reads_too(space_name: str, origin: Origin, tmp_path: Path) -> None:
    """`memgang.connect` has both verbs, and the same memory."""
    url, path = origin.page("/page", Cache_Control="max-age=60"), tmp_path / "a.txt"
    path.write_text("one")

    def plainly() -> None:
        with memgang.connect(space=space_name) as space:
            page = space.fetch(url, manners=Manners(allow=origin.host))
            assert space.fetch(url, manners=Manners(allow=[origin.host])) == page
            assert space.get(page.ref) == PAGE.decode()
            assert space.get(space.read_file(str(path)).ref) == "one"
            with pytest.raises(ReadError, match="not a public address"):
                space.fetch(url)

    await asyncio.to_thread(plainly)
    assert len(origin.asked) == 1
