"""llama.cpp's own OpenAI-compatible server, on a port of this machine, with a model of the test's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp


@dataclass
class Served:
    """Where it is, and what it has done."""

    url: str
    server: Any

    @property
    def written(self) -> int:
        """Tokens it has written since it was started."""
        return written(self.server)


def written(server: Any) -> int:
    """Tokens a server has written since it was started, by its own count."""
    lines = server.handle_metrics().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("llamacpp:tokens_predicted_total "))))


@contextlib.contextmanager
def served(model: Path) -> Iterator[Served]:
    """It runs while this is open."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 2048, 1, 1, 1
    params.endpoint_metrics, params.verbosity, params.warmup, params.ui = True, -1, False, False
    here = Served("", xllamacpp.Server(params))
    assert here.written == 0  # and it has answered once: only then it can be ended
    here.url = here.server.listening_address + "/v1"
    yield here
    del here.server  # ends it, and waits for that
