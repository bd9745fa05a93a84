"""A call as it is ordered here: what is asked, how it is to be answered, and what comes back."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from memgang.codec import Encoded, decode
from memgang.errors import ConfigError
from memgang.model import NO_USAGE, Call, Context, Ref, Usage, Work, current_work
from memgang.store.events import note, spent
from memgang.store.host import Kept

How = Literal["hit", "joined", "computed"]
Mode = Literal["share", "refresh", "private"]
Check = Callable[[bytes], Awaitable[bool]]

MODES = ("share", "refresh", "private")


@dataclass(frozen=True, slots=True)
class OfTheAsker:
    """A check that asks what its caller wants, such as a younger answer, and not only whether the world is as it was.

    Others look at the same world, so one look is shared by all who have joined a flight; this one is nobody else's.
    """

    check: Check

    async def __call__(self, validator: bytes) -> bool:
        return await self.check(validator)


# While an answer is checked: whether it was computed while its asker waited. No two clocks need agree to say so.
waited_for: contextvars.ContextVar[bool] = contextvars.ContextVar("memgang_waited_for", default=False)


class Formed(NamedTuple):
    """A call in canonical form, and its key."""

    canonical: bytes
    key: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How one call is to be answered.

    ``ttl_ms`` is how long the answer may be used (0: for ever), ``negative_ttl_ms`` how long a permanent failure is
    told to all who ask (None: as set). ``mode``: ``share`` takes any answer there is; ``refresh`` computes anew and
    replaces the answer, once for all who refresh at the same time; ``private`` computes for this caller alone and
    keeps nothing. ``refresh_early``: one caller computes anew, in the background, while the answer is still good and
    everybody is served with it: from this fraction of the time to live left (0..1), or where True at a random moment
    that is the earlier the longer the work takes. ``stale_ms``: how long after its end an answer may still be served,
    marked as stale, while one caller computes anew.
    """

    ttl_ms: int
    mode: Mode = "share"
    negative_ttl_ms: int | None = None
    refresh_early: float | bool = False
    stale_ms: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"mode={self.mode!r} must be one of {', '.join(MODES)}")
        if not 0 <= self.refresh_early <= 1:
            raise ConfigError(f"refresh_early={self.refresh_early} must be a fraction from 0 to 1, or True")
        if self.refresh_early and not self.ttl_ms:
            raise ConfigError("refresh_early needs an answer that ends: give it a ttl")


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a recall brought: the reference, how it came, and what the whole call costs an agent alone."""

    ref: Ref
    how: How
    usage: Usage
    degraded: bool = False  # the server was away: computed here, remembered nowhere
    by: str = ""  # whose work it is
    pos: float | None = None
    encoded: Encoded | None = None
    fetch: Callable[[Ref], Awaitable[Kept]] | None = None
    stale: bool = False  # its time to live had passed; a newer one is being computed
    validator: bytes = b""  # of what it was made from, where that can change

    async def value(self, type: Any = None) -> Any:
        """The answer itself, decoded afresh for every caller."""
        pos = self.pos
        if self.encoded is not None:
            kind, body = self.encoded.media_type, self.encoded.whole
        else:
            assert self.fetch is not None
            kept = await self.fetch(self.ref)
            kind, body, pos = kept.media_type, kept.body, kept.place  # type: ignore[assignment]  # views decode as bytes do
        if (work := current_work.get()) is not None:
            work.read[self.ref] = pos
        return decode(kind, body, type)


class Made(NamedTuple):
    """What an attempt has made, and what it cost."""

    value: Any
    usage: Usage  # of the whole call, with all calls inside
    own: Usage
    work: Work


@dataclass(slots=True)
class Order:
    """One call as it is asked for here, and how far it has come."""

    call: Call
    key: str
    canonical: bytes
    compute: Callable[[], Awaitable[Any]]
    context: Context
    terms: Terms
    kind: str
    pos: float | None
    tags: tuple[str, ...]
    check: Check | None
    validate: Callable[[], bytes] | None
    waiting_s: float = 0.0
    followed: int = 0  # the fence of the leader that was waited for
    own: Usage = NO_USAGE  # of the attempt under way, as far as it came
    attempts: int = 0  # of the work, in this process
    failed: Exception | None = None  # of the last of them
    work: Work | None = None  # under way, or the last
    made: Made | None = None  # what was paid for: not paid again when the server goes away
    background: bool = False  # nobody waits for it: it computes or ends, and tells the log of no hit
    claims: dict[str, int] = field(default_factory=dict)  # led here now: owner -> fence

    def note(self, model: str = "", own: Usage = NO_USAGE, outline: str = "") -> bytes:
        """What the log is told of this call. Its outline goes with the end of the work, not with each claim:
        most claims are answered, and nobody asks why a hit missed."""
        told: dict[str, Any] = {"fn": self.call.function, "call": self.call.kind}
        if model:
            told["model"] = model
        if own is not NO_USAGE:
            told |= spent(own)
        if outline:
            told["outline"] = outline
        return note(self.context, told)

    def apart(self) -> Order:
        """The same order, for the background."""
        return Order(self.call, self.key, self.canonical, self.compute, self.context, self.terms, self.kind, self.pos,
                     self.tags, self.check, self.validate, background=True)

    def place(self, work: Work) -> float | None:
        """Where the result stands in its document: as said, else the mean of what it was made from."""
        if self.pos is not None:
            return self.pos
        places = [p for p in work.read.values() if p is not None]
        return round(sum(places) / len(places), 4) if places else None
