"""The trace under way, as text for another process: W3C traceparent. Imports nothing; worker processes begin with it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


def carried() -> str:
    """The span under way, for a call that goes to another process; '' where there is none, or no OpenTelemetry."""
    if (trace := sys.modules.get("opentelemetry.trace")) is None:
        return ""
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}" if span.is_valid else ""


@contextlib.contextmanager
def continued(traceparent: str) -> Iterator[None]:
    """Within the block, spans are children of one of another process, where this one knows OpenTelemetry at all."""
    if not traceparent.startswith("00-") or "opentelemetry.trace" not in sys.modules:
        yield
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    token = context.attach(TraceContextTextMapPropagator().extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)
