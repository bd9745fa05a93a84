"""`memgang token`: who may come in by the doors that ask for a token."""

from __future__ import annotations

from typing import Annotated

import typer

from memgang.doors.options import AsJson, SpaceName, within
from memgang.doors.terminal import age, print_json, print_table, say
from memgang.space import Space
from memgang.store import tokens
from memgang.store.tokens import Token

app = typer.Typer(help="Tokens of agents, for `memgang proxy`. Kept as hashes only.", rich_markup_mode=None)


@app.command("create")
def create(
    agent: Annotated[str, typer.Argument(help="Who comes in with it: the agent all its work is stamped with.")],
    scope: Annotated[str, typer.Option(help="Its tenant: answers are shared within one scope and never across.")] = "",
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Make a token and print it. It is shown this once."""
    async def work(opened: Space) -> tuple[Token, str]:
        return await tokens.create(opened.store, agent, scope)

    token, text = within(space, work)
    print_json({"id": token.id, "agent": agent, "scope": scope, "token": text}) if as_json else say(text)


@app.command("list")
def list_(space: SpaceName = None, as_json: AsJson = False) -> None:
    """Show the tokens there are, without their secrets."""
    async def work(opened: Space) -> tuple[list[Token], int]:
        return list((await tokens.read(opened.store)).values()), opened.store.log.server_ms()

    found, now = within(space, work)
    if as_json:
        print_json([{"id": t.id, "agent": t.agent, "scope": t.scope, "created": t.created, "revoked": t.revoked} for t in found])
    else:
        print_table(["ID", "AGENT", "SCOPE", "AGE", "REVOKED"],
                    [(t.id, t.agent, t.scope or "-", age(t.created, now), age(t.revoked, now)) for t in found], right=(3, 4))


@app.command("revoke")
def revoke(
    ident: Annotated[str, typer.Argument(metavar="ID", help="The id, as `memgang token list` shows it.")],
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """End a token. Proxies refuse it within a quarter of a second."""
    async def work(opened: Space) -> Token:
        return await tokens.revoke(opened.store, ident)

    token = within(space, work)
    print_json({"id": token.id, "revoked": token.revoked}) if as_json else say(f"revoked: {token.id} of {token.agent}")
