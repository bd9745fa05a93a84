"""Parsing in worker processes: its limits, and the files that are parsed before anybody has asked."""

from __future__ import annotations

import os
from collections.abc import Sequence

from memgang import readers
from memgang.engines import processes
from memgang.engines.calls import Limits

# What parsing one source may take. A text of the largest size that is read needs about half of it.
PARSE = Limits(wall_s=60.0, cpu_s=60, memory_mb=1_024)

# Of a run that has read all before, parsing ahead is in vain: so only what is parsed within milliseconds, and not much of it.
AHEAD_SUFFIXES = (".md", ".markdown", ".txt", ".html", ".htm")
AHEAD_FILES = 128
AHEAD_FILE_BYTES = 256 * 1024
AHEAD_BYTES = 4 * 1024 * 1024


def ahead(sources: Sequence[str]) -> int:
    """Have workers that wait for their first call parse these sources meanwhile, as `reading.read_all` will ask for; how many.

    Raises:
        ConfigError: a URL holds a user or password.
    """
    chosen: list[tuple[str]] = []
    left = AHEAD_BYTES
    for source in readers.expand(sources):
        if len(chosen) == AHEAD_FILES or not source.lower().endswith(AHEAD_SUFFIXES):
            continue
        try:
            size = os.stat(source).st_size
        except OSError:  # a URL, or what reading will say
            continue
        if size <= min(left, AHEAD_FILE_BYTES):
            left -= size
            chosen.append((os.path.realpath(source),))
    processes.begin(readers.read_file, chosen, PARSE)
    return len(chosen)
