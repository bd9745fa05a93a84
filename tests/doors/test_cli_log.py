"""`memgang log`: sealed, verified and exported at the command line, in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.doors.conftest import Memgang


@pytest.mark.catalogue("D14")
def test_a_sealed_log_is_verified_and_a_change_fails_the_command(memgang: Memgang, tmp_path: Path) -> None:
    """Status 0 and one line when all is well; status 1 and a line for each finding when it is not."""
    memgang("put", "--text", "one")
    sealed = memgang("log", "seal")
    assert sealed.status == 0, sealed.err
    key = sealed.out.splitlines()[1].removeprefix("public key: ")
    good = memgang("log", "--verify", "--key", key)
    assert good.status == 0 and good.out.splitlines()[-1].startswith("ok: space default, 1 seals"), good.out + good.err

    export = tmp_path / "state" / "seals" / "default" / "a00.jsonl"
    export.write_bytes(export.read_bytes().replace(b"put", b"gut"))
    bad = memgang("log", "--verify")
    assert bad.status == 1
    assert bad.out.splitlines()[0] == ("tampered  export       changes of shard 0, 1: the exported entries are not those "
                                          "that were sealed (seal 1)")
    told = json.loads(memgang("log", "--verify", "--json").out)
    assert not told["ok"] and [(f["what"], f["log"], f["shard"], f["first"]) for f in told["findings"] if f["level"] != "note"] == [
        ("export", "a00", 0, 1)]
    assert memgang("log", "--verify", "--key", "nonsense").status == 1


def test_the_log_is_exported_as_lines_and_as_a_table(memgang: Memgang, tmp_path: Path) -> None:
    """The same events in both, and those that `log --json` prints; any other name is refused."""
    memgang("put", "--text", "one", "--tag", "x")
    memgang("get", memgang("put", "--text", "two").out.strip())
    printed = [json.loads(line) for line in memgang("log", "--json", "-n", "1000").out.splitlines()]
    assert memgang("log", "export", "events.jsonl").status == 0
    assert memgang("log", "export", "events.parquet").out.strip().endswith("events in events.parquet")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert [e["id"] for e in lines[:len(printed)]] == [e["id"] for e in printed]

    pyarrow = pytest.importorskip("pyarrow.parquet")
    rows = pyarrow.read_table(tmp_path / "events.parquet").to_pylist()
    assert [r["id"] for r in rows[:len(lines)]] == [e["id"] for e in lines]
    assert {r["raw"] for r in rows} >= {"put", "read"} and rows[0]["own_tokens_in"] == 0

    refused = memgang("log", "export", "events.csv")
    assert refused.status == 1 and ".jsonl or .parquet" in refused.err
    assert not (tmp_path / "events.csv").exists() and not list(tmp_path.glob(".*.part"))


def test_sealing_goes_on_until_it_is_interrupted(memgang: Memgang) -> None:
    """seal --follow seals what others write, and leaves on Ctrl-C without a traceback."""
    child = memgang.start("log", "seal", "--follow", MEMGANG_SEAL_MS="100")
    assert child.stdout is not None
    assert child.stdout.readline().startswith("sealed: ") and child.stdout.readline().startswith("public key: ")
    memgang("put", "--text", "later")
    for _ in range(100):
        told = json.loads(memgang("log", "--verify", "--json").out)
        if told["sealed"] and not told["unsealed"]:
            break
    assert told["sealed"] and told["ok"], told
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in err


@pytest.mark.catalogue("D14")
def test_what_somebody_wrote_over_is_told_in_lines_and_never_as_a_traceback(memgang: Memgang, tmp_path: Path) -> None:
    """A counter that is no number, and foreign lines in seal file and anchor: findings of --verify, one line from seal."""
    memgang.env["MEMGANG_SEAL_ANCHOR"] = str(tmp_path / "anchor")
    memgang("put", "--text", "one")
    assert memgang("log", "seal").status == 0
    child = subprocess.run([sys.executable, "-c", OVERWRITE], env=memgang.env, cwd=tmp_path, timeout=120)
    assert child.returncode == 0

    sealed = memgang("log", "seal")
    assert sealed.status == 1 and sealed.out == "" and len(sealed.err.splitlines()) == 1, sealed.err
    assert "0 entries were sealed, but the counter seq in mg:{default.00}:u is 'many' and not a number" in sealed.err

    (tmp_path / "anchor").open("a").write("hello\n")
    with (tmp_path / "state" / "seals" / "default" / "seals.jsonl").open("a") as file:
        file.write("[1, 2]\n")
    bad = memgang("log", "--verify")
    assert bad.status == 1 and bad.err == "", bad.err
    told = [line for line in bad.out.splitlines() if line.startswith("tampered")]
    assert [line.split()[1] for line in told] == ["seal", "anchor", "counter"]
    assert "line 2 of the seal file" in told[0] and "line 2 of the anchor" in told[1]
    assert told[2].startswith("tampered  counter      changes of shard 0: the counter seq in mg:{default.00}:u is 'many'")
    sealed = memgang("log", "seal")
    assert sealed.status == 1 and len(sealed.err.splitlines()) == 1 and "behind seal 1 stands '[1, 2]'" in sealed.err


OVERWRITE = """
import asyncio, memgang
async def main():
    async with memgang.open() as space:
        await space.store.wire.call("HSET", space.store.keys.at(0, "u"), "seq", "many")
asyncio.run(main())
"""
