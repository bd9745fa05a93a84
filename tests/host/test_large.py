"""Large bodies of a space: shared without a copy, fetched once, forgotten everywhere, and found again after a clean stop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.codec import encode, ref_of
from memgang.errors import IntegrityError, ObjectLost, StoreFull, UnknownReference
from memgang.space import Space
from memgang.store.host import Files
from memgang.store.host import files as filed
from memgang.store.host import home as homes
from memgang.store.house import close_lock
from memgang.store.keys import STORE_ID
from tests.gates import until
from tests.host.conftest import written
from tests.host.test_files import damage

Opened = Callable[..., Any]
LARGE = 3 << 20


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a space on a server of its own, which stops when it is left: ``async with alone() as space``."""
    (tmp_path / "host").mkdir()

    @asynccontextmanager
    async def open_it(**settings: Any) -> AsyncIterator[Space]:
        async with memgang.open(**{"space": "large", "agent": "tester", "state_dir": tmp_path / "state", "janitor_ms": 100,
                                   "runtime_dir": tmp_path / "run", "host_dir": tmp_path / "host", **settings}) as space:
            yield space

    yield open_it
    subprocess.run([sys.executable, "-m", "memgang", "stop", "--force"], cwd=tmp_path, check=False, capture_output=True,
                   env=os.environ | {"MEMGANG_STATE_DIR": str(tmp_path / "state"), "MEMGANG_RUNTIME_DIR": str(tmp_path / "run"),
                                     "PYTHONPATH": str(Path(__file__).parents[2] / "src")})


def files_of(space: Space) -> Files:
    return space.store.large.files


def lying(space: Space) -> int:
    """How many large bodies lie on this host, on all shelves."""
    return sum(1 for shelf in files_of(space).shelves for _ in shelf.items())


async def gone(space: Space) -> None:
    async def none() -> bool:
        return lying(space) == 0

    await until(none)


# ── read without a copy ──────────────────────────────────────────────────────────────────────────


async def test_a_large_array_is_read_by_others_without_the_server_and_without_a_copy(opened: Opened) -> None:
    """It is a view on memory that both have; nothing of it has gone through the server."""
    np = pytest.importorskip("numpy")
    array = np.random.default_rng(1).random(LARGE // 8)
    async with opened() as writer, opened() as reader:
        ref = await writer.put(array, ttl="1h")
        await written()
        before = reader.store.wire.commands
        found = await reader.get(ref)
        assert np.array_equal(found, array) and not found.flags.writeable
        assert reader.store.wire.commands == before
        view = reader.store.objects.at_hand(ref).body
        assert isinstance(view, memoryview) and np.shares_memory(found, np.frombuffer(view, "u1"))
        assert not await writer.store.wire.call("EXISTS", writer.store.keys.body(ref))
        assert [e.raw async for e in writer.events()].count("read") == 0  # the reader's, and not written yet
        await reader.flush()
        assert [e.raw async for e in writer.events()].count("read") == 1


async def test_when_it_is_put_its_stamp_is_there_for_all(opened: Opened) -> None:
    """Another process that asks at once finds it, and need not hash it."""
    async with opened() as space:
        ref = await space.put(b"z" * LARGE)
        tier = space.store.tier
        with tier.entries.env.begin() as reading:
            assert tier.entries.raw(reading, ref.id.encode()) is not None


async def test_it_is_not_hashed_again_where_nobody_has_read_the_log_of_late(
    opened: Opened, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server says that it is there, and its stamp that it is as it was: that is enough."""
    async with opened() as space:
        ref = await space.put(b"z" * LARGE)
        monkeypatch.setattr(type(space.store.tier), "readable", False)
        monkeypatch.setattr(Files, "find", None)
        assert space.store.objects.at_hand(ref) is None and len(await space.get(ref)) == LARGE


async def test_a_large_table_is_read_without_a_copy(opened: Opened) -> None:
    """Arrow's buffers lie in the mapping."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"n": list(range(300_000)), "t": ["text"] * 300_000})
    async with opened() as writer, opened() as reader:
        ref = await writer.put(table)
        found = await reader.get(ref)
        assert found.equals(table)
        view = memoryview(reader.store.objects.at_hand(ref).body)
        np = pytest.importorskip("numpy")
        start = np.frombuffer(view, "u1").__array_interface__["data"][0]
        assert start <= found["n"].chunk(0).buffers()[1].address < start + len(view)


async def test_bytes_are_given_as_a_view_to_who_asks_for_one(opened: Opened) -> None:
    """Others get bytes of their own, which are a copy."""
    async with opened() as space:
        ref = await space.put(b"z" * LARGE)
        view = await space.get(ref, memoryview)
        assert isinstance(view, memoryview) and view.readonly and view.obj is space.store.objects.at_hand(ref).body.obj
        assert await space.get(ref) == b"z" * LARGE and isinstance(await space.get(ref), bytes)
        assert await space.get(ref, bytearray) == bytearray(b"z" * LARGE)


async def test_a_large_answer_is_recalled_by_another_without_the_server(opened: Opened) -> None:
    np = pytest.importorskip("numpy")
    async with opened() as one, opened() as other:
        async def grid(n: int) -> Any:
            return np.full(LARGE // 8, n)

        first = await one.once(grid, ttl="1h", version="1")(7)
        await written()
        before = other.store.wire.commands
        again = await other.once(grid, ttl="1h", version="1")(7)
        assert other.store.wire.commands == before and np.array_equal(first, again) and not first.flags.writeable


async def test_a_large_answer_is_as_it_was_when_it_was_given(opened: Opened) -> None:
    """Also for who computed it, whatever becomes of the array."""
    np = pytest.importorskip("numpy")
    array = np.ones(LARGE // 8)

    async def work() -> Any:
        return array

    async with opened() as space:
        recalled = await space.recall(memgang.Call("function", "test:work", "1", {}), work)
        array[:] = 2
        assert (await recalled.value() == 1).all() and recalled.how == "computed"


async def test_a_blocking_reader_maps_it_in_its_own_thread(opened: Opened) -> None:
    async with opened() as writer:
        ref = await writer.put(b"z" * LARGE)

        def read() -> int:
            with memgang.connect(space=writer.name) as space, pytest.MonkeyPatch.context() as patch:
                patch.setattr(space, "_wait", None)  # the event loop is asked for nothing
                return len(space.get(ref, memoryview))

        assert await asyncio.to_thread(read) == LARGE


@pytest.mark.parametrize("size", [65_536, 65_537])
async def test_what_fits_inline_stays_with_the_server(opened: Opened, size: int) -> None:
    """Up to 64 KiB it is in the server's files, and survives the machine."""
    async with opened() as space:
        ref = await space.put(os.urandom(size))
        assert lying(space) == (size > 65_536)
        assert await space.store.wire.call("EXISTS", space.store.keys.body(ref)) == (size <= 65_536)


async def test_with_verify_always_the_bytes_are_hashed_at_each_read(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is not relied on."""
    async with opened(verify="always") as space:
        ref = await space.put(b"z" * LARGE)
        assert len(await space.get(ref)) == LARGE
        damage(files_of(space).ours.path(ref.id))
        # As if the file system did not tell.
        monkeypatch.setattr(Files, "mapped", lambda self, ident, _: self.ours.find(ident).view)
        assert space.store.objects.at_hand(ref) is None


# ── other hosts ──────────────────────────────────────────────────────────────────────────────────


async def test_another_host_fetches_it_once_whoever_asks(opened: Opened, space_name: str, tmp_path: Path) -> None:
    """Twenty readers of one process and two other processes: its parts travel once, then all map the file."""
    (tmp_path / "there").mkdir()
    async with opened(placement="network", part_bytes=1 << 20) as writer, opened(
            placement="network", part_bytes=1 << 20, host_dir=tmp_path / "there") as reader:
        ref = await writer.put(bytes(range(256)) * (LARGE // 256))
        asked = Asked(writer, writer.store.keys.body(ref))
        command = [sys.executable, "-m", "tests.host.fetcher", str(tmp_path / "there"), space_name, ref]
        others = [subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        found = await asyncio.gather(*(reader.get(ref) for _ in range(20)))
        assert {len(one) for one in found} == {LARGE}
        for other in others:
            out, _ = await asyncio.to_thread(other.communicate)
            assert out.split() == [str(LARGE)] * 5
        assert asked.ended() == ["0", "1", "2"] and lying(reader) == 1


class Asked:
    """Which parts of a body the server was asked for, by anybody, as it tells itself."""

    def __init__(self, space: Space, key: str) -> None:
        self._client, self._key, self._parts, self._up = space.store.sync_client(), key, list[str](), threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        self._up.wait(10)

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            self._up.set()
            for told in monitor.listen():
                words = told["command"].split()
                if "ended" in words:
                    return
                if words[0] == "HGET" and words[1] == self._key and told["client_type"] != "lua":
                    self._parts.append(words[2])

    def ended(self) -> list[str]:
        self._client.echo("ended")
        self._thread.join()
        return self._parts


async def test_what_was_put_to_the_server_is_at_hand_where_it_was_put(opened: Opened) -> None:
    """The writer's host keeps a copy, and does not fetch its own."""
    async with opened(placement="network") as one, opened(placement="network") as other:
        ref = await one.put(b"z" * LARGE)
        await written()
        before = other.store.wire.commands
        assert len(await other.get(ref)) == LARGE and other.store.wire.commands == before
        assert await one.store.wire.call("EXISTS", one.store.keys.body(ref))


async def test_a_stopped_fetcher_does_not_hold_up_the_others(opened: Opened, tmp_path: Path) -> None:
    """They wait for as long as it should take, and then fetch for themselves."""
    (tmp_path / "there").mkdir()
    async with opened(placement="network") as writer, opened(
            placement="network", host_dir=tmp_path / "there", socket_timeout_s=0.05) as reader:
        ref = await writer.put(b"z" * (LARGE // 2))
        folder = reader.store.tier.folder / "fetched"
        folder.mkdir()
        with (folder / ref.id).open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert len(await reader.get(ref)) == LARGE // 2


async def test_another_host_says_where_it_lies(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With placement="host" nobody else has it: a miss of its own kind, and no wrong bytes."""
    (tmp_path / "there").mkdir()
    async with opened() as writer, opened(host_dir=tmp_path / "there") as reader:
        ref = await writer.put(b"z" * LARGE)
        monkeypatch.setattr(reader.store.large, "_host", "elsewhere")
        monkeypatch.setattr(files_of(reader).spilled, "at", lambda ident: str(tmp_path / "their-disk" / ident))
        with pytest.raises(ObjectLost, match="another host"):
            await reader.get(ref)


# ── forgotten ────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_forgotten_leaves_no_bytes_on_this_host(opened: Opened) -> None:
    """When `forget` returns the file is gone, also one that is still mapped: it has no name."""
    async with opened() as space:
        ref = await space.put(b"z" * LARGE)
        view = await space.get(ref, memoryview)
        await space.forget(ref)
        assert lying(space) == 0 and len(view) == LARGE
        with pytest.raises(UnknownReference):
            await space.get(ref)
        ref = await space.put(b"z" * LARGE)  # and may be put again
        assert len(await space.get(ref)) == LARGE


async def test_what_another_host_forgets_loses_its_copy_here(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    async with opened(placement="network") as writer, opened(placement="network", host_dir=tmp_path / "there") as reader:
        ref = await writer.put(b"z" * LARGE)
        await reader.get(ref)
        assert lying(reader) == 1
        await writer.forget(ref)
        await gone(reader)


async def test_when_the_server_has_lost_its_data_the_copies_go(alone: Opened) -> None:
    """Nobody is told that they are those of the data there is now."""
    async with alone(placement="network", janitor_ms=3_600_000) as space:
        await space.put(b"z" * LARGE)
        assert lying(space) == 1
        await space.store.wire.call("SET", STORE_ID, "another")
        await gone(space)


async def test_what_expires_leaves_no_file(opened: Opened) -> None:
    """Whoever keeps house removes both."""
    async with opened(janitor_ms=50) as space:
        await space.put(b"z" * LARGE, ttl=0.05)
        await gone(space)


async def test_what_is_evicted_leaves_no_file(opened: Opened) -> None:
    """The budget of the space counts large bodies as well."""
    async with opened(budget_bytes=2 * LARGE, guard_ms=1) as space:
        refs = [await space.put(bytes([n]) * LARGE, keep=False) for n in range(4)]
        assert lying(space) == 2 and len(await space.get(refs[-1])) == LARGE
        with pytest.raises(StoreFull):
            await space.put(b"x" * (3 * LARGE))
        assert lying(space) == 2  # what was refused is not left lying


async def test_a_space_that_is_erased_leaves_no_file(opened: Opened) -> None:
    async with opened() as space:
        await space.put(b"z" * LARGE)
        await space.erase()
        assert lying(space) == 0


async def test_a_file_without_a_record_is_removed_by_who_keeps_house(opened: Opened) -> None:
    """As a writer leaves it that was killed between the two; one with a record stays."""
    async with opened(janitor_ms=3_600_000) as space:
        kept = await space.put(b"z" * LARGE)
        laid = files_of(space).lay(encode(b"orphan" * LARGE))
        await space.store.large.tidy()
        assert lying(space) == 2  # somebody is about to write its record
        laid.done()

        async def removed() -> bool:
            await space.store.large.tidy()  # does nothing while the janitor's own first round is at it
            return lying(space) == 1

        await until(removed)
        assert len(await space.get(kept)) == LARGE


async def test_what_is_put_anew_while_it_is_forgotten_keeps_its_body(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record was written between the forget and the removal of the file: there is one again, and the file stays."""
    async with opened() as space, opened() as other:
        ref = await space.put(b"z" * LARGE)
        large, real = space.store.large, space.store.large.remove

        async def late(refs: Any, *given: Any) -> None:
            await other.put(b"z" * LARGE)
            await real(refs, *given)

        monkeypatch.setattr(large, "remove", late)
        await space.forget(ref)
        assert len(await other.get(ref)) == LARGE and lying(space) == 1


# ── lost, damaged, and found again ───────────────────────────────────────────────────────────────


async def test_a_clean_stop_takes_it_to_the_disk_and_the_next_start_finds_it(alone: Opened, tmp_path: Path) -> None:
    """Nothing stays in memory; answers that are large are recalled and not computed again."""
    runs = []

    async def work() -> bytes:
        runs.append(1)
        return b"a" * LARGE

    async with alone() as space:
        ref = await space.put(b"z" * LARGE)
        await space.once(work, ttl="1h", version="1")()
    assert not [path for path in (tmp_path / "host").glob("**/*") if path.is_file() and path.stat().st_size > 65_536
                and ".ring" not in str(path)]
    async with alone() as space:
        assert await space.get(ref) == b"z" * LARGE
        assert await space.once(work, ttl="1h", version="1")() == b"a" * LARGE and len(runs) == 1
        assert len(list(files_of(space).spilled.items())) == 2 and space.store.objects.at_hand(ref) is not None
        await space.forget(ref)
        assert len(list(files_of(space).spilled.items())) == 1


@pytest.mark.catalogue("A30")
async def test_when_the_machine_crashes_large_bodies_are_a_typed_miss_and_are_computed_again(alone: Opened, tmp_path: Path) -> None:
    """All that lay in memory is gone; what was small is there, and no wrong value comes back."""
    runs = []

    async def work(n: int) -> bytes:
        runs.append(n)
        return bytes([n]) * (LARGE if n else 10)

    async with alone() as space:
        remembered = space.once(work, ttl="1h", version="1")
        large, small = await space.put(b"z" * LARGE), await space.put("small")
        assert [len(await remembered(n)) for n in (0, 1)] == [10, LARGE]
        shutil.rmtree(files_of(space).ours.root)
        with pytest.raises(ObjectLost, match="in the memory of this host, and nowhere else"):
            await space.get(large)
        assert await space.get(small) == "small"
        assert await remembered(1) == b"\1" * LARGE and await remembered(0) == bytes(10) and runs == [0, 1, 1]
        assert await remembered(1) == b"\1" * LARGE and runs == [0, 1, 1]
        assert await space.put(b"z" * LARGE) == large and len(await space.get(large)) == LARGE


@pytest.mark.catalogue("A30")
async def test_after_a_crash_of_the_machine_another_process_computes_again(alone: Opened, tmp_path: Path) -> None:
    """The server has its record, and its answer: neither is taken for the value."""
    async def work() -> bytes:
        return b"a" * LARGE

    async with alone(placement="host") as space:
        await space.once(work, ttl="1h", version="1")()
    shutil.rmtree(tmp_path / "state" / "files")
    async with alone() as space:
        runs = []

        async def again() -> bytes:
            runs.append(1)
            return b"a" * LARGE

        again.__module__, again.__qualname__ = work.__module__, work.__qualname__
        assert await space.once(again, ttl="1h", version="1")() == b"a" * LARGE and runs == [1]


@pytest.mark.catalogue("A15")
async def test_a_file_cut_short_by_an_outsider_is_an_error_and_is_computed_again(opened: Opened) -> None:
    """No process is killed by reading it, and it is told apart from what was never there."""
    async with opened() as space:
        ref = await space.put(b"z" * LARGE)
        path = files_of(space).ours.path(ref.id)
        path.chmod(0o600)
        os.truncate(path, 4096)
        path.chmod(0o400)
        with pytest.raises(IntegrityError, match="put aside"):
            await space.get(ref)
        with pytest.raises(ObjectLost):
            await space.get(ref)

        async def work() -> bytes:
            return b"a" * LARGE

        remembered = space.once(work, ttl="1h", version="1")
        ref = ref_of("application/octet-stream", await remembered())
        damage(files_of(space).ours.path(ref.id))
        assert await remembered() == b"a" * LARGE


async def test_without_a_tier_what_lies_on_this_host_is_read_all_the_same(opened: Opened) -> None:
    """Who has switched it off puts large bodies to the server, and reads those that are only here."""
    async with opened() as space, opened(host_tier="off") as off:
        ref = await space.put(b"z" * LARGE)
        assert await off.get(ref) == b"z" * LARGE
        other = await off.put(b"y" * LARGE)
        assert await space.store.wire.call("EXISTS", space.store.keys.body(other))
        assert await space.get(other) == b"y" * LARGE


async def test_a_full_host_refuses_with_the_numbers_and_what_to_do(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither memory nor disk: nothing is written, the refusal is in the log, and smaller things go on."""
    async with opened() as space:
        monkeypatch.setattr(Files, "_room", lambda *_: False)
        with pytest.raises(StoreFull, match="3,145,728 bytes in .* and on the disk in"):
            await space.put(b"z" * LARGE)
        assert await space.get(await space.put("small")) == "small" and lying(space) == 0
        assert [e.raw async for e in space.events()].count("refused") == 1


async def test_many_who_put_and_forget_the_same_leave_a_body_or_nothing(opened: Opened) -> None:
    """Four spaces, all at once: at every moment a reference that can be resolved can be read."""
    async with opened() as a, opened() as b, opened() as c, opened() as d:
        async def churn(space: Space, n: int) -> None:
            for _ in range(15):
                ref = await space.put(b"z" * 100_000)
                if n % 2:
                    await space.forget(ref)
                else:
                    try:
                        assert len(await space.get(ref)) == 100_000
                    except ObjectLost:
                        raise
                    except UnknownReference:
                        pass  # forgotten by another

        await asyncio.gather(*(churn(space, n) for n, space in enumerate((a, b, c, d))))
        ref = await a.put(b"z" * 100_000)
        assert len(await b.get(ref)) == 100_000


async def test_moving_to_the_disk_goes_on_while_it_is_read(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the high water; readers find it on the other shelf, and what they had mapped stays theirs."""
    async with opened(host_files_bytes=4 * LARGE, janitor_ms=50) as space:
        refs = [await space.put(bytes([n]) * LARGE) for n in range(4)]
        async def moved() -> bool:
            for n, ref in enumerate(refs):
                assert (await space.get(ref, memoryview))[:3] == bytes([n]) * 3
            return len(list(files_of(space).spilled.items())) >= 1 and files_of(space).ours.used() <= 4 * LARGE * filed.HIGH

        await until(moved)


def test_a_tier_in_another_form_is_not_read(tmp_path: Path) -> None:
    """As a newer or older MemGang on the same host writes it: who comes second goes without."""
    home = homes.enter("server", "space", base=tmp_path, bytes_max=16 << 20)
    assert home is not None
    (home.folder / "size").write_text(f"{16 << 20} {homes.FORM + 1}")
    homes._homes.clear()  # another process
    assert homes.enter("server", "space", base=tmp_path, bytes_max=16 << 20) is None
    homes._homes[home.folder] = home
    home.leave()


def test_the_shelves_of_killed_processes_are_found_by_the_next(tmp_path: Path) -> None:
    """What only memory has is not wiped by whoever comes first after all were killed."""
    home = homes.enter("server", "space", base=tmp_path, bytes_max=16 << 20)
    assert home is not None
    ours = homes.files_of(home.folder)
    laid = Files(ours, tmp_path / "disk", None, 1 << 30).lay(encode(b"z" * LARGE))
    laid.done()
    homes._homes.clear()  # as if killed: nobody has said good-bye
    home.tier.close()
    close_lock(home.lock)
    again = homes.enter("server", "space", base=tmp_path, bytes_max=16 << 20)
    assert again is not None and Files(ours, tmp_path / "disk", None).find(laid.ref, "application/octet-stream") is not None
    again.leave(Files(ours, tmp_path / "disk", None).leave)
    assert not ours.exists() and Files(ours, tmp_path / "disk", None).has(laid.ref.id)
