"""The HTTP metrics of one instrumented app."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.settings import Settings
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramCell, HistogramFamily, NumberCell

__all__ = ["HttpMetrics"]

_Pair = tuple[NumberCell, HistogramCell]
_SYNTHETIC = {True: semconv.SYNTHETIC_TRUE, False: ""}
FROM_ZERO_STATUSES = ("200", "500")
"""Exposed at 0 for every known route: else the first error of a route is no increase to Prometheus."""


class HttpMetrics:
    """Counts requests, their durations and those in flight.

    The cells of (method, route, status) are found with one lookup; labels are strings only when a set is new.
    """

    def __init__(self, settings: Settings) -> None:
        cap = settings.max_label_sets
        dimensions = (semconv.LABEL_METHOD, semconv.LABEL_ROUTE)
        self._bounds = semconv.DURATION_BOUNDS
        self._requests = CounterFamily(
            semconv.HTTP_REQUESTS_TOTAL,
            "Requests answered; 500 if the app raised, 499 if the client left before the answer was whole.",
            (*dimensions, semconv.LABEL_STATUS, semconv.LABEL_SYNTHETIC),
            cap,
        )
        self._durations = HistogramFamily(
            semconv.HTTP_REQUEST_DURATION_SECONDS,
            "Time from the request to the last byte of the answer, without background tasks.",
            (*dimensions, semconv.LABEL_STATUS_CLASS, semconv.LABEL_SYNTHETIC),
            self._bounds,
            cap,
        )
        in_flight = GaugeFamily(semconv.HTTP_REQUESTS_IN_FLIGHT, "Requests being answered now.", ())
        self.in_flight = in_flight.cell()
        build = GaugeFamily(semconv.APP_BUILD_INFO, "Always 1; says what runs.", (semconv.LABEL_REVISION,))
        build.cell(settings.revision).value = 1.0
        started = GaugeFamily(
            semconv.APP_START_TIME_SECONDS, "Unix time at which the app was instrumented, in seconds.", ()
        )
        started.cell().value = time.time()
        self._dropped = CounterFamily(
            semconv.LABEL_SETS_DROPPED_TOTAL,
            "Lookups of label sets that are counted as _overflow because there are too many.",
            (semconv.LABEL_METRIC,),
        )
        self._families = (self._requests, self._durations, in_flight, build, started)
        self._cap = cap
        self._pairs: dict[tuple[str, str, int, bool], _Pair] = {}

    def record(self, method: str, route: str, status: int, synthetic: bool, seconds: float) -> None:
        """Count one answer.

        Args:
            method: known method, or ``_OTHER``.
            route: template, or the empty string.
            status: what the client got, 499 or 500.
            synthetic: whether a check or a load test asked.
            seconds: duration; not negative.
        """
        pair = self._pairs.get((method, route, status, synthetic))
        if pair is None:
            pair = self._pair(method, route, status, synthetic)
        counter, histogram = pair
        counter.value += 1.0
        histogram.counts[bisect_left(self._bounds, seconds)] += 1
        histogram.sum += seconds

    def _pair(self, method: str, route: str, status: int, synthetic: bool) -> _Pair:
        marker = _SYNTHETIC[synthetic]
        pair = (
            self._requests.cell(method, route, str(int(status)), marker),
            self._durations.cell(method, route, f"{int(status) // 100}xx", marker),
        )
        if len(self._pairs) < 2 * self._cap:
            self._pairs[method, route, status, synthetic] = pair
        return pair

    def expect(self, routes: Iterable[tuple[str, str]]) -> None:
        """Expose the counters of these (method, route) from zero; histograms appear when they are used."""
        for method, route in routes:
            known = method if method in semconv.METHODS else semconv.METHOD_OTHER
            for status in FROM_ZERO_STATUSES:
                self._requests.cell(known, route, status, "")

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for family in self._families:
            yield family.collect()
        for family in (self._requests, self._durations):
            self._dropped.cell(family.name).value = float(family.dropped)
        yield self._dropped.collect()
