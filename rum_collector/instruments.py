"""The metrics of real users, as cells that are rendered when they are scraped.

One book of families per app and version: a version that the admission forgot takes its series with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramCell, HistogramFamily, NumberCell
from rum_collector.admission import LABEL_NAMES, Admission, Kind, Labels, Release
from rum_collector.words import BeaconOutcome, Navigation, ValueRejection, Vital

__all__ = ["EVENT_ERROR", "EVENT_OK", "Instruments", "Panel", "describe"]

EVENT_OK: Final = "ok"
EVENT_ERROR: Final = "error"

_HISTOGRAMS: Final = {
    Vital.LCP: (semconv.RUM_LCP_SECONDS, "Largest contentful paint.", semconv.RUM_LCP_BOUNDS),
    Vital.INP: (semconv.RUM_INP_SECONDS, "Interaction to next paint.", semconv.RUM_INP_BOUNDS),
    Vital.CLS: (semconv.RUM_CLS, "Cumulative layout shift.", semconv.RUM_CLS_BOUNDS),
    Vital.FCP: (semconv.RUM_FCP_SECONDS, "First contentful paint.", semconv.RUM_FCP_BOUNDS),
    Vital.TTFB: (semconv.RUM_TTFB_SECONDS, "Time to first byte of the document.", semconv.RUM_TTFB_BOUNDS),
    Vital.LOAD: (
        semconv.RUM_PAGE_LOAD_SECONDS,
        "Navigation start to the end of the load event.",
        semconv.RUM_PAGE_LOAD_BOUNDS,
    ),
}
# Good up to the first, poor above the second: https://web.dev/articles/vitals. A page load has none.
_THRESHOLDS: Final = {
    Vital.LCP: (2.5, 4.0),
    Vital.INP: (0.2, 0.5),
    Vital.CLS: (0.1, 0.25),
    Vital.FCP: (1.8, 3.0),
    Vital.TTFB: (0.8, 1.8),
}
_RATINGS: Final = ("good", "needs-improvement", "poor")
# The admission bounds the label sets; this only has to be above what it lets through.
_UNBOUNDED: Final = 1_000_000_000


class _Book:
    """The families of one app and version."""

    def __init__(self) -> None:
        self.page_views = _counter(semconv.RUM_PAGE_VIEWS_TOTAL, "Page views.", semconv.LABEL_NAVIGATION_TYPE)
        self.views_with_errors = _counter(
            semconv.RUM_VIEWS_WITH_ERRORS_TOTAL, "Page views with at least one JavaScript error."
        )
        self.js_errors = _counter(
            semconv.RUM_JS_ERRORS_TOTAL,
            "JavaScript errors and unhandled rejections, each throw.",
            semconv.LABEL_FINGERPRINT,
        )
        self.events = _counter(
            semconv.RUM_EVENTS_TOTAL,
            "Business events, at most one per view, event and outcome.",
            semconv.LABEL_EVENT,
            semconv.LABEL_OUTCOME,
        )
        self.vitals = _counter(
            semconv.RUM_VITALS_TOTAL,
            "Page views by rating of a web vital.",
            semconv.LABEL_VITAL,
            semconv.LABEL_RATING,
        )
        self.error_info = GaugeFamily(
            semconv.RUM_JS_ERROR_INFO,
            "Always 1: the scrubbed message behind a fingerprint.",
            (semconv.LABEL_APP, semconv.LABEL_VERSION, semconv.LABEL_FINGERPRINT, semconv.LABEL_MESSAGE),
            _UNBOUNDED,
        )
        self.histograms = {
            vital: HistogramFamily(name, text, LABEL_NAMES, bounds, _UNBOUNDED)
            for vital, (name, text, bounds) in _HISTOGRAMS.items()
        }

    def families(self) -> Iterator[CounterFamily | GaugeFamily | HistogramFamily]:
        """Iterate over all families, in the same order in every book."""
        yield from (self.page_views, self.views_with_errors, self.js_errors, self.error_info)
        yield from (self.events, self.vitals)
        yield from self.histograms.values()


class Panel:
    """The cells of one label set, bound on first use: a beacon finds them by one lookup."""

    def __init__(self, book: _Book, labels: Labels) -> None:
        self.declared = False
        """Whether the series exist that a view without errors leaves at zero."""
        self._book = book
        self._labels = labels
        self._vitals: dict[Vital, tuple[HistogramCell, float, float, tuple[NumberCell, ...]]] = {}
        self._views: dict[Navigation, NumberCell] = {}
        self._events: dict[tuple[str, bool], NumberCell] = {}

    def declare(self) -> None:
        """Make the series that a view without errors leaves at zero: zero and absent must not look alike."""
        self.declared = True
        self._book.views_with_errors.cell(*self._labels)
        self._book.js_errors.cell(*self._labels, "")

    def view(self, navigation: Navigation) -> None:
        """Count one page view."""
        cell = self._views.get(navigation)
        if cell is None:
            cell = self._views[navigation] = self._book.page_views.cell(*self._labels, navigation.value)
        cell.inc()

    def vitals(self, values: Iterable[tuple[Vital, float]]) -> None:
        """Observe vitals in seconds (CLS: no unit), and their ratings."""
        for vital, value in values:
            histogram, good, poor, ratings = self._vitals.get(vital) or self._bind(vital)
            histogram.observe(value)
            if ratings:
                ratings[0 if value <= good else 1 if value <= poor else 2].value += 1.0

    def view_with_errors(self) -> None:
        """Count one page view that has had its first error."""
        self._book.views_with_errors.cell(*self._labels).inc()

    def js_error(self, fingerprint: str, message: str, count: int) -> None:
        """Count `count` throws of one error, and keep its message once per version."""
        self._book.js_errors.cell(*self._labels, fingerprint).inc(count)
        if fingerprint != semconv.RUM_OTHER:
            app, version = self._labels[:2]
            self._book.error_info.cell(app, version, fingerprint, message).value = 1.0

    def has_event(self, event: str, ok: bool) -> bool:
        """Return whether the event has a series here."""
        return (event, ok) in self._events

    def event(self, event: str, ok: bool, count: int = 1) -> None:
        """Count a business event; a `count` of 0 makes its series at zero."""
        cell = self._events.get((event, ok))
        if cell is None:
            outcome = EVENT_OK if ok else EVENT_ERROR
            cell = self._events[event, ok] = self._book.events.cell(*self._labels, event, outcome)
        cell.inc(count)

    def _bind(self, vital: Vital) -> tuple[HistogramCell, float, float, tuple[NumberCell, ...]]:
        histogram = self._book.histograms[vital].cell(*self._labels)
        good, poor = _THRESHOLDS.get(vital, (0.0, 0.0))
        names = _RATINGS if vital in _THRESHOLDS else ()
        ratings = tuple(self._book.vitals.cell(*self._labels, vital.value, name) for name in names)
        self._vitals[vital] = (histogram, good, poor, ratings)
        return self._vitals[vital]


class Instruments:
    """Counts what was admitted; a prometheus_client collector."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._books: dict[Release, _Book] = {}
        self._panels: dict[Labels, Panel] = {}
        self._beacons = CounterFamily(
            semconv.RUM_BEACONS_TOTAL, "Bodies posted to the collector.", (semconv.LABEL_OUTCOME,)
        )
        self._rejected = CounterFamily(
            semconv.RUM_VALUES_REJECTED_TOTAL,
            "Single values left out of accepted beacons.",
            (semconv.LABEL_REASON,),
        )
        self._overflow = CounterFamily(
            semconv.RUM_ADMISSION_OVERFLOW_TOTAL,
            "Values counted as other because their bound was reached.",
            (semconv.LABEL_KIND,),
        )
        # From zero, so that a rate sees the first one.
        self._outcomes = {outcome: self._beacons.cell(outcome.value) for outcome in BeaconOutcome}
        self._reasons = {reason: self._rejected.cell(reason.value) for reason in ValueRejection}

    def beacon(self, outcome: BeaconOutcome) -> None:
        """Count one body."""
        self._outcomes[outcome].inc()

    def value_rejected(self, reason: ValueRejection) -> None:
        """Count one value that was left out."""
        self._reasons[reason].inc()

    def panel(self, labels: Labels) -> Panel:
        """Return the cells of an admitted label set, made on first use."""
        panel = self._panels.get(labels)
        if panel is None:
            release = (labels.app, labels.version)
            book = self._books.get(release)
            if book is None:
                book = self._books[release] = _Book()
            panel = self._panels[labels] = Panel(book, labels)
        return panel

    def forget(self, release: Release) -> None:
        """Drop every series of an app and version."""
        self._books.pop(release, None)
        self._panels = {labels: panel for labels, panel in self._panels.items() if labels[:2] != release}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once, without labels that are empty."""
        for kind in Kind:
            self._overflow.cell(kind.value).value = self._admission.overflow[kind]
        yield from (self._beacons.collect(), self._rejected.collect(), self._overflow.collect())
        books = list(self._books.values()) or [_Book()]
        for families in zip(*(book.families() for book in books), strict=True):
            metric, *others = (family.collect() for family in families)
            samples = [sample for part in (metric, *others) for sample in part.samples]
            # An empty label equals an absent one in Prometheus, but would erase one that relabelling has set.
            metric.samples = [
                sample._replace(labels={name: value for name, value in sample.labels.items() if value})
                for sample in samples
            ]
            yield metric


def describe() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return name, type, labels of its own and meaning of each real-user metric, for the docs."""
    described = []
    for family in _Book().families():
        further = tuple(name for name in family.label_names if name not in LABEL_NAMES)
        described.append((family.name, family.collect().type, further, family.documentation))
    return described


def _counter(name: str, documentation: str, *further: str) -> CounterFamily:
    return CounterFamily(name, documentation, (*LABEL_NAMES, *further), _UNBOUNDED)
