"""Eight agents of the OpenAI Agents SDK ask the same at once; the model is called once. No key is needed: the provider is made up.

    pip install 'memgang[agents]'
    python examples/agents_sdk_shared.py

Run it twice: the second time nothing is sent at all. `memgang stats --space example` shows what was saved.
"""

import asyncio

import httpx2
import openai
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner

import memgang
from memgang.adapters.agents import MemGangModel

sent = []


async def provider(request: httpx2.Request) -> httpx2.Response:
    """Stands for the network. Leave `http_client=` out for the real one."""
    sent.append(request.url.path)
    await asyncio.sleep(0.5)
    return httpx2.Response(200, json={
        "id": "chat-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Because it was asked."}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}})


async def main() -> None:
    made_up = openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(provider))
    async with memgang.open(space="example") as space, openai.AsyncOpenAI(api_key="no key", http_client=made_up) as client:
        model = MemGangModel(OpenAIChatCompletionsModel("gpt-5-mini", client), space)
        agent = Agent(name="reviewer", instructions="Answer in one sentence.", model=model)
        quiet = RunConfig(tracing_disabled=True)
        results = await asyncio.gather(*(Runner.run(agent, "Why?", run_config=quiet) for _ in range(8)))
        print(f"{len(results)} answers: {results[0].final_output}")
        print(f"tokens of each: {results[-1].context_wrapper.usage.total_tokens}")
        print(f"calls of the model: {len(sent)}")


asyncio.run(main())
