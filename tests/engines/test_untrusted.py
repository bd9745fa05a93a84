"""Files from strangers are parsed in worker processes under limits; whatever they do costs one entry in a list."""

from __future__ import annotations

import gzip
import os
import resource
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from memgang import readers, reading
from memgang.engines import child
from memgang.engines.calls import Limits
from memgang.gang import Gang
from memgang.space import Space
from tests.engines import leaves

GOOD = "# Pumps\n\nThe audit found three faults in the pumps of the station.\n"


@pytest.fixture(autouse=True)
def no_worker_is_left() -> object:
    """All workers end with the test."""
    yield
    child.end_all()


async def reasons(space: Space, *paths: Path, engine: str = "asyncio") -> dict[str, str]:
    """What is said of each file that cannot be read."""
    async with Gang(space, engine=engine) as gang:
        reading = await gang.read_documents(*map(str, paths))
    return {Path(bad.source).name: bad.reason for bad in reading.unreadable}


@pytest.mark.parametrize("engine", ["asyncio", "processes"])
async def test_files_are_parsed_in_another_process(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str,
) -> None:
    """With either engine; this process never imports a parser for it."""
    def here(*_: object) -> None:
        raise AssertionError("parsed in this process")

    from memgang.readers import parse

    monkeypatch.setattr(parse, "file", here)
    (tmp_path / "good.md").write_text(GOOD)
    async with Gang(space, engine=engine) as gang:
        [document] = (await gang.read_documents(str(tmp_path / "good.md"))).documents
    assert document.title == "Pumps"


@pytest.mark.parametrize("behaviour, limits, reason", [
    (leaves.hang, Limits(0.5, 60, 512), "the parser was not done after 0.5 s"),
    (leaves.spin, Limits(60.0, 1, 512), "the parser was not done after 1 s of work"),
    (leaves.eat, Limits(60.0, 60, 256), "the parser needs more than 256 MB of memory"),
    (leaves.segfault, Limits(60.0, 60, 512), "the parser crashed on it (its worker process was ended by SIGSEGV)"),
])
async def test_a_parser_that_goes_wrong_is_a_reason(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: Callable[..., object], limits: Limits, reason: str,
) -> None:
    """Hanging, looping, eating and crashing each have their words, and the next file is read."""
    (tmp_path / "bad.md").write_text("x")
    (tmp_path / "good.md").write_text(GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(readers, "read_file", behaviour)
        patch.setattr(reading, "PARSE", limits)
        assert await reasons(space, tmp_path / "bad.md") == {"bad.md": reason}
    assert await reasons(space, tmp_path / "good.md") == {}


def pdf(objects: list[bytes]) -> bytes:
    """A PDF of these objects; the first is its catalogue."""
    out, places = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def stream(data: bytes) -> bytes:
    """A deflated stream."""
    packed = zlib.compress(data, 9)
    return b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)


def bombs(folder: Path) -> list[Path]:
    """Files made to cost far more than their size."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>"
    tree = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", page]
    inflated = zlib.compress(b"BT (a) Tj ET " * (1 << 22), 9)  # 54 MB in 54 KB
    twice = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s\nendstream"
    packed = zlib.compress(inflated, 9)
    many = b"<< /Type /Pages /Count 100000 /Kids [" + b"3 0 R " * 100_000 + b"] >>"
    files = {
        "flate.pdf": pdf([*tree, stream(b"\n" * (256 << 20))]),
        "flate-twice.pdf": pdf([*tree, twice % (len(packed), packed)]),
        "pages.pdf": pdf([tree[0], many, page.replace(b" /Contents 4 0 R", b"")]),
        "pages-that-hold-themselves.pdf": pdf([tree[0], b"<< /Type /Pages /Count 9 /Kids [2 0 R 2 0 R 3 0 R] >>", page, stream(b"")]),
        "xref-that-points-at-itself.pdf": (b"%PDF-1.5\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
                                           b"xref\n0 1\n0000000000 65535 f \ntrailer << /Size 3 /Root 1 0 R /Prev 58 >>\n"
                                           b"startxref\n58\n%%EOF\n"),
        "cut.pdf": pdf([*tree, stream(b"BT (a) Tj ET")])[:180],
        "bomb.gz": gzip.compress(bytes(64 << 20), 9),
        "bomb.txt": b"PK\x03\x04" + bytes(100_000),
        "deep.json": b"[" * 2_000_000,
        "deep.html": b"<html><body>" + b"<div>" * 500_000 + b"x",
        "brackets.md": b"[" * 200_000 + b"](" * 1000,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


@pytest.mark.catalogue("C3")
async def test_bombs_are_refused_or_read_within_limits_and_cost_this_process_nothing(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each ends within five seconds of work, and this process grows by less than 256 MB."""
    monkeypatch.setattr(reading, "PARSE", Limits(wall_s=60.0, cpu_s=5, memory_mb=512))
    paths = bombs(tmp_path)
    (tmp_path / "good.md").write_text(GOOD)
    before = resident()
    async with Gang(space, engine="processes", workers=2) as gang:
        found = await gang.read_documents(*map(str, paths), str(tmp_path / "good.md"))
    assert resident() - before < 256 << 20
    assert str(tmp_path / "good.md") in [document.source for document in found.documents]
    said = {Path(bad.source).name: bad.reason for bad in found.unreadable}
    print(said)
    for name in ("flate.pdf", "pages.pdf", "pages-that-hold-themselves.pdf", "xref-that-points-at-itself.pdf", "cut.pdf",
                 "bomb.gz", "bomb.txt"):
        assert said[name]


def resident() -> int:
    """Bytes of memory of this process, now where the system tells, else at most."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
