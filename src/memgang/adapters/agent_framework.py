"""Microsoft Agent Framework: a chat middleware that recalls what anybody has asked, whichever chat client it stands before.

    agent = Agent(client=OpenAIChatClient(), middleware=[MemGangMiddleware(space)])
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from memgang.adapters.calling import Asked, Calls, Whole
from memgang.blocking import BlockingSpace
from memgang.codec import TTL
from memgang.credentials import public
from memgang.errors import CodecError, ConfigError
from memgang.model import Call
from memgang.space import Space

try:
    from agent_framework import (
        ChatContext,
        ChatMiddleware,
        ChatResponse,
        ChatResponseUpdate,
        FunctionTool,
        ResponseStream,
    )
    from pydantic import BaseModel
except ImportError as error:
    raise ConfigError("Microsoft Agent Framework is not installed: pip install 'memgang[agent-framework]'") from error

VERSION = "1"  # of what is kept; it goes into every key
# Of messages and contents: ids the framework draws at random, and what it notes for itself.
_ASIDE = frozenset({"message_id", "additional_properties", "raw_representation"})
_CALLS = frozenset({"function_call", "function_result"})
# A response that goes on from this one names it, and it does not change. Other conversations do.
_IMMUTABLE = "resp_"


class MemGangMiddleware(ChatMiddleware):
    """A chat middleware whose answers all processes share. Safe from many tasks, threads and event loops.

    It stands at each call of the model, so tools run for each agent, and each turn is shared. Plain and streamed runs share. Messages,
    tool calls and usage are those of the answer that was computed; who joins a stream is given its updates from the first, then as they
    come. What depends on a conversation that the service keeps goes to the model directly. Where the model
    samples (a temperature other than 0) the i-th ask of one named agent of the space shares the i-th answer; who has no name shares one.
    Errors are the client's own.
    """

    def __init__(self, space: Space | BlockingSpace, *, ttl: TTL = "default", name: str = "") -> None:
        """``name`` is what the key knows the client by; without one it is the client's class and address, and the model.

        Raises:
            ConfigError: no such space, or the time to live is none; at a call, the client has neither model nor address and no name
                was given.
        """
        self._calls, self._name = Calls(space, ttl), name

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Set the result: recalled, or what the client behind makes."""
        if (asked := _asked(context, self._name)) is None:
            await call_next()
            return
        model, wanted = asked.call.model, (context.options or {}).get("response_format")
        if context.stream:
            context.result = ResponseStream(
                self._updates(asked, context, call_next), finalizer=lambda updates: _joined(updates, wanted))
            return

        async def ask() -> Whole:
            await call_next()
            assert isinstance(context.result, ChatResponse)
            return _whole(context.result, model)

        said = json.loads(await self._calls.whole(asked, ask))
        context.result = ChatResponse.from_dict(said | {"response_format": wanted})

    async def _updates(
        self, asked: Asked, context: ChatContext, call_next: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[ChatResponseUpdate, None]:
        mine = context.result

        async def ask() -> AsyncIterator[bytes | Whole]:
            await call_next()
            # The one behind puts its stream where ours is waited for.
            stream, context.result = context.result, mine
            assert isinstance(stream, ResponseStream)
            async for update in stream:
                yield _line(update)
            yield _whole(await stream.get_final_response(), asked.call.model)

        updates = 0
        async for line in self._calls.lines(asked, ask):
            said = json.loads(line)
            if said["type"] == "chat_response_update":
                updates += 1
                yield ChatResponseUpdate.from_dict(said)
            elif not updates:
                for update in _apart(ChatResponse.from_dict(said)):
                    yield update


def _asked(context: ChatContext, name: str) -> Asked | None:
    """None where the answer is not to be shared."""
    options = {name: value for name, value in (context.options or {}).items() if value is not None and name not in ("metadata", "user")}
    before = str(options.get("conversation_id") or "")
    if (before and not before.startswith(_IMMUTABLE)) or options.get("background") or options.get("continuation_token"):
        return None
    client: Any = context.client
    model = str(options.pop("model", None) or getattr(client, "model", None) or "")
    url = str(getattr(getattr(client, "client", None), "base_url", None) or "")
    if not (name or model or url):  # all of its class would answer for each other
        raise ConfigError(f"{type(client).__name__} has neither a model's name nor an address to know it by: "
                          "give MemGangMiddleware a name=")
    where = {"name": name} if name else {"class": f"{type(client).__module__}.{type(client).__qualname__}", "url": url}
    try:
        said = [_bare(message.to_dict()) for message in context.messages]
        tools = [_described(tool) for tool in _many(options.pop("tools", None))]
        parameters = {name: _described(value) for name, value in public(options).items()}
    except CodecError:
        return None  # of a kind that has no description: nobody can say whether two are the same
    call = Call("llm", "agent-framework:chat", VERSION, where, model, messages=said, tools=tools or None, parameters=parameters)
    return Asked(call, options.get("temperature") != 0 and options.get("seed") is None)


def _many(tools: Any) -> list[Any]:
    return [] if tools is None else list(tools) if isinstance(tools, list | tuple) else [tools]


def _described(value: Any) -> Any:
    """What a model is told of it, in JSON. CodecError: it is more than a description."""
    if isinstance(value, FunctionTool):
        return value.to_json_schema_spec()
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    if isinstance(value, Mapping):
        return {str(name): _described(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_described(inner) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise CodecError(f"{type(value).__name__} has no description")


def _bare(said: Any) -> Any:
    """A message without what the framework notes on it."""
    if isinstance(said, list):
        return [_bare(one) for one in said]
    if not isinstance(said, dict):
        return said
    aside = _ASIDE | {"id"} if said.get("type") in _CALLS else _ASIDE
    return {name: _bare(value) if name in ("contents", "items") else value for name, value in said.items() if name not in aside}


def _line(said: ChatResponse[Any] | ChatResponseUpdate) -> bytes:
    return json.dumps(said.to_dict(), ensure_ascii=False).encode()


def _whole(answer: ChatResponse[Any], model: str) -> Whole:
    used: Any = answer.usage_details or {}
    kept = not answer.continuation_token and (not answer.conversation_id or answer.conversation_id.startswith(_IMMUTABLE))
    return Whole(_line(answer), model, used.get("input_token_count") or 0, used.get("output_token_count") or 0,
                 used.get("cache_read_input_token_count") or 0, keep=kept)


def _joined(updates: Any, wanted: Any) -> ChatResponse[Any]:
    return ChatResponse.from_updates(updates, output_format_type=wanted)


def _apart(answer: ChatResponse[Any]) -> list[ChatResponseUpdate]:
    """The updates of an answer that came without any: one for each message, and one with what it has used."""
    from agent_framework import Content

    told: dict[str, Any] = {"response_id": answer.response_id, "model": answer.model, "created_at": answer.created_at,
                            "conversation_id": answer.conversation_id}
    found = [ChatResponseUpdate(contents=message.contents, message_id=message.message_id,
                                **told | {"role": message.role, "author_name": message.author_name}) for message in answer.messages]
    end = [Content.from_usage(answer.usage_details)] if answer.usage_details else []
    return [*found, ChatResponseUpdate(contents=end, role="assistant", finish_reason=answer.finish_reason,
                                       message_id=answer.messages[-1].message_id if answer.messages else None, **told)]
