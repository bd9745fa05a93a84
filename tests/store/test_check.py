"""The start-up check and the words for a failed connection, on real servers set up badly on purpose."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from memgang.errors import ConfigError, ServerUnfit, StoreUnavailable
from memgang.settings import Settings
from memgang.store import check as checks
from memgang.store.address import address, unreachable
from memgang.store.binary import find_binary
from memgang.store.check import Finding, check, demand

LUA = Path(checks.__file__).parent / "lua"

# The rule for one space, as the documents give it.
RULE = """on >secret -@all +evalsha +script|load +ping +time +hello
    +get +strlen +getrange +set +exists +type +del +unlink +rename +pexpire +pttl +persist +spublish +ssubscribe
    +hget +hmget +hgetall +hlen +hvals +hscan +hset +hsetnx +hdel +hincrby
    +zrange +zrangebyscore +zrevrange +zcard +zremrangebyscore +zscan +zscore +zadd +zrem +xrange +xrevrange +xread +xadd +xlen +xtrim
    resetkeys ~mg:store ~mg:{default}:* ~mg:{default.*}:* resetchannels &mg:{default.*}:*"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., redis.Redis]]:
    """Start a server of one's own with the given options; it is gone after the test."""
    started: list[tuple[subprocess.Popen[bytes], redis.Redis]] = []

    def begin(*options: str) -> redis.Redis:
        path = tmp_path / f"{len(started)}.sock"
        process = subprocess.Popen(
            [find_binary(Settings()).path, "--port", "0", "--unixsocket", path, "--dir", tmp_path,
             "--save", "", *options],
            stdout=subprocess.DEVNULL)
        client = redis.Redis(unix_socket_path=str(path), retry=Retry(NoBackoff(), 0))
        started.append((process, client))
        until = time.monotonic() + 20
        while True:
            try:
                client.ping()
                return client
            except redis.ConnectionError:
                assert time.monotonic() < until and process.poll() is None, "the server did not start"
                time.sleep(0.01)

    yield begin
    for process, client in started:
        client.close()
        process.kill()
        process.wait()


def as_user(client: redis.Redis, name: str, *rule: str) -> redis.Redis:
    command = ("ACL", "SETUSER", name, "reset", *(rule or RULE.split()))
    client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    path = client.connection_pool.connection_kwargs["path"]
    return redis.Redis(unix_socket_path=path, username=name, password="secret", retry=Retry(NoBackoff(), 0))


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.level for finding in findings}


# What is found -----------------------------------------------------------------------------------


def test_a_server_set_up_as_asked_passes_and_keeps_no_trace(start: Callable[..., redis.Redis]) -> None:
    """All lines are ok, and the keys that were tried are gone."""
    client = start("--appendonly", "yes")
    findings = check(client)
    assert {f.level for f in findings} == {"ok"}, "\n".join(map(str, findings))
    assert client.keys("*") == []
    demand(findings)


@pytest.mark.parametrize(("policy", "level"), [
    ("allkeys-lru", "fail"), ("allkeys-random", "fail"), ("volatile-lru", "warn"),
])
@pytest.mark.catalogue("D12", "A18")
def test_a_policy_that_drops_records_is_named(start: Callable[..., redis.Redis], policy: str, level: str) -> None:
    """allkeys-* is refused with the command that puts it right; volatile-* warns."""
    findings = check(start("--appendonly", "yes", "--maxmemory-policy", policy))
    assert levels(findings)["eviction"] == level
    if level == "fail":
        with pytest.raises(ServerUnfit, match=f"{policy}.*CONFIG SET maxmemory-policy noeviction"):
            demand(findings)


@pytest.mark.parametrize(("options", "said"), [
    ((), "append-only file is off"),
    (("--save", "900 1"), "snapshots only"),
    (("--appendonly", "yes", "--appendfsync", "no"), "appendfsync is no"),
])
def test_weak_persistence_warns(start: Callable[..., redis.Redis], options: tuple[str, ...], said: str) -> None:
    """Without a log, with snapshots only, or with a log nobody syncs: a warning, not a refusal."""
    findings = check(start(*options))
    assert levels(findings)["persistence"] == "warn"
    assert said in "\n".join(map(str, findings))
    demand(findings)


def test_the_documented_rights_of_one_space_are_enough(start: Callable[..., redis.Redis]) -> None:
    """INFO and CONFIG are not among them: what cannot be seen warns, and the version comes from HELLO."""
    with as_user(start("--appendonly", "yes"), "agent") as client:
        found = levels(check(client))
        assert found == {"version": "ok", "eviction": "warn", "persistence": "warn", "rights": "ok", "clock": "ok"}


def test_keys_of_a_foreign_space_are_refused_by_name(start: Callable[..., redis.Redis]) -> None:
    """The same user asked about another space: a failure that says what to grant."""
    with as_user(start(), "agent") as client:
        findings = check(client, space="other")
    assert levels(findings)["rights"] == "fail"
    with pytest.raises(ServerUnfit, match=r"grant the user of MEMGANG_URL .*mg:\{other\.\*\}"):
        demand(findings)


@pytest.mark.parametrize(("without", "named"), [
    ("-evalsha", "evalsha"), ("-script|load", "script"), ("-xadd", "XADD"), ("-hscan", "HSCAN"), ("-xread", "XREAD"),
    ("resetchannels", "SPUBLISH"),
])
def test_each_missing_right_is_named(start: Callable[..., redis.Redis], without: str, named: str) -> None:
    """Rights are tried, in scripts and outside, so the line names the one that is missing."""
    with as_user(start(), "agent", *RULE.split(), without) as client:
        rights = next(f for f in check(client) if f.what == "rights")
    assert rights.level == "fail" and named in rights.detail


def test_the_probe_tries_every_command_that_is_used() -> None:
    """A command that the probe does not try would be refused later, in the middle of work."""
    used = {name for path in LUA.glob("*.lua") for name in re.findall(r"redis\.p?call\('([A-Z]+)'", path.read_text())}
    used |= {name for path in LUA.parent.glob("*.py") for name in re.findall(r'\.call\("([A-Z]+)"', path.read_text())}
    tried = {*re.findall(r"try\('([A-Z]+)'", checks._PROBE), *(name for name, *_ in checks._READS), "SCRIPT", "EVALSHA"}
    assert "XADD" in used and used <= tried, used - tried


@pytest.mark.catalogue("D12")
def test_a_replica_is_refused(start: Callable[..., redis.Redis]) -> None:
    """Writes belong to the primary."""
    findings = check(start("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes"))
    assert any(f.level == "fail" and "read-only replica" in f.detail for f in findings)


def test_a_full_server_warns(start: Callable[..., redis.Redis]) -> None:
    """Reading still works, so it is not refused."""
    client = start("--appendonly", "yes", "--maxmemory", "1")
    assert levels(check(client))["memory"] == "warn"


@pytest.mark.parametrize("kwargs", [{"protocol": 2}, {"protocol": 3}, {"decode_responses": True}], ids=str)
def test_the_check_does_not_depend_on_the_clients_settings(
    start: Callable[..., redis.Redis], kwargs: dict[str, Any]
) -> None:
    """Replies come as lists or dicts, bytes or text."""
    path = start("--appendonly", "yes").connection_pool.connection_kwargs["path"]
    with redis.Redis(unix_socket_path=path, **kwargs) as client:
        assert {f.level for f in check(client)} == {"ok"}


@pytest.mark.parametrize(("name", "version", "said"), [
    ("redis", (7, 0, 15), "7.2.11"), ("redis", (7, 2, 10), "7.2.11"), ("redis", (7, 2, 11), ""),
    ("redis", (7, 4, 5), "7.4.6"),
    ("redis", (8, 0, 4), ""), ("redis", (8, 2, 1), "8.2.2"), ("redis", (8, 4, 0), ""),
    ("valkey", (8, 1, 3), "8.1.4"), ("valkey", (8, 1, 4), ""), ("valkey", (9, 1, 2), ""),
])
@pytest.mark.catalogue("D12")
def test_versions_without_the_fixes_of_the_script_engine_warn(
    name: str, version: tuple[int, int, int], said: str
) -> None:
    """The nearest release with the fixes is named; distributions back-port, so it is no refusal."""
    findings = checks._lua((name, version))
    assert [f.level for f in findings] == (["warn"] if said else [])
    assert all(f"update to {said}" in f.fix for f in findings)


class Pretender:
    """Passes commands on, but tells a version or a time of its own."""

    def __init__(self, client: redis.Redis, **replies: object) -> None:
        self._client, self._replies = client, replies

    def execute_command(self, *command: str) -> object:
        name = "_".join(command).replace(" ", "_")
        return self._replies[name] if name in self._replies else self._client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("facts", "level"), [
    ({"redis_version": "6.2.14"}, "fail"), ({"redis_version": "7.0.0"}, "ok"),
    ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, "ok"),
])
@pytest.mark.catalogue("D12")
def test_old_servers_are_refused(start: Callable[..., redis.Redis], facts: dict[str, str], level: str) -> None:
    """Redis before 7.0 does not know scripts with declared keys. The version is pretended."""
    assert levels(check(Pretender(start(), INFO_server=facts)))["version"] == level  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (30, "warn"), (-30, "warn")])
def test_a_clock_that_is_off_warns(start: Callable[..., redis.Redis], seconds: int, level: str) -> None:
    """More than a second apart is worth a line. The time is pretended."""
    found = check(Pretender(start(), TIME=(int(time.time()) + seconds, 0)))  # type: ignore[arg-type]
    clock = next(f for f in found if f.what == "clock")
    # A whole second may begin between our look and the server's.
    assert clock.level == level and (not seconds or ("ahead" if seconds > 0 else "behind") in clock.detail)


# Addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "kwargs"), [
    ("redis://localhost", {"host": "localhost", "port": 6379, "db": 0}),
    ("redis://u:p%40ss@h:7000/3", {"host": "h", "port": 7000, "db": 3, "username": "u", "password": "p@ss"}),
    ("redis://:only@h", {"host": "h", "port": 6379, "db": 0, "password": "only"}),
    ("redis://[::1]:6380", {"host": "::1", "port": 6380, "db": 0}),
    ("rediss://h?ssl_ca_certs=/ca.pem", {"host": "h", "port": 6379, "db": 0, "ssl": True, "ssl_ca_certs": "/ca.pem"}),
    ("unix:///tmp/a%20b.sock?db=2", {"unix_socket_path": "/tmp/a b.sock", "db": 2}),
    ("unix://u:secret@/tmp/s", {"unix_socket_path": "/tmp/s", "db": 0, "username": "u", "password": "secret"}),
])
def test_a_url_becomes_the_arguments_of_a_client(url: str, kwargs: dict[str, object]) -> None:
    """And redis-py takes them; what is shown holds no password."""
    where = address(Settings(url=url))
    assert where.redis_kwargs() == kwargs
    redis.Redis(**where.redis_kwargs()).close()
    assert not where.password or where.password not in repr(where) + where.url


@pytest.mark.parametrize("url", [
    "localhost:6379", "http://u:SECRET@h", "redis://", "redis://u:SECRET@", "redis://u:SECRET@h:99999", "redis://h:0",
    "redis://u:SECRET@h:port", "redis://h/SECRET", "redis://h/-1", "redis://u:SEC#SECRET@h", "redis://u:SECRET@h?sl=SECRET",
    "redis://h?ssl_ca_certs=/ca.pem", "rediss://h?ssl_cert_reqs=SECRET", "unix://relative/path", "unix://", "redis://[::1",
    "unix:///s?x=SECRET", "redis://u:SE/CRET@h",
])
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    """The message says how to write one, never what was in it."""
    with pytest.raises(ConfigError) as raised:
        address(Settings(url=url))
    assert "SECRET" not in str(raised.value) and "CRET" not in str(raised.value)


def test_without_a_url_there_is_no_address() -> None:
    """The embedded server's comes from entering it."""
    with pytest.raises(ConfigError, match=r"Lodging\.enter"):
        address(Settings())


# Failed connections ------------------------------------------------------------------------------


def failure(url: str, **kwargs: Any) -> StoreUnavailable:
    where = address(Settings(url=url))
    with redis.Redis(**where.redis_kwargs(), retry=Retry(NoBackoff(), 0), **kwargs) as client, \
            pytest.raises((redis.RedisError, OSError)) as raised:
        client.ping()
    return unreachable(where, raised.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_each_failed_connection_says_what_is_wrong(start: Callable[..., redis.Redis], tmp_path: Path) -> None:
    """One line each, by cause, and never the password."""
    port = free_port()
    client = start("--port", str(port), "--bind", "127.0.0.1")
    client.config_set("requirepass", "right")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        cases = {
            f"redis://:PASSWORD@127.0.0.1:{free_port()}": "nothing listens",
            f"redis://:PASSWORD@127.0.0.1:{port}": "refused the password",
            f"redis://127.0.0.1:{port}": "refused no password",
            f"rediss://:PASSWORD@127.0.0.1:{port}?ssl_cert_reqs=none": "does not speak TLS: then use redis://",
            "redis://:PASSWORD@no-such-host.invalid": "host 'no-such-host.invalid' .* is unknown",
            f"redis://:PASSWORD@127.0.0.1:{mute.getsockname()[1]}": "does not answer in time",
            f"unix://u:PASSWORD@{tmp_path}/none": "there is no socket",
        }
        for url, said in cases.items():
            line = str(failure(url, socket_timeout=1.0))
            assert re.search(said, line), f"{url}: {line}"
            assert "PASSWORD" not in line and "\n" not in line


@pytest.mark.parametrize(("scheme", "said"), [("redis", "not Redis or Valkey, or speaks TLS only: then use rediss://"),
                                              ("rediss", "does not speak TLS")])
def test_the_words_for_a_server_of_another_kind(scheme: str, said: str) -> None:
    """What answers with something else, such as a web server, is not taken for a slow server."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer() -> None:
            for _ in range(3):  # the client may greet again with less
                with contextlib.suppress(OSError):
                    stranger, _ = other.accept()
                    with stranger:
                        stranger.recv(1000)
                        stranger.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" if scheme == "rediss" else b"")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        line = str(failure(f"{scheme}://127.0.0.1:{other.getsockname()[1]}", socket_timeout=5.0))
        other.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert said in line
