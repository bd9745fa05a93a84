"""docs/grafana.json: a dashboard for what `memgang metrics` serves. Here are its questions; the rest is the form Grafana wants."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
IN = 'space=~"$space"'
COLUMNS = 24
# Colours by meaning, as everywhere in MemGang: gold is reuse and nothing else. The others are told apart by the colour-blind too.
GOLD, BLUE, GREY, RED, GREEN, PURPLE = "#E5A823", "#3B8FD4", "#8A919C", "#D1495B", "#2A9D8F", "#8E6FBF"


class Query(NamedTuple):
    """One line of a panel."""

    expr: str
    legend: str
    colour: str = ""


class Panel(NamedTuple):
    """One panel. ``width`` is in columns of 24."""

    title: str
    says: str
    queries: tuple[Query, ...]
    width: int
    unit: str = "short"
    kind: str = "timeseries"  # stat | timeseries
    stacked: bool = False


def _rate(metric: str, by: str = "", where: str = "") -> str:
    inside = f"{metric}{{{IN}{', ' + where if where else ''}}}"
    return f"sum{f' by ({by})' if by else ''} (rate({inside}[$__rate_interval]))"


def _sum(metric: str, by: str = "", where: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} ({metric}{{{IN}{', ' + where if where else ''}}})"


def _share(by: str = "") -> str:
    reused = _rate("memgang_calls_total", by, 'outcome=~"hit|joined"')
    asked = _rate("memgang_calls_total", by, 'outcome=~"hit|joined|computed"')
    return f"{reused} / {asked}"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("At a glance", (
        Panel("Server", "Whether the server answers.", (Query(f"min (memgang_up{{{IN}}})", ""),), 3, kind="stat"),
        Panel("Reused now", "Of the calls that were answered, those that nobody had to compute.", (Query(_share(), "", GOLD),), 3,
              "percentunit", "stat"),
        Panel("Tokens saved", "Since the space was made.", (Query(_sum("memgang_saved_tokens_total"), "", GOLD),), 4, kind="stat"),
        Panel("Tokens spent", "Since the space was made.", (Query(_sum("memgang_spent_tokens_total"), "", BLUE),), 4, kind="stat"),
        Panel("Saved", "By the price table.", (Query(_sum("memgang_saved_dollars_total"), "", GOLD),), 3, "currencyUSD", "stat"),
        Panel("Spent", "By the price table.", (Query(_sum("memgang_spent_dollars_total"), "", BLUE),), 3, "currencyUSD", "stat"),
        Panel("Memory objects", "In the space now.", (Query(_sum("memgang_objects"), "", GREY),), 4, kind="stat"),
    )),
    ("Calls", (
        Panel("Calls a second, by how they were answered", "Hit and joined cost nothing; failed attempts may be tried again.", (
            Query(_rate("memgang_calls_total", "", 'outcome="hit"'), "hit", GOLD),
            Query(_rate("memgang_calls_total", "", 'outcome="joined"'), "joined", "#F2CC72"),
            Query(_rate("memgang_calls_total", "", 'outcome="computed"'), "computed", BLUE),
            Query(_rate("memgang_calls_total", "", 'outcome="failed"'), "failed", RED)), 12, "reqps", stacked=True),
        Panel("Share of reuse, by kind of call", "Models, functions, reads and tools apart.",
              (Query(_share("kind"), "{{kind}}"),), 12, "percentunit"),
        Panel("Waiting for others", "Seconds of waiting in a second: calls that somebody else was computing.", (
            Query(_rate("memgang_wait_seconds_total"), "seconds waited", PURPLE),
            Query(_rate("memgang_waits_total"), "waits begun", GREY)), 8),
        Panel("What went wrong", "Failed, given up, taken over, overtaken, died.", (
            Query(_rate("memgang_calls_total", "", 'outcome="failed"'), "failed", RED),
            Query(_rate("memgang_released_total"), "given up", GREY),
            Query(_rate("memgang_takeovers_total"), "taken over", PURPLE),
            Query(_rate("memgang_fenced_total"), "fenced", BLUE),
            Query(_rate("memgang_died_total"), "process died", "#7A1F2B"),
            Query(_rate("memgang_refused_total"), "refused", GREEN)), 8),
        Panel("Language models behind a limit", "Of limits named by --limit: under way, and waiting in line.", (
            Query(_sum("memgang_limit_running_calls", "limit"), "{{limit}} running"),
            Query(_sum("memgang_limit_waiting_calls", "limit"), "{{limit}} waiting"),
            Query(_sum("memgang_limit_pause_seconds", "limit"), "{{limit}} pause, s")), 8),
    )),
    ("Tokens and money: what was spent and what was not are never added up", (
        Panel("Tokens a second", "Saved tokens are counted when an answer is used again.", (
            Query(_rate("memgang_spent_tokens_total", "type"), "spent, {{type}}", BLUE),
            Query(_rate("memgang_saved_tokens_total", "type"), "saved, {{type}}", GOLD),
            Query(_rate("memgang_lost_tokens_total"), "lost", RED)), 12),
        Panel("Saved tokens a second, by cause", "The answer was there; somebody was at it; a read was remembered.",
              (Query(_rate("memgang_saved_tokens_total", "cause"), "{{cause}}"),), 12, stacked=True),
        Panel("Dollars, since the space was made", "Models without a price count as 0.", (
            Query(_sum("memgang_saved_dollars_total"), "saved", GOLD),
            Query(_sum("memgang_spent_dollars_total"), "spent", BLUE),
            Query(_sum("memgang_lost_dollars_total"), "lost", RED)), 12, "currencyUSD"),
        Panel("Work, in seconds a second", "More than 1 is more than one worker.", (
            Query(_rate("memgang_saved_seconds_total"), "saved", GOLD),
            Query(_rate("memgang_spent_seconds_total"), "spent", BLUE),
            Query(_rate("memgang_overhead_seconds_total"), "waiting for the server", GREY)), 12, "s"),
    )),
    ("Memory", (
        Panel("Bytes", "Of all memory objects, and the budget where one is set.", (
            Query(_sum("memgang_objects_bytes"), "held", BLUE), Query(f"max (memgang_budget_bytes{{{IN}}})", "budget", RED)), 8, "bytes"),
        Panel("Objects that went, a second", "Evicted to make room, or expired.", (
            Query(_rate("memgang_evictions_total"), "evicted", RED), Query(_rate("memgang_expirations_total"), "expired", GREY)), 8),
        Panel("Host tier of the exporter's host", "What is read there without asking the server.", (
            Query(_sum("memgang_host_bytes"), "held", BLUE), Query(_sum("memgang_host_limit_bytes"), "limit", GREY)), 8, "bytes"),
        Panel("Log", "Entries it holds. Older ones are trimmed.", (Query(_sum("memgang_log_entries", "log"), "{{log}}"),), 8),
        Panel("Entries written a second", "Changes, and batches of reads.",
              (Query(_rate("memgang_log_written_entries_total", "log"), "{{log}}"),), 8),
        Panel("House was kept", "Since expired objects were last looked for. It grows when no process of the space runs.",
              (Query(f"max (memgang_janitor_age_seconds{{{IN}}})", "ago", PURPLE),), 8, "s"),
    )),
)


def page() -> str:
    """The dashboard as JSON, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}})
        top += 1
        left, height = 0, 0
        for panel in row:
            if left + panel.width > COLUMNS:
                left, top = 0, top + height
            height = 4 if panel.kind == "stat" else 8
            panels.append(_panel(panel, len(panels) + 1, {"h": height, "w": panel.width, "x": left, "y": top}))
            left += panel.width
        top += height
    return json.dumps({
        "title": "MemGang", "uid": "memgang", "tags": ["memgang", "agents"], "editable": True, "schemaVersion": 39, "version": 1,
        "description": "What a gang of agents shares: calls, savings, memory, health. Made by docs/grafana_page.py.",
        "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "graphTooltip": 1,
        "annotations": {"list": []}, "links": [], "templating": {"list": [
            {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0,
             "regex": "", "multi": False, "includeAll": False, "options": [], "current": {}},
            {"name": "space", "label": "Space", "type": "query", "datasource": SOURCE, "refresh": 2, "hide": 0, "sort": 1,
             "definition": "label_values(memgang_up, space)", "regex": "",
             "query": {"query": "label_values(memgang_up, space)", "refId": "spaces"}, "multi": True, "includeAll": True,
             "options": [], "current": {"text": "All", "value": "$__all", "selected": True}}]},
        "panels": panels}, indent=1, ensure_ascii=False) + "\n"


def _panel(panel: Panel, ident: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [{"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend,
                "instant": panel.kind == "stat", "range": panel.kind != "stat"} for n, query in enumerate(panel.queries)]
    form: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.title == "Server":
        form |= {"mappings": [{"type": "value", "options": {"0": {"text": "away", "color": RED}, "1": {"text": "up", "color": GREEN}}}],
                 "color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": [
                     {"color": RED, "value": None}, {"color": GREEN, "value": 1}]}}
    elif panel.kind == "stat":
        form |= {"color": {"mode": "fixed", "fixedColor": panel.queries[0].colour}}
    else:
        form |= {"color": {"mode": "palette-classic"}, "custom": {
            "drawStyle": "line", "lineWidth": 2, "fillOpacity": 25 if panel.stacked else 8, "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"}}}
    overrides = [] if panel.kind == "stat" else [
        {"matcher": {"id": "byFrameRefID", "options": chr(ord("A") + n)},
         "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": query.colour}}]}
        for n, query in enumerate(panel.queries) if query.colour and "{{" not in query.legend]
    options: dict[str, Any] = (
        {"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "value", "orientation": "auto",
         "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}} if panel.kind == "stat" else
        {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}})
    return {"id": ident, "type": panel.kind, "title": panel.title, "description": panel.says, "datasource": SOURCE,
            "gridPos": place, "targets": targets, "fieldConfig": {"defaults": form, "overrides": overrides}, "options": options}
