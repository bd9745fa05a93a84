"""Spans and metrics as the real SDK exports them: the conventions' names for what was sent, ours for what was saved, no content."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import memgang
from memgang import telemetry
from memgang.engines.processes import ProcessesEngine
from memgang.errors import MemGangError, ModelError
from memgang.gang import Gang
from memgang.model import Call
from memgang.savings import fold
from memgang.space import Space
from tests.engines import leaves
from tests.gates import Gate, until
from tests.metrics.conftest import Model

SECRET = "payload-canary-90c2"


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self.spans))
        self.metering = MeterProvider([self.reader])

    def named(self, name: str) -> list[ReadableSpan]:
        """The finished spans of this name, in the order in which they ended."""
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        """The points of a metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [point for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
                if metric.name == name for point in metric.data.data_points]

    def everything(self) -> str:
        """All that left, as text."""
        data = self.reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans.get_finished_spans()), data.to_json() if data else ""])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Providers of the real SDK with exporters in memory. They can be set once in a process, so a test stands in for that."""
    found = Seen()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: found.tracing)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: found.metering)
    yield found
    found.tracing.shutdown()
    found.metering.shutdown()


@pytest.fixture
async def traced(seen: Seen, opened: Callable[..., Any]) -> Any:
    """A space that was opened after the providers were set up."""
    async with opened() as space:
        yield space


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})


async def test_a_call_that_happened_has_the_conventions_names_and_its_hit_has_ours(traced: Space, seen: Seen) -> None:
    """One request: one chat span below the recall that missed. The hit: a recall alone, with what it saved; no gen_ai at all."""
    async with Gang(traced, llm=Model()) as gang:  # type: ignore[arg-type]
        for _ in range(2):
            await gang.llm("hello")
    (chat,), (missed, hit) = seen.named("chat gpt-5-mini"), seen.named("memgang.recall")

    assert chat.kind is trace.SpanKind.CLIENT and chat.parent is not None and missed.context is not None
    assert chat.parent.span_id == missed.context.span_id
    assert told(chat) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.request.temperature": 0, "gen_ai.response.finish_reasons": ("stop",), "gen_ai.usage.input_tokens": 1005,
        "gen_ai.usage.output_tokens": 100, "gen_ai.usage.cache_read.input_tokens": 400}
    assert told(missed)["memgang.cache"] == "miss" and "memgang.saved_tokens" not in told(missed)
    saved = told(hit)
    assert (saved["memgang.cache"], saved["memgang.saved_tokens"], saved["memgang.call.kind"]) == ("hit", 1105, "llm")
    assert saved["memgang.ref"].startswith("mg:") and saved["memgang.saved_dollars"] > 0
    assert not [name for span in (missed, hit) for name in told(span) if name.startswith("gen_ai.")]


async def test_saved_tokens_are_never_in_the_conventions_metrics(traced: Space, seen: Seen) -> None:
    """Three asks, one request: usage and duration have one count each and the provider's tokens; the savings are ours."""
    async with Gang(traced, llm=Model()) as gang:  # type: ignore[arg-type]
        for _ in range(3):
            await gang.llm("hello")
    ledger = fold([event async for event in traced.events()])

    usage = {point.attributes["gen_ai.token.type"]: point for point in seen.points("gen_ai.client.token.usage")}
    assert {kind: (point.count, point.sum) for kind, point in usage.items()} == {
        "input": (1, ledger.physical.tokens_in), "output": (1, ledger.physical.tokens_out)}
    assert list(usage["input"].explicit_bounds) == [4**n for n in range(14)]
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert duration.count == 1 and list(duration.explicit_bounds)[-1] == 81.92
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini"}
    saved = {point.attributes["memgang.token.type"]: point.value for point in seen.points("memgang.saved.tokens")}
    avoided = ledger.avoided["hit"]
    assert saved == {"input": avoided.tokens_in, "output": avoided.tokens_out}
    assert sum(point.value for point in seen.points("memgang.saved.cost")) == pytest.approx(avoided.usd)
    assert {point.attributes["memgang.cache"]: point.count for point in seen.points("memgang.recall.duration")} == {"miss": 1, "hit": 2}


def test_what_a_server_calls_its_error_is_no_label(seen: Seen) -> None:
    """A status, a code of ours or a class stays; of words from outside there is no end, and they are all one label."""
    told = telemetry.found()
    assert told is not None
    classed = ModelError("m", "transient", "KeyError", "it broke off")
    classed.__cause__ = KeyError("x")
    codes = ("503", "429 slow down, request 8151", "timeout", "insufficient_quota", "req-8151", "req-8152", "\u00b2", "")
    for error in (*(ModelError("m", "transient", code, "it broke off") for code in codes), classed, ValueError("y")):
        with pytest.raises(type(error)), told.asking("openai", "m", {}):
            raise error

    points = {point.attributes["error.type"]: point.count for point in seen.points("gen_ai.client.operation.duration")}
    assert points == {"503": 1, "429": 1, "timeout": 1, "insufficient_quota": 1, "_OTHER": 4, "KeyError": 1, "ValueError": 1}
    assert {span.attributes["error.type"] for span in seen.named("chat m") if span.attributes} == points.keys()


async def test_estimated_tokens_are_in_no_metric_of_usage(traced: Space, seen: Seen) -> None:
    """No provider reported them, so the conventions do not want them; the request was made all the same."""
    async with Gang(traced, llm="simulated:latency_ms=0,tokens_per_s=0") as gang:
        await gang.llm("hello")

    (span,) = seen.named("chat simulated")
    assert not seen.points("gen_ai.client.token.usage") and len(seen.points("gen_ai.client.operation.duration")) == 1
    assert span.kind is trace.SpanKind.INTERNAL and "gen_ai.usage.input_tokens" not in told(span)


@pytest.mark.catalogue("D15")
async def test_no_content_leaves_in_spans_or_metrics(traced: Space, seen: Seen) -> None:
    """Prompts, answers, arguments, values, names, parameters and the texts of errors: no byte of the canary, of success or failure."""
    @traced.once
    async def look(text: str) -> str:
        return text

    async with Gang(traced, llm=Model()) as gang:  # type: ignore[arg-type]
        await gang.llm(f"say {SECRET}")
        with pytest.raises(MemGangError):
            await gang.llm(f"refuse {SECRET}")
        await gang.llm(f"stumble {SECRET}")
        async for _ in gang.stream(f"stream {SECRET}"):
            pass
    await look(SECRET)
    await look(SECRET)
    ref = await traced.put(SECRET, name="notes/x", tags=["t"])
    await traced.get(ref)
    with pytest.raises(MemGangError):
        await traced.get("mg:" + "a" * 32)

    out = seen.everything()
    assert SECRET not in out and SECRET.upper() not in out and "secret-parameter" not in out
    failed = [told(span).get("error.type") for span in seen.named("chat gpt-5-mini") if not span.status.is_ok]
    assert failed == ["400", "503"]
    assert {span.status.description for span in seen.spans.get_finished_spans()} == {None}
    assert not [span for span in seen.spans.get_finished_spans() if span.events]
    assert {point.attributes["error.type"] for point in seen.points("gen_ai.client.operation.duration")
            if "error.type" in point.attributes} == {"400", "503"}


async def test_who_joins_is_told_so_and_sends_nothing(traced: Space, seen: Seen, opened: Callable[..., Any]) -> None:
    """A flight of another opener: one miss, one joined, saved tokens for the latter."""
    gate, call = Gate(), Call("function", "slow", "1")
    async with opened() as other:
        first = asyncio.create_task(traced.recall(call, gate.then("x")))
        await gate.reached()
        second = asyncio.create_task(other.recall(call, gate.then("never")))

        async def waits() -> bool:
            return (await other.stats()).get("waits", 0) == 1

        await until(waits)
        gate.open()
        await asyncio.gather(first, second)

    assert sorted(told(span)["memgang.cache"] for span in seen.named("memgang.recall")) == ["joined", "miss"]


async def test_a_hit_at_hand_and_from_another_thread_has_its_span(seen: Seen, space_name: str) -> None:
    """`once` without a turn of the loop, and `memgang.connect`: spans below the caller's own, get and put too."""
    def work() -> None:
        with memgang.connect(space=space_name, agent="tester") as space:
            @space.once(version="1")
            def double(x: int) -> int:
                return 2 * x

            with seen.tracing.get_tracer("test").start_as_current_span("outer"):
                assert [double(4), double(4)] == [8, 8]
                assert space.get(space.put("value")) == "value"

    await asyncio.to_thread(work)
    (outer,) = seen.named("outer")
    (got,) = seen.named("memgang.get")
    hit = [span for span in seen.named("memgang.recall") if told(span)["memgang.cache"] == "hit"]

    assert outer.context is not None and len(hit) == 1
    for span in (got, *hit):
        assert span.parent is not None and span.parent.span_id == outer.context.span_id


async def test_events_bear_the_trace_they_belong_to(traced: Space, seen: Seen) -> None:
    """From a span in the caller's hands to the lines of the log."""
    with seen.tracing.get_tracer("test").start_as_current_span("outer") as outer:
        ref = await traced.put("x")
        await traced.get(ref)
        await traced.recall(Call("function", "f", "1"), lambda: asyncio.sleep(0, 1))
    wanted = f"{outer.get_span_context().trace_id:032x}"
    traces = {event.raw: event.trace async for event in traced.events()}

    assert {raw: traces[raw] for raw in ("put", "read", "claimed", "committed")} == dict.fromkeys(
        ("put", "read", "claimed", "committed"), wanted)


async def test_a_stream_is_one_request_and_leaves_its_readers_context_alone(traced: Space, seen: Seen) -> None:
    """The span of a streamed answer ends with it; while pieces are read, the reader's own span is the current one."""
    async with Gang(traced, llm="simulated:latency_ms=0,tokens_per_s=0") as gang:
        with seen.tracing.get_tracer("test").start_as_current_span("reader") as reader:
            async for _ in gang.stream("tell me of the sea and of the ships that sail on it"):
                assert trace.get_current_span() is reader
    (chat,) = seen.named("chat simulated")

    assert told(chat)["gen_ai.request.stream"] is True and chat.status.is_ok
    assert told(chat)["gen_ai.provider.name"] == "simulated"
    assert len(seen.points("gen_ai.client.operation.duration")) == 1


async def test_a_worker_continues_the_trace(traced: Space, seen: Seen) -> None:
    """A function of an engine's worker process is in the trace of who called it, below the span of then."""
    engine = ProcessesEngine(1)
    try:
        with seen.tracing.get_tracer("test").start_as_current_span("outer") as outer:
            await engine.run(leaves.same, "opentelemetry")  # the worker is there
            await engine.run(leaves.trace_here)  # and knows OpenTelemetry from now on
            there = await engine.run(leaves.trace_here)
        without = await engine.run(leaves.trace_here)
    finally:
        await engine.aclose()
    here = outer.get_span_context()

    assert there == f"{here.trace_id:032x} {here.span_id:016x}"
    assert without == f"{0:032x} {0:016x}"


async def test_without_a_provider_there_is_nothing(opened: Callable[..., Any]) -> None:
    """The API alone, without a provider: no telemetry in the space, and events without a trace."""
    assert telemetry.found() is None
    async with opened() as space:
        await space.put("x")
        assert space.store.telemetry is None
        assert {event.trace async for event in space.events()} == {""}


def test_without_the_extras_nothing_is_missed(space_name: str) -> None:
    """Where neither OpenTelemetry nor Prometheus's client can be imported, nothing tries to: a space works, and has no telemetry."""
    program = f"""
import asyncio, sys
sys.modules["opentelemetry"] = sys.modules["prometheus_client"] = None
import memgang, memgang.doors.cli, memgang.doors.proxy.serving
async def main():
    async with memgang.open(space={space_name!r}) as space:
        @space.once(version="1")
        async def double(x: int) -> int:
            return 2 * x
        print(await double(2), await double(2), await space.get(await space.put("x")), space.store.telemetry)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.stdout == "4 4 x None\n", done.stderr
