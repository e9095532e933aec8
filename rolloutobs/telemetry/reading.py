"""What a scrape finds at one moment: families of ours, and the metrics of the app itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client.metrics_core import Metric

from rolloutobs.telemetry import app_metrics
from rolloutobs.telemetry.cells import Family
from rolloutobs.telemetry.store import Store

__all__ = ["AppMetrics", "Reading", "Ready"]


class AppMetrics:
    """The app's own metrics, of all workers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Return them as they are now."""
        backing = self._store.backing
        return app_metrics.multiprocess_metrics() if backing is None else backing.app_metrics()


@dataclass(frozen=True, slots=True)
class Reading:
    """What there is at one moment."""

    ours: list[Family[Any]]
    theirs: list[Metric]
    hidden: list[Family[Any]]
    """Ours that ``/metrics`` does not show."""

    def metrics(self) -> list[Metric]:
        """Return all of it."""
        return [*(family.collect() for family in (*self.ours, *self.hidden)), *self.theirs]


@dataclass(frozen=True, slots=True)
class Ready:
    """Metrics that were read already."""

    metrics: list[Metric]

    def collect(self) -> list[Metric]:
        """Return them."""
        return self.metrics
