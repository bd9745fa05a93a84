"""One space's store as this process holds it: opened, checked and closed as one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import socket
import time
from typing import Any

import redis
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from memgang import telemetry
from memgang.codec import digest
from memgang.errors import LogBroken, MemGangError, ServerUnfit, StoreUnavailable
from memgang.settings import Settings
from memgang.store import address as addresses
from memgang.store import alive, host, scripts, seals
from memgang.store.beats import Beats
from memgang.store.check import check
from memgang.store.events import EventLog
from memgang.store.janitor import keep_house
from memgang.store.keys import STORE_ID, Keys, check_space
from memgang.store.large import Large
from memgang.store.objects import Objects
from memgang.store.replies import pairs, translated
from memgang.store.sealer import keep_sealing, seal_last
from memgang.store.sealfile import SealFile
from memgang.store.server import Lodging
from memgang.store.wakeups import Wakeups
from memgang.store.wire import Wire

REWRITE_S = 600.0
REWRITE_POLL_S = 0.05


class Store:
    """Everything below the verbs. Lives from `open` to `aclose`, on one event loop."""

    def __init__(self, settings: Settings, where: addresses.Address, lodging: Lodging | None) -> None:
        self.settings, self.address, self._lodging = settings, where, lodging
        self.telemetry = telemetry.found()  # what is set up later is for spaces that are opened later
        kwargs = {**where.redis_kwargs(), "protocol": 2, "socket_connect_timeout": settings.socket_timeout_s}
        self._sync_kwargs: dict[str, Any] = {**kwargs, "socket_timeout": settings.socket_timeout_s, "retry": Retry(NoBackoff(), 0)}
        # No socket_timeout: redis-py would make a task for each sending to watch it, and between the look at the connection
        # and that task's first step whoever reads can take the connection away. Wire and wake-ups have time limits of their own.
        client = aioredis.Redis(**kwargs, socket_timeout=None, retry=AsyncRetry(NoBackoff(), 0), max_connections=10_000)
        self.wire = Wire(client, timeout_s=settings.socket_timeout_s, revive=self._revive if lodging else None,
                         patience_s=settings.patience_ms / 1000)
        self.watch = alive.Watch(settings.runtime_dir)
        self.wakeups = Wakeups(client)
        self.wire.away = self.wakeups.wake_all
        self.warnings: list[str] = []
        self._janitor: asyncio.Task[None] | None = None
        self._sealer: asyncio.Task[None] | None = None
        self._tail: host.Tail | None = None
        self.home: host.Home | None = None
        self.tier: host.Tier | None = None

    @classmethod
    async def open(cls, settings: Settings) -> Store:
        """Find or start the server, check it, and read (or make) the space's secret and number of shards.

        Raises:
            ConfigError, StoreUnavailable, ServerUnfit: in one line, what is wrong.
        """
        check_space(settings.space)
        if settings.seal:
            seals.need_library()
        lodging = None
        if settings.url is None:
            lodging = await Lodging.aenter(settings)
            where = lodging.address
        else:
            where = addresses.address(settings)
        store = cls(settings, where, lodging)
        try:
            if lodging is None:
                await store._check_external()
            await asyncio.to_thread(alive.sign_in, settings.runtime_dir)
            await store._settle()
        except BaseException:
            await store.aclose()
            raise
        return store

    async def _check_external(self) -> None:
        def look() -> list[Any]:
            client = self.sync_client()
            try:
                client.ping()
                return list(check(client, self.settings.space))
            except (RedisError, OSError) as error:
                raise addresses.unreachable(self.address, error) from error
            finally:
                client.close()

        for finding in await asyncio.to_thread(look):
            line = f"{finding.what}: {finding.detail}"
            if finding.level == "fail":
                error = ServerUnfit(line)
                error.hint = finding.fix
                raise error
            if finding.level == "warn":
                self.warnings.append(line)

    async def _settle(self) -> None:
        space = self.settings.space
        try:
            replies = [
                self.wire.call("SET", STORE_ID, secrets.token_hex(16), "NX"),
                self.wire.call("HSETNX", Keys.config(space), "secret", secrets.token_bytes(32)),
                self.wire.call("HSETNX", Keys.config(space), "shards", self.settings.shards),
                self.wire.call("HMGET", Keys.config(space), "secret", "shards"),
            ]
            secret, shards = (await asyncio.gather(*replies))[-1]
        except RedisError as error:
            raise translated(error, "open the space") from error
        if not secret or not shards:
            raise StoreUnavailable(f"the space {space!r} has no settings: is the server losing writes?")
        self.keys = Keys(space, int(shards), bytes(secret))
        self.log = EventLog(self.wire, self.keys, flush_ms=self.settings.flush_ms, flush_events=self.settings.flush_events)
        if self.settings.host_tier != "off":
            self.home = await asyncio.to_thread(
                host.enter, self._place(), space, base=self.settings.host_dir, bytes_max=self.settings.host_bytes)
        self.tier = self.home.tier if self.home is not None else None
        if self.home is not None:
            await asyncio.to_thread(self.log.keep_in, self.home.rings)
        self.large = self._large()
        self.objects = Objects(self.wire, self.keys, self.settings, self.log.server_ms, self.large, self.tier)
        self.beats = Beats(self.sync_client, self.keys, lease_ms=self.settings.lease_ms, beat_ms=self.settings.beat_ms)
        await asyncio.gather(scripts.load(self.wire), self.log.measure_offset())
        if self.tier is not None:
            self._tail = host.Tail(self.tier, self.sync_client, self.keys, self.large.files.drop_copies)
            await asyncio.to_thread(self._tail.begun, 1.0)
        self._janitor = asyncio.create_task(keep_house(
            self.wire, self.keys, self.objects, self.log, self.settings, self.home.rings if self.home is not None else None))
        self.seals = SealFile(self.settings, space)
        if self.settings.seal:
            self._sealer = asyncio.create_task(keep_sealing(self.wire, self.keys, self.settings))

    def _place(self) -> str:
        """What the tier goes by. By the server's address: all who reach it by that are in one tier also when it has lost its
        data, some of them have seen that, and some have come since."""
        return digest(f"{socket.gethostname()} {self.address.url}".encode())

    def _large(self) -> Large:
        # Also without a tier: what is only in files of this host can still be read.
        folder = host.place(self._place(), self.settings.space, self.settings.host_dir)
        files = host.Files(
            host.files_of(folder), self.settings.state_dir.expanduser() / "files" / folder.name,
            folder / "files" if self.tier is not None else None, self.settings.host_files_bytes)
        placement = self.settings.placement
        if placement == "auto":
            placement = "host" if self._lodging is not None else "network"
        return Large(self.wire, self.keys, self.settings, self.log.server_ms, files, self.tier,
                     placement if self.tier is not None else "network")

    async def erase(self) -> None:
        """Remove every key of the space. For spaces that were made for one job; nobody else may be in it.

        Found by its own indexes, not by a scan of the server; answers that the log no longer names expire by themselves.
        """
        await self.log.flush()
        for shard in range(self.keys.shards):
            at = functools.partial(self.keys.at, shard)
            ids = await self.wire.call("ZRANGE", at("l"), 0, -1)
            own = [at(f"{kind}:{i.decode()}") for i in ids for kind in ("o", "b", "p")]
            for _, fields in await self.wire.call("XRANGE", at("a"), "-", "+"):
                words = dict(pairs(fields))
                ident = words[b"id"].decode()
                own += {b"claimed": [at(f"f:{ident}"), at(f"s:{ident}")], b"named": [at(f"n:{ident}"), at(f"v:{ident}")],
                        b"forgotten": [at(f"t:{ident}")]}.get(
                    words[b"e"], [])
            own += [at(key) for key in ("x", "r", "l", "u", "a", "h", "q", "m")]
            for start in range(0, len(own), 1000):
                await self.wire.call("UNLINK", *own[start:start + 1000])
        if self.tier is not None:
            self.tier.clear({})
        await asyncio.to_thread(self.large.files.clear)
        await self.wire.call("UNLINK", Keys.config(self.keys.space), Keys.janitor(self.keys.space),
                             Keys.sealer(self.keys.space), Keys.sealed(self.keys.space), Keys.exported(self.keys.space),
                             Keys.tokens(self.keys.space))

    async def rewrite(self) -> bool:
        """Have the server write its files anew, without what is gone; when it is done. False: it keeps none, or refuses us."""
        def work() -> bool:
            # By a client of its own: on a server that is not ours, these commands may well be refused.
            client, ends = self.sync_client(), time.monotonic() + REWRITE_S
            try:
                while client.info("persistence").get("aof_enabled") and time.monotonic() < ends:
                    try:
                        client.bgrewriteaof()
                        break
                    except ResponseError as error:
                        # One is under way that may have begun before the last thing was forgotten.
                        if "in progress" not in str(error):
                            raise
                    time.sleep(REWRITE_POLL_S)
                else:
                    return False
                while time.monotonic() < ends:
                    now = client.info("persistence")
                    if not now["aof_rewrite_in_progress"] and not now["aof_rewrite_scheduled"]:
                        return bool(now["aof_last_bgrewrite_status"] == "ok")
                    time.sleep(REWRITE_POLL_S)
                return False
            except NoPermissionError:
                return False
            except (RedisError, OSError) as error:
                raise translated(error, "rewrite its files") from error
            finally:
                client.close()

        return await asyncio.to_thread(work)

    async def archive(self, log: str, after: int, before: int, most: int) -> list[Any]:
        """Entries of a log that were sealed and have been trimmed since, where this host sealed them."""
        if not self.seals.exists():
            return []
        store_id = await self.wire.call("GET", STORE_ID)
        epoch = seals.epoch_of(store_id or b"", self.keys.secret)
        try:
            return await asyncio.to_thread(self.seals.older, log, epoch, after, before, most)
        except LogBroken:
            return []  # who reads the log goes on without; who verifies it is told

    def host_state(self) -> host.State | None:
        """How this host's tier stands. None: it is switched off, or there is no room or no place for it."""
        return host.state(self.home) if self.home is not None else None

    def sync_client(self) -> redis.Redis:
        """A connection for a thread of its own."""
        return redis.Redis(**self._sync_kwargs)

    async def _revive(self) -> bool:
        if self._lodging is not None:
            with contextlib.suppress(MemGangError, OSError):  # the wire tries again, and says so when it gives up
                await self._lodging.aensure()
                return True
        return False

    async def aclose(self) -> None:
        """Write what waits, close, and leave the embedded server; the last to leave stops it."""
        for task in filter(None, (self._janitor, self._sealer)):
            task.cancel()
            await asyncio.wait([task])  # however it ended, the rest is closed
        if self.tier is not None:
            self.tier.write_out()  # who comes after us on this host finds it
        if hasattr(self, "objects"):
            self.tier = self.objects.tier = None  # other spaces of this process may be in it still
        if hasattr(self, "log"):
            with contextlib.suppress(MemGangError):  # whatever it is, the rest is closed all the same
                await self.log.aclose()
            if self._sealer is not None:
                await seal_last(self.wire, self.keys, self.settings)
            await asyncio.to_thread(self.beats.close)
        if self._tail is not None:
            await asyncio.to_thread(self._tail.close)
        if self.home is not None:
            await asyncio.to_thread(self.home.leave, self.large.files.leave if hasattr(self, "large") else lambda: None)
        self.watch.close()
        await self.wakeups.aclose()
        await self.wire.aclose()
        if self._lodging is not None:
            await self._lodging.aleave()
