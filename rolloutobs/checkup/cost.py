"""What the metrics of an app cost: series per pod, and bytes per scrape.

Not an estimate: the metrics are made, used and rendered as in an app, with made-up routes.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs.http.metrics import HttpMetrics
from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry.answer import GZIP_LEVEL
from rolloutobs.telemetry.failures import Failures
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.metrics import exposition
from rolloutobs.telemetry.process_metrics import ProcessMetrics
from rolloutobs.telemetry.store import PROCESS, Store

__all__ = ["HEALTHY", "TROUBLED", "Cost", "cost"]

HEALTHY: Final = (200,)
"""What the routes of an app answer on a good day."""
TROUBLED: Final = (200, 404, 500)
"""On a bad one, every route all of these: the most that a route usually costs."""
_ROUTE: Final = "/api/v1/resources/{resource_id}/items-of-%d"
_BOOK: Final = "app0"
_REQUESTS: Final = 105_000.0
_SECONDS: Final = 12345.678901234


@dataclass(frozen=True, slots=True)
class Cost:
    """What one pod exposes."""

    routes: int
    statuses: tuple[int, ...]
    series: int
    bytes: int
    """Per scrape, not compressed, labels included."""
    gzip_bytes: int
    """Per scrape, as Prometheus asks for it."""
    series_per_route: float
    """Without what every app has, routes or not."""


def cost(routes: int, statuses: Sequence[int] = HEALTHY, settings: Settings | None = None) -> Cost:
    """Return what an app costs.

    The app's own metrics, log records and operations come on top of it. Counters of status 200 and 500 are
    there for every route from zero; histograms only for classes of statuses that were answered.

    Args:
        routes: pairs of method and route template.
        statuses: what each of them has answered.
        settings: naming, bounds and labels that the app uses; ``None``: the defaults.
    """
    chosen = settings or Settings(service="checkout-api", version="1.24.3", track=Track.CANARY)
    fixed = _families(0, statuses, chosen)
    families = _families(routes, statuses, chosen)
    body = exposition(families, chosen.identity).body
    series, without = (sum(len(family.collect().samples) for family in read) for read in (families, fixed))
    return Cost(
        routes,
        tuple(statuses),
        series,
        len(body),
        len(gzip.compress(body, GZIP_LEVEL)),
        (series - without) / routes if routes else 0.0,
    )


def _families(routes: int, statuses: Sequence[int], settings: Settings) -> list[Any]:
    store = Store()
    hub = Hub(settings, store, _BOOK, Failures(store))
    http = HttpMetrics(hub)
    if settings.process_metrics:
        ProcessMetrics(store).refresh()
    named = [_ROUTE % number for number in range(routes)]
    http.expect(("GET", route) for route in named)
    for route in named:
        for status in statuses:
            counter, histogram = http.pair(("GET", route, status, False, "http"))
            # Numbers as long as those of an app that has been up for some days.
            counter.value = _REQUESTS
            histogram.sum = _SECONDS
            for index in range(len(histogram.counts)):
                histogram.counts[index] = _REQUESTS / len(histogram.counts)
    return [hub.views[f.name](f) if f.name in hub.views else f for f in store.families(_BOOK, PROCESS)]
