"""URLs and validators: limits hold, and an unchanged source is known without reading it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from memgang.errors import ReadError
from memgang.readers import Fingerprint, fingerprint, read, unchanged, web

PAGE = b"<html><head><title>A page</title></head><body><p>The gang reads this page over the wire.</p></body></html>"


class Site(BaseHTTPRequestHandler):
    """A small site: pages with and without validators, redirects, errors, a body without end."""

    etag = '"1"'
    asked: list[str] = []
    hosts: list[str] = []
    inside = ""
    gate = threading.Event()

    def log_message(self, *args: object) -> None:
        """Stay quiet."""

    def _send(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer by path."""
        Site.asked.append(self.path)
        Site.hosts.append(self.headers.get("Host", ""))
        if self.path == "/tagged":
            if self.headers.get("If-None-Match") == Site.etag:
                self._send(304, "text/html", b"", ETag=Site.etag)
            else:
                self._send(200, "text/html; charset=utf-8", PAGE, ETag=Site.etag)
        elif self.path == "/dated":
            status = 304 if self.headers.get("If-Modified-Since") else 200
            body = b"" if status == 304 else PAGE
            self._send(status, "text/html", body, Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
        elif self.path == "/plain":
            self._send(200, "text/plain; charset=iso-8859-1", "El corazón señaló.".encode("iso-8859-1"))
        elif self.path == "/picture":
            self._send(200, "image/png", b"\x89PNG")
        elif self.path.startswith("/hop"):
            left = int(self.path[4:])
            self._send(302, "text/plain", b"", Location=f"/hop{left - 1}" if left else "/tagged")
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(30):
                    self.wfile.write(bytes(1 << 20))
            except OSError:
                pass  # the reader has hung up, as it should
        elif self.path == "/gated":
            Site.gate.wait(60)
            self._send(200, "text/html; charset=utf-8", PAGE)
        elif self.path == "/inside":
            self._send(302, "text/plain", b"", Location=Site.inside)
        elif self.path == "/file":
            self._send(302, "text/plain", b"", Location="file:///etc/hostname")
        else:
            self._send(404, "text/plain", b"no")


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a running site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Site.etag, Site.asked, Site.hosts = '"1"', [], []
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_page_is_read_by_its_content_type(site: str) -> None:
    """HTML as a page, text in the charset the server names."""
    assert read(f"{site}/tagged").title == "A page"
    assert "over the wire" in read(f"{site}/tagged").parts[0].text
    assert read(f"{site}/plain").parts[0].text == "El corazón señaló."


def test_an_unchanged_page_is_asked_for_and_not_fetched(site: str) -> None:
    """304 means unchanged; another tag means changed."""
    for path in ("/tagged", "/dated"):
        assert unchanged(site + path, fingerprint(site + path))
    old = fingerprint(f"{site}/tagged")
    Site.etag = '"2"'
    assert not unchanged(f"{site}/tagged", old)


def test_a_page_without_validators_is_never_reused(site: str) -> None:
    """Neither ETag nor Last-Modified: nothing to ask with, so nothing is asked."""
    old = fingerprint(f"{site}/plain")
    Site.asked.clear()
    assert not unchanged(f"{site}/plain", old)
    assert Site.asked == []


@pytest.mark.parametrize("path, reason", [
    ("/missing", "404"), ("/picture", "image/png cannot be read"), ("/large", "larger than 20,971,520 bytes"),
    ("/hop9", "more than 5 redirects"), ("/file", "not http or https"),
])
def test_what_cannot_be_read_is_named(site: str, path: str, reason: str) -> None:
    """Errors, pictures, endless bodies and redirects end in a reason."""
    with pytest.raises(ReadError, match=reason):
        read(site + path)


def test_a_few_redirects_are_followed_and_a_dead_server_is_named(site: str) -> None:
    """Five hops are fine; nobody listening is a reason."""
    assert read(f"{site}/hop3").title == "A page"
    with pytest.raises(ReadError, match="cannot be reached"):
        read("http://127.0.0.1:1/")


def test_a_file_at_rest_is_known_by_its_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file at rest with an equal stat is unchanged, without looking inside."""
    module = sys.modules["memgang.readers.fingerprint"]
    monkeypatch.setattr(module, "AT_REST_NS", -1)  # as if it had been written long ago
    path = tmp_path / "a.txt"
    path.write_text("one")
    old = fingerprint(str(path))
    monkeypatch.setattr(module, "_hash", lambda path: pytest.fail("it looked inside"))
    assert unchanged(str(path), old)


def test_a_forged_time_does_not_hide_a_change(tmp_path: Path) -> None:
    """Same size, same time of change as far as it can be set: the other time tells."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    old = fingerprint(str(path))
    path.write_text("two")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert not unchanged(str(path), old)


def test_a_file_just_written_is_compared_by_content(tmp_path: Path) -> None:
    """A stat that may be too coarse is not believed."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    old = fingerprint(str(path))
    stat = path.stat()
    assert unchanged(str(path), old)
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not unchanged(str(path), old)


def test_a_touched_file_is_unchanged_and_an_edited_one_is_not(tmp_path: Path) -> None:
    """Content decides when the stat differs."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    old = fingerprint(str(path))
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert unchanged(str(path), old)
    path.write_text("one more")
    assert not unchanged(str(path), old)
    path.unlink()
    assert not unchanged(str(path), old)
    with pytest.raises(ReadError, match="no such file"):
        fingerprint(str(path))


def test_a_fingerprint_fits_into_the_flight() -> None:
    """The largest fingerprint has at most 512 bytes, and junk is no fingerprint."""
    page = web.Fetched(b"x", "text/html", "", "e" * 160, "m" * 160, "http://x/")
    from memgang.readers import of_fetched

    data = of_fetched(page)
    assert len(data) <= 512
    assert msgspec.json.decode(data, type=Fingerprint).etag == "e" * 160
    assert not unchanged("x", b"junk")
