"""The sealer under kill -9, on a full disk, beside others; and what the janitor may trim where there is one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.gates import until

import memgang
from memgang import sealing
from memgang.errors import ConfigError
from memgang.store import janitor, sealer, seals
from memgang.store.keys import Keys
from memgang.store.sealer import seal_now
from memgang.store.sealfile import SealFile

# A process that seals and is killed in the middle of its n-th file call; a write under way has done half its work.
KILLED = """
import asyncio, os, signal, sys
import memgang
from memgang import sealing
from memgang.store import sealfile

class Calls:
    def __init__(self, real, at):
        self.real, self.left = real, at
    def __getattr__(self, name):
        found = getattr(self.real, name)
        if name not in ("open", "pwrite", "write", "fsync", "ftruncate", "close", "fchmod"):
            return found
        def counted(*arguments):
            self.left -= 1
            if self.left == 0:
                if name in ("pwrite", "write"):
                    found(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return found(*arguments)
        return counted

async def main():
    async with memgang.open(space=sys.argv[1], seal_anchor=sys.argv[3]) as space:
        sealfile.os = Calls(os, int(sys.argv[2]))
        await sealing.seal(space)
asyncio.run(main())
"""


@pytest.mark.catalogue("D14", "A13")
async def test_a_sealer_killed_at_any_file_call_loses_nothing_and_doubles_nothing(
    opened: Callable[..., Any], tmp_path: Path,
) -> None:
    """After each kill the next one goes on; in the end every entry is sealed once and all is well."""
    anchor = tmp_path / "anchor.jsonl"
    async with opened(seal_anchor=anchor) as space:
        await sealing.seal(space)
        killed = 0
        for at in range(1, 60):
            await space.put(f"before kill {at}")
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", KILLED, space.name, str(at), str(anchor)], capture_output=True, timeout=60)
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            if done.returncode == 0:
                break
            killed += 1
            assert [f for f in [f async for f in sealing.verify(space)] if f.level != "note"] == [], f"killed at call {at}"
        else:
            pytest.fail("the sealer never came to its end")
        assert killed >= 12, "the calls of a round were not all reached"
        report = await sealing.report(space)
        assert report.ok() and {f.what for f in report.findings} <= {"anchor"}  # a note: half a line of one that was killed
        files = SealFile(space.settings, space.name)
        numbers = [seals.seq_of(i) for p in files.refresh().pieces["a00"] for i, _ in files.sealed(p.segment)]
        assert numbers == list(range(1, killed + 2))
        heads = [json.loads(line) for line in anchor.read_bytes().splitlines() if line.endswith(b"}") and line.startswith(b"{")]
        assert heads[-1]["n"] == report.seals


@pytest.mark.catalogue("D14")
async def test_what_a_killed_sealer_left_is_cut_off_also_where_it_is_longer(space: memgang.Space) -> None:
    """Bytes behind the last seal are nobody's, however many: nothing of them gets into the files."""
    await space.put("one")
    await sealing.seal(space)
    files = SealFile(space.settings, space.name)
    for path in (files.seals, files.export("a00")):
        path.write_bytes(path.read_bytes() + b'["2-0",["e"' + b"x" * 5_000)
    assert [f.level async for f in sealing.verify(space)] == ["note"]
    await space.put("two")
    await sealing.seal(space)
    assert [f async for f in sealing.verify(space)] == []
    assert b"xxx" not in files.seals.read_bytes() + files.export("a00").read_bytes()


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file of this process grows beyond the limit: the kernel takes part of a write and then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.catalogue("A21")
@pytest.mark.parametrize("which", ["export", "seals"])
async def test_a_full_disk_is_said_and_nothing_half_is_sealed(space: memgang.Space, which: str) -> None:
    """Neither half an export nor half a seal stays behind; with room again the next round does it all."""
    await space.put("first")
    await sealing.seal(space)
    files = SealFile(space.settings, space.name)
    path = files.seals if which == "seals" else files.export("a00")
    if which == "export":
        for i in range(20):
            await space.put(f"more {i}")
    else:
        await space.put("more")
    await space.flush()
    size = path.stat().st_size

    with full_disk(size + 50), pytest.raises(OSError, match="File too large"):
        await seal_now(space.store.wire, space.store.keys, files, space.settings)

    assert path.stat().st_size == size
    assert [f.what for f in [f async for f in sealing.verify(space)]] == ["unsealed"]
    await seal_now(space.store.wire, space.store.keys, files, space.settings)
    assert [f async for f in sealing.verify(space)] == []


@pytest.mark.catalogue("A21")
async def test_the_role_says_that_it_cannot_seal_and_tries_again(
    opened: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path,
) -> None:
    """One warning for one reason, however often it tries; when the reason is gone it seals."""
    anchor = tmp_path / "not yet" / "anchor"
    with caplog.at_level(logging.WARNING, "memgang"):
        async with opened(seal=True, seal_ms=100, seal_anchor=anchor) as space:
            await space.put("something")

            async def said() -> bool:
                return any("is not sealed now" in r.message and "No such file" in r.message for r in caplog.records)

            await until(said)
            anchor.parent.mkdir()

            async def sealed() -> bool:
                return anchor.exists() and (await sealing.report(space)).findings == ()

            await until(sealed)
    assert len([r for r in caplog.records if "is not sealed now" in r.message]) == 1


async def test_a_mark_that_somebody_wrote_over_stops_no_sealer(opened: Callable[..., Any]) -> None:
    """The server's word on how far it is sealed is no number: it is put right by the next round."""
    async with opened() as space:
        await space.put("one")
        await sealing.seal(space)
        mark, wire = Keys.sealed(space.name), space.store.wire
        name = "n:" + (await sealing.report(space)).key
        await wire.call("HSET", mark, name, "very many")
        await space.put("two")

        assert (await sealing.seal(space)).entries > 0

        assert await wire.call("HGET", mark, name) == b"2"
        assert (await sealing.report(space)).ok()


async def test_of_many_processes_one_seals_and_another_takes_over(opened: Callable[..., Any]) -> None:
    """The role has a lease in the server; two who seal at the same moment make one chain all the same."""
    async with opened(seal=True, seal_ms=100) as space:
        await space.put("a")

        async def sealed() -> bool:
            report = await sealing.report(space)
            return report.ok() and report.seals > 0 and report.unsealed == 0

        await until(sealed)
        holder = await space.store.wire.call("GET", Keys.sealer(space.name))
        assert holder and 0 < await space.store.wire.call("PTTL", Keys.sealer(space.name)) <= 5_000
        # Somebody else has the role: this one leaves it alone, until the lease ends.
        await space.store.wire.call("SET", Keys.sealer(space.name), "somebody", "PX", 300)
        await space.put("b")
        await until(sealed)
        assert await space.store.wire.call("GET", Keys.sealer(space.name)) == holder

        for i in range(10):
            await space.put(f"at once {i}")
            await asyncio.gather(*(sealing.seal(space) for _ in range(4)))
        report = await sealing.report(space)
        assert report.findings == () and report.unsealed == 0


async def test_a_process_that_ends_seals_what_is_left(opened: Callable[..., Any]) -> None:
    """A short command is sealed too, and the role is free for the next at once; without the setting nothing is."""
    async with opened(seal=True) as space:
        await space.put("short")
    async with opened() as space:
        report = await sealing.report(space)
        assert (report.sealed, report.unsealed, report.findings) == (1, 0, ())
        assert await space.store.wire.call("EXISTS", Keys.sealer(space.name)) == 0
        await space.put("more")
    async with opened() as space:
        assert (await sealing.report(space)).unsealed == 1


async def test_nothing_is_trimmed_that_is_not_sealed_and_readers_go_on_in_the_export(opened: Callable[..., Any]) -> None:
    """Where there is a sealer; what was trimmed is still read by `events`, in its order, and verified."""
    async with opened(log_keep_hours=1, seal_entries=7) as space:
        for i in range(20):
            ref = await space.put(f"old {i}")
            await space.get(ref)
        await space.flush()
        await age(space, hours=2)
        await sealing.seal(space)
        for i in range(5):
            await space.put(f"new {i}")
        await space.flush()
        await age(space, hours=2, after=20)
        before = [e async for e in space.events()]

        await janitor.one_round(space.store.wire, space.store.keys, space.store.objects, space.store.log, space.settings)

        left = await space.store.wire.call("XRANGE", space.store.keys.log("a00"), "-", "+")
        assert [seals.seq_of(i) for i, _ in left] == list(range(21, 26))
        assert [e async for e in space.events()] == before
        report = await sealing.report(space)
        assert report.ok() and {f.what for f in report.findings} == {"unsealed"}
        cursor = "13-0"
        assert [e.id async for e in space.events(cursor) if e.id.startswith("a")] == [f"a00-{n}-0" for n in range(14, 26)]


async def age(space: memgang.Space, hours: int, after: int = 0) -> None:
    """Make entries of the logs older, as time would."""
    for log in ("a00", "h00"):
        key = space.store.keys.log(log)
        entries = await space.store.wire.call("XRANGE", key, "-", "+")
        await space.store.wire.call("DEL", key)
        for ident, words in entries:
            if seals.seq_of(ident) > (after if log == "a00" else 0) and not (after and log == "h00"):
                at = words.index(b"at") + 1
                words[at] = str(int(words[at]) - hours * 3_600_000).encode()
            await space.store.wire.call("XADD", key, ident, *words)


async def test_a_seal_is_asked_for_without_the_extra(space: memgang.Space, opened: Callable[..., Any],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to install, before anything is opened or written."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"memgang\[audit\]"):
        await sealing.seal(space)
    with pytest.raises(ConfigError, match=r"memgang\[audit\]"):
        async with opened(seal=True):
            pass
    assert [f.level async for f in sealing.verify(space)] in ([], ["note"])  # without seals nothing is missing


@pytest.mark.catalogue("D16")
async def test_keys_and_seals_can_be_read_by_their_owner_alone(space: memgang.Space) -> None:
    """0600 and 0700 whatever the umask; a key that others can read is not used."""
    old = os.umask(0)
    try:
        await sealing.seal(space)
    finally:
        os.umask(old)
    files = SealFile(space.settings, space.name)
    assert files.root.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in files.root.iterdir()} == {0o600}
    files.key_file.chmod(0o644)
    await space.put("more")
    with pytest.raises(memgang.errors.StoreUnavailable, match="only its owner"):
        await sealing.seal(space)


def test_what_could_still_be_lost_by_a_power_failure_is_not_sealed_yet() -> None:
    """Entries up to the first young one; one from the future is old, because the clock was set back."""
    def entry(seq: int, at: int) -> tuple[bytes, list[bytes]]:
        return b"%d-0" % seq, [b"e", b"put", b"at", b"%d" % at]

    page = [entry(1, 7_000), entry(2, 99_000), entry(3, 8_000), entry(4, 8_001), entry(5, 100)]
    assert [i for i, _ in sealer._settled(page, 10_000, 2_000)] == [b"1-0", b"2-0", b"3-0"]
    assert len(sealer._settled(page, 10_000, 0)) == 5


async def test_a_large_log_is_sealed_and_verified(space: memgang.Space) -> None:
    """Many segments; all but the last of them gone from the server is one finding."""
    many = 50_000 if os.environ.get("MEMGANG_SOAK") else 5_000
    for start in range(0, many, 1_000):
        await space.put_many([f"{start + i}" for i in range(1_000)])
    assert (await sealing.seal(space)).seal == many // 1_000
    assert (await sealing.report(space)).findings == ()
    key = space.store.keys.log("a00")
    tail = await space.store.wire.call("XRANGE", key, f"{many - 3}-0", "+")
    await space.store.wire.call("XTRIM", key, "MAXLEN", 0)
    del tail[0]
    await space.store.wire.call("DEL", key)
    for ident, words in tail:
        await space.store.wire.call("XADD", key, ident, *words)
    found = [f async for f in sealing.verify(space) if f.level != "note"]
    assert [(f.what, f.first, f.last) for f in found] == [("removed", 1, many - 3)]
