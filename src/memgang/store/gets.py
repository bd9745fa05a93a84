"""Bodies that are asked for at the same time are brought by one script.

    64 callers: get(a) get(b) ...   while a script is under way the others gather; they are the next one

Much of what a small script costs, on both sides, is that it is one. Who asks for the same object while it waits to be
sent shares its reply, and not later: it is carried out after everybody who shares it has asked, so nobody is told of a
state from before their question. A caller that is cancelled takes nothing from the others.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Literal

from redis.exceptions import NoScriptError, ResponseError

from memgang.errors import StoreUnavailable
from memgang.model import Ref
from memgang.store import scripts
from memgang.store.keys import Keys
from memgang.store.replies import translated
from memgang.store.scripts import Body, _surprise
from memgang.store.wire import Wire

Found = Body | Literal["absent", "expired", "lost", "damaged"]
Asked = list[asyncio.Future[Found]]

# Two, so that the server reads for some while the others are at work with what it read: all in one step would wait for
# each other. More do not help: callers, not round trips, are what is short then.
UNDER_WAY = 2
MOST = 32  # objects of one script: 0.2 ms of the server
BYTES = 1 << 20  # of one reply, but for the first object: more would hold up small calls, and stand twice in memory


class Gets:
    """The reads of one space that are waited for. Lives as long as the Space."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire, self._keys = wire, keys
        self._waiting: dict[Ref, Asked] = {}
        self._woken = False
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, ref: Ref) -> asyncio.Future[Found]:
        """A body by the server's clock, or why there is none, when it has come.

        Raises (the future):
            StoreUnavailable, ServerUnfit: as `Wire.call`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        if (asked := self._waiting.get(ref)) is not None:
            asked.append(future)
        else:
            self._waiting[ref] = [future]
        if not self._woken and self._under_way < UNDER_WAY:
            self._woken = True
            loop.call_soon(self._go)  # with what is asked in this turn of the loop
        return future

    def _go(self) -> None:
        self._woken = False
        while self._waiting and self._under_way < UNDER_WAY:
            by_shard: dict[int, dict[Ref, Asked]] = {}
            for ref in list(itertools.islice(self._waiting, MOST)):
                by_shard.setdefault(self._keys.shard_of(ref.id), {})[ref] = self._waiting.pop(ref)
            for shard, asked in by_shard.items():
                self._send(shard, asked)
        self._wire.hurry()  # this turn of the loop has been waited for

    def _send(self, shard: int, asked: dict[Ref, Asked], loaded: bool = False) -> None:
        self._under_way += 1
        reply = self._wire.call(*scripts.get_command(self._keys, shard, list(asked), BYTES))
        reply.add_done_callback(lambda reply: self._came(reply, shard, asked, loaded))

    def _came(self, reply: asyncio.Future[list[Any]], shard: int, asked: dict[Ref, Asked], loaded: bool) -> None:
        self._under_way -= 1
        error = StoreUnavailable("stopped") if reply.cancelled() else reply.exception()
        if error is None:
            self._answer(asked, reply.result())
        elif isinstance(error, NoScriptError) and not loaded:
            task = asyncio.get_running_loop().create_task(self._load(shard, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(error, ResponseError) and len(asked) > 1:
            for ref, futures in asked.items():  # one of the keys is of another program: that object alone is refused
                self._send(shard, {ref: futures}, loaded)
        else:
            _refuse(asked, error)
        if self._waiting and not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._go)

    async def _load(self, shard: int, asked: dict[Ref, Asked]) -> None:
        """The server has forgotten the script: it is given it again."""
        try:
            await scripts.load(self._wire)
        except Exception as error:
            _refuse(asked, error)
        else:
            self._send(shard, asked, loaded=True)

    def _answer(self, asked: dict[Ref, Asked], reply: list[Any]) -> None:
        if len(reply) != len(asked) + 1:
            _refuse(asked, _surprise("get", reply))
            return
        for (ref, futures), words in zip(asked.items(), reply[1:], strict=True):
            try:
                found = scripts.found(words)
            except StoreUnavailable as error:
                _refuse({ref: futures}, error)
                continue
            if found == "later":
                self._waiting[ref] = futures + self._waiting.get(ref, [])
                continue
            for future in futures:
                if not future.done():
                    future.set_result(found)


def _refuse(asked: dict[Ref, Asked], error: BaseException) -> None:
    refusal = translated(error, "get") if isinstance(error, Exception) else StoreUnavailable("stopped")
    if refusal is not error:
        refusal.__cause__ = error
    for futures in asked.values():
        for future in futures:
            if not future.done():
                future.set_exception(refusal)
                future.exception()  # seen: nobody may be left to look
