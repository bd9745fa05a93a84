"""The witness: reads a space's log as it is written, so that what is lost later was seen.

It reads the raw streams with a connection of its own and knows only the names of the keys. When the server
comes back with another store id its data was lost: a new life begins. Within one life nothing that was seen
may be gone or changed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import redis

from memgang.store.keys import STORE_ID
from tests.chaos.history import Entry, Facts, Life
from tests.chaos.servers import PrivateServer

EVERY_S = 0.02


def entry_of(raw: tuple[bytes, list[bytes]] | Any) -> Entry:
    """An entry of the log of changes, as redis-py hands it out."""
    ident, fields = raw
    words = {k.decode(): v.decode("utf-8", "replace") for k, v in fields.items()}
    return Entry(int(ident.split(b"-")[0]), words.get("e", ""), int(words.get("at", 0)) / 1000, words.get("id", ""),
                 words.get("x", ""), words.get("who", ""))


class Witness:
    """Watches one space (of one shard) on one private server from ``start`` to ``close``."""

    def __init__(self, server: PrivateServer, space: str) -> None:
        self._server = server
        self._head = f"mg:{{{space}.00}}:"
        self.lives: list[Life] = []
        self.rolled_back: list[str] = []
        self._store = b""
        self._last = [0, 0]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def died(self) -> None:
        """The server of a life was killed, and its data with it: said by who did it, for the time of it."""
        with self._lock:
            if self.lives and self.lives[-1].ended is None:
                self.lives[-1].ended = time.monotonic()
            self._store = b""

    def close(self, facts: Facts) -> None:
        """Read to the end and hand over what was seen, with the state of the space as it is now."""
        self._stop.set()
        self._thread.join()
        with self._server.admin() as client:
            self._read(client)
            facts.sizes = {i.decode(): int(client.hget(self._head + "o:" + i.decode(), "size") or -1)  # type: ignore[arg-type]
                           for i in client.zrange(self._head + "l", 0, -1)}  # type: ignore[union-attr]
            facts.owners = {i: (client.hget(f"{self._head}o:{i}", "writers") or b"").decode().split(" ")[0]  # type: ignore[union-attr]
                            for i in facts.sizes}
            facts.totals = {k.decode(): int(float(v)) for k, v in client.hgetall(self._head + "u").items()}  # type: ignore[union-attr]
        facts.lives, facts.rolled_back = self.lives, self.rolled_back

    def _run(self) -> None:
        client = self._server.admin()
        while not self._stop.wait(EVERY_S):
            try:
                with self._lock:
                    self._read(client)
            except (redis.RedisError, OSError):
                self._broken = True
        client.close()

    def _read(self, client: redis.Redis) -> None:
        pipe = client.pipeline(transaction=True)
        pipe.get(STORE_ID)
        for stream, last in zip("ah", self._last, strict=True):
            # From the last one seen on, itself included: it must still be there.
            pipe.xrange(self._head + stream, f"{max(last, 1)}-0", "+")
        store, changes, reads = pipe.execute()
        if store and self._store and store != self._store and self.lives[-1].ended is None:
            self.lives[-1].ended = time.monotonic()  # lost, and nobody said so
        if not self.lives or self.lives[-1].ended is not None:
            self.lives.append(Life())
            self._last, self._store = [0, 0], store or b""
            return self._read(client)
        self._store = store or self._store  # none yet: written by whoever opens the space next
        life = self.lives[-1]
        found = [entry_of(raw) for raw in changes]
        if self._last[0]:
            if not found or found[0] != life.entries[-1]:
                self.rolled_back.append(f"entry {life.entries[-1]} was seen and is now {found[0] if found else 'gone'}")
                self._last[0] = 0
                life.entries.clear()
                return self._read(client)
            found = found[1:]
        life.entries += found
        seqs = [int(raw[0].split(b"-")[0]) for raw in reads]
        if self._last[1]:
            if not seqs or seqs[0] != self._last[1]:
                self.rolled_back.append(f"entry {self._last[1]} of the log of reads was seen and is gone")
                life.reads.clear()
                self._last[1] = 0
                return self._read(client)
            seqs = seqs[1:]
        life.reads += seqs
        if life.entries:
            self._last[0] = life.entries[-1].seq
        if life.reads:
            self._last[1] = life.reads[-1]
        return None
