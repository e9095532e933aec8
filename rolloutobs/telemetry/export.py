"""The tracer provider that `instrument()` sets where the app has none and an OTLP endpoint is configured.

Everything about the exporter itself (endpoint, headers, compression, batch sizes) is left to the ``OTEL_*``
variables that OpenTelemetry defines.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from rolloutobs.detection import resource_attributes
from rolloutobs.errors import MissingExtraError
from rolloutobs.settings import Settings
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.sampling import sampler_for

__all__ = [
    "CountedBatches",
    "CountedExporter",
    "Flushable",
    "flush",
    "resource_of",
    "set_exporting_provider",
    "span_exporter",
]

_logger = logging.getLogger("rolloutobs")
_HTTP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_GRPC = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
FLUSH_SECONDS = 5.0
"""At most this long is shut-down delayed for the last spans; a sixth of the grace period of a Kubernetes
pod.
"""


class CountedExporter(SpanExporter):
    """Counts the batches that `inner` could not send."""

    def __init__(self, inner: SpanExporter, failures: Failures) -> None:
        self._inner = inner
        self._failures = failures

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export with the inner exporter."""
        try:
            result = self._inner.export(spans)
        except Exception as error:
            self._failures.record(Where.EXPORT, error)
            return SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._failures.record(Where.EXPORT, f"{len(spans)} spans were not accepted")
        return result

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


class CountedBatches(BatchSpanProcessor):
    """The SDK's batches; counts every span that falls out of a full queue, as when a collector hangs."""

    def __init__(self, exporter: SpanExporter, failures: Failures) -> None:
        super().__init__(exporter)
        self._failures = failures

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span."""
        batch = self._batch_processor
        sampled = span.context is not None and span.context.trace_flags.sampled
        if sampled and len(batch._queue) >= batch._max_queue_size:
            self._failures.record(Where.EXPORT, "the queue is full, the oldest span was dropped")
        super().on_end(span)


def set_exporting_provider(settings: Settings, failures: Failures) -> TracerProvider | None:
    """Set a global tracer provider that exports over OTLP, and return it; ``None`` where that is not wanted.

    It is not wanted when a provider is set already, or no OTLP endpoint is configured. An exporter that is
    not installed is logged with its ``pip install`` line: an endpoint that a platform sets for every pod must
    not stop an app from starting.
    """
    if not settings.export_traces or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    try:
        exporter = span_exporter(settings)
    except MissingExtraError as error:
        failures.record(Where.EXPORT, error)
        return None
    sampler = None if settings.ratios is None else sampler_for(settings.ratios)
    provider = TracerProvider(sampler=sampler, resource=resource_of(settings))
    provider.add_span_processor(CountedBatches(CountedExporter(exporter, failures), failures))
    trace.set_tracer_provider(provider)
    return provider


def span_exporter(settings: Settings) -> SpanExporter:
    """Return what sends spans over OTLP, as the ``OTEL_*`` variables say.

    Raises:
        MissingExtraError: it is not installed.
    """
    module = _GRPC if settings.otlp_grpc else _HTTP
    try:
        exporter: SpanExporter = import_module(module).OTLPSpanExporter()
    except ModuleNotFoundError as error:
        if settings.otlp_grpc:
            _logger.warning("pip install opentelemetry-exporter-otlp-proto-grpc, or use OTLP over HTTP")
        raise MissingExtraError("otlp", "sending spans over OTLP", error.name or module) from error
    return exporter


def resource_of(settings: Settings) -> Resource:
    """Return the resource of everything that is exported."""
    # The track is not here: a resource never changes, a track does.
    attributes = resource_attributes(settings, os.environ)
    try:
        return Resource.create(attributes)
    except RuntimeError:
        # Its detectors run in threads, which a process that is ending no longer has.
        return Resource(attributes)


class Flushable(Protocol):
    """A provider of spans, metrics or log records."""

    def force_flush(self, timeout_millis: int = ...) -> bool:
        """Send what is queued."""


def flush(provider: Flushable, seconds: float = FLUSH_SECONDS) -> None:
    """Send what is queued, for at most `seconds`; a collector that hangs costs no more than that."""
    # force_flush of the batch processor does not keep to its own timeout.
    thread = threading.Thread(target=provider.force_flush, name="rolloutobs-flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # No more threads, or the interpreter is ending: then its own timeout has to do.
        provider.force_flush(int(seconds * 1000))
        return
    thread.join(seconds)
