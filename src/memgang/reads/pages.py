"""A page: who may be told what of it, when it must be asked for again, and what the server then says.

    mark kept with the answer: when it was said, how long it is fresh, which record, which body
    asked since, or fresh   -> the record, without a request
    else                    -> one of all who ask, in all processes, asks with the record's ETag and Last-Modified
                                304: the same record is committed again, with a new mark; no body has travelled
                                200: a new record

The question is asked by whoever leads the call, not by each who finds the answer: so a page that must be asked for at
each use is asked for once by all who want it at the same time.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from memgang.errors import ConfigError, MemGangError, ReadError
from memgang.model import Call, Original, Unreadable, Usage, current_work
from memgang.readers import web
from memgang.readers.bodies import too_large
from memgang.reads import keeping
from memgang.reads.credentials import checked, hashed
from memgang.reads.manners import Manners
from memgang.recall import waited_for
from memgang.space import Space

VERSION = "1"
MARK_BYTES_MAX = 512  # the protocol gives a validator so much
HEADER_MAX = 1_000  # an ETag cut short would be another one; what is longer is left out
LEARNT_MAX = 1_000
CLOCKS_MS = 60_000  # by so much a mark may be ahead of us; more is a clock that was set back


# When this process learnt of an answer that was new then, by its own clock: for those who ask at the same time.
_learnt: weakref.WeakKeyDictionary[Space, OrderedDict[bytes, float]] = weakref.WeakKeyDictionary()


class Mark(msgspec.Struct, frozen=True):
    """What is known of an answer without opening it. Times are ms of the server's clock (the memory's, not the site's)."""

    at: int
    fresh_ms: int
    record: str
    body: str


class Pages:
    """The pages of one space, fetched with the same manners. Holds nothing of its own."""

    def __init__(self, space: Space, manners: Manners, turn: web.Turn | None) -> None:
        self._space, self._manners, self._turn = space, manners, turn

    async def fetch(self, url: str, headers: Mapping[str, str] | None, max_age_s: float | None) -> Original:
        """See `Reads.fetch`."""
        if not web.is_url(url):
            raise ReadError(web.shown(url)[:200], "it is not an http or https address", "scheme")
        if web.carries_secret(url):
            raise ConfigError("the URL holds a user or password: leave it out and give headers={'Authorization': ...}")
        web.check_address(url, url)
        if max_age_s is not None and (isinstance(max_age_s, bool) or not isinstance(max_age_s, int | float) or not max_age_s >= 0):
            raise ConfigError(f"max_age_s={max_age_s!r} must be 0 or more seconds; None goes by what the server says")
        one = _Fetch(self._space, self._manners, self._turn, url.partition("#")[0], checked(headers), max_age_s)
        found = await one.answer()
        if isinstance(found, Unreadable):
            raise ReadError(found.source, found.reason, found.code)
        if found.size > self._manners.bytes_max:  # fetched by somebody who takes more
            raise too_large(found.source, self._manners.bytes_max, found.size)
        return found


def asked(space: Space, manners: Manners, url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """What tells one ask for a page from another, without anything that is or may be a credential."""
    found = {"source": web.shown(url)}
    secret = space.store.keys.secret
    if found["source"] != url:
        found["exactly"] = hashed(url, secret)
    if manners.reach_key:
        found["reach"] = manners.reach_key
    if headers or manners.user_agent != web.USER_AGENT:
        found["headers"] = hashed({"user-agent": manners.user_agent, **headers}, secret)
    return found


class _Fetch:
    """One caller's ask for one page."""

    def __init__(self, space: Space, manners: Manners, turn: web.Turn | None, url: str, headers: dict[str, str],
                 max_age_s: float | None) -> None:
        self._space, self._manners, self._turn, self._url, self._headers = space, manners, turn, url, headers
        self._max_age_ms = None if max_age_s is None else max_age_s * 1000
        self._began = time.monotonic()
        self._seen: Mark | None = None  # an answer that may be used no longer, but whose page may still be the page
        self._mark = b""
        self._call = Call("read", "memgang.reads:page", VERSION, asked(space, manners, url, headers))

    async def answer(self) -> Original | Unreadable:
        """The record of the page, or why there is none; that is shared with those who wait for it, and never used again."""
        while True:
            recalled = await self._space.recall(
                self._call, self._compute, kind="original", check=self._check, validate=lambda: self._mark)
            value = await recalled.value()
            if not isinstance(value, Original | Unreadable):
                raise MemGangError(f"the memory of {web.shown(self._url)} is not a page: {type(value).__name__}")
            if isinstance(value, Unreadable) and value.asker != self._manners.asker(value.code):
                continue  # somebody's limits, not ours; each time all who have the same are told at once
            # Who joined somebody in this process has not checked the answer, and may want a younger one.
            if recalled.how != "joined" or not recalled.validator or await self._check(recalled.validator):
                return value

    async def _check(self, validator: bytes) -> bool:
        """Whether an answer may be used as it is. Nobody is asked."""
        try:
            mark = msgspec.json.decode(validator, type=Mark)
        except msgspec.DecodeError:
            return False
        learnt = _learnt.setdefault(self._space, OrderedDict())
        if waited_for.get():
            _remember(learnt, validator)
        # Said while we waited for it, or while somebody did whom we had joined: nobody could tell us anything newer. Told by
        # our own clock and by who waited for whom; the server's clock is known to some milliseconds, and requests may be faster.
        new = learnt.get(validator, -1.0) >= self._began
        now = self._now()
        lasts = mark.fresh_ms if self._max_age_ms is None else self._max_age_ms
        fresh = lasts > 0 and now - mark.at < lasts and mark.at <= now + CLOCKS_MS
        if (new or fresh) and await keeping.there(self._space, mark.body):
            return True
        self._seen = mark
        return False

    async def _compute(self) -> Original | Unreadable:
        """Ask the server: with what is known of the page, if anything is."""
        known = await keeping.record(self._space, self._seen.record) if self._seen is not None else None
        manners = self._manners
        try:
            got = await web.get(
                self._url, headers=self._headers, reach=manners.reach, bounds=manners.bounds, agent=manners.user_agent,
                known=web.Known(known.etag, known.last_modified, known.final_url) if known is not None else None, turn=self._turn)
        except ReadError as error:
            self._mark = b""
            return Unreadable(source=web.shown(self._url), reason=error.reason, code=error.code, asker=manners.asker(error.code))
        work = current_work.get()
        if isinstance(got, web.Unchanged):
            assert known is not None  # else there was no condition, and 304 is an error
            page = known
            self._space.note_unchanged(page.ref, page.size, self._space.key(self._call))
            if work is not None:
                # An agent alone would have fetched it all: that is what the answer is worth to whoever recalls it.
                work.inner = work.inner + Usage(bytes=page.size)
                work.read[page.ref] = None
        else:
            page = Original(
                source=web.shown(self._url), media_type=got.media_type, charset=got.charset, size=len(got.body),
                etag=_short(got.etag), last_modified=_short(got.last_modified), final_url=web.shown(got.final_url),
                ref=await keeping.put(self._space, got.body, got.media_type, got.charset, keep=got.keep))
            if work is not None:
                work.own = work.own + Usage(bytes=len(got.body))
        self._mark = self._marked(page, got.fresh_s) if got.keep else b""
        _remember(_learnt.setdefault(self._space, OrderedDict()), self._mark)
        return page

    def _marked(self, page: Original, fresh_s: float) -> bytes:
        mark = msgspec.json.encode(Mark(self._now(), round(fresh_s * 1000), str(keeping.ref_of_record(page)), str(page.ref)))
        assert len(mark) <= MARK_BYTES_MAX, "a mark must fit into the flight"
        return mark

    def _now(self) -> int:
        return self._space.store.log.server_ms()


def _remember(learnt: OrderedDict[bytes, float], mark: bytes) -> None:
    learnt[mark] = time.monotonic()
    if len(learnt) > LEARNT_MAX:
        learnt.popitem(last=False)


def _short(header: str) -> str:
    return header if len(header) <= HEADER_MAX else ""
