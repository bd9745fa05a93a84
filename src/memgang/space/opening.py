"""Opening a space."""

from __future__ import annotations

from typing import Any

from memgang.settings import Settings
from memgang.space.space import Space
from memgang.store.store import Store


class open:  # memgang.open, as the field names it
    """Open a space: ``async with memgang.open() as space``, or ``space = await memgang.open()``.

    Without a URL (argument or MEMGANG_URL) an embedded server is found or started; every process on this
    machine that opens it shares it. Other settings are keywords; see docs/settings.md.

    Raises:
        ConfigError: a setting is wrong.
        StoreUnavailable, ServerUnfit: no server, or one that cannot keep what is promised.
    """

    def __init__(self, url: str | None = None, space: str | None = None, agent: str | None = None, **settings: Any) -> None:
        self._settings = Settings.load(url=url, space=space, agent=agent, **settings)
        self._space: Space | None = None

    def __await__(self) -> Any:
        return self._open().__await__()

    async def _open(self) -> Space:
        self._space = Space(await Store.open(self._settings))
        return self._space

    async def __aenter__(self) -> Space:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        if self._space is not None:
            await self._space.aclose()

    def __repr__(self) -> str:
        return f"memgang.open(space={self._settings.space!r})"
