"""A report as Markdown. Pure: the same report and figures give the same text.

What documents say is untrusted: nothing of it becomes a link, an image or HTML here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from memgang.jobs.pages import Figures, Report, Source
from memgang.jobs.statements import Statement
from memgang.model import NO_USAGE, Ref
from memgang.savings import Savings

SELECTS = (
    "The sentences of this report are selected from the documents by the built-in extractive model, which does not write "
    "any of its own; name a language model with `--llm` to have them written."
)
CAUSE_WORDS = {
    "hit": "the answer was found in memory", "joined": "somebody was computing it already",
    "read": "the source was not read again", "reference": "handed on as a reference, never opened",
    "prefix": "the provider's prompt cache",
}
WRITES = "The sentences of this report were written by `{model}` from the documents; follow the numbers to check them."


def render(report: Report, savings: Savings | None = None) -> str:
    """The report as Markdown, with the table of what the gang did where ``savings`` are given."""
    numbers = {source.ref: source.number for source in report.sources}
    figures = report.figures
    out: list[str] = [f"# {_safe(report.title)}", ""]
    out += [f"*{_basis(figures)}*", ""]
    if report.overview or not report.answers:
        out += ["## Summary", ""]
        for paragraph in report.overview:
            lead = f"**{_safe(paragraph.title)}.** " if paragraph.title else ""
            out += [lead + _said(paragraph.statements, numbers), ""]
        if not report.overview:
            out += ["No part of the documents holds anything to sum up.", ""]
    if report.answers:
        out += ["## Questions", ""]
        for answer in report.answers:
            said = _listed(answer.statements, numbers) or (
                "The work on this question failed; see *What is missing*." if answer.failed else "Nothing was found for this question.")
            out += [f"### {_safe(answer.question)}", "", said, ""]
    for section in report.sections:
        out += [f"{'#' * section.level} {_safe(section.title)}", ""]
        if section.statements:
            out += [_said(section.statements, numbers), ""]
    if report.unreadable or report.failures:
        out += ["## What is missing", ""]
        out += [f"- `{_code(u.source)}` could not be read: {_safe(u.reason)}" for u in report.unreadable]
        out += [f"- {_safe(f.place)} is missing: {_safe(f.reason)}" for f in report.failures]
        out += [""]
    if report.remarks:
        out += ["## Remarks on the documents", "", *(f"- {_safe(remark)}" for remark in report.remarks), ""]
    if report.sources:
        out += ["## Sources", "", "Each number leads to a part of a document; `memgang show` with its reference prints it.", ""]
        out += [_source(source) for source in report.sources]
        out += [""]
    if savings is not None:
        out += _figures(savings)
    return "\n".join(out).rstrip() + "\n"


def _figures(savings: Savings) -> list[str]:
    """What the gang did and saved, from the ledger."""
    rows = [("**agents alone would have done**", savings.virtual), ("**done**", savings.physical)]
    rows += [(f"avoided: {CAUSE_WORDS.get(why, why)}", usage) for why, usage in savings.avoided.items() if usage != NO_USAGE]
    rows += [("lost in attempts that failed", savings.lost)] if savings.lost != NO_USAGE else []
    roles = sorted((role, row) for role, row in savings.by_role.items() if row.virtual.calls)
    counts = savings.counts
    return [
        "## What the gang did, and what sharing saved", "",
        "Counted in the ledger of this run's events. What agents alone would have done is not measured but added up: what was "
        "done, and for each answer recalled from memory what it had cost to compute.", "",
        "| | calls | of a model | tokens | dollars | seconds of work |", "|---|---:|---:|---:|---:|---:|",
        *(f"| {what} | {u.calls:,d} | {u.llm_calls:,d} | {'~' if u.estimated and u.tokens else ''}{u.tokens:,d} | {u.usd:.4f} "
          f"| {u.ms / 1000:,.1f} |" for what, u in rows), "",
        "| role | calls done | recalled instead | seconds of work done | avoided |", "|---|---:|---:|---:|---:|",
        *(f"| {_safe(role)} | {row.physical.calls:,d} | {row.avoided.calls:,d} | {row.physical.ms / 1000:,.1f} "
          f"| {row.avoided.ms / 1000:,.1f} |" for role, row in roles), "",
        f"{counts.events:,d} events: {counts.reads:,d} reads, {counts.writes:,d} writes ({counts.known_writes:,d} of what was there "
        f"already), {counts.hits:,d} hits, {counts.joined:,d} joined. MemGang's own overhead: {savings.overhead:.2f} s."
        + (" ~ marks estimated token counts." if savings.estimated else ""), ""]


def _basis(figures: Figures) -> str:
    """One line on what the report was made from and by whom."""
    parts = f"{_counted(figures.documents, 'document')}, {_counted(figures.parts, 'part')}"
    by = SELECTS if figures.model == "extractive" else WRITES.format(model=_code(figures.model))
    made_up = figures.invented_citations
    invented = f" {_counted(made_up, 'citation')} of passages that do not exist taken out." if made_up else ""
    return f"Read: {parts}. {by}{invented}"


def _counted(number: int, what: str) -> str:
    return f"{number:,d} {what}{'' if number == 1 else 's'}"


def _said(statements: Sequence[Statement], numbers: Mapping[Ref, int]) -> str:
    """Statements as a paragraph."""
    return " ".join(_statement(statement, numbers) for statement in statements)


def _listed(statements: Sequence[Statement], numbers: Mapping[Ref, int]) -> str:
    """Statements as a list: each of an answer can be checked by itself."""
    return "\n".join(f"- {_statement(statement, numbers)}" for statement in statements)


def _statement(statement: Statement, numbers: Mapping[Ref, int]) -> str:
    marks = "".join(f"[{numbers[ref]}]" for ref in statement.cites if ref in numbers)
    return f"{_safe(statement.text)} {marks or '(no source named)'}"


def _source(source: Source) -> str:
    title = source.title if len(source.title) <= 60 else source.title[:60].rsplit(" ", 1)[0] + " …"
    where = " › ".join(_safe(place) for place in (title, *(h for h in source.headings if h != source.title)))
    if source.page:
        where += f", p. {source.page}" + (f"–{source.page_end}" if source.page_end > source.page else "")
    elif source.line:
        where += f", line {source.line}"
    also = f" (and {source.also} more place{'s' if source.also > 1 else ''} with the same text)" if source.also else ""
    return f"{source.number}. {where}{also}. `{_code(source.source)}` `{source.ref.short}`"


def _safe(text: str) -> str:
    """Text of a document inside Markdown: no HTML, no link, no image, no line of its own."""
    text = " ".join(text.split())
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    text = text.replace("](", "]\\(").replace("`", "'")
    return re.sub(r"\]\s?:", "]\\:", text)


def _code(text: str) -> str:
    """Text inside back ticks."""
    return " ".join(text.replace("`", "'").split())
