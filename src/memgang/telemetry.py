"""Spans and metrics for OpenTelemetry, where the program has set up a provider of it; else nothing, and nothing is imported.

    memgang.recall               one ask for a call's answer: memgang.cache hit | joined | miss | degraded, memgang.ref, what was saved
      chat gpt-5-mini            one request to a language model, with the names of the GenAI conventions; only where one was sent
    memgang.get  memgang.put     one object, or several

What was spent goes by the conventions' names (`gen_ai.client.token.usage`), what was saved by names of our own
(`memgang.saved.tokens`): a sum over the former is what the provider bills. Ids, sizes, labels and numbers only: no prompt, no answer,
no argument, no text of an error is in a span.

The conventions for generative AI are in development; these names are those of the registry's last release that holds them (semantic
conventions 1.44). They stand in this file alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from memgang.errors import ModelError, status_of
from memgang.model import Call, Context, Usage

NAME = "memgang"
OWN_PROCESS = frozenset({"extractive", "simulated", "llama_cpp", "llama-cpp"})  # models without a server
# What of a call's parameters the conventions name. Numbers alone: a parameter may hold text.
_PARAMETERS = {"temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_tokens": "max_tokens",
               "max_completion_tokens": "max_tokens"}
# Of errors of models: the codes that are ours, and those of providers by which an account is known to be used up.
_CODES = frozenset({
    "altered", "bad_json", "budget", "budget_closed", "connection", "cut", "empty", "left", "load", "mismatch",
    "model_not_priced", "refusal", "replaced", "simulated", "timeout", "unfinished",
    "billing_hard_limit_reached", "billing_not_active", "account_deactivated", "insufficient_quota", "rate_limit_exceeded"})
_OTHER = "_OTHER"  # as the conventions call it
_TOKEN_BUCKETS = [4**n for n in range(14)]  # 1 .. 67,108,864, as the conventions ask for
_DURATION_BUCKETS = [0.01 * 2**n for n in range(14)]  # 10 ms .. 81.92 s, the same
_RECALL_BUCKETS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]


def found() -> Telemetry | None:
    """What the program has set up by now. None: no provider, and whoever asks has one comparison to pay for that.

    OpenTelemetry is not imported for it: who has set up a provider has imported it.
    """
    trace, metrics = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.metrics")
    tracing = None if trace is None else _set_up(trace.get_tracer_provider())
    metering = None if metrics is None else _set_up(metrics.get_meter_provider())
    return Telemetry(tracing, metering) if tracing is not None or metering is not None else None


def _set_up(provider: Any) -> Any:
    # The API has no question for it, and of its stand-in for a missing meter provider no public name.
    return None if type(provider).__name__ in ("ProxyTracerProvider", "NoOpTracerProvider", "_ProxyMeterProvider",
                                               "NoOpMeterProvider") else provider


class Telemetry:
    """The spans and instruments of a space. Lives as long as the space; safe in all threads."""

    def __init__(self, tracing: Any, metering: Any) -> None:
        from opentelemetry import metrics, trace

        self._trace = trace
        self._tracer: Any = tracing.get_tracer(NAME) if tracing is not None else trace.NoOpTracer()
        meter = metering.get_meter(NAME) if metering is not None else metrics.NoOpMeter(NAME)
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS)
        self._recalls = meter.create_histogram(
            "memgang.recall.duration", "s", "Time from the ask to the answer.", explicit_bucket_boundaries_advisory=_RECALL_BUCKETS)
        self._tokens = meter.create_counter("memgang.saved.tokens", "{token}", "Tokens that were not used, because an answer was shared.")
        self._money = meter.create_counter("memgang.saved.cost", "{USD}", "What was not paid, by the price table.")

    # ── who acts ──────────────────────────────────────────────────────────────────────────────

    def stamped(self, context: Context) -> Context:
        """The context with the id of the trace under way, for the events of the log."""
        span = self._trace.get_current_span().get_span_context()
        if not span.is_valid or context.trace == (trace := f"{span.trace_id:032x}"):
            return context
        return replace(context, trace=trace)

    # ── memory ────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def doing(self, name: str, **attributes: Any) -> Iterator[Any]:
        """A span around what is inside; the span is yielded, to be told more."""
        with self._span(name, self._trace.SpanKind.INTERNAL, _dotted(attributes)) as span:
            yield span

    @contextlib.contextmanager
    def recalling(self, call: Call) -> Iterator[Recalling]:
        """A span around a recall."""
        with self._span("memgang.recall", self._trace.SpanKind.INTERNAL, _of(call)) as span:
            yield Recalling(self, span, call.kind)

    def at_hand(self, call: Call, ref: str, usage: Usage, us: int) -> None:
        """A hit that has happened, in so many microseconds."""
        now = time.time_ns()
        span = self._tracer.start_span("memgang.recall", attributes=_of(call), start_time=now - us * 1000)
        self.told(span, call.kind, "hit", ref, usage, us / 1e6)
        span.end(now)

    def told(self, span: Any, kind: str, cache: str, ref: str, usage: Usage, seconds: float) -> None:
        """How a recall was answered."""
        span.set_attribute("memgang.cache", cache)
        span.set_attribute("memgang.ref", ref)
        labels = {"memgang.cache": cache, "memgang.call.kind": kind}
        self._recalls.record(seconds, labels)
        if cache in ("hit", "joined"):
            span.set_attribute("memgang.saved_tokens", usage.tokens)
            span.set_attribute("memgang.saved_dollars", usage.usd)
            if usage.tokens:
                self._tokens.add(usage.tokens_in, {**labels, "memgang.token.type": "input"})
                self._tokens.add(usage.tokens_out, {**labels, "memgang.token.type": "output"})
            if usage.micro_usd:
                self._money.add(usage.usd, labels)

    # ── language models ───────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def asking(self, provider: str, model: str, parameters: Mapping[str, Any]) -> Iterator[Inference]:
        """A span around one request to a language model; what sends it is inside the span."""
        asked = self.sending(provider, model, parameters)
        try:
            with self._trace.use_span(asked.span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
                yield asked
        except BaseException as error:
            asked.end(error)
            raise
        asked.end()

    def sending(
        self, provider: str, model: str, parameters: Mapping[str, Any] | None = None, *, operation: str = "chat", stream: bool = False,
    ) -> Inference:
        """The same for an answer that comes by pieces: who reads them works in a context of its own, which is left alone."""
        labels: dict[str, Any] = {"gen_ai.operation.name": operation, "gen_ai.provider.name": provider, "gen_ai.request.model": model}
        more = {f"gen_ai.request.{name}": parameters[given] for given, name in _PARAMETERS.items()
                if parameters and type(parameters.get(given)) in (int, float)}
        if stream:
            more["gen_ai.request.stream"] = True
        kind = self._trace.SpanKind.INTERNAL if provider in OWN_PROCESS else self._trace.SpanKind.CLIENT
        return Inference(self, self._tracer.start_span(f"{operation} {model}", kind=kind, attributes=labels | more), labels)

    def spent(self, labels: dict[str, Any], seconds: float, tokens: Mapping[str, int]) -> None:
        """One request that was sent: how long it took, and what the provider says it used."""
        self._duration.record(seconds, labels)
        for kind, count in tokens.items():
            self._usage.record(count, {**labels, "gen_ai.token.type": kind})

    # ── spans ─────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _span(self, name: str, kind: Any, attributes: dict[str, Any]) -> Iterator[Any]:
        with self._tracer.start_as_current_span(
                name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield span
            except BaseException as error:
                self.failed(span, error)
                raise

    def failed(self, span: Any, error: BaseException) -> str:
        """Mark a span as failed, without the error's text; the class of the error."""
        span.set_attribute("error.type", kind := _error(error))
        span.set_status(self._trace.StatusCode.ERROR)
        return kind


class Recalling:
    """One recall under way."""

    def __init__(self, telemetry: Telemetry, span: Any, kind: str) -> None:
        self._telemetry, self._span, self._kind, self._began = telemetry, span, kind, time.perf_counter()

    def answered(self, cache: str, ref: str, usage: Usage) -> None:
        """It has ended: ``cache`` is hit, joined, miss or degraded."""
        self._telemetry.told(self._span, self._kind, cache, ref, usage, time.perf_counter() - self._began)


class Inference:
    """One request to a language model under way. `end` it, whatever becomes of it."""

    def __init__(self, telemetry: Telemetry, span: Any, labels: dict[str, Any]) -> None:
        self.span = span
        self._telemetry, self._labels, self._began = telemetry, labels, time.perf_counter()
        self._tokens: dict[str, int] = {}
        self._ended = False

    def answered(self, tokens_in: int, tokens_out: int, tokens_cached: int, *, estimated: bool, finish: str = "") -> None:
        """The answer is there. Counts that no provider reported are in no metric: the conventions have it so."""
        if finish:
            self.span.set_attribute("gen_ai.response.finish_reasons", [finish])
        if not estimated and tokens_in + tokens_out:
            self._tokens = {"input": tokens_in, "output": tokens_out}
            self.span.set_attribute("gen_ai.usage.input_tokens", tokens_in)
            self.span.set_attribute("gen_ai.usage.output_tokens", tokens_out)
            self.span.set_attribute("gen_ai.usage.cache_read.input_tokens", tokens_cached)

    def end(self, error: BaseException | None = None) -> None:
        """It is over, by this error if there is one. A second time changes nothing."""
        if self._ended:
            return
        self._ended = True
        labels = self._labels if error is None else {**self._labels, "error.type": self._telemetry.failed(self.span, error)}
        self._telemetry.spent(labels, time.perf_counter() - self._began, self._tokens)
        self.span.end()


def _of(call: Call) -> dict[str, Any]:
    return {"memgang.call.kind": call.kind, "memgang.call.function": call.function}


def _dotted(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"memgang.{name}": value for name, value in attributes.items()}


def _error(error: BaseException) -> str:
    if isinstance(error, ModelError):
        # A code may be what a server calls it, and of such there is no end: as a label it would be a new series each time.
        if status_of(status := error.code.partition(" ")[0]) is not None:
            return status
        if error.code in _CODES or error.code == type(error.__cause__).__name__:
            return error.code
        return _OTHER
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else type(error).__name__
