"""Tools that look outside: a file below the given folders, a page of the public web. Each is read once for all agents."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memgang.doors.mcp.door import Door
from memgang.doors.mcp.results import Stored, stored
from memgang.engines.processes import Engine
from memgang.errors import ReadError
from memgang.files import Roots, read_file
from memgang.model import Ref
from memgang.readers.web import is_url
from memgang.reading import read_text
from memgang.reads import Reads


class Outside:
    """The tools of one door. ``roots``, and whom the manners of ``reads`` may ask, are all they may see."""

    def __init__(self, door: Door, engine: Engine, roots: Roots, reads: Reads, whole_bytes: int) -> None:
        self._space, self._engine, self._roots, self._reads, self._whole = door.space, engine, roots, reads, whole_bytes
        # They change nothing but this memory of what was read.
        door.offer(self.read_file, "memgang_read_file", "Read a file", reads=True, repeats=True, world=True)
        door.offer(self.fetch_url, "memgang_fetch_url", "Fetch a web page", reads=True, repeats=True, world=True)

    async def read_file(
        self, path: Annotated[str, Field(min_length=1, max_length=4_096, description="A file below the folders this server may read.")],
    ) -> Stored:
        """Read a file once for all agents: text as it stands, PDF and the like as their text. Read again when it has changed.

        A large one comes as a reference and how it begins: read what you need of it with memgang_peek.
        """
        real, ref = await read_file(self._reads, self._roots, path, self._engine)
        return await self._told(ref, real)

    async def fetch_url(
        self, url: Annotated[str, Field(min_length=1, max_length=4_096, description="An http or https address of the public web.")],
    ) -> Stored:
        """Fetch a page once for all agents, as its text. While its server says it is unchanged it is not fetched again.

        A large one comes as a reference and how it begins: read what you need of it with memgang_peek.
        """
        if not is_url(url):
            raise ReadError(url, "it is not an http or https address", "scheme")
        document, ref = await read_text(self._reads, url, self._engine)
        return await self._told(ref, document.source)

    async def _told(self, ref: Ref, source: str) -> Stored:
        return stored(await self._space.describe(ref), await self._space.get(ref), self._whole, source)
