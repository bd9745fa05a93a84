"""robots.txt: what the operator of a server has asked of programs (RFC 9309), read once for all and remembered for an hour.

A server without one asks for nothing. One that cannot say what it asks (5xx, or no answer) is taken to ask for
everything, and is asked again the next time. Of rules without end the beginning counts.
"""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import urlsplit

from memgang.errors import ConfigError, ReadError
from memgang.model import Call
from memgang.readers import web
from memgang.reads.manners import Manners
from memgang.space import Space

VERSION = "1"
BYTES_MAX = 512 * 1024  # RFC 9309 asks for 500 KiB at least
REMEMBERED = "1h"
DELAY_MAX_S = 60.0  # of what is asked for; a longer one is taken for a mistake, or a way to say no
CANNOT_SAY, PRIVATE = "\0", "\0private "  # no text that a server could have sent: that is decoded without it


class Robots:
    """The rules of all servers that were asked. Belongs to one event loop."""

    def __init__(self, space: Space, manners: Manners, turn: web.Turn) -> None:
        """Raises ConfigError where the library that reads the rules is missing."""
        _library()
        self._space, self._manners, self._turn = space, manners, turn
        self._agent = manners.user_agent.partition("/")[0].strip() or manners.user_agent

    async def delay_s(self, url: str) -> float:
        """How long the server asks programs to wait between two requests.

        Raises:
            ReadError: it asks them to leave this page alone, or cannot say what it asks, or may not be asked.
        """
        text = await self._text(url)
        if text.startswith(PRIVATE):
            raise ReadError(web.shown(url), text.removeprefix(PRIVATE), "private")  # whose hint says how to allow the host
        if text == CANNOT_SAY:
            raise ReadError(web.shown(url), "the server cannot say what its robots.txt allows", "robots")
        rules = _rules(text)
        if not rules.can_fetch(url, self._agent):
            raise ReadError(web.shown(url), f"its robots.txt asks {self._agent[:60]} to leave it alone", "robots")
        return min(float(rules.crawl_delay(self._agent) or 0.0), DELAY_MAX_S)

    async def _text(self, url: str) -> str:
        parts = urlsplit(url)
        source = f"{parts.scheme}://{parts.netloc}/robots.txt"
        known = b""

        async def compute() -> str:
            nonlocal known
            manners, known = self._manners, b"known"
            try:
                got = await web.get(source, reach=manners.reach, agent=manners.user_agent, turn=self._turn,
                                    bounds=web.Bounds(BYTES_MAX, manners.total_s, web.REDIRECTS_MAX, cut=True))
            except ReadError as error:
                if error.code in ("missing", "refused"):  # it has no rules, or none for us
                    return ""
                known = b""
                return PRIVATE + error.reason if error.code == "private" else CANNOT_SAY
            assert isinstance(got, web.Fetched)
            body = got.body if len(got.body) < BYTES_MAX else got.body[:got.body.rfind(b"\n") + 1]  # half a rule may forbid more
            return body.decode("utf-8", "replace").replace("\0", "")

        async def check(validator: bytes) -> bool:
            return validator == b"known"

        asked = {"source": source, "agent": self._manners.user_agent, "reach": self._manners.reach_key}
        recalled = await self._space.recall(Call("read", "memgang.reads:robots", VERSION, asked), compute, ttl=REMEMBERED,
                                            check=check, validate=lambda: known)
        return str(await recalled.value(str))


def _library() -> Any:
    try:
        import protego
    except ModuleNotFoundError:
        raise ConfigError("robots.txt needs protego: pip install 'memgang[robots]'") from None
    return protego.Protego


@functools.lru_cache(maxsize=64)
def _rules(text: str) -> Any:
    return _library().parse(text)
