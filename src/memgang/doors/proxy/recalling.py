"""One request that is recalled: the answer there is, the one that is under way from its first byte on, or a new one.

What is kept is what the upstream sent: its events, byte for byte. The upstream is always asked for a stream, so that
whoever joins is shown the answer while it comes; who wants it plain is given one that is made of the events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace

from memgang import sse
from memgang.answers import Answer, chat, is_plain, taken
from memgang.answers.answer import cut
from memgang.doors.proxy.asking import Asked
from memgang.doors.proxy.entering import Caller
from memgang.doors.proxy.failing import Refusals
from memgang.doors.proxy.paying import Payer, Tab, cost
from memgang.doors.proxy.replies import STREAM, Reply, error_event
from memgang.doors.proxy.upstream import Upstreams, refusal
from memgang.errors import MemGangError, ModelError, StoreFull, TooLarge
from memgang.model import Ref, Usage, current_work
from memgang.recall import Formed, OfTheAsker, Recalled
from memgang.space import Space
from memgang.sse import Frames
from memgang.streaming import RESTARTED, Stream
from memgang.telemetry import Inference

ANSWER_BYTES_MAX = 64 * 1024 * 1024
PLAINS_MAX, PLAIN_BYTES_MAX = 256, 256 * 1024
STAMP = b"at:"  # what is kept with an answer as its validator: when it was made, in ms of the server's clock


class Recaller:
    """All recalled requests of one proxy."""

    def __init__(self, space: Space, upstreams: Upstreams, payer: Payer, answer_s: float) -> None:
        self.space, self.upstreams, self.payer, self.answer_s = space, upstreams, payer, answer_s
        self.refusals = Refusals()
        self.plains = Plains()

    async def reply(self, asked: Asked, caller: Caller) -> Reply:
        """The reply. Of a stream, the first event is there."""
        named = caller.agent or caller.run
        with self.space.acting_as(agent=caller.agent or None, run=caller.run or None) if named else contextlib.nullcontext():
            if asked.samples and caller.agent:  # without an identity there is nobody whose asks could be counted
                asked = replace(asked, call=self.space.sampled(asked.call, "occurrence"), formed=None)
            formed = asked.formed or self.space.form(asked.call)
            exchange = _Exchange(self, asked, formed, caller)
            try:
                if not asked.streaming and (kept := exchange.at_hand()) is not None:
                    return exchange.whole(kept)  # the usual case waits for nothing
                async with asyncio.timeout(self.answer_s):
                    return await (exchange.streamed() if asked.streaming else exchange.plain())
            except (MemGangError, TimeoutError) as failure:
                return self.refusals.reply(formed.key, failure, **exchange.headers("miss"))


class Plains:
    """Plain answers that were made of events lately, by reference and kind of request: a hit need not read all events again."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Ref, str], bytes] = OrderedDict()

    def get(self, ref: Ref, route: str) -> bytes | None:
        """The answer, if it is here."""
        if (made := self._made.get((ref, route))) is not None:
            self._made.move_to_end((ref, route))
        return made

    def keep(self, ref: Ref, route: str, made: bytes) -> None:
        """Keep a small one for a while."""
        if len(made) <= PLAIN_BYTES_MAX:
            self._made[ref, route] = made
            if len(self._made) > PLAINS_MAX:
                self._made.popitem(last=False)


class _Exchange:
    """One request and what comes of it."""

    def __init__(self, recaller: Recaller, asked: Asked, formed: Formed, caller: Caller) -> None:
        self._recaller, self._asked, self._formed, self._caller = recaller, asked, formed, caller
        self._made: Answer | None = None  # that of the attempt led here
        self._sent: list[bytes] = []  # and its pieces
        self._recalled: Recalled | None = None
        self._degraded = False
        self._shown_events = 0

    def _open(self) -> Stream:
        """The answer as it comes."""
        space, says = self._recaller.space, self._asked.controls
        return space.stream(
            self._asked.call, self._produce, ttl="default" if says.ttl_s is None else says.ttl_s, kind="answer",
            restart="error" if self._asked.streaming else "marker", mode="refresh" if says.anew else "share", formed=self._formed,
            check=OfTheAsker(self._still_young) if says.max_age_s is not None and not says.anew else None,
            validate=lambda: STAMP + str(space.store.log.server_ms()).encode())

    def _young(self, stamp: bytes) -> bool:
        made, most = stamp.removeprefix(STAMP), self._asked.controls.max_age_s
        return most is None or made.isdigit() and self._recaller.space.store.log.server_ms() - int(made) <= most * 1000

    async def _still_young(self, stamp: bytes) -> bool:
        return self._young(stamp)

    def at_hand(self) -> bytes | None:
        """The answer as it was kept, if this host has it."""
        space = self._recaller.space
        if self._asked.controls.anew or (found := space.answer_at_hand(self._asked.call, self._formed, usable=self._young)) is None:
            return None
        answer, kept = found
        self._recalled = Recalled(answer.ref, "hit", answer.usage, by=answer.by)
        return bytes(kept.body)

    # ── leading ───────────────────────────────────────────────────────────────────────────────

    async def _produce(self) -> AsyncGenerator[bytes, None]:
        """Ask the upstream: the pieces of its answer as they come, and no end unless it is whole. The caller pays."""
        asked, payer = self._asked, self._recaller.payer
        for ref in asked.refs:  # made from these: forgotten with them
            if (work := current_work.get()) is not None:
                work.read.setdefault(ref, None)
        paying = payer.spending(self._caller, asked.model, asked.body, asked.path)
        async with paying as tab, contextlib.aclosing(self._attempt(tab)) as pieces:
            async for piece in pieces:
                yield piece

    async def _attempt(self, tab: Tab) -> AsyncGenerator[bytes, None]:
        asked, upstreams = self._asked, self._recaller.upstreams
        which = (asked.upstream.url, asked.model)
        streamed = asked.route != "embeddings" and which not in upstreams.plain_only
        doubted = False
        while True:
            self._made, self._sent = answer, sent = asked.answer(), list[bytes]()
            headers = {"content-type": "application/json", "accept-encoding": "identity"}
            if isinstance(asked.call.arguments, dict) and (beta := asked.call.arguments.get("beta")):
                headers["openai-beta"] = beta
            async with contextlib.AsyncExitStack() as sending:
                span = sending.enter_context(self._spanned(streamed))
                response = await sending.enter_async_context(upstreams.send(
                    asked.upstream, "POST", asked.path, asked.sent(streamed=streamed), headers, unsent=tab.nothing))
                if response.status != 200:
                    said = await refusal(asked.upstream, response)
                    if streamed and said.status in (400, 422) and b"stream" in said.body.lower():
                        streamed, doubted = False, True  # refused before any work: asked once more without
                        continue
                    tab.nothing()
                    self._recaller.refusals.heard(self._formed.key, said)
                    raise said.error(asked.model)
                # Only now: it was the stream, and nothing else that was wrong with the request, and no option of the caller's own.
                if doubted and not asked.body.get("stream_options"):
                    upstreams.plain_only.add(which)
                try:
                    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                    blocks = response.content.iter_any()
                    async for piece in _events(answer, blocks) if kind == "text/event-stream" else _whole(answer, blocks):
                        sent.append(piece)
                        yield piece
                finally:
                    tab.was(answer.usage)
                    if span is not None:
                        span.answered(answer.usage.tokens_in, answer.usage.tokens_out, answer.usage.tokens_cached,
                                      estimated=answer.usage.estimated)
                    if (work := current_work.get()) is not None:
                        work.own = work.own + self._priced(answer.usage)
            if not answer.whole:
                raise cut(asked.model, "its end")
            return

    @contextlib.contextmanager
    def _spanned(self, streamed: bool) -> Iterator[Inference | None]:
        """The span of one request to the upstream, where somebody wants spans."""
        if (telemetry := self._recaller.space.store.telemetry) is None:
            yield None
            return
        operation = "embeddings" if self._asked.route == "embeddings" else "chat"
        sent = telemetry.sending("openai", self._asked.model, operation=operation, stream=streamed)
        try:
            yield sent
        except BaseException as error:
            sent.end(error)
            raise
        finally:
            sent.end()

    def _priced(self, usage: Usage) -> Usage:
        return usage + Usage(micro_usd=cost(usage, self._recaller.payer.price(self._asked.model)))

    # ── delivering ────────────────────────────────────────────────────────────────────────────

    def headers(self, how: str) -> dict[str, str]:
        """What is said of where the answer comes from."""
        told = {"x-memgang-cache": how, "x-memgang-key": self._formed.key}
        if (recalled := self._recalled) is not None:
            told["x-memgang-ref"] = recalled.ref
            if how in ("hit", "joined"):
                told["x-memgang-saved-tokens"] = str(recalled.usage.tokens)
        return told

    def _how(self) -> str:
        if self._degraded:
            return "degraded"
        if self._recalled is not None:
            return "miss" if self._recalled.how == "computed" else self._recalled.how
        return "miss" if self._made is not None else "joined"

    def _seen(self, stream: Stream) -> None:
        self._recalled, self._degraded = stream.recalled, stream.degraded

    async def plain(self) -> Reply:
        """The answer in one piece, made or waited for."""
        pieces: list[bytes] = []
        try:
            async with contextlib.aclosing(self._open()) as stream:
                async for piece in stream:
                    if piece is RESTARTED:
                        pieces.clear()
                    else:
                        pieces.append(_bytes(piece))
                self._seen(stream)
        except (StoreFull, TooLarge):
            if self._made is None or not self._made.whole:
                raise
            return Reply(200, self._made.plain(), headers=self.headers("bypass"))  # paid for, though there is no room for it
        return self.whole(b"".join(pieces))

    def whole(self, kept: bytes) -> Reply:
        """The answer in one piece, from what is kept of it."""
        assert self._recalled is not None
        plains, ref = self._recaller.plains, self._recalled.ref
        if (made := plains.get(ref, self._asked.route)) is None:
            # Mostly that of the attempt led here, which has been read. Who was overtaken is given another one.
            ours = self._made is not None and self._made.whole and b"".join(self._sent) == kept
            made = (self._made if ours and self._made is not None else self._answer(kept)).plain()
            plains.keep(ref, self._asked.route, made)
        return Reply(200, made, headers=self.headers(self._how()))

    def _answer(self, kept: bytes) -> Answer:
        return taken(self._asked.answer(), kept)

    async def streamed(self) -> Reply:
        """The answer as events, the first of which is there."""
        shown = self._shown()
        try:
            first = await anext(shown, None)
        except BaseException:
            await shown.aclose()
            raise
        going = self._going_on(first, shown)
        await anext(going)  # begun: one that is not would leave the stream open when it is closed
        return Reply(200, going, STREAM, self.headers(self._how()) | {"cache-control": "no-cache"})

    async def _going_on(self, first: bytes | None, shown: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(shown):
            try:
                yield b""
                if first is not None:
                    yield first
                async for events in shown:
                    yield events
            except MemGangError as failure:
                code = failure.code if isinstance(failure, ModelError) else type(failure).__name__
                yield error_event(self._asked.route, code, failure.explain(), max(0, self._shown_events - 1))

    async def _shown(self) -> AsyncGenerator[bytes, None]:
        """The events this caller is shown, those that are there at once as one piece.

        The one that ends the answer comes when it is certain that this is the answer.
        """
        frames, held, plain = Frames(), list[bytes](), b""
        hides_usage = self._asked.route == "chat" and not self._asked.include_usage
        kept = self.at_hand()
        try:
            async with contextlib.AsyncExitStack() as opened:
                stream: AsyncIterator[str | bytes]
                if kept is not None:
                    stream = _once(kept)
                else:
                    stream = followed = await opened.enter_async_context(contextlib.aclosing(self._open()))
                async for piece in stream:
                    if kept is None:
                        self._seen(followed)
                    block = _bytes(piece)
                    if plain or is_plain(block) and not frames.rest and not held:
                        plain += block
                        continue
                    ready: list[bytes] = []
                    for event in frames.take(block):
                        ready += held
                        held.clear()
                        if not (hides_usage and chat.only_usage(event)):
                            (held if _ends(event) else ready).append(event)
                    if ready:
                        self._shown_events += len(ready)
                        yield b"".join(ready)
        except (StoreFull, TooLarge):
            if self._made is None or not self._made.whole:
                raise
        if plain:
            held = [event for event in self._answer(plain).events() if not (hides_usage and chat.only_usage(event))]
        if held:
            yield b"".join(held)


async def _events(answer: Answer, blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The events of a stream, each looked at before it is shown to anybody."""
    frames, size = Frames(), 0
    async for block in blocks:
        size += len(block)
        if size > ANSWER_BYTES_MAX:
            raise TooLarge("the answer", size, ANSWER_BYTES_MAX)
        for event in frames.take(block):
            answer.take(event)
            yield event
            if answer.whole:
                return  # some servers keep the connection open behind the end
    if frames.rest.strip() == b"data: " + sse.DONE:  # and some leave out the blank line behind it
        for event in frames.take(b"\n\n"):
            answer.take(event)
            yield event


async def _whole(answer: Answer, blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """An answer in one piece."""
    body = bytearray()
    async for block in blocks:
        body += block
        if len(body) > ANSWER_BYTES_MAX:
            raise TooLarge("the answer", len(body), ANSWER_BYTES_MAX)
    answer.take_plain(bytes(body))
    yield bytes(body)


def _ends(event: bytes) -> bool:
    """Whether the event may be the one that ends an answer. One that is not is held until the next, and nothing is lost."""
    return sse.DONE in event[-16:] or b"response.completed" in event[:200] or b"response.incomplete" in event[:200]


async def _once(kept: bytes) -> AsyncGenerator[bytes, None]:
    yield kept


def _bytes(piece: str | bytes) -> bytes:
    return piece if isinstance(piece, bytes) else piece.encode()
