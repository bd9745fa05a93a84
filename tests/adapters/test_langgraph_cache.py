"""What LangGraph documents of a `BaseCache` holds on MemGangCache; and of those who ask at once one computes."""

from __future__ import annotations

import asyncio
import operator
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph.cache.base", reason="LangGraph is not installed: pip install 'memgang[langgraph]'")

from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

import memgang
from memgang.adapters.langgraph import MemGangCache
from memgang.errors import ConfigError, StoreFull
from tests.gates import Gate, raws, until

ONE, TWO, THREE = (("graph", "n1"), "k1"), (("graph", "n2"), "k2"), (("other",), "k3")


class State(TypedDict):
    """A question, and what all nodes said."""

    question: str
    said: Annotated[list[str], operator.add]


def graph_of(node: Any, cache: MemGangCache[Any], ttl: int | None = 60) -> Any:
    """A graph of one node, which is cached."""
    return (StateGraph(State).add_node("answer", node, cache_policy=CachePolicy(ttl=ttl)).add_edge(START, "answer")
            .add_edge("answer", END).compile(cache=cache))


def asked(question: str) -> dict[str, Any]:
    return {"question": question, "said": []}


# ── entries ───────────────────────────────────────────────────────────────────────────────────────


async def test_entries_are_kept_by_namespace_and_key(space: memgang.Space) -> None:
    """What is set is got, as it was; the rest is left out; nothing asked is nothing got."""
    cache: MemGangCache[Any] = MemGangCache(space)
    values = {ONE: {"list": list(range(1000)), "s": {3}}, TWO: "text", THREE: b"bytes", ((), "none"): None,
              (("a:b", "c/d.e"), "ü"): 1.5, (("graph", "n1"), "k2"): "other key"}
    await cache.aset({key: (value, None) for key, value in values.items()})

    assert await cache.aget([*values, (("graph", "n2"), "k1")]) == values
    assert await cache.aget([]) == {}
    await cache.aset({})


def test_the_methods_that_block_do_the_same(blocking: memgang.BlockingSpace) -> None:
    """Set, get, overwrite, clear; and what is set here is got by the awaited half."""
    cache: MemGangCache[Any] = MemGangCache(blocking)
    cache.set({ONE: (1, None), TWO: (2, None), THREE: (3, None)})
    assert cache.get([ONE, TWO, THREE]) == {ONE: 1, TWO: 2, THREE: 3}
    assert asyncio.run(MemGangCache(blocking).aget([ONE])) == {ONE: 1}
    cache.set({ONE: (10, None)})
    assert cache.get([ONE, TWO]) == {ONE: 10, TWO: 2}
    cache.clear([("graph", "n1")])
    assert cache.get([TWO, THREE]) == {TWO: 2, THREE: 3} and cache.get([ONE]) == {}


async def test_an_entry_is_used_no_longer_than_it_was_set_for(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of the server's clock; then it is missing, and can be set anew."""
    cache: MemGangCache[Any] = MemGangCache(space)
    await cache.aset({ONE: ("short", 60), TWO: ("long", None)})
    assert await cache.aget([ONE, TWO]) == {ONE: "short", TWO: "long"}

    real = space.store.log.server_ms
    monkeypatch.setattr(space.store.log, "server_ms", lambda: real() + 61_000)
    assert await cache.aget([ONE, TWO]) == {TWO: "long"}
    await cache.aset({ONE: ("again", 60)})
    assert await cache.aget([ONE]) == {ONE: "again"}


async def test_clearing_forgets_the_namespaces_named_or_all(space: memgang.Space) -> None:
    """Equal values of other namespaces stay; what is no entry of the cache stays in any case."""
    cache: MemGangCache[Any] = MemGangCache(space)
    mine = await space.put("mine")
    same = {ONE: ("same", None), TWO: ("same", None), THREE: ("same", None)}
    await cache.aset(same)
    await cache.aclear([("graph", "n1"), ("nothing", "here")])
    assert await cache.aget([TWO, THREE]) == {TWO: "same", THREE: "same"}
    await cache.aclear()
    assert await cache.aget([ONE, TWO, THREE]) == {} and await space.get(mine) == "mine"


@pytest.mark.parametrize("wrong", [{"wait_s": 0}, {"wait_s": float("nan")}, {"ttl": "soon"}])
async def test_options_that_are_none_are_refused(space: memgang.Space, wrong: dict[str, Any]) -> None:
    """Where they are given, not when a node runs."""
    with pytest.raises(ConfigError):
        MemGangCache(space, **wrong)


# ── one computes ──────────────────────────────────────────────────────────────────────────────────


async def test_eight_graphs_that_ask_the_same_at_once_compute_it_once(space: memgang.Space) -> None:
    """The first leads; the others wait for what it brings."""
    runs, gate = [], Gate()

    async def node(state: State) -> dict[str, Any]:
        runs.append(state["question"])
        await gate.then(None)()
        return {"said": [state["question"].upper()]}

    graph = graph_of(node, MemGangCache(space))
    asking = [asyncio.create_task(graph.ainvoke(asked("why?"))) for _ in range(8)]
    await gate.reached()
    gate.open()

    assert [answer["said"] for answer in await asyncio.gather(*asking)] == [["WHY?"]] * 8 and runs == ["why?"]
    assert (await graph.ainvoke(asked("why?")))["said"] == ["WHY?"] and len(runs) == 1


async def test_a_graph_that_fails_lets_the_next_one_lead(space: memgang.Space) -> None:
    """Its error is its own; of those who waited one computes, and the rest is given that."""
    runs, gate = [], Gate()

    async def node(state: State) -> dict[str, Any]:
        runs.append(state["question"])
        if len(runs) == 1:
            await gate.then(None)()
            raise ValueError("out of luck")
        return {"said": ["fine"]}

    graph = graph_of(node, MemGangCache(space, wait_s=600))
    first = asyncio.create_task(graph.ainvoke(asked("q")))
    await gate.reached()
    others = [asyncio.create_task(graph.ainvoke(asked("q"))) for _ in range(5)]
    await asyncio.sleep(0.05)
    gate.open()

    with pytest.raises(ValueError, match="out of luck"):
        await first
    assert [answer["said"] for answer in await asyncio.wait_for(asyncio.gather(*others), 60)] == [["fine"]] * 5 and len(runs) == 2


async def test_nobody_waits_longer_than_said(space: memgang.Space) -> None:
    """A leader that takes too long loses its claim: another one computes, and the late value replaces its."""
    cache: MemGangCache[Any] = MemGangCache(space, wait_s=0.05)
    assert await cache.aget([ONE]) == {}

    async def other() -> dict[Any, Any]:
        return await cache.aget([ONE])

    assert await asyncio.create_task(other()) == {}
    await cache.aset({ONE: ("late", None)})
    assert await cache.aget([ONE]) == {ONE: "late"}


async def test_graphs_that_ask_for_the_same_nodes_in_another_order_do_not_wait_for_each_other(space: memgang.Space) -> None:
    """None holds what the other needs to begin: one of them leads both, or each is given what the other has made."""
    cache: MemGangCache[Any] = MemGangCache(space, wait_s=600)
    made: list[Any] = []

    async def graph(keys: list[Any]) -> dict[Any, Any]:
        found = await cache.aget(keys)
        missing = [key for key in keys if key not in found]
        made.extend(missing)
        await cache.aset(dict.fromkeys(missing, ("made", None)))
        return found | dict.fromkeys(missing, "made")

    both = await asyncio.wait_for(asyncio.gather(graph([ONE, TWO]), graph([TWO, ONE])), 60)
    assert both == [{ONE: "made", TWO: "made"}] * 2 and sorted(made) == [ONE, TWO]


async def test_tasks_of_one_workflow_do_not_wait_for_each_other(space: memgang.Space) -> None:
    """Each is started while others run; LangGraph asks for those again, and the answer must not be to wait for them."""
    first, second = Gate(), Gate()

    @task(cache_policy=CachePolicy(ttl=60))
    async def slow(x: int) -> int:
        await (first if x == 1 else second).then(None)()
        return x * 10

    @task
    async def plain(x: int) -> int:
        return x

    @entrypoint(cache=MemGangCache(space, wait_s=600))
    async def workflow(xs: list[int]) -> list[int]:
        one = slow(xs[0])
        await first.reached()
        two, three = slow(xs[1]), plain(xs[2])
        await second.reached()
        done = await three
        first.open()
        second.open()
        return [await one, await two, done]

    assert await asyncio.wait_for(workflow.ainvoke([1, 2, 3]), 60) == [10, 20, 3]
    assert await asyncio.wait_for(workflow.ainvoke([1, 2, 3]), 60) == [10, 20, 3]


async def test_workflows_that_call_the_same_task_at_once_compute_it_once(space: memgang.Space, opened: Any) -> None:
    """Each through a cache and a space of its own, as two processes would have them."""
    gate = Gate()

    @task(cache_policy=CachePolicy(ttl=60))
    async def shout(text: str) -> str:
        await gate.then(None)()
        return text.upper()

    def workflow(cache: MemGangCache[Any]) -> Any:
        @entrypoint(cache=cache)
        async def flow(text: str) -> str:
            return await shout(text)

        return flow

    async with opened() as other:
        both = [asyncio.create_task(workflow(MemGangCache(one)).ainvoke("hey")) for one in (space, other)]
        await gate.reached()
        await until(lambda: waits(space))
        gate.open()
        assert await asyncio.wait_for(asyncio.gather(*both), 60) == ["HEY", "HEY"] and gate.runs == 1


async def waits(space: memgang.Space) -> bool:
    """Whether somebody waits for another's claim."""
    await space.flush()
    return "waits" in await raws(space)


async def test_a_node_that_calls_tasks_adds_what_it_says_once(space: memgang.Space) -> None:
    """LangGraph would take its writes from the node and from the cache too, if it were given both."""
    cache: MemGangCache[Any] = MemGangCache(space, wait_s=600)

    @task(cache_policy=CachePolicy(ttl=60))
    async def inner(x: str) -> str:
        return x.upper()

    async def node(state: State) -> dict[str, Any]:
        return {"said": [await inner(state["question"])]}

    graph = graph_of(node, cache)
    answers = await asyncio.wait_for(asyncio.gather(*(graph.ainvoke(asked("q")) for _ in range(4))), 60)
    assert [answer["said"] for answer in answers] == [["Q"]] * 4


ASKER = """
import asyncio, sys, memgang
from pathlib import Path
from tests.adapters.test_langgraph_cache import State, asked, graph_of
from memgang.adapters.langgraph import MemGangCache

async def node(state):
    with open(sys.argv[2], "a") as runs:
        runs.write("run\\n")
    await asyncio.sleep(0.5)  # as long as a quick model takes
    return {"said": ["answer"]}

async def main():
    async with memgang.open(space=sys.argv[1]) as space:
        graph = graph_of(node, MemGangCache(space))
        answers = await asyncio.gather(*(graph.ainvoke(asked("q")) for _ in range(4)))
        assert [answer["said"] for answer in answers] == [["answer"]] * 4

asyncio.run(main())
"""


async def test_graphs_of_several_processes_compute_it_once(space: memgang.Space, space_name: str, tmp_path: Path) -> None:
    """Three processes with four graphs each: one run of the node."""
    command = [sys.executable, "-c", ASKER, space_name, str(tmp_path / "runs")]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [await asyncio.to_thread(process.wait, 120) for process in processes] == [0, 0, 0]

    assert (tmp_path / "runs").read_text() == "run\n"


CRASHER = """
import asyncio, sys, memgang
from memgang.adapters.langgraph import MemGangCache

async def main():
    async with memgang.open(space=sys.argv[1], lease_ms=1000, beat_ms=250) as space:
        assert await MemGangCache(space).aget([(("n",), "k")]) == {}
        print("leads", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_leader_whose_process_dies_holds_nobody_up(space: memgang.Space, space_name: str) -> None:
    """It is killed with its claim: the next one leads, long before anybody would stop waiting."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASHER, space_name, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None and await process.stdout.readline() == b"leads\n"
    cache: MemGangCache[Any] = MemGangCache(space, wait_s=600)
    looking = asyncio.create_task(cache.aget([(("n",), "k")]))
    await asyncio.sleep(0.1)
    assert not looking.done()
    process.kill()

    assert await asyncio.wait_for(looking, 60) == {}
    await process.wait()
    await cache.aset({(("n",), "k"): ("mine", None)})
    assert await cache.aget([(("n",), "k")]) == {(("n",), "k"): "mine"}


# ── what cannot be kept ───────────────────────────────────────────────────────────────────────────


async def test_a_value_that_finds_no_room_is_lost_without_an_error(space: memgang.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph has its answer; those who waited compute it themselves."""
    async def full(*args: Any, **kwargs: Any) -> Any:
        raise StoreFull("the space", 10, 10)

    monkeypatch.setattr(space.store.objects, "put_then", full)
    runs = []

    async def node(state: State) -> dict[str, Any]:
        runs.append(1)
        return {"said": ["fine"]}

    graph = graph_of(node, MemGangCache(space))
    answers = await asyncio.gather(*(graph.ainvoke(asked("q")) for _ in range(3)))
    assert [answer["said"] for answer in answers] == [["fine"]] * 3 and len(runs) == 3
