"""Traces of other caches and exported logs: what is read, and what is refused with a reason."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import msgspec
import pytest

from memgang.errors import ReadError
from memgang.eviction import drawn, read
from memgang.eviction.history import from_events
from memgang.model import Event, Usage


def written(tmp_path: Path, body: bytes) -> Path:
    """A file with this content."""
    path = tmp_path / "x.trace"
    path.write_bytes(body)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
def test_lines_and_integers_are_told_apart(tmp_path: Path, pack: object) -> None:
    """Keys are the same however they are written; a line * parts phases."""
    lines = read(written(tmp_path, pack(b"7\r\n 8 \n*\n7\n\n-1\n")))  # type: ignore[operator]
    ints = read(written(tmp_path, pack(struct.pack(">4i", 7, 8, 7, -1))))  # type: ignore[operator]

    assert lines.steps == ints.steps
    assert [s.key for s in lines.steps].count(lines.steps[0].key) == 2
    assert {(s.what, s.size, s.seconds, s.micro_usd) for s in lines.steps} == {("ask", 1, 1.0, 0)}


def test_an_exported_log_is_a_trace(tmp_path: Path) -> None:
    """It gives what the log itself gives."""
    events = [Event(at=1, raw="put", obj="a" * 32, bytes=9), Event(at=2, raw="committed", obj="a" * 32, call="c", own=Usage(ms=5)),
              Event(at=3, raw="hit", obj="a" * 32, call="c", saved=Usage(ms=5))]
    path = written(tmp_path, b"".join(msgspec.json.encode(event) + b"\n" for event in events))

    assert read(path) == from_events(events, "x.trace")


@pytest.mark.parametrize(("body", "reason"), [
    (b"", "it holds no request"), (b"\n\n", "it holds no request"), (b"*\n*\n", "it holds no request"),
    (b"1\n2 100\n", "line 2 has 2 words"), (b"\x00\x00\x00\x01\x00", "its 5 bytes are neither text nor"),
    (b"1\n" * 4096 + b"\xff", "byte 8,192 is no ASCII text"), (b'{"at": 1}\n{"at": \n', "line 2 is no event"),
    (b'{"at": "x"}\n', "line 1 is no event"), (gzip.compress(b"1\n2\n")[:-9], "it is packed and damaged"),
    (lzma.compress(b"1\n2\n")[:-9], "it is packed and damaged"), (b"\x1f\x8b no", "it is packed and damaged"),
])
def test_what_is_no_trace_is_refused_with_its_reason(tmp_path: Path, body: bytes, reason: str) -> None:
    """In one line that names the file."""
    with pytest.raises(ReadError) as refused:
        read(written(tmp_path, body))

    assert reason in str(refused.value) and "x.trace" in str(refused.value) and "\n" not in str(refused.value)


def test_a_trace_that_unpacks_beyond_all_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not unpacked to its end first."""
    monkeypatch.setattr("memgang.eviction.traces.BYTES_MAX", 1000)
    for pack in (gzip.compress, lzma.compress, bytes):
        with pytest.raises(ReadError, match="longer than 1,000 bytes"):
            read(written(tmp_path, pack(b"1\n" * 5000)))


def test_costs_are_drawn_for_each_key_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    """One key has one cost; a shorter trace gives it the same; another seed another."""
    history = read(written(tmp_path, b"".join(b"%d\n" % (n % 50) for n in range(200))))
    shorter = read(written(tmp_path, b"3\n1\n"))

    for how in ("lognormal", "zipf"):
        first, second, other = (drawn(history, how, seed) for seed in (1, 1, 2))  # type: ignore[arg-type]
        costs = {s.key: s.seconds for s in first.steps}
        assert first.steps == second.steps != other.steps
        assert len({(s.key, s.seconds) for s in first.steps}) == 50 and min(costs.values()) > 0
        assert all(costs[s.key] == s.seconds for s in drawn(shorter, how, 1).steps)  # type: ignore[arg-type]
        assert [(s.what, s.key, s.size) for s in first.steps] == [(s.what, s.key, s.size) for s in history.steps]
