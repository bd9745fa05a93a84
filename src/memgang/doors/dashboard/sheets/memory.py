"""Memory: what is stored, how large and for how long, what was never read, where an object comes from and what rests on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import altair as alt
import streamlit as st

from memgang.doors.dashboard.sheets.charts import chart_of, palette, treemap
from memgang.doors.dashboard.sheets.shown import records
from memgang.doors.dashboard.texts import command, line, moment, plain, span
from memgang.doors.dashboard.view import View
from memgang.errors import MemGangError
from memgang.flock.descent import children, down, unused, up
from memgang.flock.fold import Fold, Light
from memgang.flock.records import ID, ring
from memgang.flock.tape import ALL
from memgang.lineage import Forgotten
from memgang.model import MemoryObject
from memgang.space import Space

LISTED = 200
LOOKED_AT = 2_000  # records of the space that the forecast reads
PREVIEW_MAX = 4_000  # characters
_LINK = {"object": st.column_config.LinkColumn(display_text=r"sel=object%3A(.+)$")}
_ORDERS = {
    "hottest": "most reused, then most read", "biggest": "most bytes", "newest": "written last",
    "never used": "written, and nobody has read it, reused it, or made anything from it", "gone": "forgotten, evicted or expired"}


def by_kind(fold: Fold) -> list[dict[str, Any]]:
    """One row for each kind of object."""
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    left = {light.id for light in unused(fold)}
    for light in fold.lights.values():
        if light.written and not light.gone:
            sums[light.kind or "(unknown)"].update(
                {"objects": 1, "bytes": light.bytes, "reads": light.reads, "reused": light.reuses,
                 "never used": light.id in left})
    return [{"kind": line(kind, 40), **{name: int(row[name]) for name in ("objects", "bytes", "reads", "reused", "never used")}}
            for kind, row in sorted(sums.items(), key=lambda item: -item[1]["bytes"])]


def listed(fold: Fold, order: str) -> list[Light]:
    """The objects of one list, in its order."""
    there = [o for o in fold.lights.values() if o.written]
    match order:
        case "biggest":
            return sorted(there, key=lambda o: -o.bytes)
        case "newest":
            return sorted(there, key=lambda o: -o.born)
        case "never used":
            return sorted(unused(fold), key=lambda o: -o.bytes)
        case "gone":
            return sorted((o for o in fold.lights.values() if o.gone), key=lambda o: -o.bytes)
        case _:
            return sorted(there, key=lambda o: (-o.reuses, -o.reads, -o.bytes))


def forecast(records: list[MemoryObject], now: int, buckets: int = 24) -> list[dict[str, Any]]:
    """How many bytes expire when, in equal steps up to the last of them; what never expires is in none."""
    ends = [(record.expires - now, record.size) for record in records if record.expires > now]
    if not ends:
        return []
    step = max(1.0, max(ms for ms, _ in ends) / buckets)
    sums: Counter[int] = Counter()
    for ms, size in ends:
        sums[min(buckets - 1, int(ms / step))] += size
    return [{"in": (place + 1) * step / 3_600_000, "bytes": sums[place]} for place in range(buckets)]


def page(view: View) -> None:
    """Draw it."""
    fold = view.fold(t=view.t)
    linked = view.selected[1].removeprefix("mg:")[:ID] if view.selected and view.selected[0] == "object" else ""
    if (light := fold.lights.get(linked)) is not None:
        _one(view, fold, light)
        st.divider()
    kinds = by_kind(fold)
    if not kinds:
        st.info("Nothing has been written in this run yet.")
        return
    left, right = st.columns([2, 3])
    with left:
        st.dataframe(kinds, hide_index=True)
    with right:
        _treemap(kinds)
    order = st.segmented_control("List", list(_ORDERS), default="hottest", key="memory_order") or "hottest"
    _list(view, listed(fold, order), order)
    with st.expander("When does it expire?"):
        if st.toggle(f"Read the newest {LOOKED_AT:,} records of the space", key="memory_forecast"):
            _forecast(view)


def _treemap(kinds: list[dict[str, Any]]) -> None:
    tiles = treemap([(kind["kind"], kind["bytes"]) for kind in kinds], width=2.0)
    paint = palette()
    values = [{"kind": tile.name, "bytes": tile.value, "paint": paint.get(ring(tile.name, ""), paint["idle"]),
               "x": tile.x, "y": tile.y, "x2": tile.x2, "y2": tile.y2,
               "mx": (tile.x + tile.x2) / 2, "my": (tile.y + tile.y2) / 2,
               "label": tile.name if tile.x2 - tile.x > 0.16 and tile.y2 - tile.y > 0.07 else ""} for tile in tiles]
    chart = chart_of(values)
    rectangles = chart.mark_rect(stroke="white", strokeOpacity=0.6).encode(
        x=alt.X("x:Q", axis=None), x2="x2:Q", y=alt.Y("y:Q", axis=None), y2="y2:Q", color=alt.Color("paint:N", scale=None),
        tooltip=["kind:N", alt.Tooltip("bytes:Q", format=",")])
    names = chart.mark_text(fontSize=12, color=paint["ground"]).encode(x="mx:Q", y="my:Q", text="label:N")
    st.altair_chart((rectangles + names).properties(height=260), key="treemap")
    st.caption("Bytes by kind.")


def _list(view: View, lights: list[Light], order: str) -> None:
    st.dataframe([{
        "object": view.url("memory", kind="object", id=o.id), "kind": line(o.kind, 40), "by": line(o.by or "(before this run)", 80),
        "written at, s": o.born / 1000, "bytes": o.bytes, "tokens": o.tok, "reads": o.reads, "reused": o.reuses,
        "LLM calls not made": o.saved.figures[1], "state": o.gone or ("there" if o.written else "announced"),
    } for o in lights[:LISTED]], hide_index=True, column_config=_LINK)
    more = f"; the first {LISTED:,} of {len(lights):,}" if len(lights) > LISTED else f"; {len(lights):,} in all"
    st.caption(_ORDERS[order].capitalize() + more + ".")


def _forecast(view: View) -> None:
    async def newest(space: Any) -> tuple[list[MemoryObject], int]:
        found = await space.find(run=None if view.run == ALL else view.run, limit=LOOKED_AT)
        return found.objects, space.store.log.server_ms()

    there, now = view.ask(newest)
    values = forecast(there, now)
    never = sum(1 for record in there if not record.expires)
    if values:
        st.altair_chart(chart_of(values).mark_bar().encode(
            x=alt.X("in:Q", title="hours from now", bin=alt.Bin(maxbins=24)),
            y=alt.Y("sum(bytes):Q", title="bytes that expire")), key="expiry")
    st.caption(f"{len(there):,} objects looked at; {never:,} of them never expire by themselves.")


# ── one object ────────────────────────────────────────────────────────────────────────────────


def _one(view: View, fold: Fold, light: Light) -> None:
    st.subheader(f"{plain(light.kind, 40) or 'object'} mg:{plain(light.id, 32)}")
    family = children(fold)
    above, below = up(fold, light.id), down(fold, light.id, family)
    record = _record(view, light)
    columns = st.columns(4)
    columns[0].metric("Reused", f"{light.reuses:,}", help=f"{light.saved.figures[1]:,} LLM calls not made; read {light.reads:,} times")
    columns[1].metric("Rests on", f"{len(above):,} objects")
    columns[2].metric("Rest on it", f"{len(below):,} objects")
    columns[3].metric("Size", f"{light.bytes:,} B", help=f"{light.tok:,} tokens")
    st.caption(_about(view, light, record))
    left, middle, right = st.columns(3)
    with left:
        _relatives(view, fold, "Made from", light.src, above)
    with middle:
        _relatives(view, fold, "Made from it", family.get(light.id, []), below)
    with right:
        st.markdown("**Used by**")
        used = Counter(rec["agent"] for rec in records(view)
                       if rec.get("obj") == light.id and rec["op"] in ("read", "hit") and rec.get("agent"))
        st.dataframe([{"agent": line(name, 80), "times": times} for name, times in used.most_common(LISTED)], hide_index=True)
    _preview(view, light)
    _commands(view, light, below, fold)


def _record(view: View, light: Light) -> MemoryObject | None:
    async def look(space: Any) -> MemoryObject:
        found: MemoryObject = await space.describe(await space.resolve(f"mg:{light.id}"))
        return found

    try:
        return view.ask(look)
    except MemGangError:
        return None  # gone, or the server is away; what the log says of it is shown all the same


def _about(view: View, light: Light, record: MemoryObject | None) -> str:
    parts = [f"by **{plain(light.by)}**" if light.by else "written before this run",
             f"{span(light.born)} after the run began" if light.by else "", light.gone]
    if record is not None:
        parts += [f"`{record.ref}`", plain(record.media_type, 80), f"stored {plain(moment(record.at))}",
                  f"expires {plain(moment(record.expires))}" if record.expires else "never expires by itself",
                  f"pinned by {plain(', '.join(record.pins), 120)}" if record.pins else ""]
    else:
        parts.append("the space has no record of it now")
    return " · ".join(filter(None, parts))


def _relatives(view: View, fold: Fold, title: str, direct: list[str], all_: dict[str, int]) -> None:
    st.markdown(f"**{title}** {len(direct):,}, and {max(0, len(all_) - len(direct)):,} farther")
    near = sorted(all_, key=lambda ident: all_[ident])[:LISTED]
    st.dataframe([{"object": view.url("memory", kind="object", id=ident), "steps": all_[ident],
                   "kind": line(fold.lights[ident].kind, 40) if ident in fold.lights else ""} for ident in near],
                 hide_index=True, column_config=_LINK)


def _preview(view: View, light: Light) -> None:
    if not st.toggle("Show what is in it", key=f"preview-{light.id}",
                     help="Content may be confidential; it is read from the space only now."):
        return

    async def look(space: Any) -> object:
        return await space.look(await space.resolve(f"mg:{light.id}"))

    try:
        value = view.ask(look)
    except MemGangError as error:
        st.warning(plain(error.explain(), 600))
        return
    text = value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else _shown(value)
    st.code(text[:PREVIEW_MAX], language=None, wrap_lines=True)
    if len(text) > PREVIEW_MAX:
        st.caption(f"The first {PREVIEW_MAX:,} of {len(text):,} characters; the whole:")
        st.code(command("memgang", "get", f"mg:{light.id}", "--space", view.space), language=None)


def _shown(value: object) -> str:
    import json

    import msgspec

    try:
        return json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def _commands(view: View, light: Light, below: dict[str, int], fold: Fold) -> None:
    """What would go with it, and the commands that change something; buttons only where the dashboard was started for that."""
    kinds = Counter(fold.lights[ident].kind or "object" for ident in below if ident in fold.lights)
    going = ", ".join(f"{count:,} {plain(kind, 30)}" for kind, count in kinds.most_common(6))
    st.markdown(f"**If it goes**, these may go with it: {going or 'nothing that the log of this run knows'}.")
    ref = f"mg:{light.id}"
    st.code("\n".join(command("memgang", *words, "--space", view.space) for words in (
        ("show", ref), ("pin", ref), ("forget", ref, "--cascade"))), language=None)
    st.caption("`show` tells its places in documents." + (
        " This was read from a source: `memgang invalidate SOURCE`, with the file or address it was read from, forgets all that was "
        "read there and what was made of it, and asks first." if light.ring == "src" else ""))
    if not view.allow_write:
        return
    left, right = st.columns(2)
    if left.button("Pin for an hour", key=f"pin-{light.id}"):
        view.ask(lambda space: _pinned(space, ref))
        st.toast("Pinned.")
    with right:
        _forget(view, light.id)


def _forget(view: View, ident: str) -> None:
    """Nothing goes at one click: the first looks how far it would reach, and the second is asked for with that said."""
    state, key = st.session_state, f"reach-{ident}"
    if st.button("Forget it and what rests on it ...", key=f"forget-{ident}"):
        state[key] = view.ask(lambda space: _forgotten(space, f"mg:{ident}", dry_run=True))
    reach: Forgotten | None = state.get(key)
    if reach is None:
        return
    asking = st.empty()
    with asking.container():
        st.warning(_reach(reach))
        sure = st.button(f"Forget {_objects(reach)}", key=f"sure-{ident}", type="primary")
        keep = st.button("Keep it", key=f"keep-{ident}")
    if sure or keep:
        del state[key]  # before it is done: who asks again after an error is shown what is left
        asking.empty()
    if sure:
        gone = view.ask(lambda space: _forgotten(space, f"mg:{ident}", dry_run=False))
        asking.success(f"Forgotten: {_objects(gone)}, {gone.bytes:,} bytes.")


def _reach(reach: Forgotten) -> str:
    """What would go, as `memgang forget --cascade --dry-run` says it."""
    kinds = ", ".join(f"{count:,} {plain(kind, 40)}" for kind, count in reach.kinds.items())
    answers, runs = len(reach.answers), len(reach.runs)
    also = [f"{answers:,} answer{'s' * (answers != 1)} that will be computed again when asked for" if answers else "",
            f"{len(reach.pinned):,} of them pinned" if reach.pinned else "", f"of {runs:,} runs" if runs > 1 else "",
            f"names that will point at nothing: {', '.join(plain(name, 80) for name in reach.names[:5])}"
            f"{' and more' if len(reach.names) > 5 else ''}" if reach.names else ""]
    return f"This would forget {_objects(reach)}, {reach.bytes:,} bytes: " + "; ".join(filter(None, (kinds, *also))) + "."


def _objects(reach: Forgotten) -> str:
    return f"{len(reach.refs):,} object{'s' * (len(reach.refs) != 1)}"


async def _pinned(space: Space, ref: str) -> None:
    await space.pin(await space.resolve(ref))


async def _forgotten(space: Space, ref: str, *, dry_run: bool) -> Forgotten:
    return await space.forget(await space.resolve(ref), cascade=True, dry_run=dry_run)
