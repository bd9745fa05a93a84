"""The proxy in front of llama.cpp's own server, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xllamacpp", reason="the extra [llama-cpp] is not installed")
pytest.importorskip("gguf", reason="gguf, with which the tests write their model, is not installed")
from memgang.doors.proxy.upstream import read_upstreams
from memgang.errors import ConfigError
from tests.llms import llama_server, tiny_model

ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Name the doors."}], "temperature": 0, "max_tokens": 20}


async def test_many_ask_a_local_model_and_it_computes_once(proxied: Callable[..., Any], tmp_path: Path) -> None:
    """Plain and streamed at once are given one answer; by the server's own count it wrote that one, and the ledger says so too."""
    async def streamed(client: Any) -> str:
        chunks = [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True)]
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    with llama_server.served(tiny_model.write(tmp_path / "tiny.gguf")) as here:
        async with proxied(named=(here.url,)) as proxy:
            plain = [proxy.client.chat.completions.create(**ASK) for _ in range(5)]
            whole, texts = await asyncio.gather(asyncio.gather(*plain), asyncio.gather(*(streamed(proxy.client) for _ in range(5))))
            again = await proxy.client.chat.completions.with_raw_response.create(**ASK)
            written = here.written
            spent = sum([event.own.tokens_out async for event in proxy.space.events()])

    assert {answer.choices[0].message.content for answer in whole} == set(texts) and len(set(texts)) == 1
    assert again.headers["x-memgang-cache"] == "hit"
    assert written == 20 == whole[0].usage.completion_tokens == spent


def test_a_local_server_is_an_upstream_by_its_name() -> None:
    """Alone or for a prefix, at its usual place or where the settings say; it is not sent the provider's key."""
    alone, = read_upstreams(["ollama:"], "", "sk-provider")
    both = read_upstreams(["https://api.openai.com/v1", "local/=vllm:"], "", "sk-provider", "vllm=http://gpu:8000/v1")

    assert (alone.url, alone.prefix, alone.key) == ("http://127.0.0.1:11434/v1", "", "")
    assert [(one.url, one.prefix, one.key) for one in both] == [
        ("https://api.openai.com/v1", "", "sk-provider"), ("http://gpu:8000/v1", "local/", "")]
    with pytest.raises(ConfigError, match=r"one of ollama:, vllm:, lmstudio:, llama_server:"):
        read_upstreams(["olama:"], "", "")
