"""Addresses that others name: public ones and those allowed by name, at each redirect anew."""

from __future__ import annotations

import socket

import pytest
from tests.readers.test_web import PAGE, Site, site  # noqa: F401  # a fixture: a web server of our own

from memgang.errors import ConfigError, ReadError
from memgang.readers import Reach, fingerprint, unchanged, web
from memgang.readers.reach import is_public


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
    "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
    "2001:0:53aa:64c:0:fbff:80ff:fffe",  # Teredo of 127.0.0.1
])
def test_addresses_inside_are_not_public(address: str) -> None:
    """Loopback, private, link-local, shared and reserved addresses, also those inside an IPv6 address."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    """What everybody can reach is public."""
    assert is_public(address)


@pytest.mark.catalogue("D10")
@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
])
def test_a_private_address_is_refused_however_it_is_written(site: str, host: str) -> None:  # noqa: F811
    """Decimal, octal, short and mapped spellings lead to the same refusal, and no request is made."""
    port = site.rpartition(":")[2]

    with pytest.raises(ReadError, match="is not a public address|no address is known|Invalid IPv4"):
        web.fetch(f"http://{host}:{port}/tagged", reach=Reach())

    assert Site.asked == []


def test_an_allowed_host_is_fetched_and_asked_again(site: str) -> None:  # noqa: F811
    """What the option names is read like any page, validators and redirects included."""
    reach = Reach([site.removeprefix("http://")])

    assert web.fetch(f"{site}/hop2", reach=reach).body == PAGE
    assert unchanged(f"{site}/tagged", fingerprint(f"{site}/tagged"), reach=reach)


@pytest.mark.catalogue("D10")
def test_a_redirect_cannot_lead_inside(site: str) -> None:  # noqa: F811
    """The first server is allowed, the one it redirects to is not: refused before it is asked."""
    host, _, port = site.removeprefix("http://").partition(":")
    Site.inside = f"http://localhost:{port}/tagged"

    with pytest.raises(ReadError, match="localhost is not a public address"):
        web.fetch(f"{site}/inside", reach=Reach([f"{host}:{port}"]))

    assert Site.asked == ["/inside"]


def test_an_allowed_port_opens_no_other(site: str) -> None:  # noqa: F811
    """A host with a port is allowed at that port alone."""
    with pytest.raises(ReadError, match="is not a public address"):
        web.fetch(f"{site}/tagged", reach=Reach(["127.0.0.1:1"]))


def test_asking_whether_a_page_has_changed_reaches_no_further(site: str) -> None:  # noqa: F811
    """A remembered page out of reach counts as changed, and its server is not asked."""
    known = fingerprint(f"{site}/tagged")
    Site.asked.clear()

    assert not unchanged(f"{site}/tagged", known, reach=Reach())
    assert Site.asked == []


@pytest.mark.catalogue("D10")
def test_a_name_with_one_private_address_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A name server that answers with a public and a private address gains nothing."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("93.184.216.34", "127.0.0.1")])

    with pytest.raises(ReadError, match="is not a public address"):
        web.fetch("http://both.example/", reach=Reach())


@pytest.mark.catalogue("D10")
def test_the_address_that_was_judged_is_the_one_that_is_asked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A name is looked up once: the second answer of a rebinding name server is never heard. The page sees the name, not the address."""
    asked, real = list[str](), socket.getaddrinfo
    port = site.rpartition(":")[2]

    def rebinding(host: str, *args: object, **kwargs: object) -> object:
        if host in ("rebind.example", b"rebind.example"):
            asked.append(str(host))
            assert len(asked) == 1, "looked up a second time"
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)

    assert web.fetch(f"http://rebind.example:{port}/tagged", reach=Reach([f"rebind.example:{port}"])).body == PAGE
    assert Site.hosts[-1] == f"rebind.example:{port}"


@pytest.mark.parametrize("host", ["", "http://a", "a/b", "user@a", "a b"])
def test_a_wrong_host_is_named(host: str) -> None:
    """An option that is no host is refused with an example."""
    with pytest.raises(ConfigError, match="must be a host or host:port"):
        Reach([host])
