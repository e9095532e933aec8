"""Sends the metrics of checks that nobody scrapes: to a Pushgateway, or over OTLP.

Belongs here: both ways out, and the thread that keeps a slow receiver from delaying the next pair.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, cast

from prometheus_client import CollectorRegistry, push_to_gateway
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rolloutobs.errors import MissingExtraError
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily

__all__ = ["Pusher", "otlp_sender", "pushgateway_sender"]

log = logging.getLogger(__name__)

_JOB = "rolloutobs-synthetic"
_SECONDS = 10.0
"""Longest that a receiver may take; the metrics are small."""


class Metrics(Protocol):
    """What is sent: of checks, or of a load."""

    def collect(self) -> Iterable[Metric]:
        """Return it as prometheus_client renders it."""

    @property
    def families(self) -> Sequence[CounterFamily | GaugeFamily | HistogramFamily]:
        """Everything that is exposed."""


def pushgateway_sender(url: str, metrics: Metrics, group: Mapping[str, str]) -> Callable[[], None]:
    """Return what sends `metrics` to the Pushgateway at `url`.

    Each push replaces all of its `group` (``PUT``), which is one of this app and these checks: no version
    that was checked earlier is left behind.
    """
    registry = CollectorRegistry()
    registry.register(cast(Collector, metrics))

    def send() -> None:
        push_to_gateway(url, _JOB, registry, dict(group), timeout=_SECONDS)

    return send


def otlp_sender(metrics: Metrics) -> Callable[[], None]:
    """Return what sends `metrics` over OTLP, where and how the ``OTEL_*`` variables say.

    Raises:
        MissingExtraError: there is no exporter.
    """
    package = "opentelemetry.exporter.otlp"
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError("otlp", "sending metrics over OTLP", package)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import (
        MetricExportResult,
        MetricsData,
        ResourceMetrics,
        ScopeMetrics,
    )
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    exporter = OTLPMetricExporter(timeout=_SECONDS)
    # Its own name, whatever the environment says: the app did not send this, and is a label of each point.
    resource = Resource.create({"service.name": _JOB})
    began = time.time()

    def send() -> None:
        # It brings OpenTelemetry's metrics, which a check without --otlp need not load.
        from rolloutobs.telemetry.otlp_points import Times, to_metric

        times = Times({"stable": began, "canary": began, "": began}, time.time())
        made = [to_metric(family.definition, family.collect(), {}, times) for family in metrics.families]
        scope = ScopeMetrics(InstrumentationScope(__name__), [m for m in made if m is not None], "")
        data = MetricsData([ResourceMetrics(resource, [scope], "")])
        if exporter.export(data) is not MetricExportResult.SUCCESS:
            raise OSError("the receiver did not accept the metrics")

    return send


class Pusher:
    """Sends in a thread of its own, one sending at a time.

    Args:
        senders: each sends everything there is, and raises what went wrong.
        on_failure: told that one did.
    """

    def __init__(self, senders: Sequence[Callable[[], None]], on_failure: Callable[[], None]) -> None:
        self._senders = senders
        self._on_failure = on_failure
        self._threads = ThreadPoolExecutor(1, "rolloutobs-push")
        self._under_way: Future[Any] | None = None

    def push(self) -> None:
        """Send, unless a sending is under way: the next one has these counts, too."""
        if self._senders and (self._under_way is None or self._under_way.done()):
            self._under_way = self._threads.submit(self._send)

    def close(self) -> None:
        """Send for the last time and wait for it."""
        if self._senders:
            self._threads.submit(self._send)
        self._threads.shutdown(wait=True)

    def _send(self) -> None:
        for send in self._senders:
            try:
                send()
            except Exception as problem:
                # Whatever a receiver does, the checks go on; counts are cumulative, the next push has them.
                self._on_failure()
                log.warning("metrics could not be sent: %s", problem)
