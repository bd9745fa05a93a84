"""What MemGang promises, and the catalogue of tests that hold it to its promises.

A test says with ``@pytest.mark.catalogue("A4")`` which line it stands for. `make docs` writes docs/promises.md
from this file and those marks, and a test fails when a line has none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent

PROMISES = {
    "P1 Integrity": "`get(ref)` returns the bytes that hash to the reference, or raises. Never other bytes.",
    "P2 Single flight": "Without faults a call is computed once by all processes together; with faults at most once more for each "
                        "lease lost. The work may run more than once, the answer all see is one.",
    "P3 Fencing": "A leader that was replaced changes nothing visible: no commit, no piece of a stream, no lease.",
    "P4 Liveness": "Whoever waits ends with a value, an error or its own timeout: soon after the commit, within lease + 0.5 s of a "
                   "leader's death, at once where its death can be proved on the same host, within one poll of a lost wake-up.",
    "P5 Durability": "What was acknowledged survives kill -9 of the server (append-only file, `everysec`); a power failure may cost "
                     "the last second, and bodies over 64 KiB that only the memory of a host had (`ObjectLost`; a recall computes them "
                     "again). Without persistence nothing survives, and the space comes back empty and correct.",
    "P6 Audit": "Every acknowledged change has its line, written by the same atomic step. Reads of a killed process are written by "
                "others of its host; with the host itself at most one flush interval is lost, none with `audit=\"strict\"`. "
                "What is sealed cannot be edited, removed, cut off or rolled back unseen.",
    "P9 Freshness": "A remembered read is used only while what it read is unchanged. What was forgotten or has expired is not "
                    "handed out.",
}

LINES = {
    "A1": "A killed leader is replaced by one follower, and all get the same value",
    "A1b": "On one host the death of a leader is proved, and nobody waits for its lease",
    "A4": "A leader stopped beyond its lease is fenced and returns the winner's value",
    "A5": "A leader that beats while its work hangs loses the call when its hold ends",
    "A6": "The server is killed under load: nothing acknowledged is lost",
    "A7": "The server comes back empty: commits are refused, leaders publish again, fences still rise",
    "A8": "The reply of every n-th command is lost: nothing happens twice",
    "A11": "A commit in the very moment of a follower's check wakes it",
    "A12": "Calls cancelled at random: no reply reaches the wrong caller, no connection is left",
    "A13": "Failure and death at the 1st, 2nd, ... n-th command of every verb",
    "A14": "Forked, spawned and executed children act for themselves",
    "A17": "The server's clock, or a client's, steps by an hour",
    "A18": "Memory is full: new work is refused before it writes, running work can end",
    "A19": "The network swallows everything without a word",
    "A21": "The disk is full: a clear error, reads go on, no silent loss",
    "A3": "What killed processes left in shared memory is removed by whoever comes next",
    "A2": "A writer of a large body is killed at each of its steps: a whole body, or none and no bytes",
    "A15": "The file system of large bodies is full, its control group is, or an outsider cuts a file short: never a signal",
    "A16": "Large bodies are mapped and removed: their bytes are counted until nobody has them",
    "A30": "The memory of the host goes: a typed miss, recalls compute again, what was small is there",
    "A22": "A flipped bit is seen, whoever flipped it, and never handed out",
    "A25": "A process stopped inside a write of the host tier holds up nobody",
    "A26": "The host tier is full: the oldest go, and nothing fails",
    "A27": "Readers and writers of the host tier are killed: it stays whole",
    "A28": "Nobody reads a host tier that nobody can vouch for",
    "A23": "Workers are killed while a gang maps, shuffles and reduces: the output is the same",
    "A24": "SIGTERM gives up what is led at once",
    "A29": "The whole suite on Valkey and on Redis 7.0",
    "B1": "Histories of processes under faults keep the invariants",
    "B2": "Operations on one key are linearizable",
    "B3": "The space does what a dictionary would",
    "B4": "The protocol as a step function, simulated with losses, pauses, deaths and clock jumps",
    "B12": "What is forgotten is gone on its host at once, on others within a second",
    "B5": "The Lua scripts do what the model does",
    "B6": "Totals are exact, and a budget is kept to within one object",
    "B7": "What was forgotten is nowhere",
    "B8": "What has expired is not served, and its bytes go",
    "B9": "All states of two leaders, a follower, a crash and a restart",
    "B10": "Samples are shared by occurrence",
    "B11": "A changed file or page is never answered from memory",
    "B13": "Eviction takes what the rule names, and never what is protected",
    "B14": "The log of reads under kill -9, lost replies and repeats: none missing, none doubled",
    "C1": "Whatever is made from the proxy's description is answered as it says, and never with a 5xx",
    "C3": "Files made to exhaust a parser are refused in bounded time and memory",
    "C4": "Bodies of every size near every border",
    "C5": "Text of every kind in payloads, and only labels in names",
    "C6": "No text becomes a path",
    "C7": "No text widens a key or a pattern",
    "C8": "Equal calls have one key, different calls have different ones",
    "C9": "Requests made to confuse, to hold and to fill a server: no 5xx, nobody else is held up, memory is bounded",
    "C10": "A provider that cuts, errs or stalls: nothing incomplete is kept, and all who follow have the same outcome",
    "C11": "Foreign and corrupt values in the server are errors with a type, never a crash loop",
    "D1": "Nothing stored is ever run",
    "D2": "Two tenants and the same request: no hit across, and identity is from authentication only",
    "D3": "What another tenant has asked is in no answer and no key; whether in the time is measured (`make bench ONLY=door_timing`)",
    "D4": "Ids and call keys are domain-separated, 160 bits, keyed where guessing would tell",
    "D5": "Similar is never the same",
    "D7": "Foreign Host and Origin are refused on all methods",
    "D8": "Without a token that counts nobody comes in, on any route, and no work is done",
    "D9": "A request cannot choose which server it goes to, nor whose key goes with it",
    "D10": "A URL that somebody else names reaches public addresses alone, at each redirect anew, and gives no more than was asked for",
    "D11": "Tokens are kept as hashes, compared in constant time, and not to be guessed: the sixth wrong one a minute is told to wait",
    "D12": "Unfit servers are refused, weak ones warned of",
    "D14": "Edits, removals and replays of the log are found",
    "D15": "Secrets stay out of logs, keys, errors and metrics",
    "D16": "Modes and owners of files, whatever the umask",
    "D17": "The embedded server opens no port and lets nobody else in",
    "D18": "Limits are shared by all processes: nobody overspends by more than one call, and one that floods shuts out nobody else",
    "D20": "What tools of the MCP door say of themselves holds: forget destroys, and what others wrote is marked as data",
    "E1": "A thousand callers in eight processes, one computation",
    "E6": "Five hundred followers of one stream",
    "E8": "Ten thousand waiters in one process, three connections",
    "E10": "A server with a hundred thousand objects restarts",
    "E12": "The server is gone: each process goes on alone, and says so",
}


def marked() -> Iterator[tuple[str, str, str]]:
    """Every marked test: (id, file, name), in the order of the files."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign):
                continue
            marks = [node.value] if isinstance(node, ast.Assign) else node.decorator_list
            for mark in marks:
                for call in ast.walk(mark):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.catalogue":
                        name = "all of it" if isinstance(node, ast.Assign) else node.name
                        for argument in call.args:
                            yield ast.literal_eval(argument), str(path.relative_to(TESTS.parent)), name
