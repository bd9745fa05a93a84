"""A simulated model: it waits and counts like a hosted one, and answers by selecting sentences.

For benchmarks and tests. Nothing it reports was measured: latency and speed are what it was told,
tokens follow the rule of ``wording.estimate``, its price in the table is made up. The same prompt
takes the same time, costs the same and fails the same number of times in every process.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from typing import Any, Self

import msgspec

from memgang.errors import ConfigError, ModelError
from memgang.llms.extractive import VERSION as EXTRACTIVE_VERSION
from memgang.llms.extractive import answer
from memgang.llms.wording import estimate, estimate_messages, messages
from memgang.model import Completion, Prompt

DEFAULTS: dict[str, float] = {"latency_ms": 50, "tokens_per_s": 200, "words": 60, "fail_rate": 0, "seed": 0}
FAILURES = 1  # how often a prompt drawn to fail does so before it answers


class Simulated:
    """Waits ``latency_ms`` and one second for every ``tokens_per_s`` tokens of its answer (0: no such wait).

    ``words`` is the most it answers with. ``fail_rate`` is the share of prompts, drawn by ``seed``, whose
    first call to this instance fails as an overloaded server would; the next call answers.
    """

    price_name = "simulated"

    def __init__(
        self, *, latency_ms: float = 50, tokens_per_s: float = 200, words: int = 60, fail_rate: float = 0, seed: int = 0
    ) -> None:
        if latency_ms < 0 or tokens_per_s < 0 or words < 1 or not 0 <= fail_rate <= 1:
            raise ConfigError(
                "simulated: latency_ms and tokens_per_s must be 0 or more, words 1 or more, fail_rate 0 to 1"
            )
        self.latency_ms, self.tokens_per_s, self.words = latency_ms, tokens_per_s, words
        self.fail_rate, self.seed = fail_rate, seed
        self.name = "simulated"
        self.version = f"1+extractive.{EXTRACTIVE_VERSION}"
        # Only what can alter an answer: waiting longer or failing first does not make it another call.
        self.parameters: dict[str, Any] = {"words": words}
        self._failed: dict[bytes, int] = {}

    @classmethod
    def named(cls, text: str) -> Self:
        """From ``latency_ms=50,tokens_per_s=200``; what is left out keeps its default.

        Raises:
            ConfigError: an unknown parameter, or one that is not a number.
        """
        values = dict(DEFAULTS)
        for pair in filter(None, (p.strip() for p in text.split(","))):
            key, _, value = pair.partition("=")
            if key.strip() not in values:
                raise ConfigError(f"simulated: unknown parameter {key.strip()!r}; known are {', '.join(DEFAULTS)}")
            try:
                values[key.strip()] = float(value)
                if not math.isfinite(values[key.strip()]):
                    raise ValueError(value)
            except ValueError:
                raise ConfigError(f"simulated: {key.strip()}={value!r} is not a finite number") from None
        return cls(
            latency_ms=values["latency_ms"],
            tokens_per_s=values["tokens_per_s"],
            words=int(values["words"]),
            fail_rate=values["fail_rate"],
            seed=int(values["seed"]),
        )

    async def complete(self, prompt: Prompt) -> Completion:
        """Wait, then answer; or raise a transient ModelError where ``fail_rate`` says so."""
        await asyncio.sleep(self.latency_ms / 1000)
        self._maybe_fail(prompt)
        text = answer(msgspec.structs.replace(prompt, words=min(prompt.words, self.words)))
        tokens_out = estimate(text)
        if self.tokens_per_s:
            await asyncio.sleep(tokens_out / self.tokens_per_s)
        return Completion(
            text=text, tokens_in=estimate_messages(messages(prompt)), tokens_out=tokens_out, estimated=True
        )

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _maybe_fail(self, prompt: Prompt) -> None:
        if not self.fail_rate:
            return
        drawn = hashlib.blake2b(f"{self.seed}:".encode() + msgspec.json.encode(prompt), digest_size=8).digest()
        if int.from_bytes(drawn, "big") / 2**64 < self.fail_rate and self._failed.get(drawn, 0) < FAILURES:
            self._failed[drawn] = self._failed.get(drawn, 0) + 1
            raise ModelError(self.name, "transient", "simulated", "simulated failure, as of an overloaded server")
