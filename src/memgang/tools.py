"""Tools: functions that look at the world, remembered only while what they looked at stays as it was.

    search = tool(space, reads=lambda folder, word: [folder + "/index.json"])(search)

Arguments alone are never enough for a key: in recorded runs of agents two thirds of the repeated tool calls
returned something else, because something had been written in between. So a tool says which files and URLs
it reads, and its answer is used as long as they are unchanged. A tool that does not say is shared with those
who ask while it runs, and never afterwards.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from memgang import readers
from memgang.canonical import argument
from memgang.errors import ConfigError
from memgang.model import Call
from memgang.recall import Mode, Recalled
from memgang.space import TTL, Space
from memgang.versions import version_of

AT_ONCE_S = 0.001  # how long a failure is told that nobody could check: to those who wait for it

Reads = Callable[..., Sequence[str]] | Sequence[str] | None


class Tool:
    """A function with the rule by which its answers may be used again. Call it for the value, `recall` for how it came.

    ``reads`` names the files and URLs the answer depends on (one, or several), or is a function of the same arguments that does;
    ``()`` says it depends on its arguments alone, None that nobody knows. ``max_age_s`` is how long a URL is believed
    without asking its server. Plain functions run in a thread.

    The names other frameworks use for what a tool is are understood too, the first that applies:

    1. ``cacheable``: True remembers it (without ``reads``: by its arguments alone), False runs it for each who calls it.
    2. ``destructive`` or ``volatile``: it runs for each who calls it, and nobody is given another's answer.
    3. ``read_only`` and ``idempotent``, both: remembered as with ``cacheable=True``.
    4. none of these: as ``reads`` says.

    ``ignored_arg_names`` are arguments that do not change the answer (a trace id, a progress bar): calls that differ in
    nothing else are one call, whose tool is given those of the first.
    """

    def __init__(
        self, space: Space, function: Callable[..., Any], *, reads: Reads = None, ttl: TTL | int = "default",
        max_age_s: float = 0.0, deps: Sequence[Any] = (), version: str | None = None, name: str | None = None,
        cacheable: bool | None = None, volatile: bool = False, destructive: bool = False, read_only: bool = False,
        idempotent: bool = False, ignored_arg_names: Sequence[str] = (),
    ) -> None:
        """Raises ConfigError where an ignored argument is none of the function's."""
        functools.update_wrapper(self, function)
        self.function, self.name = function, name or f"{function.__module__}:{function.__qualname__}"
        self.version = version if version is not None else version_of(function, deps)
        self._space, self._reads, self._ttl, self._max_age_s = space, reads, ttl, max_age_s
        self._signature = inspect.signature(function)
        self._ignored = frozenset([ignored_arg_names] if isinstance(ignored_arg_names, str) else ignored_arg_names)
        if unknown := sorted(self._ignored - set(self._signature.parameters)):
            raise ConfigError(f"tool {self.name} has no argument {', '.join(unknown)} to ignore")
        remembered = cacheable if cacheable is not None else (
            False if destructive or volatile else True if read_only and idempotent else None)
        self._mode: Mode = "private" if remembered is False else "share"
        if remembered and reads is None:
            self._reads = ()

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The tool's answer. Raises what `recall` raises."""
        recalled = await self.recall(*args, **kwargs)
        return await recalled.value(self._returns())

    async def recall(self, *args: Any, **kwargs: Any) -> Recalled:
        """The answer with how it came.

        Raises:
            WorkFailed: the tool failed, or a source it says it reads is not there; the error is the cause.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        call = Call("tool", self.name, self.version, {n: argument(v) for n, v in bound.arguments.items() if n not in self._ignored})
        sources = self._sources(args, kwargs)
        validator = b""

        async def compute() -> Any:
            nonlocal validator
            # Before the tool looks: what changes while it runs then shows as a change afterwards.
            validator = await asyncio.to_thread(readers.fingerprint_all, sources) if sources else b""
            if inspect.iscoroutinefunction(self.function):
                return await self.function(*args, **kwargs)
            return await asyncio.to_thread(self.function, *args, **kwargs)

        async def check(seen: bytes) -> bool:
            # Nobody knows what it depends on: only those who wait while it runs may share its answer.
            if not sources:
                return False
            return await asyncio.to_thread(readers.unchanged_all, sources, seen, max_age_s=self._max_age_s)

        pure = sources is not None and not sources
        return await self._space.recall(
            call, compute, ttl=self._ttl, check=None if pure else check, validate=None if pure else lambda: validator,
            negative_ttl=None if pure else AT_ONCE_S, mode=self._mode)

    def _sources(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str] | None:
        if self._reads is None:
            return None
        named = self._reads(*args, **kwargs) if callable(self._reads) else self._reads
        return [named] if isinstance(named, str) else list(named)  # a text is a sequence too: of letters

    def _returns(self) -> Any:
        try:
            return get_type_hints(self.function).get("return")
        except (NameError, TypeError, AttributeError):
            return None

    def __repr__(self) -> str:
        return f"<tool {self.name}>"


def tool(
    space: Space, *, reads: Reads = None, ttl: TTL | int = "default", max_age_s: float = 0.0, deps: Sequence[Any] = (),
    version: str | None = None, name: str | None = None, cacheable: bool | None = None, volatile: bool = False,
    destructive: bool = False, read_only: bool = False, idempotent: bool = False, ignored_arg_names: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Tool]:
    """Decorator: make a `Tool` of a function; see there for what the arguments mean."""
    def made(function: Callable[..., Any]) -> Tool:
        return Tool(space, function, reads=reads, ttl=ttl, max_age_s=max_age_s, deps=deps, version=version, name=name,
                    cacheable=cacheable, volatile=volatile, destructive=destructive, read_only=read_only,
                    idempotent=idempotent, ignored_arg_names=ignored_arg_names)

    return made
