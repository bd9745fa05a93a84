"""A process of agents: the official client, sync in threads or async in one loop, half of them streaming.

    python -m tests.proxy.asker threads|loop COUNT URL...      reads lines: chat | tools | responses | responses-tools; at each all ask it
                                                               at once, and print a JSON line for each answer: how, answer, tokens, id
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

TOOL: dict[str, Any] = {"name": "add", "parameters": {"type": "object", "properties": {}}}
ASKS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "all at once"}]},
    "tools": {"messages": [{"role": "user", "content": "all at once"}], "tools": [{"type": "function", "function": TOOL}]},
    "responses": {"input": "all at once"},
    "responses-tools": {"input": "all at once", "tools": [{"type": "function", "strict": False, **TOOL}]}}


def chat_plain(answer: Any) -> list[Any]:
    """What a chat completion says: text and tool calls, tokens, id."""
    message = answer.choices[0].message
    calls = [[c.id, c.function.name, c.function.arguments] for c in message.tool_calls or []]
    return [[message.content or "", calls], answer.usage.total_tokens, answer.id]


def chat_streamed(chunks: list[Any]) -> list[Any]:
    """The same, from its chunks."""
    text, calls = "", list[list[str]]()
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                if call.index == len(calls):
                    calls.append([call.id, call.function.name, ""])
                calls[call.index][2] += call.function.arguments or ""
    return [[text, calls], chunks[-1].usage.total_tokens, chunks[0].id]


def response(answer: Any) -> list[Any]:
    """What a response says."""
    calls = [[item.call_id, item.name, item.arguments] for item in answer.output if item.type == "function_call"]
    return [[answer.output_text, calls], answer.usage.total_tokens, answer.id]


def asking(client: Any, kind: str, streams: bool) -> Any:
    """What the client asks, with its headers, and what reads its answer: whole, or as a list of events."""
    ask = {"model": "m", "temperature": 0, **ASKS[kind]}
    if kind.startswith("responses"):
        return client.responses.with_raw_response.create(**ask, stream=streams), (
            (lambda events: response(events[-1].response)) if streams else response)
    more = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
    return client.chat.completions.with_raw_response.create(**ask, **more), chat_streamed if streams else chat_plain


def in_threads(count: int, urls: list[str]) -> None:
    """The sync client, a thread for each ask."""
    clients = [openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) for url in urls]
    all_here = threading.Barrier(count)

    def ask(kind: str, number: int) -> str:
        all_here.wait()
        streams = number % 4 >= 2
        raw, read = asking(clients[number % len(clients)], kind, streams)
        parsed = raw.parse()
        return json.dumps([raw.headers["x-memgang-cache"], *read(list(parsed) if streams else parsed)])

    with ThreadPoolExecutor(count) as pool:
        print("ready", flush=True)
        for kind in sys.stdin:
            for line in pool.map(ask, [kind.strip()] * count, range(count)):
                print(line, flush=True)


async def in_loop(count: int, urls: list[str]) -> None:
    """The async client, a task for each ask."""
    clients = [openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) for url in urls]

    async def ask(kind: str, number: int) -> str:
        streams = number % 4 >= 2
        asked, read = asking(clients[number % len(clients)], kind, streams)
        raw = await asked
        parsed = raw.parse()
        return json.dumps([raw.headers["x-memgang-cache"], *read([e async for e in parsed] if streams else parsed)])

    print("ready", flush=True)
    while kind := (await asyncio.to_thread(sys.stdin.readline)).strip():
        for line in await asyncio.gather(*(ask(kind, number) for number in range(count))):
            print(line, flush=True)


def main() -> None:
    how, count, urls = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    if how == "threads":
        in_threads(count, urls)
    else:
        asyncio.run(in_loop(count, urls))


if __name__ == "__main__":
    main()
