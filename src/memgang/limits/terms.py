"""What a user may limit, and what one call is taken to need before anybody knows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from memgang import llms
from memgang.errors import CallTooLarge, ConfigError
from memgang.llms.wording import estimate_messages, messages
from memgang.model import Completion, LanguageModel, Prompt
from memgang.settings import Price
from memgang.store.keys import check_label
from memgang.store.quotas import Caps

# A call may arrive at the provider this much later than it was admitted: half of it for the way, half for us.
MARGIN = 1 / 60
MARGIN_MIN_S = 0.25
TOKENS_PER_WORD = 2  # on the safe side: English has about 1.3
OUT_MAX = ("max_completion_tokens", "max_tokens")  # parameters by which a provider itself bounds an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a gang may use of its model. 0 or None: no limit of this kind.

    ``concurrency`` is how many calls are under way at once; it is halved when the provider answers 429 or too late, and
    grows back. ``requests_per_minute`` and ``tokens_per_minute`` hold in any 60 s, wherever they begin (in any ``per_s``
    seconds, where that is given). They are shared by all gangs of the space with the same ``name``; without one, by those
    that ask the same model.

    ``usd`` is the most to spend, ``usd_per_agent`` the most of any one agent's name: of one run, or with a ``name``, of
    all gangs that give it, until none has asked for 7 days. A call whose worst case no longer fits is not made. The
    worst case of a model without a ``max_tokens`` of its own is the worst seen: of each gang one call goes first, and
    where later ones use more than any before, those under way may overspend by the difference.

    ``hedge`` is the largest share of calls (0.07: 7 %) that are made twice because the first is unusually slow.
    ``prefix_gate`` lets one call of those that begin with the same 1,024 tokens go first, so that the others find
    them in the provider's cache.

    Raises:
        ConfigError: a number is none or negative, or ``hedge`` above 0.5.
    """

    concurrency: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    usd: float | None = None
    usd_per_agent: float | None = None
    hedge: float = 0.0
    prefix_gate: bool = False
    name: str = ""
    per_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name}={value!r} must be a whole number, 0 (no limit) or more")
        for name in ("usd", "usd_per_agent"):
            value = getattr(self, name)
            if value is not None and not (_number(value) and 0 <= value < math.inf):
                raise ConfigError(f"{name}={value!r} must be 0 or more; None is no limit")
        if not (_number(self.hedge) and 0 <= self.hedge <= 0.5):
            raise ConfigError(f"hedge={self.hedge!r} is a share of the calls and must be between 0 and 0.5")
        if not (_number(self.per_s) and 1 <= self.per_s <= 86_400):
            raise ConfigError(f"per_s={self.per_s!r} must be between 1 and 86400 seconds")
        if self.name:
            check_label("name of a limit", self.name)

    @property
    def margin_s(self) -> float:
        """By how much the window is kept longer than promised, for the way between us and the provider."""
        return max(MARGIN_MIN_S, self.per_s * MARGIN)

    @property
    def shared(self) -> bool:
        """Whether the server has anything to say about a call."""
        return bool(self.concurrency or self.requests_per_minute or self.tokens_per_minute) or self.counts_money

    @property
    def counts_money(self) -> bool:
        """Whether dollars are limited."""
        return self.usd is not None or self.usd_per_agent is not None

    def caps(self) -> Caps:
        """As the server is told."""
        def micro(usd: float | None) -> int | None:
            return None if usd is None else round(usd * 1_000_000)

        return Caps(self.concurrency, self.requests_per_minute, self.tokens_per_minute,
                    round((self.per_s + self.margin_s) * 1000), micro(self.usd), micro(self.usd_per_agent))


def too_large(what: str, tokens: int, most: int) -> CallTooLarge:
    """What needs more tokens than a whole window may hold, with the number that would let it through."""
    error = CallTooLarge(what, tokens, most)
    error.hint = f"raise tokens_per_minute (--tpm) above {tokens:,}, or split what is asked into smaller parts"
    return error


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Need:
    """What a call is taken to use: tokens in all, of these in the answer, and micro-dollars; the worst case where it is known."""

    tokens: int
    out: int
    micro_usd: int


class Estimator:
    """Takes the measure of calls. Learns from what they really used, upwards only: 4 bytes a token is a rule, not a bound."""

    def __init__(self, model: LanguageModel, price: Price | None) -> None:
        self._price = price
        self._in, self._out = 1.0, 1.0  # largest use seen, as a multiple of the rule
        self._bound = next((v for p in OUT_MAX if isinstance(v := model.parameters.get(p), int)), 0)
        self._seen = False

    def need(self, prompt: Prompt) -> Need:
        """What to reserve for a call."""
        into, out = self._rule(prompt)
        into, out = math.ceil(into * self._in), self._bound or math.ceil(out * self._out)
        worst = Completion(text="", tokens_in=into, tokens_out=out)
        # Rounded up: a reservation that is one half micro-dollar short lets a call too many begin.
        micro = llms.price(worst, self._price) + 1 if self._price is not None else 0
        return Need(into + out, out, micro)

    def used(self, prompt: Prompt, completion: Completion) -> None:
        """What a call really used."""
        into, out = self._rule(prompt)
        self._in = max(self._in, completion.tokens_in / into)
        self._out = max(self._out, completion.tokens_out / out)
        self._seen = True

    def known(self) -> bool:
        """Whether what a call may use is more than a guess."""
        return bool(self._bound) or self._seen

    @staticmethod
    def _rule(prompt: Prompt) -> tuple[int, int]:
        return max(estimate_messages(messages(prompt)), 1), max(prompt.words * TOKENS_PER_WORD, 16)
