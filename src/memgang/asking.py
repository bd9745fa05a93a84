"""Asking a language model: a place in the line, the answer, and what it cost.

    gang.llm -> recall -> (on a miss) Asker.ask -> model
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

from memgang import llms
from memgang.model import Completion, LanguageModel, Prompt, StreamingModel, Usage, current_work
from memgang.settings import Price


class Asker:
    """All questions of one gang to its model. Belongs to one event loop."""

    def __init__(self, model: LanguageModel, prices: Mapping[str, Price], concurrency: int) -> None:
        self.model = model
        self._prices = prices
        self._places = asyncio.Semaphore(concurrency)

    async def ask(self, prompt: Prompt) -> tuple[Completion, Usage]:
        """The model's answer and its cost. Raises what the model raises."""
        async with self._place():
            completion = await self.model.complete(prompt)
        return completion, self.priced(completion)

    async def stream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Pieces of the answer, and last the whole; from a model that does not stream, the answer in one piece."""
        async with self._place():
            if isinstance(self.model, StreamingModel):
                async for piece in self.model.stream(prompt):
                    yield piece
            else:
                completion = await self.model.complete(prompt)
                yield completion.text
                yield completion

    def priced(self, completion: Completion) -> Usage:
        """What a completion used, with its price, counted as one call of the model."""
        price = self._prices.get(self.model.price_name)
        return Usage(llm_calls=1, tokens_in=completion.tokens_in, tokens_out=completion.tokens_out,
                     tokens_cached=completion.tokens_cached, estimated=completion.estimated,
                     micro_usd=llms.price(completion, price) if price is not None else 0)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        began = time.perf_counter()
        async with self._places:  # a leaf: nobody who holds it waits for an agent
            if (work := current_work.get()) is not None:
                work.inner_ms += (time.perf_counter() - began) * 1000  # standing in line is not work
            yield
