"""A session of the OpenAI Agents SDK: what the SDK says of sessions, and that two processes lose nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.adapters.sessions import MemGangSession


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


async def test_items_come_back_in_order_and_the_last_go_first(space: memgang.Space) -> None:
    """Added together or one after the other; a limit gives the last; pop takes the last; clear takes all."""
    session = MemGangSession("a/b c", space)
    assert await session.get_items() == [] and await session.pop_item() is None
    await session.clear_session()
    await session.add_items(said("1", "2"))
    await session.add_items([])
    await session.add_items(said("3"))

    assert await session.get_items() == said("1", "2", "3") and await session.get_items(limit=2) == said("2", "3")
    assert await session.get_items(limit=0) == [] and await MemGangSession("other", space).get_items() == []
    assert await MemGangSession("a/b c", space, session_settings={"limit": 1}).get_items() == said("3")
    assert [await session.pop_item(), await session.pop_item()] == said("3", "2")
    assert await MemGangSession("a/b c", space).get_items() == said("1")
    await session.clear_session()
    assert await session.get_items() == [] and (await space.find(kind="session")).objects == []
    await session.add_items(said("again"))
    assert await session.get_items() == said("again")


async def test_the_same_said_twice_is_there_twice(space: memgang.Space) -> None:
    """Also where one of the two is taken away, or is of another session."""
    one, other = MemGangSession("one", space), MemGangSession("other", space)
    for session in (one, one, other):
        await session.add_items(said("yes"))
    assert await one.pop_item() == said("yes")[0]
    assert await one.get_items() == await other.get_items() == said("yes")


async def test_those_who_add_and_take_at_once_lose_and_double_nothing(space: memgang.Space) -> None:
    """Twenty add, ten take: ten are left, all are different; and no object is left over."""
    session = MemGangSession("s", space)
    await asyncio.gather(*(session.add_items(said(str(number))) for number in range(20)))
    taken = await asyncio.gather(*(session.pop_item() for _ in range(10)))

    left = await session.get_items()
    assert sorted(item["content"] for item in [*taken, *left]) == sorted(str(number) for number in range(20))
    assert len((await space.find(kind="session", limit=100)).objects) == 11


async def test_a_conversation_lives_on_while_it_is_used(space: memgang.Space) -> None:
    """Its first part lives as long as its last; when its time has come it is empty, and begins anew."""
    session = MemGangSession("s", space, ttl=600)
    await session.add_items(said("1"))
    first = min(record.expires for record in (await space.find(kind="session")).objects)
    await asyncio.sleep(0.01)
    await session.add_items(said("2"))
    records = (await space.find(kind="session")).objects
    assert len(records) == 3 and all(record.expires > first for record in records)
    for record in records:
        await space.forget(record.ref)
    assert await session.get_items() == []
    await session.add_items(said("3"))
    assert await session.get_items() == said("3")


WRITER = """
import asyncio, sys, memgang
from memgang.adapters.sessions import MemGangSession

async def main():
    async with memgang.open(space=sys.argv[1]) as space:
        session = MemGangSession("shared", space)
        for number in range(20):
            await session.add_items([{"role": "user", "content": f"{sys.argv[2]}{number:02}"}])

asyncio.run(main())
"""


async def test_two_processes_with_twenty_items_each_lose_none(space: memgang.Space, space_name: str) -> None:
    """All forty are there, those of each process in its order."""
    command = [sys.executable, "-c", WRITER, space_name]
    processes = [subprocess.Popen([*command, who], cwd=Path(__file__).parents[2]) for who in ("p", "q")]
    assert [await asyncio.to_thread(process.wait, 120) for process in processes] == [0, 0]

    texts = [item["content"] for item in await MemGangSession("shared", space).get_items()]
    for who in ("p", "q"):
        assert [text for text in texts if text.startswith(who)] == [f"{who}{number:02}" for number in range(20)]
    assert len(texts) == 40


async def test_an_agent_of_the_sdk_remembers_and_its_model_is_asked_once(space: memgang.Space) -> None:
    """The real runner with a session and a wrapped client: the second conversation of the same words costs nothing."""
    pytest.importorskip("agents", reason="the OpenAI Agents SDK is not installed: pip install 'memgang[agents]'")
    import openai
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, RunConfig, Runner
    from agents.memory import Session

    from tests.adapters.provider import Provider

    provider = Provider()
    client = memgang.wrap(openai.AsyncOpenAI(api_key="k", base_url=provider.url + "/v1"), space)
    agent = Agent(name="a", model=OpenAIChatCompletionsModel("gpt-5-mini", client), model_settings=ModelSettings(temperature=0))
    for number in range(2):
        session = MemGangSession(f"customer-{number}", space)
        assert isinstance(session, Session)
        for text in ("hello", "again"):
            result = await Runner.run(agent, text, session=session, run_config=RunConfig(tracing_disabled=True))
            assert result.final_output == text.upper()
        assert [item["role"] for item in await session.get_items()] == ["user", "assistant"] * 2
    assert len(provider.asked) == 2 and len(provider.asked[1]["messages"]) == 3
    await client.close()
    provider.close()
