"""The server's data as the scripts see it: keys, when they end, and what was published.

Hashes are dicts, streams lists of (id, fields), sorted sets `Ranked`; every value is text, as on the server.
`KEYS` and `ARGV` count from 1 in the model, so that a line here can be held beside its line of Lua.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Texts = Sequence[str]


class Ranked(dict[str, float]):
    """A sorted set: member -> score."""


class State:
    """All keys of one shard. Changed in place by the scripts; `copy` first where the old one is still wanted."""

    __slots__ = ("db", "dead", "met", "sent")

    def __init__(self) -> None:
        self.db: dict[str, Any] = {}
        self.dead: dict[str, int] = {}  # key -> the ms at which the server collects it
        self.sent: list[tuple[str, str]] = []  # (channel, word), emptied by whoever delivers them
        self.met: Counter[str] = Counter()  # lines that were reached, for the figures of coverage

    def copy(self) -> State:
        """A state of its own."""
        other = State()
        other.db = {k: v if isinstance(v, str) else v.copy() for k, v in self.db.items()}
        other.dead = self.dead.copy()
        other.met = self.met
        return other

    def collect(self, now: int) -> list[str]:
        """Take away the keys whose time has come, as the server does; which."""
        over = [key for key, at in self.dead.items() if at <= now]
        for key in over:
            del self.db[key], self.dead[key]
        return over

    def hash(self, key: str) -> dict[str, str]:
        """A hash to write to."""
        found = self.db.get(key)
        if found is None:
            found = self.db[key] = {}
        return found

    def stream(self, key: str) -> list[tuple[str, tuple[str, ...]]]:
        """A stream to append to."""
        found = self.db.get(key)
        if found is None:
            found = self.db[key] = []
        return found

    def unlink(self, *keys: str) -> int:
        """Remove keys; how many there were."""
        count = 0
        for key in keys:
            count += self.db.pop(key, None) is not None
            self.dead.pop(key, None)
        return count

    def zadd(self, key: str, score: float, member: str) -> None:
        """Rank a member."""
        found = self.db.get(key)
        if found is None:
            found = self.db[key] = Ranked()
        found[member] = float(score)

    def zrem(self, key: str, member: str) -> None:
        """Take a member out."""
        self.without(key, member)

    def without(self, key: str, field: str) -> int:
        """Remove a field (or member); the key goes with its last."""
        found = self.db.get(key)
        if found is None or field not in found:
            return 0
        del found[field]
        if not found:
            self.unlink(key)
        return 1

    def expire(self, key: str, at: int) -> None:
        """Collect the key at this ms; one that is past takes it at once."""
        if key in self.db:
            self.dead[key] = at

    def incr(self, key: str, field: str, by: int = 1) -> int:
        """Raise a number in a hash; the new one."""
        found = self.hash(key)
        new = int(found.get(field, 0)) + by
        found[field] = str(new)
        return new

    def log(self, now: int, K: Texts, A: Texts, event: str, ident: str, extra: str = "", seq: int | None = None) -> None:
        """`log` of the prelude."""
        if seq is None:
            seq = self.incr(K[1], "seq")
        self.stream(K[2]).append(
            (f"{seq}-0", ("e", event, "at", str(now), "who", A[1], "id", ident, "x", extra, "n", A[2])))

    def raised(self, K: Texts, **counters: float) -> int:
        """`raise` of the prelude: counters, each by its amount, and the log's next number."""
        totals = self.hash(K[1])
        for counter, by in counters.items():
            totals[counter] = f"{num(totals.get(counter)) + by:.0f}"
        return self.incr(K[1], "seq")

    def wake(self, channel: str, word: str) -> None:
        """`wake` of the prelude."""
        self.sent.append((channel, word))


def num(text: str | None) -> Any:
    """`num` of the prelude: 0 where there is no number."""
    if not text:
        return 0
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return 0


def txt(number: float) -> str:
    """A number as the server writes a script's number down."""
    return str(int(number)) if number == int(number) else f"{number:.17g}"


def last(key: str) -> str:
    """`name` of the prelude."""
    return key[key.rindex(":") + 1:]


def union(old: str | None, new: str, most: int) -> str:
    """`union` of the prelude."""
    return " ".join(list(dict.fromkeys(f"{old or ''} {new}".split()))[:most])


def shown(value: Any) -> Any:
    """A value as the test's dump of a server shows it: floats where the server may write them in several ways."""
    match value:
        case Ranked():
            return {member: float(score) for member, score in value.items()}
        case dict():
            return {f: float(v) if f in ("cost", "clock") else v for f, v in value.items()}
        case list():
            return [(entry, tuple(fields)) for entry, fields in value]
    return value
