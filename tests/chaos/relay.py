"""A relay between clients and server that reads RESP well enough to count, lose, delay and cut.

What it can do is what networks do: a reply may be lost with its connection, bytes may be held back for
seconds and arrive after all, a connection may be cut at any command. It never changes a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Trap = Callable[["Link", int, list[bytes]], "str | Awaitable[str | None] | None"]
"""Asked for each command, with its number: None passes it on, 'before' cuts the connection without passing it on,
'after' passes it on and loses its reply with the connection."""


GREETING = (b"HELLO", b"AUTH", b"SELECT", b"CLIENT")


class Splitter:
    """Cuts a stream of RESP into whole values, as bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The values that are complete now."""
        self._buffer += data
        out, start = [], 0
        while (end := _end(self._buffer, start)) is not None:
            out.append(bytes(self._buffer[start:end]))
            start = end
        del self._buffer[:start]
        return out


def _end(data: bytearray, at: int) -> int | None:
    """Where the value that begins at ``at`` ends, or None if it is not all there."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, after = data[at:at + 1], line + 2
    if kind in (b"$", b"="):
        size = int(data[at + 1:line])
        end = after if size < 0 else after + size + 2
        return end if end <= len(data) else None
    if kind in (b"*", b"%", b"~", b">"):
        count = int(data[at + 1:line]) * (2 if kind == b"%" else 1)
        for _ in range(count):
            found = _end(data, after)
            if found is None:
                return None
            after = found
    return after


def words(command: bytes) -> list[bytes]:
    """The words of a command; long ones are cut, for they are only looked at."""
    out, at = [], command.find(b"\r\n") + 2
    while at < len(command):
        line = command.find(b"\r\n", at)
        size = int(command[at + 1:line])
        out.append(command[line + 2:line + 2 + min(size, 200)])
        at = line + 2 + size + 2
    return out


class Link:
    """One connection through the relay."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.listens = False  # has subscribed to something
        self.lose: set[int] = set()  # the numbers of replies, on this link, that must not arrive
        self.sent = self.answered = 0

    def cut(self) -> None:
        """End it at once, on both sides, and without a word."""
        for side in (self.client, self.server):
            with contextlib.suppress(Exception):
                side.transport.abort()


class Relay:
    """Stands in front of one server. Every field may be changed while it runs."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.trap: Trap | None = None
        self.delay_s = 0.0  # of each reply
        self.drop_every = 0  # the reply of every n-th command, with its connection
        self.cut_chance = 0.0  # that a command is the last one its connection carries
        self.commands = self.dropped = self.cuts = 0
        self.links: set[Link] = set()
        self.url = ""
        self._flowing = asyncio.Event()
        self._flowing.set()

    def hold_back(self) -> None:
        """Nothing passes from now on, in either direction, and nobody is told: no reset, no end."""
        self._flowing.clear()

    def let_pass(self) -> None:
        """What was held back arrives now, late."""
        self._flowing.set()

    def cut_listeners(self) -> int:
        """Cut all connections that have subscribed to something; how many."""
        found = [link for link in self.links if link.listens]
        for link in found:
            link.cut()
        return len(found)

    @asynccontextmanager
    async def to(self, target: str, path: Path) -> AsyncIterator[Relay]:
        """In front of the server at the socket ``target``, listening at the socket ``path``."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                back_reader, back_writer = await asyncio.open_unix_connection(target)
            except OSError:
                writer.transport.abort()
                return
            link = Link(writer, back_writer)
            self.links.add(link)
            for work in (self._there(link, reader), self._back(link, back_reader)):
                task = asyncio.create_task(self._guarded(link, work))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        listening = await asyncio.start_unix_server(serve, str(path))
        self.url = f"unix://{path}"
        try:
            yield self
        finally:
            listening.close()
            self._flowing.set()
            for link in list(self.links):
                link.cut()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, link: Link, work: Awaitable[None]) -> None:
        try:
            await work
        except (OSError, EOFError):
            pass
        finally:
            link.cut()
            self.links.discard(link)

    async def _there(self, link: Link, reader: asyncio.StreamReader) -> None:
        splitter = Splitter()
        while data := await reader.read(1 << 20):
            for command in splitter.feed(data):
                await self._flowing.wait()
                spoken = words(command)
                greets = spoken[0].upper() in GREETING
                if not greets:  # else each new connection would be the next to be cut, for ever
                    self.commands += 1
                if spoken[0].upper() in (b"SSUBSCRIBE", b"SUBSCRIBE"):
                    link.listens = True
                verdict = self.trap(link, self.commands, spoken) if self.trap and not greets else None
                if inspect.isawaitable(verdict):
                    verdict = await verdict
                if verdict is None and not greets and not link.listens and self.drop_every and self.commands % self.drop_every == 0:
                    verdict = "after"
                if verdict is None and not greets and self.cut_chance and self.chance.random() < self.cut_chance:
                    verdict = self.chance.choice(("before", "after"))
                    self.cuts += 1
                if verdict == "before":
                    return
                link.sent += 1
                if verdict == "after":
                    link.lose.add(link.sent)
                link.server.write(command)
            await link.server.drain()

    async def _back(self, link: Link, reader: asyncio.StreamReader) -> None:
        splitter = Splitter()
        while data := await reader.read(1 << 20):
            for reply in splitter.feed(data):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flowing.wait()
                link.answered += 1
                if link.answered in link.lose:
                    self.dropped += 1
                    return  # the server has done it, and nobody is told
                link.client.write(reply)
            await link.client.drain()
