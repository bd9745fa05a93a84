"""What went wrong with a recalled request, as its caller is told.

A refusal of the upstream goes on as it was said. Where another process heard it, its beginning came with the error.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from memgang.canonical import read_json
from memgang.doors.proxy.replies import Reply, error, passed_on
from memgang.doors.proxy.upstream import Refusal
from memgang.errors import (
    AllowanceExceeded,
    CodecError,
    ConfigError,
    MemGangError,
    ModelError,
    StoreUnavailable,
    TooLarge,
    UnknownReference,
    WorkFailed,
    status_of,
)

REMEMBERED = 1_000
LATER_S = 3_600  # what does not get better by itself: somebody may allow more


class Refusals:
    """What upstreams said last, by the key of the call: whole, as no error that crosses processes is."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, Refusal] = OrderedDict()

    def heard(self, key: str, refusal: Refusal) -> None:
        """Remember it for those who share the call."""
        self._said[key] = refusal
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def reply(self, key: str, failure: Exception, **headers: str) -> Reply:
        """The reply to who asked for this call."""
        if isinstance(failure, WorkFailed | ModelError) and not isinstance(failure, AllowanceExceeded):
            if (said := status_of(failure.code)) is not None:
                return passed_on(self._refusal(key, failure, said), **headers)
            status = {"timeout": 504, "model_not_priced": 403, "budget_closed": 503}.get(failure.code, 502)
            return error(status, failure.code, failure.explain(), **headers)
        return told(failure, **headers)

    def _refusal(self, key: str, failure: WorkFailed | ModelError, status: int) -> Refusal:
        if not 400 <= status < 600:
            status = 502
        said = self._said.get(key)
        if said is not None and said.status == status:
            return said
        text = failure.message.partition(f"did not answer: {failure.code}: ")[2]
        try:
            if isinstance(read_json(text), dict):
                return Refusal(status, text.encode())
        except CodecError:
            pass  # too long to have come whole, or no JSON from the beginning
        reply = error(status, failure.code, text or failure.explain())
        assert isinstance(reply.body, bytes)
        return Refusal(status, reply.body)


def told(failure: Exception, **headers: str) -> Reply:
    """An error of ours."""
    match failure:
        case AllowanceExceeded():
            return error(429, failure.code, failure.explain(), **headers, **_when(failure))
        case TimeoutError():
            return error(504, "timeout", "the answer did not come in time", **headers)
        case TooLarge():
            return error(413, "too_large", failure.explain(), **headers)
        case CodecError() | ConfigError() | UnknownReference():
            return error(400, "invalid_request", failure.explain(), **headers)
        case StoreUnavailable():
            return error(503, "memory_unavailable", failure.explain(), **headers)
        case MemGangError():
            return error(502, "upstream_failed", failure.explain(), **headers)
        case _:
            # Its text may hold anything; the class tells enough to look further.
            return error(500, "internal_error", f"the proxy failed with {type(failure).__name__}", **headers)


def _when(failure: AllowanceExceeded) -> dict[str, str]:
    """When to ask again. The official clients would ask twice more at once where nothing forbids it."""
    if failure.retry_after_s:
        return {"retry-after": str(math.ceil(failure.retry_after_s))}
    return {"retry-after": str(LATER_S), "x-should-retry": "false"}
