"""Keys and arguments of every script, as src/memgang/store/scripts.py forms them, for one shard of one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Request(NamedTuple):
    """One call of a script."""

    script: str
    keys: tuple[str, ...]
    args: tuple[str, ...]


class Shard:
    """The keys of one shard, made once."""

    def __init__(self, tag: str = "{s.00}") -> None:
        self.at = f"mg:{tag}:"
        self.head = (self.at + "u", self.at + "a")
        self.indexes = (*self.head, self.at + "x", self.at + "r", self.at + "l")

    def flight(self, call: str) -> tuple[str, str, str, str]:
        """Totals, log, flight, chunks."""
        return (*self.head, f"{self.at}f:{call}", f"{self.at}s:{call}")

    def record(self, ident: str) -> str:
        """The record of an object."""
        return f"{self.at}o:{ident}"

    def claim(self, call: str, who: str, owner: str, inc: str, lease: int, attempts: int, hold: int,
              unusable: tuple[str, str] = ("", ""), keep: int = 0) -> Request:
        return Request("claim", self.flight(call), (
            who, "", owner, inc, str(lease), str(attempts), str(hold), *unusable, str(keep)))

    def beat(self, call: str, who: str, owner: str, fence: str, lease: int) -> Request:
        return Request("beat", self.flight(call)[:3], (who, "", owner, fence, str(lease)))

    def commit(self, call: str, who: str, owner: str, fence: str, answer: str, ttl: int, ms: int = 5, usd: int = 7,
               valid: str = "", usage: str = "{}", stale: int = 0, elsewhere: bool = False) -> Request:
        keys = self.flight(call) if elsewhere else (*self.flight(call), self.record(answer))
        return Request("commit", keys, (
            who, "", owner, fence, answer, str(ttl), str(ms), str(usd), valid, usage, str(stale),
            '{"executions:llm":1,"tok_in":3}', '{"lost_tok_in":3,"lost_usd":7}'))

    def fail(self, call: str, who: str, owner: str, fence: str, kind: str, error: str, pause: int) -> Request:
        return Request("fail", self.flight(call)[:3], (who, "", owner, fence, kind, error, str(pause), '{"failed":1,"lost_ms":5}'))

    def release(self, call: str, who: str, owner: str, fence: str) -> Request:
        """With owner '' the fence is the inc of a dead process."""
        return Request("release", self.flight(call)[:3], (who, "", owner, fence, '{"released":1}' if owner else '{"died":1}'))

    def drop(self, calls: Sequence[tuple[str, str]], who: str, reason: str) -> Request:
        keys = [k for call, _ in calls for k in self.flight(call)[2:]]
        return Request("drop", (*self.head, *keys), (who, "", reason, *(only for _, only in calls)))

    def chunk(self, call: str, who: str, owner: str, fence: str, seq: int, kind: str, data: str, limit: int, wake: bool) -> Request:
        return Request("chunk", self.flight(call), (
            who, "", owner, fence, str(seq), kind, data, str(limit), "1" if wake else "0"))

    def put(self, ident: str, who: str, op: str, body: str, ttl: int = 0, cost: str = "0.001", limit: int = 0,
            guard: int = 60_000, keep: bool = False, call: str = "", parents: str = "", how: str = "inline", size: int | None = None,
            what: str | None = None, nonce: str = "none", meta: str = "{}", trust: int = 0, share: int = 0) -> Request:
        keys = (*self.head, self.record(ident), f"{self.at}b:{ident}", f"{self.at}b:{ident}:t:{nonce}", *self.indexes[2:])
        return Request("put", keys, (
            who, "", op, "text/plain", str(len(body) if size is None else size), how, body if what is None else what, str(ttl),
            cost, str(limit), str(guard), "1" if keep else "0", str(trust), call, meta, parents, str(share)))

    def put_many(self, bodies: Sequence[tuple[str, str]], who: str, op: str, ttl: int = 0, cost: str = "0.001", limit: int = 0,
                 guard: int = 60_000, keep: bool = False, parents: str = "", meta: str = "{}", share: int = 0) -> Request:
        own = [k for ident, _ in bodies for k in (self.record(ident), f"{self.at}b:{ident}")]
        each = [word for _, body in bodies for word in ("text/plain", body, meta, "{}")]
        return Request("put_many", (*self.indexes, *own), (
            who, "", op, str(ttl), cost, str(limit), str(guard), "1" if keep else "0", parents, str(share), *each))

    def get(self, *idents: str, most: int = 1 << 20) -> Request:
        return Request("get", (*self.head, *(k for i in idents for k in (self.record(i), f"{self.at}b:{i}"))), ("", "", str(most)))

    def pin(self, ident: str, who: str, holder: str, ms: int) -> Request:
        return Request("pin", (*self.head, self.record(ident), f"{self.at}p:{ident}"), (who, "", holder, str(ms)))

    def _three(self, ident: str) -> tuple[str, str, str]:
        return (self.record(ident), f"{self.at}b:{ident}", f"{self.at}p:{ident}")

    def forget(self, idents: Sequence[str], who: str, why: str, op: str, root: str = "-", mark: int = 60_000) -> Request:
        keys = [k for i in idents for k in (*self._three(i), f"{self.at}t:{i}")]
        return Request("forget", (*self.indexes, *keys), (who, "", why, op, root, str(mark)))

    def sweep(self, idents: Sequence[str], who: str = "janitor") -> Request:
        return Request("sweep", (*self.indexes, *(k for i in idents for k in self._three(i))), (who, ""))

    def evict(self, idents: Sequence[str], need: int, who: str = "janitor", of: str = "") -> Request:
        return Request("evict", (*self.indexes, *(k for i in idents for k in self._three(i))), (who, "", str(need), of))

    def touch(self, inc: str, batch: int, reads: Sequence[tuple[str, int]], packed: str = "p", counters: str = '{"hits":1}') -> Request:
        keys = (self.at + "u", self.at + "h", self.at + "q", self.at + "r", *(self.record(i) for i, _ in reads))
        return Request("touch", keys, ("w", "", inc, str(batch), packed, counters, *(str(n) for _, n in reads)))

    def name(self, text: str, who: str, op: str, ident: str, expect: str) -> Request:
        return Request("name", (*self.head, f"{self.at}n:{text}", self.at + "m", f"{self.at}v:{text}"),
                       (who, "", op, ident, expect, text, "1000"))

    def kin(self, idents: Sequence[str]) -> Request:
        return Request("kin", (*self.head, *(k for i in idents for k in (self.record(i), f"{self.at}p:{i}"))), ("", ""))
