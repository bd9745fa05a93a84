"""The file a worker process begins in: it learns the paths, then imports the worker.

Run as a file, so that nothing has been imported when the paths of the process that started it are put in
place::

    python -P start.py FRAMES PARENT

FRAMES is the descriptor of the socket, PARENT the process to die with (0: do not ask the system for it).
Standard input is a pipe that ends when the parent does.
"""

import _thread
import os
import signal
import sys


def main(frames: int, parent: int) -> None:
    """Make this process a quiet child, then serve until there is nobody left to serve."""
    # Ctrl-C reaches everybody at the terminal; the parent hears it too and ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline = os.dup(0)
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.close(quiet)
    # What is printed here must not come between the lines of a command that prints JSON.
    os.dup2(2, 1)
    _thread.start_new_thread(_die_at_the_end_of, (lifeline,))
    # The event loop that feeds us, and the server, go first where processors are short: while they wait, nobody has work.
    os.nice(8)
    if parent:
        _die_with(parent)
    size = int.from_bytes(_exactly(frames, 4), "big")
    sys.path[:] = [entry for entry in _exactly(frames, size).decode("utf-8", "surrogateescape").split("\0") if entry]
    from memgang.engines import worker

    worker.serve(frames)


def _die_at_the_end_of(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os._exit(0)


def _die_with(parent: int) -> None:
    """Ask the kernel to end us with the parent: the thread above waits while C code holds the interpreter."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before we could ask
        os._exit(0)


def _exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            more = os.read(fd, size - len(data))
        except OSError:
            more = b""
        if not more:
            os._exit(0)
        data += more
    return data


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
