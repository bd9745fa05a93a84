"""The memory of a conversation for the OpenAI Agents SDK, in a space.

    await Runner.run(agent, "hello", session=MemGangSession("customer-7", space))

What is added at a time is one memory object, a part; the session is a name that points at the list of its parts and is
moved by compare-and-set. So two processes that add to one session lose nothing, and a part is written once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from memgang.adapters.bridge import Bridge
from memgang.adapters.labels import packed
from memgang.blocking import BlockingSpace
from memgang.codec import TTL, parse_ttl
from memgang.errors import CodecError, Conflict, UnknownReference
from memgang.model import NameVersion, Ref
from memgang.space import Space

TRIES = 1_000  # among n who add at once, the last one meets n conflicts

T = TypeVar("T")
Item = Any  # as the SDK has it: a dict in JSON types
Part = tuple[Ref, list[Item]]


class MemGangSession:
    """A `Session` of the OpenAI Agents SDK that all processes share. Safe from many tasks, threads and processes."""

    def __init__(self, session_id: str, space: Space | BlockingSpace, *, ttl: TTL = None, session_settings: Any = None) -> None:
        """``ttl``: how long a conversation is kept after it was last changed; None until it is cleared.
        ``session_settings`` are the SDK's: their ``limit`` holds where `get_items` is given none.

        Raises:
            ConfigError: no such space, or the time to live is none.
        """
        parse_ttl(ttl)
        self.session_id, self.session_settings = session_id, session_settings
        self._bridge, self._ttl = Bridge(space), ttl
        self._name = packed("sessions", [session_id])

    async def get_items(self, limit: int | None = None) -> list[Item]:
        """The items in the order in which they were added; with a limit the last so many."""
        if limit is None and self.session_settings is not None:
            settings = self.session_settings
            limit = settings.get("limit") if isinstance(settings, dict) else settings.limit
        _, parts = await self._bridge.here(self._look())
        items = [item for _, part in parts for item in part]
        return items if limit is None else items[max(0, len(items) - limit):] if limit > 0 else []

    async def add_items(self, items: list[Item]) -> None:
        """Add items behind those that are there, all together.

        Raises:
            CodecError: one of them has no JSON form.
            TooLarge, StoreFull, StoreUnavailable.
        """
        def added(parts: list[Part]) -> tuple[list[Ref | list[Item]], None]:
            return [*(ref for ref, _ in parts), items], None

        if items:
            await self._bridge.here(self._change(added))

    async def pop_item(self) -> Item | None:
        """Take the last item away; None where there is none. Of two who do so at once each is given another one."""
        def popped(parts: list[Part]) -> tuple[list[Ref | list[Item]], Item | None]:
            if not parts:
                return [], None
            before: list[Ref | list[Item]] = [ref for ref, _ in parts[:-1]]
            *rest, last = parts[-1][1]
            return [*before, rest] if rest else before, last

        return await self._bridge.here(self._change(popped))

    async def clear_session(self) -> None:
        """Take all items away, and forget them."""
        await self._bridge.here(self._change(lambda parts: ([], None)))

    # ── on the event loop of the space ────────────────────────────────────────────────────────

    async def _look(self) -> tuple[NameVersion | None, list[Part]]:
        """The version of the list, and the parts on it. None where the name is free."""
        space, before = self._bridge.space, None
        while True:
            now = await space.version(self._name)
            if now is None or now.ref is None:
                return None, []
            try:
                refs = [Ref(text) for text in _field(await space.get(now.ref), "parts")]
                found = await space.get_many(refs)
                return now, [(ref, _field(part, "items")) for ref, part in zip(refs, found, strict=True)]
            except UnknownReference:
                # Changed while we looked, and the old list forgotten; or its time has come, and only the name is left.
                if now == before:
                    return now, []
                before = now

    async def _change(self, changed: Callable[[list[Part]], tuple[list[Ref | list[Item]], T]]) -> T:
        """Move the name to another list of parts, once nobody comes between: items become parts, what falls out is forgotten."""
        space = self._bridge.space
        for _ in range(TRIES):
            now, parts = await self._look()
            wanted, outcome = changed(parts)
            if not wanted and now is None:
                return outcome
            mine = [part if isinstance(part, Ref) else await self._put(items=part) for part in wanted]
            new = [ref for part, ref in zip(wanted, mine, strict=True) if part is not ref]
            listed = await self._put(session=self.session_id, parts=list(mine)) if mine else None
            try:
                await space.set_name(self._name, listed, expect=now.version if now is not None else 0)
            except Conflict:
                await self._forget([*new, *([listed] if listed is not None else [])])
                continue
            left = [ref for ref, _ in parts if ref not in mine]
            await self._forget([*left, *([now.ref] if now is not None and now.ref is not None else [])])
            if self._ttl is not None:  # the whole conversation lives on, not its last part alone
                await self._refresh([ref for ref, _ in parts if ref in mine])
            return outcome
        raise Conflict(self._name, 0, 0, "")

    async def _put(self, **record: Any) -> Ref:
        # Never two the same: what is forgotten here must be nobody else's, though the same was said there.
        return await self._bridge.space.put({**record, "id": uuid.uuid4().hex}, ttl=self._ttl, kind="session", parents=())

    async def _refresh(self, refs: list[Ref]) -> None:
        for ref in refs:
            try:  # the same content put again lives on
                await self._bridge.space.put(await self._bridge.space.get(ref), ttl=self._ttl, kind="session", parents=())
            except UnknownReference:
                pass  # somebody has taken it away meanwhile

    async def _forget(self, refs: list[Ref]) -> None:
        for ref in refs:
            await self._bridge.space.forget(ref, "replaced")


def _field(record: Any, name: str) -> list[Any]:
    found = record.get(name) if isinstance(record, dict) else None
    if not isinstance(found, list):
        raise CodecError("a name below sessions/ points at what is no session: another program has set it")
    return found
