"""Large bodies: where a new one goes, and from where one is had.

    placement   up to 64 KiB     to 1 MiB                          larger
    host        in the server    a file of this host alone         the same
    network     in the server    in the server                     in the server, in parts; each host fetches it once

What only a host has goes to its disk when the last process leaves, and is read from there the next time. A machine that is
switched off before that loses it: `get` says so (`ObjectLost`), and a recall computes it again. Files and their shelves are the
business of `host/files.py`; here is what the server has to do with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from redis.exceptions import RedisError

from memgang.codec import Encoded, ref_of
from memgang.errors import IntegrityError, ObjectLost, StoreUnavailable
from memgang.model import Ref
from memgang.settings import Settings
from memgang.store.host import Busy, Draft, Files, Kept, Laid, Shelf, Stamp, Tier
from memgang.store.host.tier import BODY_MAX
from memgang.store.house import close_lock, open_lock, try_lock
from memgang.store.keys import Keys
from memgang.store.process import fresh
from memgang.store.replies import translated
from memgang.store.scripts import Body
from memgang.store.wire import Wire

LAID_MS = 60_000
ORPHANS = 1_000  # looked at in one round
SLOWEST = 10 << 20  # bytes a second: who fetches for all is not waited for longer than it takes at this
REMOVE_S = 0.05

Placement = Literal["host", "network"]


class Large:
    """Large bodies of one space. Lives as long as the Space."""

    def __init__(
        self, wire: Wire, keys: Keys, settings: Settings, server_ms: Callable[[], int], files: Files, tier: Tier | None,
        placement: Placement,
    ) -> None:
        self._wire, self._keys, self._settings, self._server_ms = wire, keys, settings, server_ms
        self.files, self.tier, self.placement = files, tier, placement
        self._host = ""
        self._next = 0  # of the files looked at

    @property
    def host(self) -> str:
        """A name of this host, as records have it."""
        self._host = self._host or self.files.host()
        return self._host

    def goes_into_a_file(self, size: int) -> bool:
        """Whether a new body of this size is one of this host alone."""
        return self.placement == "host" and size > self._settings.inline_bytes_max

    # ── putting ───────────────────────────────────────────────────────────────────────────────

    async def lay_here(self, value: Encoded) -> Laid:
        """Write it into a file of this host; `Laid.done` when its record is written. StoreFull: there is no room."""
        return await asyncio.to_thread(self.files.lay, value)

    async def lay_there(self, ref: Ref, body: bytes | memoryview) -> tuple[str, int]:
        """Write it to the server under a temporary key; that key and its number of parts (0: one string)."""
        laid = self._keys.laid(ref, fresh())
        step = self._settings.part_bytes
        try:
            if len(body) <= step:
                await self._wire.call_wide("SET", laid, bytes(body), "PX", LAID_MS)
                return laid, 0
            # It ends by itself from its first byte on: between a part and its expiry this process can be killed.
            await asyncio.gather(*self._wire.row(("HSET", laid, "0", b""), ("PEXPIRE", laid, LAID_MS)))
            view, count = memoryview(body), 0
            for start in range(0, len(body), step):
                # One part at a time: a gigabyte must not stand twice in our memory.
                await self._wire.call_wide("HSET", laid, str(count), bytes(view[start:start + step]))
                await self._wire.call("PEXPIRE", laid, LAID_MS)
                count += 1
            return laid, count
        except RedisError as error:
            raise translated(error, f"store {len(body):,} bytes") from error

    async def keep_copy(self, ref: Ref, value: Encoded) -> Stamp | None:
        """Keep what was given to the server here as well; None where there is no room for it."""
        def work() -> Stamp | None:
            draft = self.files.keep(None, value.size)
            if draft is None or self.files.copies is None:
                return None
            try:
                draft.fill(value)
                return self._published(self.files.copies, draft, ref)
            except (OSError, Busy):
                return None
            finally:
                draft.close()

        return await asyncio.to_thread(work)

    @staticmethod
    def _published(shelf: Shelf, draft: Draft, ref: Ref) -> Stamp:
        draft.seal(lasting=False)
        laid = shelf.publish(draft, ref)
        laid.done()
        return laid.stamp

    def remember(self, ref: Ref, media_type: str, meta: bytes, stamp: Stamp, expires: int, since: float) -> None:
        """Tell this host in which file it is, and that its bytes are right."""
        if self.tier is not None:
            self.tier.keep_body(ref.id, media_type, stamp.packed(), meta, expires, self._server_ms(), since, filed=True)

    # ── having ────────────────────────────────────────────────────────────────────────────────

    def at_hand(self, ref: Ref, kept: Kept) -> Kept | None:
        """What the tier says is in a file, from it; None where the file is gone, or not as it was."""
        try:
            stamp = Stamp.unpacked(kept.body)
        except struct.error:  # the entry is damaged, and was none of a file
            return None
        view = self.files.mapped(ref.id, stamp)
        return None if view is None else Kept(kept.media_type, view, kept.meta)

    def has(self, ident: str) -> bool:
        """Whether this host has a file of it."""
        return self.files.has(ident)

    async def had(self, ref: Ref, found: Body, since: float) -> Kept:
        """The body of a record that came without it.

        Raises:
            ObjectLost: neither this host nor the server has it.
            IntegrityError: the bytes are not the content of the id.
        """
        try:
            if (kept := await self._in_a_file(ref, found, since)) is not None:
                return kept
        except IntegrityError:
            if found.parts < 0:
                raise
        if found.parts < 0:
            raise ObjectLost(ref, f"its {found.size:,} bytes are in the memory of another host, and nowhere else"
                             if found.host != self.host else
                             f"its {found.size:,} bytes were in the memory of this host, and nowhere else; they are there no more")
        if self.tier is None or found.size <= BODY_MAX:
            return Kept(found.media_type, await self._whole(ref, found), found.meta)
        async with self._one_of_this_host(ref.id, found.size):
            if (kept := await self._in_a_file(ref, found, since)) is not None:
                return kept
            return await self._fetched(ref, found, since)

    async def _in_a_file(self, ref: Ref, found: Body, since: float) -> Kept | None:
        if not self.files.has(ref.id):
            return None
        kept = self.tier.body(ref.id, self._server_ms(), asked=True) if self.tier is not None else None
        if kept is not None and kept.filed and (here := self.at_hand(ref, kept)) is not None:
            return here  # and is as it was when it was hashed
        sealed = await asyncio.to_thread(self.files.find, ref, found.media_type)
        if sealed is None:
            return None
        self.remember(ref, found.media_type, found.meta, sealed.stamp, found.expires, since)
        return Kept(found.media_type, sealed.view, found.meta)

    async def _fetched(self, ref: Ref, found: Body, since: float) -> Kept:
        """From the server into a file, part by part; where there is no room for a file, into this process."""
        draft = await asyncio.to_thread(self.files.keep, found.media_type, found.size)
        shelf = self.files.copies
        if draft is None or shelf is None:
            return Kept(found.media_type, await self._whole(ref, found), found.meta)
        try:
            async for part in self._parts(ref, found):
                try:
                    await asyncio.to_thread(draft.add, part)
                except OSError:
                    return Kept(found.media_type, await self._whole(ref, found), found.meta)
            if draft.written != found.size:
                raise IntegrityError(ref, f"{draft.written:,} bytes where the record says {found.size:,}")
            if (right := draft.ref()) != ref:
                raise IntegrityError(ref, f"{draft.written:,} bytes that are {right}")
            stamp = await asyncio.to_thread(self._published, shelf, draft, ref)
        except (OSError, Busy):
            return Kept(found.media_type, await self._whole(ref, found), found.meta)
        finally:
            draft.close()
        self.remember(ref, found.media_type, found.meta, stamp, found.expires, since)
        if (view := self.files.mapped(ref.id, stamp)) is None:  # it has just been removed
            return Kept(found.media_type, await self._whole(ref, found), found.meta)
        return Kept(found.media_type, view, found.meta)

    async def _parts(self, ref: Ref, found: Body) -> AsyncIterator[bytes]:
        if not found.parts:
            step = self._settings.part_bytes
            for start in range(0, found.size, step):
                piece = await self._wire.call_wide("GETRANGE", self._keys.body(ref), start, start + step - 1)
                if not piece:
                    raise ObjectLost(ref, "its body is gone")
                yield piece
        for part in range(found.parts):
            piece = await self._wire.call_wide("HGET", self._keys.body(ref), str(part))
            if piece is None:
                raise ObjectLost(ref, "a part of its body is gone")
            yield piece

    async def _whole(self, ref: Ref, found: Body) -> bytes:
        whole = bytearray()
        async for piece in self._parts(ref, found):
            whole += piece
        if len(whole) != found.size:
            raise IntegrityError(ref, f"{len(whole):,} bytes where the record says {found.size:,}")
        body = bytes(whole)
        if (right := await asyncio.to_thread(ref_of, found.media_type, body)) != ref:
            raise IntegrityError(ref, f"{len(body):,} bytes that are {right}")
        return body

    @contextlib.asynccontextmanager
    async def _one_of_this_host(self, ident: str, size: int) -> AsyncIterator[None]:
        """One of the host fetches, in whatever process; the others wait and then find the file. The kernel lets them go on when it dies."""
        assert self.tier is not None, "without a tier nothing is fetched for others"
        ends = time.monotonic() + self._settings.socket_timeout_s + size / SLOWEST
        fd, pause = None, 0.001
        try:
            with contextlib.suppress(StoreUnavailable, OSError):
                folder = self.tier.folder / "fetched"
                folder.mkdir(mode=0o700, exist_ok=True)
                fd = open_lock(folder / ident)
                # A process that was stopped does not end; then everybody fetches for itself.
                while not try_lock(fd) and time.monotonic() < ends:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.02)
            yield
        finally:
            if fd is not None:
                close_lock(fd)

    # ── removing ──────────────────────────────────────────────────────────────────────────────

    async def remove(self, refs: Sequence[Ref], patience_s: float = REMOVE_S) -> None:
        """Remove the files of those that have no record any more. Where somebody is about to put one anew, it stays."""
        ends = time.monotonic() + patience_s
        for ref in refs:
            while self.files.has(ref.id) and not await self._remove(ref):
                if time.monotonic() >= ends:
                    break  # who keeps house comes by
                await asyncio.sleep(0.002)

    async def _remove(self, ref: Ref) -> bool:
        """False: somebody puts a file of this id, or another one beside it."""
        with self.files.alone(ref.id) as shelves:
            if shelves is None:
                return False
            if not await self._wire.call("EXISTS", self._keys.record(ref)):
                for shelf in shelves:
                    shelf.remove(ref.id)
        return True

    async def tidy(self) -> int:
        """Keep house among the files, if nobody of this host does: bury, spill, and remove what has no record; how many had none.

        A thousand are looked at in a round, and the next go on from there: only who was killed leaves such a file.
        """
        idents = await asyncio.to_thread(self.files.tidy)
        if self._next >= len(idents):
            self._next = 0
        page = [Ref("mg:" + ident) for ident in idents[self._next:self._next + ORPHANS]]
        self._next += ORPHANS
        asked = [(ref, self._wire.call("EXISTS", self._keys.record(ref))) for ref in page]
        orphans = [ref for ref, reply in asked if not await reply]
        await self.remove(orphans, 0.0)
        return len(orphans)

    async def there(self, ref: Ref) -> bool:
        """Whether it can be had: its record is there, and its body at the server, or here and whole."""
        kind, body = await asyncio.gather(*self._wire.row(
            ("HGET", self._keys.record(ref), "type"), ("EXISTS", self._keys.body(ref))))
        if kind is None or body:
            return kind is not None
        with contextlib.suppress(IntegrityError):
            return self.files.has(ref.id) and await asyncio.to_thread(self.files.find, ref, kind.decode()) is not None
        return False
