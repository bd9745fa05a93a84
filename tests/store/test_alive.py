"""Proof of death: a lock file tells the dead from the living, the stopped and the unknown."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memgang.store import alive

SIGN_IN = """
import sys
from pathlib import Path
from memgang.store import alive
from memgang.store.process import incarnation
alive.sign_in(Path(sys.argv[1]))
print(incarnation(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def neighbour(tmp_path: Path):
    """Another process that has signed in; its incarnation, and the process."""
    process = subprocess.Popen([sys.executable, "-c", SIGN_IN, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), process
    process.kill()
    process.communicate()


def settled(place: Path, inc: str) -> bool:
    """What is found after the pause between two looks."""
    time.sleep(alive.CHECK_S)
    return alive.dead(place, inc)


@pytest.mark.catalogue("A1b")
def test_a_killed_process_is_proved_dead_and_a_stopped_one_is_not(tmp_path, neighbour) -> None:
    """SIGSTOP keeps the lock; kill -9 frees it."""
    inc, process = neighbour
    assert not alive.dead(tmp_path, inc)
    process.send_signal(signal.SIGSTOP)
    assert not settled(tmp_path, inc)

    process.kill()
    process.wait()

    assert settled(tmp_path, inc)


def test_a_process_nobody_has_heard_of_is_not_proved_dead(tmp_path) -> None:
    """A missing file, a name that is no name and our own file prove nothing."""
    alive.sign_in(tmp_path)

    assert not alive.dead(tmp_path, "0" * 32)
    assert not alive.dead(tmp_path, "../alive")
    assert not settled(tmp_path, alive.incarnation())


def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path) -> None:
    """The child lets go of the lock it has inherited, so the parent's death shows while the child lives."""
    source = SIGN_IN.replace("sys.stdin.readline()", """
import os, time
if os.fork() == 0:
    sys.stdout.close()
    sys.stdin.readline()
    os._exit(0)
os.kill(os.getpid(), 9)
""")
    parent = subprocess.Popen([sys.executable, "-c", source, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    inc = parent.stdout.readline().strip()
    parent.wait()
    try:
        deadline = time.monotonic() + 30
        while not settled(tmp_path, inc):
            assert time.monotonic() < deadline, "the child holds its parent's file locked"
    finally:
        parent.communicate()  # its standard input ends, and with it the child


def test_a_forked_child_sees_its_parent_die(tmp_path) -> None:
    """What the parent held is not the child's: else it would take it for alive, as each does itself."""
    source = SIGN_IN.replace("sys.stdin.readline()", """
import os, time
me = incarnation()
if os.fork() == 0:
    while not alive.dead(Path(sys.argv[1]), me):
        time.sleep(alive.CHECK_S)
    print("dead", flush=True)
    os._exit(0)
os.kill(os.getpid(), 9)
""")
    done = subprocess.run([sys.executable, "-c", source, str(tmp_path)], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[1:] == ["dead"]


def test_two_who_look_at_once_do_not_take_each_other_for_the_living(tmp_path) -> None:
    place = alive.folder(tmp_path)
    place.mkdir(mode=0o700)
    (place / ("a" * 32)).touch()
    with (place / ("a" * 32)).open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert alive.dead(tmp_path, "a" * 32)


def test_a_file_has_its_name_only_when_it_is_locked(tmp_path, monkeypatch) -> None:
    """Else who looks in between would prove a living process dead."""
    seen, real = [], alive.try_lock

    def look(fd: int, **words) -> bool:
        seen.append((alive.folder(tmp_path) / alive.incarnation()).exists())
        return real(fd, **words)

    monkeypatch.setattr(alive, "try_lock", look)
    alive.sign_in(tmp_path)
    assert seen == [False] and (alive.folder(tmp_path) / alive.incarnation()).exists()


def test_a_file_that_is_about_to_be_locked_is_not_tidied_away(tmp_path) -> None:
    """Nor marked; one that has been about to for long is a killed process's."""
    place = alive.folder(tmp_path)
    place.mkdir(mode=0o700)
    young, old = place / ".young", place / ".old"
    for path in (young, old):
        path.touch(0o600)
    os.utime(old, (0, 0))
    alive._tidy(place)
    assert young.stat().st_mode & 0o777 == 0o600 and old.stat().st_mode & 0o777 == 0o400


def test_the_files_of_those_long_dead_are_tidied_away(tmp_path, monkeypatch) -> None:
    """They are marked when first found dead, and gone an hour after that."""
    place = alive.folder(tmp_path)
    place.mkdir(mode=0o700)
    corpse = place / ("a" * 32)
    corpse.touch()
    alive._tidy(place)
    assert corpse.exists()

    os.utime(corpse, (0, 0))
    alive._tidy(place)

    assert not corpse.exists()
