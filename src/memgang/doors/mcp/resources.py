"""References and names as resources: `mg:<id>` is an object, `memgang://names/<name>` what a name points at now.

An object never changes, so only names can be subscribed to. The log tells of a name by a hash alone, so names that
somebody has subscribed to are looked at every half second, all by one task, and only while somebody has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ServerEvent
from mcp.types import (
    EmptyResult,
    Resource,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from memgang.doors.mcp.door import Door
from memgang.doors.mcp.results import NOTICE, shown
from memgang.errors import ConfigError, MemGangError, UnknownReference
from memgang.space import Space

NAMES = "memgang://names/"
LISTED_MAX = 200
RESOURCE_BYTES_MAX = 1024 * 1024  # a resource is given whole or not at all
LOOK_S = 0.5
UNKNOWN = -1  # the server was away when somebody subscribed: told when it is back, as what may have moved
WATCHED_MAX = 1_000  # names at a time, of all clients together


def uri_of(name: str) -> str:
    """The address of a name as a resource."""
    return NAMES + quote(name, safe="/")


class OpenDoor(Door):
    """The door with its resources."""

    def __init__(self, space: Space, agent: str = "") -> None:
        super().__init__(space, agent)
        self._bus = InMemorySubscriptionBus()
        self._watch = Watch(space, self._bus)
        # The SDK serves the listening of new clients, but not yet for us to know what they listen to; and leaves the
        # subscriptions of older ones to the server below. Both are its own handlers, put where it would put them.
        self._lowlevel_server.add_request_handler(
            "subscriptions/listen", SubscriptionsListenRequestParams, _Listening(self._bus, self._watch))
        self._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        self._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)
        self._subscribed: dict[tuple[int, str], Callable[[], None]] = {}

    async def list_resources(self) -> list[Resource]:
        """The names of the space, the first of them in alphabetical order; objects are found with the tools."""
        names = list((await self.space.names()).items())[:LISTED_MAX]
        return [Resource(uri=uri_of(name), name=name, description=f"what the name points at: {ref}") for name, ref in names]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """The two forms of addresses."""
        return [
            ResourceTemplate(uri_template="mg:{id}", name="object", title="A memory object",
                             description="The value behind a reference. It never changes. " + NOTICE),
            ResourceTemplate(uri_template=NAMES + "{+name}", name="name", title="A name",
                             description="What the name points at now; subscribe to hear when it moves. " + NOTICE)]

    async def read_resource(self, uri: Any, context: Context[Any, Any] | None = None) -> Iterable[ReadResourceContents]:
        """The value of an object or a name.

        Raises:
            ResourceNotFoundError: there is none.
            ResourceError: it is too large for a resource, or cannot be read now.
        """
        text = str(uri)
        try:
            with self.acting(context):
                whole = await self.space.resolve(_name_of(text) if text.startswith(NAMES) else text)
                record = await self.space.describe(whole)
                if record.size > RESOURCE_BYTES_MAX:
                    raise ResourceError(f"{whole} has {record.size:,} bytes, a resource at most {RESOURCE_BYTES_MAX:,}: read a part of it "
                                        "with memgang_peek")
                told = shown(await self.space.get(whole), record.media_type)
        except UnknownReference as error:
            raise ResourceNotFoundError(error.explain()) from None
        except MemGangError as error:
            raise ResourceError(error.explain()) from None
        content = told.value if isinstance(told.value, bytes) else told.text
        return [ReadResourceContents(content=content, mime_type=record.media_type, meta={
            "memgang/ref": str(whole), "memgang/untrusted": True, "memgang/notice": NOTICE, "memgang/by": list(record.writers),
            "memgang/encoding": told.encoding})]

    async def _subscribe(self, asked: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        uri, session = str(params.uri), asked.session
        connection = session._connection  # it ends with the client; the session is one of this request alone
        key = (id(connection), uri)
        if key in self._subscribed:
            await self._watch.known([uri])
            return EmptyResult()
        watching = self._watch.begin([uri])
        tasks: set[asyncio.Task[None]] = set()

        def hear(event: ServerEvent) -> None:
            if isinstance(event, ResourceUpdated) and event.uri == uri:
                task = asyncio.create_task(session.send_resource_updated(uri))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        unhear = self._bus.subscribe(hear)

        def end() -> None:
            if self._subscribed.pop(key, None) is not None:
                unhear()
                watching()

        self._subscribed[key] = end
        connection.exit_stack.callback(end)
        await self._watch.known([uri])
        return EmptyResult()

    async def _unsubscribe(self, asked: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        end = self._subscribed.get((id(asked.session._connection), str(params.uri)))
        if end is not None:
            end()
        return EmptyResult()


class Watch:
    """Looks at the names that somebody has subscribed to, and tells when one has moved."""

    def __init__(self, space: Space, bus: InMemorySubscriptionBus) -> None:
        self._space, self._bus = space, bus
        self._wanted: Counter[str] = Counter()
        self._versions: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self, uris: Iterable[str]) -> Callable[[], None]:
        """Look at these from now on, until what is returned is called. What is no name never changes, and is not looked at.

        Raises:
            ResourceError: too many are looked at already.
        """
        mine = [uri for uri in uris if uri.startswith(NAMES)]
        if len(self._wanted) + len(mine) > WATCHED_MAX:
            raise ResourceError(f"{WATCHED_MAX:,} names are subscribed to already; unsubscribe from some")
        self._wanted.update(mine)
        if mine and self._task is None:
            self._task = asyncio.create_task(self._look(), name="memgang-mcp-names")

        def end() -> None:
            self._wanted.subtract(mine)
            mine.clear()  # once only
            self._wanted += Counter()  # without those nobody wants
            if not self._wanted and self._task is not None:
                self._task.cancel()
                self._task = None
                self._versions.clear()

        return end

    async def known(self, uris: Iterable[str]) -> None:
        """Where these point before anybody is told that they are looked at: what moves from then on is not taken for how it was.

          client: subscribe -> told so
          writer: moves the name
          first look, half a second later      <- would see nothing but the name where it is now
        """
        for uri in uris:
            if uri in self._wanted and uri not in self._versions:
                try:
                    version = await self._version(uri)
                except ConfigError:
                    continue
                except MemGangError:
                    version = UNKNOWN
                self._versions.setdefault(uri, version)

    async def _version(self, uri: str) -> int:
        now = await self._space.version(_name_of(uri))
        return now.version if now is not None else 0

    async def _look(self) -> None:
        while True:
            for uri in list(self._wanted):
                try:
                    version = await self._version(uri)
                except ConfigError:  # no such name can be
                    continue
                except MemGangError:  # the server is away: what has changed meanwhile is seen when it is back
                    break
                if self._versions.setdefault(uri, version) != version:
                    self._versions[uri] = version
                    await self._bus.publish(ResourceUpdated(uri=uri))
            for uri in self._versions.keys() - self._wanted.keys():
                del self._versions[uri]
            await asyncio.sleep(LOOK_S)


class _Listening(ListenHandler):
    """The SDK's own, which also lets us know which names are listened to."""

    def __init__(self, bus: InMemorySubscriptionBus, watch: Watch) -> None:
        super().__init__(bus)
        self._watch = watch

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        uris = [str(uri) for uri in params.notifications.resource_subscriptions or ()]
        async with _while(self._watch.begin(uris)):
            await self._watch.known(uris)
            return await super().__call__(ctx, params)


@contextlib.asynccontextmanager
async def _while(end: Callable[[], None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        end()


def _name_of(uri: str) -> str:
    return unquote(uri.removeprefix(NAMES))
