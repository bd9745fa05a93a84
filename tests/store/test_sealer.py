"""The sealer under kill -9, on a full disk, beside others; and what the janitor may trim where there is one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.disk import full_disk
from tests.gates import until

import memgang
from memgang import sealing
from memgang.errors import ConfigError, LogBroken, ServerUnfit
from memgang.store import janitor, rolled, sealer, sealmarks, seals
from memgang.store.keys import Keys
from memgang.store.rolled import Rolled
from memgang.store.sealer import seal_now
from memgang.store.sealfile import SealFile

# A process that seals and is killed in the middle of its n-th file call; a write under way has done half its work.
KILLED = """
import asyncio, os, signal, sys
import memgang
from memgang import sealing
from memgang.store import rolled, sealfile

class Calls:
    def __init__(self, real, at):
        self.real, self.left = real, at
    def __getattr__(self, name):
        found = getattr(self.real, name)
        if name not in ("open", "pwrite", "write", "fsync", "ftruncate", "close", "fchmod", "rename"):
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
        rolled.PART_BYTES = int(sys.argv[4])
        rolled.os = sealfile.os = Calls(os, int(sys.argv[2]))
        await sealing.seal(space)
asyncio.run(main())
"""


@pytest.mark.catalogue("D14", "A13")
@pytest.mark.parametrize("part_bytes", [1 << 26, 1], ids=["one part", "a part for each round"])
async def test_a_sealer_killed_at_any_file_call_loses_nothing_and_doubles_nothing(
    opened: Callable[..., Any], tmp_path: Path, part_bytes: int,
) -> None:
    """After each kill the next one goes on; in the end every entry is sealed once and all is well."""
    anchor = tmp_path / "anchor.jsonl"
    async with opened(seal_anchor=anchor) as space:
        await sealing.seal(space)
        killed = 0
        for at in range(1, 60):
            await space.put(f"before kill {at}")
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", KILLED, space.name, str(at), str(anchor), str(part_bytes)],
                capture_output=True, timeout=60)
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
@pytest.mark.parametrize("part_bytes", [1 << 26, 1], ids=["one part", "a part for each round"])
async def test_what_a_killed_sealer_left_is_cut_off_also_where_it_is_longer(
    space: memgang.Space, monkeypatch: pytest.MonkeyPatch, part_bytes: int,
) -> None:
    """Bytes behind the last seal are nobody's, however many: nothing of them gets into the files, nor into a part that is closed."""
    monkeypatch.setattr(rolled, "PART_BYTES", part_bytes)
    await space.put("one")
    await sealing.seal(space)
    files = SealFile(space.settings, space.name)
    for path in (files.seals, files.export("a00")):
        path.write_bytes(path.read_bytes() + b'["2-0",["e"' + b"x" * 5_000)
    assert [f.level async for f in sealing.verify(space)] == ["note"]
    await space.put("two")
    await sealing.seal(space)
    assert [f async for f in sealing.verify(space)] == []
    parts = [path.read_bytes() for path in files.root.glob("*.jsonl")]
    assert len(parts) == (2 if part_bytes > 1 else 4) and b"xxx" not in b"".join(parts)


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


class Host:
    """A second host that seals the space: another seal file and key, the same server."""

    def __init__(self, space: memgang.Space, home: Path, **settings: Any) -> None:
        self.space, self.settings = space, dataclasses.replace(space.settings, state_dir=home, **settings)
        self.files = SealFile(self.settings, space.name)

    @classmethod
    async def known(cls, space: memgang.Space, home: Path) -> Host:
        """One that has sealed before anything was written, so that no janitor takes anything it has not seen."""
        host = cls(space, home)
        await host.seal()
        return host

    async def seal(self) -> int:
        return await seal_now(self.space.store.wire, self.space.store.keys, self.files, self.settings)

    async def wrong(self) -> list[tuple[str, str, int, int]]:
        """What is found here, without notes."""
        return [(f.what, f.log, f.first, f.last) async for f in sealing.verify(self.space, settings=self.settings) if f.level != "note"]


async def trim(space: memgang.Space) -> list[int]:
    """A round of the janitor; the numbers left of the changes."""
    await janitor.one_round(space.store.wire, space.store.keys, space.store.objects, space.store.log, space.settings)
    return [seals.seq_of(i) for i, _ in await space.store.wire.call("XRANGE", space.store.keys.log("a00"), "-", "+")]


async def old(space: memgang.Space, count: int) -> None:
    """So many changes that retention may take at once."""
    before = await space.store.wire.call("HGET", space.store.keys.at(0, "u"), "seq")
    for i in range(count):
        await space.put(os.urandom(6).hex() + f" {i}")
    await age(space, hours=2, after=int(before or 0))


async def told(space: memgang.Space, host: Host | SealFile, **changes: Any) -> None:
    """Change what the server was told by one sealer, as whoever may write to the server can."""
    files = host.files if isinstance(host, Host) else host
    field = sealmarks.field_of(seals.fingerprint(files.public()))
    was = sealmarks.told(await space.store.wire.call("HGET", Keys.sealed(space.name), field))
    assert was is not None
    await space.store.wire.call("HSET", Keys.sealed(space.name), field, msgspec.json.encode(msgspec.structs.replace(was, **changes)))


@pytest.mark.catalogue("D14")
async def test_two_hosts_that_seal_one_space_both_verify_after_retention_has_trimmed_it(
    opened: Callable[..., Any], tmp_path: Path,
) -> None:
    """One is ahead of the other again and again: what one of them has not sealed yet stays, and nobody is told of a gap."""
    async with opened(log_keep_hours=1) as space:
        a, b = await Host.known(space, tmp_path / "a"), await Host.known(space, tmp_path / "b")
        await old(space, 10)
        await a.seal()
        await b.seal()
        await old(space, 10)
        await a.seal()
        assert await trim(space) == list(range(11, 21)), "what only one has sealed was trimmed"
        assert (await a.wrong(), await b.wrong()) == ([], [])
        await b.seal()
        assert await trim(space) == []
        await old(space, 5)
        await b.seal()  # now this one is ahead
        assert await trim(space) == [21, 22, 23, 24, 25]
        await a.seal()
        assert await trim(space) == []
        await space.put("young")
        await b.seal()
        assert (await a.wrong(), await b.wrong()) == ([], [])
        await a.seal()
        assert (await a.wrong(), await b.wrong()) == ([], [])
        assert a.files.public() != b.files.public()


@pytest.mark.catalogue("D14")
async def test_where_two_hosts_seal_what_is_taken_or_put_back_is_found_on_both(opened: Callable[..., Any], tmp_path: Path) -> None:
    """After retention too: sealed entries that were not trimmed, those not sealed yet, the end, and an older state."""
    async with opened(log_keep_hours=1) as space:
        a, b = await Host.known(space, tmp_path / "a"), await Host.known(space, tmp_path / "b")
        wire, key = space.store.wire, space.store.keys.log("a00")
        await old(space, 5)
        await a.seal()
        await b.seal()
        assert await trim(space) == []
        for i in range(6):
            await space.put(f"young {i}")
        await a.seal()
        await b.seal()
        for i in range(4):
            await space.put(f"not sealed {i}")
        assert (await a.wrong(), await b.wrong()) == ([], [])
        good = await wire.call("XRANGE", key, "-", "+")

        async def holding(numbers: list[int]) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
            await wire.call("DEL", key)
            for ident, words in good:
                if seals.seq_of(ident) in numbers:
                    await wire.call("XADD", key, ident, *words)
            found = [{(what, first) for what, _, first, _ in await host.wrong()} for host in (a, b)]
            return found[0], found[1]

        assert await holding([*range(8, 16)]) == ({("removed", 1)},) * 2  # from the beginning, and too young
        assert await holding([6, 7, 9, 10, 11, *range(12, 16)]) == ({("removed", 8)},) * 2
        assert await holding([*range(6, 12), 12, 15]) == ({("gap", 13)},) * 2
        assert await holding([*range(6, 15)]) == ({("truncated", 15)},) * 2
        assert await holding([*range(6, 10)]) == ({("truncated", 10), ("truncated", 12)},) * 2  # sealed, and only counted
        await wire.call("HSET", space.store.keys.at(0, "u"), "seq", 9)
        assert all(("rolled-back", 10) in found for found in await holding([*range(6, 10)]))


@pytest.mark.catalogue("D14")
async def test_a_mark_made_up_by_somebody_else_hides_nothing_that_is_missing(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Who may write to the server can have more trimmed than is sealed here; the gap is one, whatever the mark says."""
    async with opened(log_keep_hours=1) as space:
        a, b = await Host.known(space, tmp_path / "a"), await Host.known(space, tmp_path / "b")
        await old(space, 4)
        await a.seal()
        await b.seal()
        await old(space, 4)
        await a.seal()
        await told(space, b, upto={"a00": 8})  # as if the other one had sealed all
        assert await trim(space) == []
        await space.put("young")
        assert await a.wrong() == []
        assert ("gap", "a00", 5, 8) in await b.wrong()
        await b.seal()  # its next seal begins behind the gap, and does not heal it
        assert ("gap", "a00", 5, 8) in await b.wrong()


async def test_a_sealer_made_up_from_the_future_does_not_make_the_janitor_forget_the_others(
    opened: Callable[..., Any], tmp_path: Path,
) -> None:
    """A time that lies ahead counts as now; what is no mark at all has no say."""
    async with opened(log_keep_hours=1) as space:
        a = await Host.known(space, tmp_path / "a")
        await old(space, 4)
        await a.seal()
        await old(space, 4)
        made_up = msgspec.json.encode(sealmarks.Told(1 << 60, {"a00": 1 << 60}))
        await space.store.wire.call("HSET", Keys.sealed(space.name), "upto:00", made_up, "upto:11", "garbage")
        assert await trim(space) == [5, 6, 7, 8]


async def test_a_host_that_begins_to_seal_is_waited_for_from_its_first_page_on(opened: Callable[..., Any], tmp_path: Path) -> None:
    """The janitor comes between two pages of it, and knows of another host that has sealed them both."""
    async with opened(log_keep_hours=1, seal_entries=2) as space:
        a, b = await Host.known(space, tmp_path / "a"), Host(space, tmp_path / "b")
        await old(space, 6)
        await a.seal()
        loop, left, append = asyncio.get_running_loop(), [], b.files.append

        def appended(*arguments: Any, **more: Any) -> Any:
            left.append(asyncio.run_coroutine_threadsafe(trim(space), loop).result(30))
            return append(*arguments, **more)

        b.files.append = appended  # type: ignore[method-assign]
        assert await b.seal() == 6
        assert left == [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6], [5, 6]] and await b.wrong() == []


def test_a_sealer_is_waited_for_a_week_and_the_last_one_for_ever() -> None:
    """Only what all have sealed goes; one who is silent for longer than the others does not keep the log for ever."""
    def mark(**all_: tuple[int, int]) -> dict[bytes, bytes]:
        return {f"upto:{name}".encode(): msgspec.json.encode(sealmarks.Told(at, {"a00": seq, "h00": 2 * seq}))
                for name, (at, seq) in all_.items()}

    week = sealmarks.WAIT_MS
    by_all = sealmarks.sealed_by_all
    assert by_all(mark(a=(5, 7), b=(5 + week, 9)), 9 + week) == {"a00": 7, "h00": 14}
    assert by_all(mark(a=(5, 7), b=(6 + week, 9)), 9 + week) == {"a00": 9, "h00": 18}
    assert by_all(mark(a=(5, 7)), 99 * week) == {"a00": 7, "h00": 14}
    assert by_all(mark(a=(5, 7), b=(99 * week, 9)), 6) == {"a00": 7, "h00": 14}
    assert by_all(mark(a=(5, 7)) | {b"upto:b": b'{"at":5,"upto":{"h00":3}}'}, 9) == {"a00": 0, "h00": 3}
    assert by_all(mark(a=(5, 7)) | {b"upto:b": b'{"at":"x"}', b"n:c": b"3", b"a00": b"50"}, 9) == {"a00": 7, "h00": 14}
    assert by_all({b"upto:b": b"[" * 100_000, b"a00": b"50"}, 9) == {}


async def test_a_host_without_the_role_goes_on_with_the_chain_it_has(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    """Else its chain had a hole once the log is trimmed; a host that has none begins none, and one that is up to date waits."""
    async with opened() as space:
        wire, keys = space.store.wire, space.store.keys
        a, b = Host(space, tmp_path / "a", seal_ms=100), Host(space, tmp_path / "b", seal_ms=100)
        await space.put("one")
        await a.seal()
        await space.put("two")
        await wire.call("SET", Keys.sealer(space.name), "a process of a third host")

        await sealer.seal_last(wire, keys, a.settings)
        assert a.files.refresh().n == 1, "it had just sealed"
        await told(space, a, at=1)
        for host in (a, b):
            await sealer.seal_last(wire, keys, host.settings)
        assert (a.files.refresh().n, b.files.exists()) == (2, False)
        assert await wire.call("GET", Keys.sealer(space.name)) == b"a process of a third host"

        await space.put("three")
        monkeypatch.setattr(sealer, "CATCH_UP_MS", 0)
        roles = [asyncio.create_task(sealer.keep_sealing(wire, keys, host.settings)) for host in (a, b)]

        async def sealed() -> bool:
            return a.files.refresh().n == 3

        await until(sealed)
        for role in roles:
            role.cancel()
        await asyncio.wait(roles)
        assert not b.files.exists() and await a.wrong() == []
        assert caplog.records == []


@pytest.mark.catalogue("D14")
async def test_two_hosts_may_share_an_anchor_where_each_key_is_known_from_elsewhere(opened: Callable[..., Any], tmp_path: Path) -> None:
    """With its key, each is checked against its own lines; without, a chain of another key is what it looks like: made anew."""
    async with opened(seal_anchor=tmp_path / "anchor") as space:
        a, b = Host(space, tmp_path / "a"), Host(space, tmp_path / "b")
        for i in range(3):
            await space.put(f"{i}")
            await a.seal()
            if i:
                await b.seal()
        keys = {host: host.files.public().hex() for host in (a, b)}
        for host in (a, b):
            found = [f async for f in sealing.verify(space, settings=host.settings, key=keys[host])]
            assert {(f.level, f.what) for f in found} == {("note", "elsewhere")}, found
            assert {what for what, *_ in await host.wrong()} <= {"anchor", "truncated"} and await host.wrong()

        b.files.seals.write_bytes(b"".join(b.files.seals.read_bytes().splitlines(keepends=True)[:1]))
        found = [f async for f in sealing.verify(space, settings=b.settings, key=keys[b])]
        assert {f.what for f in found if f.level == "tampered"} == {"truncated"}


@pytest.mark.catalogue("D14")
async def test_the_files_go_on_in_new_parts_and_all_parts_are_verified_and_read(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Full parts are never written again; who had read the files before, and who reads what was trimmed, goes on in them."""
    monkeypatch.setattr(rolled, "PART_BYTES", 600)
    async with opened(log_keep_hours=1) as space:
        await sealing.seal(space)  # from here on the janitor takes nothing that is not sealed
        early = SealFile(space.settings, space.name)
        for i in range(8):
            await old(space, 2)
            await sealing.seal(space)
            if i == 3:
                assert early.refresh().n == 5
        assert early.refresh().n == 9
        ends = {name: Rolled(early.root / name).ends() for name in ("seals.jsonl", "a00.jsonl")}
        assert all(len(parts) >= 2 for parts in ends.values()), ends
        closed = {path: path.read_bytes() for path in early.root.glob("*-*.jsonl")}
        before = [e.id async for e in space.events()]
        assert await trim(space) == []
        assert [e.id async for e in space.events()] == before

        await old(space, 2)
        await sealing.seal(space)
        assert {path: path.read_bytes() for path in closed} == closed
        assert (await sealing.report(space)).findings == ()


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize(("name", "what"), [("seals.jsonl", "seal"), ("a00.jsonl", "export")])
async def test_a_change_of_a_full_part_is_found(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, what: str,
) -> None:
    """Edited, longer, shorter, gone, unreadable, under another name, or one more put beside them."""
    monkeypatch.setattr(rolled, "PART_BYTES", 600)
    async with opened() as space:
        for i in range(9):
            await space.put_many([f"{i} {n}" for n in range(2)])
            await sealing.seal(space)
        files = SealFile(space.settings, space.name)
        parts = Rolled(files.root / name)
        assert len(parts.ends()) >= 2
        for end in parts.ends():
            part = parts.part(end)
            body = part.read_bytes()
            for other in (body.replace(b'"', b"'", 1), body + b"x", body + body.splitlines(keepends=True)[0], body[:-1], b"", None, "gone",
                          "moved"):
                if isinstance(other, bytes):
                    part.write_bytes(other)
                elif other == "moved":
                    part.rename(parts.part(end + 1))
                else:
                    part.unlink()
                    if other == "gone":
                        part.symlink_to("nowhere")
                found = [f async for f in sealing.verify(space) if f.level != "note"]
                assert found and {f.level for f in found} == {"tampered"} and what in {f.what for f in found}, (other, found)
                parts.part(end + 1).unlink(missing_ok=True)
                part.unlink(missing_ok=True)
                part.write_bytes(body)
        parts.part(10**14).write_bytes(b"")
        assert what in {f.what async for f in sealing.verify(space)}
        parts.part(10**14).unlink()
        assert (await sealing.report(space)).findings == ()


def test_who_reads_while_a_part_is_closed_reads_on_in_the_part_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between looking which part it is and opening it, the writer gives it another name and begins a new one."""
    monkeypatch.setattr(rolled, "PART_BYTES", 1)

    class Overtaken(Rolled):
        def ends(self) -> list[int]:
            was = super().ends()
            if not was:
                Rolled(self.path).write(6, b"three\nfour\n")
            return was

    for reading in (lambda r: b"".join(r.lines(0)), lambda r: r.read(0, 6) + r.read(6, 11), lambda r: r.size()):
        path = tmp_path / "x.jsonl"
        Rolled(path).write(0, b"a\nbcd\n")
        assert reading(Overtaken(path)) in (b"a\nbcd\nthree\nfour\n", 17)
        for part in tmp_path.iterdir():
            part.unlink()


async def test_a_full_part_is_not_written_over_where_the_seals_were_cut_off(
    space: memgang.Space, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It holds what was sealed once; the sealer says so and adds nothing."""
    monkeypatch.setattr(rolled, "PART_BYTES", 1)
    for i in range(3):
        await space.put(f"{i}")
        await sealing.seal(space)
    files = SealFile(space.settings, space.name)
    for path in sorted(files.root.glob("seals*.jsonl"))[1:]:
        path.unlink()
    kept = {path: path.read_bytes() for path in files.root.glob("a00*.jsonl")}
    assert "truncated" in {f.what async for f in sealing.verify(space)}
    with pytest.raises(LogBroken, match=r"a00-\d+.jsonl was closed at \d+ bytes, and the seals speak of \d+ only"):
        await sealing.seal(space)
    assert {path: path.read_bytes() for path in files.root.glob("a00*.jsonl")} == kept


async def test_a_log_trimmed_to_its_end_is_not_called_rolled_back_while_its_counter_is_no_number(opened: Callable[..., Any]) -> None:
    """A seal cannot be taken back: it claims nothing that cannot be known just now."""
    async with opened(log_keep_hours=1) as space:
        await sealing.seal(space)
        await old(space, 4)
        await sealing.seal(space)
        assert await trim(space) == []
        totals = space.store.keys.at(0, "u")
        await space.store.wire.call("HSET", totals, "seq", "many")
        with pytest.raises(ServerUnfit):
            await sealing.seal(space)
        assert [f.what async for f in sealing.verify(space)] == ["counter"]
        await space.store.wire.call("HSET", totals, "seq", 4)
        await space.put("goes on")
        await sealing.seal(space)
        assert [f async for f in sealing.verify(space)] == []
