"""Servers that die with and without their data, whose clock steps, whose memory or disk is full."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import MemGangError, StoreFull, StoreUnavailable, UnknownReference, WorkFailed
from tests.chaos.crew import Crew
from tests.chaos.havoc import campaign
from tests.chaos.history import Facts, check, load
from tests.chaos.servers import PrivateServer, programs
from tests.chaos.witness import Witness
from tests.chaos.worker import the_call
from tests.gates import Gate, raws, ready, until

SERVER_ONLY = {"server": 1, "nothing": 3}


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {"space": "chaos", "runtime_dir": folder / "run", "lease_ms": 1000, "beat_ms": 250, **more}


@pytest.mark.catalogue("A6")
@pytest.mark.parametrize("program", programs())
async def test_a_server_killed_under_load_loses_nothing_acknowledged(
    place: Path, seed: int, program: str, many: Callable[[int, int], int]
) -> None:
    """Eight workers, kill -9 of the server again and again: the witness sees nothing taken back, no invariant breaks."""
    outcome = await campaign(place, seed, rounds=many(3, 40), program=programs()[program], odds=SERVER_ONLY, keys=16)
    print(dict(outcome.counts))
    assert [str(b) for b in outcome.breaches] == []
    assert outcome.counts["server kills"] >= 1 and outcome.counts["lives of the data"] == 1


@pytest.mark.catalogue("A7")
@pytest.mark.parametrize("program", programs())
async def test_a_server_that_comes_back_empty_gives_no_wrong_value_and_fences_rise(
    place: Path, seed: int, program: str, many: Callable[[int, int], int]
) -> None:
    """The same without persistence: leaders publish again, nobody hangs, each life's fences lie above those of the one before."""
    outcome = await campaign(place, seed, rounds=many(3, 40), program=programs()[program], persistent=False, odds=SERVER_ONLY, keys=16)
    print(dict(outcome.counts))
    assert [str(b) for b in outcome.breaches] == []
    assert outcome.counts["lives of the data"] >= 2


@pytest.fixture(scope="session")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that shifts one process's clock; needs a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler, so no server whose clock can be shifted")
    out = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", out, Path(__file__).with_name("clock.c"), "-ldl"], check=True)
    return str(out)


class Clocked(PrivateServer):
    """A server whose clock can be set."""

    def step(self, seconds: int) -> None:
        """From now on its clock is off by so much."""
        fresh = self.folder / "clock.new"
        fresh.write_text(str(seconds))
        os.replace(fresh, self.folder / "clock")


@pytest.fixture(params=list(programs()))
def clocked(place: Path, clock_library: str, request: pytest.FixtureRequest) -> Iterator[Clocked]:
    """A private server with a clock of its own."""
    folder = place / "clocked"
    server = Clocked(folder, program=programs()[request.param], preload=clock_library,
                     environment={"MG_CLOCK": str(folder / "clock")})
    server.step(0)
    with server:
        server.step(7200)
        with server.admin() as admin:
            if abs(admin.time()[0] - time.time() - 7200) > 60:  # type: ignore[index]
                pytest.skip(f"the clock of {server.program} cannot be shifted: it is not dynamically linked")
        server.step(0)
        yield server


@pytest.mark.catalogue("A17")
async def test_a_servers_clock_an_hour_ahead_costs_one_duplicate_and_no_wrong_value(clocked: Clocked, place: Path) -> None:
    """The lease seems over: one other computes, the first is fenced, both have one value."""
    gate = Gate()
    async with memgang.open(clocked.url, **settings(place / "a", beat_ms=300)) as one, \
            memgang.open(clocked.url, **settings(place / "b", poll_ms=50)) as two:
        leading = asyncio.create_task(one.recall(the_call("k"), gate.then("first")))
        await gate.reached()
        following = asyncio.create_task(two.recall(the_call("k"), ready("second")))
        clocked.step(3600)
        async with asyncio.timeout(30):
            second = await (await following).value()
        gate.open()
        first = await (await leading).value()
        assert first == second in ("first", "second")
        log = await raws(two)
        assert log.count("committed") == 1 and log.count("taken") <= 1


@pytest.mark.catalogue("A17")
async def test_a_servers_clock_an_hour_back_costs_one_lease_and_one_ttl_at_most(clocked: Clocked, place: Path) -> None:
    """Waits, pauses after errors and lives of answers are brought back to their span."""

    async def fails() -> Any:
        raise ValueError("no")

    clocked.step(3600)
    async with memgang.open(clocked.url, **settings(place / "a", janitor_ms=100, negative_ttl_ms=400, poll_ms=50)) as one:
        ref = await one.put("short", ttl=0.5)
        with pytest.raises(WorkFailed):
            await one.recall(the_call("bad"), fails)
        answer = await one.recall(the_call("k"), ready("old"), ttl=0.5)
        gate = Gate()
        dead = asyncio.create_task(one.recall(the_call("held"), gate.then("late")))
        await gate.reached()
        one.store.beats._led.clear()  # from here on nobody renews its lease, as if it had died
        clocked.step(0)
        began = time.monotonic()
        async with asyncio.timeout(30):
            async with memgang.open(clocked.url, **settings(place / "b", poll_ms=50)) as two:
                assert await (await two.recall(the_call("held"), ready("mine"))).value() == "mine"
                print(f"lease waited for: {time.monotonic() - began:.2f} s")

                async def forgotten() -> bool:
                    try:
                        await two.get(ref)
                        return False
                    except UnknownReference:
                        return True

                async def permitted() -> bool:
                    try:
                        return await (await two.recall(the_call("bad"), ready("good"))).value() == "good"
                    except WorkFailed:
                        return False

                async def anew() -> bool:
                    return (await two.recall(the_call("k"), ready("new"), ttl=0.5)).ref != answer.ref

                for gone in (forgotten, permitted, anew):
                    await until(gone)
                print(f"all spans over after {time.monotonic() - began:.2f} s")
        gate.open()
        assert await (await dead).value() == "mine"


@pytest.mark.catalogue("A17")
@pytest.mark.parametrize("clock_s", [3600, -3600])
async def test_a_client_whose_clock_is_an_hour_off_gives_the_same_answers(
    private: PrivateServer, place: Path, seed: int, clock_s: int
) -> None:
    """Its spans are the server's: it takes over from none, loses none, and reads nothing that has expired."""
    facts, witness = Facts(lease_s=1.0), Witness(private, "chaos")
    witness.start()
    async with Crew(private.url, "chaos", place / "h", seed, lease_ms=1000, beat_ms=250, janitor_ms=300) as crew:
        await crew.start("right")
        await crew.start("wrong", clock_s=clock_s)
        for number in range(2):
            async with asyncio.timeout(60):
                told = await asyncio.gather(*(m.ask("round", number=number, calls=40, keys=8) for m in crew.members))
            assert all(t["values"] for t in told)
        await crew.end()
        facts.wall = time.time() - time.monotonic()
        load(crew.histories(), facts)
    witness.close(facts)
    assert [str(b) for b in check(facts)] == []
    assert "fenced" not in {e.e for e in facts.lives[0].entries}


@pytest.mark.catalogue("A18")
@pytest.mark.parametrize("program", programs())
async def test_full_memory_refuses_new_work_cleanly_and_lets_running_work_end(place: Path, program: str) -> None:
    """Claim, put and name are refused before they write; commit, beat, fail, release, forget and reads go on."""
    with PrivateServer(place / "full", program=programs()[program]) as server, server.admin() as admin:
        async with memgang.open(server.url, **settings(place, lease_ms=400, beat_ms=100, janitor_ms=3_600_000)) as space:
            known = await space.put("known")
            doomed = await space.put("doomed")
            gates = {name: Gate() for name in ("commits", "fails", "leaves")}
            keep = space.store.objects.put_then

            async def then_full(*args: Any, **words: Any) -> Any:
                ref, _ = await keep(args[0], args[1], None, **words)
                admin.config_set("maxmemory", 1)
                return ref, None

            running = {"commits": asyncio.create_task(space.recall(the_call("commits"), gates["commits"].then("value"))),
                       "fails": asyncio.create_task(space.recall(the_call("fails"), gates["fails"].then(ValueError("no")))),
                       "leaves": asyncio.create_task(space.recall(the_call("leaves"), gates["leaves"].then("no room")))}
            for name in running:
                await gates[name].reached()
            admin.config_set("maxmemory", 1)
            before = {k: admin.dump(k) for k in admin.scan_iter("mg:*:[onmbxrl]:*")}
            flights = set(admin.scan_iter("mg:*:f:*"))
            for refused in (space.put("new"), space.put(b"x" * 100_000), space.set_name("new", known),
                            space.recall(the_call("another"), ready("never"))):
                with pytest.raises(StoreFull):
                    await refused
            assert {k: admin.dump(k) for k in admin.scan_iter("mg:*:[onmbxrl]:*")} == before, "half-written state"
            assert set(admin.scan_iter("mg:*:f:*")) == flights, "a claim was written"
            flight = space.store.keys.flight(space.key(the_call("fails")))
            lease = int(admin.hget(flight, "until") or 0)  # type: ignore[arg-type]

            async def beaten() -> bool:
                return int(admin.hget(flight, "until") or 0) > lease  # type: ignore[arg-type]

            await until(beaten)
            gates["fails"].open()
            with pytest.raises(WorkFailed):
                await running["fails"]
            gates["leaves"].open()  # its put is refused, and the commit behind it must see that
            with pytest.raises(StoreFull):
                await running["leaves"]
            assert admin.hget(space.store.keys.flight(space.key(the_call("leaves"))), "state") != b"done"
            assert await space.get(known) == "known" and await space.forget(doomed)
            admin.config_set("maxmemory", 0)
            space.store.objects.put_then = then_full  # type: ignore[method-assign]  # full again between put and commit
            gates["commits"].open()
            assert await (await running["commits"]).value() == "value"
            admin.config_set("maxmemory", 0)
            assert (await space.recall(the_call("commits"), ready("never"))).how == "hit"
            await space.flush()
            witness, facts = Witness(server, "chaos"), Facts(lease_s=0.0)
            witness._stop.set()
            witness._thread.start()
            witness.close(facts)
            assert [str(b) for b in check(facts)] == []


@pytest.mark.catalogue("A21")
@pytest.mark.parametrize("program", programs())
async def test_a_full_disk_is_a_clear_error_and_nothing_acknowledged_is_lost(place: Path, program: str) -> None:
    """The append-only file cannot grow: writes are refused with the reason, reads go on, and it recovers by itself."""
    limit = 200_000
    with PrivateServer(place / "disk", program=programs()[program], file_bytes_max=limit) as server:
        async with memgang.open(server.url, **settings(place, janitor_ms=3_600_000, flush_ms=3_600_000)) as space:
            acknowledged: dict[Any, bytes] = {}
            error: MemGangError | None = None
            async with asyncio.timeout(60):
                for i in range(1000):
                    body = b"%d " % i * 2000
                    try:
                        acknowledged[await space.put(body)] = body
                    except MemGangError as caught:
                        error = caught
                        break
            assert isinstance(error, StoreUnavailable), error
            print(f"{len(acknowledged)} writes, then: {error}")
            assert "disk" in str(error)
            for ref, body in acknowledged.items():
                assert await space.get(ref) == body, "reads go on"
            began = time.monotonic()
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

            async def recovered() -> bool:
                try:
                    acknowledged[await space.put(b"after")] = b"after"
                    return True
                except MemGangError:
                    return False

            await until(recovered)
            print(f"writes again {time.monotonic() - began:.2f} s after there was room")
            server.kill()
            server.start()
            for ref, body in acknowledged.items():
                assert await space.get(ref) == body, "acknowledged and lost"
