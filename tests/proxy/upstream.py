"""A provider for tests: counts its calls, streams at the pace of a gate, and fails in the ways providers fail.

    python -m tests.proxy.upstream      prints its port, then a line for each call, and ends with its standard input
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

WORDS = ("Four", " score", " and", " seven", " years")


@dataclass
class Upstream:
    """An ASGI application. ``next_`` says what becomes of the next calls; afterwards all is well."""

    calls: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    others: list[tuple[str, str, bytes]] = field(default_factory=list)
    next_: deque[str] = field(default_factory=deque)
    gate: asyncio.Event | None = None  # streams wait for it behind their first event
    later: asyncio.Event | None = None  # and this one only those that are told to
    told: bool = False  # print each call
    pace_s: float = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        path = scope["path"]
        if path not in ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"):
            self.others.append((scope["method"], scope["raw_path"].decode() + "?" + scope["query_string"].decode(), content))
            if path == "/v1/models":
                return await self.whole(send, 200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
            return await self.whole(send, 200, {"path": path, "method": scope["method"]}, {"x-request-id": "r1"})
        body = json.loads(content)
        self.calls.append((path, headers, body))
        if self.told:
            print(f"call {path}", flush=True)
        how = self.next_.popleft() if self.next_ else "ok"
        await self.answer(path, body, how, send, len(self.calls))

    async def answer(self, path: str, body: dict[str, Any], how: str, send: Any, number: int) -> None:
        match how:
            case "401" | "403" | "400" | "404" | "500" | "503":
                return await self.whole(send, int(how), {"error": {"message": f"no, says {number}", "type": "t", "code": f"c{how}"}})
            case "400_upstream":
                return await self.whole(send, 400, {"error": {"message": "the upstream provider refused this prompt", "code": "bad"}})
            case "429":
                return await self.whole(send, 429, {"error": {"message": "slow down", "code": "rate"}}, {"retry-after": "0"})
            case "quota":
                return await self.whole(send, 429, {"error": {"message": "pay", "code": "insufficient_quota"}})
            case "no_stream" if body.get("stream"):
                self.next_.appendleft("plain")
                return await self.whole(send, 400, {"error": {"message": "this model does not stream", "code": "unsupported"}})
            case "bad_json":
                return await self.sent(send, 200, "application/json", [b'{"choices": [{'])
        if path == "/v1/embeddings":
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            return await self.whole(send, 200, {
                "object": "list", "model": body["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3},
                "data": [{"object": "embedding", "index": i, "embedding": [0.5, float(number)]} for i in range(len(texts))]})
        events = chat(body, number) if path.endswith("completions") else responses(body, number)
        if not body.get("stream") or how == "plain":
            return await self.whole(send, 200, plain_chat(body, number) if path.endswith("completions") else events[-1][1]["response"])
        blocks = [(f"event: {kind}\n" if kind else "").encode() + b"data: " + json.dumps(one).encode() + b"\n\n" for kind, one in events]
        if path.endswith("completions"):
            blocks.append(b"data: [DONE]\n\n")
        if how == "dribble":
            blocks = [bytes([byte]) for block in blocks for byte in block]
        if how == "cut":
            blocks = blocks[:3]
        if how == "no_finish":
            blocks = [b for b in blocks if b'"stop"' not in b and b'"tool_calls"}' not in b]
        if how == "bad_event":
            blocks[2] = b"data: {oh\n\n"
        if how == "error_event":
            blocks[2] = b'data: {"error": {"message": "overloaded", "code": "server_error"}}\n\n'
        if how == "hang":
            blocks, self.gate = blocks[:1], asyncio.Event()
        await self.sent(send, 200, "text/event-stream", blocks, gate=self.later if how == "later" else self.gate)

    async def whole(self, send: Any, status: int, value: Any, more: dict[str, str] | None = None) -> None:
        if self.gate is not None and status == 200 and "choices" in value:
            await self.gate.wait()
        await self.sent(send, status, "application/json", [json.dumps(value).encode()], more)

    async def sent(self, send: Any, status: int, kind: str, blocks: list[bytes], more: dict[str, str] | None = None,
                   gate: asyncio.Event | None = None) -> None:
        headers = [(b"content-type", kind.encode()), *((k.encode(), v.encode()) for k, v in (more or {}).items())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, block in enumerate(blocks):
            await send({"type": "http.response.body", "body": block, "more_body": True})
            if number == 0 and gate is not None:
                await gate.wait()
            if self.pace_s:
                await asyncio.sleep(self.pace_s)
        await send({"type": "http.response.body", "body": b""})


class Strict(Upstream):
    """A provider that refuses what it does not understand, as real ones do."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            await self.whole(send, 400, {"error": {"message": f"no: {error!r}"[:200], "type": "invalid_request_error", "code": None}})


def chat(body: dict[str, Any], number: int) -> list[tuple[str, dict[str, Any]]]:
    """The events of a chat completion, with reasoning, and tool calls where there are tools."""
    top = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1700000000 + number, "model": body["model"],
           "system_fingerprint": "fp_1"}
    out = []
    for index in range(body.get("n") or 1):
        def say(delta: dict[str, Any], finish: str | None = None, index: int = index) -> None:
            out.append(("", top | {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}))

        say({"role": "assistant", "content": "" if not body.get("tools") else None})
        say({"reasoning_content": "Let me"})
        say({"reasoning_content": " see."})
        if body.get("tools"):
            say({"tool_calls": [{"index": 0, "id": f"call_{number}a", "type": "function", "function": {"name": "add", "arguments": ""}}]})
            for piece in ('{"a"', ": 1, ", '"b": 2}'):
                say({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            say({"tool_calls": [{"index": 1, "id": f"call_{number}b", "type": "function", "function": {"name": "sub", "arguments": "{}"}}]})
        else:
            for word in WORDS:
                say({"content": word})
        say({}, "tool_calls" if body.get("tools") else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        out.append(("", top | {"choices": [], "usage": USAGE}))
    return out


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4},
         "completion_tokens_details": {"reasoning_tokens": 2}}


def plain_chat(body: dict[str, Any], number: int) -> dict[str, Any]:
    """The same in one piece."""
    return {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1700000000 + number, "model": body["model"],
            "choices": [{"index": i, "message": {"role": "assistant", "content": "".join(WORDS)}, "logprobs": None, "finish_reason": "stop"}
                        for i in range(body.get("n") or 1)], "usage": USAGE}


def responses(body: dict[str, Any], number: int) -> list[tuple[str, dict[str, Any]]]:
    """The events of a response."""
    item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "".join(WORDS), "annotations": []}]}
    call = {"id": f"fc_{number}", "type": "function_call", "status": "completed", "call_id": f"call_{number}", "name": "add",
            "arguments": '{"a": 1}'}
    output = [item, *([call] if body.get("tools") else [])]
    whole = {"id": f"resp_{number}", "object": "response", "created_at": 1700000000, "status": "completed", "model": body["model"],
             "output": output, "parallel_tool_calls": True, "tool_choice": "auto", "tools": body.get("tools") or [],
             "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18, "input_tokens_details": {"cached_tokens": 4},
                       "output_tokens_details": {"reasoning_tokens": 0}}}
    at = {"output_index": 0, "item_id": item["id"], "content_index": 0}
    events = [
        ("response.created", {"response": whole | {"status": "in_progress", "output": [], "usage": None}}),
        ("response.output_item.added", {"output_index": 0, "item": item | {"content": [], "status": "in_progress"}}),
        ("response.content_part.added", at | {"part": {"type": "output_text", "text": "", "annotations": []}}),
        *[("response.output_text.delta", at | {"delta": word, "logprobs": []}) for word in WORDS],
        ("response.output_text.done", at | {"text": "".join(WORDS), "logprobs": []}),
        ("response.content_part.done", at | {"part": item["content"][0]}),
        ("response.output_item.done", {"output_index": 0, "item": item})]
    if body.get("tools"):
        events += [("response.output_item.added", {"output_index": 1, "item": call | {"arguments": "", "status": "in_progress"}}),
                   ("response.output_item.done", {"output_index": 1, "item": call})]
    events.append(("response.completed", {"response": whole}))
    return [(kind, {"type": kind, "sequence_number": at, **fields}) for at, (kind, fields) in enumerate(events)]


@contextlib.asynccontextmanager
async def served(app: Any, http: Any = "auto", keep_alive_s: int = 5) -> AsyncIterator[str]:
    """An application on a port of its own; its address."""
    import uvicorn

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    server = uvicorn.Server(uvicorn.Config(
        app, http=http, lifespan="off", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1,
        timeout_keep_alive=keep_alive_s))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await task
        listening.close()


async def _main() -> None:
    upstream = Upstream(told=True, pace_s=0.02)
    async with served(upstream) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
