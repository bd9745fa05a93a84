"""A LangChain chat model that answers without a network, counts its calls, and waits at a gate where it is given one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr


class CountedModel(BaseChatModel):
    """Answers in capitals. ``fails``: how many of its first calls raise. Calls wait until `open` is called, if ``gated``."""

    model: str = "gpt-5-mini"
    fails: int = 0
    gated: bool = False
    details: dict[str, Any] = {}
    _calls: list[str] = PrivateAttr(default_factory=list)
    _reached: threading.Event = PrivateAttr(default_factory=threading.Event)
    _open: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def _llm_type(self) -> str:
        return "counted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    @property
    def calls(self) -> list[str]:
        """What it was asked, in order."""
        return self._calls

    async def reached(self) -> None:
        """Until the model is being asked."""
        assert await asyncio.to_thread(self._reached.wait, 30)

    def open(self) -> None:
        """Let it answer."""
        self._open.set()

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        text = str(messages[-1].content)
        self._calls.append(text)
        failing = len(self._calls) <= self.fails
        self._reached.set()
        if self.gated:
            assert self._open.wait(30)
        if failing:
            raise RuntimeError("the model is out")
        message = AIMessage(
            text.upper(), response_metadata={"model_name": self.model} | self.details,
            tool_calls=[{"name": "look", "args": {"at": [1, "x"]}, "id": "call_1"}],
            usage_metadata={"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100,
                            "input_token_details": {"cache_read": 400}})
        return ChatResult(generations=[ChatGeneration(message=message, generation_info={"finish_reason": "stop"})])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return await asyncio.to_thread(self._generate, messages)
