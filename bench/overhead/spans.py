"""A tracer provider of the OpenTelemetry SDK whose spans go through a batch processor, to be dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind

__all__ = ["Spans"]


class _Discard(SpanExporter):
    def __init__(self) -> None:
        self.servers = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.servers += sum(span.kind is SpanKind.SERVER for span in spans)
        return SpanExportResult.SUCCESS


class Spans:
    """A provider that samples `ratio` of the traces, and what came out of it."""

    def __init__(self, ratio: float) -> None:
        self._exporter = _Discard()
        self.processor = BatchSpanProcessor(self._exporter)
        self.provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)

    def settle(self) -> None:
        """Export what is queued."""
        self.processor.force_flush()

    @property
    def recorded(self) -> Callable[[], float]:
        """Return a function that counts the server spans exported so far."""

        def count() -> float:
            self.settle()
            return float(self._exporter.servers)

        return count

    def built(self, app: Any, **changes: Any) -> dict[str, Any]:
        """Return the arguments of `Built` for an app whose proof of work is its spans."""
        return {"app": app, "recorded": self.recorded, "settle": self.settle, **changes}
