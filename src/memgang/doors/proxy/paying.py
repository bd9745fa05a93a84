"""Who pays for a call that a provider is asked for: the agent whose request it was, where its token has a budget.

Hits cost nothing, and those who join a call neither: the one who leads it pays. Before a call what it may cost is put aside,
on the safe side: a token for each byte of the request, and the answer the request itself bounds, or else a long one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from memgang import llms, sse
from memgang.answers.answer import encoded, used
from memgang.canonical import read_json
from memgang.doors.proxy.entering import Caller
from memgang.errors import CodecError, ModelError, StoreUnavailable
from memgang.limits.allowances import Allowances, Bill
from memgang.model import Completion, Usage
from memgang.settings import Price
from memgang.sse import Frames

ANSWER_TOKENS = 16_384  # of an answer that the request does not bound
BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
TALLY_BYTES_MAX = 64 * 1024 * 1024


class Tab:
    """What one call is taken to cost, until it is known."""

    def __init__(self, bill: Bill | None, price: Price | None) -> None:
        self._bill, self._price = bill, price

    @property
    def open(self) -> bool:
        """Whether anybody wants to know."""
        return self._bill is not None

    def was(self, usage: Usage) -> None:
        """What the provider said. Where it said nothing, what was put aside is paid: it may have been billed."""
        if self._bill is not None and usage.tokens:
            self._bill.tokens, self._bill.money = usage.tokens, cost(usage, self._price)

    def nothing(self) -> None:
        """It was refused before any work, or never arrived."""
        if self._bill is not None:
            self._bill.tokens = self._bill.money = 0


class Payer:
    """The budgets of those who come in by one proxy."""

    def __init__(self, allowances: Allowances, prices: Mapping[str, Price]) -> None:
        self.allowances, self._prices = allowances, prices

    def price(self, model: str) -> Price | None:
        """What a model costs, if that is known."""
        return self._prices.get(model)

    @contextlib.asynccontextmanager
    async def spending(self, caller: Caller, model: str, body: Mapping[str, Any], *, answers: bool = True) -> AsyncIterator[Tab]:
        """A call of this caller is made. ``answers``: it is answered with text.

        Raises:
            AllowanceExceeded: the budget does not allow it.
            ModelError: nobody knows what it would cost, or, while the server is away, what is left.
        """
        if not caller.allows.counts_spending:
            yield Tab(None, None)
            return
        price = self._prices.get(model)
        if price is None and caller.allows.money is not None:
            raise ModelError(model, "caller", "model_not_priced",
                             "this agent's dollars are counted and nobody knows its price; MEMGANG_PRICES names one")
        most = Usage(tokens_in=len(encoded(body)), tokens_out=bound(body) if answers else 0)
        async with contextlib.AsyncExitStack() as paying:
            try:
                bill = await paying.enter_async_context(self.allowances.spending(
                    caller.agent, caller.scope, caller.allows, tokens=most.tokens, money=cost(most, price) + 1 if price is not None else 0))
            except StoreUnavailable as away:
                # The caller's own: who joined it and has no budget goes on without the server.
                raise ModelError(model, "caller", "budget_closed",
                                 f"the memory's server is away, so nobody knows what is left of the budget ({away})") from away
            yield Tab(bill, price)


def bound(body: Mapping[str, Any]) -> int:
    """How many tokens an answer may have."""
    most = min((n for name in BOUNDS if type(n := body.get(name)) is int and 0 < n < 2**31), default=ANSWER_TOKENS)
    many = body.get("n")
    return most * (min(many, 1024) if type(many) is int and many > 0 else 1)


def cost(usage: Usage, price: Price | None) -> int:
    """Micro-dollars."""
    if price is None:
        return 0
    return llms.price(Completion(text="", tokens_in=usage.tokens_in, tokens_out=usage.tokens_out, tokens_cached=usage.tokens_cached), price)


class Tally:
    """Looks for the bill in an answer that is passed through."""

    def __init__(self, content_type: str) -> None:
        self._streams = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._frames, self._body, self._size = Frames(), bytearray(), 0
        self.usage = Usage()

    def take(self, block: bytes) -> None:
        """A piece of it."""
        self._size += len(block)
        if self._size > TALLY_BYTES_MAX:
            self._body.clear()
        elif not self._streams:
            self._body += block
        else:
            for event in self._frames.take(block):
                if b'"usage"' in event:
                    self._look(sse.data(event) or b"")

    def end(self) -> Usage:
        """What was found; nothing where it was not said."""
        if self._body:
            self._look(bytes(self._body))
        return self.usage

    def _look(self, text: bytes) -> None:
        with contextlib.suppress(CodecError):
            value = read_json(text)
            within = value.get("response") if isinstance(value, dict) and "usage" not in value else value
            fields = within.get("usage") if isinstance(within, dict) else None
            if isinstance(fields, dict):
                chat = "prompt_tokens" in fields
                self.usage = (used(fields, "prompt_tokens", "completion_tokens", "prompt_tokens_details") if chat
                              else used(fields, "input_tokens", "output_tokens", "input_tokens_details"))
