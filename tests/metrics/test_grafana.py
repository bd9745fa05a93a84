"""The dashboard in docs/grafana.json asks for what is on the page, and has the form Grafana imports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memgang.metrics import FAMILIES
from tests.metrics.conftest import TEXT

BOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text("utf-8"))
KNOWN = {"timeseries", "stat", "row"}
# What queries name besides metrics and labels.
WORDS = {"sum", "min", "max", "by", "rate"}


def panels() -> Iterator[dict[str, Any]]:
    """All panels, those of closed rows too."""
    for panel in BOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions() -> list[str]:
    """All queries."""
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


async def test_every_metric_asked_for_is_on_the_page(opened: Callable[..., Any], scraped: Any) -> None:
    """In the exposition of a space with a budget and a named limit; and so is every label and every value it selects."""
    async with opened(budget_bytes=1_000_000) as space:
        await space.put("x")
        page = await scraped(space, TEXT, limits=["any"])
    there = {name for name, _ in page}
    labels = {(name, label, text) for name, has in page for label, text in has}

    asked = {name for expr in expressions() for name in re.findall(r"\bmemgang_\w+", expr)}
    missing = asked - there - {"memgang_janitor_age_seconds"}  # of a space whose house was not kept yet
    assert not missing and len(asked) > 25
    assert asked <= {family.shown for family in FAMILIES}
    for expr in expressions():
        for name, selector in re.findall(r"(memgang_\w+)\{([^}]*)\}", expr):
            for label, text in re.findall(r'(\w+)=~?"([^"]*)"', selector):
                for one in text.split("|"):
                    assert text == "$space" or (name, label, one) in labels, f"{name}: {label}={one}"


def test_counters_are_asked_for_by_rate_or_as_totals_and_gauges_never_by_rate() -> None:
    """`rate` of a gauge is nonsense, and a panel over a time without `rate` shows a counter since the beginning: only where it says so."""
    kinds = {family.shown: family.kind for family in FAMILIES}
    for panel in panels():
        for target in panel.get("targets", ()):
            for name in re.findall(r"\bmemgang_\w+", target["expr"]):
                rated = re.search(rf"rate\({name}\b", target["expr"]) is not None
                assert not rated or kinds[name] == "counter", target["expr"]
                assert rated or kinds[name] == "gauge" or panel["type"] == "stat" or "since the space was made" in panel["title"]
            bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|\$\w+|memgang_\w+', " ", target["expr"])
            assert set(re.findall(r"[a-z]+", bare)) <= WORDS and target["expr"].count("(") == target["expr"].count(")")


def test_spent_and_saved_are_never_added_up() -> None:
    """No query has both."""
    assert not [expr for expr in expressions() if "_spent_" in expr and "_saved_" in expr]


def test_it_has_the_form_that_is_imported() -> None:
    """The fields Grafana needs; a schema that Grafana 10.4 and newer migrate; ids and references that are there once."""
    assert BOARD["title"] and re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", BOARD["uid"]) and 36 <= BOARD["schemaVersion"] <= 42
    assert "id" not in BOARD, "the number of a dashboard is the server's to give"
    assert set(BOARD["time"]) == {"from", "to"} and isinstance(BOARD["annotations"]["list"], list)
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)) and all(isinstance(one, int) and one > 0 for one in ids)
    for panel in panels():
        assert panel["type"] in KNOWN and panel["title"]
        targets = panel.get("targets", [])
        assert panel["type"] == "row" or targets
        assert len({target["refId"] for target in targets}) == len(targets)


def test_its_data_source_is_a_variable_that_is_declared() -> None:
    """Every panel, query and variable asks ${DS_PROMETHEUS}, which lets the viewer choose; no uid of somebody's own is in it."""
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert (variables["DS_PROMETHEUS"]["type"], variables["DS_PROMETHEUS"]["query"]) == ("datasource", "prometheus")
    named = re.findall(r"\$\{?(\w+)", json.dumps(BOARD))
    assert set(named) - {"__rate_interval", "__all"} == set(variables)
    for panel in panels():
        for asks in ([] if panel["type"] == "row" else [panel]) + panel.get("targets", []):
            assert asks["datasource"] == {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    assert variables["space"]["datasource"]["uid"] == "${DS_PROMETHEUS}"


def test_no_panel_lies_on_another() -> None:
    """Within 24 columns, none over another, no gap between rows."""
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]

    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)
    assert {y for _, y in cells} == set(range(max(y for _, y in cells) + 1))


@pytest.mark.parametrize("panel", [p for p in panels() if p["type"] != "row"], ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """A sentence, a unit, and a legend wherever there is more than one line."""
    assert panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["targets"]) == 1 or all(target["legendFormat"] for target in panel["targets"])
