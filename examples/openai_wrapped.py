"""Sixteen agents ask the same with the OpenAI SDK; one request is sent. No key is needed: the provider is made up.

    pip install 'memgang[openai]'
    python examples/openai_wrapped.py

Run it twice: the second time nothing is sent at all. `memgang stats --space example` shows what was saved.
"""

import asyncio

import httpx2
import openai

import memgang

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
    async with memgang.open(space="example") as space:
        made_up = openai.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(provider))
        client = memgang.wrap(openai.AsyncOpenAI(api_key="no key", http_client=made_up), space)

        async def agent() -> str:
            answer = await client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Why?"}])
            return answer.choices[0].message.content or ""

        answers = await asyncio.gather(*(agent() for _ in range(16)))
        print(f"{len(answers)} answers, {'all the same' if len(set(answers)) == 1 else 'not the same'}: {answers[0]}")
        print(f"sent to the provider: {len(sent)}")
        await client.close()


asyncio.run(main())
