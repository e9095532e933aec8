"""What the report shows besides the signals: vitals, synthetic outcomes, page views. Data, no behaviour.

A display is never evidence; it only helps a person to understand the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rolloutobs import semconv
from rolloutobs.analysis.policy import Selector

__all__ = ["DISPLAYS", "TEXTS", "VITALS", "Display", "DisplayCounts", "Vital"]

_USERS: Final = {semconv.LABEL_SYNTHETIC: ""}

DisplayCounts = Mapping[str, Mapping[tuple[str, ...], int]]
"""Increments by name of the display and by ``(track, *values of Display.by)``."""


@dataclass(frozen=True, slots=True)
class Display:
    """A counter, summed by track and the labels `by`; for a histogram select ``_bucket`` and add ``le``."""

    name: str
    selector: Selector
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vital:
    """A web vital as the report shows it; `good` and `poor` are the upper bounds of their ratings.

    Source: https://web.dev/articles/vitals (LCP, INP, CLS), https://web.dev/articles/fcp,
    https://web.dev/articles/ttfb
    """

    name: str
    metric: str
    unit: str
    """``"s"`` or the empty string (CLS has no unit)."""
    good: float
    poor: float


TEXTS: Final = {semconv.RUM_JS_ERROR_INFO: (semconv.LABEL_FINGERPRINT, semconv.LABEL_MESSAGE)}
"""Gauges that only carry words: metric name to (label that is the key, label that is the text)."""

VITALS: Final = (
    Vital("LCP", semconv.RUM_LCP_SECONDS, "s", 2.5, 4.0),
    Vital("INP", semconv.RUM_INP_SECONDS, "s", 0.2, 0.5),
    Vital("CLS", semconv.RUM_CLS, "", 0.1, 0.25),
    Vital("FCP", semconv.RUM_FCP_SECONDS, "s", 1.8, 3.0),
    Vital("TTFB", semconv.RUM_TTFB_SECONDS, "s", 0.8, 1.8),
)

DISPLAYS: Final = (
    Display("page_views", Selector(semconv.RUM_PAGE_VIEWS_TOTAL, _USERS)),
    Display("js_errors", Selector(semconv.RUM_JS_ERRORS_TOTAL, _USERS), (semconv.LABEL_FINGERPRINT,)),
    Display(
        "events", Selector(semconv.RUM_EVENTS_TOTAL, _USERS), (semconv.LABEL_EVENT, semconv.LABEL_OUTCOME)
    ),
    Display(
        "vitals", Selector(semconv.RUM_VITALS_TOTAL, _USERS), (semconv.LABEL_VITAL, semconv.LABEL_RATING)
    ),
    *(Display(f"vital_{v.name}", Selector(f"{v.metric}_bucket", _USERS), ("le",)) for v in VITALS),
    Display(
        "synthetic_runs",
        Selector(semconv.SYNTHETIC_CHECK_RUNS_TOTAL),
        (semconv.LABEL_CHECK, semconv.LABEL_STEP, semconv.LABEL_OUTCOME),
    ),
    Display(
        "synthetic_durations",
        Selector(f"{semconv.SYNTHETIC_CHECK_DURATION_SECONDS}_bucket"),
        (semconv.LABEL_CHECK, semconv.LABEL_STEP, "le"),
    ),
    Display("statuses", Selector(semconv.HTTP_REQUESTS_TOTAL, _USERS), (semconv.LABEL_STATUS,)),
)
"""Everything the report can show. A display without series is left out of the report."""
