"""How a process reaches its server: one value with the place, the user and the secret.

An address comes from ``MEMGANG_URL`` (a server of your own) or from the embedded server. Its
``repr`` and its ``url`` never hold the password; only :meth:`Address.redis_kwargs` hands it out.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis import exceptions as failures

from memgang.errors import ConfigError, ServerUnfit, StoreUnavailable
from memgang.settings import Settings

_FORMS = "redis://host:6379/0, rediss://host:6380/0 or unix:///path/to.sock"
# What may follow the question mark of a rediss:// URL. Every other option is refused: a misspelt
# one would be ignored in silence, and one of these decides whether the server's name is checked.
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_TLS_FILES, "ssl_cert_reqs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How to connect. Lives as long as the server it names; equal addresses reach the same server."""

    url: str  # redis://, rediss:// or unix://, without user and password: safe to show
    host: str = ""
    port: int = 0
    socket: str = ""  # the path of a unix socket, or ''
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    tls_options: tuple[tuple[str, str], ...] = ()
    embedded: bool = False

    def redis_kwargs(self) -> dict[str, Any]:
        """The arguments of ``redis.Redis`` or ``redis.asyncio.Redis``. Holds the password: never log it."""
        kwargs: dict[str, Any] = {"db": self.db}
        if self.socket:
            kwargs["unix_socket_path"] = self.socket
        else:
            kwargs.update(host=self.host, port=self.port)
        if self.tls:
            kwargs.update(ssl=True, **dict(self.tls_options))
        if self.username:
            kwargs["username"] = self.username
        if self.password:
            kwargs["password"] = self.password
        return kwargs


def address(settings: Settings) -> Address:
    """The address of the server named by ``settings.url``.

    Raises:
        ConfigError: there is no URL, or it is not one. The message never repeats the URL's secrets.
    """
    if not settings.url:
        raise ConfigError("no url is set: the embedded server's address comes from Lodging.enter()")
    try:
        parts = urlsplit(settings.url.strip())
        port = parts.port
    except ValueError:  # its text may quote the part that holds the password
        raise ConfigError(f"url has no valid host and port: write {_FORMS}, with % codes in the password") from None
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.fragment:
        raise ConfigError("url has a '#': write it as %23 when it belongs to the password")
    if parts.scheme == "unix":
        return _unix(parts, username, password)
    if parts.scheme not in ("redis", "rediss"):
        raise ConfigError(f"url must begin with redis://, rediss:// or unix://: write {_FORMS}")
    if not parts.hostname or port == 0:
        raise ConfigError(f"url names no host and port: write {_FORMS}")
    port = port or 6379
    tls = parts.scheme == "rediss"
    db = _database(parts.path.lstrip("/"))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(
        url=f"{parts.scheme}://{host}:{port}/{db}", host=parts.hostname, port=port, db=db,
        username=username, password=password, tls=tls, tls_options=_tls_options(parts.query, tls),
    )


def _unix(parts: SplitResult, username: str, password: str) -> Address:
    path = unquote(parts.path)
    if parts.hostname or not path.startswith("/"):
        raise ConfigError("a unix:// url needs an absolute path, so three slashes: unix:///path/to.sock")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    db = _database(options.pop("db", ""))
    if options:
        raise ConfigError(f"url has the unknown option {min(options)!r}; a unix:// url knows only db")
    return Address(url=f"unix://{path}", socket=path, db=db, username=username, password=password)


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise ConfigError("the part of url after the host must be a database number, such as /0")
    return int(text)


def _tls_options(query: str, tls: bool) -> tuple[tuple[str, str], ...]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _TLS_OPTIONS or not tls:
            known = ", ".join(_TLS_OPTIONS) if tls else "none; TLS ones need rediss://"
            raise ConfigError(f"url has the unknown option {name!r}; known are: {known}")
        if name == "ssl_cert_reqs" and value not in ("required", "none"):
            raise ConfigError("url: ssl_cert_reqs must be 'required' or 'none'")
    if options.get("ssl_cert_reqs") == "none":
        # Without a certificate there is no name to check, and the client refuses the pair.
        options["ssl_check_hostname"] = ""
    return tuple(sorted(options.items()))


def unreachable(where: Address, error: BaseException) -> StoreUnavailable:
    """What a failed connection means, in one line. Never shows the password.

    Understands the errors of redis-py, of sockets and of TLS; others are named by their class.
    """
    root = _root(error)
    place = where.url
    if isinstance(error, failures.AuthenticationError | failures.AuthorizationError) or "NOAUTH" in str(error):
        who = f"user {where.username!r}" if where.username else "the default user"
        secret = "the password" if where.password else "no password (none is set)"
        return StoreUnavailable(f"{place} refused {secret} for {who}: correct user and password in MEMGANG_URL")
    if isinstance(error, failures.NoPermissionError):
        return ServerUnfit(f"{place}: user {where.username or 'default'!r} lacks rights: {_one_line(error)}")
    if isinstance(root, socket.gaierror):
        return StoreUnavailable(f"host {where.host!r} of {place} is unknown: correct the name in MEMGANG_URL")
    if isinstance(root, ssl.SSLCertVerificationError):
        return StoreUnavailable(f"{place}: its TLS certificate is not trusted ({root.verify_message}): "
                                "name its authority with ?ssl_ca_certs=/path/ca.pem")
    if isinstance(root, ssl.SSLError):
        return StoreUnavailable(f"{place} does not speak TLS ({root.reason or 'handshake failed'}): "
                                "use redis:// or the server's TLS port")
    if isinstance(root, FileNotFoundError) and where.socket:
        return StoreUnavailable(f"there is no socket at {where.socket}: no server runs there")
    if isinstance(root, PermissionError):
        return StoreUnavailable(f"{place} may not be opened by this user: {root.strerror}")
    if isinstance(root, ConnectionRefusedError):
        return StoreUnavailable(f"nothing listens at {place}: start the server, or correct MEMGANG_URL")
    if isinstance(root, failures.BusyLoadingError):
        return StoreUnavailable(f"{place} is still loading its data: try again in a moment")
    if isinstance(root, TimeoutError | failures.TimeoutError):
        # A server without TLS takes the greeting for the beginning of a command, and waits for its end.
        extra = ", or does not speak TLS: then use redis://" if where.tls else ""
        return StoreUnavailable(f"{place} does not answer in time: it is stopped or behind a firewall{extra}")
    if isinstance(root, ConnectionError | failures.ConnectionError | EOFError):
        extra = "" if where.tls or where.socket else ", or speaks TLS only: then use rediss://"
        return StoreUnavailable(f"{place} closed the connection: it is not Redis or Valkey{extra}")
    return StoreUnavailable(f"{place} cannot be used: {type(root).__name__}: {_one_line(root)}")


def _root(error: BaseException) -> BaseException:
    """The first cause: redis-py wraps what the operating system said."""
    seen = error
    while (below := seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)) is not None:
        if not isinstance(below, OSError | failures.RedisError):
            break
        seen = below
    return seen


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
