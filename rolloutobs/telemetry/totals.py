"""Sums over the files of several workers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rolloutobs.telemetry import records
from rolloutobs.telemetry.cells import OVERFLOW, Definition, Exemplar, Kind, Merge
from rolloutobs.telemetry.records import Entry, FamilyKey

__all__ = ["Total", "Totals", "records_of"]

_TIMESTAMP = 32
"""Where an exemplar has its time, in bytes."""
_MERGE: dict[Merge, Callable[[float, float], float]] = {
    Merge.SUM: lambda a, b: a + b,
    Merge.MAX: max,
    Merge.MIN: min,
    Merge.FIRST: lambda a, b: min(a, b) if a and b else a or b,
}


@dataclass(slots=True)
class Total:
    """The sum of the cells of one label set."""

    number: float = 0.0
    """Of a counter or gauge; of a histogram, the sum of what was observed."""
    counts: list[float] = field(default_factory=list)
    exemplars: dict[int, Exemplar] = field(default_factory=dict)

    def add(self, other: Total) -> None:
        """Add the counts of `other`; of two exemplars the newer one stays."""
        self.number += other.number
        if other.counts:
            self.counts = (
                [a + b for a, b in zip(self.counts, other.counts, strict=True)]
                if self.counts
                else list(other.counts)
            )
        for i, exemplar in other.exemplars.items():
            mine = self.exemplars.get(i)
            if mine is None or mine.timestamp < exemplar.timestamp:
                self.exemplars[i] = exemplar


class Totals:
    """Sums by family and label values. Where two files define a family differently, the first one counts."""

    def __init__(self) -> None:
        self.definitions: dict[FamilyKey, Definition] = {}
        self.cells: dict[FamilyKey, dict[tuple[str, ...], Total]] = {}
        self.refused: set[FamilyKey] = set()
        """What a later file has defined otherwise; its cells are left out."""

    def add(self, data: bytes, entries: list[Entry], *, gauges: bool) -> None:
        """Add the cells of one file.

        Args:
            data: the file.
            entries: what is where in it.
            gauges: whether all of its gauges count; of a worker that has ended those do that tell the first.
        """
        doubles = memoryview(data)[: len(data) // 8 * 8].cast("d")
        found: dict[int, dict[tuple[str, ...], Total] | None] = {}
        for entry in entries:
            definition = entry.definition
            # One object for all cells of a family in a file; comparing definitions is dear.
            if id(definition) not in found:
                found[id(definition)] = self._cells_of(entry, gauges=gauges)
            cells = found[id(definition)]
            if cells is None:
                continue
            total = cells.get(entry.values)
            value = doubles[entry.offset >> 3]
            if definition.kind is Kind.HISTOGRAM:
                if total is None:
                    total = cells[entry.values] = Total()
                _histogram(total, entry, data, doubles)
            elif total is None:
                cells[entry.values] = Total(value)
            else:
                # Of counters, the sum.
                total.number = _MERGE[definition.merge](total.number, value)

    def _cells_of(self, entry: Entry, *, gauges: bool) -> dict[tuple[str, ...], Total] | None:
        """Return where the cells of a family are added up; ``None`` where they are left out."""
        if self.definitions.setdefault(entry.key, entry.definition) != entry.definition:
            self.refused.add(entry.key)
            return None
        is_passing = entry.definition.kind is Kind.GAUGE and entry.definition.merge is not Merge.FIRST
        if is_passing and not gauges:
            return None
        return self.cells.setdefault(entry.key, {})

    def cap(self, most: int, in_use: Totals) -> None:
        """Move what is above `most` label sets of a family into its ``_overflow``.

        Else the label sets of ever new workers would pile up. Those that a worker which is alive counts as
        well (`in_use`) stay: a series must end, or go on, but never drop.
        """
        for key, cells in self.cells.items():
            if len(cells) <= most:
                continue
            kept = in_use.cells.get(key, {})
            over = (OVERFLOW,) * len(self.definitions[key].label_names)
            for values in [v for v in cells if v not in kept and v != over][most:]:
                cells.setdefault(over, Total()).add(cells.pop(values))


def _histogram(total: Total, entry: Entry, data: bytes, doubles: memoryview[float]) -> None:
    first = entry.offset >> 3
    buckets = len(entry.definition.bounds) + 1
    counts = list(doubles[first + 1 : first + 1 + buckets])
    total.number += doubles[first]
    if total.counts:
        total.counts = [a + b for a, b in zip(total.counts, counts, strict=True)]
    else:
        total.counts = counts
    start = entry.offset + 8 * (1 + buckets)
    stride = records.EXEMPLAR_BYTES >> 3
    # Most buckets have none; their times tell so without reading them.
    times = doubles[(start + _TIMESTAMP) >> 3 : (start >> 3) + buckets * stride : stride].tolist()
    if not any(times):
        return
    for i, timestamp in enumerate(times):
        if not timestamp:
            continue
        mine = total.exemplars.get(i)
        if mine is None or mine.timestamp < timestamp:
            found = records.read_exemplar(data, start + i * records.EXEMPLAR_BYTES)
            if found is not None:
                total.exemplars[i] = found


def records_of(totals: Totals) -> Iterator[bytes]:
    """Yield the records of a file that holds these totals."""
    for index, (key, cells) in enumerate(totals.cells.items()):
        definition = totals.definitions[key]
        yield records.definition_record(key[0], definition)
        for values, total in cells.items():
            yield records.cell_record(index, values, _payload(definition, total))


def _payload(definition: Definition, total: Total) -> bytes:
    if definition.kind is not Kind.HISTOGRAM:
        return struct.pack("=d", total.number)
    buckets = len(definition.bounds) + 1
    counts = total.counts or [0.0] * buckets
    empty = bytes(records.EXEMPLAR_BYTES)
    exemplars = (
        records.exemplar_bytes(total.exemplars[i]) if i in total.exemplars else empty for i in range(buckets)
    )
    return struct.pack(f"={1 + buckets}d", total.number, *counts) + b"".join(exemplars)
