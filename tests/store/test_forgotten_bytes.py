"""Bytes that were forgotten or have expired are nowhere: not in any key of the server, not on its disk, not in a late reader."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest
import redis
from tests.gates import ready, until

from memgang.errors import UnknownReference, WorkFailed
from memgang.gang import Gang
from memgang.model import Call, Claimed
from memgang.space import Space
from memgang.store import scripts

ROOT = Path(__file__).parents[2]


def everything(client: redis.Redis) -> Iterator[tuple[bytes, bytes]]:
    """Every key of the server with all it holds, whatever its type."""
    for key in client.scan_iter("*", count=1000):
        match client.type(key):
            case b"string":
                held = client.get(key) or b""
            case b"hash":
                held = repr(client.hgetall(key)).encode()
            case b"zset":
                held = repr(client.zrange(key, 0, -1, withscores=True)).encode()
            case b"stream":
                held = repr(client.xrange(key)).encode()
            case b"none":
                continue  # expired since it was listed
            case other:
                raise AssertionError(f"{key!r} is a {other!r}: teach this scan to read it")
        yield key, held


def holders(client: redis.Redis, canary: str) -> list[bytes]:
    """The keys in which the canary is, by name or content."""
    return [key for key, held in everything(client) if canary.encode() in key + held]


def on_disk(space: Space) -> dict[str, bytes]:
    """The server's files, logs of commands and all."""
    root = space.settings.state_dir
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def client(space: Space) -> Iterator[redis.Redis]:
    """The server as it is, without MemGang's eyes."""
    client = space.store.sync_client()
    yield client
    client.close()


@pytest.mark.catalogue("B7")
async def test_forgotten_bytes_are_nowhere(space: Space, client: redis.Redis, tmp_path: Path) -> None:
    """In a part, an answer, an answer of two calls, a stream, an error, a large body: all of it goes, and from the disk after a scrub."""
    canary, kept = f"canary-{secrets.token_hex(8)}", f"kept-{secrets.token_hex(8)}"
    file = tmp_path / "letter.md"
    file.write_text(f"# Letter\n\nThe {canary} sings in the mine, and the miners listen to it every day. " * 12)
    parts = await Gang(space).read(str(file))

    def reads(text: str, error: bool = False) -> Any:
        async def work() -> str:
            await space.get(parts[0])
            if error:
                raise ValueError(f"cannot parse {text}")
            return text

        return work

    calls = [Call("function", "tests:canary", "1", {"n": n}) for n in range(5)]
    for call in calls[:2]:  # two calls, one answer
        await space.recall(call, reads(f"an answer with {canary}"))
    await space.recall(calls[2], reads(canary * 10_000))
    with pytest.raises(WorkFailed):
        await space.recall(calls[3], reads(canary, error=True))
    chunks = space.store.keys.flight(space.key(calls[0])).replace(":f:", ":s:")
    client.xadd(chunks, {"k": "data", "d": f"piece of {canary}"}, id="1-0")
    given_up = space.key(calls[4])  # an attempt that had streamed something before it was given up
    held = await scripts.claim(space.store.wire, space.store.keys, given_up, who="u/a", note=b"{}", owner="o", inc="i",
                               lease_ms=1000, attempts=3, hold_ms=60_000)
    assert isinstance(held, Claimed)
    client.xadd(space.store.keys.flight(given_up).replace(":f:", ":s:"), {"k": "data", "d": f"begun: {canary}"}, id="1-0")
    await scripts.release(space.store.wire, space.store.keys, given_up, who="u/a", note=b"{}", owner="o", fence=held.fence)
    await space.put(kept)
    await space.flush()
    found = holders(client, canary)
    assert {key.rpartition(b":")[0][-1:] for key in found} >= {b"b", b"f", b"s"}, found
    assert canary.encode() in b"".join(on_disk(space).values())

    gone = await space.invalidate(str(file), "at the author's wish")

    assert len(gone.refs) == len(parts) + 3
    assert holders(client, canary) == []
    assert await space.scrub()

    async def rewritten() -> bool:  # the server removes its old files a moment after the rewriting
        return not any(canary.encode() in held for held in on_disk(space).values())

    await until(rewritten)
    assert kept.encode() in b"".join(on_disk(space).values())  # the scan sees what is there


@pytest.mark.catalogue("B7")
async def test_this_process_keeps_no_copy_of_its_own(space: Space) -> None:
    """Behind the verbs: no table of this process holds an answer when its flight has ended."""
    canary = f"canary-{secrets.token_hex(8)}"
    held = await space.put(f"{canary} held", name="held")  # nothing of it either: objects are read from the server each time
    got = await space.recall(Call("function", "tests:mine", "1", {}), ready({"text": canary}))
    assert any(canary in text for text in texts(got))  # the scan sees what is there
    await space.get_many([got.ref, held])
    await space.forget(got.ref)
    del got
    await space.flush()
    gc.collect()

    assert [text for text in texts(space) if canary in text] == []


def texts(root: Any) -> Iterator[str]:
    """Every text and all bytes that can be reached from an object, without leaving it for code or the event loop."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        now = waiting.pop()
        if isinstance(now, str | bytes | bytearray):
            yield now if isinstance(now, str) else bytes(now).decode("latin-1")
        for other in gc.get_referents(now):
            if id(other) not in seen and not isinstance(other, type | ModuleType | FrameType | FunctionType | asyncio.AbstractEventLoop):
                seen.add(id(other))
                waiting.append(other)


READER = """
import asyncio, json, sys, time
import memgang
from memgang.errors import UnknownReference
async def main():
    async with memgang.open(space=sys.argv[1]) as space:
        print("ready", flush=True)
        last = 0.0
        while True:
            began = time.monotonic()
            try:
                await space.get(sys.argv[2])
                last = began
            except UnknownReference:
                break
        for _ in range(50):
            began = time.monotonic()
            try:
                await space.get(sys.argv[2])
                last = began
            except UnknownReference:
                pass
        print(json.dumps(last), flush=True)
asyncio.run(main())
"""


@pytest.mark.catalogue("B7")
async def test_no_process_reads_what_was_acknowledged_as_forgotten(space: Space, space_name: str) -> None:
    """Three processes read without a pause; none that begins after the acknowledgement is given the bytes."""
    part = await space.put("secret")
    made = await space.put("made of it", parents=[part])
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    readers = [subprocess.Popen([sys.executable, "-c", READER, space_name, ref], env=env, cwd=ROOT, text=True,
                                stdout=subprocess.PIPE) for ref in (part, made, made)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert await asyncio.to_thread(reader.stdout.readline) == "ready\n"
        await asyncio.sleep(0.05)
        await space.forget(part, cascade=True)
        acknowledged = time.monotonic()  # one clock for all processes of a machine
        for reader in readers:
            out, _ = await asyncio.to_thread(reader.communicate, timeout=60)
            assert 0 < float(out) < acknowledged
    finally:
        for reader in readers:
            reader.kill()


# ── time to live ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.catalogue("B8")
async def test_what_has_expired_is_never_handed_out(opened: Any) -> None:
    """Read without a pause, with no janitor at work: the last success began before the end by the server's clock."""
    async with opened(janitor_ms=3_600_000) as space:
        refs = [await space.put(f"short {n}", ttl=0.02 + n / 100) for n in range(20)]
        ends = [(await space.describe(ref)).expires for ref in refs]

        async def read(number: int) -> None:
            while True:
                seconds, micros = await space.store.wire.call("TIME")
                began = int(seconds) * 1000 + int(micros) // 1000
                try:
                    await space.get(refs[number])
                except UnknownReference:
                    return
                assert began < ends[number]

        await asyncio.gather(*(read(n) for n in range(20)))
        totals = await space.stats()  # whoever meets one takes it away
        assert (totals["count"], totals["bytes"]) == (0, 0)


@pytest.mark.catalogue("B8")
async def test_the_bytes_of_what_has_expired_go_without_anybody_asking(opened: Any) -> None:
    """The janitor removes body, record and index entries, each with its event; answers and their flights go by themselves."""
    async with opened(janitor_ms=50, lease_ms=1000, beat_ms=250) as space:
        client = space.store.sync_client()
        canary = f"canary-{secrets.token_hex(8)}"
        refs = [await space.put(f"{canary} {n}", ttl=0.1) for n in range(70)]  # more than one script takes
        stays = await space.put("stays", ttl="1h")
        await space.put(canary * 8_000, ttl=0.1)
        try:
            async def clean() -> bool:
                return not holders(client, canary)

            await until(clean)
        finally:
            client.close()
        totals = await space.stats()
        assert (totals["count"], totals["bytes"]) == (1, 5)
        ended = [e.obj async for e in space.events() if e.raw == "expired"]
        assert set(ended) > {ref.id for ref in refs} and len(ended) == len(set(ended)) == 71
        assert await space.get(stays) == "stays"


@pytest.mark.catalogue("B6", "B8")
async def test_expiry_forget_and_a_longer_life_meet_in_any_order(opened: Any) -> None:
    """The same content put with short and long lives and forgotten by several at once: the totals stay the sums."""
    async with opened(janitor_ms=20) as space, opened(janitor_ms=20) as second:
        async def agent(own: Space, start: int) -> None:
            for n in range(60):
                ref = await own.put(f"{(start + n) % 7}" * 10, ttl=[0.005, 0.02, None][n % 3])
                if n % 5 == 0:
                    await own.forget(ref)

        await asyncio.gather(*(agent(own, n) for n, own in enumerate((space, second) * 3)))

        async def quiet() -> bool:  # the index of what will expire is empty
            return not await space.store.wire.call("ZRANGE", space.store.keys.at(0, "x"), 0, -1)

        await until(quiet)
        found, totals = (await space.find(limit=1000)).objects, await space.stats()
        assert (totals["count"], totals["bytes"]) == (len(found), sum(o.size for o in found))
