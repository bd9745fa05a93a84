"""Reads: the two verbs with which anything outside is read, for gangs, doors and readers alike."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self
from urllib.parse import urlsplit

from memgang.model import Original
from memgang.reads import disk, keeping
from memgang.reads.manners import Manners
from memgang.reads.pages import Pages, asked
from memgang.reads.politeness import Politeness
from memgang.reads.robots import Robots
from memgang.space import Space


class Reads:
    """Remembered reads of one space. Belongs to its event loop; close it before the space."""

    def __init__(self, space: Space, manners: Manners | None = None) -> None:
        """Without ``manners``, the usual ones: only public addresses.

        Raises:
            ConfigError: robots.txt is to be heeded, and the library that reads it is missing.
        """
        self.space, self.manners = space, manners or Manners()
        self._politeness = Politeness(space, self.manners.at_once)
        self._robots = Robots(space, self.manners, self._turn_alone) if self.manners.robots else None
        self._pages = Pages(space, self.manners, self._turn)

    async def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, max_age_s: float | None = None,
    ) -> Original:
        """The page behind a URL: asked for once by all who want it, in all processes, and again when that is due.

        While the server says that its page is fresh (Cache-Control, Expires) nobody asks; after that one of all who want it
        does, with its ETag or Last-Modified, and an unchanged page does not travel again. ``max_age_s`` says instead for how
        long the page may be used without asking: 0 asks in any case.

        ``headers`` (credentials, say) go to the named server alone, not to where it redirects. They stand in no key, record, log
        or error. No other fetch is answered with what was fetched with them, unless it gives the same. But the page lies in the
        space as all else does: whoever has its reference, or lists or searches the space, can read it. What not all agents of a
        space may see is fetched into a space of its own.

        Raises:
            ReadError: it cannot be read; ``code`` and ``reason`` say why. Told to those who wait, and never remembered.
            ConfigError: the URL holds a user or password, or a header is none.
        """
        return await self._pages.fetch(url, headers, max_age_s)

    async def read_file(self, path: str, *, follow: bool = True) -> Original:
        """A file as it stands: read once for all, and again when it has changed.

        Believed by its size, times and inode while it is at rest; where these have changed, its content decides. Without
        ``follow`` the path must be a real one: where it leads over a link by now, nothing is read.

        Raises:
            ReadError: it is not there, no file, or larger than ``bytes_max`` of the manners.
        """
        return await disk.read(self.space, path, self.manners.bytes_max, follow)

    async def body(self, original: Original) -> bytes:
        """The bytes as they came, also where `Space.get` would give text.

        Raises:
            UnknownReference: they have expired or were forgotten since.
        """
        return await keeping.raw(self.space, original)

    def asked(self, url: str) -> dict[str, str]:
        """What a call that rests on this page has to tell apart: the address, and whom these manners may ask."""
        return asked(self.space, self.manners, url, {})

    async def aclose(self) -> None:
        """Give back the turns at hosts."""
        await self._politeness.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @contextlib.asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[Callable[[float], None]]:
        """What is waited for before each request, redirects too: the rules of that server, then a turn there."""
        delay_s = self.manners.delay_s
        if self._robots is not None:
            delay_s = max(delay_s, await self._robots.delay_s(url))
        async with self._politeness.turn(urlsplit(url).netloc.lower(), delay_s) as wait:
            yield wait

    @contextlib.asynccontextmanager
    async def _turn_alone(self, url: str) -> AsyncIterator[Callable[[float], None]]:
        async with self._politeness.turn(urlsplit(url).netloc.lower(), self.manners.delay_s) as wait:
            yield wait
