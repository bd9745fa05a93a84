"""What the tests of the harness share: a seed that is printed and can be given, and servers of their own."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.chaos.servers import PrivateServer

# Before the session's fixture clears the environment of MEMGANG_*.
SEED = os.environ.get("MEMGANG_SEED", "")
FAILED = pytest.StashKey[bool]()
SOAK = bool(os.environ.get("MEMGANG_SOAK"))


@pytest.fixture
def seed() -> int:
    """New in each run, printed, and replayed by MEMGANG_SEED."""
    number = int(SEED) if SEED else random.randrange(1 << 30)
    print(f"MEMGANG_SEED={number}")
    return number


@pytest.fixture
def many() -> Callable[[int, int], int]:
    """How often: the first number with each push, the second with MEMGANG_SOAK=1."""
    return lambda push, soak: soak if SOAK else push


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let `place` know how its test ended."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory with a short name (a socket's path has at most 107 bytes). After a failure it stays, to be looked into."""
    folder = Path(tempfile.mkdtemp(prefix="mgc-"))
    yield folder
    if FAILED in request.node.stash:
        print(f"histories and server logs are kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def private(place: Path) -> Iterator[PrivateServer]:
    """A server of this test's own, with an append-only file."""
    with PrivateServer(place / "server") as server:
        yield server
