"""Eight runs of a pydantic-ai agent ask the same at once; the model is called once. No key is needed: the model is made up.

    pip install 'memgang[pydantic-ai]'
    python examples/pydantic_ai_shared.py

Run it twice: the second time nothing is computed. `memgang stats --space example` shows what was saved.
"""

import asyncio
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

import memgang
from memgang.adapters.pydantic_ai import MemGangModel

calls = []


async def made_up(messages: list[Any], info: Any) -> ModelResponse:
    """Takes half a second for an answer, as a hosted model might. Put "openai-chat:gpt-5-mini" below for a real one."""
    calls.append(messages)
    await asyncio.sleep(0.5)
    return ModelResponse(parts=[TextPart("Because it was asked.")])


async def main() -> None:
    async with memgang.open(space="example") as space:
        agent = Agent(MemGangModel(FunctionModel(made_up), space), instructions="Answer in one sentence.")
        results = await asyncio.gather(*(agent.run("Why?") for _ in range(8)))
        print(f"{len(results)} answers: {results[0].output}")
        print(f"calls of the model: {len(calls)}")


asyncio.run(main())
