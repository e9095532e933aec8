"""The other tools, each as its documentation sets it up, without network: what they would send is counted
and dropped.

Every function imports what it needs itself: a worker loads the tool of its own subject only. Spans of the
OpenTelemetry rows go through the same SDK, batch processor and exporter as ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.overhead import apps
from bench.overhead.subject import Built, Framework, Subject

__all__ = ["METRICS_ONLY", "peer_subjects"]

STABLE = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http"}
ALONE = "bare, in another process (A/A)"
INNER_SPANS = ["receive", "send"]


def _registry_count(name: str) -> Callable[[], float]:
    def count() -> float:
        from prometheus_client import REGISTRY

        samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
        return sum(sample.value for sample in samples if sample.name == name)

    return count


# Metrics only.


def instrumentator(framework: Framework) -> Built:
    from prometheus_fastapi_instrumentator import Instrumentator

    app = apps.bare(framework)
    Instrumentator().instrument(app)
    return Built(app, _registry_count("http_requests_total"))


def starlette_exporter(framework: Framework) -> Built:
    from starlette_exporter import PrometheusMiddleware

    app = apps.bare(framework)
    app.add_middleware(PrometheusMiddleware)
    return Built(app, _registry_count("starlette_requests_total"))


def starlette_prometheus(framework: Framework) -> Built:
    from starlette_prometheus import PrometheusMiddleware

    app = apps.bare(framework)
    app.add_middleware(PrometheusMiddleware)
    return Built(app, _registry_count("starlette_requests_total"))


def aioprometheus(framework: Framework) -> Built:
    from aioprometheus import REGISTRY, MetricsMiddleware

    app = apps.bare(framework)
    app.add_middleware(MetricsMiddleware)

    def count() -> float:
        collector = REGISTRY.get("requests_total_counter")
        return float(sum(value for _, value in collector.get_all()))

    return Built(app, count)


# OpenTelemetry.


def _meters(reader: bool) -> Any:
    if not reader:
        return None
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider

    return MeterProvider(metric_readers=[PrometheusMetricReader()], shutdown_on_exit=False)


def contrib(
    ratio: float | None, inner: bool, reader: bool, framework: Framework, stamped: bool = False
) -> Built:
    """Return an app with the contrib instrumentation.

    Args:
        ratio: of traces sampled; ``None``: no tracer provider at all.
        inner: whether each message of the answer has a span, as by default.
        reader: whether metrics are recorded too.
        framework: decides between -asgi and -fastapi.
        stamped: whether a span processor puts two attributes on every span.
    """
    if ratio is None:
        return Built(_contrib(framework, inner, None, None))
    from opentelemetry.sdk.trace import SpanProcessor

    from bench.overhead.spans import Spans

    class Stamp(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            span.set_attributes({"app.version": "1.2.0", "rolloutobs.track": "canary"})

    spans = Spans(ratio)
    if stamped:
        spans.provider.add_span_processor(Stamp())
    app = _contrib(framework, inner, spans.provider, _meters(reader))
    return Built(**spans.built(app))


def _contrib(framework: Framework, inner: bool, tracers: Any, meters: Any) -> Any:
    options = {
        "tracer_provider": tracers,
        "meter_provider": meters,
        "exclude_spans": None if inner else INNER_SPANS,
    }
    app = apps.bare(framework)
    if framework is Framework.FASTAPI:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app, **options)
        return app
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(app, **options)


def starlette_native(ratio: float, framework: Framework) -> Built:
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

    from bench.overhead.spans import Spans

    spans = Spans(ratio)
    app = apps.bare(framework)
    app.add_middleware(OpenTelemetryMiddleware, tracer_provider=spans.provider)
    return Built(**spans.built(app))


def fastapi_native(ratio: float | None, operations: bool, reader: bool, framework: Framework) -> Built:
    from bench.overhead.spans import Spans

    spans = Spans(ratio or 0.0)
    telemetry: dict[str, Any] = {"operation_spans": operations, "tracing": ratio is not None}
    telemetry["tracer_provider"] = spans.provider
    telemetry["meter_provider"] = _meters(reader)
    app = apps.fastapi_app(telemetry=telemetry)
    if ratio is None:
        return Built(app, _registry_count("http_server_request_duration_seconds_count"))
    return Built(**spans.built(app))


# Agents and platforms.


def elastic(framework: Framework) -> Built:
    from elasticapm.contrib.starlette import ElasticAPM, make_apm_client

    client = make_apm_client(
        {
            "SERVICE_NAME": "bench",
            "CLOUD_PROVIDER": "none",
            "CENTRAL_CONFIG": False,
            "TRANSPORT_CLASS": "bench.overhead.sinks.ElasticSink",
        }
    )
    app = apps.bare(framework)
    app.add_middleware(ElasticAPM, client=client)
    return Built(app, lambda: float(client._transport.transactions))


def ddtrace(framework: Framework) -> Built:
    import ddtrace.auto  # noqa: F401 - importing it is what patches the framework
    from ddtrace.trace import tracer

    from bench.overhead.sinks import datadog_writer

    writer = datadog_writer()
    tracer._span_aggregator.writer = writer
    return Built(apps.bare(framework), lambda: float(writer.traces))


def logfire(framework: Framework) -> Built:
    import logfire

    from bench.overhead.spans import Spans

    spans = Spans(1.0)
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        additional_span_processors=[spans.processor],
    )
    app = apps.bare(framework)
    if framework is Framework.FASTAPI:
        logfire.instrument_fastapi(app)
        return Built(**spans.built(app))
    return Built(**spans.built(logfire.instrument_asgi(app)))


def sentry(ratio: float, framework: Framework) -> Built:
    import sentry_sdk

    from bench.overhead.sinks import sentry_transport

    transport = sentry_transport()
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        traces_sample_rate=ratio or None,
        transport=transport,
        release="1.2.0",
        auto_session_tracking=False,
    )
    return Built(apps.bare(framework), lambda: float(transport.transactions))


def _subjects(framework: Framework, rows: Sequence[tuple[Any, ...]]) -> list[Subject]:
    """Return subjects of rows (name, function, its arguments, share that must be recorded, environment)."""
    return [
        Subject(name, partial(make, *arguments, framework), framework, env, "", share)
        for name, make, arguments, share, env in rows
    ]


_QUIET_DATADOG = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
}
_COUNTERS: list[tuple[Any, ...]] = [
    ("aioprometheus (no latency)", aioprometheus, (), 1.0, {}),
    ("prometheus-fastapi-instrumentator", instrumentator, (), 1.0, {}),
    ("starlette-exporter", starlette_exporter, (), 1.0, {}),
    ("starlette-prometheus", starlette_prometheus, (), 1.0, {}),
]
METRICS_ONLY = tuple(row[0] for row in _COUNTERS)
_AGENTS: list[tuple[Any, ...]] = [
    ("ddtrace", ddtrace, (), 1.0, _QUIET_DATADOG),
    ("logfire", logfire, (), 1.0, {}),
    ("sentry-sdk, traces 100 %", sentry, (1.0,), 1.0, {}),
    ("sentry-sdk, traces 10 %", sentry, (0.1,), 0.1, {}),
    ("sentry-sdk, errors only", sentry, (0.0,), 0.0, {}),
]
_STARLETTE: list[tuple[Any, ...]] = [
    *_COUNTERS,
    ("otel-asgi, no provider", contrib, (None, True, False), 0.0, {}),
    ("otel-asgi, 100 %, as it comes", contrib, (1.0, True, False), 1.0, {}),
    ("otel-asgi, 10 %, as it comes", contrib, (0.1, True, False), 0.1, {}),
    ("otel-asgi, 0 %, as it comes", contrib, (0.0, True, False), 0.0, {}),
    ("otel-asgi, 100 %, one span", contrib, (1.0, False, False), 1.0, STABLE),
    ("otel-asgi, 10 %, one span", contrib, (0.1, False, False), 0.1, STABLE),
    ("otel-asgi, 0 %, one span", contrib, (0.0, False, False), 0.0, STABLE),
    ("otel-asgi, 100 %, one span, metrics", contrib, (1.0, False, True), 1.0, STABLE),
    ("otel-asgi, 10 %, one span, metrics", contrib, (0.1, False, True), 0.1, STABLE),
    ("otel-asgi, 0 %, one span, metrics", contrib, (0.0, False, True), 0.0, STABLE),
    ("Starlette's own, 100 %", starlette_native, (1.0,), 1.0, {}),
    ("Starlette's own, 10 %", starlette_native, (0.1,), 0.1, {}),
    ("Starlette's own, 0 %", starlette_native, (0.0,), 0.0, {}),
    ("elastic-apm", elastic, (), 1.0, {}),
    *_AGENTS,
]
_FASTAPI: list[tuple[Any, ...]] = [
    *_COUNTERS[1:3],
    ("otel-fastapi, 100 %, as it comes", contrib, (1.0, True, False), 1.0, {}),
    ("otel-fastapi, 10 %, one span", contrib, (0.1, False, False), 0.1, STABLE),
    ("otel-fastapi, 100 %, one span, metrics", contrib, (1.0, False, True), 1.0, STABLE),
    ("otel-fastapi, 10 %, one span, metrics", contrib, (0.1, False, True), 0.1, STABLE),
    ("FastAPI's own, 100 %, as it comes", fastapi_native, (1.0, True, True), 1.0, {}),
    ("FastAPI's own, 10 %, as it comes", fastapi_native, (0.1, True, True), 0.1, {}),
    ("FastAPI's own, 100 %, one span", fastapi_native, (1.0, False, False), 1.0, {}),
    ("FastAPI's own, 10 %, one span", fastapi_native, (0.1, False, False), 0.1, {}),
    ("FastAPI's own, metrics only", fastapi_native, (None, False, True), 1.0, {}),
    *_AGENTS,
]


def peer_subjects(framework: Framework) -> list[Subject]:
    """Return the peers' rows of one framework."""
    rows = _FASTAPI if framework is Framework.FASTAPI else _STARLETTE
    return _subjects(framework, [(ALONE, apps.bare_built, (), 0.0, {}), *rows])
