"""Failure and death at the 1st, 2nd, ... n-th Redis command of each public verb (A13).

A relay counts the commands of one verb. At the n-th it either cuts the connection (before the server has the
command, or after it was done and before its reply), takes the whole network away from there on, or kills the
process. Afterwards a fresh process looks: everything acknowledged is there, the rest is whole or absent.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import MemGangError, StoreUnavailable, UnknownReference
from memgang.model import Ref
from memgang.space import Space
from tests.chaos.crew import Crew, Member
from tests.chaos.history import Facts, check, load
from tests.chaos.relay import Link, Relay
from tests.chaos.servers import PrivateServer
from tests.chaos.witness import Witness
from tests.chaos.worker import the_call
from tests.gates import ready

BIG = 100_000  # bytes: laid under a key of its own first
HUGE = 300_000  # in parts of 128 KiB
QUIET: dict[str, Any] = dict(
    host_tier="off", janitor_ms=3_600_000, flush_ms=3_600_000, lease_ms=600, beat_ms=150, attempts=99, part_bytes=131_072)
VERBS = ["put", "put_big", "put_huge", "put_named", "get", "get_huge", "forget", "name", "recall", "recall_big", "hit", "flush",
         "pin", "look", "open"]


async def prepare(space: Space, tag: str) -> dict[str, Ref]:
    """What a verb needs to be there."""
    return {"small": await space.put(f"there {tag}"), "huge": await space.put(tag.encode().ljust(HUGE, b"."))}


async def do(space: Space, verb: str, tag: str, there: dict[str, Ref]) -> Any:
    """One public verb."""
    match verb:
        case "put":
            return await space.put(f"new {tag}")
        case "put_big":
            return await space.put(tag.encode().ljust(BIG, b"-"))
        case "put_huge":
            return await space.put(tag.encode().ljust(HUGE, b"-"))
        case "put_named":
            return await space.put(f"named {tag}", name=f"names/{tag}")
        case "get":
            return await space.get(there["small"])
        case "get_huge":
            return await space.get(there["huge"])
        case "forget":
            return await space.forget(there["small"])
        case "name":
            return await space.set_name(f"own/{tag}", there["small"])
        case "recall":
            return (await space.recall(the_call(tag), ready(f"answer {tag}"))).ref
        case "recall_big":
            return (await space.recall(the_call(tag), ready(tag.encode().ljust(BIG, b"=")))).ref
        case "hit":
            return (await space.recall(the_call("shared"), ready("shared"))).ref
        case "flush":
            space.mark("phase", tag)
            return await space.flush()
        case "pin":
            return await space.pin(there["small"])
        case "look":
            await space.stats()
            assert (await space.describe(there["small"])).ref == there["small"]
            return await space.names()
        case "open":
            async with memgang.open(space.settings.url, space=space.name, **QUIET) as another:
                return await another.get(there["small"])
    raise AssertionError(verb)


async def whole(space: Space, verb: str, tag: str, there: dict[str, Ref], told: Any) -> None:
    """What the verb touched is as before or as after, never between; ``told`` (not None) was acknowledged."""
    match verb:
        case "put" | "put_big" | "put_huge":
            body = {"put": f"new {tag}", "put_big": tag.encode().ljust(BIG, b"-"), "put_huge": tag.encode().ljust(HUGE, b"-")}[verb]
            if told is not None:
                assert await space.get(told) == body
            assert await space.get(await space.put(body)) == body  # and can be put again over whatever was left
        case "put_named":
            seen = await space.version(f"names/{tag}")
            assert (seen is not None) >= (told is not None)
            if seen is not None and seen.ref is not None:
                assert await space.get(seen.ref) == f"named {tag}"
        case "get" | "get_huge" | "flush" | "look" | "open":
            assert await space.get(there["small"]) == f"there {tag}"
        case "pin":
            assert len((await space.describe(there["small"])).pins) >= (told is not None)
        case "forget":
            if told is not None:
                with pytest.raises(UnknownReference):
                    await space.get(there["small"])
            else:
                try:
                    assert await space.get(there["small"]) == f"there {tag}"
                except UnknownReference:
                    pass
        case "name":
            seen = await space.version(f"own/{tag}")
            assert (seen is not None) >= (told is not None)
            assert len(await space.history(f"own/{tag}")) <= 1, "one write, one version"
        case "recall" | "recall_big" | "hit":
            right = {"recall": f"answer {tag}", "recall_big": tag.encode().ljust(BIG, b"="), "hit": "shared"}[verb]
            async with asyncio.timeout(30):  # a dead leader's lease may have to pass
                again = await space.recall(the_call("shared" if verb == "hit" else tag), ready(right))
            assert await again.value() == right
            assert (await space.recall(the_call("shared" if verb == "hit" else tag), ready("never"))).how == "hit"


def trap_at(relay: Relay, number: int, act: Callable[[Link], str | None]) -> list[bytes]:
    """Set the trap for the n-th command from now on; where it was sprung the list gets that command's name."""
    sprung: list[bytes] = []
    first = relay.commands

    def trap(link: Link, count: int, spoken: list[bytes]) -> str | None:
        if count - first == number and not sprung:
            sprung.append(spoken[0])
            return act(link)
        return None

    relay.trap = trap
    return sprung


def verdict(server: PrivateServer) -> list[str]:
    """What the log and the totals say."""
    witness, facts = Witness(server, "chaos"), Facts(lease_s=0.0)
    witness._stop.set()
    witness._thread.start()
    witness.close(facts)
    return [str(b) for b in check(facts)]


@pytest.mark.catalogue("A13", "A8")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_connection_lost_at_any_command_of_a_verb_harms_nothing(
    private: PrivateServer, place: Path, verb: str, when: str, many: Callable[[int, int], int]
) -> None:
    """Each command in turn: its connection is cut before it is done, or after; the verb goes through all the same."""
    relay, n, points = Relay(), 0, 0
    async with relay.to(private.socket, place / "r"), memgang.open(private.url, space="chaos", **QUIET) as other, \
            memgang.open(relay.url, space="chaos", **QUIET) as space:
        await other.recall(the_call("shared"), ready("shared"))
        while True:
            n += many(9, 1) if verb == "open" and n else 1  # its first look at a server is some fifty commands
            tag = f"{verb}-{n}"
            there = await prepare(other, tag)
            sprung = trap_at(relay, n, lambda _: when)
            async with asyncio.timeout(30):
                try:
                    told = await do(space, verb, tag, there)
                except StoreUnavailable:
                    assert verb == "open", "only the first look at a server is not tried again"
                    told = None
            await asyncio.sleep(0.02)  # commands that nobody waits for (an ear that closes) belong to this verb
            relay.trap = None
            await whole(other, verb, tag, there, told)
            if not sprung:
                break
            points += 1
        await space.flush()
    print(f"{verb}: {points} points, {when}")
    assert points >= 1
    assert verdict(private) == []


@pytest.mark.catalogue("A13")
@pytest.mark.parametrize("verb", VERBS)
async def test_a_network_gone_from_any_command_on_leaves_all_whole(
    private: PrivateServer, place: Path, verb: str, many: Callable[[int, int], int]
) -> None:
    """From the n-th command on nothing passes: the verb ends with an error of ours or a degraded answer, and leaves no half."""
    relay, n = Relay(), 0
    async with memgang.open(private.url, space="chaos", **QUIET) as other:
        await other.recall(the_call("shared"), ready("shared"))
        while True:
            n += many(9, 1) if verb == "open" and n else 1  # its first look at a server is some fifty commands
            tag, told = f"{verb}-{n}", None
            there = await prepare(other, tag)
            path = place / f"r{n}"
            async with relay.to(private.socket, path):
                space = await memgang.open(relay.url, space="chaos", patience_ms=50, **QUIET)
                gone: list[bool] = []
                first = relay.commands

                def trap(_: Link, count: int, __: list[bytes], first: int = first, number: int = n, gone: list[bool] = gone) -> str | None:
                    if count - first >= number:
                        gone.append(True)
                    return "before" if gone else None

                relay.trap = trap
                async with asyncio.timeout(60):
                    try:
                        told = await do(space, verb, tag, there)
                    except MemGangError:
                        pass
                    hit = bool(gone)
                    degraded = hit and verb in ("recall", "recall_big", "hit")
                    relay.trap = None
                    await space.aclose()
            await whole(other, verb, tag, there, None if degraded else told)
            if not hit:
                break
    print(f"{verb}: {n - 1} points")
    assert n > 1
    assert verdict(private) == []


KILLED = ["put", "forget", "name", "get", "recall", "put_big"]


@pytest.mark.catalogue("A13")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", KILLED)
async def test_kill_9_at_any_command_of_a_verb_leaves_all_whole(
    private: PrivateServer, place: Path, seed: int, verb: str, when: str
) -> None:
    """The process dies at its n-th command, the command done or not: the next one finds everything as before or as after."""
    relay, points = Relay(), 0
    facts, witness = Facts(lease_s=0.6), Witness(private, "chaos")
    witness.start()
    async with relay.to(private.socket, place / "r"), Crew(relay.url, "chaos", place / "h", seed, **QUIET) as crew, \
            memgang.open(private.url, space="chaos", **QUIET) as other:
        while True:
            points += 1
            tag = f"{verb}-{points}"
            there = await prepare(other, tag)
            victim: Member = await crew.start(f"w{points}", runtime_dir=str(place / f"host{points}"))
            step: tuple[str, tuple[Any, ...]] = {
                "put": ("put", (f"new {tag}",)), "put_big": ("put", (tag.ljust(BIG, "-"),)), "get": ("get", (there["small"],)),
                "forget": ("forget", (there["small"],)), "name": ("name", (f"own/{tag}",)), "recall": ("recall", (tag,)),
            }[verb]

            async def die(verdict: str | None, victim: Member = victim) -> str | None:
                victim.signal(signal.SIGKILL)
                await victim.gone.wait()
                return verdict

            # 'after': the command reaches the server, the process is dead before it hears of it.
            sprung = trap_at(relay, points, lambda _, die=die: die(when))  # type: ignore[misc,arg-type,return-value]
            async with asyncio.timeout(60):
                await victim.ask("steps", steps=[step])
            relay.trap = None
            if not sprung:
                break
            facts.dead.add(victim.pid)
            crew.members.remove(victim)
            if verb == "recall":
                async with asyncio.timeout(30):
                    again = await other.recall(the_call(tag), ready({"key": tag, "by": "the next one"}))
                assert (await again.value())["key"] == tag
            elif verb == "name":
                assert len(await other.history(f"own/{tag}")) <= 1
            elif verb in ("put", "put_big"):
                body = step[1][0]
                assert await other.get(await other.put(body)) == body
            else:
                await whole(other, verb, tag, there, None)
        await crew.end()
        load(crew.histories(), facts)
    witness.close(facts)
    print(f"{verb}: {points - 1} points, {when}")
    assert points > 1
    assert [str(b) for b in check(facts) if b.invariant != "value"] == []
