"""The metrics of real users as data: name, kind, labels, bounds, meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from rolloutobs import semconv
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily, Merge
from rolloutobs.telemetry.store import Store
from rum_collector.admission import LABEL_NAMES
from rum_collector.words import BeaconOutcome, ValueRejection, Vital

__all__ = [
    "BOOK",
    "OPTIONAL",
    "RATINGS",
    "RATING_OF_BUCKET",
    "SOURCE_LABELS",
    "THRESHOLDS",
    "Families",
    "describe",
]

BOOK: Final = "rum"
"""Where all of them are in the store."""
SOURCE_LABELS: Final = (
    semconv.LABEL_APP,
    semconv.LABEL_VERSION,
    semconv.LABEL_TRACK,
    semconv.LABEL_SYNTHETIC,
    semconv.LABEL_SIGNED,
    semconv.LABEL_SOURCE,
)
"""Labels of what is split by groups of networks: neither route nor device, so that series stay few."""
OPTIONAL: Final = frozenset({*LABEL_NAMES, semconv.LABEL_FINGERPRINT, semconv.LABEL_KIND})
"""An empty label equals an absent one in Prometheus, but would erase one that relabelling has set."""

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
THRESHOLDS: Final = {
    Vital.LCP: (2.5, 4.0),
    Vital.INP: (0.2, 0.5),
    Vital.CLS: (0.1, 0.25),
    Vital.FCP: (1.8, 3.0),
    Vital.TTFB: (0.8, 1.8),
}
"""Good up to the first, poor above the second."""
RATINGS: Final = ("good", "needs-improvement", "poor")
RATING_OF_BUCKET: Final = {
    vital: tuple([(bound > good) + (bound > poor) for bound in (*_HISTOGRAMS[vital][2], math.inf)])
    for vital, (good, poor) in THRESHOLDS.items()
}
"""Of each vital: the index into `RATINGS` of each bucket, for both thresholds are bounds."""
# The admission bounds the label sets; this only has to be above what it lets through.
_UNBOUNDED: Final = 1_000_000_000
_PAIR: Final = (semconv.LABEL_EVENT, semconv.LABEL_OUTCOME)
_VITAL: Final = (semconv.LABEL_VITAL, semconv.LABEL_RATING)

_COUNTERS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "page_views": (semconv.RUM_PAGE_VIEWS_TOTAL, (semconv.LABEL_NAVIGATION_TYPE,), "Page views."),
    "views_with_errors": (
        semconv.RUM_VIEWS_WITH_ERRORS_TOTAL,
        (),
        "Page views with at least one JavaScript error.",
    ),
    "js_errors": (
        semconv.RUM_JS_ERRORS_TOTAL,
        (semconv.LABEL_FINGERPRINT,),
        "JavaScript errors and unhandled rejections, each throw.",
    ),
    "views_with_resource_errors": (
        semconv.RUM_VIEWS_WITH_RESOURCE_ERRORS_TOTAL,
        (),
        "Page views with at least one resource that did not load.",
    ),
    "resource_errors": (
        semconv.RUM_RESOURCE_ERRORS_TOTAL,
        (semconv.LABEL_KIND,),
        "Resources of pages that did not load, each one.",
    ),
    "aborted": (semconv.RUM_ABORTED_VIEWS_TOTAL, (), "Page views that were left before the page was loaded."),
    "events": (semconv.RUM_EVENTS_TOTAL, _PAIR, "Business events, at most one per view, event and outcome."),
    "vitals": (semconv.RUM_VITALS_TOTAL, _VITAL, "Page views by rating of a web vital."),
    "calls": (
        semconv.RUM_API_CALLS_TOTAL,
        (semconv.LABEL_ANSWERED,),
        "Same-origin calls of pages, answered by the page's own version (same) or by another one.",
    ),
    "requests": (
        semconv.RUM_REQUESTS_TOTAL,
        (semconv.LABEL_TARGET, semconv.LABEL_OUTCOME),
        "Calls of pages by target, ok or error.",
    ),
    "request_seconds": (
        semconv.RUM_REQUEST_SECONDS_TOTAL,
        (semconv.LABEL_TARGET,),
        "Seconds that calls of pages took.",
    ),
    "long_frames": (semconv.RUM_LONG_FRAME_SECONDS_TOTAL, (), "Seconds in long animation frames."),
    "observed": (semconv.RUM_OBSERVED_SECONDS_TOTAL, (), "Seconds watched for long animation frames."),
    "phase_seconds": (
        semconv.RUM_NAVIGATION_PHASE_SECONDS_TOTAL,
        (semconv.LABEL_PHASE,),
        "Seconds of page loads by phase.",
    ),
    "phases": (
        semconv.RUM_NAVIGATION_PHASES_TOTAL,
        (semconv.LABEL_PHASE,),
        "Page loads that reported the phase.",
    ),
}
_BY_SOURCE: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "source_views": (semconv.RUM_SOURCE_PAGE_VIEWS_TOTAL, (), "Page views by group of networks."),
    "source_errors": (
        semconv.RUM_SOURCE_VIEWS_WITH_ERRORS_TOTAL,
        (),
        "Page views with a JavaScript error by group of networks.",
    ),
    "source_resource_errors": (
        semconv.RUM_SOURCE_VIEWS_WITH_RESOURCE_ERRORS_TOTAL,
        (),
        "Page views with a resource that did not load by group of networks.",
    ),
    "source_vitals": (
        semconv.RUM_SOURCE_VITALS_TOTAL,
        _VITAL,
        "Page views by rating of a web vital and group of networks.",
    ),
}
_OF_COLLECTOR: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "beacons": (semconv.RUM_BEACONS_TOTAL, (semconv.LABEL_OUTCOME,), "Bodies posted to the collector."),
    "rejected": (
        semconv.RUM_VALUES_REJECTED_TOTAL,
        (semconv.LABEL_REASON,),
        "Single values left out of accepted beacons.",
    ),
    "overflow": (
        semconv.RUM_ADMISSION_OVERFLOW_TOTAL,
        (semconv.LABEL_KIND,),
        "Values counted as other because their bound was reached.",
    ),
    "tokens": (
        semconv.RUM_VIEW_TOKENS_TOTAL,
        (semconv.LABEL_OUTCOME,),
        "Beacons by what their view token proves; only where there is a secret.",
    ),
    "forwarded": (
        semconv.RUM_FORWARDED_TOTAL,
        (semconv.LABEL_SIGNAL,),
        "Batches sent on to the OpenTelemetry Collector.",
    ),
    "forward_dropped": (
        semconv.RUM_FORWARD_DROPPED_TOTAL,
        (semconv.LABEL_SIGNAL, semconv.LABEL_REASON),
        "Batches that could not be sent on.",
    ),
    "failures": (
        semconv.INTERNAL_ERRORS_TOTAL,
        (semconv.LABEL_WHERE,),
        "Faults of the collector itself, by part.",
    ),
}


@dataclass(slots=True)
class Families:
    """All families, made in one store."""

    store: Store
    histograms: dict[Vital, HistogramFamily] = field(init=False)
    sampling: GaugeFamily = field(init=False)
    counters: dict[str, CounterFamily] = field(init=False)
    """By the names used in this package."""

    def __post_init__(self) -> None:
        """Make the families; those of the collector begin at zero, so that a rate sees the first one."""
        described = (
            *((name, LABEL_NAMES, found) for name, found in _COUNTERS.items()),
            *((name, SOURCE_LABELS, found) for name, found in _BY_SOURCE.items()),
            *((name, (), found) for name, found in _OF_COLLECTOR.items()),
        )
        self.counters = {
            name: self.store.counter(metric, text, (*labels, *more), book=BOOK, max_sets=_UNBOUNDED)
            for name, labels, (metric, more, text) in described
        }
        self.histograms = {
            vital: self.store.histogram(name, text, LABEL_NAMES, bounds, book=BOOK, max_sets=_UNBOUNDED)
            for vital, (name, text, bounds) in _HISTOGRAMS.items()
        }
        self.sampling = self.store.gauge(
            semconv.RUM_SAMPLING_RATIO,
            "Share of page views that are reported, where the page samples; the smallest one seen.",
            (semconv.LABEL_APP, semconv.LABEL_VERSION, semconv.LABEL_TRACK),
            book=BOOK,
            merge=Merge.MIN,
        )
        for outcome in BeaconOutcome:
            self.counters["beacons"].cell(outcome.value)
        for reason in ValueRejection:
            self.counters["rejected"].cell(reason.value)

    def per_version(self) -> list[CounterFamily | HistogramFamily | GaugeFamily]:
        """Return those whose first two labels are app and version."""
        named = [self.counters[name] for name in (*_COUNTERS, *_BY_SOURCE)]
        return [*named, *self.histograms.values(), self.sampling]


def describe() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return name, type, labels of its own and meaning of each real-user metric, for the docs."""
    found = [(name, "counter", more, text) for name, more, text in _COUNTERS.values()]
    found += [(name, "histogram", (), text) for name, text, _ in _HISTOGRAMS.values()]
    found.append((semconv.RUM_SAMPLING_RATIO, "gauge", (), "Share of page views that are reported."))
    for name, more, text in _BY_SOURCE.values():
        found.append((name, "counter", (semconv.LABEL_SOURCE, *more), text))
    message = (semconv.LABEL_FINGERPRINT, semconv.LABEL_MESSAGE)
    found.append((semconv.RUM_JS_ERROR_INFO, "gauge", message, "Always 1: the scrubbed message of an error."))
    place = (semconv.LABEL_FINGERPRINT, semconv.LABEL_LOCATION)
    found.append(
        (semconv.RUM_JS_ERROR_LOCATION_INFO, "gauge", place, "Always 1: where an error was first thrown.")
    )
    found += [(name, "counter", more, text) for name, more, text in _OF_COLLECTOR.values()]
    return found
