"""Settings are checked once, say what is wrong with the numbers, and keep secrets out of sight."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from memgang.errors import ConfigError
from memgang.settings import PRICES, Price, Settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing to us."""
    for name in list(os.environ):
        if name.startswith(("MEMGANG_", "OPENAI_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lease_ms", "20000", 20_000),
        ("lease_ms", "20_000", 20_000),
        ("socket_timeout_s", "2.5", 2.5),
        ("stay", "yes", True),
        ("stay", " ON ", True),
        ("stay", "0", False),
        ("stay", "False", False),
        ("space", "team-a", "team-a"),
        ("prices", "/p.toml", Path("/p.toml")),
        ("state_dir", "~/x", Path.home() / "x"),
        ("fail", "closed", "closed"),
        ("url", "redis://h", "redis://h"),
        ("server", "/bin/x", "/bin/x"),
        ("space", "", "default"),
    ],
)
def test_the_environment_sets_what_arguments_do_not(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    """MEMGANG_<NAME> is read as the type of the setting; an empty variable is one not set; arguments win."""
    monkeypatch.setenv(f"MEMGANG_{name.upper()}", text)
    assert getattr(Settings.load(), name) == value
    monkeypatch.setenv("MEMGANG_LEASE_MS", "30000")
    assert Settings.load(lease_ms=40_000).lease_ms == 40_000
    assert Settings.load(lease_ms=None).lease_ms == 30_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lease_ms", "ten"),
        ("lease_ms", "1.5"),
        ("lease_ms", "0"),
        ("stay", "perhaps"),
        ("socket_timeout_s", "x"),
        ("fail", "maybe"),
        ("shards", "257"),
        ("beat_ms", "-1"),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """The message has the name and the value, so the line in the environment can be found."""
    monkeypatch.setenv(f"MEMGANG_{name.upper()}", text)
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert name in str(caught.value).lower() and text in str(caught.value)


def test_every_setting_can_be_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing each default into its variable changes nothing: parser and fields agree."""
    default = Settings()
    for name in (field.name for field in dataclasses.fields(Settings)):
        value = getattr(default, name)
        if value is not None:
            monkeypatch.setenv(f"MEMGANG_{name.upper()}", str(value))
    assert Settings.load() == default


POSITIVE = (
    "lease_ms",
    "beat_ms",
    "hold_ms",
    "attempts",
    "poll_ms",
    "negative_ttl_ms",
    "answer_ttl_ms",
    "guard_ms",
    "patience_ms",
    "part_bytes",
    "body_bytes_max",
    "flush_ms",
    "flush_events",
    "log_keep_hours",
    "log_entries_max",
    "janitor_ms",
    "socket_timeout_s",
    "llm_timeout_s",
)


@pytest.mark.parametrize("name", POSITIVE)
def test_what_must_be_positive_is(name: str) -> None:
    """Zero and less are refused by name and number."""
    for value in (0, -5):
        with pytest.raises(ConfigError, match=f"{name}={value} must be greater than 0"):
            Settings(**{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"lease_ms": 3000, "beat_ms": 1000},
            "beat_ms=1000 must be less than a third of lease_ms=3000: otherwise two lost beats lose the claim",
        ),
        ({"shards": 0}, "shards=0 must be between 1 and 256"),
        ({"shards": 257}, "shards=257 must be between 1 and 256"),
        ({"inline_bytes_max": -1}, "inline_bytes_max=-1 must be between 0 and part_bytes="),
        ({"inline_bytes_max": 11, "part_bytes": 10}, "inline_bytes_max=11 must be between 0 and part_bytes=10"),
        ({"flush_events": 1001}, "flush_events=1001 must be at most 1000: a batch is one log entry"),
        ({"budget_bytes": -1}, "budget_bytes=-1 must be 0 (none) or more"),
        ({"fail": "maybe"}, "fail='maybe' must be one of open, closed"),
        ({"verify": ""}, "verify='' must be one of always, once"),
        ({"audit": "x"}, "audit='x' must be one of batched, strict"),
        ({"on_abandon": "x"}, "on_abandon='x' must be one of finish, cancel"),
        ({"on_lease_lost": "x"}, "on_lease_lost='x' must be one of finish, cancel"),
    ],
)
def test_a_contradiction_is_explained(given: dict[str, Any], message: str) -> None:
    """The message has both numbers and the reason."""
    with pytest.raises(ConfigError) as caught:
        Settings(**given)
    assert message in str(caught.value)


def test_the_edges_of_every_check_are_allowed() -> None:
    """The last value before an error is fine."""
    Settings(lease_ms=3001, beat_ms=1000, shards=256, flush_events=1000, inline_bytes_max=0, budget_bytes=0)
    Settings(inline_bytes_max=10, part_bytes=10, shards=1)


def test_an_unknown_setting_is_refused_with_those_there_are() -> None:
    """A typing error does not pass silently."""
    with pytest.raises(ConfigError, match=r"unknown setting: leese_ms; known are .*lease_ms"):
        Settings.load(leese_ms=1)


def test_secrets_are_not_shown() -> None:
    """Neither the key nor a URL, which may hold a password, is in the repr."""
    shown = repr(Settings(openai_api_key="sk-secret", url="redis://:password@h"))
    assert "secret" not in shown and "password" not in shown


def test_the_provider_s_own_variables_are_read_after_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the provider comes from its own variable, and ours wins over it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert Settings.load().openai_api_key == "sk-theirs" and Settings.load().openai_base_url == "http://localhost:1/v1"
    monkeypatch.setenv("MEMGANG_OPENAI_API_KEY", "sk-ours")
    assert (
        Settings.load().openai_api_key == "sk-ours"
        and Settings.load(openai_api_key="sk-given").openai_api_key == "sk-given"
    )


def test_a_copy_is_checked_again() -> None:
    """with_ keeps the rest and refuses nonsense."""
    settings = Settings(space="a")
    assert settings.with_(shards=4) == Settings(space="a", shards=4)
    with pytest.raises(ConfigError):
        settings.with_(shards=0)


def test_homes_follow_the_desktop_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG variables are followed where they are set; without a runtime directory each user has one of their own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert (Settings().state_dir, Settings().runtime_dir) == (tmp_path / "state/memgang", tmp_path / "run/memgang")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Settings().state_dir == Path.home() / ".local/state/memgang"
    assert Settings().runtime_dir.name == f"memgang-{os.getuid()}"


# ── prices ──


def test_a_price_file_is_put_over_the_built_in_table(tmp_path: Path) -> None:
    """New models are added, known ones replaced, and a cached price left out is the price of input."""
    path = tmp_path / "prices.toml"
    path.write_text(
        '[mine]\ninput = 1\noutput = 2.5\nas_of = "2026-01-01"\n[gpt-5]\ninput = 9\noutput = 9\ncached = 0\n'
    )
    table = Settings.load(prices=str(path)).price_table()
    assert table["mine"] == Price(1.0, 2.5, 1.0, "2026-01-01")
    assert table["gpt-5"] == Price(9.0, 9.0, 0.0, "no date given")
    assert table["gpt-5-mini"] == PRICES["gpt-5-mini"] and PRICES["gpt-5"].input != 9


@pytest.mark.parametrize(
    "text",
    [
        "[m]\ninput = 1\n",
        "[m]\ninput = 'x'\noutput = 1\n",
        "[m]\ninput = -1\noutput = 1\n",
        "m = 3\n",
        "not toml",
        "[m]\ninput = nan\noutput = 1\n",
    ],
)
def test_a_bad_price_file_is_named(tmp_path: Path, text: str) -> None:
    """The message has the file; an entry that is wrong is named too."""
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        Settings(prices=path).price_table()
    with pytest.raises(ConfigError, match="cannot read the price file"):
        Settings(prices=tmp_path / "missing.toml").price_table()


def test_every_built_in_price_has_a_date_or_says_why_not() -> None:
    """Prices are numbers of dollars, cached input costs no more than input, and each says of which day it is."""
    for name, price in PRICES.items():
        assert 0 <= price.cached <= price.input <= price.output, name
        assert price.as_of in ("simulated", "no charge") or len(price.as_of) == 10
