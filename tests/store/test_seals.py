"""Seals without a server or files: trees, lines, signatures, and entries that become text and come back."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.errors import ConfigError, LogBroken
from memgang.store import seals
from memgang.store.sealfile import State, decoded, encoded
from memgang.store.seals import Seal, Segment

# The example of RFC 6962, as in the tests of Certificate Transparency: seven leaves and the roots of their first 1, 2, ... 8.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

words = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)).map(list), max_size=4).map(
    lambda pairs: [word for pair in pairs for word in pair])
entries = st.lists(st.tuples(st.integers(1, 1 << 40).map(lambda n: b"%d-0" % n), words), min_size=1, max_size=20)


def test_roots_are_those_of_certificate_transparency() -> None:
    """Known answers: a leaf is hashed behind a 0, a node behind a 1, an uneven tree leans to the left."""
    leaves = [hashlib.sha256(b"\0" + bytes.fromhex(text)).digest() for text in INPUTS]
    assert [seals.root(leaves[:n]) for n in range(1, 9)] == ROOTS
    assert seals.root([]) == hashlib.sha256(b"").hexdigest()


def test_a_node_is_not_taken_for_a_leaf() -> None:
    """A tree of two leaves and a tree of one leaf that holds both hashes have different roots."""
    a, b = (hashlib.sha256(b"\0" + x).digest() for x in (b"a", b"b"))
    assert seals.root([a, b]) != hashlib.sha256(b"\0" + a + b).hexdigest()


@given(entries, entries)
def test_entries_have_the_same_leaves_only_when_they_are_the_same(one: list[Any], two: list[Any]) -> None:
    """No two different entries are hashed from the same bytes, wherever names and values end."""
    assert ([seals.leaf("a00", e) for e in one] == [seals.leaf("a00", e) for e in two]) == (one == two)
    assert seals.leaf("a00", one[0]) != seals.leaf("h00", one[0])


@given(entries)
def test_exported_entries_come_back_byte_by_byte(some: list[Any]) -> None:
    """Any bytes: text, packed lines, line ends, nothing; one line each."""
    body = encoded(some)
    assert decoded(body) == [(i, list(w)) for i, w in some]
    assert body.count(b"\n") == len(some)


def test_what_is_no_export_is_refused() -> None:
    """With the reason, not with an error of the parser."""
    for body in (b"[1]\n", b'["1-0",[{"b":"x"}]]\n', b'["1-0",[{"b64":"!"}]]\n', b"\xff\n"):
        with pytest.raises(LogBroken, match="not an entry"):
            decoded(body)


def a_seal(n: int = 1, prev: str = seals.NOTHING, **more: Any) -> Seal:
    return Seal(n, prev, "s", "k", more.pop("epoch", "e"), 1, 5, **more)


def test_a_line_is_believed_only_as_it_was_signed() -> None:
    """Every single bit of a line matters: it is no line any more, or its signature does not fit."""
    private = seals.new_private_key()
    line = seals.signed(a_seal(), private)
    seal, body, signature = seals.opened(line)
    assert seal == a_seal() and seals.fits(body, signature, seals.public_of(private))
    assert not seals.fits(body, signature, seals.public_of(seals.new_private_key()))
    for bit in range(8 * (len(line) - 1)):
        bad = bytearray(line)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            _, body, signature = seals.opened(bytes(bad))
        except LogBroken:
            continue
        # Hex digits in capitals say the same, and are another line: the next one's `prev` does not fit.
        assert not seals.fits(body, signature, seals.public_of(private)) or seals.hash_of(bytes(bad)) != seals.hash_of(line)


def test_a_public_key_is_32_bytes_in_hex() -> None:
    """Anything else is refused with what it should be."""
    assert seals.parse_public(" " + "0a" * 32 + "\n") == b"\x0a" * 32
    for text in ("", "0a" * 31, "zz" * 32, "0a" * 33):
        with pytest.raises(ConfigError, match="64 hex digits"):
            seals.parse_public(text)


def test_a_new_generation_takes_over_where_it_begins() -> None:
    """What was sealed from there on stays in the export, and does not stand for the log any more."""
    def segment(first: int, last: int, start: int) -> Segment:
        return Segment("a00", first, last, last - first + 1, "r", "t", start, 10)

    state = State()
    state.take(a_seal(1, segments=(segment(1, 10, 0),)), b"1\n")
    state.take(a_seal(2, segments=(segment(11, 20, 10),)), b"2\n")
    state.take(a_seal(3, segments=(segment(8, 12, 20),), opened="rolled back", begins={"a00": 8}), b"3\n")
    assert [(p.segment.first, p.last) for p in state.pieces["a00"]] == [(1, 7), (8, 12)]
    assert (state.upto["a00"], state.ends["a00"]) == (12, 30)

    state.take(a_seal(4, epoch="another", segments=(segment(1, 2, 30),), opened="lost"), b"4\n")
    assert [(p.segment.first, p.last) for p in state.pieces["a00"]] == [(1, 2)]
    assert (state.upto, state.ends["a00"], state.head) == ({"a00": 2}, 40, seals.hash_of(b"4\n"))
