"""Limits of a fetch: bytes, packing, time, redirects, addresses. What breaks one is a typed error with the numbers."""

from __future__ import annotations

import datetime
import gzip
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

import memgang
from memgang.errors import ReadError
from memgang.readers import Reach, web
from memgang.readers.bodies import RATIO_FROM_BYTES, body_of
from memgang.readers.freshness import Freshness, freshness, retry_after_s
from memgang.reads import Manners, Reads
from tests.reads.origin import PAGE, Origin, Running


class Counted(httpx.AsyncByteStream):
    """A body without end that counts how much of it was taken."""

    def __init__(self, piece: bytes) -> None:
        self.piece, self.taken = piece, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += len(self.piece)
            yield self.piece


async def code(url: str, origin: Origin | None = None, **manners: Any) -> str:
    """The code of the error that fetching this gives."""
    with pytest.raises(ReadError) as told:
        await web.get(url, reach=Reach([origin.host] if origin else []), bounds=web.Bounds(**manners))
    assert told.value.hint
    return told.value.code


async def test_no_more_is_taken_than_the_limit_and_one_piece() -> None:
    """An endless body is left at the limit, packed or not; one that says it is larger is not begun."""
    for headers, piece in (({}, bytes(1000)), ({"content-encoding": "gzip"}, gzip.compress(b"x"))):
        stream = Counted(piece)
        with pytest.raises(ReadError, match="larger than 10,000 bytes"):
            await body_of(httpx.Response(200, headers=headers, stream=stream), "u", 10_000)
        assert stream.taken <= 10_000 + len(piece)

    stream = Counted(bytes(1000))
    with pytest.raises(ReadError, match=r"has 10,001 bytes; the limit is 10,000"):
        await body_of(httpx.Response(200, headers={"content-length": "10001"}, stream=stream), "u", 10_000)
    assert stream.taken == 0


@pytest.mark.catalogue("D10")
async def test_a_small_body_cannot_become_a_large_one(origin: Origin) -> None:
    """A bomb is left at the limit, or at its ratio; what is packed twice, or as nobody asked for, is not unpacked at all."""
    bomb = gzip.compress(bytes(30 * 1024 * 1024))
    url = origin.page("/bomb", bomb, Content_Encoding="gzip")

    assert await code(url, origin, bytes_max=50_000) == "large"
    assert await code(url, origin, bytes_max=1 << 30) == "packing"
    for name, packed in (("gzip, gzip", gzip.compress(bomb)), ("br", b"x"), ("zstd", b"x"), ("gzip", b"no gzip"), ("deflate", b"\xff\xff")):
        assert await code(origin.page("/odd", packed, Content_Encoding=name), origin) == "packing"
    assert await code(origin.page("/cut", gzip.compress(PAGE)[:-9], Content_Encoding="gzip"), origin) == "unreachable"


async def test_unpacking_takes_no_more_room_than_the_limit() -> None:
    """One piece from the wire that would become 30 MiB: what comes out is bounded while it comes out."""
    bomb = gzip.compress(bytes(30 * 1024 * 1024))
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Counted(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match="larger than 100,000 bytes"):
            await body_of(answer, "u", 100_000)
        assert tracemalloc.get_traced_memory()[1] < 10 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name, packed", [
    ("gzip", gzip.compress(PAGE)), ("gzip", gzip.compress(PAGE[:50]) + gzip.compress(PAGE[50:])), ("deflate", zlib.compress(PAGE)),
    ("deflate", zlib.compress(PAGE, wbits=-15)), ("identity", PAGE), ("x-gzip", gzip.compress(PAGE)),
])
async def test_what_was_asked_for_is_unpacked(origin: Origin, name: str, packed: bytes) -> None:
    """gzip, in several streams too, and both kinds of deflate."""
    url = origin.page("/page", packed, Content_Encoding=name)
    got = await web.get(url, reach=Reach([origin.host]), bounds=web.Bounds(bytes_max=200))

    assert isinstance(got, web.Fetched) and got.body == PAGE
    assert len(PAGE) < RATIO_FROM_BYTES  # the ratio of a small page means nothing


async def test_a_server_that_drips_or_falls_silent_is_given_up(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its head or in its body: the time is for all of it, and silence has a limit of its own."""
    gone = threading.Event()

    def drip_body(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not gone.wait(0.01):
            handler.wfile.write(b"x")

    def drip_head(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not gone.wait(0.01):
            handler.wfile.write(b"X: y\r\n")

    def silent(handler: BaseHTTPRequestHandler) -> None:
        gone.wait(60)

    try:
        assert await code(origin.does("/body", drip_body), origin, total_s=0.4) == "slow"
        assert await code(origin.does("/head", drip_head), origin, total_s=0.4) == "slow"
        monkeypatch.setattr(web, "IDLE_S", 0.2)
        assert await code(origin.does("/silent", silent), origin, total_s=60) == "slow"
    finally:
        gone.set()


async def test_redirects_are_counted_judged_and_never_leave_tls(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are allowed and no more; not to another scheme, not from https to http. Certificates are checked by name."""
    for hop in range(3):
        origin.page(f"/{hop}", b"", 302, Location=f"/{hop + 1}")
    origin.page("/3")
    got = await web.get(f"{origin.address}/0#part", reach=Reach([origin.host]), bounds=web.Bounds(redirects_max=3))
    assert isinstance(got, web.Fetched) and got.final_url == f"{origin.address}/3"
    assert await code(f"{origin.address}/0", origin, redirects_max=2) == "redirect"
    for to in ("file:///etc/passwd", "gopher://x/", "http://me:pw@127.0.0.1/"):
        assert await code(origin.page("/away", b"", 302, Location=to), origin) == "redirect"

    serving, trusted = certificate(tmp_path)
    with Running(serving) as secure:
        down, here = secure.page("/down", b"", 302, Location=f"{origin.address}/3"), secure.page("/here")
        reach = Reach([secure.host, origin.host, secure.host.replace("localhost", "127.0.0.1")])
        with pytest.raises(ReadError) as told:
            await web.get(here, reach=reach)
        assert told.value.code == "unreachable"  # nobody vouches for this certificate
        monkeypatch.setattr(web, "tls", lambda: trusted)
        assert isinstance(await web.get(here, reach=reach), web.Fetched)
        with pytest.raises(ReadError, match="from https to http") as told:
            await web.get(down, reach=reach)
        assert told.value.code == "redirect"
        with pytest.raises(ReadError, match="cannot be reached"):  # the right address under a name that it has not
            await web.get(here.replace("localhost", "127.0.0.1"), reach=reach)


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate for localhost, signed by itself: the context that serves it, and one that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True).sign(key, hashes.SHA256()))
    both = folder / "both.pem"
    both.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(both)
    return serving, ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())


@pytest.mark.catalogue("D10")
async def test_a_gang_fetches_nothing_from_inside_unless_it_is_told(space: memgang.Space, origin: Origin) -> None:
    """`Gang.fetch` asks public addresses alone, at each redirect anew; what somebody who may has fetched is not handed on."""
    inside = origin.page("/page", Cache_Control="max-age=3600")
    with Running() as outside:
        hop = outside.page("/hop", b"", 302, Location=inside)
        async with (memgang.Gang(space) as gang, Reads(space, Manners(allow=[outside.host])) as some,
                    Reads(space, Manners(anywhere=True)) as all_):
            assert (await all_.fetch(inside)).size == len(PAGE)
            decimal = inside.replace("127.0.0.1", "2130706433")
            for url in (inside, "http://169.254.169.254/", "http://[::ffff:127.0.0.1]/", decimal):
                with pytest.raises(ReadError) as told:
                    await gang.fetch(url)
                assert told.value.code == "private" and "Manners(allow=" in told.value.hint
            with pytest.raises(ReadError) as told:
                await some.fetch(hop)
            assert told.value.code == "private"
    assert len(origin.asked) == 1


@pytest.mark.parametrize("headers, lasts", [
    ({}, Freshness(0, True)), ({"cache-control": "max-age=60"}, Freshness(60, True)),
    ({"cache-control": "public, MAX-AGE=\"60\", must-revalidate", "age": "20"}, Freshness(40, True)),
    ({"cache-control": "max-age=60", "age": "100"}, Freshness(0, True)), ({"cache-control": "max-age=60, max-age=5"}, Freshness(5, True)),
    ({"cache-control": "no-cache, max-age=60"}, Freshness(0, True)), ({"cache-control": "no-store, max-age=60"}, Freshness(0, False)),
    ({"cache-control": "max-age=-1"}, Freshness(0, True)), ({"cache-control": "max-age=" + "9" * 40}, Freshness(0, True)),
    ({"cache-control": 'private="a, no-store", max-age=9'}, Freshness(9, True)),
    ({"vary": "*", "cache-control": "max-age=60"}, Freshness(0, False)),
    ({"expires": "Thu, 01 Jan 2026 00:01:00 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, Freshness(60, True)),
    ({"expires": "0"}, Freshness(0, True)), ({"expires": "Thu, 01 Jan 2015 00:00:00 GMT"}, Freshness(0, True)),
    ({"cache-control": "max-age=5", "expires": "Thu, 01 Jan 2099 00:00:00 GMT"}, Freshness(5, True)),
    ({"cache-control": "max-age=999999999"}, Freshness(366 * 24 * 3600, True)),
])
def test_freshness_is_what_the_server_says_and_no_guess(headers: dict[str, str], lasts: Freshness) -> None:
    """Cache-Control before Expires; what cannot be understood is no freshness."""
    assert freshness(httpx.Headers(headers)) == lasts


def test_a_time_to_wait_is_seconds_or_a_date() -> None:
    """Retry-After in both forms; anything else is no time."""
    assert retry_after_s("120") == 120
    assert retry_after_s("Thu, 01 Jan 2099 00:00:00 GMT") > 3600
    assert retry_after_s("Thu, 01 Jan 2015 00:00:00 GMT") == retry_after_s("soon") == retry_after_s("") == 0


@pytest.mark.parametrize("url, told", [
    ("http://a/?q=1&access_token=x&b=2", "http://a/?q=1&access_token=...&b=2"), ("http://a/?key=x", "http://a/?key=..."),
    ("http://a/?X-Amz-Signature=x&X-Amz-Date=1", "http://a/?X-Amz-Signature=...&X-Amz-Date=1"), ("http://a/?apiKey=x#f", "http://a/?apiKey=...#f"),
    ("http://a/?keyword=cats&monkey=1&design=2", "http://a/?keyword=cats&monkey=1&design=2"), ("/a?key=x", "/a?key=x"),
])
def test_an_address_is_shown_without_what_opens_doors(url: str, told: str) -> None:
    """Values of parameters that are named like credentials; others stay, so that people find their page."""
    assert web.shown(url) == told
