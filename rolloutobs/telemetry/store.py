"""The families of one process, in books: one book per instrumented app, and one for what belongs to no app.

In memory as it stands; `share` moves every cell to where the other workers of one server see them, and makes
`collect` give the sum of all of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.telemetry import cells
from rolloutobs.telemetry.cells import (
    MAX_LABEL_SETS,
    MEMORY,
    Allocator,
    CounterFamily,
    Family,
    GaugeFamily,
    HistogramFamily,
    Merge,
)
from rolloutobs.telemetry.ledger import MEMORY_LEDGER, Ledger

__all__ = ["PROCESS", "Backing", "Store"]

PROCESS = ""
"""The book of what belongs to no app: operations, log records, failures, memory and CPU."""
F = TypeVar("F", CounterFamily, GaugeFamily, HistogramFamily)


class Backing(Protocol):
    """Where the workers of one server keep their cells together."""

    def renew(self) -> None:
        """Begin anew at zero, unseen until `publish`: cells that were made before must no longer be added to.

        Raises:
            OSError: there is no place for cells now; in a process that was just forked, cells are then kept
            aside until there is.
        """

    def publish(self) -> None:
        """Let the other workers see the cells that were made since `renew`, in place of those before."""

    def allocator(self, book: str) -> Allocator:
        """Return what makes the cells of `book` of this process."""

    def read(self) -> Mapping[tuple[str, str], Family[Any]]:
        """Return the families of all workers, summed, by (book, name); copies in memory."""

    def app_metrics(self) -> list[Metric]:
        """Return the app's own prometheus_client metrics of all workers."""

    def ledger(self, book: str) -> Ledger:
        """Return where it is written which part of `book` belongs to which track."""


class Store:
    """Makes families, once per book and name, and collects them."""

    def __init__(self) -> None:
        self._families: dict[tuple[str, str], Family[Any]] = {}
        self._lock = threading.RLock()
        self.refreshers: list[Callable[[], None]] = []
        """Called every few seconds where cells are shared: another worker may answer the next scrape."""
        self._moved: list[Callable[[], None]] = []
        self.backing: Backing | None = None
        """Where cells are shared; ``None``: they are in this process only."""

    def counter(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str] = (),
        *,
        book: str = PROCESS,
        max_sets: int = MAX_LABEL_SETS,
    ) -> CounterFamily:
        """Return the counter `name` of `book`, made on first use."""
        return self._family(book, CounterFamily(name, documentation, label_names, max_sets))

    def gauge(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str] = (),
        *,
        book: str = PROCESS,
        merge: Merge = Merge.SUM,
    ) -> GaugeFamily:
        """Return the gauge `name` of `book`, made on first use; `merge` makes one of several workers'
        values."""
        return self._family(book, GaugeFamily(name, documentation, label_names, merge=merge))

    def histogram(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str],
        bounds: Sequence[float],
        *,
        book: str = PROCESS,
        max_sets: int = MAX_LABEL_SETS,
    ) -> HistogramFamily:
        """Return the histogram `name` of `book`, made on first use."""
        return self._family(book, HistogramFamily(name, documentation, label_names, bounds, max_sets))

    def _family(self, book: str, family: F) -> F:
        with self._lock:
            found = self._families.setdefault((book, family.name), family)
            if found is family:
                if self.backing is not None:
                    family.move(self.backing.allocator(book), keep=True)()
                if family.label_names and family.name != semconv.LABEL_SETS_DROPPED_TOTAL:
                    self._count_drops(family)
            elif found.definition != family.definition:
                raise ValueError(f"{family.name} is defined twice: {found.definition}, {family.definition}")
            return found  # type: ignore[return-value]

    def _count_drops(self, family: Family[Any]) -> None:
        # Of the process, not of each book: an app shows both, and a name only once.
        dropped = self.counter(
            semconv.LABEL_SETS_DROPPED_TOTAL,
            "Lookups of label sets that are counted as _overflow because there are too many.",
            (semconv.LABEL_METRIC,),
        )
        name = family.name
        dropped.cell(name)
        family.on_drop = lambda: dropped.cell(name).inc()

    def on_move(self, moved: Callable[[], None]) -> None:
        """Call `moved` whenever cells were made anew: whoever holds cells must look them up again."""
        self._moved.append(moved)

    def share(self, backing: Backing, *, keep: bool = True) -> None:
        """Keep all cells in `backing` from now on, in new cells of it.

        Args:
            backing: the one that is in use already moves them to another place of its own.
            keep: whether what they hold goes along.

        Raises:
            OSError: there is no place for them; nothing was moved.
        """
        with self._lock:
            backing.renew()
            self.backing = backing
            self._move(keep=keep)

    def forked(self) -> None:
        """Start over at zero in a process that was just forked: the counts so far are the parent's."""
        # The threads that held them do not exist here.
        self._lock = threading.RLock()
        cells.forked()
        with self._lock:
            if self.backing is not None:
                # Where there is no place, the backing keeps them aside and tries again.
                with contextlib.suppress(OSError):
                    self.backing.renew()
            self._move(keep=False)

    def _move(self, *, keep: bool) -> None:
        settles = [
            family.move(MEMORY if self.backing is None else self.backing.allocator(book), keep=keep)
            for (book, _), family in list(self._families.items())
        ]
        for moved in self._moved:
            moved()
        if self.backing is not None:
            self.backing.publish()
        for settle in settles:
            settle()

    def ledger(self, book: str) -> Ledger:
        """Return where it is written which part of `book` belongs to which track."""
        return MEMORY_LEDGER if self.backing is None else self.backing.ledger(book)

    def collect(self, book: str) -> Iterator[Metric]:
        """Yield the metrics of `book`: those of all workers where they are shared."""
        for family in self.families(book):
            yield family.collect()

    def families(self, *books: str) -> list[Family[Any]]:
        """Return the families of `books`, book by book, as they are to be shown.

        Where they are shared these are copies with the cells of all workers summed, else the live ones.
        """
        with self._lock:
            families: Mapping[tuple[str, str], Family[Any]] = dict(self._families)
        if self.backing is not None:
            families = self.backing.read()
        return [family for book in books for (of, _), family in families.items() if of == book]
