"""The HTTP metrics of one instrumented app."""

from __future__ import annotations

from collections.abc import Iterable

from rolloutobs import semconv
from rolloutobs.telemetry.cells import OVERFLOW, HistogramCell, NumberCell
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.trust import Mark

__all__ = ["HttpMetrics"]

Outcome = tuple[str, str, int, Mark]
"""Method (known, or ``_OTHER``), route template or empty string, status (the one sent, 499 or 500), and
`Inbound.mark`: whether a check or a load test asked, and who called where that is wanted."""
Pair = tuple[NumberCell, HistogramCell]
CALLER_LABELS = (semconv.LABEL_CALLER, semconv.LABEL_CALLER_VERSION)
_NOBODY = ("", "")
_OTHERS = (OVERFLOW, OVERFLOW)
_SYNTHETIC = {True: semconv.SYNTHETIC_TRUE, False: ""}
MAX_CALLERS = 100
"""Callers (service and version) that are told apart; the rest is ``_overflow``. Callers name themselves, and
could use up all label sets of the metric."""
FROM_ZERO_STATUSES = ("200", "500")
"""Exposed at 0 for every known route: else the first error of a route is no increase to Prometheus."""


class HttpMetrics:
    """Counts requests, their durations and those in flight.

    The cells of an outcome are found with one lookup; labels are strings only when a set is new.
    """

    def __init__(self, hub: Hub) -> None:
        dimensions = (semconv.LABEL_METHOD, semconv.LABEL_ROUTE)
        self._caller_labels = CALLER_LABELS if hub.settings.caller_label else ()
        self._callers: set[tuple[str, ...]] = set()
        self._requests = hub.counter(
            semconv.HTTP_REQUESTS_TOTAL,
            "Requests answered; 500 if the app raised, 499 if the client left before the answer was whole.",
            (*dimensions, semconv.LABEL_STATUS, semconv.LABEL_SYNTHETIC, *self._caller_labels),
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
        method, route, status, mark = what
        synthetic, *caller = (mark,) if isinstance(mark, bool) else mark
        marker, labels = _SYNTHETIC[synthetic], self._labels_of(tuple(caller))
        for expected in FROM_ZERO_STATUSES if caller else ():
            # As for the routes, of which only the app knows beforehand.
            self._requests.cell(method, route, expected, marker, *labels)
        pair = (
            self._requests.cell(method, route, str(int(status)), marker, *labels),
            self._durations.cell(method, route, f"{int(status) // 100}xx", marker),
        )
        if len(self.pairs) < 2 * self._cap:
            self.pairs[what] = pair
        return pair

    def _labels_of(self, caller: tuple[str, ...]) -> tuple[str, ...]:
        """Return the values of the caller's labels, if there are such labels."""
        if not self._caller_labels:
            return ()
        if not caller:
            return _NOBODY
        if caller not in self._callers:
            if len(self._callers) >= MAX_CALLERS:
                return _OTHERS
            self._callers.add(caller)
        return caller

    def expect(self, routes: Iterable[tuple[str, str]]) -> None:
        """Expose the counters of these (method, route) from zero; histograms appear when they are used."""
        for method, route in routes:
            known = method if method in semconv.METHODS else semconv.METHOD_OTHER
            for status in FROM_ZERO_STATUSES:
                self._requests.cell(known, route, status, "", *self._labels_of(()))
