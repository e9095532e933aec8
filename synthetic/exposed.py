"""What all that checks and loads expose has in common: one lock, a count of what failed, and few names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from threading import Lock

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rolloutobs import semconv
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily

__all__ = ["Exposed", "Family", "Steps"]

Family = CounterFamily | GaugeFamily | HistogramFamily
_INTERNAL_PLACES = ("artifacts", "push", "report")
"""What a check or a load may fail to do; the label ``where``."""


_MOST_STEPS = 50
_OTHERS = "_others"


class Steps:
    """The values of the label ``step``: the first fifty names, the empty one not among them, and one more for
    all others. A journey may make names of numbers, and each would be a series for ever."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the label of the step `name`."""
        if name and name not in self._known and len(self._known) >= _MOST_STEPS:
            return _OTHERS
        self._known |= {name} - {""}
        return name


class Exposed(Collector, ABC):
    """Families that change and are rendered under one lock, so that no scrape sees half of a change.

    Args:
        what: ``check`` or ``load``, for the help of its internal errors.
    """

    def __init__(self, what: str) -> None:
        self._lock = Lock()
        self._internal = CounterFamily(
            semconv.INTERNAL_ERRORS_TOTAL, f"What the {what} itself could not do.", (semconv.LABEL_WHERE,)
        )
        for where in _INTERNAL_PLACES:
            self._internal.cell(where)

    @property
    @abstractmethod
    def families(self) -> tuple[Family, ...]:
        """Everything that is exposed, for the table in the documentation."""

    def count_internal_error(self, where: str) -> None:
        """Count something that could not be done."""
        with self._lock:
            self._internal.cell(where).inc()

    def collect(self) -> Iterator[Metric]:
        """Render everything between two changes."""
        with self._lock:
            return iter([family.collect() for family in self.families])
