"""Streams through a network that loses replies, and over a server that dies in mid-stream."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import StreamRestarted
from memgang.space import Space
from tests.chaos.relay import Relay
from tests.chaos.servers import PrivateServer
from tests.gates import until
from tests.streaming.taps import Reader, Tap, never


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: a socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mgs-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def opened(url: str, place: Path, agent: str, **more: Any) -> AsyncIterator[Space]:
    """The space as one process of two would open it."""
    options = {"lease_ms": 1000, "beat_ms": 250, "poll_ms": 200, "runtime_dir": place / "run", **more}
    async with memgang.open(url, space="faults", agent=agent, **options) as space:
        yield space


async def spoken(words: list[str], tap: Tap, *readers: Reader) -> None:
    """Say one word after the other, each when the first reader has the one before."""
    for n, word in enumerate(words, len(readers[0].got) + 1):
        tap.give(word)
        await readers[0].reached(n)
    tap.end()


@pytest.mark.catalogue("A8")
@pytest.mark.parametrize("every", [5, 7])  # a page is asked for in a row of two: of every second reply, one would always be its own
async def test_replies_that_are_lost_double_no_chunk(place: Path, every: int) -> None:
    """Each lost reply makes the command run twice: the stream holds every piece once, in order."""
    relay = Relay()
    words = [f"{n} " for n in range(30)]
    with PrivateServer(place / "server") as server:
        async with relay.to(server.socket, place / "r"), opened(relay.url, place, "a") as space, \
                opened(relay.url, place, "b") as other:
            tap = Tap().give("first ")
            here = await Reader(space, tap).reached(1)
            there = await Reader(other, never).reached(1)
            relay.drop_every = every
            await spoken(words, tap, there)
            assert await here.done() == await there.done() == "first " + "".join(words)
            relay.drop_every = 0
            assert relay.dropped > 10 and there.got == ["first ", *words]
            entries = await space.store.wire.call("XRANGE", space.store.keys.at(0, f"s:{here.stream.key}"), "-", "+")
            assert [int(entry.partition(b"-")[0]) for entry, _ in entries] == list(range(1, len(entries) + 1))
            assert (await space.stats())["executions"] == 1


@pytest.mark.catalogue("A6")
async def test_a_server_that_is_restarted_with_its_data_is_streamed_to_again(place: Path) -> None:
    """kill -9 and restart in mid-stream: the stream goes on, and nobody is delivered a piece twice."""
    with PrivateServer(place / "server", options=("--appendfsync", "always")) as server:
        async with opened(server.url, place, "a", lease_ms=20_000, beat_ms=1000) as space, \
                opened(server.url, place, "b", lease_ms=20_000, beat_ms=1000) as other:
            tap = Tap().give("a ", "b ")
            here = await Reader(space, tap).reached(2)
            there = await Reader(other, never).reached(2)
            server.kill()
            tap.give("c ", "d ")
            await here.reached(4)  # the leader's readers do not wait for the server
            server.start()
            await there.reached(4)
            tap.give("e").end()
            assert await here.done() == await there.done() == "a b c d e"
            assert there.got == ["a ", "b ", "c ", "d ", "e"] and tap.runs == 1


@pytest.mark.catalogue("A7")
@pytest.mark.parametrize("same", [True, False])
async def test_a_server_that_comes_back_empty_is_streamed_to_anew(place: Path, same: bool) -> None:
    """Chunks are refused, somebody claims and produces again: who was delivered the same goes on, the others are told."""
    with PrivateServer(place / "server", persistent=False) as server:
        async with opened(server.url, place, "a") as space, opened(server.url, place, "b") as other:
            tap = Tap().give("a ", "b ")
            here = await Reader(space, tap).reached(2)
            there = await Reader(other, tap).reached(2)
            server.kill()
            server.start()
            tap.give("c ")  # refused, or delivered here at most
            await until(lambda: asyncio.sleep(0, tap.closed == 1))
            again = ["a ", "b ", "c ", "d"] if same else ["x ", "y"]
            tap.give(*again).end().give(*again).end()
            for reader in (here, there):
                if same:
                    assert await reader.done() == "a b c d"
                else:
                    with pytest.raises(StreamRestarted):
                        await reader.done()
                    assert reader.text in ("a b ", "a b c ")


async def test_a_server_that_stays_away_ends_no_stream(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader's readers get all of it, marked as degraded; it is produced once, and kept nowhere."""
    monkeypatch.setattr("memgang.store.wire.PATIENCE_S", 0.2)
    with PrivateServer(place / "server") as server:
        async with opened(server.url, place, "a") as space:
            tap = Tap().give("a ")
            readers = [await Reader(space, tap).reached(1), await Reader(space, never).reached(1)]
            server.kill()
            tap.give("b ", "c").end()
            for reader in readers:
                assert await reader.done() == "a b c" and reader.stream.degraded
            assert tap.runs == 1
            server.start()
            assert await Reader(space, Tap().give("anew").end(), n=1).done() == "anew"
