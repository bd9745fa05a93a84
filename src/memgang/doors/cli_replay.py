"""The commands `replay` and `export`: a run as it went, again, here or in a file for others."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Literal

import typer

from memgang.doors.options import AsJson, SpaceName, run_named, within
from memgang.doors.terminal import print_json, say, size
from memgang.errors import ConfigError
from memgang.flock import tape as tapes
from memgang.flock.tape import Tape
from memgang.settings import Settings
from memgang.space import Space

PICTURE, FILM = (1440, 860), (640, 400)  # pixels; a film of these is for a page that many open, and small enough for it

Which = Annotated[str, typer.Argument(metavar="RUN|FILE", help=(
    "A run's id, `last`, `demo` (a run that comes with MemGang), or a tape: a file that `export --jsonl` wrote."))]
Masked = Annotated[bool, typer.Option("--mask", help="Names, titles and ids are replaced: agents become agent-1, agent-2 ...")]
Theme = Annotated[Literal["dark", "light", "system"], typer.Option(help="Colours; `system`: as the reader's own (HTML only).")]


def replay(
    run: Which = "last", space: SpaceName = None, mask: Masked = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Serve the page there; 0: any free one.")] = 0,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Play a run again in the browser, from the space or from a file. Serves one page on this machine, until it is stopped."""
    from memgang.flock.page import page
    from memgang.flock.showing import Showing

    with Showing(page(taped(run, space, mask)), port) as showing:
        say(f"{showing.url} plays the run; stop with Ctrl-C")
        if browse:
            webbrowser.open(showing.url)
        showing.wait()


def export(
    run: Which = "last", space: SpaceName = None,
    html: Annotated[Path | None, typer.Option(help="One page that plays the run anywhere, also without a network.")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="The tape: a header and one record a line, for `replay` and for programs.")] = None,
    svg: Annotated[Path | None, typer.Option(help="The picture at --at, to be printed at any size.")] = None,
    png: Annotated[Path | None, typer.Option(help="The same with birds and numbers, taken in a browser.")] = None,
    gif: Annotated[Path | None, typer.Option(help="A film of the whole run, taken in a browser.")] = None,
    at: Annotated[float | None, typer.Option(min=0, help="Seconds since the run began; else its end.", show_default=False)] = None,
    width: Annotated[int | None, typer.Option(
        min=320, max=7680, help="Of pictures and films, in pixels; else 1440, of films 640.", show_default=False)] = None,
    height: Annotated[int | None, typer.Option(min=240, max=4320, help="The same; else 860, of films 400.", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(min=1, max=120, help="How long a film is.")] = 6.0,
    fps: Annotated[int, typer.Option(min=1, max=50, help="Pictures a second of a film.")] = 8,
    theme: Theme = "dark", mask: Masked = False, as_json: AsJson = False,
) -> None:
    """Write a run into files that open anywhere: a page, a tape, a picture, a film."""
    wanted = {kind: file.expanduser() for kind, file in
              (("html", html), ("jsonl", jsonl), ("svg", svg), ("png", png), ("gif", gif)) if file is not None}
    if not wanted:
        raise ConfigError("nothing to write: name a file with --html, --jsonl, --svg, --png or --gif")
    for file in wanted.values():
        if not file.parent.is_dir():
            raise ConfigError(f"there is no folder {file.parent} to write {file.name} to")
        if file.is_dir():
            raise ConfigError(f"{file} is a folder: name the file that is to be written")
    tape = taped(run, space, mask)
    moment = round(at * 1000) if at is not None else None
    for kind, file in wanted.items():
        wide, high = FILM if kind == "gif" else PICTURE
        _written(file, _made(kind, tape, moment, width or wide, height or high, seconds, fps, theme))
    told = {kind: {"file": str(file), "bytes": file.stat().st_size} for kind, file in wanted.items()}
    if as_json:
        print_json({"run": tape.header.run, "records": len(tape.records), "files": told})
        return
    for kind, file in wanted.items():
        say(f"{kind}: {file} ({size(file.stat().st_size)})")


def taped(run: str, space: str | None, mask: bool) -> Tape:
    """The tape that is meant: a file, or a run of the space.

    Raises:
        ConfigError: the file is no tape. UnknownReference: there is no such run.
    """
    if run == "demo":  # run ids begin with a date
        tape = tapes.demo()
    elif run.endswith(".jsonl") or Path(run).is_file():
        tape = tapes.read(Path(run).expanduser())
    else:
        async def work(opened: Space) -> Tape:
            named = await run_named(opened, run)
            assert named is not None
            return await tapes.of_run(opened, named)

        tape = within(space, work)
    return tapes.mask(tape) if mask else tape


def _made(
    kind: str, tape: Tape, at_ms: int | None, width: int, height: int, seconds: float, fps: int, theme: str,
) -> bytes:
    named = Settings.load().browser
    if kind == "html":
        from memgang.flock.page import page

        return page(tape, theme="" if theme == "system" else theme, at_ms=at_ms).encode("utf-8")
    if kind == "jsonl":
        return tapes.encoded(tape)
    coloured = "light" if theme == "light" else "dark"
    moment = tapes.length_ms(tape) if at_ms is None else at_ms
    if kind == "svg":
        from memgang.flock.drawing import drawing

        return drawing(tape, moment, width=width, height=height, theme=coloured).encode("utf-8")
    from memgang.flock import film

    if kind == "png":
        return film.still(tape, moment, width=width, height=height, theme=coloured, named=named)
    return film.film(tape, width=width, height=height, seconds=seconds, fps=fps, theme=coloured, named=named)


def _written(file: Path, body: bytes) -> None:
    """It appears when it is whole."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_bytes(body)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
