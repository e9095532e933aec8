"""The part of our families that belongs to the track of now.

The same as `Generations.split` tells, for families instead of samples: what was counted before the change of
the track is looked up once per cell and change, not at every scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from prometheus_client.metrics_core import Metric

from rolloutobs.telemetry.cells import (
    OMITTED_WHEN_EMPTY,
    CounterFamily,
    Family,
    HistogramCell,
    HistogramFamily,
    Kind,
)
from rolloutobs.telemetry.generations import Generations, Totals

__all__ = ["Parted", "Parts", "metric_name"]


@dataclass(frozen=True, slots=True)
class Parted:
    """A family of which only a part belongs to the track of now."""

    family: Family[Any]
    """The part of the track of now."""
    earlier: Metric | None
    """What earlier tracks had of it: samples with their track."""

    @property
    def name(self) -> str:
        """Of the family."""
        return self.family.name

    def collect(self) -> Metric:
        """Return both as one metric."""
        metric = self.family.collect()
        if self.earlier is not None:
            metric.samples += self.earlier.samples
        return metric


@dataclass(frozen=True, slots=True)
class _Base:
    """What does not count, and what counts besides, of one cell."""

    before: tuple[float, ...] | None
    """Counts per bucket and sum, or the number, at the change; ``None``: the cell is younger."""
    carried: tuple[float, ...] | None
    """The same of an earlier time of this track; ``None``: there was none."""

    def part(self, now: list[float]) -> list[float]:
        """Return the part of `now`, and what was carried over."""
        before = self.before
        if before is not None and sum(before[:-1] or before) <= sum(now[:-1] or now):
            # Else the total went backwards: its owner has started over, and all of it is new.
            now = [max(0.0, value - start) for value, start in zip(now, before, strict=True)]
        if self.carried is not None:
            now = [value + more for value, more in zip(now, self.carried, strict=True)]
        return now


class Parts:
    """Splits families by the changes that `generations` knows."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._known: tuple[Totals, Totals] = ({}, {})
        self._bases: dict[tuple[str, tuple[str, ...]], _Base] = {}

    def of(self, families: Iterable[Family[Any]]) -> list[Parted]:
        """Return the part of each family, with what earlier tracks had of it."""
        generations = self._generations
        if generations.start is not self._known[0] or generations.carried is not self._known[1]:
            # Both are made anew at a change.
            self._known = generations.start, generations.carried
            self._bases = {}
        earlier = generations.left()
        return [Parted(self._part(family), earlier.get(metric_name(family))) for family in families]

    def _part(self, family: Family[Any]) -> Family[Any]:
        if isinstance(family, HistogramFamily):
            return self._histograms(family)
        if not isinstance(family, CounterFamily):
            # It belongs to the moment.
            return family
        part = CounterFamily(family.name, family.documentation, family.label_names, family.max_sets + 1)
        for values, cell in family.items():
            part.cell(*values).value = self._base(family, values).part([cell.value])[0]
        return part

    def _histograms(self, family: HistogramFamily) -> HistogramFamily:
        part = HistogramFamily(
            family.name, family.documentation, family.label_names, family.bounds, family.max_sets + 1
        )
        for values, cell in family.items():
            base = self._base(family, values)
            *counts, total = base.part([*cell.counts, cell.sum])
            if base.before is not None and base.carried is None and not any(counts):
                # Not used since the change.
                continue
            _fill(part.cell(*values), counts, total, cell)
        return part

    def _base(self, family: Family[Any], values: tuple[str, ...]) -> _Base:
        key = family.name, values
        found = self._bases.get(key)
        if found is None:
            pairs = zip(family.label_names, values, strict=True)
            labels = {name: value for name, value in pairs if value or name not in OMITTED_WHEN_EMPTY}
            before, carried = (_look_up(totals, family, labels) for totals in self._known)
            found = self._bases[key] = _Base(before, carried)
        return found


def _fill(target: HistogramCell, counts: list[float], total: float, of: HistogramCell) -> None:
    target.counts = counts
    target.sum = total
    for index, exemplar in of.exemplars().items():
        if counts[index]:
            target.exemplify(exemplar)


def metric_name(family: Family[Any]) -> str:
    """Return the name of `family` as a metric, which is without the ``_total`` of its samples."""
    counter = family.definition.kind is Kind.COUNTER
    return family.name.removesuffix("_total") if counter else family.name


def _look_up(totals: Totals, family: Family[Any], labels: Mapping[str, str]) -> tuple[float, ...] | None:
    """Return what `totals` have of a cell: counts per bucket and the sum, or the number alone."""
    own = tuple(sorted(labels.items()))
    if not isinstance(family, HistogramFamily):
        number = totals.get((metric_name(family) + "_total", own))
        return None if number is None else (number,)
    total = totals.get((family.name + "_sum", own))
    if total is None:
        return None
    bucket = family.name + "_bucket"
    cumulative = [totals.get((bucket, tuple(sorted({**labels, "le": le}.items()))), 0.0) for le in family.le]
    return (*(n - before for before, n in pairwise([0.0, *cumulative])), total)
