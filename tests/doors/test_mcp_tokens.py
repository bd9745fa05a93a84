"""Tokens of agents at the MCP door: who shows one is that agent, and nobody has a part in what is not theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from tests.doors.test_mcp_http import HEADERS, HELLO, Running
from tests.proxy.test_wire import SMUGGLED, head, statuses

from memgang.errors import UnknownReference
from memgang.model import Call
from memgang.space import Space
from memgang.store import tokens

TOOLS = {"memgang_put": {"text": "mine"}, "memgang_list": {}, "memgang_find": {}, "memgang_names": {}, "memgang_search": {"query": "mine"}}


@contextlib.asynccontextmanager
async def client(server: Running, token: str) -> AsyncIterator[Any]:
    """The SDK's own, with a token and a name that says nothing."""
    async with (httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
                Client(streamable_http_client(server.url, http_client=http)) as found):
        yield found


@pytest.fixture
async def served(space: Space) -> AsyncIterator[Running]:
    """A server of the space that wants tokens."""
    server = await asyncio.to_thread(Running, space.name, "--require-token", "--agent", "everybody", "--graph")
    yield server
    if server.child.poll() is None:
        await asyncio.to_thread(server.end)


async def test_who_shows_a_token_is_that_agent(space: Space, served: Running) -> None:
    """Two tokens are two agents in the log, whatever the client or the command line says; without one nobody is anybody."""
    refs = {}
    texts = {agent: (await tokens.create(space.store, agent))[1] for agent in ("planner", "critic")}
    for agent, text in texts.items():
        async with client(served, text) as one:
            done = await one.call_tool("memgang_put", {"text": f"of {agent}"})
            refs[agent] = done.structured_content["ref"]
            assert not (await one.call_tool("memgang_get", {"ref": refs[agent]})).is_error and await one.read_resource(refs[agent])

    for agent, ref in refs.items():
        assert [by.rpartition("/")[2] for by in (await space.describe(ref)).writers] == [agent]
    await asyncio.to_thread(served.end)  # and what it has read is written
    events = [e async for e in space.events() if e.obj and any(ref.endswith(e.obj) for ref in refs.values())]
    acted = {e.who.rpartition("/")[2] for e in events}
    assert acted - {"tester"} == set(refs)


@pytest.mark.catalogue("D2", "D8")
async def test_no_tenant_and_no_other_space_comes_in(
    space: Space, served: Running, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token, one of another space, one of a tenant, a revoked one: no tool, no resource, and no session of somebody else."""
    _, good = await tokens.create(space.store, "planner")
    _, second = await tokens.create(space.store, "critic")
    _, scoped = await tokens.create(space.store, "planner", "red")
    old, revoked = await tokens.create(space.store, "planner")
    await tokens.revoke(space.store, old.id)
    async with opened(space="elsewhere") as other:
        _, foreign = await tokens.create(other.store, "planner")
        theirs = await other.put("not for you")
        mine = await space.put("mine", name="plan")
        with pytest.raises(UnknownReference):
            await space.get(theirs)
        with pytest.raises(UnknownReference):
            await other.get(mine)
    async with client(served, good) as one:
        for tool in TOOLS:
            shown = str((await one.call_tool(tool, TOOLS[tool])).structured_content)
            assert theirs not in shown and "not for you" not in shown
        for tool in ("memgang_get", "memgang_peek"):
            assert (await one.call_tool(tool, {"ref": theirs})).is_error
        await one.call_tool("memgang_forget", {"ref": theirs, "cascade": True})
        async with opened(space="elsewhere") as other:
            assert await other.get(theirs) == "not for you"
        with pytest.raises(MCPError):
            await one.read_resource(theirs)
        async with httpx.AsyncClient(timeout=30) as http:
            for token, status in ((scoped, 403), (foreign, 401), (revoked, 401), ("none", 401)):
                told = await http.post(served.url, json=HELLO, headers=HEADERS | {"Authorization": f"Bearer {token}"})
                assert told.status_code == status and "mine" not in told.text
            begun = await http.post(served.url, json=HELLO, headers=HEADERS | {"Authorization": f"Bearer {good}"})
            session = HEADERS | {"mcp-session-id": begun.headers["mcp-session-id"], "Authorization": f"Bearer {second}"}
            stolen = await http.post(served.url, json=HELLO | {"method": "tools/list", "params": {}}, headers=session)
            assert stolen.status_code == 404  # of another agent's: as if there were none


@pytest.mark.catalogue("D2", "D3")
async def test_a_scope_is_part_of_what_a_call_is(space: Space) -> None:
    """The same call in two scopes has two keys and two answers, and neither key tells anything of the other."""
    made: list[str] = []

    async def work() -> str:
        made.append("x")
        return f"answer {len(made)}"

    calls = [Call("llm", "same", "1", {"q": 1}, scope=scope) for scope in ("", "red", "blue")]
    keys = {space.form(call).key for call in calls}
    answers = [(await space.recall(call, work)).how for call in calls * 2]

    assert len(keys) == 3 and answers == ["computed"] * 3 + ["hit"] * 3 and len(made) == 3


@pytest.mark.catalogue("C9")
async def test_confusing_requests_end_at_this_door_too(space: Space, served: Running) -> None:
    """The same bytes that the proxy is sent: at most one answer, no 5xx, and afterwards it serves as before."""
    async def told(sent: bytes) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        try:
            writer.write(sent)
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(0.5):  # those that are requests keep their connection
                    return statuses(await reader.read())
            return []
        finally:
            writer.transport.abort()

    _, good = await tokens.create(space.store, "planner")
    tried = [*SMUGGLED, head()[:-2] + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n"]
    for said in await asyncio.gather(*map(told, tried)):
        assert len(said) <= 1 and all(400 <= status < 500 for status in said)
    async with client(served, good) as one:
        assert (await one.list_tools()).tools
    assert "Traceback" not in await asyncio.to_thread(served.end)
