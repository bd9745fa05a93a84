"""`memgang metrics`: what a space counts, for a Prometheus server to read."""

from __future__ import annotations

from typing import Annotated

import typer

from memgang.doors.options import SpaceName
from memgang.doors.terminal import say
from memgang.settings import Settings


def metrics(
    host: Annotated[str, typer.Option(help="Where to listen. Beyond this machine a token is always needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 9464,
    require_token: Annotated[bool, typer.Option("--require-token", help="Let in nobody without a token, also from this machine.")] = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name of this server in the Host header.")] = None,
    limit: Annotated[list[str] | None, typer.Option(
        help="Show the state of the limit of this name (`Limits(name=...)`, else the model's name). May be given several times.",
        show_default=False)] = None,
    agents: Annotated[bool, typer.Option("--agents", help="Show the bytes of each agent: a series for each, by name.")] = False,
    space: SpaceName = None,
) -> None:
    """Serve the totals of a space at /metrics, as Prometheus text or OpenMetrics, and its health at /healthz.

    Counters are those of all processes since the space was made. Where a token is needed, give it to Prometheus as
    `authorization: {credentials: mgt_...}`. docs/metrics.md lists what is there; docs/grafana.json is a dashboard for it.
    """
    # Here: no other command needs what is behind it.
    from memgang.doors.metrics.serving import serve
    from memgang.doors.proxy.serving import Place

    settings = Settings.load(space=space)
    place = Place(host=host, port=port, hosts=allow_host or (), require_token=require_token)

    def ready(address: str, name: str) -> None:
        say(f"memgang metrics on {address}, space {name}")

    try:
        serve(settings, place, ready, limits=limit or (), agents=agents)
    except KeyboardInterrupt:
        pass  # how people end it
    say("stopped")
