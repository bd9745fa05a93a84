"""Where a door listens: one socket, had before the server around it is started, so that a port that is taken is told in one line."""

from __future__ import annotations

import ipaddress
import socket

from memgang.errors import ConfigError


def listen(host: str, port: int, waiting: int) -> socket.socket:
    """The socket; ``waiting`` connections may wait to be taken.

    Raises:
        ConfigError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: asyncio sends small pieces at once only on sockets that say so, and an answer would wait 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(waiting)  # the address is told before the server listens, and whoever reads it may be quick
        return listening
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {why}; --port 0 takes one that is free") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
