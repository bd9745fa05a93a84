"""A whole host under faults: everything dies at once, processes are forked, whoever has a role dies, hosts are cut off."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import IntegrityError, MemGangError, UnknownReference
from memgang.store.keys import Keys
from memgang.store.process import incarnation
from tests.chaos.havoc import campaign
from tests.chaos.relay import Relay
from tests.chaos.servers import PrivateServer
from tests.chaos.soak import line
from tests.gates import until

ROOT = Path(__file__).parents[2]


def environment(place: Path) -> dict[str, str]:
    """For a process of ours: this source, and a host of its own below ``place``."""
    (place / "shm").mkdir(exist_ok=True)
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "MEMGANG_STATE_DIR": str(place / "state"),
            "MEMGANG_RUNTIME_DIR": str(place / "run"), "MEMGANG_HOST_DIR": str(place / "shm")}


def ours(place: Path, **more: Any) -> dict[str, Any]:
    """The same for a space of this process."""
    return {"state_dir": place / "state", "runtime_dir": place / "run", "host_dir": place / "shm", **more}


# ── everything dies ──────────────────────────────────────────────────────────────────────────────

READER = """
import asyncio, os, sys
import memgang

async def main():
    async with memgang.open(space=sys.argv[1], agent=sys.argv[2], flush_ms=3_600_000) as space:
        ref = await space.put("read again and again " * 50)
        for _ in range(int(sys.argv[3])):
            await space.get(ref)
        print(ref, os.getpid(), flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


def reader(place: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen([*before, sys.executable, "-c", READER, *arguments], env=environment(place), stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> tuple[str, int]:
    """The reference that a reader has read, and its process number as it sees it."""
    assert process.stdout is not None
    ref, pid = process.stdout.readline().split()
    return ref, int(pid)


def kill(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def server_pid(place: Path) -> int:
    return int((place / "state" / "server" / "server.pid").read_text())


@pytest.mark.catalogue("A3", "B14")
async def test_when_everything_is_killed_at_once_the_next_who_comes_reclaims_it_all(place: Path) -> None:
    """Readers and server, kill -9: their shared memory goes, their reads are in the log, and who lives keeps what is theirs."""
    readers = [reader(place, "all", f"r{i}", "100") for i in range(3)]
    lives = reader(place, "other", "lives", "10")
    refs = {told(process)[0] for process in readers}
    told(lives)
    mine = place / "shm" / f"memgang-{os.geteuid()}"
    [kept] = [path for path in mine.iterdir() if path.name.endswith("-other")]
    try:
        kill(*readers)
        os.kill(server_pid(place), signal.SIGKILL)
        assert len([path for path in mine.iterdir() if path.name.endswith("-all")]) == 1
        [rings] = mine.glob("*-all.ring")
        assert len(list(rings.iterdir())) == 3
        began = time.monotonic()
        async with memgang.open(**ours(place, space="third")):  # also by who has nothing to do with it
            print(f"started {time.monotonic() - began:.2f} s after everything was gone")
            assert not [path for path in mine.iterdir() if "-all" in path.name and path != rings]
        async with memgang.open(**ours(place, space="all")) as space:
            assert [len(await space.get(ref)) for ref in refs] == [1050]
            await space.flush()

            async def written() -> bool:
                return [event.raw async for event in space.events()].count("read") == 301

            await until(written)
            assert [path.name for path in rings.iterdir()] == [space.store.log._source]
        assert kept.exists() and kept.with_name(kept.name + ".in").exists() and len(list(mine.glob("*-other.ring/*"))) == 1
        assert lives.poll() is None
    finally:
        kill(lives)
    async with memgang.open(**ours(place, space="other")) as space:

        async def all_of_it() -> bool:
            return [event.raw async for event in space.events()].count("read") == 10

        await until(all_of_it)
    assert list(mine.iterdir()) == []


@pytest.mark.catalogue("A3")
async def test_process_numbers_that_come_again_keep_nothing_alive(place: Path) -> None:
    """As in a container that is started again: the same numbers, other processes; locks tell, numbers do not."""
    own = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if not shutil.which("unshare") or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("this user may not have process numbers of its own")
    pids = []
    for _ in range(3):
        process = reader(place, "space", "same", "100", before=own)
        ref, pid = told(process)
        pids.append((pid, server_pid(place)))
        kill(process)  # and with the first process of its numbers all others, the server too
    assert len(set(pids)) == 1 and pids[0][0] != os.getpid()
    async with memgang.open(**ours(place, space="space")) as space:
        assert len(await space.get(ref)) == 1050
        await space.flush()

        async def written() -> bool:
            return [event.raw async for event in space.events()].count("read") == 301

        await until(written)
    assert list((place / "shm" / f"memgang-{os.geteuid()}").iterdir()) == []


@pytest.mark.catalogue("A22")
async def test_a_flipped_bit_in_the_servers_file_is_seen_after_its_restart(place: Path) -> None:
    """In bodies, on the disk, while the server is down: each is refused, and nothing else is harmed."""
    with PrivateServer(place / "server") as private:
        settings = dict(space="flips", runtime_dir=place / "run", host_tier="off")
        async with memgang.open(private.url, **settings) as space:
            texts = {await space.put(f"<{i:03d}>" * 40): f"<{i:03d}>" * 40 for i in range(100)}
            await space.flush()
        private.kill()
        files = [path for path in private.folder.rglob("*.aof") if path.stat().st_size]
        flipped = 0
        for path in files:
            data = bytearray(path.read_bytes())
            for i in range(0, 100, 2):
                at = data.find(f"<{i:03d}>".encode() * 40)
                while at >= 0:
                    data[at + i] ^= 1
                    flipped += 1
                    at = data.find(f"<{i:03d}>".encode() * 40, at + 1)
            path.write_bytes(data)
        assert flipped >= 50
        private.start()
        async with memgang.open(private.url, **settings) as space:
            for number, (ref, text) in enumerate(texts.items()):
                if number % 2:
                    assert await space.get(ref) == text
                else:
                    with pytest.raises(IntegrityError):
                        await space.get(ref)
            assert await space.forget(ref) and await space.put(text) == ref and await space.get(ref) == text


# ── children ─────────────────────────────────────────────────────────────────────────────────────


def _child(settings: dict[str, Any], name: str, led: int, answers: Any) -> None:
    """What a child does, however it was made: its own space, its own work, nothing of its parent's."""
    async def work() -> dict[str, Any]:
        async with memgang.open(**settings, agent=name) as space:
            refs = [await space.put(f"{name} {i}") for i in range(100)]
            right = [await space.get(ref) for ref in refs] == [f"{name} {i}" for i in range(100)]
            counted = await (await space.recall(memgang.model.Call("function", "counted", name), _one)).value()
            return {"right": right and counted == 1, "inc": incarnation(), "beats": len(space.store.beats._led)}

    try:
        answers.put(asyncio.run(work()))
    except BaseException as error:
        answers.put({"error": repr(error)})


async def _one() -> int:
    return 1


@pytest.mark.catalogue("A14")
@pytest.mark.parametrize("how", ["fork", "spawn", "fork in a thread"])
async def test_children_of_a_process_at_work_act_for_themselves(opened: Callable[..., Any], space_name: str, how: str) -> None:
    """Parent and children read and write at once: no reply reaches the wrong one, and the parent's lead stays the parent's."""
    context = multiprocessing.get_context("spawn" if how == "spawn" else "fork")
    answers = context.Queue()
    async with opened(lease_ms=1000, beat_ms=250) as space:
        gate = asyncio.Event()

        async def waits() -> str:
            await gate.wait()
            return "the parent's"

        call = memgang.model.Call("function", "led", "1")
        leading = asyncio.create_task(space.recall(call, waits))
        mine = await space.put("mine")
        settings = {"space": space_name, "lease_ms": 1000, "beat_ms": 250}
        children = [context.Process(target=_child, args=(settings, f"c{i}", 1, answers)) for i in range(3)]
        for child in children:
            if how == "fork in a thread":
                await asyncio.to_thread(child.start)
            else:
                child.start()
        async with asyncio.timeout(60):
            while any(child.is_alive() for child in children):
                assert await space.get(mine) == "mine"
                ref = await space.put(os.urandom(8))
                assert len(await space.get(ref)) == 8
        found = [await asyncio.to_thread(answers.get, timeout=30) for _ in children]
        for child in children:
            child.join()
        assert [f.get("right") for f in found] == [True] * 3, found
        assert len({incarnation(), *(f["inc"] for f in found)}) == 4 and not any(f["beats"] for f in found)
        gate.set()
        led = await leading
        assert await led.value() == "the parent's" and led.how == "computed"
        raws = [event.raw async for event in space.events()]
        assert "taken" not in raws and "fenced" not in raws and "died" not in raws
        assert space.store.tier is None or not space.store.tier.off
        await space.put("once more")
        assert await space.get(mine) == "mine"


@pytest.mark.catalogue("A14")
async def test_a_program_that_is_started_inherits_no_file_of_ours(opened: Callable[..., Any]) -> None:
    """exec, with nothing closed on the way: connections, locks, rings and the tier stay with who opened them."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to look into")
    async with opened() as space:
        await space.get(await space.put("x"))
        held = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        assert any(path.endswith("/data.mdb") for path in held)
        program = "import os; print(*[os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')], sep='\\n')"
        there = subprocess.run([sys.executable, "-c", program], close_fds=False, capture_output=True, text=True, check=True).stdout
        folder = str(space.store.home.folder.parent)
        places = (folder, str(space.settings.state_dir), str(space.settings.runtime_dir))
        assert there and not [path for path in there.splitlines() if path.startswith(places)]
        sockets = {path for path in held if "socket:" in path}
        assert sockets and not sockets & set(there.splitlines())


# ── roles ────────────────────────────────────────────────────────────────────────────────────────

ROLES = """
import asyncio, sys
import memgang

async def main():
    async with memgang.open(space=sys.argv[1], agent="other", janitor_ms=500) as space:
        print(space.store._tail._lock is not None, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.catalogue("A3")
async def test_whoever_keeps_house_and_follows_the_log_is_replaced_when_it_is_killed(
    opened: Callable[..., Any], space_name: str, many: Callable[[int, int], int]
) -> None:
    """kill -9 of the process with both roles, again and again: what expires is still swept, what is forgotten elsewhere still goes."""
    waited = []
    for number in range(many(3, 30)):
        other = subprocess.Popen([sys.executable, "-c", ROLES, space_name], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
        assert other.stdout is not None and (await asyncio.to_thread(other.stdout.readline)) == "True\n"
        async with opened(janitor_ms=500) as space:
            wire, key, tail = space.store.wire, Keys.janitor(space_name), space.store._tail
            assert tail._lock is None

            async def theirs() -> bool:
                return await wire.call("GET", key) not in (None, incarnation().encode())

            await until(theirs)
            ref = await space.put(f"short {number}", ttl=0.05)
            killed = time.monotonic()
            kill(other)

            async def ours_now() -> bool:
                return await wire.call("GET", key) == incarnation().encode() and tail._lock is not None

            await until(ours_now)

            async def swept() -> bool:
                return [event.obj async for event in space.events() if event.raw == "expired"].count(ref.id) == 1

            await until(swept)
            waited.append(time.monotonic() - killed)
            live = space.store.tier.flags.live

            async def followed() -> bool:
                return space.store.tier.flags.live > live

            await until(followed)
    print(f"kill -9 to house kept again: {max(waited):.2f} s at most, with a period of 0.5 s")


# ── hosts that are cut off, and histories of two ─────────────────────────────────────────────────


@pytest.mark.catalogue("A28")
async def test_a_host_that_is_cut_off_hands_out_nothing_that_another_may_have_forgotten(private: PrivateServer, place: Path) -> None:
    """It reads what it has for at most a second more; then it says that it cannot know, until it can ask again."""
    relay = Relay()
    common: dict[str, Any] = dict(space="hosts", socket_timeout_s=0.3, patience_ms=300, janitor_ms=3_600_000)
    async with relay.to(private.socket, place / "r"), \
            memgang.open(relay.url, **common, runtime_dir=place / "a", host_dir=place, agent="here") as here, \
            memgang.open(private.url, **common, runtime_dir=place / "b", host_tier="off", agent="there") as there:
        refs = [await here.put(f"secret {i}") for i in range(20)]
        await asyncio.sleep(0)
        assert all(here.store.objects.at_hand(ref) for ref in refs)
        relay.hold_back()
        for ref in refs:
            await there.forget(ref)
        forgotten = time.monotonic()

        async def silent() -> bool:
            began = time.monotonic()
            if (found := here.store.objects.at_hand(refs[0])) is not None:
                assert began - forgotten <= 1.0, "read a second after it was forgotten"
            return found is None

        await until(silent)
        for ref in refs[:2]:
            with pytest.raises(MemGangError) as caught:
                await here.get(ref)
            assert not isinstance(caught.value, UnknownReference), "it cannot know"
        relay.let_pass()

        async def known() -> bool:
            try:
                await here.get(refs[0])
            except UnknownReference:
                return True
            except MemGangError:
                return False
            return False

        await until(known)
        for ref in refs:
            with pytest.raises(UnknownReference):
                await here.get(ref)


@pytest.mark.catalogue("B12", "B1")
async def test_histories_of_two_hosts_with_tiers_of_their_own_keep_the_invariants(
    place: Path, seed: int, many: Callable[[int, int], int]
) -> None:
    """Kills, stops and server restarts; reads come from each host's tier, and are never older than a second."""
    outcome = await campaign(place, seed, rounds=many(4, 50), hosts=2)
    print(line(outcome), f"{outcome.counts['reads at hand']:,} reads at hand")
    assert [str(b) for b in outcome.breaches] == []
    assert outcome.counts["reads at hand"] > 50
