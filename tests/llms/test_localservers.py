"""Shorthands for the servers people run on their own machine; the one that is asked is llama.cpp's own."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.llms.test_openai import Server

from memgang import llms
from memgang.errors import ConfigError, ModelError
from memgang.llms.localservers import KINDS
from memgang.model import Completion, Prompt
from memgang.settings import PRICES, Settings

pytest.importorskip("openai")
PROMPT = Prompt(instruction="Name the doors.")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that remembers what it was asked."""
    told = Server()
    listening = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.port = listening.sockets[0].getsockname()[1]
    yield told
    told.gone.set()
    listening.close()


def test_each_kind_has_the_address_its_server_listens_on() -> None:
    """Unless told otherwise: of this machine, and the name as it was typed, tags and all."""
    ports = {kind: int(one.url.split(":")[2].partition("/")[0]) for kind, one in KINDS.items()}

    assert ports == {"ollama": 11434, "vllm": 8000, "lmstudio": 1234, "llama_server": 8080}
    assert tuple(KINDS) == llms.LOCAL and all(one.url.startswith("http://127.0.0.1:") for one in KINDS.values())
    for kind in KINDS:
        model = llms.load(f"{kind}:qwen/qwen3:4b?seed=7", Settings())
        assert (model.name, model.parameters) == (f"{kind}:qwen/qwen3:4b", {"seed": 7, "temperature": 0})
        assert llms.price(Completion(text="", tokens_in=10**6, tokens_out=10**6), PRICES[model.price_name]) == 0


async def test_the_providers_key_and_address_stay_out_of_it(server: Server) -> None:
    """Both are set, for OpenAI's own; the local server is asked where it is, without the key."""
    settings = Settings(openai_api_key="sk-secret", openai_base_url="http://127.0.0.1:9/v1",
                        local_servers=f"vllm=http://h:1/v1 ollama=http://127.0.0.1:{server.port}/v1/")
    model = llms.load("ollama:qwen3:4b", settings)
    answer = await model.complete(PROMPT)
    await model.aclose()

    (path, headers, body), = server.asked
    assert answer.text and path == "/v1/chat/completions" and body["model"] == "qwen3:4b"
    assert "sk-secret" not in str(headers)


@pytest.mark.parametrize(("kind", "command"), [
    ("ollama", "ollama pull qwen3:4b"), ("vllm", "vllm serve qwen3:4b"), ("lmstudio", "lms server start"),
    ("llama_server", "llama-server --model qwen3:4b.gguf"),
])
async def test_where_nothing_listens_the_error_says_how_to_start_it(kind: str, command: str) -> None:
    """Plain and streamed; it may be there in a moment, so the call is not remembered as failed."""
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        model = llms.load(f"{kind}:qwen3:4b", Settings(local_servers=f"{kind}={url}"))
        with pytest.raises(ModelError) as plain:
            await model.complete(PROMPT)
        with pytest.raises(ModelError) as streamed:
            [piece async for piece in model.stream(PROMPT)]  # type: ignore[attr-defined]
        await model.aclose()

    for told in (plain.value, streamed.value):
        assert told.kind == "transient" and url in told.message and command in told.message
        assert f"MEMGANG_LOCAL_SERVERS={kind}=" in told.message


@pytest.mark.parametrize("text", ["ollama", "olama=http://h/v1", "ollama=h:11434", "ollama=http://user:pw@h/v1", "vllm=http://h:99999/v1"])
def test_an_address_that_is_none_is_told_without_its_password(text: str) -> None:
    """When the model is named."""
    with pytest.raises(ConfigError, match="MEMGANG_LOCAL_SERVERS") as told:
        llms.load("ollama:m", Settings(local_servers=text))
    assert "pw" not in str(told.value)


@pytest.mark.parametrize("name", ["ollama:", "vllm", "lmstudio: ", "ollama:?seed=1"])
def test_a_kind_without_a_model_is_told(name: str) -> None:
    """It is no name of a model."""
    with pytest.raises(ConfigError, match="ollama:<model>|name of a model is missing"):
        llms.load(name, Settings())


async def test_a_real_server_answers_a_shorthand(tmp_path: Path) -> None:
    """llama.cpp's own, plain and streamed, with the tokens it has counted."""
    pytest.importorskip("xllamacpp", reason="the extra [llama-cpp] is not installed")
    pytest.importorskip("gguf", reason="gguf, with which the tests write their model, is not installed")
    from tests.llms import llama_server, tiny_model

    with llama_server.served(tiny_model.write(tmp_path / "tiny.gguf")) as here:
        model = llms.load("llama_server:tiny?max_tokens=8", Settings(local_servers=f"llama_server={here.url}"))
        plain = await model.complete(PROMPT)
        *pieces, streamed = [piece async for piece in model.stream(PROMPT)]  # type: ignore[attr-defined]
        await model.aclose()

    assert plain.text == streamed.text == "".join(pieces)
    assert plain.tokens_out == 8 and plain.tokens_in == streamed.tokens_in > 0 and not plain.estimated


def test_the_server_of_the_page_runs_as_written(tmp_path: Path) -> None:
    """docs/local-models.md, with a model and a port of the test's."""
    pytest.importorskip("xllamacpp", reason="the extra [llama-cpp] is not installed")
    pytest.importorskip("gguf", reason="gguf, with which the tests write their model, is not installed")
    from tests.llms import tiny_model

    page = (Path(__file__).parents[2] / "docs" / "local-models.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    model = tiny_model.write(tmp_path / "tiny.gguf")
    code, models = re.subn(r'"models/[^"]+"', repr(str(model)), code)
    code, ports = re.subn(r"32768, 4, 8080", "512, 1, 0", code)
    done = subprocess.run([sys.executable, "-c", code], input="\n", capture_output=True, text=True, timeout=120)

    assert (models, ports) == (1, 1)
    assert done.returncode == 0 and "http://127.0.0.1:" in done.stdout, done.stderr


def test_every_kind_is_on_the_page_with_its_command() -> None:
    """And the README leads there."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "local-models.md").read_text("utf-8")

    for kind, one in KINDS.items():
        assert f"--llm {kind}:" in page and one.start.split(" {", 1)[0].split(",")[0] in page
        assert one.url.removeprefix("http://").removesuffix("/v1") in page
    assert "docs/local-models.md" in (root / "README.md").read_text("utf-8")
