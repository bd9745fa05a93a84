"""Both ends of the proxies in `proxy.py`, each in a process of its own: a provider that takes a known time, and callers that cost little.

    python ends.py provider        prints its port; GET /calls/NAME says how often NAME was asked
    python ends.py asgi            the same answer from an ASGI application that does nothing else, under uvicorn: the limit
    python ends.py callers         asked in lines of JSON

A request's last message begins "HELD FIRST NAME": the provider answers after HELD ms; of a stream the first event goes out after
FIRST ms and all others at the end, in one piece. How long it was in truth stands in the answer, so that timers, which come late by a
millisecond, are not taken for somebody's overhead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

SAYS = "A reference is the id of a memory object, and an agent passes the reference on, never the value. " * 4
HELD = re.compile(rb"held (\d+) us")
USAGE = {"prompt_tokens": 120, "completion_tokens": 90, "total_tokens": 210}
TOP = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "bench"}
MODEL, KEY = "bench", "sk-bench"
clock = time.perf_counter


def answer(held_us: int) -> bytes:
    """The answer in one piece."""
    message = {"role": "assistant", "content": f"{SAYS}held {held_us} us"}
    return json.dumps(TOP | {"object": "chat.completion", "usage": USAGE, "choices": [
        {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]}).encode()


def events(held_us: int, usage: bool) -> list[bytes]:
    """The same as a stream: an event for each four words or so, as providers have one for each token or few."""
    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + json.dumps(TOP | {"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"

    pieces = [SAYS[at:at + 20] for at in range(0, len(SAYS), 20)]
    out = [event({"role": "assistant", "content": ""}), *(event({"content": piece}) for piece in pieces),
           event({"content": f"held {held_us} us"}), event({}, "stop")]
    if usage:
        out.append(b"data: " + json.dumps(TOP | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}).encode() + b"\n\n")
    return [*out, b"data: [DONE]\n\n"]


class Provider(asyncio.Protocol):
    """One connection to the provider."""

    asked: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.came = b""

    def data_received(self, data: bytes) -> None:
        self.came += data
        head, end, rest = self.came.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        size = int(length[1]) if length else 0
        if not end or len(rest) < size:
            return
        began, self.came = clock(), rest[size:]
        if not size:
            name = head.split(b" ")[1].decode().rpartition("/")[2]
            self.whole(json.dumps(self.asked[name]).encode())
            return
        body = json.loads(rest[:size])
        held, first, name = body["messages"][-1]["content"].split()[:3]
        self.asked[name] += 1
        loop = asyncio.get_running_loop()
        if not body.get("stream"):
            loop.call_later(int(held) / 1000, lambda: self.whole(answer(round((clock() - began) * 1e6))))
            return
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        early = 0 < int(first) < int(held)
        if early:
            loop.call_later(int(first) / 1000, lambda: self.piece(True, events(0, usage)[:1]))
        loop.call_later(int(held) / 1000, lambda: self.piece(
            not early, events(round((clock() - began) * 1e6), usage)[early:], last=True))

    def piece(self, begins: bool, pieces: list[bytes], *, last: bool = False) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" if begins else b""
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        self.transport.write(head + chunks + (b"0\r\n\r\n" if last else b""))

    def whole(self, body: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def serve_provider() -> None:
    """Until standard input is closed."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=1_024)
    print(json.dumps([server.sockets[0].getsockname()[1]]), flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def serve_asgi() -> None:
    """The limit: it reads the request and answers, under the same server with the same options as ours."""
    import socket

    import uvicorn

    body = answer(0)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listening = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
                                           server_header=False, date_header=False, proxy_headers=False))
    print(json.dumps([listening.getsockname()[1]]), flush=True)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await task


# ── callers ───────────────────────────────────────────────────────────────────────────────────


def request(port: int, prompt: str, *, stream: bool = False) -> bytes:
    """A chat completion as the official client would ask for it, the headers that nobody reads left out."""
    system = "You are one of a gang of agents that share one memory. Answer shortly, and name your sources by reference."
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "messages": [
        {"role": "system", "content": system}, {"role": "user", "content": f"{prompt} {SAYS}"}]}
    body = json.dumps(asked | ({"stream": True} if stream else {})).encode()
    return (b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\naccept: application/json\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (port, KEY.encode(), len(body), body))


class Caller(asyncio.Protocol):
    """One connection, kept open; one request at a time. ``ended`` is told when the whole reply is there."""

    def __init__(self) -> None:
        self.ended: Callable[[Caller], None] = lambda _: None
        self.broken: Callable[[str], None] = lambda _: None
        self.began = self.first = self.last = 0.0
        self.body = b""
        self._came, self._size, self._open = b"", -2, False  # -2: no head yet; -1: in chunks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self.broken(f"the connection was closed: {exc}")

    def ask(self, asked: bytes) -> None:
        self._came, self._size, self.first, self._open = b"", -2, 0.0, True
        self.began = clock()
        self._transport.write(asked)

    def data_received(self, data: bytes) -> None:
        self._came = came = self._came + data if self._came else data
        if self._size == -2:
            end = came.find(b"\r\n\r\n")
            if end < 0:
                return
            head = came[:end].lower()
            if head[9:12] != b"200":
                self._open = False
                self.broken(came.decode("latin-1")[:400])
                return
            at = head.find(b"content-length:")
            self._size = end + 4 + int(head[at + 15:].split(b"\r", 1)[0]) if at >= 0 else -1
            self._head = end + 4
        if not self.first and len(came) > self._head:
            self.first = clock()
        if len(came) >= self._size if self._size >= 0 else came.endswith(b"\r\n0\r\n\r\n"):
            self.last, self.body, self._open = clock(), came[self._head:], False
            self.ended(self)

    def close(self) -> None:
        self._transport.abort()


async def connected(port: int, count: int, broken: Callable[[str], None]) -> list[Caller]:
    """So many connections."""
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(Caller, "127.0.0.1", port))[1] for _ in range(count)]
    for caller in made:
        caller.broken = broken
    return made


async def hits(port: int, prompt: str, connections: int, seconds: float, stream: bool = False) -> tuple[float, list[float]]:
    """Everybody asks again as soon as the answer is there: answers a second, and what each took."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    took: list[float] = []
    asked, busy = request(port, prompt, stream=stream), connections

    def ended(caller: Caller) -> None:
        nonlocal busy
        took.append(caller.last - caller.began)
        if caller.last < until:
            caller.ask(asked)
        elif not (busy := busy - 1) and not done.done():
            done.set_result(None)

    callers = await connected(port, connections, lambda why: done.done() or done.set_exception(RuntimeError(why)))
    began = clock()
    until = began + seconds
    for caller in callers:
        caller.ended = ended
        caller.ask(asked)
    try:
        await done
    finally:
        for caller in callers:
            caller.close()
    return len(took) / (clock() - began), took


async def steady(port: int, prompt: str, rate: float, seconds: float) -> list[float]:
    """So many requests a second, whether they are answered or not; each is timed from when it was due."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    count, took = round(rate * seconds), list[float]()
    callers = await connected(port, 128, lambda why: done.done() or done.set_exception(RuntimeError(why)))
    free, waiting, due = deque(callers), deque[float](), dict[Caller, float]()
    asked, began = request(port, prompt), clock() + 0.02

    def ended(caller: Caller) -> None:
        took.append(caller.last - due[caller])
        free.append(caller)
        send()
        if len(took) == count and not done.done():
            done.set_result(None)

    def send() -> None:
        while waiting and free:
            caller = free.popleft()
            due[caller] = waiting.popleft()
            caller.ask(asked)

    for caller in callers:
        caller.ended = ended
    try:
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - clock()))
            waiting.append(began + number / rate)
            send()
        await done
    finally:
        for caller in callers:
            caller.close()
    return took


async def one_by_one(port: int, prompts: list[str]) -> list[float]:
    """One after the other on one connection: what each took beside what the provider itself took."""
    took: list[float] = []
    done: asyncio.Future[None]
    caller, = await connected(port, 1, lambda why: done.set_exception(RuntimeError(why)))
    caller.ended = lambda _: done.set_result(None)
    with contextlib.closing(caller):
        for prompt in prompts:
            done = asyncio.get_running_loop().create_future()
            caller.ask(request(port, prompt))
            await done
            held = HELD.search(caller.body)
            assert held is not None, caller.body
            took.append(caller.last - caller.began - int(held[1]) / 1e6)
    return took


async def at_once(port: int, prompt: str, count: int, stream: bool) -> tuple[list[float], list[float]]:
    """All ask for the same at once: when the first piece of a body came to each, and when the last, from the first request on."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    callers = await connected(port, count, lambda why: done.done() or done.set_exception(RuntimeError(why)))
    left, asked = count, request(port, prompt, stream=stream)

    def ended(_: Caller) -> None:
        nonlocal left
        left -= 1
        if not left and not done.done():
            done.set_result(None)

    began = clock()
    for caller in callers:
        caller.ended = ended
        caller.ask(asked)
    try:
        await done
    finally:
        for caller in callers:
            caller.close()
    return [caller.first - began for caller in callers], [caller.last - began for caller in callers]


async def serve_callers() -> None:
    """Do what is asked until standard input is closed."""
    does: dict[str, Any] = {"hits": hits, "steady": steady, "one_by_one": one_by_one, "at_once": at_once}
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *words = json.loads(line)
        try:
            found = await asyncio.wait_for(does[what](*words), 120)
            print(json.dumps({"found": found}), flush=True)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


def main() -> None:
    """One of the three."""
    import uvloop

    serves = {"provider": serve_provider, "asgi": serve_asgi, "callers": serve_callers}
    uvloop.run(serves[sys.argv[1]]())


if __name__ == "__main__":
    main()
