"""The prefix gate: of calls that begin alike, one goes first, and the rest follow when its first token is there.

A provider keeps what it has read of a prompt for the next that begins the same way, once it has read it. Calls sent at the
same moment all find nothing and pay in full. The gate is a matter of cost alone: nobody waits longer than `GATE_S`, and
without a server it works in each process for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from memgang.codec import digest
from memgang.errors import StoreUnavailable
from memgang.llms.wording import BYTES_PER_TOKEN, messages
from memgang.model import Prompt
from memgang.store import quotas
from memgang.store.store import Store

PREFIX_BYTES = 1024 * BYTES_PER_TOKEN  # shorter prompts are in no provider's cache
GATE_S = 10.0
WARM_S = 240.0  # providers forget after 5 minutes without use, or later
KNOWN_MAX = 10_000


@dataclass(slots=True)
class _Prefix:
    """One beginning: who goes first opens it; ``warm`` is when it was used last, 0 while nobody is through."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    warm: float = 0.0


class Gate:
    """The gate of one model in one process, joined with those of others through the server."""

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model = store, model
        self._known: OrderedDict[str, _Prefix] = OrderedDict()

    @contextlib.asynccontextmanager
    async def through(self, prompt: Prompt) -> AsyncIterator[Callable[[], None] | None]:
        """Wait until the prefix of the prompt is with the provider. Who goes first is given what to call at its first token."""
        key = self._key(prompt)
        lead = await self._wait(key) if key is not None else None
        if key is None or lead is None:
            yield None
            return
        tell: list[asyncio.Task[None]] = []

        def first_token() -> None:
            if not lead.warm:
                lead.warm = time.monotonic()
                lead.opened.set()
                tell.append(asyncio.create_task(self._tell(key, True)))

        try:
            yield first_token
            first_token()  # from a model that does not stream: its answer is there
        finally:
            if not lead.warm:  # it failed: let another go first
                if self._known.get(key) is lead:
                    del self._known[key]
                lead.opened.set()
                tell.append(asyncio.create_task(self._tell(key, False)))
            with contextlib.suppress(Exception):
                await asyncio.gather(*tell)

    async def _wait(self, key: str) -> _Prefix | None:
        """None: go. Else this call goes first."""
        until = time.monotonic() + GATE_S
        while (left := until - time.monotonic()) > 0:
            known = self._known.get(key)
            if known is not None and known.warm and time.monotonic() - known.warm < WARM_S:
                known.warm = time.monotonic()
                return None
            if known is None or known.warm:
                mine = self._known[key] = _Prefix()
                self._known.move_to_end(key)
                if len(self._known) > KNOWN_MAX:
                    self._known.popitem(last=False)
                try:
                    if await self._first_of_all(key, left):
                        return mine
                    mine.warm = time.monotonic()
                    return None
                except BaseException:
                    if self._known.get(key) is mine:  # else it was put away meanwhile
                        del self._known[key]
                    raise
                finally:
                    if mine.warm or self._known.get(key) is not mine:
                        mine.opened.set()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await known.opened.wait()
        return None

    async def _first_of_all(self, key: str, left: float) -> bool:
        """Whether no other process is at it or was before; if one is at it, wait for it."""
        try:
            return await quotas.first_through(self._store.wire, self._store.wakeups, self._name(key),
                                              wait_ms=round(left * 1000), warm_ms=round(WARM_S * 1000))
        except StoreUnavailable:
            return True

    async def _tell(self, key: str, warm: bool) -> None:
        with contextlib.suppress(StoreUnavailable):
            await quotas.opened(self._store.wire, self._name(key), round(WARM_S * 1000) if warm else 0)

    def _name(self, key: str) -> str:
        return self._store.keys.gate(key)

    def _key(self, prompt: Prompt) -> str | None:
        text = b"\0".join(f"{m['role']}:{m['content']}".encode("utf-8", "surrogatepass") for m in messages(prompt))
        if len(text) < PREFIX_BYTES:
            return None
        return digest(self._model.encode() + b"\0" + text[:PREFIX_BYTES], self._store.keys.secret)
