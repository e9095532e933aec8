"""Our families as OpenTelemetry metrics: names and attributes of its semantic conventions, cumulative points.

A metric that has no name there keeps its Prometheus name, without the suffixes that the way back adds again
(``_total`` of a sum that only grows, the unit): a Collector's Prometheus exporter shows the names of
``/metrics``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.sdk.metrics._internal.exemplar import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.samples import Exemplar, Sample

from rolloutobs import semconv
from rolloutobs.telemetry.cells import OVERFLOW, Definition, Kind

__all__ = ["Times", "to_metric"]

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_NANO = 1e9
_DURATION = "http.server.request.duration"
_ACTIVE = "http.server.active_requests"
_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS: (_DURATION, "s"),
    semconv.HTTP_SERVER_ACTIVE_REQUESTS: (_ACTIVE, "{request}"),
    semconv.HTTP_REQUESTS_IN_FLIGHT: (_ACTIVE, "{request}"),
}
"""Name and unit. Source: OpenTelemetry HTTP metrics semantic conventions 1.4x."""
_COUNTERS: Final = frozenset({semconv.HTTP_REQUESTS_TOTAL, semconv.HTTP_SERVER_REQUESTS_TOTAL})
"""The count of durations says the same; only callers are told apart by these alone."""
_UP_DOWN: Final = frozenset({_ACTIVE})
_ATTRIBUTES: Final[Mapping[str, str]] = {
    semconv.LABEL_METHOD: "http.request.method",
    semconv.LABEL_HTTP_REQUEST_METHOD: "http.request.method",
    semconv.LABEL_ROUTE: "http.route",
    semconv.LABEL_HTTP_ROUTE: "http.route",
    semconv.LABEL_STATUS: "http.response.status_code",
    semconv.LABEL_HTTP_RESPONSE_STATUS_CODE: "http.response.status_code",
    semconv.LABEL_URL_SCHEME: "url.scheme",
    semconv.LABEL_ERROR_TYPE: "error.type",
    semconv.LABEL_CALLER: semconv.ATTR_CALLER_SERVICE,
    semconv.LABEL_CALLER_VERSION: semconv.ATTR_CALLER_VERSION,
}
_UNITS: Final = (("_seconds", "s"), ("_bytes", "By"))
_STATUS = "http.response.status_code"


@dataclass(frozen=True, slots=True)
class Times:
    """When counts began, by track, and when they were read; Unix time in seconds."""

    started: Mapping[str, float]
    now: float
    ended: Mapping[str, float] = field(default_factory=dict)
    """Of earlier tracks."""
    track: str = ""
    """The track of now."""


def to_metric(
    definition: Definition, metric: PrometheusMetric, stamp: Mapping[str, str], times: Times
) -> Metric | None:
    """Return `metric` as OpenTelemetry has it; ``None`` if it is not sent, or has no points.

    Args:
        definition: of the family that `metric` was read from.
        metric: its samples, by track: those of earlier tracks have a label ``track``.
        stamp: attributes of every point, without the track.
        times: of the points.
    """
    plain = definition.name.removeprefix(semconv.PREFIX)
    if plain not in _NAMES and plain not in _COUNTERS:
        plain = definition.name
    if plain in _COUNTERS and semconv.LABEL_CALLER not in definition.label_names:
        return None
    name, unit = _NAMES.get(plain) or _named(plain)
    points = _Points(stamp, times, name)
    data: Sum | Gauge | Histogram
    if definition.kind is Kind.HISTOGRAM:
        data = Histogram(list(points.histograms(metric, definition.bounds)), _CUMULATIVE)
    elif definition.kind is Kind.COUNTER:
        data = Sum(list(points.numbers(metric)), _CUMULATIVE, is_monotonic=True)
    elif name in _UP_DOWN:
        data = Sum(list(points.numbers(metric)), _CUMULATIVE, is_monotonic=False)
    else:
        data = Gauge(list(points.numbers(metric)))
    return Metric(name, definition.documentation, unit, data) if data.data_points else None


def _named(name: str) -> tuple[str, str]:
    name = name.removesuffix("_total")
    for suffix, unit in _UNITS:
        if name.endswith(suffix):
            return name.removesuffix(suffix), unit
    return name, ""


class _Points:
    """Makes the points of one metric."""

    def __init__(self, stamp: Mapping[str, str], times: Times, name: str) -> None:
        self._stamp = stamp
        self._times = times
        self._is_http = name.startswith("http")

    def numbers(self, metric: PrometheusMetric) -> Iterator[NumberDataPoint]:
        for sample in metric.samples:
            track = sample.labels.get(semconv.LABEL_TRACK, self._times.track)
            yield NumberDataPoint(self._attributes(sample.labels, track), *self._span(track), sample.value)

    def histograms(self, metric: PrometheusMetric, bounds: tuple[float, ...]) -> Iterator[HistogramDataPoint]:
        for labels, samples in _by_histogram(metric):
            track = labels.get(semconv.LABEL_TRACK, self._times.track)
            buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
            cumulative = [int(sample.value) for sample in buckets]
            yield HistogramDataPoint(
                self._attributes(labels, track),
                *self._span(track),
                count=cumulative[-1],
                sum=next(sample.value for sample in samples if sample.name.endswith("_sum")),
                bucket_counts=[n - before for n, before in zip(cumulative, [0, *cumulative], strict=False)],
                explicit_bounds=bounds,
                # Not known, and optional in the protocol.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
                exemplars=[_exemplar(b.exemplar) for b in buckets if b.exemplar is not None],
            )

    def _span(self, track: str) -> tuple[int, int]:
        times = self._times
        end = times.now if track == times.track else times.ended.get(track, times.now)
        start = min(times.started.get(track, end), end)
        return int(start * _NANO), int(end * _NANO)

    def _attributes(self, labels: Mapping[str, str], track: str) -> dict[str, Any]:
        attributes: dict[str, Any] = dict(self._stamp)
        if track:
            attributes[semconv.ATTR_TRACK] = track
        own = {name: value for name, value in labels.items() if name != semconv.LABEL_TRACK}
        if own and all(value == OVERFLOW for value in own.values()):
            # Source: OpenTelemetry metrics SDK specification, "Overflow attribute".
            return {**attributes, "otel.metric.overflow": True}
        for name, value in own.items():
            if name == semconv.LABEL_SYNTHETIC:
                attributes[semconv.ATTR_SYNTHETIC_TYPE] = semconv.SYNTHETIC_TYPE_TEST
            elif value:
                key = _ATTRIBUTES.get(name, name) if self._is_http else name
                attributes[key] = int(value) if key == _STATUS and value.isdecimal() else value
        return attributes


def _by_histogram(metric: PrometheusMetric) -> Iterable[tuple[dict[str, str], list[Sample]]]:
    """Return the samples of each histogram of `metric`, with its labels; buckets stay in their order."""
    found: dict[tuple[tuple[str, str], ...], tuple[dict[str, str], list[Sample]]] = {}
    for sample in metric.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        found.setdefault(tuple(labels.items()), (labels, []))[1].append(sample)
    return found.values()


def _exemplar(exemplar: Exemplar) -> SdkExemplar:
    return SdkExemplar(
        {},
        exemplar.value,
        int(float(exemplar.timestamp or 0.0) * _NANO),
        int(exemplar.labels["span_id"], 16),
        int(exemplar.labels["trace_id"], 16),
    )
