"""The HTTP metrics of one instrumented app."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import time
from typing import Final

from opentelemetry.trace import Span, get_current_span

from rolloutobs import semconv
from rolloutobs.settings import Naming, OnConflict, Settings
from rolloutobs.telemetry.cells import OVERFLOW, Exemplar, HistogramCell, HistogramFamily, NumberCell
from rolloutobs.telemetry.hub import Hub, view_makers
from rolloutobs.telemetry.trust import Mark

__all__ = ["HttpMetrics", "Outcome", "exemplify"]

Outcome = tuple[str, str, int, Mark] | tuple[str, str, int, Mark, str]
"""Method (known, or ``_OTHER``), route template or empty string, status (the one sent, 499 or 500),
`Inbound.mark`: whether a check or a load test asked, and who called where that is wanted; and the scheme,
where `HttpMetrics.by_scheme` says that it is looked at."""
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
_SENT_DURATIONS = semconv.PREFIX + semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS
_SCHEMES = frozenset({"http", "https"})
_FIRST_ERROR = 500
_REQUESTS_HELP = (
    "Requests answered; 500 if the app raised, 499 if the client left before the answer was whole."
)
_DURATIONS_HELP = "Time from the request to the last byte of the answer, without background tasks."


@dataclass(frozen=True, slots=True)
class _Names:
    """How one naming calls the metrics."""

    requests: str
    request_labels: tuple[str, ...]
    """Values: method, route, status, synthetic."""
    durations: str
    duration_labels: tuple[str, ...]
    """Values: method, route, class of the status, synthetic; or those of `_fine`."""
    in_flight: str


_DEFAULT: Final = _Names(
    semconv.HTTP_REQUESTS_TOTAL,
    (semconv.LABEL_METHOD, semconv.LABEL_ROUTE, semconv.LABEL_STATUS, semconv.LABEL_SYNTHETIC),
    semconv.HTTP_REQUEST_DURATION_SECONDS,
    (semconv.LABEL_METHOD, semconv.LABEL_ROUTE, semconv.LABEL_STATUS_CLASS, semconv.LABEL_SYNTHETIC),
    semconv.HTTP_REQUESTS_IN_FLIGHT,
)
_SEMCONV: Final = _Names(
    semconv.HTTP_SERVER_REQUESTS_TOTAL,
    (
        semconv.LABEL_HTTP_REQUEST_METHOD,
        semconv.LABEL_HTTP_ROUTE,
        semconv.LABEL_HTTP_RESPONSE_STATUS_CODE,
        semconv.LABEL_SYNTHETIC,
    ),
    semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS,
    (
        semconv.LABEL_HTTP_REQUEST_METHOD,
        semconv.LABEL_HTTP_ROUTE,
        semconv.LABEL_HTTP_RESPONSE_STATUS_CODE,
        semconv.LABEL_SYNTHETIC,
        semconv.LABEL_URL_SCHEME,
        semconv.LABEL_ERROR_TYPE,
    ),
    semconv.HTTP_SERVER_ACTIVE_REQUESTS,
)


class HttpMetrics:
    """Counts requests, their durations and those in flight.

    The cells of an outcome are found with one lookup; labels are strings only when a set is new.

    With OpenTelemetry's names, and where metrics are sent over OTLP, durations are kept by status and scheme.
    What ``/metrics`` shows under the default names is merged from them at the scrape, so that a request adds
    to one histogram only.
    """

    def __init__(self, hub: Hub) -> None:
        settings = hub.settings
        self._caller_labels = CALLER_LABELS if settings.caller_label else ()
        self._callers: set[tuple[str, ...]] = set()
        default = settings.naming is Naming.DEFAULT
        names = _DEFAULT if default else _SEMCONV
        prefix = semconv.PREFIX if settings.on_conflict is OnConflict.PREFIX else ""
        self._requests = (
            hub.counter(
                prefix + names.requests, _REQUESTS_HELP, (*names.request_labels, *self._caller_labels)
            )
            if default or settings.caller_label
            else None
        )
        self.by_scheme = settings.export_metrics or not default
        """Whether an outcome carries its scheme."""
        self._durations = self._new_durations(hub, prefix, names)
        self._in_flight = hub.gauge(prefix + names.in_flight, "Requests being answered now.", ())
        self.in_flight = self._in_flight.cell()
        """Looked at by the hot path, as is `pairs`."""
        self._lock = threading.RLock()
        self._cap = settings.max_label_sets
        self.pairs: dict[Outcome, Pair] = {}
        """What `pair` has made; the hot path looks here, and adds to the cells itself."""
        hub.store.on_move(self._look_up_again)

    def _look_up_again(self) -> None:
        # Of a process that was just forked, too, where the thread that held the lock does not exist.
        self._lock = threading.RLock()
        self.pairs.clear()
        self.in_flight = self._in_flight.cell()

    def began(self) -> None:
        """Count a request as in flight, from any thread."""
        with self._lock:
            self.in_flight.value += 1.0

    def ended(self, what: Outcome, seconds: float) -> HistogramCell:
        """Count a request that was in flight, from any thread; return the histogram that it is in.

        The event loop of an ASGI app does the same without a lock, and without a call.
        """
        with self._lock:
            self.in_flight.value -= 1.0
            counter, histogram = self.pairs.get(what) or self.pair(what)
            counter.value += 1.0
            histogram.observe(seconds)
        return histogram

    def _new_durations(self, hub: Hub, prefix: str, names: _Names) -> HistogramFamily:
        if names is _SEMCONV or not self.by_scheme:
            return hub.histogram(prefix + names.durations, _DURATIONS_HELP, names.duration_labels)
        hub.views.update(_views(hub.settings))
        return hub.histogram(_SENT_DURATIONS, _DURATIONS_HELP, _SEMCONV.duration_labels)

    def pair(self, what: Outcome) -> Pair:
        """Return counter and histogram of an outcome, for `pairs` to keep."""
        method, route, status, mark, *scheme = what
        synthetic, *caller = (mark,) if isinstance(mark, bool) else mark
        marker, labels = _SYNTHETIC[synthetic], self._labels_of(tuple(caller))
        code = str(int(status))
        counter = NumberCell()
        if self._requests is not None:
            for expected in FROM_ZERO_STATUSES if caller else ():
                # As for the routes, of which only the app knows beforehand.
                self._requests.cell(method, route, expected, marker, *labels)
            counter = self._requests.cell(method, route, code, marker, *labels)
        if self.by_scheme:
            known = scheme[0] if scheme and scheme[0] in _SCHEMES else semconv.METHOD_OTHER
            error = code if int(status) >= _FIRST_ERROR else ""
            histogram = self._durations.cell(method, route, code, marker, known, error)
        else:
            histogram = self._durations.cell(method, route, f"{code[0]}xx", marker)
        if len(self.pairs) < 2 * self._cap:
            self.pairs[what] = counter, histogram
        return counter, histogram

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
        if self._requests is None:
            return
        for method, route in routes:
            known = method if method in semconv.METHODS else semconv.METHOD_OTHER
            for status in FROM_ZERO_STATUSES:
                self._requests.cell(known, route, status, "", *self._labels_of(()))


def _views(settings: Settings) -> dict[str, Callable[[HistogramFamily], HistogramFamily]]:
    """Return what ``/metrics`` shows in place of the durations that are sent over OTLP."""
    if settings.naming is not Naming.DEFAULT or not settings.export_metrics:
        return {}
    prefix = semconv.PREFIX if settings.on_conflict is OnConflict.PREFIX else ""
    shown, labels = prefix + _DEFAULT.durations, _DEFAULT.duration_labels
    return {
        _SENT_DURATIONS: lambda fine: _by_class(
            fine, HistogramFamily(shown, _DURATIONS_HELP, labels, fine.bounds)
        )
    }


view_makers.append(_views)


def _by_class(fine: HistogramFamily, merged: HistogramFamily) -> HistogramFamily:
    """Return `merged` with the counts of `fine`, by class of the status and without the scheme."""
    for (method, route, status, marker, *_), cell in fine.items():
        whole = (OVERFLOW,) * len(merged.label_names)
        values = whole if method == OVERFLOW else (method, route, f"{status[0]}xx", marker)
        target = merged.cell(*values)
        for index, count in enumerate(list(cell.counts)):
            target.counts[index] += count
        target.sum += cell.sum
        kept = target.exemplars()
        for index, exemplar in cell.exemplars().items():
            if index not in kept or kept[index].timestamp < exemplar.timestamp:
                target.exemplify(exemplar)
    return merged


def exemplify(histogram: HistogramCell, span: Span | None, seconds: float) -> None:
    """Keep the trace of `span` as the example of a duration, if it is sampled.

    Args:
        histogram: to which `seconds` was added.
        span: of the request; ``None``: whichever is active, of another instrumentation.
        seconds: how long the request took.
    """
    context = (get_current_span() if span is None else span).get_span_context()
    if context.trace_flags.sampled:
        histogram.exemplify(Exemplar(context.trace_id, context.span_id, seconds, time()))
