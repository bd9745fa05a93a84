"""`memgang proxy`: agents that speak to OpenAI's interface share one memory by changing one address."""

from __future__ import annotations

from typing import Annotated

import typer

from memgang.doors.options import SpaceName
from memgang.doors.terminal import say
from memgang.settings import Settings


def proxy(
    upstream: Annotated[list[str] | None, typer.Option(
        help="The server that answers: URL, or PREFIX=URL for the models whose names begin so (a prefix that ends with / is taken "
             "off). ollama:, vllm:, lmstudio: and llama_server: are URLs too. May be given several times.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Where to listen. Beyond this machine a token is always needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 4180,
    require_token: Annotated[bool, typer.Option("--require-token", help="Let in nobody without a token, also from this machine.")] = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name of this server in the Host header.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="An Origin whose pages may ask, as http://localhost:3000.")] = None,
    max_body_mb: Annotated[int, typer.Option(min=1, max=1024, help="The largest request, in MB.")] = 10,
    space: SpaceName = None,
) -> None:
    """Serve an OpenAI-compatible API that answers from memory what any agent has asked before.

    Point a client's base_url at the address that is printed. The upstream's key is read from MEMGANG_OPENAI_API_KEY or
    OPENAI_API_KEY, those of further upstreams from MEMGANG_PROXY_KEYS; keys that clients send are never passed on.
    """
    # Here: no other command needs what is behind it.
    from memgang.doors.proxy.serving import Place, serve

    settings = Settings.load(space=space)
    named = upstream or [settings.openai_base_url or "https://api.openai.com/v1"]
    place = Place(host=host, port=port, hosts=allow_host or (), origins=allow_origin or (), require_token=require_token,
                  body_bytes_max=max_body_mb * 1_000_000)

    def ready(address: str, name: str) -> None:
        say(f"memgang proxy on {address}, space {name}, upstream {', '.join(named)}")

    try:
        serve(settings, named, place, ready)
    except KeyboardInterrupt:
        pass  # how people end it
    say("stopped")
