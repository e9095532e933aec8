"""Counters and histograms as plain numbers: nothing is computed until a scrape asks.

A family owns its cells, one per set of label values; the hot path holds on to a cell and adds to it.
Rendering gives prometheus_client ``Metric`` objects, so that exposition formats stay that library's business.

prometheus_client's own ``Counter.inc`` and ``Histogram.observe`` take locks and hash labels (1.6 us together
with bound children, 31 us for ten ``labels().observe()``); these cells take 0.15 us. They need no lock while
there is a GIL: CPython switches threads at calls and backward jumps only, and there is none between the load
and the store of an addition.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from rolloutobs import semconv

__all__ = [
    "MEMORY",
    "OVERFLOW",
    "Allocator",
    "CounterFamily",
    "Definition",
    "Exemplar",
    "Family",
    "GaugeFamily",
    "HistogramCell",
    "HistogramFamily",
    "Kind",
    "Merge",
    "NumberCell",
    "forked",
]

MAX_LABEL_SETS = 2000
"""Default cap of label sets per family. Source: the OpenTelemetry SDK's default cardinality limit."""
OVERFLOW = "_overflow"
"""Value of every label of the one cell that takes what does not fit under the cap."""
MAX_LABEL_CHARS = 128
OMITTED_WHEN_EMPTY = frozenset(
    {
        semconv.LABEL_SYNTHETIC,
        semconv.LABEL_REVISION,
        semconv.LABEL_CALLER,
        semconv.LABEL_CALLER_VERSION,
        semconv.LABEL_ERROR_TYPE,
    }
)
"""Labels that are not rendered without a value: user traffic has no ``synthetic`` label."""


class _Making:
    """Held while a cell is made. Reentrant, as all locks that a log record may need: a finalizer or a signal
    handler that logs runs in the middle of anything, in the thread that holds them.
    """

    lock = threading.RLock()


_making = _Making()


def forked() -> None:
    """Go on in a process that was just forked: the thread that made a cell does not exist here."""
    _making.lock = threading.RLock()


class Kind(StrEnum):
    """What a family holds."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How the gauges of several workers make one. Those of a worker that has ended count for `FIRST` only."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    FIRST = "first"
    """The lowest that any worker had, ever; 0 is no value yet."""


@dataclass(frozen=True, slots=True)
class Definition:
    """All that is needed to make an equal family elsewhere, for example in another worker."""

    kind: Kind
    name: str
    documentation: str
    label_names: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    """Of histograms: upper bounds, ascending, without +Inf."""
    merge: Merge = Merge.SUM
    """Of gauges."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation of a bucket, and the trace that it belongs to."""

    trace_id: int
    span_id: int
    value: float
    timestamp: float
    """Unix time in seconds."""


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

    __slots__ = ("_exemplars", "bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts: MutableSequence[float] = [0.0] * (len(bounds) + 1)
        self.sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count `value` in the bucket whose upper bound is the first that is not below it (``le``)."""
        self.counts[bisect_left(self.bounds, value)] += 1.0
        self.sum += value

    def exemplify(self, exemplar: Exemplar) -> None:
        """Keep `exemplar` as the one of its bucket."""
        self._exemplars[bisect_left(self.bounds, exemplar.value)] = exemplar

    def exemplars(self) -> dict[int, Exemplar]:
        """Return the newest exemplar by index of its bucket."""
        return dict(self._exemplars)


class Allocator(Protocol):
    """Where the cells of a family are kept: in memory, or where other workers see them."""

    def number(self, definition: Definition, values: tuple[str, ...]) -> NumberCell:
        """Return a new cell at zero."""

    def histogram(self, definition: Definition, values: tuple[str, ...]) -> HistogramCell:
        """Return a new cell at zero."""


class _Memory:
    def number(self, definition: Definition, values: tuple[str, ...]) -> NumberCell:
        return NumberCell()

    def histogram(self, definition: Definition, values: tuple[str, ...]) -> HistogramCell:
        return HistogramCell(definition.bounds)


MEMORY: Allocator = _Memory()
C = TypeVar("C", NumberCell, HistogramCell)


class Family(ABC, Generic[C]):
    """The cells of one metric, keyed by label values in the order of `label_names`.

    Label values are cut to 128 characters. ``dropped`` counts lookups that landed in the overflow cell
    because `max_sets` was reached; the overflow cell keeps their counts.
    """

    def __init__(self, definition: Definition, max_sets: int = MAX_LABEL_SETS) -> None:
        self.definition = definition
        self.name = definition.name
        self.documentation = definition.documentation
        self.label_names = definition.label_names
        self.max_sets = max_sets
        self.dropped = 0
        self.on_drop: Callable[[], None] | None = None
        self._allocator = MEMORY
        self._cells: dict[tuple[str, ...], C] = {}

    @abstractmethod
    def _new(self, values: tuple[str, ...]) -> C:
        """Return a cell at zero."""

    @abstractmethod
    def _copy(self, cell: C) -> C:
        """Return what `cell` holds now, in memory."""

    @abstractmethod
    def _add(self, cell: C, new: C, old: C | None) -> None:
        """Add to `cell` by how much `new` is above `old` (``None``: above zero)."""

    @abstractmethod
    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""

    def move(self, allocator: Allocator, *, keep: bool) -> Callable[[], None]:
        """Make all cells anew with `allocator`, and return what has to be called when nobody adds to the old
        ones any more: it takes along what they were given meanwhile.

        Args:
            allocator: of these and of all further cells.
            keep: whether the new cells start with what the old ones hold, or at zero.
        """
        moved: dict[tuple[str, ...], C] = {}
        copies: list[tuple[C, C, C]] = []
        with _making.lock:
            self._allocator = allocator
            for values, old in self.items():
                moved[values] = cell = self._new(values)
                if keep:
                    copy = self._copy(old)
                    self._add(cell, copy, None)
                    copies.append((cell, old, copy))
            self._cells = moved

        def settle() -> None:
            for cell, old, copy in copies:
                self._add(cell, old, copy)

        return settle

    def keep_only(self, values: Container[tuple[str, ...]]) -> None:
        """Drop the cells of all other label values."""
        for gone in [found for found in self._cells if found not in values]:
            del self._cells[gone]

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
            if self.on_drop is not None:
                self.on_drop()
            key = (OVERFLOW,) * len(self.label_names)
        with _making.lock:
            # Two threads that ask at once get the same; the other one would count into nothing.
            found = self._cells.get(key)
            if found is None:
                # One that was made meanwhile, in this very thread, is the one.
                found = self._cells.setdefault(key, self._new(key))
            return found

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


class _NumberFamily(Family[NumberCell]):
    def _new(self, values: tuple[str, ...]) -> NumberCell:
        return self._allocator.number(self.definition, values)

    def _copy(self, cell: NumberCell) -> NumberCell:
        copy = NumberCell()
        copy.value = cell.value
        return copy

    def _add(self, cell: NumberCell, new: NumberCell, old: NumberCell | None) -> None:
        cell.value += new.value - (0.0 if old is None else old.value)


class CounterFamily(_NumberFamily):
    """A counter; `name` carries its ``_total``."""

    def __init__(
        self, name: str, documentation: str, label_names: Sequence[str], max_sets: int = MAX_LABEL_SETS
    ) -> None:
        super().__init__(Definition(Kind.COUNTER, name, documentation, tuple(label_names)), max_sets)

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""
        metric = CounterMetricFamily(self.name, self.documentation)
        for labels, cell in self._labelled():
            metric.add_sample(metric.name + "_total", labels, cell.value)
        return metric


class GaugeFamily(_NumberFamily):
    """A gauge; set ``cell.value``."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str],
        max_sets: int = MAX_LABEL_SETS,
        merge: Merge = Merge.SUM,
    ) -> None:
        definition = Definition(Kind.GAUGE, name, documentation, tuple(label_names), (), merge)
        super().__init__(definition, max_sets)

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""
        metric = GaugeMetricFamily(self.name, self.documentation)
        for labels, cell in self._labelled():
            metric.add_sample(self.name, labels, cell.value)
        return metric


class HistogramFamily(Family[HistogramCell]):
    """A classic histogram with fixed upper bounds, ascending, without +Inf."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str],
        bounds: Sequence[float],
        max_sets: int = MAX_LABEL_SETS,
    ) -> None:
        definition = Definition(Kind.HISTOGRAM, name, documentation, tuple(label_names), tuple(bounds))
        super().__init__(definition, max_sets)
        self.bounds = definition.bounds
        self.le: Sequence[str] = [str(floatToGoString(b)) for b in self.bounds] + ["+Inf"]  # type: ignore[no-untyped-call]
        """The upper bounds as they are rendered."""

    def _new(self, values: tuple[str, ...]) -> HistogramCell:
        return self._allocator.histogram(self.definition, values)

    def _copy(self, cell: HistogramCell) -> HistogramCell:
        copy = HistogramCell(cell.bounds)
        copy.counts = list(cell.counts)
        copy.sum = cell.sum
        for exemplar in cell.exemplars().values():
            copy.exemplify(exemplar)
        return copy

    def _add(self, cell: HistogramCell, new: HistogramCell, old: HistogramCell | None) -> None:
        for i, count in enumerate(new.counts):
            more = count - (0.0 if old is None else old.counts[i])
            if more:
                cell.counts[i] += more
        cell.sum += new.sum - (0.0 if old is None else old.sum)
        for exemplar in new.exemplars().values():
            cell.exemplify(exemplar)

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it: cumulative buckets, count and sum."""
        metric = HistogramMetricFamily(self.name, self.documentation)
        for labels, cell in self._labelled():
            total = 0.0
            exemplars = cell.exemplars()
            for i, (le, count) in enumerate(zip(self.le, list(cell.counts), strict=True)):
                total += count
                found = exemplars.get(i)
                shown = None if found is None else _shown(found)
                metric.add_sample(self.name + "_bucket", {**labels, "le": le}, total, exemplar=shown)
            metric.add_sample(self.name + "_count", labels, total)
            metric.add_sample(self.name + "_sum", labels, cell.sum)
        return metric


def _shown(exemplar: Exemplar) -> PrometheusExemplar:
    labels = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
    return PrometheusExemplar(labels, exemplar.value, exemplar.timestamp)
