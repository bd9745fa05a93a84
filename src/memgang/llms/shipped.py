"""A CPU-bound language model whose prompts are answered in worker processes.

The process that asks keeps the model's name, version and parameters, so keys and events are those of the model
itself. A worker loads the model by its name; what a name does not say, it takes from the environment.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from memgang import llms
from memgang.errors import ConfigError
from memgang.model import Completion, LanguageModel, Prompt
from memgang.settings import Settings


@runtime_checkable
class CpuBound(LanguageModel, Protocol):
    """A language model that computes its answers in this process, and holds nothing between prompts."""

    cpu_bound: bool

    def answered(self, prompt: Prompt) -> Completion:
        """As `complete`, but blocks."""
        ...


class Place(Protocol):
    """Where leaves run: of an engine, what is needed here."""

    @property
    def here(self) -> bool: ...

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...

    def spent_here(self, seconds: float) -> None: ...


class Shipped:
    """A model whose answers are made where the engine says."""

    def __init__(self, model: CpuBound, place: Place) -> None:
        self.name, self.price_name, self.version = model.name, model.price_name, model.version
        self.parameters = model.parameters
        self._model, self._place = model, place

    async def complete(self, prompt: Prompt) -> Completion:
        """The model's own answer. Raises what it raises, or WorkFailed if worker processes die at the prompt."""
        if self._place.here:
            began = time.perf_counter()
            completion = await self._model.complete(prompt)
            self._place.spent_here(time.perf_counter() - began)
            return completion
        made = await self._place.run(answer, self.name, prompt)
        assert isinstance(made, Completion)
        return made

    async def aclose(self) -> None:
        """Close the model itself."""
        await self._model.aclose()


def shipped(model: LanguageModel, settings: Settings, place: Place) -> LanguageModel:
    """The model, answered by the workers if it is CPU-bound and a worker can load the same by its name; else as it is."""
    if not isinstance(model, CpuBound) or not model.cpu_bound:
        return model
    try:
        same = llms.load(model.name, settings)
    except ConfigError:
        return model
    if (type(same), same.version, same.parameters) != (type(model), model.version, model.parameters):
        return model
    return Shipped(model, place)


def answer(name: str, prompt: Prompt) -> Completion:
    """In a worker: the answer of the model of that name."""
    return _loaded(name).answered(prompt)


@functools.cache
def _loaded(name: str) -> CpuBound:
    model = llms.load(name, Settings.load())
    assert isinstance(model, CpuBound)  # the asker has looked
    return model
