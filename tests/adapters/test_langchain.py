"""LangChain's models ask once for all: its own cache interface, with its own chat models, on a real server."""

from __future__ import annotations

import asyncio
import operator
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langchain_core.caches", reason="LangChain is not installed: pip install 'memgang[langchain]'")

from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.outputs import Generation

import memgang
from memgang.adapters.langchain import MemGangLLMCache, _call
from memgang.savings import fold
from tests.adapters.models import CountedModel
from tests.gates import Gate, raws, until


@pytest.fixture(autouse=True)
def no_cache_is_left() -> Iterator[None]:
    """LangChain has one cache for the process."""
    before = get_llm_cache()
    yield
    set_llm_cache(before)


async def waiting(space: memgang.Space) -> None:
    """Until somebody waits for another's answer."""
    async def so() -> bool:
        await space.flush()
        return "waits" in await raws(space)

    await until(so)


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_comes_back_as_the_model_gave_it(space: memgang.Space) -> None:
    """Text, tool calls, details and usage; for another model, or another question, there is none."""
    model = CountedModel(cache=MemGangLLMCache(space))
    first, second = await model.ainvoke("hello"), await model.ainvoke("hello")
    await model.ainvoke("other")
    await CountedModel(model="other", cache=MemGangLLMCache(space)).ainvoke("hello")

    assert model.calls == ["hello", "other"]
    assert second.content == first.content == "HELLO" and second.tool_calls == first.tool_calls
    assert second.response_metadata == first.response_metadata
    assert second.usage_metadata is not None and first.usage_metadata is not None
    assert second.usage_metadata["input_tokens"] == first.usage_metadata["input_tokens"] == 1_000


async def test_the_interface_of_the_cache_holds(space: memgang.Space) -> None:
    """None where nothing is kept, a list where something is; the newest update counts; clear forgets all, and only its own."""
    cache, mine = MemGangLLMCache(space), await space.put("mine")
    assert await cache.alookup("p", "m") is None
    await cache.aupdate("p", "m", [Generation(text="a"), Generation(text="b", generation_info={"n": 1})])
    assert await cache.alookup("p", "m") == [Generation(text="a"), Generation(text="b", generation_info={"n": 1})]
    await cache.aupdate("p", "m", [Generation(text="c")])
    assert await cache.alookup("p", "m") == [Generation(text="c")] and await cache.alookup("p", "m2") is None
    await cache.aclear()
    assert await cache.alookup("p", "m") is None and await space.get(mine) == "mine"


def test_models_that_block_and_models_of_text_share_too(blocking: memgang.BlockingSpace) -> None:
    """`set_llm_cache` for the process; `invoke` and `batch`, chat models and text models."""
    set_llm_cache(MemGangLLMCache(blocking))
    chat, text = CountedModel(), FakeListLLM(responses=["one", "two"])
    assert [chat.invoke("a").content for _ in range(3)] == ["A"] * 3 and chat.calls == ["a"]
    assert [answer.content for answer in chat.batch(["b", "b", "c", "b"])] == ["B", "B", "C", "B"]
    assert sorted(chat.calls) == ["a", "b", "c"]
    assert text.invoke("x") == text.invoke("x") == "one"
    get_llm_cache().clear()  # type: ignore[union-attr]
    assert chat.invoke("a").content == "A" and len(chat.calls) == 4


async def test_an_answer_that_would_not_come_back_is_not_kept_and_holds_nobody_up(space: memgang.Space) -> None:
    """A provider's own object among the details: who asked has it, and the next one asks."""
    model = CountedModel(cache=MemGangLLMCache(space, wait_s=600), details={"raw": object()})
    assert [(await asyncio.wait_for(asyncio.create_task(model.ainvoke("q")), 60)).content for _ in range(2)] == ["Q", "Q"]
    assert model.calls == ["q", "q"]


async def test_what_is_no_answer_is_never_made_into_one(space: memgang.Space) -> None:
    """Bytes under the key that are no answer of a model count as nothing."""
    cache = MemGangLLMCache(space)
    for body in (b"", b"[1]", b'{"lc": 1}', b'[{"text": "x", "info": null, "message": {"type": "system", "data": {"content": "x"}}}]'):
        await cache._looks.asettle(_call("p", "m"), body)
        assert await cache.alookup("p", "m") is None


# ── one asks ──────────────────────────────────────────────────────────────────────────────────────


async def test_those_who_ask_the_same_at_once_ask_the_model_once(space: memgang.Space, opened: Any) -> None:
    """Sixteen tasks over two spaces of their own, as two processes would have them."""
    async with opened() as other:
        models = [CountedModel(cache=MemGangLLMCache(one), gated=True) for one in (space, other)]
        asking = [asyncio.create_task(models[0].ainvoke("q")) for _ in range(8)]
        await models[0].reached()
        asking += [asyncio.create_task(models[1].ainvoke("q")) for _ in range(8)]
        await waiting(other)
        models[0].open()
        answers = await asyncio.wait_for(asyncio.gather(*asking), 60)

    assert [answer.content for answer in answers] == ["Q"] * 16 and models[0].calls == ["q"] and models[1].calls == []


def test_threads_that_ask_the_same_at_once_ask_the_model_once(blocking: memgang.BlockingSpace) -> None:
    """Eight threads, each in a blocking lookup until the first has its answer."""
    model = CountedModel(cache=MemGangLLMCache(blocking))
    answers: list[Any] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        answers.append(model.invoke("q").content)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == ["Q"] * 8 and model.calls == ["q"]


async def test_a_model_that_fails_lets_the_next_one_ask(space: memgang.Space) -> None:
    """The error is the caller's own; one of those who waited asks, long before the time to wait has passed."""
    model = CountedModel(cache=MemGangLLMCache(space, wait_s=600), fails=1, gated=True)
    first = asyncio.create_task(model.ainvoke("q"))
    await model.reached()
    others = [asyncio.create_task(model.ainvoke("q")) for _ in range(4)]
    model.open()

    with pytest.raises(RuntimeError, match="out"):
        await first
    answers = await asyncio.wait_for(asyncio.gather(*others), 60)
    assert [answer.content for answer in answers] == ["Q"] * 4 and model.calls == ["q", "q"]


async def test_a_retry_does_not_wait_for_the_attempt_before(space: memgang.Space) -> None:
    """LangChain's own retries look up again: they lead on."""
    model = CountedModel(cache=MemGangLLMCache(space, wait_s=600), fails=2)
    retrying = model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)

    assert (await asyncio.wait_for(retrying.ainvoke("q"), 60)).content == "Q" and len(model.calls) == 3


def test_a_retry_that_blocks_does_not_wait_for_the_attempt_before(blocking: memgang.BlockingSpace) -> None:
    """The same thread asks again; and when it asks something else, others may have what it had claimed."""
    model = CountedModel(cache=MemGangLLMCache(blocking, wait_s=600), fails=3)
    assert model.with_retry(stop_after_attempt=4, wait_exponential_jitter=False).invoke("q").content == "Q"
    failing = CountedModel(cache=model.cache, fails=1)
    with pytest.raises(RuntimeError):
        failing.invoke("r")
    failing.invoke("s")
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(model.invoke("r").content))
    thread.start()
    thread.join(60)
    assert answers == ["R"]


CRASHER = """
import sys, memgang
from memgang.adapters.langchain import MemGangLLMCache
with memgang.connect(space=sys.argv[1], lease_ms=1000, beat_ms=250) as space:
    assert MemGangLLMCache(space).lookup("p", "m") is None
    print("leads", flush=True)
    sys.stdin.read()
"""


async def test_a_leader_whose_process_dies_holds_nobody_up(space: memgang.Space, space_name: str) -> None:
    """It is killed with its claim: the lookup that waits for it leads, long before it would stop waiting."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASHER, space_name, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None and await process.stdout.readline() == b"leads\n"
    looking = asyncio.create_task(MemGangLLMCache(space, wait_s=600).alookup("p", "m"))
    await waiting(space)
    assert not looking.done()
    process.kill()

    assert await asyncio.wait_for(looking, 60) is None
    await process.wait()


# ── a graph, and what it saved ────────────────────────────────────────────────────────────────────


class State(TypedDict):
    """A question, and what all nodes said."""

    question: str
    said: Annotated[list[str], operator.add]


async def test_a_graph_with_eight_parallel_nodes_that_ask_the_same_calls_the_model_once(space: memgang.Space) -> None:
    """Eight nodes of their own, and eight times one node: one call, and the log knows what was saved."""
    pytest.importorskip("langgraph.graph", reason="LangGraph is not installed: pip install 'memgang[langgraph]'")
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    model, gate = CountedModel(cache=MemGangLLMCache(space), gated=True), Gate()

    async def node(state: State) -> dict[str, Any]:
        gate.runs += 1
        return {"said": [(await model.ainvoke(state["question"])).content]}

    different = StateGraph(State)
    for number in range(8):
        different.add_node(f"n{number}", node).add_edge(START, f"n{number}").add_edge(f"n{number}", END)
    fanned = (StateGraph(State).add_node("n", node).add_edge("n", END)
              .add_conditional_edges(START, lambda state: [Send("n", {"question": state["question"]})] * 8, ["n"]))
    running = [asyncio.create_task(graph.compile().ainvoke({"question": "why?", "said": []})) for graph in (different, fanned)]
    await model.reached()
    await until(lambda: all_run(gate, 16))
    model.open()
    answers = await asyncio.wait_for(asyncio.gather(*running), 60)

    assert [answer["said"] for answer in answers] == [["WHY?"] * 8] * 2 and model.calls == ["why?"]
    await space.flush()
    savings = fold([event async for event in space.events()])
    savings.check()
    assert (savings.physical.tokens_in, savings.physical.tokens_out, savings.physical.tokens_cached) == (1_000, 100, 400)
    assert savings.avoided_total.tokens_in == 15 * 1_000 and savings.physical.micro_usd > 0


async def all_run(gate: Gate, count: int) -> bool:
    return gate.runs == count
