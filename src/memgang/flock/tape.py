"""A tape: a header and the records of one run, in the order of the log. Live, replayed or exported, what is played is a tape.

As a file it is JSON Lines, so that it can be read, cut and compared with ordinary tools:

    {"memgang_tape": 1, "header": {...}}        the first line
    {"id": "a00-1-0", "t": 0, "op": ...}        then one record a line (records.py says what is in it)

Nothing here leaves a trace in the space: a run does not grow by being watched.
"""

from __future__ import annotations

import gzip
import importlib.metadata
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from memgang.errors import ConfigError, MemGangError, StoreUnavailable, UnknownReference
from memgang.flock.records import FIELDS, record
from memgang.model import Event, Ref
from memgang.space import Space

FORMAT = 1
RUNS = "runs/"
ALL = "all"  # in place of a run: everything the log of the space holds
TEXT_MAX = 1000
DAY_MS = 24 * 3_600_000


class Header(msgspec.Struct, frozen=True):
    """What is known of a run as a whole. Times are ms since 1970 by the server's clock; ``t`` of the records counts from ``began``.

    ``ended`` is 0 while it runs. ``price`` is the row of the price table its dollars were made with. ``synthetic``: the model was
    simulated, so what it spent and saved proves nothing. ``title`` is untrusted text.
    """

    run: str
    space: str = ""
    title: str = ""
    started: int = 0
    ended: int = 0
    state: str = "running"  # running, done, failed, stopped
    model: str = ""
    price: dict[str, Any] | None = None
    version: str = ""
    synthetic: bool = False
    masked: bool = False
    began: int = 0


class Tape(msgspec.Struct, frozen=True):
    """A header and its records."""

    header: Header
    records: list[dict[str, Any]]


def length_ms(tape: Tape) -> int:
    """From the run's start to its last record."""
    return max((words["t"] for words in tape.records), default=0)


class _Line(msgspec.Struct):
    memgang_tape: int
    header: Header


# ── from a space ──────────────────────────────────────────────────────────────────────────────


async def of_run(space: Space, run: str) -> Tape:
    """The tape of a run as far as it has come; ``"all"``: of everything that the log of the space holds.

    Raises:
        UnknownReference: there is no record of such a run, and nothing in the log.
        StoreUnavailable: the server does not answer.
    """
    found = None if run == ALL else await header_of(space, run)
    events = [event async for event in space.events(run=None if run == ALL else run)]
    if found is None and not events and run != ALL:
        raise UnknownReference(run, "there is no such run; `memgang dashboard` and `memgang names list runs/` show those there are")
    header = completed(found or Header(run, space.name, version=_version()), events)
    return Tape(header, [record(event, header.began) for event in events])


async def header_of(space: Space, run: str) -> Header | None:
    """The header by the run's record; None where there is no record (of a run that another program marked, say)."""
    found = await space.version(RUNS + run)
    return None if found is None or found.ref is None else await _header(space, run, found.ref)


async def headers(space: Space, most: int = 200, known: dict[Ref, Header | None] | None = None) -> list[Header]:
    """The newest runs that have a record: those under way first, then the others, the newest first.

    ``known`` are records that were read before, by their references; for who asks again and again.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    names = list((await space.names(RUNS)).items())[-most:]  # run ids sort by time
    known = {} if known is None else known
    for name, ref in names:
        if ref not in known:
            known[ref] = await _header(space, name.removeprefix(RUNS), ref)
    for ref in known.keys() - {ref for _, ref in names}:
        del known[ref]
    now = space.store.log.server_ms()
    found = [header for _, ref in reversed(names) if (header := known[ref]) is not None]
    return sorted(found, key=lambda header: not under_way(header, now))


def under_way(header: Header, now: int) -> bool:
    """Whether it can be taken to run still. One that was killed has no end, so a day after its start it no longer is."""
    return not header.ended and now - header.started < DAY_MS


async def _header(space: Space, run: str, ref: Ref) -> Header | None:
    try:
        told = await space.look(ref)
    except StoreUnavailable:
        raise
    except MemGangError:
        return None  # expired or damaged: its events may be there all the same
    return header_from(told, run, space.name) if isinstance(told, dict) else None


def header_from(told: dict[str, Any], run: str, space: str) -> Header:
    """The header from a run's record. Whoever may write to the space may have written it, so nothing in it is taken on trust."""
    price, state, model = told.get("price"), _text(told.get("state")), _text(told.get("model"))
    started, ended = _whole(told.get("started")), _whole(told.get("ended"))
    return Header(
        run=run, space=space, title=_text(told.get("title")), started=started,
        ended=ended and max(started, ended),  # the writer's estimate of the server's clock may have been mended in between
        state=state if state in ("running", "done", "failed", "stopped") else "running", model=model,
        price=price if isinstance(price, dict) else None, version=_version(), synthetic=_simulated(model), began=started)


def side_by_side(header: Header, logs: Sequence[Sequence[Event]]) -> Tape:
    """One tape of what went on in several spaces at the same time. With more than one, agents, objects and calls are told apart by
    the number of their space: the same text in two spaces is two objects, for neither knows of the other's."""
    began = min((log[0].at for log in logs if log), default=0)
    ended = max((event.at for log in logs for event in log), default=0)
    records = [_of_space(record(event, began), number if len(logs) > 1 else 0) for number, log in enumerate(logs, 1) for event in log]
    return Tape(
        msgspec.structs.replace(header, began=began, started=began, ended=ended, version=_version(), synthetic=_simulated(header.model)),
        [*sorted(records, key=lambda words: words["t"]), {"id": "end", "t": ended - began, "op": "run_end", "text": header.state}])


def _of_space(words: dict[str, Any], number: int) -> dict[str, Any]:
    if number:
        for field in ("id", "obj", "call", "task"):
            if field in words:
                words[field] = f"{number}.{words[field]}"
        for field in ("agent", "by"):
            if field in words:
                words[field] = f"space-{number}.{words[field].partition('.')[2] or words[field]}"
        if "src" in words:
            words["src"] = [f"{number}.{parent}" for parent in words["src"]]
    return words


def completed(header: Header, events: Iterable[Event]) -> Header:
    """The header with what only the log knows: when a run without a record began, and that it has ended."""
    began, ended, state, title, model = header.began, header.ended, header.state, header.title, header.model
    first = 0
    for event in events:
        first = min(first or event.at, event.at)
        if event.raw == "run_start" and header.run != ALL:
            title = title or event.text[:TEXT_MAX]
        elif event.raw == "run_end" and not ended and header.run != ALL:
            ended, state = event.at, event.text if event.text in ("done", "failed", "stopped") else "done"
        model = model or event.model
    return msgspec.structs.replace(
        header, began=began or first, started=header.started or first, ended=ended, state=state, title=title, model=model,
        synthetic=header.synthetic or _simulated(model))


def _simulated(model: str) -> bool:
    return model.startswith("simulated")


def _text(value: object) -> str:
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def _version() -> str:
    try:
        return importlib.metadata.version("memgang")
    except importlib.metadata.PackageNotFoundError:  # run from its source
        return ""


# ── as a file ─────────────────────────────────────────────────────────────────────────────────


def encoded(tape: Tape) -> bytes:
    """The tape as JSON Lines."""
    encoder = msgspec.json.Encoder()
    return encoder.encode_lines([_Line(FORMAT, tape.header), *tape.records])


def decoded(text: bytes, name: str = "the tape") -> Tape:
    """The tape in JSON Lines; ``name`` is what an error calls it.

    Raises:
        ConfigError: it is none; the line and what is wrong with it are told.
    """
    head, _, rest = text.partition(b"\n")
    try:
        line = msgspec.json.decode(head, type=_Line)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{name} is no tape: its first line should be a header ({error}); `memgang export RUN --jsonl` writes one") from None
    if line.memgang_tape != FORMAT:
        raise ConfigError(f"{name} is a tape of form {line.memgang_tape}; this version reads form {FORMAT}")
    if not all(0 <= at < 1 << 47 for at in (line.header.started, line.header.ended, line.header.began)):
        raise ConfigError(f"{name}: the times of its header are no ms since 1970")
    records: list[dict[str, Any]] = []
    for number, words in enumerate(rest.splitlines(), 2):
        if not words.strip():
            continue
        try:
            records.append(_checked(msgspec.json.decode(words, type=dict[str, Any])))
        except (msgspec.MsgspecError, ValueError) as error:
            raise ConfigError(f"{name}: line {number} is no record: {error}") from None
    return Tape(line.header, records)


def read(path: Path) -> Tape:
    """The tape in a file.

    Raises:
        ConfigError: it holds none. OSError: it cannot be read.
    """
    return decoded(path.read_bytes(), path.name)


def demo() -> Tape:
    """A run that comes with MemGang: that of `make demo`, as it was recorded for the picture in README."""
    packed = (files("memgang.flock") / "demo.jsonl.gz").read_bytes()
    return decoded(gzip.decompress(packed), "the run that comes with MemGang")


def write(tape: Tape, path: Path) -> None:
    """Write the tape to a file.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(encoded(tape))


_TEXTS = ("op", "raw", "agent", "role", "task", "obj", "ring", "kind", "call", "fn", "ck", "by", "why", "model", "text")
_NUMBERS = ("pos", "tok", "bytes", "ms", "known", "us")


def _checked(words: dict[str, Any]) -> dict[str, Any]:
    """A record of a file that anybody may have written: what the fold would stumble over is refused here."""
    if not isinstance(words.get("id"), str) or not _is_number(words.get("t")) or not isinstance(words.get("op"), str):
        raise ValueError("it needs id, t and op")
    if abs(words["t"]) >= 1 << 47:
        raise ValueError("t is no time of a run")
    for name in _TEXTS:
        if not isinstance(words.get(name, ""), str):
            raise ValueError(f"{name} is no text")
    for name in _NUMBERS:
        if name in words and not (_is_number(words[name]) and 0 <= words[name] < 1 << 53):
            raise ValueError(f"{name} is no number from 0 on")
    for name in ("own", "saved"):
        figures = words.get(name, [])
        if not isinstance(figures, list) or len(figures) > 9 or not all(
                type(figure) is int and 0 <= figure < 1 << 53 for figure in figures):
            raise ValueError(f"{name} is no list of at most 9 whole numbers from 0 on")
    parents = words.get("src", [])
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        raise ValueError("src is no list of texts")
    return words


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ── without names ─────────────────────────────────────────────────────────────────────────────


def mask(tape: Tape) -> Tape:
    """The tape without titles, errors, and names of agents, objects, calls and functions of yours: short aliases stand for
    them, the same for the same throughout the tape. Roles, kinds, phases, models, times and figures stay."""
    aliases = _Aliases()
    header = msgspec.structs.replace(tape.header, run="run", space="", title="", masked=True)
    return Tape(header, [_masked(words, aliases) for words in tape.records])


class _Aliases:
    """By kind of name, in the order in which they first appear."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}

    def of(self, kind: str, name: str) -> str:
        known = self._known.setdefault(kind, {})
        return known.setdefault(name, f"{kind}{len(known) + 1}")


def _masked(words: dict[str, Any], aliases: _Aliases) -> dict[str, Any]:
    out = {name: value for name, value in words.items() if name in FIELDS}  # what we do not know may be anything
    for field, kind in (("agent", "agent-"), ("by", "agent-"), ("obj", "o"), ("call", "c"), ("task", "t")):
        if out.get(field):
            out[field] = aliases.of(kind, out[field])
    if "src" in out:
        out["src"] = [aliases.of("o", parent) for parent in out["src"]]
    if out.get("fn") and not out["fn"].startswith("memgang."):
        out["fn"] = aliases.of("f", out["fn"])
    if out.get("why") not in _CAUSES:
        out.pop("why", None)
    if out.get("op") not in _PLAIN:
        out.pop("text", None)
    return out


_CAUSES: Sequence[str] = ("hit", "joined", "read", "reference", "prefix")
_PLAIN = frozenset({"phase", "planned", "run_end"})  # ops whose text is no stranger's
