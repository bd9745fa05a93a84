"""Everything MemGang raises on purpose.

MemGangError
├── ConfigError          a setting is missing or contradicts another
├── CodecError           the value has no media type, or the bytes are not what the type says
├── UnknownReference     the text is not a reference, or names nothing any more
│   └── ObjectLost       the record is there, the body is not
├── IntegrityError       the bytes do not hash to the id, or one id names two sizes
├── Conflict             a name has moved on; carries both versions
├── ClaimLost            the claim on a piece of work is not the caller's (any more)
├── LeaseLost            someone newer leads this call
│   └── Fenced           and our answer was not used
├── StreamRestarted      a stream began again with other pieces than were delivered
├── WorkFailed           the work of a call failed, here or in the process we followed
├── ReadError            a source cannot be read; carries the source and the reason
├── ModelError           a language model did not answer
│   ├── BudgetExceeded   the call could cost more than is left to spend
│   └── AllowanceExceeded   an agent asks a door for more than its token allows
├── TooLarge             a body is over the limit
│   └── CallTooLarge     one call needs more tokens than a whole minute may hold
├── StoreFull            the space or the server has no room left
├── LogBroken            the files that keep the sealed log are not as they were written
└── StoreUnavailable     the server cannot be found, started or reached
    └── ServerUnfit      the server answers, but cannot keep what is promised

Every error can cross a process: its ``args`` are plain values that rebuild it.
``str(error)`` says what is wrong, with the numbers; ``error.hint`` says what to do next.
"""

from __future__ import annotations


def status_of(code: str) -> int | None:
    """The HTTP status that the code of a `WorkFailed` or `ModelError` is; None for words, which may come from a server and be anything."""
    # Not isdigit alone: it is true of a superscript two, which int() does not take.
    return int(code) if len(code) == 3 and code.isascii() and code.isdecimal() else None


class MemGangError(Exception):
    """The root of the tree. ``hint`` is one sentence: what to do next, or empty."""

    hint: str = ""

    def explain(self) -> str:
        """What is wrong and what to do, as one line for a person."""
        return f"{self}. {self.hint}" if self.hint else str(self)


class ConfigError(MemGangError):
    """A setting is missing, out of range, or contradicts another."""


class CodecError(MemGangError):
    """The value has no media type, or the bytes are not what their media type says."""


class UnknownReference(MemGangError):
    """The text is not a reference, or what it named is not there (any more)."""

    hint = "list what is there with `memgang ls`, names with `memgang names`"

    def __init__(self, text: str, why: str = "nothing is stored under it, or it has expired") -> None:
        super().__init__(text, why)
        self.text, self.why = text, why

    def __str__(self) -> str:
        return f"cannot resolve {self.text!r}: {self.why}"


class ObjectLost(UnknownReference):
    """The record is there, but its body is not: the place that held it is gone."""

    hint = "recall the call that made it; it will be computed again"


class IntegrityError(MemGangError):
    """Bytes do not hash to their id. They are never handed out."""

    hint = "forget the reference and compute it again; the storage below it is damaged"

    def __init__(self, ref: str, found: str) -> None:
        super().__init__(ref, found)
        self.ref, self.found = ref, found

    def __str__(self) -> str:
        return f"the bytes stored as {self.ref} are not its content: {self.found}"


class Conflict(MemGangError):
    """A name has moved on since the caller looked."""

    hint = "read the name again, merge, and set it with the version you then see"

    def __init__(self, name: str, expected: int, version: int, ref: str) -> None:
        super().__init__(name, expected, version, ref)
        self.name, self.expected, self.version, self.ref = name, expected, version, ref

    def __str__(self) -> str:
        now = f"version {self.version} ({self.ref})" if self.version else "absent"
        return f"name {self.name!r} was expected at version {self.expected} but is {now}"


class ClaimLost(MemGangError):
    """The claim on a piece of work is not the caller's (any more). ``state`` and ``who`` are how it stands now."""

    hint = "look at how it stands; claim it again if it is free, or leave it to who has it"

    def __init__(self, work: str, state: str, who: str) -> None:
        super().__init__(work, state, who)
        self.work, self.state, self.who = work, state, who

    def __str__(self) -> str:
        return f"the claim on {self.work!r} is not yours: it is {self.state}" + (f", by {self.who}" if self.who else "")


class LeaseLost(MemGangError):
    """Someone newer leads this call."""

    hint = "recall the same call again; you will get the answer that won"

    def __init__(self, flight: str, held: int, newest: int) -> None:
        super().__init__(flight, held, newest)  # args, not prose: another process rebuilds from them
        self.flight, self.held, self.newest = flight, held, newest

    def __str__(self) -> str:
        return f"call {self.flight}: fence {self.held} was overtaken by {self.newest}"


class Fenced(LeaseLost):
    """Someone newer leads this call, and our answer was not used."""

    def __str__(self) -> str:
        return f"cannot commit {self.flight}: fence {self.held} was overtaken by {self.newest}"


class StreamRestarted(MemGangError):
    """The attempt whose pieces were delivered did not end, and what came instead begins differently. Never a splice."""

    hint = "throw away what was delivered and ask again; you will get the stream or the answer that won"

    def __init__(self, call: str, delivered: int) -> None:
        super().__init__(call, delivered)
        self.call, self.delivered = call, delivered

    def __str__(self) -> str:
        return f"the stream of {self.call} began again, and its first {self.delivered:,} characters or bytes are others now"


class WorkFailed(MemGangError):
    """The work behind a call failed. ``kind`` is ``permanent`` or ``transient``."""

    def __init__(self, call: str, kind: str, code: str, message: str, attempt: int = 1) -> None:
        super().__init__(call, kind, code, message, attempt)
        self.call, self.kind, self.code, self.message, self.attempt = call, kind, code, message, attempt

    @property
    def hint(self) -> str:  # type: ignore[override]
        """What to do next, which depends on whether trying again can help."""
        if self.kind == "permanent":
            return "trying again will not help until the call or the code changes"
        return "it may succeed when tried again"

    def __str__(self) -> str:
        return f"{self.call} failed ({self.kind}, attempt {self.attempt}): {self.code}: {self.message}"


_READ_HINTS = {
    "private": "if it is meant to be read, allow the host: memgang.Manners(allow=[...]), or --allow-host where a server is started",
    "large": "raise bytes_max, or read a part of it that has an address of its own",
    "slow": "try again later, or raise total_s",
    "unreachable": "check the address and the network, and try again",
    "redirect": "name the address it leads to, if you trust it",
    "scheme": "name an http or https address; files are read with read_file",
    "status": "the server has a fault, or too much to do: try again later",
    "refused": "give credentials as headers={'Authorization': ...}, if you have them",
    "missing": "check the address: the server does not have it",
    "robots": "leave it, ask whoever runs the server, or read it yourself and put it",
    "packing": "fetch it with another program and put it",
}


class ReadError(MemGangError):
    """A source cannot be read. ``reason`` is one phrase a person understands.

    ``code`` is its kind for a program, where it has one: private, large, slow, unreachable, redirect, scheme, status,
    refused, missing, robots, packing.
    """

    def __init__(self, source: str, reason: str, code: str = "") -> None:
        super().__init__(source, reason, code)
        self.source, self.reason, self.code = source, reason, code

    @property
    def hint(self) -> str:  # type: ignore[override]
        """What to do next, which depends on what is wrong."""
        return _READ_HINTS.get(self.code, "")

    def __str__(self) -> str:
        return f"cannot read {self.source}: {self.reason}"


class ModelError(MemGangError):
    """A language model did not answer.

    ``kind`` is ``permanent`` (bad request), ``transient`` (timeout, 5xx, 429) or ``caller`` (the
    caller's own key, rights or quota; never shared with others). ``retry_after_s`` is what the
    server asked for, in seconds, or 0.
    """

    def __init__(self, model: str, kind: str, code: str, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(model, kind, code, message, retry_after_s)
        self.model, self.kind, self.code = model, kind, code
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return f"model {self.model} did not answer: {self.code}: {self.message}"


class BudgetExceeded(ModelError):
    """The call could cost more than is left to spend; it was not made. The caller's own (``kind`` is ``caller``): never shared.

    ``scope`` is whose money it is; ``spent``, ``reserved``, ``limit`` and ``needed`` are micro-dollars.
    """

    hint = "raise the limit, use a cheaper model, or run it again: what is in memory costs nothing"

    def __init__(self, model: str, scope: str, spent: int, reserved: int, limit: int, needed: int) -> None:
        super().__init__(model, "caller", "budget", "the budget is used up")
        self.args = (model, scope, spent, reserved, limit, needed)
        self.scope, self.spent, self.reserved, self.limit, self.needed = scope, spent, reserved, limit, needed

    def __str__(self) -> str:
        return (f"model {self.model} was not asked: the budget of {self.scope} is {_usd(self.limit)}, {_usd(self.spent)} is spent, "
                f"{_usd(self.reserved)} reserved for calls under way, and this call could cost {_usd(self.needed)}")


class AllowanceExceeded(ModelError):
    """An agent asked a door for more than its token allows; nothing was done. Its own (``kind`` is ``caller``): never shared.

    ``what`` is requests, places (requests at once), tokens or money (micro-dollars), of which ``spent`` and ``reserved`` are gone
    and ``limit`` is allowed. ``retry_after_s`` is when to ask again; 0: it does not get better by itself.
    """

    def __init__(
        self, agent: str, what: str, spent: int, reserved: int, limit: int, window_s: float = 0.0, retry_after_s: float = 0.0
    ) -> None:
        code = "rate_limit_exceeded" if retry_after_s else "insufficient_quota"
        super().__init__(agent, "caller", code, "its token allows no more", retry_after_s)
        self.args = (agent, what, spent, reserved, limit, window_s, retry_after_s)
        self.agent, self.what, self.spent, self.reserved, self.limit, self.window_s = agent, what, spent, reserved, limit, window_s
        self.hint = (f"wait {retry_after_s:.1f} s" if retry_after_s else "what is in memory is free; `memgang token limit` allows more")

    def __str__(self) -> str:
        match self.what:
            case "requests":
                return f"agent {self.agent} may make {self.limit:,} requests in {self.window_s:g} s and has made {self.spent:,}"
            case "places":
                return f"agent {self.agent} may make {self.limit:,} requests at once and {self.spent:,} are under way"
        spent, reserved, limit = ((_usd(n) if self.what == "money" else f"{n:,} tokens") for n in (self.spent, self.reserved, self.limit))
        return f"agent {self.agent} may spend {limit}, has spent {spent}, and calls under way may spend {reserved}"


def _usd(micro: int) -> str:
    """Micro-dollars for a person."""
    return f"${micro / 1_000_000:,.6f}".rstrip("0").rstrip(".")


class TooLarge(MemGangError):
    """A body is over the limit."""

    hint = "split it into parts and put each; pass the list of references on"

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, size, limit)
        self.what, self.size, self.limit = what, size, limit

    def __str__(self) -> str:
        return f"{self.what} has {self.size:,} bytes; the limit is {self.limit:,}"


class CallTooLarge(TooLarge):
    """One call needs more tokens than the limit allows in a whole window; it could never begin."""

    hint = "raise tokens_per_minute, or split what is asked into smaller parts"

    def __str__(self) -> str:
        return f"{self.what} needs about {self.size:,} tokens; the limit is {self.limit:,} a window, so it could never begin"


class StoreFull(MemGangError):
    """The budget of the space or of an agent, or the server's memory, is used up. Nothing was written."""

    hint = "forget what is not needed, raise the budget, or give the server more memory"

    def __init__(self, what: str, used: int, limit: int, agent: str = "") -> None:
        super().__init__(what, used, limit, agent)
        self.what, self.used, self.limit, self.agent = what, used, limit, agent
        if agent:
            self.hint = "forget what this agent has written and nobody needs, or raise agent_budget_bytes"

    def __str__(self) -> str:
        if self.agent:
            return f"no room for {self.what}: agent {self.agent} has {self.used:,} of the {self.limit:,} bytes that each may have"
        if not self.limit:
            return f"no room for {self.what}: the server is out of memory"
        return f"no room for {self.what}: {self.used:,} of {self.limit:,} bytes are used"


class LogBroken(MemGangError):
    """The files that keep the sealed log are not as they were written. Nothing is added to them."""

    hint = "run `memgang log --verify` to see where; move the directory away to begin a new chain"


class StoreUnavailable(MemGangError):
    """The server cannot be found, started or reached."""

    hint = "run `memgang doctor` to see what is wrong"


class ServerUnfit(StoreUnavailable):
    """The server answers, but it cannot keep what MemGang promises (version, policy, rights)."""
