"""Heartbeats: one thread per Space keeps the leases of all flights it leads.

A thread with a connection of its own, because work that blocks the event loop (parsing, scoring) is
exactly the work whose lease must not be lost. A beat that the network swallows is tried again until
the lease has passed by our own clock; then the work goes on, and the commit decides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
from redis.exceptions import NoScriptError, RedisError

from memgang.store.keys import Keys
from memgang.store.scripts import beat_command, beat_source


@dataclass(slots=True)
class _Led:
    call: str
    who: str
    owner: str
    fence: int
    due: float
    lost: Callable[[], None] = field(default=lambda: None)


class Beats:
    """The leases this Space holds. The thread starts with the first flight that lasts, and ends with the Space."""

    def __init__(self, connect: Callable[[], redis.Redis], keys: Keys, *, lease_ms: int, beat_ms: int) -> None:
        self._connect = connect
        self._keys = keys
        self._lease_ms = lease_ms
        self._beat_s = beat_ms / 1000
        self._led: dict[str, _Led] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = 0

    def keep(self, call: str, *, who: str, owner: str, fence: int, lost: Callable[[], None] = lambda: None) -> None:
        """Renew this lease until `leave`. ``lost`` is called once, in the beating thread, when a newer leader is seen."""
        with self._lock:
            # The claim has just set the lease, so the first beat is due one beat from now.
            self._led[owner] = _Led(call, who, owner, fence, time.monotonic() + self._beat_s, lost)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="memgang-beats", daemon=True)
                self._thread.start()

    def leave(self, owner: str) -> None:
        """Stop renewing."""
        with self._lock:
            self._led.pop(owner, None)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        client: redis.Redis | None = None
        while not self._stop.wait(self._beat_s / 4):
            now = time.monotonic()
            with self._lock:
                due = [led for led in self._led.values() if led.due <= now]
            for led in due:
                try:
                    client = client or self._connect()
                    hashed, args = beat_command(
                        self._keys, led.call, who=led.who, owner=led.owner, fence=led.fence, lease_ms=self._lease_ms)
                    try:
                        reply = client.evalsha(hashed, *args)  # type: ignore[arg-type]  # numbers are taken too
                    except NoScriptError:  # a restarted server has forgotten its scripts
                        client.script_load(beat_source())
                        reply = client.evalsha(hashed, *args)  # type: ignore[arg-type]
                    led.due = now + self._beat_s
                    if isinstance(reply, list) and reply[0] == b"lost":
                        self.lost += 1
                        self.leave(led.owner)
                        led.lost()
                except (RedisError, OSError):
                    led.due = now  # not `lost`: the network is no judge
                    break
        if client is not None:
            client.close()
