"""Eight runs of a Microsoft Agent Framework agent ask the same at once; the model is called once. No key is needed: it is made up.

    pip install 'memgang[agent-framework]' agent-framework-openai
    python examples/agent_framework_shared.py

Run it twice: the second time nothing is sent at all. `memgang stats --space example` shows what was saved.
"""

import asyncio

import httpx2
import openai
from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

import memgang
from memgang.adapters.agent_framework import MemGangMiddleware

sent = []


async def provider(request: httpx2.Request) -> httpx2.Response:
    """Stands for the network. Leave `async_client=` out for the real one."""
    sent.append(request.url.path)
    await asyncio.sleep(0.5)
    return httpx2.Response(200, json={
        "id": "chat-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Because it was asked."}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}})


async def main() -> None:
    made_up = openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(provider))
    async with memgang.open(space="example") as space, openai.AsyncOpenAI(api_key="no key", http_client=made_up) as sdk:
        client = OpenAIChatCompletionClient(model="gpt-5-mini", async_client=sdk)
        agent = Agent(client=client, instructions="Answer in one sentence.", middleware=[MemGangMiddleware(space)])
        results = await asyncio.gather(*(agent.run("Why?") for _ in range(8)))
        print(f"{len(results)} answers: {results[0].text}")
        print(f"calls of the model: {len(sent)}")


asyncio.run(main())
