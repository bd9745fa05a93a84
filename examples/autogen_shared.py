"""Eight agents of AutoGen ask the same at once; the model is called once. No key is needed: the model is made up.

    pip install 'memgang[autogen]' autogen-agentchat autogen-ext
    python examples/autogen_shared.py

Run it twice: the second time nothing is computed. `memgang stats --space example` shows what was saved.
"""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.replay import ReplayChatCompletionClient

import memgang
from memgang.adapters.autogen import MemGangClient


async def main() -> None:
    # It has one answer, so a second call would fail. Put OpenAIChatCompletionClient(model="gpt-5-mini") here for a real one.
    made_up = ReplayChatCompletionClient(["Because it was asked."])
    async with memgang.open(space="example") as space:
        agents = [AssistantAgent(f"reviewer_{number}", model_client=MemGangClient(made_up, space)) for number in range(8)]
        results = await asyncio.gather(*(agent.run(task="Why?") for agent in agents))
        print(f"{len(results)} answers: {results[0].messages[-1].content}")
        print(f"calls of the model: {len(made_up.create_calls)}")


asyncio.run(main())
