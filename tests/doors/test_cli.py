"""The command line as people meet it: real processes, a server of their own, right and wrong input."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.doors.conftest import COMMAND, Memgang

REF = re.compile(r"mg:[a-z2-7]{32}")
STORY = """# The bridge

## Condition

The inspection of the bridge found rust on two of the nine bearings. The deck was renewed in 2014 and is in good order.
The engineers recommend that both bearings be replaced before the winter.

## Cost

The replacement of the bearings will cost 80,000 euros. The city pays one third of the cost and the county pays the rest.
"""


def test_what_is_put_can_be_got_by_reference_prefix_and_name(memgang: Memgang) -> None:
    """One process puts, others get the same bytes; the first has stopped the server and the next started it again."""
    ref = memgang("put", "--name", "notes/one", "--tag", "x", stdin="grün\n".encode()).out.strip()

    assert REF.fullmatch(ref)
    assert {memgang("get", known).out for known in (ref, ref[:13], "notes/one")} == {"grün\n"}
    shown = json.loads(memgang("show", "notes/one", "--json").out)
    assert (shown["ref"], shown["names"], shown["meta"]["tags"]) == (ref, ["notes/one"], ["x"])
    assert [o["ref"] for o in json.loads(memgang("find", "--tag", "x", "--json").out)["objects"]] == [ref]


def test_bytes_come_back_as_they_were_when_piped(memgang: Memgang) -> None:
    """A pipe gets every byte, control characters included."""
    body = bytes(range(256))
    ref = memgang("put", stdin=body).out.strip()

    assert memgang("get", ref).raw == body


def test_a_terminal_is_not_commanded_by_what_is_stored(memgang: Memgang) -> None:
    """On a terminal, text loses its escape sequences' control characters."""
    ref = memgang("put", "--text", "a\x1b]0;owned\x07b\x9b31mc").out.strip()
    ours, theirs = pty.openpty()
    child = subprocess.Popen([*COMMAND, "get", ref], stdout=theirs, stderr=subprocess.DEVNULL, env=memgang.env)
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:
        pass  # Linux says EIO when the other side is gone
    os.close(ours)

    assert child.wait(60) == 0
    assert b"a]0;ownedb31mc" in seen
    assert not re.search(rb"[\x00-\x08\x0e-\x1f]|\xc2[\x80-\x9f]", seen)


def test_names_are_set_by_compare_and_set(memgang: Memgang) -> None:
    """A second `--expect 0` is refused with the version that is there; history shows what was."""
    ref = memgang("put", "--text", "one").out.strip()

    assert memgang("names", "set", "plan", ref, "--expect", "0").status == 0
    refused = memgang("names", "set", "plan", ref, "--expect", "0")
    assert refused.status == 1 and "version 1" in refused.err
    assert memgang("names", "remove", "plan").status == 0
    assert [v["ref"] for v in json.loads(memgang("names", "history", "plan", "--json").out)] == [None, ref]
    assert json.loads(memgang("names", "--json").out) == {}


def test_a_forgotten_object_is_gone_and_the_log_says_so(memgang: Memgang) -> None:
    """forget removes, get then fails, and the event is in the log."""
    ref = memgang("put", "--text", "poison").out.strip()

    assert memgang("pin", ref, "--ttl", "1h").status == 0
    assert memgang("forget", ref, "--reason", "test").status == 0
    assert memgang("get", ref).status == 1
    words = [json.loads(line)["raw"] for line in memgang("log", "--json").out.splitlines()]
    assert [word for word in words if word in ("put", "pinned", "forgotten")] == ["put", "pinned", "forgotten"]


@pytest.mark.parametrize(("arguments", "status", "says"), [
    (("get", "nothing/here"), 1, "no object has this name"),
    (("get", "mg:zz"), 1, "at least 8"),
    (("get",), 2, "REF"),
    (("put", "no-such-file"), 1, "No such file"),
    (("put", "--type", "json", "--text", "{"), 1, "not JSON"),
    (("put", "--type", "json", "--text", '{"a": 1, "a": 2}'), 1, "the key 'a' twice"),
    (("put", "--type", "odd", "--text", "x"), 2, "--type"),
    (("ls", "--limit", "0"), 2, "limit"),
    (("ls", "--space", "a b"), 1, "space"),
    (("find", "--since", "tomorrow"), 1, "tomorrow"),
    (("find", "--cursor", "odd"), 1, "cursor"),
    (("names", "history", "never"), 1, "never was"),
    (("stats", "--run", "last"), 1, "no run"),
    (("why", "nothing"), 1, "no computation"),
    (("run", "no-such-file.pdf"), 1, "no-such-file.pdf"),
    (("run", "x", "--out", "no/such/folder/x.md"), 1, "no folder"),
    (("run", "x", "--out", "."), 1, "--out names a file"),
    (("run", "x", "--llm", "nobody"), 1, "extractive"),
    (("log", "export", "no/such/folder/x.jsonl"), 1, "no folder"),
    (("invalidate", ""), 1, "no source"),
    (("dance",), 2, "dance"),
])
def test_wrong_input_gets_one_line_that_helps(memgang: Memgang, arguments: tuple[str, ...], status: int, says: str) -> None:
    """Errors are a sentence on standard error, without a traceback: 1 for what went wrong, 2 for wrong usage."""
    done = memgang(*arguments)

    assert done.status == status, done.err
    assert says in done.err and "Traceback" not in done.err and not done.out
    if status == 1:
        assert len([line for line in done.err.splitlines() if line.startswith("memgang: ")]) == 1


def test_debug_shows_where_it_happened(memgang: Memgang) -> None:
    """--debug anywhere adds the traceback and changes nothing else."""
    done = memgang("get", "--debug", "nothing/here")

    assert done.status == 1 and "Traceback" in done.err


def test_a_wrong_setting_and_a_wrong_server_are_named(memgang: Memgang) -> None:
    """Settings are checked before anything happens; a server that is not there is one line too."""
    assert "lease_ms=5" in memgang("ls", MEMGANG_LEASE_MS="5").err
    away = memgang("doctor", "--json", MEMGANG_URL="redis://127.0.0.1:1")
    assert away.status == 1 and [f for f in json.loads(away.out) if f["level"] == "fail"]


def test_a_run_writes_a_report_whose_citations_lead_back(memgang: Memgang, tmp_path: Path) -> None:
    """run reads, answers and cites; `show` leads from the citation to the file; the second run computes nothing."""
    (tmp_path / "bridge.md").write_text(STORY)
    (tmp_path / "empty.pdf").write_bytes(b"")
    arguments = ("run", "bridge.md", "empty.pdf", "-q", "Who pays for the bearings?")

    first = memgang(*arguments, "--out", "report.md")
    assert first.status == 0, first.err
    text = (tmp_path / "report.md").read_text()
    assert "county pays the rest" in text and "empty.pdf" in text and "selected" in text
    assert "report: report.md" in first.out
    assert not re.search(r"\x1b", first.err), "plain lines when piped"

    cited = re.findall(r"mg:[a-z2-7]{10,32}", text)
    assert cited
    shown = json.loads(memgang("show", cited[0], "--json").out)
    assert shown["places"][0]["source"].endswith("bridge.md")

    # Without the empty file: what could not be read is looked at again each time, in case it has been mended.
    second = json.loads(memgang("run", "bridge.md", *arguments[3:], "--json").out)
    assert second["savings"]["physical"].get("calls", 0) == 0
    assert second["report"]["answers"]
    assert "avoided" in memgang("stats", "--run", "last").out
    assert memgang("why").status == 0


def test_a_run_over_unreadable_input_fails_and_says_why(memgang: Memgang, tmp_path: Path) -> None:
    """Exit status 1 when nothing could be read; the file is named with the reason."""
    (tmp_path / "empty.pdf").write_bytes(b"")

    done = memgang("run", "empty.pdf", "--out", "report.md")

    assert done.status == 1 and "empty.pdf" in done.err
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(("limit", "says"), [
    (("--tpm", "5"), ("the limit is 5 a window", "raise tokens_per_minute (--tpm) above ")),
    (("--max-usd", "0.000001"), ("the budget of run ", "is $0.000001", "raise the limit")),
])
def test_a_run_whose_limit_lets_nothing_through_fails_in_one_line(
    memgang: Memgang, tmp_path: Path, limit: tuple[str, str], says: tuple[str, ...],
) -> None:
    """Exit status 1, no report; the line has the numbers and what to do."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bridge.md").write_text(STORY)
    (tmp_path / "in" / "cover.md").write_text("# Bridges\n\nPrinted for the county.\n")  # its part needs no model

    done = memgang("run", "in", "--llm", "simulated:latency_ms=0", *limit, "--out", "report.md")

    last = done.err.splitlines()[-1]
    assert done.status == 1 and last.startswith("memgang: ") and all(text in last for text in says), done.err
    assert not (tmp_path / "report.md").exists()


def test_doctor_is_content_with_a_fresh_embedded_server(memgang: Memgang) -> None:
    """Every finding is fine, and stop then has nothing left to do."""
    done = memgang("doctor", "--json")

    assert done.status == 0, done.out
    assert {f["level"] for f in json.loads(done.out)} <= {"ok", "warn"}
    assert json.loads(memgang("stop", "--json").out)["outcome"] == "not running"


GUEST = """
import asyncio, os, sys
import memgang
async def main():
    async with memgang.open(flush_ms=3_600_000, agent="guest") as space:
        for i in range(3):
            await space.get(await space.put(f"text {i}"))
        print(os.getpid(), flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


def test_doctor_shows_what_this_host_shares_and_who_sees_to_it(memgang: Memgang, tmp_path: Path) -> None:
    """What lies in the tier, how large it is, who reads the log behind it, whose events wait; and what was exported."""
    guest = subprocess.Popen([sys.executable, "-c", GUEST], env=memgang.env, stdout=subprocess.PIPE, text=True)
    assert guest.stdout is not None
    pid = int(guest.stdout.readline())
    try:
        done = memgang("doctor", "--json", MEMGANG_LOG_EXPORT_DIR=str(tmp_path / "out"))
    finally:
        guest.kill()
        guest.communicate()
    found = {f["what"]: f for f in json.loads(done.out)}
    host = found["host tier"]
    assert host["level"] == "ok" and re.match(r"3 bodies and 0 answers, [\d.]+ k?B of [\d.]+ [MG]B in ", host["detail"]), host
    assert str(tmp_path / "host") in host["detail"] and re.search(rf"; log read [\d.]+ s ago by process {pid}; ", host["detail"])
    assert host["detail"].endswith("events of 2 processes wait to be written")
    assert found["log export"]["detail"] == f"0 files, 0 B in {tmp_path / 'out' / 'default'}: nothing yet"
    assert "log export" not in memgang("doctor").out

    (tmp_path / "host" / f"memgang-{os.geteuid()}").chmod(0o777)
    none = {f["what"]: f for f in json.loads(memgang("doctor", "--json").out)}["host tier"]
    assert none["level"] == "warn" and "MEMGANG_HOST_DIR" in none["fix"]
    off = {f["what"]: f for f in json.loads(memgang("doctor", "--json", MEMGANG_HOST_TIER="off").out)}["host tier"]
    assert (off["level"], off["detail"]) == ("ok", "off")


def test_doctor_tells_where_large_bodies_are_and_whether_there_is_room(memgang: Memgang, tmp_path: Path) -> None:
    """In memory, on the disk or at the server; a container's 64 MB of shared memory are worth a word."""
    def large(**env: str) -> dict[str, str]:
        return {f["what"]: f for f in json.loads(memgang("doctor", "--json", **env).out)}["large bodies"]

    memgang("put", "--text", "z" * 100_000)
    found = large()
    assert found["level"] == "ok" and re.match(r"0 B of [\d.]+ GB in .*, 10\d(\.\d)? kB on the disk", found["detail"]), found
    little = large(MEMGANG_HOST_FILES_BYTES="16000000")
    assert little["level"] == "warn" and "--shm-size" in little["fix"] and "MEMGANG_HOST_DIR" in little["fix"]
    assert large(MEMGANG_PLACEMENT="network")["detail"] == "to the server; copies of 0 B on this host"


def test_help_lists_every_command_and_completion_is_offered(memgang: Memgang) -> None:
    """--help names what the pages promise; the shells' completion is there."""
    text = memgang("--help").out

    for word in "run compare put get show ls find names forget pin log stats why doctor stop --install-completion".split():
        assert word in text


def test_following_the_log_ends_at_an_interrupt_without_a_traceback(memgang: Memgang) -> None:
    """log --follow prints what is there, waits for more, and leaves on Ctrl-C."""
    memgang("put", "--text", "x")
    child = memgang.start("log", "--follow", "--json")
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["raw"]
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)

    assert child.returncode == 130 and "Traceback" not in err


def test_following_the_log_tells_each_line_once_and_none_less_than_a_later_look(memgang: Memgang, tmp_path: Path) -> None:
    """Of what was there the last lines that were asked for; then all that a run writes, in several processes and out of order."""
    (tmp_path / "bridge.md").write_text(STORY)
    memgang("put", "--text", "before")
    child = memgang.start("log", "--follow", "--json", "--limit", "1")
    ending = threading.Timer(60, child.kill)  # what is missing would be waited for
    ending.start()
    try:
        assert child.stdout is not None
        told = [json.loads(child.stdout.readline())]
        ran = memgang("run", "bridge.md", "--out", "one")
        assert ran.status == 0, ran.err
        looked = [json.loads(line)["id"] for line in memgang("log", "--run", "last", "--json", "--limit", "100000").out.splitlines()]
        while line := child.stdout.readline():
            told.append(json.loads(line))
            if set(looked) <= {event["id"] for event in told}:
                break
    finally:
        ending.cancel()
        child.kill()
        child.communicate()

    ids = [event["id"] for event in told]
    assert len(looked) > 10 and set(looked) <= set(ids) and len(ids) == len(set(ids))


def test_a_source_is_invalidated_and_the_reach_is_shown_first(memgang: Memgang, tmp_path: Path) -> None:
    """A dry run changes nothing and says how much; the real one takes all of it, from the disk too; the next run computes anew."""
    (tmp_path / "bridge.md").write_text(STORY)
    first = memgang("run", "bridge.md", "--out", "one")
    assert first.status == 0, first.err

    def on_disk() -> bytes:
        return b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())

    assert b"rust on two of the nine bearings" in on_disk()
    shown = memgang("invalidate", "bridge.md", "--dry-run")
    assert shown.status == 0 and re.search(r"would forget \d+ objects, .* answers of \d+ calls", shown.out), shown.out
    assert "1 document" in shown.out and "of runs:" in shown.out and REF.search(shown.out)
    dry = json.loads(memgang("invalidate", "bridge.md", "--dry-run", "--json").out)
    done = json.loads(memgang("invalidate", "bridge.md", "--scrub", "--reason", "test", "--json").out)
    assert done["refs"] == dry["refs"] and done["scrubbed"] and dry["dry_run"] and not done["dry_run"]
    assert memgang("get", done["refs"][0]).status == 1
    assert b"rust on two of the nine bearings" not in on_disk()

    refused = memgang("invalidate", "bridge.md")
    assert refused.status == 1 and "nothing that was read from there" in refused.err


def test_what_was_made_from_an_object_is_forgotten_with_it_on_request(memgang: Memgang) -> None:
    """--cascade says how much went; a dry run of one object leaves it."""
    ref = memgang("put", "--text", "poison", "--name", "its/name").out.strip()

    assert "would forget 1 object" in memgang("forget", "its/name", "--cascade", "--dry-run").out
    assert memgang("get", ref).status == 0
    done = memgang("forget", ref[:14], "--cascade", "--remove-names")
    assert done.status == 0 and "its/name (taken away)" in done.out
    assert memgang("forget", ref, "--cascade").status == 1
