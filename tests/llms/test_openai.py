"""The OpenAI leaf against a real HTTP server on this machine, through the real SDK."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from memgang import llms
from memgang.errors import ConfigError, ModelError
from memgang.llms.openai import OpenAI, retry_after_s
from memgang.model import Prompt
from memgang.settings import Settings

pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"
PROMPT = Prompt(instruction="Answer.", passages=("One.", "Two."), question="Which?", words=30, system="Be brief.")


def done(
    text: str | None = "One. [1]", usage: dict[str, Any] | None = None, finish: str | None = "stop"
) -> dict[str, Any]:
    """The body of a chat completion."""
    body: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }
    return body | ({"usage": usage} if usage else {})


def refused(code: str | None, message: str = "no") -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": "error", "code": code}}


@dataclass
class Server:
    """A chat server that answers what it is told to and remembers what it was asked."""

    status: int = 200
    body: Any = field(default_factory=done)
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    port: int = 0
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
            content = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.asked.append((first.split()[1], headers, content))
            if self.silent:
                await self.gone.wait()
                return
            body = self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()
            told = {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
            } | self.headers
            lines = [f"HTTP/1.1 {self.status} X", *(f"{k}: {v}" for k, v in told.items())]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()
        finally:
            writer.close()

    def model(self, name: str = "openai:test-model", timeout_s: float = 30.0, key: str | None = KEY) -> Any:
        """The leaf under test, loaded as a user would."""
        return llms.load(
            name,
            Settings(
                openai_base_url=f"http://127.0.0.1:{self.port}/some/v1", openai_api_key=key, llm_timeout_s=timeout_s
            ),
        )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port."""
    told = Server()
    listening = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.port = listening.sockets[0].getsockname()[1]
    yield told
    told.gone.set()
    listening.close()


async def fails(model: Any) -> ModelError:
    """The error of one call."""
    with pytest.raises(ModelError) as caught:
        await model.complete(PROMPT)
    await model.aclose()
    return caught.value


async def test_an_answer_brings_the_usage_the_server_reported(server: Server) -> None:
    """Tokens in, out and from the cache are the server's, and the request holds the prompt in order."""
    server.body = done(
        usage={
            "prompt_tokens": 90,
            "completion_tokens": 7,
            "total_tokens": 97,
            "prompt_tokens_details": {"cached_tokens": 64},
        }
    )
    model = server.model()
    answer = await model.complete(PROMPT)
    await model.aclose()
    assert (answer.text, answer.finish) == ("One. [1]", "stop")
    assert (answer.tokens_in, answer.tokens_out, answer.tokens_cached, answer.estimated) == (90, 7, 64, False)
    path, headers, body = server.asked[0]
    assert path == "/some/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("test-model", 0)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    order = [
        user["content"].index(piece) for piece in ("Answer.", "[1] One.", "[2] Two.", "Question: Which?", "30 words")
    ]
    assert order == sorted(order)


async def test_a_server_without_usage_is_estimated_and_marked(server: Server) -> None:
    """Local servers often report nothing; they need no key either."""
    model = server.model(key=None)
    answer = await model.complete(PROMPT)
    await model.aclose()
    assert answer.estimated
    assert answer.tokens_in > 0
    assert answer.tokens_out == 2


async def test_parameters_follow_the_name(server: Server) -> None:
    """They go into the request and the call key; models that refuse a temperature are sent none."""
    model = server.model("openai:gpt-5-mini?reasoning_effort=low&seed=7")
    await model.complete(PROMPT)
    await model.aclose()
    assert model.parameters == {"reasoning_effort": "low", "seed": 7}
    assert model.price_name == "gpt-5-mini"
    assert "temperature" not in server.asked[0][2]
    assert server.asked[0][2]["seed"] == 7
    with pytest.raises(ConfigError, match="stream"):
        server.model("openai:x?stream=true")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, "permanent"),
        (404, "model_not_found", "permanent"),
        (422, None, "permanent"),
        (401, "invalid_api_key", "caller"),
        (403, None, "caller"),
        (429, "insufficient_quota", "caller"),
        (429, "rate_limit_exceeded", "transient"),
        (408, None, "transient"),
        (409, None, "transient"),
        (500, None, "transient"),
        (503, None, "transient"),
    ],
)
async def test_refusals_are_told_apart(server: Server, status: int, code: str | None, kind: str) -> None:
    """Permanent is for all, caller for this key alone, transient for later; one request each, no silent retries."""
    server.status, server.body = status, refused(code)
    error = await fails(server.model())
    assert (error.kind, error.code.split()[0]) == (kind, str(status))
    assert len(server.asked) == 1


@pytest.mark.parametrize(("header", "least", "most"), [("7", 7, 7), ("0.5", 0.5, 0.5), ("soon", 0, 0)])
async def test_retry_after_is_carried(server: Server, header: str, least: float, most: float) -> None:
    """What the server asks for reaches whoever retries."""
    server.status, server.body, server.headers = 429, refused("rate_limit_exceeded"), {"Retry-After": header}
    assert least <= (await fails(server.model())).retry_after_s <= most


def test_retry_after_may_be_a_date() -> None:
    """An HTTP date counts from now; one that has passed asks for nothing."""
    now = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
    for seconds, wait in ((90, 90.0), (-90, 0.0)):
        date = email.utils.format_datetime(now + datetime.timedelta(seconds=seconds), usegmt=True)
        assert retry_after_s({"retry-after": date}, now) == wait
    assert retry_after_s({"retry-after-ms": "1500"}) == 1.5
    assert retry_after_s({}) == retry_after_s({"retry-after": "inf"}) == 0


async def test_a_silent_server_is_a_timeout(server: Server) -> None:
    """No answer within the time set is transient."""
    server.silent = True
    error = await fails(server.model(timeout_s=0.05))
    assert (error.kind, error.code) == ("transient", "timeout")


async def test_a_server_that_is_not_there_is_a_broken_connection(server: Server) -> None:
    """Nobody listens on the port: transient, and the reason is told."""
    with_nobody = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = with_nobody.sockets[0].getsockname()[1]
    with_nobody.close()
    await with_nobody.wait_closed()
    error = await fails(server.model())
    assert (error.kind, error.code) == ("transient", "connection")


@pytest.mark.parametrize(
    "body", [done(text=None), done(text=""), {"choices": []}, {"hello": 1}, "<html>proxy</html>", "[]"]
)
async def test_an_answer_without_content_is_transient(server: Server, body: Any) -> None:
    """Whatever a proxy makes of it, an empty answer never passes for one."""
    server.body = body
    assert (await fails(server.model())).kind == "transient"


async def test_a_cut_answer_is_returned_and_says_so(server: Server) -> None:
    """``length`` reaches the caller; a missing reason is ``unknown``."""
    for finish, told in (("length", "length"), (None, "unknown")):
        server.body = done(finish=finish)
        model = server.model()
        assert (await model.complete(PROMPT)).finish == told
        await model.aclose()


async def test_the_key_shows_nowhere(server: Server) -> None:
    """Not in the error a server quotes it in, not in what is printed, and not in what is chained."""
    server.status, server.body = 401, refused("invalid_api_key", f"Incorrect API key provided: {KEY}.")
    model = server.model()
    error = await fails(model)
    assert "[key]" in str(error)
    for text in (str(error), repr(error), repr(error.args), repr(error.__cause__), repr(model), str(model)):
        assert KEY not in text


def test_the_hosted_service_needs_a_key() -> None:
    """Without a key and without a server of one's own the mistake is told before any call."""
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAI.named("gpt-5-mini", Settings())
