"""The command as people start it: several proxies of one space, clients in several processes, an end that loses nothing."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.proxy.conftest import openai
from tests.proxy.test_sharing import ASK, TEXT
from tests.proxy.upstream import Upstream

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def started(*command: str, **more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process of Python and its first line. Whatever becomes of the test, it does not outlive it."""
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONUNBUFFERED": "1"} | more
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, env=env, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def proxy(url: str, space: str, *more: str) -> Any:
    """`memgang proxy` on a free port."""
    return started("memgang", "proxy", "--upstream", url, "--port", "0", "--space", space, *more)


def address(line: str) -> str:
    """Where it says that it listens."""
    return line.split()[3].rstrip(",")


CALLS = [["call_{n}a", "add", '{"a": 1, "b": 2}'], ["call_{n}b", "sub", "{}"]]
KINDS: dict[str, list[Any]] = {
    "chat": [[TEXT, []], 18, "chatcmpl-{n}"], "tools": [["", CALLS], 18, "chatcmpl-{n}"], "responses": [[TEXT, []], 18, "resp_{n}"],
    "responses-tools": [[TEXT, [["call_{n}", "add", '{"a": 1}']]], 18, "resp_{n}"]}


@pytest.mark.slow
async def test_a_hundred_at_once_from_four_processes_are_one_call(
    upstream: tuple[Upstream, str], space_name: str, opened: Callable[..., Any]
) -> None:
    """Sync and async, plain and streamed, over two proxies: one call for each kind, all answers the same, and the bill is the ledger."""
    app, url = upstream
    async with contextlib.AsyncExitStack() as all_:
        async def at_once(*those: Any) -> list[Any]:  # most of what they take is to be started
            return await asyncio.gather(*(all_.enter_async_context(one) for one in those))

        urls = [address(line) for _, line in await at_once(proxy(url, space_name), proxy(url, space_name))]
        hows = ("threads", "loop") * 2
        askers = [asker for asker, _ in await at_once(*(started("tests.proxy.asker", how, "25", *urls) for how in hows))]
        for number, (kind, says) in enumerate(KINDS.items(), 1):
            app.gate = asyncio.Event()
            for asker in askers:
                asker.stdin.write(kind.encode() + b"\n")
            while len(app.calls) < number:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # time for the others to come; what is asserted holds whenever they do
            app.gate.set()
            answers = [json.loads(line) for asker in askers for line in [await asker.stdout.readline() for _ in range(25)]]

            assert len(answers) == 100 and len(app.calls) == number
            expected = json.loads(json.dumps(says).replace("{n}", str(number)))
            assert all(answer[1:] == expected for answer in answers), kind
            came = collections.Counter(answer[0] for answer in answers)
            assert came["miss"] == 1 and set(came) <= {"miss", "joined", "hit"}
    async with opened() as space:
        spent = [e.own for e in [e async for e in space.events()] if e.own.llm_calls]

    assert len(spent) == 4 and {(used.tokens, used.tokens_cached) for used in spent} == {(18, 4)}


async def test_a_proxy_that_is_killed_is_replaced_by_one_that_waits(upstream: tuple[Upstream, str], space_name: str) -> None:
    """Its call is begun again by another proxy for those who wait there; what they are given is whole."""
    app, url = upstream
    app.next_.append("hang")
    async with proxy(url, space_name) as (first, line), proxy(url, space_name) as (_, other):
        dying = openai.AsyncOpenAI(base_url=address(line), api_key="x", max_retries=0)
        waiting = openai.AsyncOpenAI(base_url=address(other), api_key="x", max_retries=0)
        lost = asyncio.create_task(dying.chat.completions.create(**ASK))
        while not app.calls:
            await asyncio.sleep(0.01)
        joined = asyncio.create_task(waiting.chat.completions.create(**ASK))
        await asyncio.wait([joined], timeout=0.3)
        app.gate, held = None, app.gate
        first.kill()

        assert (await joined).choices[0].message.content == TEXT
        with pytest.raises(openai.APIConnectionError):
            await lost
        held.set()
    assert len(app.calls) == 2


async def test_told_to_end_it_finishes_what_is_paid_for(
    upstream: tuple[Upstream, str], space_name: str, opened: Callable[..., Any]
) -> None:
    """SIGTERM during two streams, one of whose callers has left: the other's is finished, both answers are kept, status 0."""
    app, url = upstream
    app.gate, app.later = asyncio.Event(), asyncio.Event()
    app.next_.extend(["ok", "later"])
    async with proxy(url, space_name) as (process, line), openai.AsyncOpenAI(base_url=address(line), api_key="x", max_retries=0) as client:
        stays = await client.chat.completions.create(**ASK, stream=True)
        leaves = await client.chat.completions.create(**ASK | {"seed": 1}, stream=True)
        await anext(aiter(leaves))
        await leaves.close()
        process.send_signal(signal.SIGTERM)
        while True:  # until it takes no more
            try:
                async with httpx.AsyncClient() as http:
                    await http.get(address(line) + "/models")
            except httpx.TransportError:  # refused, or taken in the last moment and closed
                break
            await asyncio.sleep(0.02)
        app.gate.set()

        assert "".join([c.choices[0].delta.content or "" async for c in stays]) == TEXT
        with pytest.raises(TimeoutError):  # there are no callers any more, and yet it does not end
            await asyncio.wait_for(process.wait(), 1)
        app.later.set()
        assert await process.wait() == 0
    async with opened() as space:
        assert len((await space.find(kind="answer")).objects) == 2


async def test_tokens_of_the_command_line_open_the_door(upstream: tuple[Upstream, str], space_name: str) -> None:
    """create, list, revoke; the list shows no secret."""
    async def token(*words: str) -> str:
        async with started("memgang", "token", *words, "--space", space_name) as (process, line):
            return line + (await process.stdout.read()).decode()

    text = await token("create", "planner", "--scope", "red")
    async with proxy(upstream[1], space_name) as (_, line):
        client = openai.AsyncOpenAI(base_url=address(line), api_key=text, max_retries=0)
        assert [m.id async for m in client.models.list()] == ["m"]
        shown = await token("list")
        assert "planner" in shown and "red" in shown and text.rpartition("_")[2] not in shown
        await token("revoke", text.split("_")[1])
        await asyncio.sleep(0.3)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


@pytest.mark.parametrize("words", [
    ("--upstream", "nowhere"), ("--host", "256.1.1.1"), ("--upstream", "http://127.0.0.1:9", "--port", "1x")])
async def test_a_wrong_option_is_one_line(words: tuple[str, ...], space_name: str) -> None:
    """No traceback, and what to do."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "memgang", "proxy", *words, "--space", space_name, stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    _, told = await process.communicate()

    assert process.returncode in (1, 2) and b"Traceback" not in told and told
