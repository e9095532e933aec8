"""The HTTP metrics of one instrumented app."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.settings import Settings
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramCell, HistogramFamily, NumberCell

__all__ = ["HttpMetrics"]

Outcome = tuple[str, str, int, bool]
"""Method (known, or ``_OTHER``), route template or empty string, status (the one sent, 499 or 500), and
whether a check or a load test asked."""
Pair = tuple[NumberCell, HistogramCell]
_SYNTHETIC = {True: semconv.SYNTHETIC_TRUE, False: ""}
FROM_ZERO_STATUSES = ("200", "500")
"""Exposed at 0 for every known route: else the first error of a route is no increase to Prometheus."""


class HttpMetrics:
    """Counts requests, their durations and those in flight.

    The cells of an outcome are found with one lookup; labels are strings only when a set is new.
    """

    def __init__(self, settings: Settings) -> None:
        cap = settings.max_label_sets
        dimensions = (semconv.LABEL_METHOD, semconv.LABEL_ROUTE)
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
            semconv.DURATION_BOUNDS,
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
        self.pairs: dict[Outcome, Pair] = {}
        """What `pair` has made; the hot path looks here, and adds to the cells itself."""

    def pair(self, what: Outcome) -> Pair:
        """Return counter and histogram of an outcome, for `pairs` to keep."""
        method, route, status, synthetic = what
        marker = _SYNTHETIC[synthetic]
        pair = (
            self._requests.cell(method, route, str(int(status)), marker),
            self._durations.cell(method, route, f"{int(status) // 100}xx", marker),
        )
        if len(self.pairs) < 2 * self._cap:
            self.pairs[what] = pair
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
