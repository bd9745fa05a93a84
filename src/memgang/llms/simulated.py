"""A simulated model: it waits and counts like a hosted one, and answers by selecting sentences.

For benchmarks and tests. Nothing it reports was measured: latency and speed are what it was told,
tokens follow the rule of ``wording.estimate``, its price in the table is made up. The same prompt
takes the same time, costs the same and fails the same number of times in every process.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Self

import msgspec

from memgang.errors import ConfigError, ModelError
from memgang.llms.extractive import VERSION as EXTRACTIVE_VERSION
from memgang.llms.extractive import answer
from memgang.llms.wording import BYTES_PER_TOKEN, estimate, estimate_messages, messages
from memgang.model import Completion, Prompt

DEFAULTS: dict[str, float] = {
    "latency_ms": 50, "tokens_per_s": 200, "words": 60, "fail_rate": 0, "seed": 0, "rpm": 0, "retry_after_s": 0,
    "slow_rate": 0, "slow_factor": 10, "cache": 0,
}
FAILURES = 1  # how often a prompt drawn to fail does so before it answers
CACHE_MIN, CACHE_STEP = 1024, 128  # tokens: the shortest prefix that is kept, and by how much longer ones grow
PIECE_WORDS = 4


class Simulated:
    """Waits ``latency_ms`` for its first token and one second for every ``tokens_per_s`` of its answer (0: no such wait).

    ``words`` is the most it answers with. ``fail_rate`` is the share of prompts, drawn by ``seed``, whose
    first call to this instance fails as an overloaded server would; the next call answers. ``rpm``: more requests than
    that in any 60 s are refused with 429, and told to come back after ``retry_after_s`` (0: it does not say).
    ``slow_rate`` is the share of calls, drawn by ``seed``, that take ``slow_factor`` times as long; the same prompt
    asked again is drawn anew. With ``cache=1`` what was read of a prompt, from 1,024 tokens on, is kept from its first
    token on, and reported as cached to those that begin alike. What is counted or kept is this instance's alone.
    """

    price_name = "simulated"
    deterministic = True  # asked again, it answers the same: one answer for all who ask

    def __init__(
        self, *, latency_ms: float = 50, tokens_per_s: float = 200, words: int = 60, fail_rate: float = 0, seed: int = 0,
        rpm: float = 0, retry_after_s: float = 0, slow_rate: float = 0, slow_factor: float = 10, cache: float = 0,
    ) -> None:
        if latency_ms < 0 or tokens_per_s < 0 or words < 1 or not 0 <= fail_rate <= 1:
            raise ConfigError(
                "simulated: latency_ms and tokens_per_s must be 0 or more, words 1 or more, fail_rate 0 to 1"
            )
        if rpm < 0 or retry_after_s < 0 or not 0 <= slow_rate <= 1 or slow_factor < 1:
            raise ConfigError("simulated: rpm and retry_after_s must be 0 or more, slow_rate 0 to 1, slow_factor 1 or more")
        self.latency_ms, self.tokens_per_s, self.words = latency_ms, tokens_per_s, words
        self.fail_rate, self.seed = fail_rate, seed
        self.rpm, self.retry_after_s = rpm, retry_after_s
        self.slow_rate, self.slow_factor, self.cache = slow_rate, slow_factor, bool(cache)
        self.name = "simulated"
        self.version = f"1+extractive.{EXTRACTIVE_VERSION}"
        # Only what can alter an answer: waiting longer or failing first does not make it another call.
        self.parameters: dict[str, Any] = {"words": words}
        self._failed: dict[bytes, int] = {}
        self._arrived: deque[float] = deque()
        self._asked: dict[bytes, int] = {}
        self._kept: set[bytes] = set()

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
        words, seed = int(values.pop("words")), int(values.pop("seed"))
        return cls(words=words, seed=seed, **values)

    async def complete(self, prompt: Prompt) -> Completion:
        """Wait, then answer; or raise a transient ModelError where ``fail_rate`` or ``rpm`` say so."""
        slower, cached = await self._begin(prompt)
        completion = self._answer(prompt, cached)
        if self.tokens_per_s:
            await asyncio.sleep(completion.tokens_out / self.tokens_per_s * slower)
        return completion

    async def stream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """As `complete`, a few words at a time."""
        slower, cached = await self._begin(prompt)
        completion = self._answer(prompt, cached)
        words = completion.text.split(" ")
        for start in range(0, len(words), PIECE_WORDS):
            if start and self.tokens_per_s:
                share = min(PIECE_WORDS, len(words) - start) / len(words)
                await asyncio.sleep(share * completion.tokens_out / self.tokens_per_s * slower)
            piece = " ".join(words[start:start + PIECE_WORDS])
            yield piece if start + PIECE_WORDS >= len(words) else piece + " "
        yield completion

    async def aclose(self) -> None:
        """Nothing to give back."""

    async def _begin(self, prompt: Prompt) -> tuple[float, int]:
        """Up to the first token: how much slower than told this call is, and how many tokens of it were kept."""
        self._count()
        slower = self._drawn_slower(prompt)
        blocks = self._blocks(prompt) if self.cache else []
        cached = max((size for size, block in blocks if block in self._kept), default=0)
        await asyncio.sleep(self.latency_ms / 1000 * slower)
        self._maybe_fail(prompt)
        self._kept.update(block for _, block in blocks)
        return slower, cached

    def _answer(self, prompt: Prompt, cached: int) -> Completion:
        text = answer(msgspec.structs.replace(prompt, words=min(prompt.words, self.words)))
        tokens_in = estimate_messages(messages(prompt))
        return Completion(text=text, tokens_in=tokens_in, tokens_out=estimate(text), tokens_cached=min(cached, tokens_in),
                          estimated=True)

    def _count(self) -> None:
        if not self.rpm:
            return
        now = time.monotonic()
        while self._arrived and self._arrived[0] <= now - 60:
            self._arrived.popleft()
        if len(self._arrived) >= self.rpm:
            raise ModelError(self.name, "transient", "429 simulated", f"simulated: more than {self.rpm:g} requests a minute",
                             self.retry_after_s)
        self._arrived.append(now)

    def _drawn_slower(self, prompt: Prompt) -> float:
        if not self.slow_rate:
            return 1.0
        said = msgspec.json.encode(prompt)
        number = self._asked[said] = self._asked.get(said, 0) + 1
        drawn = hashlib.blake2b(f"{self.seed}:slow:{number}:".encode() + said, digest_size=8).digest()
        return self.slow_factor if int.from_bytes(drawn, "big") / 2**64 < self.slow_rate else 1.0

    @staticmethod
    def _blocks(prompt: Prompt) -> list[tuple[int, bytes]]:
        """The beginnings of the prompt that are kept, the shortest first: tokens and digest of each."""
        said = "\0".join(m["content"] for m in messages(prompt)).encode("utf-8", "surrogatepass")
        hashed, blocks, done = hashlib.blake2b(digest_size=16), [], 0
        for size in range(CACHE_MIN, len(said) // BYTES_PER_TOKEN + 1, CACHE_STEP):
            hashed.update(said[done:size * BYTES_PER_TOKEN])
            done = size * BYTES_PER_TOKEN
            blocks.append((size, hashed.digest()))
        return blocks

    def _maybe_fail(self, prompt: Prompt) -> None:
        if not self.fail_rate:
            return
        drawn = hashlib.blake2b(f"{self.seed}:".encode() + msgspec.json.encode(prompt), digest_size=8).digest()
        if int.from_bytes(drawn, "big") / 2**64 < self.fail_rate and self._failed.get(drawn, 0) < FAILURES:
            self._failed[drawn] = self._failed.get(drawn, 0) + 1
            raise ModelError(self.name, "transient", "simulated", "simulated failure, as of an overloaded server")
