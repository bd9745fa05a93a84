"""Eight parallel nodes of a LangGraph graph ask the same; the model is called once. No key is needed: the model is made up.

    pip install 'memgang[langgraph,langchain]'
    python examples/langgraph_shared.py

Run it twice: the second time nothing is computed, and the store remembers the first. `memgang stats --space example` shows
what was saved.
"""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.globals import set_llm_cache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import CachePolicy

import memgang
from memgang.adapters.langchain import MemGangLLMCache
from memgang.adapters.langgraph import MemGangCache, MemGangStore

calls = []


class MadeUpModel(BaseChatModel):
    """Takes half a second for an answer, as a hosted one might. Put ChatOpenAI here for a real one."""

    @property
    def _llm_type(self) -> str:
        return "made-up"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("this example only awaits")

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        calls.append(messages[-1].content)
        await asyncio.sleep(0.5)
        usage = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Because it was asked.", usage_metadata=usage))])


class State(TypedDict):
    question: str
    answers: Annotated[list[str], operator.add]


model = MadeUpModel()


async def reviewer(state: State, *, store: BaseStore) -> dict[str, Any]:
    answer = await model.ainvoke(state["question"])
    await store.aput(("reviews",), state["question"], {"answer": answer.content})
    return {"answers": [str(answer.content)]}


async def summary(state: State) -> dict[str, Any]:
    print("  the summary is computed")
    return {"answers": [f"{len(state['answers'])} reviewers agree."]}


async def main() -> None:
    async with memgang.open(space="example", agent="reviewers") as space:
        set_llm_cache(MemGangLLMCache(space))
        builder = StateGraph(State).add_node("summary", summary, cache_policy=CachePolicy(ttl=3600)).add_edge("summary", END)
        for number in range(8):
            builder.add_node(f"reviewer-{number}", reviewer).add_edge(START, f"reviewer-{number}")
            builder.add_edge(f"reviewer-{number}", "summary")
        store = MemGangStore(space)
        graph = builder.compile(store=store, cache=MemGangCache(space))

        print(f"remembered before: {[item.key for item in await store.asearch(('reviews',))]}")
        result = await graph.ainvoke({"question": "Why?", "answers": []})
        print(f"{len(result['answers']) - 1} answers and {result['answers'][-1]!r}")
        print(f"calls of the model: {len(calls)}")


asyncio.run(main())
