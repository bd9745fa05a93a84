"""Which addresses may be asked at all, when somebody else names the URL.

Whoever reads pages on behalf of an agent stands inside a network the agent is not in: routers, databases, the
metadata service of a cloud. So a reach lets only public addresses through, at each redirect anew. A name is
looked up once and the address that was judged is the one that is connected to: a name server that answers
differently the second time ("rebinding") gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from memgang.errors import ConfigError, ReadError

if TYPE_CHECKING:
    import ssl

    import httpx

ADDRESSES_MAX = 4  # of one name are tried

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach:
    """Public addresses, and the hosts that are allowed by name (``docs.internal``, ``127.0.0.1:8000``) whatever their address."""

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        """Each of ``hosts`` is a host, or a host and a port, as they stand in a URL.

        Raises:
            ConfigError: one of them is something else.
        """
        self.hosts = frozenset(host.lower() for host in hosts)
        for host in self.hosts:
            if not host or "/" in host or "@" in host or any(c.isspace() for c in host):
                raise ConfigError(f"host {host[:80]!r} must be a host or host:port, as in 127.0.0.1:8000")

    def addresses(self, url: str, host: str, port: int) -> list[str]:
        """The addresses of this host, all of which may be asked.

        Raises:
            ReadError: one of them is not public, or there is none.
        """
        bare = host.lower().strip("[]")
        try:
            # Not only the first: a name with a public and a private address would be a matter of luck.
            found = [entry[4][0] for entry in socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            raise ReadError(url, f"no address is known for {host}", "unreachable") from None
        named = f"[{bare}]" if ":" in bare else bare
        if not {bare, named, f"{named}:{port}"} & self.hosts:
            for address in found:
                if not is_public(str(address)):
                    raise ReadError(url, f"{host} is not a public address", "private")
        return list(dict.fromkeys(str(address) for address in found))[:ADDRESSES_MAX]

    def transport(self, tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
        """A transport for an httpx client that goes no further than this."""
        return _transport(self, tls)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet; those that carry an IPv4 address inside count as that one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = _inside(ip)
        if inside is not None:
            return is_public(str(inside))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


def _inside(ip: ipaddress.IPv6Address) -> Address | None:
    """The IPv4 address that an IPv6 one leads to: mapped, 6to4, Teredo, NAT64."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def _transport(reach: Reach, tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    import httpx

    class Guarded(httpx.AsyncBaseTransport):
        """Each request, redirects too, goes to an address that was judged; the name stays in Host, SNI and certificate."""

        def __init__(self) -> None:
            # Connections are not kept: one to the same address for another name would have that one's certificate.
            self._inner = httpx.AsyncHTTPTransport(verify=tls, limits=httpx.Limits(max_keepalive_connections=0))

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            url = request.url
            # As it is sent in Host: what a name server is asked, and a certificate compared with, must be the same text.
            host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
            last: httpx.ConnectError | httpx.ConnectTimeout | None = None
            bare = str(url.copy_with(query=None, fragment=None))  # in errors: a query may hold a credential
            for address in await asyncio.to_thread(reach.addresses, bare, host, port):
                extensions = {**request.extensions, "sni_hostname": host}
                there = httpx.Request(request.method, url.copy_with(host=address), headers=request.headers,
                                      stream=request.stream, extensions=extensions)
                try:
                    return await self._inner.handle_async_request(there)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    last = error  # the next address of this name, if it has one
            assert last is not None  # `addresses` gives one at least, or raises
            raise last

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Guarded()
