"""A model client of AutoGen that recalls what anybody has asked it, whichever client it wraps.

    agent = AssistantAgent("reviewer", model_client=MemGangClient(OpenAIChatCompletionClient(model="gpt-5-mini"), space))

AutoGen's own `ChatCompletionCache` asks a store before and tells it afterwards, so two who ask at once both pay, and its
store cannot wait. Hence a client and not a store.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from memgang.adapters.calling import Asked, Calls, Whole
from memgang.blocking import BlockingSpace
from memgang.codec import TTL
from memgang.credentials import public
from memgang.errors import CodecError, ConfigError
from memgang.model import Call
from memgang.space import Space

try:
    from autogen_core.models import ChatCompletionClient, CreateResult
    from autogen_core.tools import Tool
    from pydantic import BaseModel
except ImportError as error:
    raise ConfigError("AutoGen is not installed: pip install 'memgang[autogen]'") from error

VERSION = "1"  # of what is kept; it goes into every key
# Of a client's configuration: how a request travels.
_ASIDE = frozenset({"timeout", "max_retries", "user", "default_headers", "stream_options", "include_name_in_message"})


class MemGangClient(ChatCompletionClient):
    """A client whose answers all processes share. Safe from many tasks, threads and event loops.

    Plain and streamed calls share. Content, tool calls and usage are those of the answer that was computed, with ``cached`` for
    who has not; who joins a stream is given its chunks from the first, then as they come. Where the model samples (no seed, a
    temperature other than 0) the i-th ask of one named agent of the space shares the i-th answer; who has no name shares one. What
    cannot be described in JSON goes to the wrapped client directly. Errors are the wrapped client's own.
    """

    def __init__(self, client: ChatCompletionClient, space: Space | BlockingSpace, *, ttl: TTL = "default", name: str = "") -> None:
        """``name`` is what the key knows the client by; without one it is the client's configuration, without its key.

        Raises:
            ConfigError: no such space, the time to live is none, or the client has no configuration and is given no name.
        """
        self.client, self._calls = client, Calls(space, ttl)
        self._where: dict[str, Any] = {"name": name} if name else _configured(client)

    async def create(
        self, messages: Sequence[Any], *, tools: Sequence[Any] = (), tool_choice: Any = "auto", json_output: Any = None,
        extra_create_args: Mapping[str, Any] = {}, cancellation_token: Any = None,
    ) -> CreateResult:
        """The answer, recalled if anybody has had it."""
        given: dict[str, Any] = {"tools": tools, "tool_choice": tool_choice, "json_output": json_output,
                                 "extra_create_args": extra_create_args}
        if (asked := self._asked(messages, **given)) is None:
            return await self.client.create(messages, **given, cancellation_token=cancellation_token)
        mine = False

        async def ask() -> Whole:
            nonlocal mine
            mine = True
            # Without the caller's token: who cancels leaves, and the others still wait for it.
            return _whole(await self.client.create(messages, **given), asked.call.model)

        return _result(await _linked(self._calls.whole(asked, ask), cancellation_token), cached=not mine)

    async def create_stream(
        self, messages: Sequence[Any], *, tools: Sequence[Any] = (), tool_choice: Any = "auto", json_output: Any = None,
        extra_create_args: Mapping[str, Any] = {}, cancellation_token: Any = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The answer's chunks and then the answer, recalled if anybody has had it or is being given it."""
        given: dict[str, Any] = {"tools": tools, "tool_choice": tool_choice, "json_output": json_output,
                                 "extra_create_args": extra_create_args}
        if (asked := self._asked(messages, **given)) is None:
            async for chunk in self.client.create_stream(messages, **given, cancellation_token=cancellation_token):
                yield chunk
            return
        mine, chunks = False, 0

        async def ask() -> AsyncIterator[bytes | Whole]:
            nonlocal mine
            mine = True
            async for chunk in self.client.create_stream(messages, **given):
                yield json.dumps(chunk).encode() if isinstance(chunk, str) else _whole(chunk, asked.call.model)

        lines = self._calls.lines(asked, ask)
        try:
            while (line := await _linked(anext(lines, None), cancellation_token)) is not None:
                if line.startswith(b'"'):
                    chunks += 1
                    yield json.loads(line)
                    continue
                result = _result(line, cached=not mine)
                if not chunks and isinstance(result.content, str) and result.content:
                    yield result.content
                yield result
        finally:
            await lines.aclose()

    def _asked(self, messages: Sequence[Any], tools: Any, tool_choice: Any, json_output: Any, extra_create_args: Any) -> Asked | None:
        """None where the answer is not to be shared."""
        try:
            said = [message.model_dump(mode="json") for message in messages]
            described = [tool.schema if isinstance(tool, Tool) else dict(tool) for tool in tools]
            typed = isinstance(json_output, type) and issubclass(json_output, BaseModel)
            wanted = json_output.model_json_schema() if typed else json_output
            extra = public(json.loads(json.dumps(dict(extra_create_args))))
        except (TypeError, ValueError, CodecError):  # nobody can say whether two of these are the same
            return None
        choice = tool_choice if isinstance(tool_choice, str) else tool_choice.schema["name"]
        settings = self._where.get("config") or {}
        call = Call("llm", "autogen:client", VERSION, self._where, str(extra.get("model") or settings.get("model") or ""), messages=said,
                    tools=described or None, parameters=extra | {"tool_choice": choice, "json_output": wanted})
        return Asked(call, all(one.get("temperature") != 0 and one.get("seed") is None for one in (settings, extra)))

    # ── all else is the wrapped client's ──────────────────────────────────────────────────────

    async def close(self) -> None:
        """Close the wrapped client."""
        await self.client.close()

    def actual_usage(self) -> Any:
        """What the wrapped client has used."""
        return self.client.actual_usage()

    def total_usage(self) -> Any:
        """What the wrapped client has used."""
        return self.client.total_usage()

    def count_tokens(self, messages: Sequence[Any], *, tools: Sequence[Any] = ()) -> int:
        """As the wrapped client counts."""
        counted: int = self.client.count_tokens(messages, tools=tools)
        return counted

    def remaining_tokens(self, messages: Sequence[Any], *, tools: Sequence[Any] = ()) -> int:
        """As the wrapped client counts."""
        left: int = self.client.remaining_tokens(messages, tools=tools)
        return left

    @property
    def capabilities(self) -> Any:
        """Those of the wrapped client."""
        return self.client.capabilities

    @property
    def model_info(self) -> Any:
        """That of the wrapped client."""
        return self.client.model_info


def _configured(client: ChatCompletionClient) -> dict[str, Any]:
    """The client's configuration: what of it says what an answer will be was given when it was made."""
    try:
        said: dict[str, Any] = client.dump_component().model_dump(mode="json")
    except Exception as error:  # whatever a client raises that cannot be written down
        raise ConfigError(f"{type(client).__name__} has no configuration to know it by: give it a name=") from error
    return {"provider": said["provider"], "config": public({name: value for name, value in said["config"].items() if name not in _ASIDE})}


async def _linked(work: Any, token: Any) -> Any:
    """The outcome of the work; the caller's token ends the waiting for it."""
    if token is None:
        return await work
    task = asyncio.ensure_future(work)
    token.link_future(task)
    return await task


def _whole(result: CreateResult, model: str) -> Whole:
    used = result.usage
    return Whole(result.model_dump_json().encode(), model, used.prompt_tokens, used.completion_tokens)


def _result(line: bytes, *, cached: bool) -> CreateResult:
    result = CreateResult.model_validate_json(line)
    return result.model_copy(update={"cached": True}) if cached else result
