"""What is sealed cannot be edited, removed, cut off, put in or rolled back unseen."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import memgang
from memgang import sealing
from memgang.errors import ConfigError, LogBroken, ServerUnfit
from memgang.sealing import Finding
from memgang.store import seals
from memgang.store.keys import STORE_ID, Keys
from memgang.store.sealfile import SealFile

SEED = int(os.environ.get("MEMGANG_SEED") or random.randrange(1 << 30))
SOAK = bool(os.environ.get("MEMGANG_SOAK"))

Entries = list[tuple[bytes, list[bytes]]]


async def filled(space: memgang.Space, count: int = 12) -> None:
    """So many writes, and reads in a few batches."""
    for i in range(count):
        ref = await space.put(f"value {i} of {space.name}")
        await space.get(ref)
        if i % 3 == 0:
            await space.flush()
    await space.flush()


def files(space: memgang.Space) -> SealFile:
    return SealFile(space.settings, space.name)


async def entries(space: memgang.Space, log: str = "a00") -> Entries:
    return [(i, list(w)) for i, w in await space.store.wire.call("XRANGE", space.store.keys.log(log), "-", "+")]


async def rewrite(space: memgang.Space, changed: Entries, log: str = "a00") -> None:
    """Put other entries in place of the log, as somebody with access to the server could."""
    key = space.store.keys.log(log)
    await space.store.wire.call("DEL", key)
    for ident, words in changed:
        await space.store.wire.call("XADD", key, ident, *words)


async def wrong(space: memgang.Space, **options: Any) -> list[Finding]:
    """What is found, without notes."""
    return [f async for f in sealing.verify(space, **options) if f.level != "note"]


async def counter(space: memgang.Space, to: int) -> None:
    await space.store.wire.call("HSET", space.store.keys.at(0, "u"), "seq", to)


async def edit(space: memgang.Space, log: Entries) -> None:
    log[4][1][5] = b"me/mallory"
    await rewrite(space, log)


async def remove(space: memgang.Space, _: Entries) -> None:
    await space.store.wire.call("XDEL", space.store.keys.log("a00"), "5-0")


async def cut_end(space: memgang.Space, log: Entries) -> None:
    await rewrite(space, log[:8])


async def cut_end_and_counter(space: memgang.Space, log: Entries) -> None:
    await rewrite(space, log[:8])
    await counter(space, 8)


async def cut_start(space: memgang.Space, _: Entries) -> None:
    await space.store.wire.call("XTRIM", space.store.keys.log("a00"), "MINID", "5-0")


async def cut_all(space: memgang.Space, _: Entries) -> None:
    await space.store.wire.call("DEL", space.store.keys.log("a00"))


async def reorder(space: memgang.Space, log: Entries) -> None:
    log[3], log[4] = (log[3][0], log[4][1]), (log[4][0], log[3][1])
    await rewrite(space, log)


async def insert(space: memgang.Space, log: Entries) -> None:
    await rewrite(space, [*log[:5], (b"5-1", log[4][1]), *log[5:]])


async def shift_in(space: memgang.Space, log: Entries) -> None:
    rest = [(f"{int(i.split(b'-')[0]) + 1}-0".encode(), w) for i, w in log[5:]]
    await rewrite(space, [*log[:5], (b"6-0", log[0][1]), *rest])
    await counter(space, 13)


async def add_field(space: memgang.Space, log: Entries) -> None:
    log[4][1].extend([b"more", b"1"])
    await rewrite(space, log)


async def move_border(space: memgang.Space, log: Entries) -> None:
    # The same bytes in all, cut between name and value elsewhere.
    words = log[4][1]
    words[4:6] = [words[4] + words[5][:1], words[5][1:]]
    await rewrite(space, log)


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize(("tamper", "what", "seq"), [
    (edit, "edited", 5), (remove, "removed", 5), (cut_end, "truncated", 9), (cut_end_and_counter, "rolled-back", 9),
    (cut_start, "removed", 1), (cut_all, "removed", 1), (reorder, "edited", 4), (insert, "inserted", 5),
    (shift_in, "edited", 6), (add_field, "edited", 5), (move_border, "edited", 5)])
async def test_a_change_of_what_is_sealed_is_found_with_its_place(
    space: memgang.Space, tamper: Callable[[memgang.Space, Entries], Awaitable[None]], what: str, seq: int,
) -> None:
    """Each kind of change is named with the log and the first number it is about; before it, nothing is found."""
    await filled(space)
    await sealing.seal(space)
    assert await wrong(space) == []

    await tamper(space, await entries(space))

    found = await wrong(space)
    assert (what, "a00", seq, "tampered") in [(f.what, f.log, f.first, f.level) for f in found], found


@pytest.mark.catalogue("D14")
async def test_random_tampering_of_random_entries_is_always_found(space: memgang.Space) -> None:
    """Any bit of any entry, any entry removed, doubled in place of another or swapped: never unseen."""
    print(f"MEMGANG_SEED={SEED}")
    chance = random.Random(SEED)
    await filled(space, 30)
    await sealing.seal(space)
    for log in ("a00", "h00"):
        good = await entries(space, log)
        for _ in range(200 if SOAK else 20):
            bad = [(i, list(w)) for i, w in good]
            at, other = chance.sample(range(len(bad)), 2)
            match chance.choice("bit remove swap copy cut".split()):
                case "bit":
                    word = chance.choice([n for n, w in enumerate(bad[at][1]) if w])
                    body = bytearray(bad[at][1][word])
                    body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
                    bad[at][1][word] = bytes(body)
                case "remove":
                    del bad[at]
                case "swap":
                    bad[at], bad[other] = (bad[at][0], bad[other][1]), (bad[other][0], bad[at][1])
                case "copy":
                    bad[at] = bad[at][0], bad[other][1]
                case "cut":
                    del bad[max(1, at):]
            if bad == good:
                continue
            await rewrite(space, bad, log)
            assert any(f.log == log and f.level == "tampered" for f in await wrong(space)), f"seed {SEED}"
            await rewrite(space, good, log)
    assert await wrong(space) == []


@pytest.mark.catalogue("D14")
async def test_a_server_rolled_back_to_an_older_state_is_found(space: memgang.Space) -> None:
    """Also when it has grown again past what was sealed, and also after the next seal: that seal says so itself."""
    await filled(space, 5)
    old = {log: await entries(space, log) for log in ("a00", "h00")}
    await filled(space, 9)
    await sealing.seal(space)

    for log, kept in old.items():
        await rewrite(space, kept, log)
    await space.store.wire.call("HSET", space.store.keys.at(0, "u"), "seq", len(old["a00"]), "reads_seq", len(old["h00"]))
    assert {f.what for f in await wrong(space)} >= {"rolled-back"}

    for i in range(30):
        await space.put(f"after the dump was loaded {i}")
    found = await wrong(space)
    assert ("edited", "a00") in {(f.what, f.log) for f in found}, found

    await sealing.seal(space)
    found = await wrong(space)
    assert [f.what for f in found if f.log == "a00"] == []
    assert any(f.what == "rolled-back" and "a00 from 6" in f.detail for f in found), found


@pytest.mark.catalogue("D14")
async def test_data_loss_is_told_from_tampering(space: memgang.Space) -> None:
    """A server that comes back empty has a new id: what was sealed before stays checkable in the export, and goes on."""
    await filled(space)
    before = (await sealing.seal(space)).entries
    keys = space.store.keys
    for key in [*(keys.at(0, k) for k in ("a", "h", "u")), Keys.sealed(space.name)]:
        await space.store.wire.call("DEL", key)
    await space.store.wire.call("SET", STORE_ID, "another life")
    await filled(space, 3)

    found = await wrong(space)
    assert {(f.level, f.what) for f in found} == {("lost", "epoch")}
    after = (await sealing.seal(space)).entries
    report = await sealing.report(space)
    assert [f.level for f in report.findings] == ["lost"] and report.sealed == before + after
    assert report.ok(allow_loss=True) and not report.ok()


async def test_what_is_younger_than_the_last_seal_is_counted(space: memgang.Space) -> None:
    """Not an error: a note with the number. A gap in it is found all the same."""
    await filled(space, 3)
    await sealing.seal(space)
    await filled(space, 4)
    report = await sealing.report(space)
    assert report.ok() and report.unsealed == sum([len(await entries(space, log)) for log in ("a00", "h00")]) - report.sealed
    assert [f.what for f in report.findings] == ["unsealed"] and f"{report.unsealed} entries" in report.findings[0].detail

    await space.store.wire.call("XDEL", space.store.keys.log("a00"), "5-0")
    assert [(f.what, f.first, f.last) for f in await wrong(space)] == [("gap", 5, 5)]


async def test_without_a_seal_gaps_doubles_and_missing_ends_are_found(space: memgang.Space) -> None:
    """Numbers rise by one up to the counter; batches of reads too."""
    await filled(space)
    assert await wrong(space) == []
    log = await entries(space, "h00")
    await rewrite(space, [*log, (f"{len(log) + 1}-0".encode(), log[-1][1])], "h00")
    assert {(f.what, f.log) for f in await wrong(space)} == {("batch", "h00"), ("counter", "h00")}
    await rewrite(space, log[:-1], "h00")
    assert {(f.what, f.log) for f in await wrong(space)} == {("truncated", "h00")}
    renumbered = [(f"{n}-0".encode(), words) for n, (_, words) in enumerate([*log[:1], *log[2:]], 1)]
    await rewrite(space, renumbered, "h00")  # as if the second batch had never come
    await space.store.wire.call("HSET", space.store.keys.at(0, "u"), "reads_seq", len(renumbered))
    assert [(f.level, f.what, f.first) for f in await wrong(space)] == [("lost", "batch", 2)]


def edited_line(path: Path, number: int, old: bytes, new: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new, 1)
    path.write_bytes(b"".join(lines))


def drop_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    path.write_bytes(b"".join(lines))


async def three_seals(space: memgang.Space) -> SealFile:
    for _ in range(3):
        await space.put(os.urandom(8).hex())
        await sealing.seal(space)
    return files(space)


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize(("harm", "what"), [
    (lambda f: edited_line(f.seals, 1, b'"count":1', b'"count":2'), "seal"),
    (lambda f: edited_line(f.seals, 2, b'{"seal"', b'{"x":1,"seal"'), "seal"),
    (lambda f: drop_line(f.seals, 0), "seal"),
    (lambda f: drop_line(f.seals, 1), "seal"),
    (lambda f: drop_line(f.seals, 2), "truncated"),
    (lambda f: f.seals.unlink(), "truncated"),
    (lambda f: f.seals.write_bytes(b"".join(sorted(f.seals.read_bytes().splitlines(keepends=True), reverse=True))), "seal"),
    (lambda f: f.seals.write_bytes(f.seals.read_bytes() * 2), "seal"),
    (lambda f: f.seals.write_bytes(b"nonsense\n" + f.seals.read_bytes()), "seal"),
    (lambda f: edited_line(f.export("a00"), 1, b"tester", b"mallor"), "export"),
    (lambda f: drop_line(f.export("a00"), 2), "export"),
    (lambda f: f.export("a00").unlink(), "export"),
    (lambda f: f.public_file.write_text("ab" * 32), "seal"),
])
async def test_a_change_of_the_sealed_files_is_found(space: memgang.Space, harm: Callable[[SealFile], None], what: str) -> None:
    """Seals edited, removed, moved, repeated or cut off; exports edited, cut or gone; another key put beside them."""
    kept = await three_seals(space)
    assert await wrong(space) == []

    harm(kept)

    found = await wrong(space)
    assert what in {f.what for f in found} and all(f.level == "tampered" for f in found), found


@pytest.mark.catalogue("D14")
async def test_the_seal_files_of_another_space_or_key_are_not_believed(space: memgang.Space, opened: Callable[..., Any]) -> None:
    """Whole and well signed, and yet not those of this space; nor are files made anew with a key of somebody's own."""
    key = (await sealing.seal(space)).key
    kept = await three_seals(space)
    async with opened(space=f"{space.name}-b") as other:
        theirs = await three_seals(other)
    shutil.move(kept.root, kept.root.with_name("aside"))
    shutil.copytree(theirs.root, kept.root)
    assert {"seal"} <= {f.what for f in await wrong(space)}

    shutil.rmtree(kept.root)
    await space.store.wire.call("DEL", Keys.sealed(space.name))
    await sealing.seal(space)  # a new chain and key, all well by itself
    assert await wrong(space) == []
    assert {f.what for f in await wrong(space, key=key)} == {"seal"}
    with pytest.raises(ConfigError, match="64 hex digits"):
        await wrong(space, key="no key")


@pytest.mark.catalogue("D14")
async def test_the_anchor_shows_a_seal_file_cut_off_or_made_anew(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Even by who has the key and the server: the heads of all seals lie elsewhere."""
    anchor = tmp_path / "elsewhere.jsonl"
    async with opened(seal_anchor=anchor) as space:
        kept = await three_seals(space)
        assert len(anchor.read_bytes().splitlines()) == 3
        assert await wrong(space) == []

        drop_line(kept.seals, 2)
        await space.store.wire.call("DEL", Keys.sealed(space.name))  # the server's own mark goes too
        assert {f.what for f in await wrong(space)} == {"truncated"}
        await space.put("something else")
        await sealing.seal(space)  # signed with the right key, and not what the anchor holds
        assert {f.what for f in await wrong(space)} == {"anchor"}

        anchor.unlink()
        assert {f.what for f in await wrong(space)} == {"anchor"}


async def test_a_seal_file_cut_off_is_said_by_the_next_seal_too(space: memgang.Space) -> None:
    """The sealer compares with what it told the server, and signs what it saw."""
    kept = await three_seals(space)
    drop_line(kept.seals, 2)
    await sealing.seal(space)
    await three_seals(space)
    assert any("was cut off" in f.detail for f in await wrong(space))


async def test_nothing_is_added_to_a_broken_chain(space: memgang.Space) -> None:
    """The sealer stops and says so; what it would write on would be worth nothing."""
    kept = await three_seals(space)
    edited_line(kept.seals, 1, b'"n":2', b'"n":9')
    await space.put("more")
    with pytest.raises(LogBroken, match="does not follow"):
        await sealing.seal(space)
    edited_line(kept.seals, 1, b'"n":9', b'"n":2')
    kept.export("a00").write_bytes(kept.export("a00").read_bytes()[:-40])
    with pytest.raises(LogBroken, match="was written up to"):
        await sealing.seal(space)


@pytest.mark.catalogue("D14", "C5")
async def test_text_with_line_ends_and_controls_makes_no_line_and_no_field_of_its_own(space: memgang.Space) -> None:
    """Who writes the text of a reason or a mark cannot write an entry: not in the server, the export or the files."""
    evil = 'x"\n["9-0",["e","put"]]\r\n{"seal":1}\x00\x1b[2J\u2028e\x85forgotten\x0b'
    ref = await space.put("short-lived")
    await space.forget(ref, reason=evil)
    space.mark("phase", evil)
    with pytest.raises(ConfigError), space.acting_as(agent=evil):
        pass
    await sealing.seal(space)
    kept = files(space)
    for log in ("a00", "h00"):
        there = await entries(space, log)
        assert len(kept.export(log).read_bytes().splitlines()) == len(there)
        assert kept.sealed(kept.refresh().pieces[log][0].segment) == there
        assert all(json.loads(line) for line in kept.export(log).read_text("utf-8").split("\n") if line)
    assert [e.why for e in [e async for e in space.events()] if e.raw == "forgotten"] == [evil.strip()]
    assert await wrong(space) == []


GARBAGE = [b"abc", b"", b"-7", b" 12", b"1_2", b"9" * 5_000, b"\xff\x00\x1b[2J", b"1e9"]


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize("value", GARBAGE, ids=lambda v: repr(v[:9]))
@pytest.mark.parametrize(("field", "log"), [("seq", "a00"), ("reads_seq", "h00")])
async def test_a_counter_that_is_no_number_is_named_and_everything_else_is_still_checked(
    space: memgang.Space, field: str, log: str, value: bytes,
) -> None:
    """Somebody has written over it: a breach with its key and what stands there, shortened; a change beside it is found too."""
    await filled(space, 4)
    await sealing.seal(space)
    totals = space.store.keys.at(0, "u")
    await space.store.wire.call("HSET", totals, field, value)

    told = [f for f in await wrong(space) if f.what == "counter"]
    assert [(f.level, f.log, f.shard) for f in told] == [("tampered", log, 0)]
    assert f"{field} in {totals}" in told[0].detail and len(told[0].detail) < 300
    with pytest.raises(ServerUnfit, match=rf"0 entries were sealed, but the counter {field} in .* not a number"):
        await sealing.seal(space)

    await space.store.wire.call("XDEL", space.store.keys.log("a00"), "2-0")
    assert ("removed", "a00", 2) in {(f.what, f.log, f.first) for f in await wrong(space)}
    await space.store.wire.call("DEL", space.store.keys.log(log))
    assert ("removed", log, 1) in {(f.what, f.log, f.first) for f in await wrong(space)}


async def test_what_can_be_sealed_is_sealed_though_a_counter_is_no_number(space: memgang.Space) -> None:
    """Else a word in a counter would keep all shards open for later changes. Reads that wait here are no hindrance."""
    ref = await space.put("one")
    await space.store.wire.call("HSET", space.store.keys.at(0, "u"), "reads_seq", "many")
    await space.get(ref)
    with pytest.raises(ServerUnfit, match="1 entries were sealed, but the counter reads_seq"):
        await sealing.seal(space)
    report = await sealing.report(space)
    assert report.sealed == 1 and {f.what for f in report.findings if f.level == "tampered"} == {"counter"}


@pytest.mark.catalogue("D14")
async def test_something_else_in_place_of_totals_log_or_mark_is_named(space: memgang.Space) -> None:
    """A key of the wrong kind is a finding about that key, and the other logs are checked all the same."""
    await filled(space, 3)
    await sealing.seal(space)
    wire, keys = space.store.wire, space.store.keys
    for key in (keys.at(0, "u"), keys.log("h00"), Keys.sealed(space.name)):
        await wire.call("DEL", key)
        await wire.call("SET", key, "something else")
    await wire.call("XDEL", keys.log("a00"), "2-0")
    found = {(f.what, f.log) for f in await wrong(space)}
    assert found >= {("counter", "a00"), ("replaced", "h00"), ("mark", ""), ("removed", "a00")}, found


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize("value", GARBAGE, ids=lambda v: repr(v[:9]))
async def test_a_mark_that_is_none_is_named_and_put_right_by_the_next_seal(space: memgang.Space, value: bytes) -> None:
    """Both fields that a sealer writes for itself, also with the name of a sealer that never was."""
    key = seals.fingerprint(bytes.fromhex((await sealing.seal(space)).key))
    mark = Keys.sealed(space.name)
    await space.store.wire.call("HSET", mark, f"n:{key}", value, f"upto:{key}", value)
    found = await wrong(space)
    assert [(f.level, f.what) for f in found] == [("tampered", "mark")] * 2 and all(len(f.detail) < 300 for f in found), found
    await sealing.seal(space)
    assert await wrong(space) == []
    await space.store.wire.call("HSET", mark, b"upto:\xff\x00", value)
    assert [f.what for f in await wrong(space)] == ["mark"]


@pytest.mark.catalogue("D14")
async def test_numbers_of_thousands_of_digits_in_an_entry_are_found_and_stop_nothing(space: memgang.Space) -> None:
    """Time and batch of an entry that somebody else put in."""
    await filled(space, 2)
    await sealing.seal(space)
    for log in ("a00", "h00"):
        changed = await entries(space, log)
        words = changed[0][1]
        words[words.index(b"at") + 1] = b"9" * 5_000
        words[words.index(b"id") + 1] = b"x#" + b"9" * 5_000
        await rewrite(space, changed, log)
        await space.store.wire.call("XADD", space.store.keys.log(log), "9000-0", "at", b"9" * 5_000, "id", b"x#" + b"9" * 5_000)
    assert {(f.what, f.log) for f in await wrong(space)} >= {("edited", "a00"), ("edited", "h00")}
    await sealing.seal(space)


FOREIGN = [
    b"hello", b"[1, 2]", b'"text"', b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"seal":' * 100_000, b'{"space":' * 100_000,
    b'{"seal":{"n":"two"},"sig":"00"}', b'{"seal":{},"sig":5}', b'{"version":2,"lines":[]}', b"12", b"  ",
    b'{"space":"SPACE","n":"two","head":"00"}', b'{"space":"SPACE","n":null,"head":"00"}', b'{"space":"SPACE","n":0,"head":"00"}',
    b'{"space":"SPACE","n":-1,"head":"00"}', b'{"space":"SPACE","n":2}', b'{"space":"SPACE","head":"00"}', b'{"space":5,"n":1,"head":"00"}',
    b'{"space":"SPACE","n":' + b"9" * 5_000 + b',"head":"00"}', b'{"space":"SPACE","n":1.5,"head":"00"}',
    b'{"space":"SPACE","n":1,"head":["00"]}',
]


def put_line(path: Path, number: int, line: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:number], line + b"\n", *lines[number:]]))


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize("line", FOREIGN, ids=lambda v: repr(v[:34]))
@pytest.mark.parametrize("at", [0, 1, 3])
async def test_a_foreign_line_in_the_seal_file_is_named_with_its_number_and_the_seals_around_it_are_believed(
    opened: Callable[..., Any], tmp_path: Path, line: bytes, at: int,
) -> None:
    """That line is the only finding, whatever it is; a change elsewhere is found as before, and the sealer says where."""
    async with opened(seal_anchor=tmp_path / "anchor") as space:
        kept = await three_seals(space)
        put_line(kept.seals, at, line.replace(b"SPACE", space.name.encode()))

        report = await sealing.report(space)
        assert [(f.level, f.what) for f in report.findings] == [("tampered", "seal")], report.findings
        assert report.findings[0].detail.startswith(f"line {at + 1} of the seal file: ") and len(report.findings[0].detail) < 300
        assert report.seals == 3
        with pytest.raises(LogBroken, match=f"behind seal {at} stands"):
            await sealing.seal(space)

        edited_line(kept.export("a00"), 1, b"tester", b"mallor")
        drop_line(tmp_path / "anchor", 1)
        put_line(tmp_path / "anchor", 1, json.dumps({"space": space.name, "n": 9, "head": "00", "key": report.key}).encode())
        assert {f.what for f in await wrong(space)} == {"seal", "export", "truncated"}


@pytest.mark.catalogue("D14")
@pytest.mark.parametrize("line", FOREIGN, ids=lambda v: repr(v[:34]))
@pytest.mark.parametrize("at", [0, 1, 3])
async def test_a_foreign_line_in_the_anchor_is_named_with_its_number_and_the_heads_around_it_are_checked(
    opened: Callable[..., Any], tmp_path: Path, line: bytes, at: int,
) -> None:
    """Also as its last line; a seal cut off is found beside it, and the sealer goes on."""
    anchor = tmp_path / "anchor"
    async with opened(seal_anchor=anchor) as space:
        kept = await three_seals(space)
        put_line(anchor, at, line.replace(b"SPACE", space.name.encode()))

        found = [f async for f in sealing.verify(space)]
        # Half a line of a sealer that was killed is no breach, and cannot be told from a line that only begins like one.
        assert [f.what for f in found] == ["anchor"] and f"line {at + 1} of the anchor" in found[0].detail, found
        assert found[0].level == "tampered" and len(found[0].detail) < 300

        await space.put("more")
        await sealing.seal(space)
        assert len(await wrong(space)) == 1
        drop_line(kept.seals, 3)
        assert "truncated" in {f.what for f in await wrong(space)}


async def test_a_seal_of_another_version_is_named_as_that(space: memgang.Space) -> None:
    """Well signed, by a later program perhaps: it is not read as if it were understood."""
    kept = await three_seals(space)
    seal, _, _ = seals.opened(kept.seals.read_bytes().splitlines(keepends=True)[-1])
    later = msgspec.structs.replace(seal, n=4, prev=kept.refresh().head, v=2)
    kept.seals.write_bytes(kept.seals.read_bytes() + seals.signed(later, kept.private()))
    found = await wrong(space)
    assert [f.what for f in found] == ["seal"] and "line 4" in found[0].detail and "version 2" in found[0].detail, found


async def test_a_public_key_file_that_holds_no_key_is_a_finding(space: memgang.Space) -> None:
    """The key beside the seals is one of the files that may have been changed."""
    kept = await three_seals(space)
    kept.public_file.write_text("no key\n")
    assert {(f.what, f.level) for f in await wrong(space)} >= {("seal", "tampered")}
    assert any("key.pub" in f.detail for f in await wrong(space))


async def test_a_seal_that_is_gone_is_one_finding_and_the_rest_of_the_chain_is_believed(space: memgang.Space) -> None:
    """What follows the gap is linked again, so not every later seal is complained of."""
    kept = await three_seals(space)
    await three_seals(space)
    drop_line(kept.seals, 1)
    report = await sealing.report(space)
    assert [f.what for f in report.findings if f.what == "seal"] == ["seal"] and report.seals == 5
