"""Caches that more than one benchmark decorates with, set up on one server's Unix socket in the way of their documentation."""

from __future__ import annotations

from typing import Any

TTL_S = 3_600


def dogpile(path: str) -> Any:
    """A region of dogpile.cache with its lock between processes."""
    from dogpile.cache import make_region

    return make_region().configure("dogpile.cache.redis", expiration_time=TTL_S, arguments={
        "url": f"unix://{path}", "distributed_lock": True, "redis_expiration_time": 2 * TTL_S, "thread_local_lock": False,
        "connection_kwargs": {"max_connections": 1_000}})  # redis-py gives 100 by default and then raises


def cashews(path: str) -> Any:
    """A cache of cashews; it speaks to a Unix socket and has no scheme for it."""
    from cashews import Cache
    from cashews.backends.redis import Redis
    from cashews.picklers import PicklerType
    from cashews.wrapper.backend_settings import register_backend

    register_backend("unix", Redis, pass_uri=True, pickler=PicklerType.DEFAULT)
    cache = Cache()
    cache.setup(f"unix://{path}", socket_timeout=30, wait_for_connection_timeout=60)
    return cache
