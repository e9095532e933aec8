"""The HTTP metrics of one instrumented app."""

from __future__ import annotations

from collections.abc import Iterable

from rolloutobs import semconv
from rolloutobs.telemetry.cells import HistogramCell, NumberCell
from rolloutobs.telemetry.hub import Hub

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

    def __init__(self, hub: Hub) -> None:
        dimensions = (semconv.LABEL_METHOD, semconv.LABEL_ROUTE)
        self._requests = hub.counter(
            semconv.HTTP_REQUESTS_TOTAL,
            "Requests answered; 500 if the app raised, 499 if the client left before the answer was whole.",
            (*dimensions, semconv.LABEL_STATUS, semconv.LABEL_SYNTHETIC),
        )
        self._durations = hub.histogram(
            semconv.HTTP_REQUEST_DURATION_SECONDS,
            "Time from the request to the last byte of the answer, without background tasks.",
            (*dimensions, semconv.LABEL_STATUS_CLASS, semconv.LABEL_SYNTHETIC),
        )
        self._in_flight = hub.gauge(semconv.HTTP_REQUESTS_IN_FLIGHT, "Requests being answered now.", ())
        self.in_flight = self._in_flight.cell()
        """Looked at by the hot path, as is `pairs`."""
        self._cap = hub.settings.max_label_sets
        self.pairs: dict[Outcome, Pair] = {}
        """What `pair` has made; the hot path looks here, and adds to the cells itself."""
        hub.store.on_move(self._look_up_again)

    def _look_up_again(self) -> None:
        self.pairs.clear()
        self.in_flight = self._in_flight.cell()

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
