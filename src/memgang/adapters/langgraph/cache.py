"""LangGraph's cache of nodes in a space: what one graph has computed, all graphs of all processes are given.

LangGraph asks for all nodes of a step before it runs them (`get`), runs those that are missing, and brings their writes
(`set`); a node that fails brings nothing. So a `get` that finds nothing claims the node for its graph, and other graphs
that ask for it wait.

It asks again whenever a node that runs calls a task, for that task and for all that run in its step. To wait then for
what the same step is at could be to wait for oneself, and LangGraph would add the writes of a node twice if they came by
both ways. So inside a node nothing is waited for that this cache looks for or has reported missing; the price is that equal tasks of
one step all run. Wrap what they do in `Space.once` or use `MemGangLLMCache`, and they share too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from langgraph.cache.base import BaseCache, FullKey, Namespace, ValueT
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.config import get_config

from memgang.adapters.looks import Looks
from memgang.blocking import BlockingSpace
from memgang.codec import TTL, digest, json_bytes
from memgang.model import Call
from memgang.space import Space

TAG = "langgraph-cache"
VERSION = "1"  # of what is kept; it goes into every key


class MemGangCache(BaseCache[ValueT]):
    """A `BaseCache` that all processes share, and whose misses are claimed. Safe from many threads, tasks and processes.

    Of those who ask for a key at once the first gets nothing and leads. The others wait for its `set`, at most
    ``wait_s`` seconds, then they compute it too. If the task that awaits the leader's run ends without it they go on at once
    (where that task catches the error and goes on, in a run that blocks, or in a task called by a node: after ``wait_s``), if
    its process dies after the space's lease.

    An entry is used as long as LangGraph's ``ttl`` says and kept no longer than ours. An entry that cannot be kept, for
    want of room or server, is lost without an error.
    """

    def __init__(
        self, space: Space | BlockingSpace, *, wait_s: float = 60.0, ttl: TTL = "default", serde: SerializerProtocol | None = None,
    ) -> None:
        """``ttl``: how long entries are kept at most, ``"default"`` as long as any answer of the space, None for ever.

        Raises:
            ConfigError: no such space, or one of the options is none.
        """
        super().__init__(serde=serde)
        self._looks = Looks(space, wait_s=wait_s, ttl=ttl, tag=TAG)
        self._wait_s = wait_s
        self._missing: dict[FullKey, float] = {}  # looked for, or reported missing -> until when a value is expected

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """See `aget`; blocks."""
        found: dict[FullKey, ValueT] = {}
        for key in self._worth_a_look(keys):
            self._found(found, key, self._looks.look(_call(key), _tags(key)))
        return found

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """The values that are there, or that somebody was at and has brought; what is missing is claimed for the caller."""
        found: dict[FullKey, ValueT] = {}
        # Inside a node it is a short-lived task of LangGraph's that asks, and ends when the work begins.
        tied = not _inside_a_node()
        for key in self._worth_a_look(keys):
            self._found(found, key, await self._looks.alook(_call(key), _tags(key), tied=tied))
        return found

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """See `aset`; blocks."""
        for key, (value, ttl_s) in pairs.items():
            self._missing.pop(_plain(key), None)
            self._looks.settle(_call(key), self._packed(key, value), ttl_s=ttl_s, tags=_tags(key))

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Keep the values, for so many seconds (None: as long as entries are kept), and give them to all who wait."""
        for key, (value, ttl_s) in pairs.items():
            self._missing.pop(_plain(key), None)
            await self._looks.asettle(_call(key), self._packed(key, value), ttl_s=ttl_s, tags=_tags(key))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See `aclear`; blocks."""
        for tag in _cleared(namespaces):
            self._looks.bridge.wait(self._looks.clear(tag))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget the entries of these namespaces, or all, for all processes. What is being computed is kept when it is there."""
        for tag in _cleared(namespaces):
            await self._looks.bridge.here(self._looks.clear(tag))

    # ── what is asked for ─────────────────────────────────────────────────────────────────────

    def _worth_a_look(self, keys: Sequence[FullKey]) -> list[FullKey]:
        """In one order for all graphs: of two that ask for the same two keys, none waits for what the other cannot begin."""
        plain, now = sorted({_plain(key) for key in keys}), time.monotonic()
        if _inside_a_node():
            plain = [key for key in plain if self._missing.get(key, now) <= now]
        for old in [old for old, until in self._missing.copy().items() if until <= now]:
            self._missing.pop(old, None)  # its node has failed, or has taken longer than anybody waits
        # From here on, not from the answer on: a step may ask for the same again before it is there.
        self._missing |= dict.fromkeys(plain, now + self._wait_s)
        return plain

    def _found(self, found: dict[FullKey, ValueT], key: FullKey, body: bytes | None) -> None:
        if body is None:
            return
        try:
            _, _, kind, payload = msgspec.msgpack.decode(body, type=tuple[list[str], str, str, bytes])
        except msgspec.MsgspecError:
            return  # not written by us: as good as nothing
        found[key] = self.serde.loads_typed((kind, payload))
        self._missing.pop(key, None)

    def _packed(self, key: FullKey, value: Any) -> bytes:
        # With its key, so that equal values of two nodes are two objects: one can be cleared without the other.
        return msgspec.msgpack.encode((list(key[0]), key[1], *self.serde.dumps_typed(value)))


def _plain(key: FullKey) -> FullKey:
    return tuple(key[0]), key[1]


def _call(key: FullKey) -> Call:
    return Call("function", "langgraph:cache", VERSION, [list(key[0]), key[1]])


def _tags(key: FullKey) -> tuple[str, ...]:
    return (_tag(tuple(key[0])),)


def _tag(namespace: Namespace) -> str:
    return f"{TAG}-{digest(json_bytes(list(namespace)))}"


def _cleared(namespaces: Sequence[Namespace] | None) -> list[str]:
    return [""] if namespaces is None else [_tag(tuple(namespace)) for namespace in namespaces]


def _inside_a_node() -> bool:
    try:
        return "langgraph_node" in (get_config().get("metadata") or {})
    except RuntimeError:  # nothing of LangGraph runs around us
        return False
