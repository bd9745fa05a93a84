"""What is to be trimmed is in files first: whole, once and in order, whoever is killed, whatever is full or missing."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.servers import PrivateServer
from tests.disk import full_disk
from tests.gates import until

import memgang
from memgang.store import exporter, janitor
from memgang.store import log as logs
from memgang.store.exporter import Exporter, exported, lives
from memgang.store.keys import STORE_ID, Keys
from memgang.store.sealmarks import WAIT_MS

HOUR_MS = 3_600_000
QUIET: dict[str, Any] = dict(janitor_ms=HOUR_MS, flush_ms=HOUR_MS, log_keep_hours=1)


@pytest.fixture(autouse=True)
def resting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A janitor that is to rest has no first round either: on a slow machine it would trim what the test has just made old."""
    in_turn = janitor._in_turn

    async def turn(wire: Any, keys: Keys, objects: Any, log: Any, settings: Any, one: Exporter | None) -> None:
        if settings.janitor_ms < HOUR_MS:
            await in_turn(wire, keys, objects, log, settings, one)

    monkeypatch.setattr(janitor, "_in_turn", turn)


def seqs(entries: list[Any]) -> list[int]:
    return [int(entry[0].split(b"-")[0]) for entry in entries]


async def standing(space: memgang.Space, log: str = "a00") -> list[int]:
    """The numbers of what the server has of a log."""
    return seqs(await space.store.wire.call("XRANGE", space.store.keys.log(log), "-", "+"))


async def old(space: memgang.Space, count: int, hours: int = 3) -> None:
    """So many changes and reads that should have been trimmed long ago."""
    for i in range(count):
        await space.get(await space.put(f"{i} {await space.store.wire.call('INCR', space.store.keys.at(0, 'numbers'))}"))
    await space.flush()
    for log in ("a00", "h00"):
        key = space.store.keys.log(log)
        entries = await space.store.wire.call("XRANGE", key, "-", "+")
        await space.store.wire.call("DEL", key)
        for ident, words in entries:
            at = words.index(b"at") + 1
            words[at] = str(min(int(words[at]), space.store.log.server_ms() - hours * HOUR_MS)).encode()
            await space.store.wire.call("XADD", key, ident, *words)


async def round_of(space: memgang.Space, one: Exporter | None = None) -> None:
    """A round of whoever keeps house, with what it exports."""
    settings = space.settings if one is None else one._settings
    if one is not None:
        await one.round(space.store.log.server_ms())
    await janitor.one_round(space.store.wire, space.store.keys, space.store.objects, space.store.log, settings, one)


def of(space: memgang.Space, folder: Path, **settings: Any) -> Any:
    """An exporter to this folder. The janitor of the space itself has none, and rests."""
    return closing(Exporter(space.store.wire, space.store.keys, space.settings.with_(log_export_dir=folder, **settings)))


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder, by log and number, as somebody reads them who knows nothing of us."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.jsonl")):
        rows += [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return rows


def numbers(folder: Path, log: str = "a00") -> list[int]:
    """The numbers of the exported entries of a log, as the rows have them; and the names say the same."""
    said: list[int] = []
    for path in sorted(folder.rglob(f"{log}-*")):
        _, first, last = path.stem.split("-")
        said += range(int(first), int(last) + 1)
    found = [int(row["id"].split("-")[1]) for row in rows_in(folder) if row["id"].startswith(log)]
    assert sorted(set(found)) == said or not found
    return said


async def test_what_is_trimmed_stands_in_files_in_its_order(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Changes and reads; what is young stays, and files with the rest come to what was there before."""
    async with opened(**QUIET) as space:
        await space.flush()
        await old(space, 30)
        for i in range(5):
            await space.put(f"young {i}")
        before = [event.id async for event in space.events()]

        with of(space, tmp_path) as one:
            await round_of(space, one)
            await round_of(space, one)

        left = [event.id async for event in space.events()]
        assert await standing(space) == list(range(31, 36)) and await standing(space, "h00") == []
        assert numbers(tmp_path) == list(range(1, 31))
        assert sorted([row["id"] for row in rows_in(tmp_path)] + left) == sorted(before)
        assert {row["raw"] for row in rows_in(tmp_path)} == {"put", "read", "overhead"}
        assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.jsonl")} == {0o600}


async def test_a_table_has_the_same_rows_under_the_same_names(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Read as a data set, whatever the number of files."""
    dataset = pytest.importorskip("pyarrow.dataset")
    async with opened(**QUIET) as space:
        events: list[Any] = []
        for _ in range(2):
            await old(space, 10)
            events += [logs.change(0, int(ident.split(b"-")[0]), dict(zip(words[::2], words[1::2], strict=True)))
                       for ident, words in await space.store.wire.call("XRANGE", space.store.keys.log("a00"), "-", "+")]
            with of(space, tmp_path, log_export_format="parquet") as one:
                await round_of(space, one)
        files = sorted(str(path) for path in tmp_path.rglob("a00-*.parquet"))
        rows = dataset.dataset(files, format="parquet").to_table().sort_by("id").to_pylist()
        assert len(files) == 2 and numbers(tmp_path) == list(range(1, 21))
        assert sorted((row["id"], row["obj"], row["who"], row["at"], row["bytes"]) for row in rows) == sorted(
            (event.id, event.obj, event.who, event.at, event.bytes) for event in events)


async def test_few_that_are_to_go_wait_for_more_but_not_for_long(opened: Callable[..., Any], tmp_path: Path) -> None:
    """A file for each round would be a thousand a day; what should have gone an hour ago goes."""
    async with opened(**QUIET) as space, opened(**QUIET) as beside:
        await old(space, 4)
        with of(space, tmp_path) as one:
            await one.round(space.store.log.server_ms() - 3 * HOUR_MS + int(1.5 * HOUR_MS))
            assert numbers(tmp_path) == []
            with of(beside, tmp_path) as other:  # another process has the folder
                assert await other.round(space.store.log.server_ms()) == 0 and other.standing == {}
            assert await one.round(space.store.log.server_ms()) > 0
            assert numbers(tmp_path) == [1, 2, 3, 4]


async def test_a_log_with_too_many_entries_goes_by_its_number(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Over `log_entries_max` what is older than ten minutes goes, until there are so many again."""
    async with opened(**{**QUIET, "log_keep_hours": 999}, log_entries_max=20) as space:
        await old(space, 33, hours=1)
        with of(space, tmp_path) as one:
            await round_of(space, one)
        assert numbers(tmp_path) == list(range(1, 14)) and await standing(space) == list(range(14, 34))


async def test_nobody_trims_what_another_process_has_not_exported(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Who has no folder heeds those who have; two folders are each whole; one that is silent for a week is not waited for."""
    async with opened(**QUIET) as without, opened(**QUIET) as first, opened(**QUIET) as second:
        with of(first, tmp_path / "a") as one, of(second, tmp_path / "b") as two:
            for each in (one, two):
                await each.round(first.store.log.server_ms())  # they have said that they want it
            await old(without, 6)
            await round_of(without)
            assert await standing(without) == [1, 2, 3, 4, 5, 6]
            await round_of(first, one)
            await round_of(without)
            assert await standing(without) == [1, 2, 3, 4, 5, 6]
            await two.round(second.store.log.server_ms())
            await round_of(without)
            assert await standing(without) == [] and numbers(tmp_path / "a") == numbers(tmp_path / "b") == [1, 2, 3, 4, 5, 6]
        await old(without, 2)
        await round_of(without)
        assert await standing(without) == [7, 8]
        key = Keys.exported(without.name)
        for name, words in zip(*[iter(await without.store.wire.call("HGETALL", key))] * 2, strict=True):
            silent = json.loads(words)
            silent["at"] -= WAIT_MS + 60_000
            await without.store.wire.call("HSET", key, name, json.dumps(silent))
        await round_of(without)
        assert await standing(without) == []


async def test_the_janitor_of_a_process_exports_and_trims_by_itself(opened: Callable[..., Any], tmp_path: Path) -> None:
    """As it is used: the setting, and nothing else."""
    async with opened(**{**QUIET, "janitor_ms": 50}, log_export_dir=tmp_path) as space:
        await space.flush()
        await old(space, 3)

        async def trimmed() -> bool:
            return await standing(space) == []

        await until(trimmed)
        assert numbers(tmp_path) == [1, 2, 3]


# A process that exports and is killed in the middle of its n-th file call, or before or behind its n-th command.
KILLED = """
import asyncio, os, pathlib, signal, sys
import memgang
from memgang.store import exporter, janitor, rolled

left = int(sys.argv[2])

def next_one():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Calls:
    def __getattr__(self, name):
        found = getattr(os, name)
        if name not in ("open", "fsync", "rename", "close", "fchmod"):
            return found
        def counted(*arguments, **words):
            next_one()
            done = found(*arguments, **words)
            if name == "rename":
                next_one()
            return done
        return counted

class Lines(exporter.rows.Lines):
    def add(self, events):
        self._file.write(b'{"id":"half')
        self._file.flush()
        next_one()
        self._file.seek(0)
        super().add(events)

async def main():
    async with memgang.open(space=sys.argv[1], log_export_dir=sys.argv[3], log_keep_hours=1, janitor_ms=3600000) as space:
        store = space.store
        exporter.ENTRIES = 3
        exporter.os = rolled.os = Calls()
        exporter.rows.KINDS[".jsonl"] = Lines
        call = store.wire.call
        def counted(*command):
            if command[0] in ("HSET", "XTRIM"):
                next_one()
            return call(*command)
        store.wire.call = counted
        one = exporter.Exporter(store.wire, store.keys, space.settings)
        await one.round(store.log.server_ms())
        await janitor.one_round(store.wire, store.keys, store.objects, store.log, space.settings, one)
asyncio.run(main())
"""


@pytest.mark.catalogue("A13")
async def test_an_exporter_killed_at_any_call_loses_nothing_and_doubles_nothing(opened: Callable[..., Any], tmp_path: Path) -> None:
    """After each kill the next one goes on: the names of the files have every number once, with what is in them."""
    async with opened(**QUIET) as space:
        with of(space, tmp_path) as one:
            await one.round(space.store.log.server_ms())
        killed = made = 0
        for at in range(1, 80):
            await old(space, 5)
            made += 5
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", KILLED, space.name, str(at), str(tmp_path)], capture_output=True, timeout=60)
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            there, out = await standing(space), numbers(tmp_path)
            assert out == list(range(1, len(out) + 1)), f"killed at call {at}"
            assert set(out) | set(there) == set(range(1, made + 1)), f"killed at call {at}"
            if done.returncode == 0:
                break
            killed += 1
        else:
            pytest.fail("the exporter never came to its end")
        assert killed >= 15, "the calls of a round were not all reached"
        assert there == [] and out == list(range(1, made + 1))
        assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.catalogue("A21")
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_on_a_full_disk_nothing_is_trimmed_and_it_is_said_once(
    opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str,
) -> None:
    """Half a file is taken away; with room again the same entries go."""
    async with opened(**QUIET) as space:
        await old(space, 30)
        with of(space, tmp_path, log_export_format=form) as one, caplog.at_level(logging.WARNING, "memgang"):
            with full_disk(500):
                await round_of(space, one)
                await round_of(space, one)
            assert await standing(space) == list(range(1, 31)) and not [*tmp_path.rglob(f"*.{form}"), *tmp_path.rglob(".*.part")]
            assert [r.message for r in caplog.records if "is not trimmed now" in r.message and "File too large" in r.message] == [
                caplog.records[-1].message]
            await round_of(space, one)
            assert await standing(space) == [] and numbers(tmp_path) == list(range(1, 31))


async def test_without_pyarrow_a_table_is_not_written_and_nothing_is_trimmed(
    opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The warning names what to install."""
    async with opened(**QUIET) as space:
        await old(space, 3)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with of(space, tmp_path, log_export_format="parquet") as one, caplog.at_level(logging.WARNING, "memgang"):
            await round_of(space, one)
            assert await standing(space) == [1, 2, 3] and "memgang[arrow]" in caplog.text


async def test_files_that_were_moved_away_are_not_written_again(opened: Callable[..., Any], tmp_path: Path) -> None:
    """The server knows how far they went; a process that begins later goes on from there."""
    async with opened(**QUIET) as space:
        await old(space, 4)
        with of(space, tmp_path) as one:
            await one.round(space.store.log.server_ms())  # exported, and not trimmed yet
        for path in tmp_path.rglob("*.jsonl"):
            path.unlink()
        await old(space, 4)
        with of(space, tmp_path) as one:
            await round_of(space, one)
        assert numbers(tmp_path) == [5, 6, 7, 8] and await standing(space) == []


async def test_who_is_to_export_trims_nothing_before_anybody_has_come_to_it(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Its folder is another process's, or the disk is full, and the server has not heard of it yet."""
    async with opened(**QUIET) as space:
        await old(space, 3)
        store, settings = space.store, space.settings.with_(log_export_dir=tmp_path)
        await janitor.one_round(store.wire, store.keys, store.objects, store.log, settings)
        assert await standing(space) == [1, 2, 3]
        await round_of(space)
        assert await standing(space) == []


async def test_on_a_full_server_what_is_exported_is_trimmed_all_the_same(tmp_path: Path) -> None:
    """It has no room to be told, and needs the trimming most: who has the folder knows."""
    with PrivateServer(tmp_path / "s") as server, server.admin() as admin:
        async with memgang.open(server.url, space="full", agent="tester", runtime_dir=tmp_path / "r", host_dir=tmp_path, **QUIET) as space:
            await old(space, 5)
            with of(space, tmp_path / "out") as one:
                admin.config_set("maxmemory", 1)
                await round_of(space, one)
                assert numbers(tmp_path / "out") == [1, 2, 3, 4, 5] and await standing(space) == []
                assert not admin.exists(Keys.exported("full"))
            admin.config_set("maxmemory", 0)


async def test_a_folder_that_was_taken_away_is_made_anew(
    opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    """While a process exports to it: that is said, nothing is trimmed, and the next round goes on in a new one."""
    async with opened(**QUIET) as space:
        await old(space, 3)
        with of(space, tmp_path / "out") as one, caplog.at_level(logging.WARNING, "memgang"):
            await round_of(space, one)
            shutil.rmtree(tmp_path / "out")
            await old(space, 3)
            await round_of(space, one)
            assert await standing(space) == [4, 5, 6] and "is not trimmed now" in caplog.text
            await round_of(space, one)
            assert await standing(space) == [] and numbers(tmp_path / "out") == [4, 5, 6]


@pytest.mark.parametrize("lost", ["all", "all, and much came again", "the last"])
async def test_a_server_that_lost_data_begins_a_new_folder(opened: Callable[..., Any], tmp_path: Path, lost: str) -> None:
    """Numbers are given again then: what has them now is no double of what had them before."""
    async with opened(**QUIET) as space:
        wire, keys = space.store.wire, space.store.keys
        await old(space, 5)
        with of(space, tmp_path) as one:
            await round_of(space, one)
            was = await wire.call("GET", STORE_ID)
            try:
                if lost != "the last":
                    await wire.call("SET", STORE_ID, "e" * 32)
                    await wire.call("DEL", Keys.exported(space.name))
                await wire.call("HSET", keys.at(0, "u"), "seq", {"all": 0, "the last": 3}.get(lost, 50))
                await wire.call("DEL", keys.log("a00"))
                await one.round(space.store.log.server_ms())  # it comes to know
                await old(space, 4)
                await round_of(space, one)
            finally:
                await wire.call("SET", STORE_ID, was)
        first, second = lives(tmp_path / space.name)
        assert exported(first.folder)["a00"] == 5
        begins = {"all": 1, "the last": 4}.get(lost, 51)
        assert numbers(second.folder) == list(range(begins, begins + 4))
        assert await standing(space) == []
        assert await wire.call("HLEN", Keys.exported(space.name)) == 1  # nobody waits for the first


async def test_what_somebody_else_has_trimmed_is_said(
    opened: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    """A hole is named, and it goes on behind it."""
    async with opened(**QUIET) as space:
        await old(space, 3)
        with of(space, tmp_path) as one, caplog.at_level(logging.WARNING, "memgang"):
            await round_of(space, one)
            await old(space, 5)
            await space.store.wire.call("XTRIM", space.store.keys.log("a00"), "MINID", "6-0")
            await round_of(space, one)
        assert "the entries 4 to 5 were trimmed before they were exported" in caplog.text
        assert numbers(tmp_path) == [1, 2, 3, 6, 7, 8]
        assert exporter.exported(lives(tmp_path / space.name)[0].folder)["a00"] == 8
