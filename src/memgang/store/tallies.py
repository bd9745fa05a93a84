"""What is counted beside the log: the names of the counters, and what of an event goes into which.

They stand in the totals of each shard and only grow, so who watches a space (`memgang stats`, `memgang metrics`) reads them and
no log. The scripts raise what they are told to: what changes counts with the change, what is read with its batch, so that a
repeat counts nothing twice. They are the ledger's figures (`memgang.savings`) since the space was made, without agents and runs:
the same rules of what is spent, saved and lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from memgang.model import Usage

KINDS = ("llm", "function", "read", "tool", "other")  # of calls; what is none of ours counts as the last
CAUSES = ("hit", "joined", "read", "reference", "prefix")  # why something was saved

_COUNTED = {"read": "reads", "hit": "hits", "joined": "joined", "refused": "refused", "waits": "waits"}
# A usage as it travels in a line: what of it is counted, in this order.
_FIGURES = ("calls", "llm_calls", "tok_in", "tok_out", "tok_cached", "usd", "ms", "bytes")


def of_kind(counter: str, kind: str) -> str:
    """The counter of one kind of call."""
    return f"{counter}:{kind if kind in KINDS else 'other'}"


def saved_by(figure: str, cause: str) -> str:
    """The counter of what one cause has saved; ``figure`` is one of calls, llm_calls, tok_in, tok_out, tok_cached, usd, ms, bytes."""
    return f"saved_{figure}:{cause}"


def committed(kind: str, own: Usage) -> bytes:
    """What a committed attempt counts, but for what the script counts of itself."""
    return _json({of_kind("executions", kind): 1, "llm_calls": own.llm_calls, "tok_in": own.tokens_in, "tok_out": own.tokens_out,
                  "tok_cached": own.tokens_cached})


def lost(own: Usage) -> bytes:
    """What an attempt counts whose answer was not used."""
    return _json(_lost(own))


def failed(kind: str, own: Usage) -> bytes:
    """What a failed attempt counts."""
    return _json({"failed": 1, of_kind("failed", kind): 1} | _lost(own))


def released(own: Usage) -> bytes:
    """What an attempt counts that was given up."""
    return _json({"released": 1} | _lost(own))


DIED = b'{"died":1}'  # an attempt whose process is dead: what it spent nobody knows


def _lost(own: Usage) -> dict[str, int]:
    return {"lost_llm_calls": own.llm_calls, "lost_tok_in": own.tokens_in, "lost_tok_out": own.tokens_out,
            "lost_tok_cached": own.tokens_cached, "lost_usd": own.micro_usd, "lost_ms": own.ms}


def _json(amounts: dict[str, int]) -> bytes:
    return msgspec.json.encode({counter: by for counter, by in amounts.items() if by})


def tally(lines: Iterable[Sequence[Any]]) -> dict[str, int]:
    """What a batch of lines of the log of reads counts. A line is one of `EventLog.add`."""
    counts: dict[str, int] = {}
    saved: dict[str, list[int]] = {}
    for line in lines:
        what, usage = line[0], line[8] if len(line) > 8 else ()
        if (counter := _COUNTED.get(what)) is not None:
            counts[counter] = counts.get(counter, 0) + 1
            if what in ("hit", "joined"):
                kind = line[12] if len(line) > 12 else ""  # a process of an older version left it
                counter = of_kind(counter, kind)
                counts[counter] = counts.get(counter, 0) + 1
                if what == "joined":  # its length is the wait it ends
                    counts["wait_us"] = counts.get("wait_us", 0) + line[5]
        elif what == "overhead":
            counts["overhead_us"] = counts.get("overhead_us", 0) + line[5]
        if usage and what != "ended":
            cause = line[7] if line[7] in CAUSES else "joined" if what == "joined" else "hit"
            if (sums := saved.get(cause)) is None:
                saved[cause] = list(usage[:8])
            else:
                for at, figure in enumerate(usage[:8]):
                    sums[at] += figure
    for cause, sums in saved.items():
        calls, _, tokens_in, tokens_out, _, micro_usd, ms, _ = sums
        for counter, by in (("saved_calls", calls), ("saved_tok", tokens_in + tokens_out), ("saved_usd", micro_usd), ("saved_ms", ms)):
            counts[counter] = counts.get(counter, 0) + by
        for name, by in zip(_FIGURES, (calls, sums[1], tokens_in, tokens_out, sums[4], micro_usd, ms, sums[7]), strict=True):
            if by:
                counts[saved_by(name, cause)] = by
    return counts
