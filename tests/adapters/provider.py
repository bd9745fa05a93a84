"""A provider of models on a port of its own: OpenAI's and Anthropic's interfaces, as far as their SDKs ask for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOOLS = [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]


class Provider:
    """Answers in capitals and counts. Answers wait while it is ``gated``; a stream stops after its first part then.

    ``fails`` is a list of what its next answers are instead: a status, "cut" (a stream without its end), "garbage",
    or "max_tokens" (a message that ends amid the arguments of its tool).
    With ``refuses_options`` it knows no ``stream_options`` and says so; ``toolless``, it calls no tools. ``block``: streams come in
    blocks of so many bytes, wherever that cuts an event; 0: each event in one.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.fails: list[int | str] = []
        self.refuses_options = self.toolless = False
        self.block = 0
        self.reached, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                provider.asked.append({"path": self.path})
                self.answer(200, b'{"object": "list", "data": []}')

            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.asked.append({"path": self.path, **said})
                wrong = provider.fails.pop(0) if provider.fails else None
                if provider.refuses_options and "stream_options" in said:
                    self.answer(400, b'{"error": {"message": "unknown field stream_options"}}')
                    return
                provider.reached.set()
                parts = list(provider.parts(self.path, said, wrong))
                if said.get("stream") and not isinstance(wrong, int):
                    self.send_response(200)
                    self.send_header("content-type", "text/event-stream")
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    if provider.block:
                        whole = b"".join(parts)
                        parts = [whole[at : at + provider.block] for at in range(0, len(whole), provider.block)]
                    for part in parts:
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                        self.wfile.flush()
                        assert provider.gate.wait(30)
                    self.wfile.write(b"0\r\n\r\n")
                    return
                assert provider.gate.wait(30)
                self.answer(wrong if isinstance(wrong, int) else 200, parts[0])

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # of five, those who connect with many others are let in a second later

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def parts(self, path: str, said: dict[str, Any], wrong: int | str | None) -> Iterator[bytes]:
        """The answer: one part, or the events of a stream."""
        if isinstance(wrong, int):
            yield json.dumps({"error": {"message": f"no: {wrong}", "type": "oops", "code": None}}).encode()
        elif wrong == "garbage":
            yield b'{"choices": []}'
        elif path.endswith("/chat/completions"):
            yield from self._chat(said, wrong)
        elif path.endswith("/responses"):
            yield from self._responses(said, wrong)
        elif path.endswith("/messages"):
            yield from self._messages(said, wrong)
        else:
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            yield json.dumps({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 3, "total_tokens": 3}}).encode()

    def _chat(self, said: dict[str, Any], wrong: int | str | None) -> Iterator[bytes]:
        text = said["messages"][-1]["content"].upper()
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "prompt_tokens_details": {"cached_tokens": 400}}
        head = {"id": f"chat-{len(self.asked)}", "created": 1, "model": said["model"]}
        if not said.get("stream"):
            message = {"role": "assistant", "content": text} | ({"tool_calls": TOOLS} if said.get("tools") and not self.toolless else {})
            yield json.dumps(head | {"object": "chat.completion", "usage": usage, "choices": [
                {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]}).encode()
            return
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": text[:2]}, {"content": text[2:]}]
        if said.get("tools") and not self.toolless:  # in two parts, as providers send them
            call = TOOLS[0] | {"index": 0, "function": {"name": "look", "arguments": '{"at'}}
            deltas += [{"tool_calls": [call]}, {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]}]
        for delta, finish in [*((delta, None) for delta in deltas), ({}, "stop")]:
            yield _event(head | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            if wrong == "cut" and delta:
                return
        if (said.get("stream_options") or {}).get("include_usage"):
            yield _event(head | {"object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def _responses(self, said: dict[str, Any], wrong: int | str | None) -> Iterator[bytes]:
        text = str(said["input"]).upper()
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_tokens_details": {"cached_tokens": 0},
                 "output_tokens_details": {"reasoning_tokens": 0}}
        whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": said["model"], "status": "completed", "output": [message],
                 "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage}
        if not said.get("stream"):
            yield json.dumps(whole).encode()
            return
        delta = {"type": "response.output_text.delta", "delta": text, "item_id": "m", "output_index": 0, "content_index": 0,
                 "sequence_number": 1, "logprobs": []}
        yield _event(delta, "response.output_text.delta")
        if wrong != "cut":
            yield _event({"type": "response.completed", "response": whole, "sequence_number": 2}, "response.completed")

    def _messages(self, said: dict[str, Any], wrong: int | str | None) -> Iterator[bytes]:
        text = said["messages"][-1]["content"].upper()
        usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4}
        whole = {"id": "msg", "type": "message", "role": "assistant", "model": said["model"], "stop_sequence": None}
        blocks: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": text},
            {"type": "tool_use", "id": "tool_1", "name": "look", "input": {"at": 1}}]
        if not said.get("stream"):
            yield json.dumps(whole | {"content": blocks, "stop_reason": "end_turn", "usage": usage}).encode()
            return
        begin = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
        deltas: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
            (blocks[0] | {"thinking": "", "signature": ""},
             [{"type": "thinking_delta", "thinking": "h"}, {"type": "thinking_delta", "thinking": "m"},
              {"type": "signature_delta", "signature": "sig"}]),
            (blocks[1] | {"text": ""}, [{"type": "text_delta", "text": text}]),
            (blocks[2] | {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"at"', ": 1}")]),
        ]
        if wrong == "max_tokens":
            deltas[2][1].pop()
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begin}, {"type": "ping"}]
        for index, (block, more) in enumerate(deltas):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in more]
            events.append({"type": "content_block_stop", "index": index})
        end = {"stop_reason": wrong or "end_turn", "stop_sequence": None}
        events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}})
        for event in (*events, {"type": "message_stop"}):
            yield _event(event, str(event["type"]))


def _event(data: dict[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"
