"""Savings: what sharing saved, by which rule, at which prices, and what it cost to save it."""

from __future__ import annotations

from typing import Any

import altair as alt
import streamlit as st

from memgang.doors.dashboard.sheets.charts import causes, chart_of, palette
from memgang.doors.dashboard.sheets.shown import records
from memgang.doors.dashboard.texts import plain, span
from memgang.doors.dashboard.view import View
from memgang.flock import fold as folds
from memgang.flock.descent import unused
from memgang.flock.fold import Fold
from memgang.flock.spans import Moment, growth
from memgang.flock.tape import Header

_CAUSES = {"hit": "found in memory", "joined": "joined while it was computed", "read": "a read or tool not repeated",
           "reference": "a reference instead of the bytes", "prefix": "the provider's own prompt cache"}

_COUNTED = ("LLM calls", "not made", "calls of any kind", "tokens in", "tokens out", "tokens", "not spent", "agent time, s", "bytes")


def by_cause(totals: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each cause that saved anything, then what was spent, and both together."""
    table = [_row(f"not spent: {_CAUSES[cause]}", figures) for cause, figures in totals["avoided_by_cause"].items()
             if any(figures.values())]
    return [*table, _row("not spent, in all", totals["avoided"]), _row("spent", totals["physical"]),
            _row("without a common memory", totals["virtual"]), _row("lost (attempts without an answer; in no other line)", totals["lost"])]


def _row(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {"": name, "LLM calls": figures["llm_calls"], "calls of any kind": figures["calls"], "tokens in": figures["tokens_in"],
            "tokens out": figures["tokens_out"], "dollars": figures["micro_usd"] / 1e6, "agent time, s": figures["ms"] / 1000,
            "bytes": figures["bytes"]}


def by_role(fold: Fold) -> list[dict[str, Any]]:
    """What each role spent, and did not."""
    sums: dict[str, tuple[folds.Sum, folds.Sum]] = {}
    for agent in fold.agents.values():
        spent, saved = sums.setdefault(agent.role or "(none)", (folds.Sum(), folds.Sum()))
        spent.add(agent.spent.figures)
        saved.add(agent.saved.figures)
    told = [(role, spent.told(), saved.told()) for role, (spent, saved) in sorted(sums.items())]
    return [{"role": role, "LLM calls": spent["llm_calls"], "not made": saved["llm_calls"],
             "tokens": spent["tokens_in"] + spent["tokens_out"], "not spent": saved["tokens_in"] + saved["tokens_out"],
             "dollars": spent["micro_usd"] / 1e6, "dollars not spent": saved["micro_usd"] / 1e6} for role, spent, saved in told]


def points(moments: list[Moment], what: str) -> list[dict[str, Any]]:
    """The chart's values: made and not made by cause, at each moment. ``what``: calls, tokens or dollars."""
    out = []
    for m in moments:
        made, saved = {"calls": (m.calls, m.saved_calls), "tokens": (m.tokens, m.saved_tokens),
                       "dollars": (m.micro_usd, m.saved_micro_usd)}[what]
        scale = 1e6 if what == "dollars" else 1
        for order, (cause, amount) in enumerate([("made", made), *saved.items()]):
            out.append({"t": m.t / 1000, "cause": cause, "amount": amount / scale, "order": order})
    return out


def page(view: View) -> None:
    """Draw it."""
    fold = view.fold(t=view.t)
    totals = fold.totals()
    _headline(totals)
    what = st.segmented_control("Over time", ["calls", "tokens", "dollars"], default="calls", key="savings_what") or "calls"
    st.altair_chart(chart_of(points(growth(records(view), 120), what)).mark_area(interpolate="step-after").encode(
        x=alt.X("t:Q", title="s since the run began"), y=alt.Y("amount:Q", title=f"{'LLM calls' if what == 'calls' else what}"),
        color=alt.Color("cause:N", scale=causes(palette())), order="order:Q",
        tooltip=["cause:N", "t:Q", "amount:Q"]), key="growth")
    st.caption("Grey was made and paid for. Gold was not made, by cause; each counts what the call that was not made had cost once.")
    money = {name: st.column_config.NumberColumn(format="localized") for name in _COUNTED}
    money |= {name: st.column_config.NumberColumn(format="$%.6f") for name in ("dollars", "dollars not spent")}
    st.dataframe(by_cause(totals), hide_index=True, column_config=money)
    st.subheader("By role")
    st.dataframe(by_role(fold), hide_index=True, column_config=money)
    _cost(fold, totals)
    _prices(view.header or view.tape().header, totals)


def _headline(totals: dict[str, Any]) -> None:
    avoided, virtual = totals["avoided"], totals["virtual"]
    share = avoided["llm_calls"] / virtual["llm_calls"] if virtual["llm_calls"] else 0.0
    tokens, all_tokens = (figures["tokens_in"] + figures["tokens_out"] for figures in (avoided, virtual))
    about = "~" if avoided["estimated"] or virtual["estimated"] else ""
    columns = st.columns(4)
    columns[0].metric("of LLM calls not made", f"{share:.0%}", help=f"{avoided['llm_calls']:,} of {virtual['llm_calls']:,}")
    columns[1].metric("tokens not spent", f"{about}{tokens:,}", help=f"of {all_tokens:,}")
    columns[2].metric("dollars not spent", f"{about}${avoided['micro_usd'] / 1e6:,.4f}", help=f"of ${virtual['micro_usd'] / 1e6:,.4f}")
    columns[3].metric("agent time not spent", span(avoided["ms"]), help="Of all agents together; it is not time on the clock.")
    if about:
        st.caption("~ marks figures that rest on estimated token counts.")


def _cost(fold: Fold, totals: dict[str, Any]) -> None:
    """The other side of the account."""
    left = unused(fold)
    waited, overhead, saved = totals["counts"]["wait_us"] / 1000, totals["overhead_us"] / 1000, totals["avoided"]["ms"]
    st.subheader("What it cost")
    worth = f"{saved / (waited + overhead):,.1f} times that was saved" if waited + overhead else "nothing"
    st.dataframe([
        {"": "MemGang's own time", "amount": span(overhead)},
        {"": "time agents waited for an answer under way", "amount": span(waited)},
        {"": "both together, against agent time not spent", "amount": worth},
        {"": "memory written and never used", "amount": f"{len(left):,} objects, {sum(o.bytes for o in left):,} bytes"},
        {"": "memory written that was there already",
         "amount": f"{totals['counts']['known_writes']:,} writes, {totals['counts']['bytes_known']:,} bytes"},
    ], hide_index=True)
    if saved < waited + overhead:
        st.warning("Sharing cost more agent time than it saved in this run.")


def _prices(header: Header, totals: dict[str, Any]) -> None:
    st.subheader("Prices")
    if header.price:
        st.dataframe([{"model": header.model, **{name: str(value) for name, value in header.price.items()}}], hide_index=True)
        st.caption("Dollars per million tokens, as they stood in the price table when the run began.")
    elif totals["virtual"]["micro_usd"] or totals["lost"]["micro_usd"]:
        st.caption("The price table was not recorded with this run; its dollars are as they were counted when the calls were made.")
    else:
        st.caption(f"There is no price for {plain(header.model or 'this model')}: its dollars are 0. "
                   "MEMGANG_PRICES names a file with prices of your own.")
    if header.synthetic:
        st.info("The model was simulated: latency, tokens and prices are made up. Calls and their sharing are real.")
    if totals["lost"]["llm_calls"]:
        st.caption(f"{totals['lost']['llm_calls']:,} calls were paid for and came to nothing; they are in no other sum.")
