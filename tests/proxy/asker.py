"""A process of agents: the sync client in threads, half of them streaming. Waits for a line, then all ask at once.

    python -m tests.proxy.asker COUNT URL...      prints a JSON line for each answer: how, text, tokens, id
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import openai

ASK = {"model": "m", "messages": [{"role": "user", "content": "all at once"}], "temperature": 0}


def main() -> None:
    count, urls = int(sys.argv[1]), sys.argv[2:]
    clients = [openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) for url in urls]
    all_here = threading.Barrier(count)

    def ask(number: int) -> str:
        create = clients[number % len(clients)].chat.completions.with_raw_response.create
        all_here.wait()
        if number % 4 < 2:
            raw = create(**ASK)
            plain = raw.parse()
            text, tokens, ident = plain.choices[0].message.content, plain.usage.total_tokens, plain.id
        else:
            raw = create(**ASK, stream=True, stream_options={"include_usage": True})
            chunks = list(raw.parse())
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            tokens, ident = chunks[-1].usage.total_tokens, chunks[0].id
        return json.dumps([raw.headers["x-memgang-cache"], text, tokens, ident])

    with ThreadPoolExecutor(count) as pool:
        print("ready", flush=True)
        sys.stdin.readline()
        for line in pool.map(ask, range(count)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
