"""The HTTP of a provider's SDK, recalled: the same question is sent once, and its answer given to all who ask it.

    SDK -> its HTTP client -> Recalling* -> Exchanges -> recall or stream -> (on a miss) the HTTP client it had before

The SDK reads the answer as if it had come from the network, so types, chunks, tool calls and errors are its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx2
import msgspec

from memgang.adapters import exchange
from memgang.adapters.bridge import Bridge, at, in_a_thread
from memgang.adapters.exchange import Asked, asked, classified, usage_of
from memgang.answers import is_plain
from memgang.answers.chat import only_usage
from memgang.codec import TTL
from memgang.errors import ModelError, StoreFull, StreamRestarted, TooLarge, WorkFailed, status_of
from memgang.llms.openai import retry_after_s
from memgang.model import Usage, current_work
from memgang.recall import Mode
from memgang.sse import Frames
from memgang.streaming import Stream

T = TypeVar("T")

Send = Callable[[httpx2.Request], Awaitable[httpx2.Response]]  # the response has its stream still to be read
Pieces = Callable[[httpx2.Response], AsyncGenerator[bytes, None]]
UNTOLD = {"x-should-retry": "false"}  # it was tried as often as is tried at all


class _Refused(ModelError):
    """The provider's answer was no whole answer. Who sent it is given what came, the others what is wrong."""

    def __init__(self, model: str, kind: str, status: int, body: bytes, headers: dict[str, str], wait_s: float = 0.0) -> None:
        super().__init__(model, kind, str(status), body[:500].decode("utf-8", "replace"), wait_s)
        self.answer = status, headers, body


class Exchanges:
    """The exchanges of one wrapped client. ``send`` and ``pieces`` reach the client it had before."""

    def __init__(self, bridge: Bridge, ttl: TTL) -> None:
        self.bridge, self._ttl = bridge, ttl

    def asked(self, request: httpx2.Request) -> Asked | None:
        """What is asked, if its answer can be shared."""
        found = asked(request.method, str(request.url.copy_with(userinfo=b"")), request.headers, request.content)
        # A stream that is for nobody else has nobody to follow it.
        return None if found is not None and found.streams and _mode(request) == "private" else found

    async def plain(self, asked: Asked, request: httpx2.Request, send: Send, pieces: Pieces) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. Raises what the HTTP client raises."""
        space, made = self.bridge.space, b""

        async def compute() -> bytes:
            nonlocal made
            with _told(asked):
                response = await send(request)
                body = await _read(pieces(response))
            self._whole(asked, response, body)
            made = exchange.head(response.headers) + body
            return made

        try:
            recalled = await space.recall(
                asked.call, compute, ttl=self._ttl, kind="llm", sample="occurrence" if asked.samples else None, mode=_mode(request))
            kept, how = await recalled.value(), str(recalled.how)
        except (WorkFailed, ModelError) as error:
            return _instead(error)
        except (StoreFull, TooLarge):
            if not made:
                raise
            kept, how = made, "bypass"  # paid for, though there is no room for it
        headers, body = exchange.apart(kept)
        told = {"content-type": "application/json", "x-memgang-cache": how}
        return 200, headers | told, exchange.in_one_piece(asked, body)

    async def streamed(
        self, asked: Asked, request: httpx2.Request, send: Send, pieces: Pieces
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Status, headers and the body piece by piece: from its first byte, then as it comes, whoever has asked for it."""
        made = False

        async def produce() -> AsyncIterator[bytes]:
            nonlocal made
            body, first = bytearray(), True
            with _told(asked):
                response = await self._asking(asked, request, send, pieces)
                if response.status_code != 200:
                    body += await _read(pieces(response))
                    self._whole(asked, response, bytes(body))
                # Who leaves ends this at the yield: the connection goes back at once then, not when memory is tidied.
                async with contextlib.aclosing(pieces(response)) as coming:
                    async for piece in coming:
                        body += piece
                        yield exchange.head(response.headers) + piece if first else piece
                        first = False
            self._whole(asked, response, bytes(body), begun=True)
            made = True

        stream = self.bridge.space.stream(
            asked.call, produce, ttl=self._ttl, kind="llm", sample="occurrence" if asked.samples else None, mode=_mode(request))
        body = _delivered(stream, request, asked, lambda: made)
        try:
            headers = msgspec.json.decode(await anext(body), type=dict[str, str])
        except (WorkFailed, ModelError) as error:
            status, headers, refusal = _instead(error)
            return status, headers, _one(refusal)
        return 200, headers | {"content-type": "text/event-stream"}, body

    @staticmethod
    async def _asking(asked: Asked, request: httpx2.Request, send: Send, pieces: Pieces) -> httpx2.Response:
        """The provider's response to a stream. One that hides the usage is asked for it, unless the server knows no such option."""
        if not asked.hides_usage:
            return await send(request)
        response = await send(_again(request, asked.sent()))
        if response.status_code not in (400, 422):
            return response
        said = await _read(pieces(response))
        if b"stream_options" in said:
            return await send(request)
        return httpx2.Response(response.status_code, headers=_untravelled(response), content=said, request=request)

    def _whole(self, asked: Asked, response: httpx2.Response, body: bytes, begun: bool = False) -> None:
        """Count what a whole answer cost. Raises _Refused for any other."""
        status, headers = response.status_code, _untravelled(response)
        if status != 200:
            kind = classified(status, body)
            raise _Refused(asked.model, kind, status, body, headers, retry_after_s(headers) if kind == "transient" else 0.0)
        usage = usage_of(asked, self.bridge.space.settings, body)
        if usage is None:
            raise _Refused(asked.model, "transient" if begun else "caller", status, body, headers)
        _spend(usage)


async def _read(pieces: AsyncGenerator[bytes, None]) -> bytes:
    async with contextlib.aclosing(pieces):
        return b"".join([piece async for piece in pieces])


async def _within(request: httpx2.Request, work: Coroutine[Any, Any, T]) -> T:
    """The outcome of the work within the caller's own time to read, also where another is at it. The work goes on for others."""
    limit_s = (request.extensions.get("timeout") or {}).get("read")
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError as error:
        raise httpx2.ReadTimeout(f"no answer within {limit_s} s", request=request) from error


def _mode(request: httpx2.Request) -> Mode:
    control = request.headers.get("cache-control", "")
    return "private" if "no-store" in control else "refresh" if "no-cache" in control else "share"


def _untravelled(response: httpx2.Response) -> dict[str, str]:
    """The headers without those that say how the body travelled."""
    aside = ("content-encoding", "content-length", "transfer-encoding")
    return {name: value for name, value in response.headers.items() if name not in aside}


def _spend(usage: Usage) -> None:
    if (work := current_work.get()) is not None:
        work.own = work.own + usage


@contextlib.contextmanager
def _told(asked: Asked) -> Iterator[None]:
    """What goes wrong on the way is an error that others can be told; it is raised from that of the HTTP client."""
    try:
        yield
    except httpx2.HTTPError as error:
        code = "timeout" if isinstance(error, httpx2.TimeoutException) else "connection"
        raise ModelError(asked.model, "transient", code, str(error)) from error


def _instead(error: WorkFailed | ModelError) -> tuple[int, dict[str, str], bytes]:
    """What the SDK is given where there is no whole answer: what came, or what was told of it by who had asked.

    Raises:
        httpx2.HTTPError: nothing came; that of the HTTP client, where it was ours.
        WorkFailed, ModelError: it is of neither kind.
    """
    cause: BaseException | None = error if isinstance(error, ModelError) else error.__cause__
    if isinstance(cause, _Refused):
        status, headers, body = cause.answer
        return status, headers if error is cause else headers | UNTOLD, body
    if cause is not None and isinstance(cause.__cause__, httpx2.HTTPError):
        raise cause.__cause__ from error
    if (said := status_of(error.code)) is not None:  # of another's request: its status, and what was said, as the provider would say it
        told = msgspec.json.encode({"error": {"message": error.message, "type": "shared", "code": error.code}})
        return max(400, said), {"content-type": "application/json"} | UNTOLD, told
    if error.code == "timeout":
        raise httpx2.ReadTimeout(error.message) from error
    if error.code == "connection":
        raise httpx2.ConnectError(error.message) from error
    raise error


async def _delivered(stream: Stream, request: httpx2.Request, asked: Asked, made: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The headers, as JSON, then the pieces of a body of events; the stream is left when they are, or when nobody wants more.

    ``made``: whether the answer was made whole here.
    """
    start, begun, frames = b"", False, Frames()
    plain: bool | None = None  # decided once: where a network cuts an event is chance, and any later block may begin with a brace
    try:
        try:
            async for piece in stream:
                block = piece.encode() if isinstance(piece, str) else piece
                if not begun:
                    start += block
                    line, ended, block = start.partition(b"\n")
                    if not ended:
                        continue
                    begun, start = True, b""
                    yield line
                if plain is None:
                    block, start = start + block, b""
                    if not block.strip():
                        start = block  # blank so far
                        continue
                    plain = is_plain(block)
                if plain:
                    start += block  # in one piece: made into events when all of it is there
                elif not asked.hides_usage:
                    yield block
                else:
                    for event in frames.take(block):
                        if not only_usage(event):
                            yield event
        except (StoreFull, TooLarge):
            if not made():  # else all of it has come and is paid for, though there is no room for it
                raise
        for event in exchange.as_events(asked, start) if start else [frames.rest]:
            if event and not (asked.hides_usage and only_usage(event)):
                yield event
    except StreamRestarted as error:
        raise httpx2.RemoteProtocolError(f"the answer broke off: {error}", request=request) from error
    except (WorkFailed, ModelError) as error:
        if not begun:
            raise
        raise httpx2.RemoteProtocolError(f"the answer broke off: {error}", request=request) from error
    finally:
        await stream.aclose()


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, bridge: Bridge, body: AsyncIterator[bytes]) -> None:
        self._bridge, self._body = bridge, body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._bridge.here(_next(self._body))) is not None:
            yield piece

    async def aclose(self) -> None:
        await self._bridge.here(_close(self._body))


class _Body(httpx2.SyncByteStream):
    def __init__(self, bridge: Bridge, body: AsyncIterator[bytes]) -> None:
        self._bridge, self._body = bridge, body

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._bridge.wait(_next(self._body))) is not None:
            yield piece

    def close(self) -> None:
        self._bridge.wait(_close(self._body))


async def _next(body: AsyncIterator[bytes]) -> bytes | None:
    return await anext(body, None)


async def _close(body: Any) -> None:
    await body.aclose()


class RecallingAsync(httpx2.AsyncBaseTransport):
    """Stands where the network stood, for a client that awaits. ``inner`` is the HTTP client it had."""

    def __init__(self, exchanges: Exchanges, inner: httpx2.AsyncClient) -> None:
        self._exchanges, self._inner = exchanges, inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, recalled where it can be."""
        await request.aread()
        exchanges, bridge = self._exchanges, self._exchanges.bridge
        home = asyncio.get_running_loop()  # the HTTP client belongs to the event loop of its user
        if (wanted := exchanges.asked(request)) is None:
            return await self._inner.send(request, stream=True)

        async def send(request: httpx2.Request) -> httpx2.Response:
            response: httpx2.Response = await at(home, self._inner.send(_again(request), stream=True))
            return response

        async def pieces(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
            blocks = response.aiter_bytes()
            try:
                while (block := await at(home, _next(blocks))) is not None:
                    yield block
            finally:
                await at(home, response.aclose())

        if wanted.streams:
            status, headers, body = await bridge.here(_within(request, exchanges.streamed(wanted, request, send, pieces)))
            return httpx2.Response(status, headers=headers, stream=_AsyncBody(bridge, body), request=request)
        status, headers, whole = await bridge.here(_within(request, exchanges.plain(wanted, request, send, pieces)))
        return httpx2.Response(status, headers=headers, content=whole, request=request)

    async def aclose(self) -> None:
        """Closes the HTTP client, as closing a copy of the SDK's client does."""
        await self._inner.aclose()


class Recalling(httpx2.BaseTransport):
    """Stands where the network stood, for a client that blocks. ``inner`` is the HTTP client it had."""

    def __init__(self, exchanges: Exchanges, inner: httpx2.Client) -> None:
        self._exchanges, self._inner = exchanges, inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, recalled where it can be."""
        request.read()
        exchanges, bridge = self._exchanges, self._exchanges.bridge
        if (wanted := exchanges.asked(request)) is None:
            return self._inner.send(request, stream=True)

        async def send(request: httpx2.Request) -> httpx2.Response:
            return await in_a_thread(self._inner.send, _again(request), stream=True)

        async def pieces(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
            blocks = response.iter_bytes()
            try:
                while (block := await in_a_thread(next, blocks, None)) is not None:
                    yield block
            finally:
                await in_a_thread(response.close)

        if wanted.streams:
            status, headers, body = bridge.wait(_within(request, exchanges.streamed(wanted, request, send, pieces)))
            return httpx2.Response(status, headers=headers, stream=_Body(bridge, body), request=request)
        status, headers, whole = bridge.wait(_within(request, exchanges.plain(wanted, request, send, pieces)))
        return httpx2.Response(status, headers=headers, content=whole, request=request)

    def close(self) -> None:
        """Closes the HTTP client, as closing a copy of the SDK's client does."""
        self._inner.close()


def _again(request: httpx2.Request, content: bytes | None = None) -> httpx2.Request:
    """The request as it is sent, with this body: a failed attempt must leave nothing behind in the next."""
    headers = httpx2.Headers(request.headers)
    if content is not None:
        headers.pop("content-length", None)  # of the other body
    return httpx2.Request(request.method, request.url, headers=headers, content=request.content if content is None else content,
                          extensions=dict(request.extensions))
