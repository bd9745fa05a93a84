"""The words of MemGang as frozen values: references, objects, calls, outcomes, events, usage.

Nothing here does I/O. Times are milliseconds of the server's clock unless a name says otherwise;
money is whole micro-dollars (1 USD = 1,000,000); sizes are bytes.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

import msgspec

REF_PREFIX = "mg:"
_REF = re.compile(r"mg:[a-z2-7]{32}\Z")


class Ref(str):
    """The reference of a memory object: ``mg:`` and 32 characters made from its content.

    It is a string, so it prints, travels in JSON and can be used as a key as it is.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _REF.match(text):
            raise ValueError(f"not a reference: {text[:60]!r} (mg: and 32 characters of a-z2-7)")
        return super().__new__(cls, text)

    @property
    def id(self) -> str:
        """The 32 characters without ``mg:``, as key names hold them."""
        return self[len(REF_PREFIX):]

    @property
    def short(self) -> str:
        """A prefix to show people; it is accepted wherever a person types a reference."""
        return self[: len(REF_PREFIX) + 10]

    @classmethod
    def is_ref(cls, text: str) -> bool:
        """Whether the text has the form of a whole reference."""
        return bool(_REF.match(text))


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What work cost. Whole numbers, so sums are exact in any order.

    ``calls`` counts computations of any kind, ``llm_calls`` those of a language model. ``tokens_in``
    includes ``tokens_cached`` (the provider's prompt cache). ``ms`` is time spent in the work itself.
    ``estimated`` marks token counts that no provider reported.
    """

    calls: int = 0
    llm_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    micro_usd: int = 0
    ms: int = 0
    bytes: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls, self.llm_calls + other.llm_calls, self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out, self.tokens_cached + other.tokens_cached,
            self.micro_usd + other.micro_usd, self.ms + other.ms, self.bytes + other.bytes,
            self.estimated or other.estimated,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.calls - other.calls, self.llm_calls - other.llm_calls, self.tokens_in - other.tokens_in,
            self.tokens_out - other.tokens_out, self.tokens_cached - other.tokens_cached,
            self.micro_usd - other.micro_usd, self.ms - other.ms, self.bytes - other.bytes,
            self.estimated or other.estimated,
        )

    @property
    def tokens(self) -> int:
        """Tokens in and out together."""
        return self.tokens_in + self.tokens_out

    @property
    def usd(self) -> float:
        """Dollars, for showing; sums are made of micro-dollars."""
        return self.micro_usd / 1_000_000


NO_USAGE = Usage()


class MemoryObject(msgspec.Struct, frozen=True):
    """The record of a memory object: everything but its bytes."""

    ref: Ref
    media_type: str
    size: int
    at: int
    expires: int  # 0: never
    writers: tuple[str, ...]  # the author first
    parents: tuple[Ref, ...] = ()
    call: str = ""  # key of the call that made it
    meta: dict[str, Any] = {}
    cost_s: float = 0.0
    freq: int = 0
    read: int = 0  # when last read, 0: not yet
    pins: tuple[str, ...] = ()


class NameVersion(msgspec.Struct, frozen=True):
    """One version of a name. ``ref`` is None where the name was taken away."""

    name: str
    version: int
    ref: Ref | None
    who: str
    at: int


CallKind = Literal["llm", "function", "read", "tool"]


class Call(msgspec.Struct, frozen=True):
    """What is to be computed, before it is put in canonical form (PROTOCOL.md of the design, "What is one call").

    ``arguments`` are JSON-like, with references for objects. ``sample`` is 0 for a deterministic call.
    """

    kind: CallKind
    function: str
    version: str = ""
    arguments: Any = None
    model: str = ""
    system: str = ""
    messages: Any = None
    tools: Any = None
    parameters: dict[str, Any] = {}
    sample: int = 0
    scope: str = ""


# What `claim` answers. One word each; `recall` reads them with one `match`.
class Answered(msgspec.Struct, frozen=True):
    """The answer is there."""

    ref: Ref
    fence: int
    expires: int
    validator: bytes
    usage: Usage
    by: str = ""  # who computed it


class Follow(msgspec.Struct, frozen=True):
    """Somebody computes; listen, and ask again in at most ``ms``."""

    ms: int
    fence: int
    leader: str
    by: str = ""  # who leads
    old: Answered | None = None  # an answer that has ended or is being renewed, where the caller would still take it


class Backoff(msgspec.Struct, frozen=True):
    """The last attempt failed; the next may start in ``ms``."""

    ms: int
    fence: int
    old: Answered | None = None


class Claimed(msgspec.Struct, frozen=True):
    """We lead: compute, then commit with this fence."""

    fence: int
    ms: int
    how: str  # new | taken | replay
    attempt: int
    old: Answered | None = None


class Failed(msgspec.Struct, frozen=True):
    """The call failed for all, for another ``ms``."""

    error: bytes
    fence: int
    ms: int
    old: Answered | None = None


Outcome = Answered | Follow | Backoff | Claimed | Failed


class Event(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of the log, merged from changes and reads: who did what to which reference, and what came of it.

    ``raw`` is the word the log holds, ``op`` the wider class that pictures and folds use. Times are ms;
    ``t`` is seconds since the start of the run, where there is one. Never holds content: ids, sizes,
    hashes and labels only. Titles and names are untrusted text: escape them before showing.
    """

    id: str = ""  # log, shard, seq, place in the batch: the same line has the same id for ever
    seq: int = 0  # place in the merged order of one reading, for display
    at: int = 0
    t: float = 0.0
    run: str = ""
    raw: str = ""
    op: str = ""
    agent: str = ""
    who: str = ""
    role: str = ""
    task: str = ""
    trace: str = ""
    obj: str = ""
    kind: str = ""
    pos: float | None = None
    tok: int = 0
    bytes: int = 0
    dur_ms: float = 0.0
    src: tuple[str, ...] = ()
    src_n: int = 0
    call: str = ""
    fn: str = ""
    call_kind: str = ""
    fence: int = 0
    by: str = ""
    why: str = ""
    model: str = ""
    own: Usage = NO_USAGE  # physical: what this attempt spent
    saved: Usage = NO_USAGE  # what a hit or a joined call did not spend
    known: bool = False  # of a write: the object was there already
    text: str = ""
    overhead_us: int = 0
    outline: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """Who acts: stamped on every event by the store."""

    who: str = ""  # principal/agent
    role: str = ""
    run: str = ""
    task: str = ""
    trace: str = ""

    @property
    def agent(self) -> str:
        """The agent's part of ``who``."""
        return self.who.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Lead:
    """The right to publish one answer: hand ``fence`` to foreign resources, which refuse a smaller one than they have seen."""

    call: str  # key of the call
    owner: str
    fence: int


@dataclass(slots=True)
class Work:
    """One computation in progress: what it read and what the calls inside it cost."""

    context: Context
    lead: Lead | None = None  # None: not recalled, or computed without a server
    read: dict[Ref, float | None] = field(default_factory=dict)  # reference -> place in its document, if known
    inner: Usage = NO_USAGE  # whole usage of all calls inside, computed or recalled
    inner_ms: float = 0.0  # wall time spent waiting for them
    own: Usage = NO_USAGE  # tokens and money spent here directly


# The context of who acts, and the computation under way. Engines carry both into their workers.
current_context: contextvars.ContextVar[Context | None] = contextvars.ContextVar("memgang_context", default=None)
current_work: contextvars.ContextVar[Work | None] = contextvars.ContextVar("memgang_work", default=None)


# ── what language models are asked and answer ──────────────────────────────────────────────────


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a language model is asked, in parts that a model without words can use too.

    ``passages`` are numbered from 1; an answer cites them as ``[n]`` behind each statement.
    ``question`` is empty for a summary. ``words`` is the length asked for.
    """

    instruction: str
    passages: tuple[str, ...] = ()
    question: str = ""
    words: int = 120
    system: str = ""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What a language model answered. Token counts are the provider's, or marked as estimated."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    estimated: bool = False
    finish: str = "stop"


@runtime_checkable
class LanguageModel(Protocol):
    """A language model: a leaf that is handed a prompt and answers.

    ``name`` is what users type (``openai:gpt-5-mini``), ``price_name`` its row in the price table,
    ``version`` goes into every call key, so that a changed model never answers for the old one.
    """

    name: str
    price_name: str
    version: str
    parameters: dict[str, Any]

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer the prompt, or raise ModelError. Safe to call many times at once."""
        ...

    async def aclose(self) -> None:
        """Give back connections."""
        ...


@runtime_checkable
class StreamingModel(LanguageModel, Protocol):
    """A language model that can hand its answer on while it is made."""

    def stream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Pieces of the text as they come, and last the whole Completion. Without that last item the answer is not whole."""
        ...


# ── what readers find ──────────────────────────────────────────────────────────────────────────


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document, cut by content. ``text`` alone is the memory object; the rest is its place."""

    text: str
    pos: float  # 0..1, the middle of the part in its document
    page: int = 0  # first page, from 1; 0: the document has no pages
    page_end: int = 0
    headings: tuple[str, ...] = ()  # path of headings, outermost first
    line: int = 0  # first line in the source, from 1; 0: unknown


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader made of a source."""

    title: str
    media_type: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()  # what a person should know: "3 pages hold only images"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one part stands in one document."""

    ref: Ref
    pos: float
    page: int = 0
    page_end: int = 0
    headings: tuple[str, ...] = ()
    line: int = 0


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document the gang has read: its parts are references, their places stay here.

    The same text at two places, or in two files, is one memory object with two places.
    """

    source: str  # path as given, or URL
    title: str
    media_type: str
    places: tuple[Place, ...]
    notes: tuple[str, ...] = ()


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """What a file or URL gave, as it stands. The body is an object of its own: ``await space.get(original.ref)``.

    That is a str where the body is text in a charset that was named or is UTF-8, else bytes. ``media_type`` is what the
    server says, or the name of the file; empty where neither does. ``charset`` is empty where none is known.
    """

    source: str  # the real path, or the URL without what looks like a credential
    ref: Ref
    media_type: str
    size: int  # bytes
    charset: str = ""
    etag: str = ""
    last_modified: str = ""
    final_url: str = ""  # where its redirects led


class Unreadable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A source nobody could read, and why. ``code``: see `ReadError`."""

    source: str
    reason: str
    code: str = ""
    asker: str = ""  # what of who asked it depends on, such as limits: another asks again; empty: nothing
