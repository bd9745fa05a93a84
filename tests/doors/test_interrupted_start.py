"""Ctrl-C while the command line is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A signal in the middle of an import, at a place of our choice: the module named last is never found, and asking for
# it is when the signal comes.
INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from memgang.doors.entry import main
at, sys.argv[1:] = sys.argv[-1], ["run", "nowhere", "--engine", "processes", "--workers", "1"]
sys.argv.append(at)
main()
"""


@pytest.mark.parametrize("module", ["memgang.engines.processes", "memgang.doors.cli", "memgang.store.store"])
def test_ctrl_c_before_the_command_has_begun_ends_it_without_a_traceback(module: str) -> None:
    """It ends with one line and the status of an interrupt, whatever was being imported."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, module], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "memgang: stopped\n")


def test_a_shell_that_wants_ctrl_c_ignored_is_obeyed() -> None:
    """A command in the background of a script is started with the signal ignored, and stays so."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, "memgang.doors.cli"], capture_output=True, text=True, timeout=60,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr


def test_a_command_in_the_background_ends_when_it_is_told_to(space_name: str) -> None:
    """Started with Ctrl-C ignored, as a shell does, it still takes SIGTERM for its end."""
    following = subprocess.Popen(
        [sys.executable, "-m", "memgang", "log", "--follow", "--json", "--space", space_name], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        put = subprocess.run([sys.executable, "-m", "memgang", "put", "--text", "x", "--space", space_name], check=True, timeout=60)
        assert put.returncode == 0 and following.stdout is not None and following.stdout.readline()
        following.send_signal(signal.SIGTERM)
        assert following.wait(60) == 130
        assert following.stderr is not None and "Traceback" not in following.stderr.read()
    finally:
        following.kill()
