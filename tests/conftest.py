"""What every test may ask for: a space on a real embedded server that lives and dies with the test session."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.settings import Settings
from memgang.store.server import Lodging

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def private_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One embedded server of our own for the whole session; nothing of the user's is touched."""
    home = tmp_path_factory.mktemp("memgang")
    (home / "host").mkdir()
    names = {"MEMGANG_STATE_DIR": str(home / "state"), "MEMGANG_RUNTIME_DIR": str(home / "run"), "MEMGANG_HOST_DIR": str(home / "host")}
    for name in list(os.environ):
        # MEMGANG_SERVER stays: `make test MEMGANG_SERVER=/usr/bin/redis-server` runs all on another server.
        if name.startswith(("MEMGANG_", "OPENAI_")) and name != "MEMGANG_SERVER":
            del os.environ[name]
    os.environ.update(names)
    lodging = Lodging.enter(Settings.load())  # stays until the end, so that no test pays for a start
    yield names
    lodging.leave()


@pytest.fixture
def space_name() -> str:
    """A space nobody else uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def opened(space_name: str) -> Callable[..., Any]:
    """Opens this test's space, as often as wanted and with any settings: ``async with opened(lease_ms=1000) as space``."""

    @asynccontextmanager
    async def open_it(**settings: Any) -> AsyncIterator[memgang.Space]:
        async with memgang.open(**{"space": space_name, "agent": "tester", **settings}) as space:
            yield space

    return open_it


@pytest.fixture
async def space(opened: Callable[..., Any]) -> AsyncIterator[memgang.Space]:
    """An empty space with a short lease."""
    async with opened(lease_ms=1000, beat_ms=250) as space:
        yield space


@pytest.fixture
def data() -> Path:
    """The inputs that ship with the tests."""
    return Path(__file__).parent / "fixtures"
