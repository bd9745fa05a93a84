"""`memgang token`: who may come in by the doors that ask for a token, and how much each may ask and spend."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import typer

from memgang.doors.options import AsJson, SpaceName, within
from memgang.doors.terminal import age, print_json, print_table, say
from memgang.errors import ConfigError
from memgang.space import Space
from memgang.store import tokens
from memgang.store.allowances import Account, Allowance, Spent
from memgang.store.tokens import Token

app = typer.Typer(help="Tokens of agents, for `memgang proxy` and `memgang mcp --http`. Kept as hashes only.", rich_markup_mode=None)

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RATE = re.compile(r"(\d{1,7})/(\d{0,5})([smhd])\Z")
WINDOW_S_MAX = 7 * 86_400

BudgetUsd = Annotated[float | None, typer.Option(
    help="The most dollars its agent may spend in all, with whatever token. Answers from memory are free.", show_default=False)]
BudgetTokens = Annotated[int | None, typer.Option(
    min=0, help="The most tokens its agent may have providers use in all.", show_default=False)]
Rate = Annotated[str, typer.Option(help="How many requests it may make, as 60/m, 5/s, 1000/h or 100/10s.", show_default=False)]
AtOnce = Annotated[int, typer.Option("--concurrent", min=0, help="How many requests it may make at once. 0: no limit.")]
Ident = Annotated[str, typer.Argument(metavar="ID", help="The id, as `memgang token list` shows it.")]


@app.command("create")
def create(
    agent: Annotated[str, typer.Argument(help="Who comes in with it: the agent all its work is stamped with.")],
    scope: Annotated[str, typer.Option(help="Its tenant: answers are shared within one scope and never across.")] = "",
    budget_usd: BudgetUsd = None, budget_tokens: BudgetTokens = None, rate: Rate = "", concurrent: AtOnce = 0,
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Make a token and print it. It is shown this once."""
    allows = _allowance(budget_usd, budget_tokens, rate, concurrent)

    async def work(opened: Space) -> tuple[Token, str]:
        return await tokens.create(opened.store, agent, scope, allows)

    token, text = within(space, work)
    print_json({"id": token.id, "agent": agent, "scope": scope, "token": text}) if as_json else say(text)


@app.command("limit")
def limit(
    ident: Ident, budget_usd: BudgetUsd = None, budget_tokens: BudgetTokens = None, rate: Rate = "", concurrent: AtOnce = 0,
    space: SpaceName = None, as_json: AsJson = False,
) -> None:
    """Change what a token allows: exactly what is named here, all else is without limit. What was spent stays spent."""
    allows = _allowance(budget_usd, budget_tokens, rate, concurrent)

    async def work(opened: Space) -> Token:
        return await tokens.limit(opened.store, ident, allows)

    token = within(space, work)
    print_json(_told(token, Spent())["allows"]) if as_json else say(f"{token.id} of {token.agent}: {_limits(token) or 'no limits'}")


@app.command("list")
def list_(space: SpaceName = None, as_json: AsJson = False) -> None:
    """Show the tokens there are, without their secrets: what each allows, and what its agent has spent of that."""
    async def work(opened: Space) -> tuple[list[tuple[Token, Spent]], int]:
        store = opened.store
        return [(token, await Account(store.keys, token.scope, token.agent).spent(store.wire))
                for token in (await tokens.read(store)).values()], store.log.server_ms()

    found, now = within(space, work)
    if as_json:
        print_json([_told(token, spent) for token, spent in found])
    else:
        print_table(["ID", "AGENT", "SCOPE", "LIMITS", "SPENT", "AGE", "REVOKED"],
                    [(t.id, t.agent, t.scope or "-", _limits(t) or "-", _spent(t, spent) or "-", age(t.created, now), age(t.revoked, now))
                     for t, spent in found], right=(5, 6))


@app.command("revoke")
def revoke(ident: Ident, space: SpaceName = None, as_json: AsJson = False) -> None:
    """End a token. Proxies refuse it within a quarter of a second."""
    async def work(opened: Space) -> Token:
        return await tokens.revoke(opened.store, ident)

    token = within(space, work)
    print_json({"id": token.id, "revoked": token.revoked}) if as_json else say(f"revoked: {token.id} of {token.agent}")


def _allowance(budget_usd: float | None, budget_tokens: int | None, rate: str, concurrent: int) -> Allowance:
    if budget_usd is not None and not 0 <= budget_usd < 1e9:  # also what is no number
        raise ConfigError(f"--budget-usd {budget_usd} must be 0 or more dollars")
    if budget_tokens is not None and budget_tokens >= 2**50:
        raise ConfigError(f"--budget-tokens {budget_tokens} is more than can be counted")
    requests, window_s = 0, 60
    if rate:
        form = _RATE.match(rate)
        if form is None:
            raise ConfigError(f"--rate {rate[:40]!r} must be a number of requests in a time, as 60/m, 5/s, 1000/h or 100/10s")
        requests, window_s = int(form[1]), int(form[2] or 1) * _SECONDS[form[3]]
        if not requests or not 1 <= window_s <= WINDOW_S_MAX:
            raise ConfigError(f"--rate {rate} must be at least one request, in 1 second to 7 days")
    # Rounded down: what is less than a micro-dollar cannot be spent.
    money = None if budget_usd is None else math.floor(round(budget_usd * 1_000_000, 3))
    return Allowance(requests, window_s * 1_000, concurrent, budget_tokens, money)


def _told(token: Token, spent: Spent) -> dict[str, Any]:
    allows = token.allows
    return {
        "id": token.id, "agent": token.agent, "scope": token.scope, "created": token.created, "revoked": token.revoked,
        "allows": {"requests": allows.requests, "window_s": allows.window_ms / 1000, "concurrent": allows.places,
                   "tokens": allows.tokens, "usd": None if allows.money is None else allows.money / 1e6},
        "spent": {"tokens": spent.tokens, "usd": spent.money / 1e6},
        "reserved": {"tokens": spent.held_tokens, "usd": spent.held_money / 1e6}}


def _limits(token: Token) -> str:
    allows, window_s = token.allows, token.allows.window_ms // 1000
    count, unit = next((window_s // length, unit) for unit, length in reversed(_SECONDS.items()) if window_s % length == 0)
    return ", ".join(filter(None, [
        f"{allows.requests}/{count if count != 1 else ''}{unit}" if allows.requests else "",
        f"{allows.places} at once" if allows.places else "",
        f"{allows.tokens:,} tokens" if allows.tokens is not None else "",
        f"${allows.money / 1e6:,.2f}" if allows.money is not None else ""]))


def _spent(token: Token, spent: Spent) -> str:
    return ", ".join(filter(None, [
        f"{spent.tokens:,} tokens" if token.allows.tokens is not None else "",
        f"${spent.money / 1e6:,.6f}" if token.allows.money is not None else ""]))
