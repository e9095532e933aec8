"""Counters and histograms as plain numbers: nothing is computed until a scrape asks.

A family owns its cells, one per set of label values; the hot path holds on to a cell and adds to it.
Rendering gives prometheus_client ``Metric`` objects, so that exposition formats stay that library's business.

prometheus_client's own ``Counter.inc`` and ``Histogram.observe`` take locks and hash labels (1.6 us together
with bound children, 31 us for ten ``labels().observe()``); these cells take 0.15 us. They need no lock while
there is a GIL: CPython switches threads at calls and backward jumps only, and there is none between the load
and the store of an addition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from rolloutobs import semconv

__all__ = ["CounterFamily", "GaugeFamily", "HistogramCell", "HistogramFamily", "NumberCell"]

MAX_LABEL_SETS = 2000
"""Default cap of label sets per family. Source: the OpenTelemetry SDK's default cardinality limit."""
OVERFLOW = "_overflow"
"""Value of every label of the one cell that takes what does not fit under the cap."""
MAX_LABEL_CHARS = 128
OMITTED_WHEN_EMPTY = frozenset({semconv.LABEL_SYNTHETIC, semconv.LABEL_REVISION})
"""Labels that are not rendered without a value: user traffic has no ``synthetic`` label."""


class NumberCell:
    """One counter or gauge sample; add to ``value`` directly on a hot path."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount`."""
        self.value += amount


class HistogramCell:
    """One histogram: counts per bucket (not cumulative; the last one is above every bound) and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` in the bucket whose upper bound is the first that is not below it (``le``)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


C = TypeVar("C", NumberCell, HistogramCell)


class _Family(ABC, Generic[C]):
    """The cells of one metric, keyed by label values in the order of `label_names`.

    Label values are cut to 128 characters. ``dropped`` counts lookups that landed in the overflow cell
    because `max_sets` was reached; the overflow cell keeps their counts.
    """

    def __init__(
        self, name: str, documentation: str, label_names: Sequence[str], max_sets: int = MAX_LABEL_SETS
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(label_names)
        self.max_sets = max_sets
        self.dropped = 0
        self._cells: dict[tuple[str, ...], C] = {}

    @abstractmethod
    def _new(self) -> C:
        """Return a cell at zero."""

    def cell(self, *values: str) -> C:
        """Return the cell of these label values, made on first use; the overflow cell when the cap is
        reached.

        Raises:
            ValueError: not as many values as label names.
        """
        found = self._cells.get(values)
        if found is not None:
            return found
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} takes the labels {self.label_names}, got {values!r}")
        key = tuple(map(_label_value, values))
        if key not in self._cells and len(self._cells) >= self.max_sets:
            self.dropped += 1
            key = (OVERFLOW,) * len(self.label_names)
        return self._cells.setdefault(key, self._new())

    def items(self) -> Iterator[tuple[tuple[str, ...], C]]:
        """Iterate over a snapshot of (label values, cell)."""
        return iter(list(self._cells.items()))

    def _labelled(self) -> Iterator[tuple[dict[str, str], C]]:
        for values, cell in self.items():
            pairs = zip(self.label_names, values, strict=True)
            yield {name: value for name, value in pairs if value or name not in OMITTED_WHEN_EMPTY}, cell


def _label_value(text: str) -> str:
    # A lone surrogate (legal in JSON, and in a path that is not UTF-8) would make every later exposition
    # fail.
    return text[:MAX_LABEL_CHARS].encode("utf-8", "replace").decode("utf-8")


class CounterFamily(_Family[NumberCell]):
    """A counter; `name` carries its ``_total``."""

    def _new(self) -> NumberCell:
        return NumberCell()

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""
        metric = CounterMetricFamily(self.name, self.documentation)
        for labels, cell in self._labelled():
            metric.add_sample(metric.name + "_total", labels, cell.value)
        return metric


class GaugeFamily(_Family[NumberCell]):
    """A gauge; set ``cell.value``."""

    def _new(self) -> NumberCell:
        return NumberCell()

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""
        metric = GaugeMetricFamily(self.name, self.documentation)
        for labels, cell in self._labelled():
            metric.add_sample(self.name, labels, cell.value)
        return metric


class HistogramFamily(_Family[HistogramCell]):
    """A classic histogram with fixed upper bounds, ascending, without +Inf."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str],
        bounds: Sequence[float],
        max_sets: int = MAX_LABEL_SETS,
    ) -> None:
        super().__init__(name, documentation, label_names, max_sets)
        self.bounds = tuple(bounds)
        self._le = [str(floatToGoString(b)) for b in self.bounds] + ["+Inf"]  # type: ignore[no-untyped-call]

    def _new(self) -> HistogramCell:
        return HistogramCell(self.bounds)

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it: cumulative buckets, count and sum."""
        metric = HistogramMetricFamily(self.name, self.documentation)
        for labels, cell in self._labelled():
            total = 0
            for le, count in zip(self._le, list(cell.counts), strict=True):
                total += count
                metric.add_sample(self.name + "_bucket", {**labels, "le": le}, float(total))
            metric.add_sample(self.name + "_count", labels, float(total))
            metric.add_sample(self.name + "_sum", labels, cell.sum)
        return metric
