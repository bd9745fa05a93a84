"""docs/metrics.md: what is measured, from the collector's own table."""

from __future__ import annotations

from memgang.metrics import FAMILIES, Family

NOTE = "<!-- Made by `make docs` from metrics/families.py and docs/metrics_page.py; change that instead. -->\n"

PROMETHEUS = """# Metrics

## For Prometheus

```sh
pip install 'memgang[metrics]'
memgang metrics                     # http://127.0.0.1:9464/metrics and /healthz, of the space MEMGANG_SPACE (--space)
```

```yaml
scrape_configs:
  - job_name: memgang
    static_configs: [{targets: ["127.0.0.1:9464"]}]
```

One exporter for each space is enough, wherever it runs: counters are totals of **all processes and hosts** since the space was made, kept
by the space itself. They do not fall when the exporter or an agent ends, only when the space is erased or its server loses its data, which
Prometheus takes for a reset. A process reports what it has read, and its hits, within 50 ms (`MEMGANG_FLUSH_MS`); what was counted
before a counter was introduced is not in it. `memgang_host_...` is about the exporter's own host. A scrape is one round trip that
costs the same however much is in the space.

The page is Prometheus text, or OpenMetrics for who asks for that. `memgang proxy` serves the same page at `/metrics` (not behind `/v1`), by
its own rules of who may come in. Beyond this machine (`--host`) a token is needed:
`memgang token create prometheus`, and in the scrape configuration `authorization: {credentials: mgt_...}`; where a space has tokens, also
on this machine. One with a scope is refused: the page adds up all scopes. `/healthz` needs none: it says `ok`, or 503 when the server is
away; then `/metrics` is served all the same, with `memgang_up 0`.

No label holds a reference, a URL, a function, a run, a prompt or an answer. Names of agents and limits are shown where you ask for
them (`--agents`, `--limit NAME`; of limits those of a minute), since each is a series of its own.

**Spent, saved and lost are apart.** Spent is what committed attempts used, saved what was not used because an answer, a flight or a read
was shared, lost what attempts without a used answer cost. They are the ledger's figures: of all runs that are still in the log
together, `memgang stats --run` says the same.

[grafana.json](grafana.json) is a dashboard for Grafana 10.4 or newer: Dashboards, New, Import. It asks for a Prometheus data source
(`DS_PROMETHEUS`) and offers the spaces it finds.

Every sample has the label `space`, beside those of the table.
"""

OTEL = """
## For OpenTelemetry

Install `memgang[otel]` (the API) beside your SDK and exporter, and set up a tracer or meter provider, as any program does, **before you
open the space**. Nothing else is to be switched on. Without a provider nothing of OpenTelemetry is imported or called.

| Span | Around | Attributes |
|---|---|---|
| `memgang.recall` | one ask for a call's answer | `memgang.cache`: `hit`, `joined`, `miss` or \
`degraded` (computed while the server was away); `memgang.ref`; `memgang.call.kind`, `memgang.call.function`; \
of a hit or joined call `memgang.saved_tokens`, `memgang.saved_dollars` |
| `chat <model>`, `embeddings <model>` | one request to a language model, only where one was sent: by `Gang.llm`, `Gang.stream` and the \
proxy's shared requests | `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, further `gen_ai.request.*`, \
`gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`, `gen_ai.usage.cache_read.input_tokens`, `gen_ai.response.finish_reasons` |
| `memgang.put`, `memgang.get` | one object, or several (`memgang.count`) | `memgang.ref`, `memgang.kind` |

A span that failed has `error.type`: a status, a code of MemGang's, the class of an error, or `_OTHER` for what a
server calls its error. No prompt, answer, argument or text of an error is in a span. Events of the log bear the id of the trace they
belong to (`trace`). A function that an engine runs in a worker process continues the trace there, if it knows OpenTelemetry.

| Metric | Unit | |
|---|---|---|
| `gen_ai.client.operation.duration` | s | histogram: requests that were sent, with `error.type` where they failed |
| `gen_ai.client.token.usage` | {token} | histogram, by `gen_ai.token.type`: what a provider reported for those requests. Estimated \
counts and saved tokens are never in it |
| `memgang.recall.duration` | s | histogram, by `memgang.cache` and `memgang.call.kind` |
| `memgang.saved.tokens` | {token} | counter, by `memgang.cache`, `memgang.call.kind`, `memgang.token.type` |
| `memgang.saved.cost` | {USD} | counter, by `memgang.cache` and `memgang.call.kind` |

These are of one process, as OpenTelemetry's metrics are. The names `gen_ai.*` are those of semantic conventions
1.44, the last release of the main registry that holds them. The conventions for generative AI have moved to a registry of their own, where
they are in development and metrics are being renamed; all names stand in `memgang/telemetry.py`.

What it costs a hit is measured by `make bench ONLY=telemetry`; results in [../benchmarks/results/](../benchmarks/results/).
"""


def page() -> str:
    """The page."""
    rows = ["| Metric | Type | Labels | |", "|---|---|---|---|", *(_row(family) for family in FAMILIES)]
    return NOTE + PROMETHEUS + "\n" + "\n".join(rows) + "\n" + OTEL


def _row(family: Family) -> str:
    values: list[str] = []
    for place, label in enumerate(family.labels):
        known = dict.fromkeys(labels[place] for labels in family.readings if len(labels) > place)
        values.append(f"`{label}`" + (f" ({', '.join(known)})" if known else ""))
    return f"| `{family.shown}` | {family.kind} | {', '.join(values)} | {family.help} |"
