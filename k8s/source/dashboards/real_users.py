"""What users' browsers have seen of each version."""

from __future__ import annotations

from typing import Final

from k8s.source.dashboards.model import (
    USERS,
    Board,
    Kind,
    Panel,
    Query,
    Row,
    band,
    increase,
    quantile,
    rate,
    share,
)
from rolloutobs import semconv

__all__ = ["BOARD"]

_VIEWS: Final = semconv.RUM_PAGE_VIEWS_TOTAL
_VITALS: Final = semconv.RUM_VITALS_TOTAL
_BY_VITAL: Final = "version, track, vital"
_POOR: Final = f'{USERS}, {semconv.LABEL_RATING}="poor"'
_BROKEN: Final = semconv.RUM_VIEWS_WITH_ERRORS_TOTAL
_MISSING: Final = semconv.RUM_VIEWS_WITH_RESOURCE_ERRORS_TOTAL
_ABORTED: Final = semconv.RUM_ABORTED_VIEWS_TOTAL
_CALLS: Final = semconv.RUM_API_CALLS_TOTAL
_OTHER: Final = f'{USERS}, {semconv.LABEL_ANSWERED}="other"'
_BY_EVENT: Final = "version, track, event, outcome"
_EMPTY: Final = (
    "no page has told anything: the script is not in the pages, or the collector does not know the app or "
    "its origin; the row of the collector says what it refuses"
)
# Source: web-vitals, src/on*.ts, thresholds: good up to the first, poor above the second.
_HISTOGRAMS: Final = (
    ("Largest contentful paint", semconv.RUM_LCP_SECONDS, "s", (2.5, 4.0)),
    ("Interaction to next paint", semconv.RUM_INP_SECONDS, "s", (0.2, 0.5)),
    ("Cumulative layout shift", semconv.RUM_CLS, "short", (0.1, 0.25)),
    ("First contentful paint", semconv.RUM_FCP_SECONDS, "s", (1.8, 3.0)),
    ("Time to first byte", semconv.RUM_TTFB_SECONDS, "s", (0.8, 1.8)),
    ("Page load", semconv.RUM_PAGE_LOAD_SECONDS, "s", ()),
)


def _meaning(unit: str, limits: tuple[float, ...]) -> str:
    if not limits:
        return "To the end of the load event."
    good, poor = (f"{limit:g}{' s' if unit == 's' else ''}" for limit in limits)
    return f"Good up to {good}, poor above {poor}."


BOARD: Final = Board(
    "real-users",
    "Rollout: real users",
    "What browsers measure, by the version that served the page.",
    _VIEWS,
    (
        Row(
            "How much there is to compare",
            (
                Panel(
                    "Page views in the time range", "short",
                    (
                        Query(increase(_VIEWS), "views"),
                        Query(increase(_BROKEN), "with a JavaScript error"),
                        Query(increase(_MISSING), "with a missing resource"),
                        Query(increase(_ABORTED), "given up"),
                    ),
                    "Views are never multiplied by a sampling weight.", Kind.TABLE, 12,
                ),
                Panel("Page views per second", "short", (Query(rate(_VIEWS)),), width=6),
                Panel(
                    "Vitals that were measured, in the time range", "short",
                    (Query(increase(_VITALS, USERS, _BY_VITAL), "views"),),
                    "Views that are left early or never clicked on have no value of some vitals.",
                    Kind.TABLE, 6,
                ),
            ),
        ),
        Row(
            "Web vitals, 75th percentile",
            tuple(
                [
                    Panel(
                        title, unit, (Query(quantile(0.75, metric)),), _meaning(unit, limits), limits=limits
                    )
                    for title, metric, unit, limits in _HISTOGRAMS
                ]
            ),
        ),
        Row(
            "Poor",
            (
                Panel(
                    "Share of views with a poor vital", "percentunit",
                    (
                        Query(
                            share(rate(_VITALS, _POOR, _BY_VITAL), rate(_VITALS, USERS, _BY_VITAL)),
                            "{{vital}} {{version}} {{track}}",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "Difference of poor largest contentful paints, canary - stable", "percentunit",
                    band((_VITALS, 'vital="lcp", rating="poor"'), (_VITALS, 'vital="lcp"')),
                    "With its 95 % interval over $window.", Kind.BAND, 12,
                ),
            ),
        ),
        Row(
            "Errors of pages",
            (
                Panel(
                    "Share of views with a JavaScript error", "percentunit",
                    (Query(share(rate(_BROKEN), rate(_VIEWS))),),
                ),
                Panel(
                    "Difference of that, canary - stable", "percentunit",
                    band((_BROKEN, ""), (_VIEWS, "")),
                    "With its 95 % interval over $window.", Kind.BAND,
                ),
                Panel(
                    "Share of views with a missing resource", "percentunit",
                    (Query(share(rate(_MISSING), rate(_VIEWS))),),
                ),
                Panel(
                    "JavaScript errors in the time range", "short",
                    (
                        Query(
                            "topk(20, "
                            + increase(semconv.RUM_JS_ERRORS_TOTAL, USERS, "version, track, fingerprint")
                            + " > 0)",
                            "errors",
                        ),
                        Query(
                            "max by (version, fingerprint, message) "
                            f'({semconv.RUM_JS_ERROR_INFO}{{app="$app"}})',
                            "seen",
                        ),
                    ),
                    "rolloutobs rum errors tells which are new in a version.", Kind.TABLE, 12,
                ),
                Panel(
                    "Business events in the time range", "short",
                    (Query(increase(semconv.RUM_EVENTS_TOTAL, USERS, _BY_EVENT), "events"),),
                    "At most one per view, event and outcome.", Kind.TABLE, 12,
                ),
            ),
        ),
        Row(
            "Who answered the pages' own calls",
            (
                Panel(
                    "Share that another version than the page's answered", "percentunit",
                    (Query(share(rate(_CALLS, _OTHER), rate(_CALLS))),),
                    "Such calls dilute what the page shows about its version. Of pages with the full script.",
                    width=24,
                ),
            ),
        ),
        Row(
            "The collector",
            (
                Panel(
                    "Bodies per second by what became of them", "short",
                    (
                        Query(
                            f"sum by (outcome) (rate({semconv.RUM_BEACONS_TOTAL}[$__rate_interval]))",
                            "{{outcome}}",
                        ),
                    ),
                    width=24,
                ),
            ),
            "no collector is scraped",
        ),
    ),
    _EMPTY,
)  # fmt: skip
