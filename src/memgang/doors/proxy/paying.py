"""Who pays for a call that a provider is asked for: the agent whose request it was, where its token has a budget.

Hits cost nothing, and those who join a call neither: the one who leads it pays. Before a call what it may cost is put aside,
on the safe side: a token for each byte of the request, as many as a long answer has for each thing that it only names, and
the answer the request itself bounds, or else a long one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from memgang import llms, sse
from memgang.answers import chat
from memgang.answers.answer import encoded, used
from memgang.canonical import read_json
from memgang.doors.proxy.entering import Caller
from memgang.errors import CodecError, ModelError, StoreUnavailable
from memgang.limits.allowances import Allowances, Bill
from memgang.model import Completion, Usage
from memgang.settings import Price
from memgang.sse import Frames

ANSWER_TOKENS = 16_384  # of an answer that the request does not bound
NAMED_TOKENS = 16_384  # of what a request only names, such as an earlier response, a file or the address of an image
# What bounds an answer, by path: a field of another path bounds nothing, and would let the caller choose what is put aside.
BOUNDS = {"/chat/completions": ("max_completion_tokens", "max_tokens"), "/responses": ("max_output_tokens",),
          "/completions": ("max_tokens",), "/embeddings": ()}
_NAMING = frozenset({"previous_response_id", "conversation", "prompt", "image_url", "file_id", "file_ids", "file_url", "audio",
                     "vector_store_ids"})
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
    async def spending(self, caller: Caller, model: str, body: Mapping[str, Any], path: str) -> AsyncIterator[Tab]:
        """A call of this caller is made. ``path`` is where it goes, which must be one of ``BOUNDS``.

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
        most = Usage(tokens_in=len(encoded(body)) + NAMED_TOKENS * named(body), tokens_out=bound(body, path))
        async with contextlib.AsyncExitStack() as paying:
            try:
                bill = await paying.enter_async_context(self.allowances.spending(
                    caller.agent, caller.scope, caller.allows, tokens=most.tokens, money=cost(most, price) + 1 if price is not None else 0))
            except StoreUnavailable as away:
                # The caller's own: who joined it and has no budget goes on without the server.
                raise ModelError(model, "caller", "budget_closed",
                                 f"the memory's server is away, so nobody knows what is left of the budget ({away})") from away
            yield Tab(bill, price)


def bound(body: Mapping[str, Any], path: str) -> int:
    """How many tokens an answer may have. The largest bound: which of several a provider goes by is not known."""
    if path == "/embeddings":
        return 0
    said = [body[name] for name in BOUNDS[path] if body.get(name) is not None]
    most = max((math.ceil(n) if type(n) in (int, float) and 0 < n < 2**31 else ANSWER_TOKENS for n in said), default=ANSWER_TOKENS)
    many = (body.get(name) for name in ("n", "best_of"))  # too many are put aside at worst
    return most * max(min(n, 1024) if type(n) is int and n > 0 else 1 for n in many)


def named(value: Any) -> int:
    """How many things it names without holding them: only the provider knows how long they are."""
    found, left = 0, [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            found += value.get("type") == "item_reference"
            for name, within in value.items():
                if name in _NAMING:
                    found += _names(name, within)
                left.append(within)
    return found


def _names(name: str, value: Any) -> int:
    if isinstance(value, dict):
        value = value.get("url") or value.get("id")
    elif name == "prompt":  # the text itself
        return 0
    if isinstance(value, list):
        return sum(isinstance(one, str) for one in value)
    return int(isinstance(value, str) and not value.startswith("data:"))


def asks_usage(path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """A streamed request with the wish to be told what it costs, which only the caller may have left out; None: it is told already."""
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    if path not in ("/chat/completions", "/completions") or body.get("stream") is not True or options.get("include_usage") is True:
        return None
    return {**body, "stream_options": {**options, "include_usage": True}}


def cost(usage: Usage, price: Price | None) -> int:
    """Micro-dollars."""
    if price is None:
        return 0
    return llms.price(Completion(text="", tokens_in=usage.tokens_in, tokens_out=usage.tokens_out, tokens_cached=usage.tokens_cached), price)


class Tally:
    """Looks for the bill in an answer that is passed through, and hands it on. ``hides``: without the bill, which only we asked for."""

    def __init__(self, content_type: str, *, hides: bool = False) -> None:
        self._streams = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._hides = hides and self._streams
        self._frames, self._body, self._size = Frames(), bytearray(), 0
        self.usage = Usage()

    @property
    def shortens(self) -> bool:
        """Whether less may be handed on than came in."""
        return self._hides

    def take(self, block: bytes) -> bytes:
        """A piece of it; what of it is handed on now."""
        self._size += len(block)
        if self._size > TALLY_BYTES_MAX:  # nothing is looked for in so much
            held = self._frames.rest if self._hides else b""
            self._body.clear()
            self._frames, self._hides = Frames(), False
            return held + block
        if not self._streams:
            self._body += block
            return block
        shown = self._events(block)
        return shown if self._hides else block

    def end(self) -> bytes:
        """It has ended: what is still to be handed on. ``usage`` is what was found by then, nothing where it was not said."""
        if self._body:
            self._look(bytes(self._body))
        rest = self._frames.rest  # some servers leave out the blank line behind the last event
        shown = self._events(b"\n\n") if rest else b""
        return (rest if shown else b"") if self._hides else b""

    def _events(self, block: bytes) -> bytes:
        shown = bytearray()
        for event in self._frames.take(block):
            if b'"usage"' in event:
                self._look(sse.data(event) or b"")
                with contextlib.suppress(CodecError):
                    if self._hides and chat.only_usage(event):
                        continue
            shown += event
        return bytes(shown)

    def _look(self, text: bytes) -> None:
        with contextlib.suppress(CodecError):
            value = read_json(text)
            within = value.get("response") if isinstance(value, dict) and "usage" not in value else value
            fields = within.get("usage") if isinstance(within, dict) else None
            if isinstance(fields, dict):
                chat = "prompt_tokens" in fields
                self.usage = (used(fields, "prompt_tokens", "completion_tokens", "prompt_tokens_details") if chat
                              else used(fields, "input_tokens", "output_tokens", "input_tokens_details"))
