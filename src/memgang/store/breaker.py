"""Circuit breaker: while the server is away nobody waits for it, and one probe finds out when it is back.

    closed ──a call fails and fails again, for as long as the patience──▶ open
      ▲                                                                    │
      └──────────────────the probe's PING is answered──────────────────────┘

The patience is what rides out a server that is started again within moments: calls wait for it, and none is
lost. Only a failure begins it, so a loop that was blocked for longer is not taken for a server that is away.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Breaker:
    """Whether the server of one connection is worth asking."""

    def __init__(self, patience_s: float, opened: Callable[[], None] = lambda: None) -> None:
        self._patience_s = patience_s
        self._opened = opened
        self._since: float | None = None  # of the first failure that no success has followed
        self._reason = ""
        self._starting = 0
        self._began = 0.0
        self.open = False

    def failed(self, reason: str) -> bool:
        """A call could not reach the server; whether to give up."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        self._reason = reason
        if not self.open and not self._starting and now - self._since >= self._patience_s:
            self.open = True
            self._opened()
        return self.open

    @contextlib.contextmanager
    def starting(self) -> Iterator[Callable[[bool], None]]:
        """Within the block the server is being started. If that succeeds, it is no time in which it did not answer."""
        if not self._starting:  # of many who see to it at once, the first
            self._began = time.monotonic()
        self._starting += 1
        done = False

        def told(started: bool) -> None:
            nonlocal done
            done = started

        try:
            yield told
        finally:
            self._starting -= 1
            if done and self._since is not None:
                self._since = max(self._since, time.monotonic() - max(0.0, self._began - self._since))

    def reached(self) -> None:
        """The server has answered."""
        self._since, self.open = None, False

    def __str__(self) -> str:
        away = time.monotonic() - self._since if self._since is not None else 0.0
        return f"the server has not answered for {away:.1f} s: {self._reason}"
