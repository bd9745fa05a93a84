"""The OpenAI leaf streaming, against a real HTTP server on this machine, through the real SDK and through a gang."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.llms.test_openai import KEY, PROMPT, Server, refused

import memgang
from memgang.errors import ModelError, WorkFailed
from memgang.model import Completion, StreamingModel
from memgang.space import Space

pytest.importorskip("openai")
USAGE = {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97, "prompt_tokens_details": {"cached_tokens": 64}}


class Streaming(Server):
    """A chat server whose body is a stream of events, sent in blocks of so many bytes, then cut."""

    block = 1 << 20

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection; without a length, so that only the end marker tells that it was all."""
        if self.status != 200 or self.silent:
            return await super().serve(reader, writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("content-length"))
        self.asked.append(("", {}, json.loads(await reader.readexactly(int(length)))))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        body = self.body.encode()
        for at in range(0, len(body), self.block):
            writer.write(body[at:at + self.block])
            await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Streaming]:
    """A server on a free port."""
    told = Streaming()
    listening = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.port = listening.sockets[0].getsockname()[1]
    yield told
    told.gone.set()
    listening.close()


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    """One event of a stream."""
    choice = {"index": 0, "delta": {"content": text} if text is not None else {}, "finish_reason": finish}
    return "data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more,
                                 ensure_ascii=False) + "\n\n"


END = "data: [DONE]\n\n"
WHOLE = chunk("One. ") + chunk("[1]\u2028é") + chunk(finish="stop") + chunk(choices=[], usage=USAGE) + END


async def pieces(model: Any) -> list[str | Completion]:
    """All that one stream brings."""
    try:
        return [piece async for piece in model.stream(PROMPT)]
    finally:
        await model.aclose()


@pytest.mark.parametrize("block", [1 << 20, 1])
async def test_pieces_come_as_the_server_sends_them_and_last_the_whole(server: Streaming, block: int) -> None:
    """Also byte by byte, and with a line separator of Unicode inside; the usage is the server's."""
    server.body, server.block = ": a comment\r\n\r\n" + WHOLE, block
    model = server.model()
    assert isinstance(model, StreamingModel)
    *text, whole = await pieces(model)
    assert text == ["One. ", "[1]\u2028é"]
    assert whole == Completion(text="One. [1]\u2028é", tokens_in=90, tokens_out=7, tokens_cached=64, estimated=False, finish="stop")
    asked = server.asked[0][2]
    assert asked["stream"] is True and asked["stream_options"] == {"include_usage": True} and asked["temperature"] == 0


async def test_a_stream_without_usage_is_estimated_and_marked(server: Streaming) -> None:
    """Local servers often report nothing."""
    server.body = chunk("One.") + chunk(finish="length") + END
    *_, whole = await pieces(server.model())
    assert isinstance(whole, Completion) and whole.estimated and whole.tokens_out > 0 and whole.finish == "length"


CUT = {
    "no end marker": (chunk("One.") + chunk(finish="stop"), "cut"),
    "no finish reason": (chunk("One.") + END, "cut"),
    "nothing at all": ("", "cut"),
    "half an event": (chunk("One.") + 'data: {"choices": [', "cut"),
    "an event that is no JSON": (chunk("One.") + "data: {]\n\n" + END, "JSONDecodeError"),
    "an event of another shape": (chunk("One.") + 'data: {"choices": [1]}\n\n' + END, "AttributeError"),
    "an error in the stream": (chunk("One.") + 'data: {"error": {"message": "overloaded", "code": "503"}}\n\n', "503"),
    "no content": (chunk(finish="stop") + END, "empty"),
}


@pytest.mark.catalogue("C10")
@pytest.mark.parametrize("how", CUT)
async def test_what_is_not_whole_is_no_answer(server: Streaming, how: str) -> None:
    """A stream that ends too early, or is none, is an error that may pass."""
    server.body, code = CUT[how]
    with pytest.raises(ModelError) as caught:
        await pieces(server.model())
    assert (caught.value.kind, caught.value.code) == ("transient", code)


@pytest.mark.catalogue("C10")
@pytest.mark.parametrize(("status", "code", "kind"), [
    (401, "invalid_api_key", "caller"), (429, "rate_limit_exceeded", "transient"), (429, "insufficient_quota", "caller"),
    (500, None, "transient"), (400, "bad", "permanent")])
async def test_a_refusal_is_of_the_same_class_as_without_streaming(server: Streaming, status: int, code: str | None, kind: str) -> None:
    """The server answers with a status instead of a stream."""
    server.status, server.body = status, refused(code, f"no, {KEY}")
    with pytest.raises(ModelError) as caught:
        await pieces(server.model())
    assert caught.value.kind == kind and KEY not in str(caught.value)


async def test_a_server_that_says_nothing_is_given_up(server: Streaming) -> None:
    """The time limit holds for streams too."""
    server.silent = True
    with pytest.raises(ModelError) as caught:
        await pieces(server.model(timeout_s=0.3))
    assert (caught.value.kind, caught.value.code) == ("transient", "timeout")


async def test_a_quota_that_is_used_up_in_the_stream_is_the_callers_own(server: Streaming) -> None:
    """The class of an error does not depend on where it is told."""
    server.body = 'data: {"error": {"message": "no", "code": "insufficient_quota"}}\n\n'
    with pytest.raises(ModelError) as caught:
        await pieces(server.model())
    assert caught.value.kind == "caller"


async def test_a_streamed_answer_is_that_of_llm_and_the_other_way_round(server: Streaming, space: Space) -> None:
    """One question, one request: streamed here, recalled there; its usage is counted once and saved once."""
    server.body = WHOLE
    prices = {"test-model": memgang.settings.Price(1.0, 10.0, 0.1, "today")}
    gang = memgang.Gang(space, server.model(), prices=prices)

    async def streamed() -> list[str]:
        return [piece async for piece in gang.stream("What?", sample=0)]

    got = await asyncio.gather(*(streamed() for _ in range(3)))
    assert got == [["One. ", "[1]\u2028é"]] * 3
    assert await gang.llm("What?", sample=0) == "One. [1]\u2028é"
    assert await streamed() == ["One. [1]\u2028é"]
    assert len(server.asked) == 1
    spent, saved = gang.progress.spent, gang.progress.saved
    assert (spent.llm_calls, spent.tokens_in, spent.tokens_out, spent.tokens_cached) == (1, 90, 7, 64) and spent.micro_usd > 0
    assert (saved.llm_calls, saved.tokens_out, saved.micro_usd) == (4, 28, 4 * spent.micro_usd)
    await gang.model.aclose()


@pytest.mark.catalogue("C10")
async def test_a_stream_that_is_always_cut_is_never_kept(server: Streaming, space: Space) -> None:
    """As often as is tried, then all are told; what was delivered is not an answer."""
    server.body = chunk("One. ") + chunk("Two.")
    gang = memgang.Gang(space, server.model())
    got = []
    with pytest.raises(WorkFailed, match="cut"):
        async for piece in gang.stream("What?"):
            got.append(piece)
    assert got == ["One. ", "Two."] and len(server.asked) == space.settings.attempts
    assert (await space.stats()).get("executions", 0) == 0
    await gang.model.aclose()


async def test_a_model_that_does_not_stream_answers_in_one_piece(space: Space) -> None:
    """The extractive model and others are asked the same way."""
    gang = memgang.Gang(space, "simulated:latency_ms=0,tokens_per_s=0")
    text = "The bridge was built in 1902. It was repaired in 1956 and again in 1988."
    streamed = "".join([piece async for piece in gang.stream(text)])
    assert streamed and streamed == await gang.llm(text)
