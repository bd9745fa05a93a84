"""The commands `run` and `compare`: a gang at work, with its progress on standard error."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import memgang
from memgang import llms
from memgang.doors import cli_dashboard
from memgang.doors.options import AsJson, SpaceName
from memgang.doors.progress import Display
from memgang.doors.terminal import print_json, say
from memgang.errors import ConfigError
from memgang.savings import table, to_dict
from memgang.settings import Settings
from memgang.space import Space

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, globs or URLs.", show_default=False)]
Questions = Annotated[list[str] | None, typer.Option(
    "--question", "-q", help="A question to answer; may be given several times.", show_default=False)]
Model = Annotated[str | None, typer.Option(
    "--llm", help="extractive (selects sentences; the default), openai:<model>, llama_cpp:<path.gguf>, ollama:<model> "
            "(also vllm:, lmstudio:, llama_server:), or simulated[:latency_ms=50,...].", show_default=False)]
EngineName = Annotated[Literal["auto", "asyncio", "processes"], typer.Option(
    "--engine", help="Where CPU-bound work runs: asyncio (this process), processes, or auto: processes where the model is CPU-bound.")]
Workers = Annotated[int | None, typer.Option(
    "--workers", min=1, max=256, help="Worker processes of the engine; else one for each processor.", show_default=False)]
Rpm = Annotated[int, typer.Option("--rpm", min=0, help="Requests a minute, of all gangs of the space that ask this model. 0: no limit.")]
Tpm = Annotated[int, typer.Option("--tpm", min=0, help="Tokens a minute, of all of them. 0: no limit.")]
MaxUsd = Annotated[float | None, typer.Option("--max-usd", min=0, help="The most dollars this run may spend.", show_default=False)]
Concurrency = Annotated[int, typer.Option(
    "--concurrency", min=0, help="Calls of the model under way at once, of all of them. 0: no limit but --agents.")]
Agents = Annotated[int, typer.Option("--agents", min=1, max=10_000, help="How many agents work at once.")]


def run(
    sources: Sources, question: Questions = None, llm: Model = None, agents: Agents = 16,
    title: Annotated[str, typer.Option(help="The title of the report.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the report to this file; else to standard output.")] = None,
    engine: EngineName = "auto", workers: Workers = None, space: SpaceName = None, as_json: AsJson = False,
    rpm: Rpm = 0, tpm: Tpm = 0, max_usd: MaxUsd = None, concurrency: Concurrency = 0,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Watch it in the browser meanwhile. Needs memgang[dashboard].")] = False,
) -> None:
    """Read long documents and write one report: a summary, a part per section, and an answer per question, with citations.

    Exit status 0 when something could be read and written, 1 when nothing could. Started again, it goes on where it stopped.
    """
    from memgang import readers
    from memgang.jobs.render import render
    from memgang.jobs.report import report

    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent} to write {out.name} to")
    if out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder; --out names a file")
    readers.refuse_secrets(sources)  # before the run's record names them
    started, command = time.perf_counter(), shlex.join(["memgang", *sys.argv[1:]])

    async def work() -> tuple[Any, Any, str, Any]:
        beside = None
        async with (memgang.open(space=space, agent="cli", llm=llm) as opened,
                    memgang.Gang(opened, concurrency=agents, title=title, engine=engine, workers=workers,
                                 limits=_limits(rpm, tpm, max_usd, concurrency)) as gang):
            with Display(gang):
                async with gang.run(title or ", ".join(sources)[:120], command=command) as current:
                    if dashboard:
                        beside = cli_dashboard.beside(current.id, opened.settings, open_browser=sys.stderr.isatty())
                    made = await report(gang, sources, question or (), title=title, agents=agents)
                    current.result = await opened.put(made, kind="report")  # there already: this is its reference
            if beside is not None:
                await asyncio.to_thread(beside.join, cli_dashboard.TOLD_S)
            return made, await gang.savings(), current.id, gang.progress

    made, savings, run_id, progress = asyncio.run(work())
    text, seconds = render(made, savings), time.perf_counter() - started
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"run": run_id, "seconds": round(seconds, 3), "report": made, "savings": to_dict(savings),
                    "out": str(out) if out else None})
    elif out is None:
        say(text)
    else:
        say(table(savings).partition("| by agent")[0].rstrip())  # its agents stand in the report and in `stats`
        say(f"\n{progress.done:,} agent calls: {progress.computed:,} computed, {progress.hits:,} found in memory, "
            f"{progress.joined:,} joined, {progress.failed:,} failed; {seconds:.1f} s, run {run_id}")
        say(f"report: {out}")


def _limits(rpm: int, tpm: int, max_usd: float | None, concurrency: int) -> memgang.Limits | None:
    """None, and then nothing is asked of the server about limits, where none is given."""
    if not (rpm or tpm or concurrency) and max_usd is None:
        return None
    return memgang.Limits(requests_per_minute=rpm, tokens_per_minute=tpm, usd=max_usd, concurrency=concurrency)


def compare(
    sources: Sources, question: Questions = None, llm: Model = None, agents: Agents = 8,
    whole: Annotated[bool, typer.Option("--whole/--no-whole", help="One more team, which summarises the whole.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write compare.md, compare.json and compare.html into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Do the same work twice, isolated and shared, a team for each question, and say what sharing changed."""
    import json

    from memgang.jobs import compare as job
    from memgang.jobs import compare_pages as pages

    settings = Settings.load(llm=llm)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # what cannot be written is told before the work, not after it

    def open_space(name: str) -> AbstractAsyncContextManager[Space]:
        return memgang.open(space=name, agent="cli", llm=llm)

    async def work() -> Any:
        model = llms.load(settings.llm, settings)
        try:
            # Held open, so that the server is not started anew for the second half.
            async with memgang.open(space="compare", agent="cli", llm=llm):
                return await job.compare(
                    open_space, sources, question or (), model=model, agents=agents, whole=whole,
                    on_step=lambda step: typer.echo(step, err=True))
        finally:
            await model.aclose()

    made = asyncio.run(work())
    if out is not None:
        (out / "compare.md").write_text(pages.markdown(made), encoding="utf-8")
        (out / "compare.json").write_text(json.dumps(pages.as_dict(made), indent=2), encoding="utf-8")
        (out / "compare.html").write_text(pages.page(made), encoding="utf-8")
    print_json(pages.as_dict(made)) if as_json else say(pages.markdown(made))
    if out is not None and not as_json:
        say(f"written: {out}/compare.md, compare.json, compare.html")
