"""The default signals: what is compared where nobody says otherwise. Data, no behaviour.

Belongs here: series, tolerances and words of each default signal. What a signal is stands in `signals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rolloutobs import semconv
from rolloutobs.analysis.signals import (
    PROCESS_RESTARTS,
    PROCESS_SECONDS,
    Kind,
    OnFailure,
    Required,
    Selector,
    Signal,
    Sources,
)

__all__ = ["DEFAULT_SIGNALS"]

_ROUTES = (semconv.LABEL_METHOD, semconv.LABEL_ROUTE)
_PAGES = (semconv.LABEL_DEVICE, semconv.LABEL_ROUTE)
_USERS = {semconv.LABEL_SYNTHETIC: ""}

# Good and poor thresholds and their neighbours. Source: https://web.dev/articles/vitals
_VITAL_BOUNDS: Mapping[str, tuple[float, ...]] = {
    "lcp": (1.5, 2.5, 4.0, 6.0),
    "inp": (0.104, 0.2, 0.5, 1.0),
    "cls": (0.025, 0.1, 0.25, 0.5),
    "fcp": (1.0, 1.8, 3.0, 5.0),
    "ttfb": (0.4, 0.8, 1.8, 3.0),
}
_VITAL_TITLES = {
    "lcp": "late largest content",
    "inp": "slow interactions",
    "fcp": "late first content",
    "ttfb": "late documents",
}


def _vital(name: str, metric: str, phrase: str) -> Signal:
    """Return the signal of a web vital: page views beyond its thresholds and the bounds beside them."""
    rated = {semconv.LABEL_VITAL: name, **_USERS}
    bad = {**rated, semconv.LABEL_RATING: "~needs-improvement|poor"}
    return Signal(
        name=name,
        title=_VITAL_TITLES.get(name, name),
        kind=Kind.LATENCY,
        exposures=Selector(metric, _USERS),
        sources=Sources(
            Selector(semconv.RUM_SOURCE_VITALS_TOTAL, rated), Selector(semconv.RUM_SOURCE_VITALS_TOTAL, bad)
        ),
        bounds=_VITAL_BOUNDS[name],
        strata=_PAGES,
        phrase=phrase,
        everywhere="all pages together",
        unit="page views",
        weight=0.05,
        tolerance_ratio=1.25,
        tolerance_difference=0.01,
        margin_difference=0.05,
    )


# Tolerances and margins of errors and latency, and the weights: docs/verdict.md, "for a statistician";
# .45/.45/.10 is the split of alpha that was simulated, the two weights of 1 beside the guard. Real users and
# checks see what servers do not, but see less of it: half the weight.
DEFAULT_SIGNALS: tuple[Signal, ...] = (
    Signal(
        name="errors",
        title="5xx answers",
        kind=Kind.RATIO,
        exposures=Selector(semconv.HTTP_REQUESTS_TOTAL, _USERS),
        events=Selector(semconv.HTTP_REQUESTS_TOTAL, {semconv.LABEL_STATUS: "~5..", **_USERS}),
        strata=_ROUTES,
        phrase="answers 5xx on {stratum}",
        guard_ratio=5.0,
        absolute_limit=0.05,
        past=True,
    ),
    Signal(
        name="latency",
        title="slow answers",
        kind=Kind.LATENCY,
        exposures=Selector(semconv.HTTP_REQUEST_DURATION_SECONDS, _USERS),
        strata=_ROUTES,
        phrase="takes longer than {bound} on {stratum}",
        tolerance_ratio=1.25,
        tolerance_difference=0.0005,
        margin_difference=0.01,
        past=True,
    ),
    # Work that is not HTTP. Not required: most apps have none, and a worker's policy says so for its own.
    Signal(
        name="operations",
        title="failed operations",
        kind=Kind.RATIO,
        exposures=Selector(semconv.APP_OPERATIONS_TOTAL),
        events=Selector(semconv.APP_OPERATIONS_TOTAL, {semconv.LABEL_OUTCOME: "error"}),
        strata=(semconv.LABEL_KIND, semconv.LABEL_NAME),
        phrase="fails {stratum}",
        everywhere="operations of all kinds",
        unit="operations",
        weight=0.5,
        required=Required.NO,
    ),
    # Processes that ended and began again at their address: crashes, out-of-memory kills, failed liveness
    # checks. One a day and process is nobody's fault.
    Signal(
        name="restarts",
        title="restarts",
        kind=Kind.COUNT,
        exposures=Selector(PROCESS_SECONDS),
        events=Selector(PROCESS_RESTARTS),
        phrase="restarts",
        everywhere="",
        unit="process seconds",
        weight=0.25,
        tolerance_ratio=2.0,
        tolerance_difference=1.0 / 86400.0,
        margin_difference=1.0 / 3600.0,
    ),
    # Records and requests of synthetic traffic are on both sides of the ratio. What counts as an error in a
    # log is a matter of taste, and a new version may have another: it pauses, and a person looks.
    Signal(
        name="log_errors",
        title="error log records",
        kind=Kind.COUNT,
        exposures=Selector(semconv.HTTP_REQUESTS_TOTAL),
        events=Selector(semconv.LOG_RECORDS_TOTAL, {semconv.LABEL_LEVEL: "~error|critical"}),
        phrase="logs errors",
        everywhere="",
        tolerance_ratio=1.5,
        tolerance_difference=0.002,
        margin_difference=0.01,
        on_failure=OnFailure.PAUSE,
    ),
    Signal(
        name="js_errors",
        title="page views with JavaScript errors",
        kind=Kind.RATIO,
        exposures=Selector(semconv.RUM_PAGE_VIEWS_TOTAL, _USERS),
        events=Selector(semconv.RUM_VIEWS_WITH_ERRORS_TOTAL, _USERS),
        sources=Sources(
            Selector(semconv.RUM_SOURCE_PAGE_VIEWS_TOTAL, _USERS),
            Selector(semconv.RUM_SOURCE_VIEWS_WITH_ERRORS_TOTAL, _USERS),
        ),
        strata=(semconv.LABEL_ROUTE,),
        phrase="throws JavaScript errors in the browser on {stratum}",
        everywhere="all pages together",
        unit="page views",
        weight=0.25,
        tolerance_difference=0.001,
        margin_difference=0.005,
    ),
    Signal(
        name="resource_errors",
        title="page views with parts that failed to load",
        kind=Kind.RATIO,
        exposures=Selector(semconv.RUM_PAGE_VIEWS_TOTAL, _USERS),
        events=Selector(semconv.RUM_VIEWS_WITH_RESOURCE_ERRORS_TOTAL, _USERS),
        sources=Sources(
            Selector(semconv.RUM_SOURCE_PAGE_VIEWS_TOTAL, _USERS),
            Selector(semconv.RUM_SOURCE_VIEWS_WITH_RESOURCE_ERRORS_TOTAL, _USERS),
        ),
        strata=_PAGES,
        phrase="fails to load parts of pages on {stratum}",
        everywhere="all pages together",
        unit="page views",
        weight=0.1,
        tolerance_ratio=1.25,
        tolerance_difference=0.005,
        margin_difference=0.02,
    ),
    _vital("lcp", semconv.RUM_LCP_SECONDS, "shows its largest content after more than {bound} on {stratum}"),
    _vital("inp", semconv.RUM_INP_SECONDS, "answers an interaction after more than {bound} on {stratum}"),
    replace(
        _vital("cls", semconv.RUM_CLS, "shifts its layout by more than {bound} on {stratum}"),
        title="layout shifts",
        bound_unit="",
    ),
    _vital("fcp", semconv.RUM_FCP_SECONDS, "shows its first content after more than {bound} on {stratum}"),
    _vital("ttfb", semconv.RUM_TTFB_SECONDS, "delivers a page after more than {bound} on {stratum}"),
    Signal(
        name="journey",
        title="failed synthetic checks",
        kind=Kind.PAIRS,
        # Whole journeys only: the steps of one are not independent.
        exposures=Selector(
            semconv.SYNTHETIC_CHECK_RUNS_TOTAL, {semconv.LABEL_STEP: "", semconv.LABEL_OUTCOME: "~pass|fail"}
        ),
        events=Selector(
            semconv.SYNTHETIC_CHECK_RUNS_TOTAL, {semconv.LABEL_STEP: "", semconv.LABEL_OUTCOME: "fail"}
        ),
        strata=(semconv.LABEL_CHECK,),
        phrase="fails the synthetic check {stratum}",
        everywhere="of every kind",
        unit="checks",
        weight=0.5,
        tolerance_difference=0.01,
        margin_difference=0.05,
    ),
)
