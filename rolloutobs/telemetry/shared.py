"""Counts that the workers of one server share: each counts into a file of its own, and each answers for all.

Nothing is locked while a request is counted, and nothing is sent anywhere. A scrape reads the files of all
workers, and the sum of those who have ended.

Where the disk is full, a new label set is counted in memory, not shown (it would come and go with the worker
that answers, and a counter that goes backwards is worse than one that is late), and moved into the file as
soon as there is room; each is counted in ``rolloutobs_internal_errors_total{where="store"}``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

from prometheus_client import PLATFORM_COLLECTOR, REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric

from rolloutobs.telemetry import app_metrics
from rolloutobs.telemetry.cells import (
    MAX_LABEL_SETS,
    Allocator,
    CounterFamily,
    Definition,
    Family,
    GaugeFamily,
    HistogramCell,
    HistogramFamily,
    Kind,
    NumberCell,
)
from rolloutobs.telemetry.file_ledger import FileLedger
from rolloutobs.telemetry.folder import ATTEMPTS, FOLDED, FolderReader, FolderView, WorkerView, folded_token
from rolloutobs.telemetry.folding import Folding, folded_app
from rolloutobs.telemetry.ledger import MEMORY_LEDGER, Ledger
from rolloutobs.telemetry.records import FamilyKey, Layout
from rolloutobs.telemetry.shared_files import keep_fresh, replace_file
from rolloutobs.telemetry.totals import Total, Totals
from rolloutobs.telemetry.worker_file import WorkerFile

__all__ = ["SharedFolder", "State"]


class State(Enum):
    """How it is with the file of this process."""

    GOOD = "good"
    LOST = "lost"
    """It is gone, it belongs to another user by now, or there is room again for what was kept aside."""
    FOLDED = "folded"
    """Others took this process for dead, and its counts are in their sum: they must not count again."""


class SharedFolder:
    """A backing of `Store` in a folder.

    Args:
        locate: returns the folder, made where it is missing; asked again when it is lost.
        report: told of everything that goes wrong; must not raise.
        most: label sets per family that are kept of workers that have ended.
        registry: that of the app's own metrics.
    """

    def __init__(
        self,
        locate: Callable[[], Path],
        report: Callable[[BaseException | str], None],
        most: int = MAX_LABEL_SETS,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._locate = locate
        self._report = report
        self._registry = registry
        self._most = most
        self._start_reading()
        self._folder: Path | None = None
        self._file: WorkerFile | None = None
        self._replaced: WorkerFile | None = None
        self._user = os.geteuid()
        self._keeps_aside = False
        self._untold: list[str] | None = None
        """What went wrong since `renew`; ``None`` when cells are not being moved."""
        self._registered: app_metrics.Published | None = None
        """What the registry held when it was last written down."""
        self._inherited: app_metrics.Published | None = None
        """What it held when this process was forked: the parent's."""
        self._merged: dict[FamilyKey, Family[Any]] = {}
        self._refused: set[FamilyKey] = set()
        self._ledgers: dict[str, FileLedger] = {}

    def _start_reading(self) -> None:
        self._reader = FolderReader(self._report)
        self._view: FolderView | None = None
        """As the folder was when it was last read."""
        self._folding = Folding(self._reader, self._most, app_metrics.mark_dead)
        self._lock = threading.RLock()
        self._publishing = threading.RLock()

    @property
    def folder(self) -> Path | None:
        """The folder; ``None`` before there is one."""
        return self._folder

    def renew(self) -> None:
        """Begin a new file at zero, unseen until `publish`.

        Raises:
            OSError: there is no place for it; see `Backing`.
        """
        if self._file is not None and self._file.pid != os.getpid():
            # Forked: the thread that held the lock or was reading does not exist here, and the file is the
            # parent's.
            self._start_reading()
            self._inherited = self._registered
            self._file.close()
            self._file = self._replaced = None
            self._keeps_aside = True
            self._untold = ["a forked process has no file to count in, and counts in memory until it has one"]
        user = os.geteuid()
        try:
            folder = self._locate()
            fresh = WorkerFile(folder)
        except FileNotFoundError:
            # Removed in between by who took it for one of a server that is gone.
            folder = self._locate()
            fresh = WorkerFile(folder)
        with self._lock:
            self._untold = []
            if folder != self._folder:
                self._ledgers.clear()
            self._folder, self._user = folder, user
            if self._file is not None and not self._file.is_published:
                self._file.discard()
                self._file = self._replaced
            self._replaced, self._file = self._file, fresh
            self._keeps_aside = False

    def publish(self) -> None:
        """Let the others see the new file, in place of the one before, and add up what is dead."""
        untold, self._untold = self._untold, None
        for message in untold or ():
            self._report(message)
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.publish(self._replaced)
            except OSError as error:
                # `state` sees that it is not there.
                self._report(error)
                return
            if self._replaced is not None:
                self._replaced.close()
                self._replaced = None
            self._fold()

    def allocator(self, book: str) -> Allocator:
        """Return what makes the cells of `book` in the file of this process."""
        return _Allocator(self, book)

    def add(self, book: str, definition: Definition, values: tuple[str, ...]) -> Any:
        """Return a new cell at zero; one in memory, kept aside, where there is no room for it."""
        file = self._file
        try:
            if file is None:
                return _aside(definition)
            if definition.kind is Kind.HISTOGRAM:
                return file.histogram(book, definition, values)
            return file.number(book, definition, values)
        except OSError as error:
            self._keeps_aside = True
            message = f"{definition.name} is counted in memory until there is room: {error}"
            if self._untold is None:
                self._report(message)
            else:
                # Cells are being moved. After a fork the one that counts this is still the parent's.
                self._untold.append(message)
            return _aside(definition)

    def read(self) -> Mapping[FamilyKey, Family[Any]]:
        """Return the families of all workers, summed; the same objects each time, and no count in them goes
        back.

        What cannot be read is reported, and stays as it was; what this process counts is always there.
        """
        with self._lock:
            if self._folder is None or self._file is None:
                return dict(self._merged)
            try:
                view = self._view = self._reader.look(self._folder, self._file.path.name)
            except OSError as error:
                self._report(error)
                view = self._without_folder(self._file)
            totals = Totals()
            for worker in view.workers:
                totals.add(worker.data, worker.layout.entries, gauges=worker.is_alive)
                # Else requests wait for all of it: a thread that computes gives way every 5 ms only.
                time.sleep(0)
            if view.folded is not None:
                totals.add(view.folded.data, view.folded.layout.entries, gauges=False)
            self._assign(totals)
            self._report_refused(totals)
            if view.has_dead:
                self._fold()
            return dict(self._merged)

    def _without_folder(self, file: WorkerFile) -> FolderView:
        """Return what the others had counted when it was last read, and what this process counts now."""
        known = self._view or FolderView((), None, frozenset())
        name = file.path.name
        others = [worker for worker in known.workers if worker.name != name]
        if name not in known.counted:
            data, layout = file.content(), Layout()
            layout.extend(data)
            others.insert(0, WorkerView(name, data, layout, is_alive=True))
        return FolderView(tuple(others), known.folded, frozenset())

    def _report_refused(self, totals: Totals) -> None:
        for key in totals.refused - self._refused:
            self._refused.add(key)
            self._report(f"workers define {key[1]} in different ways; only those that do as this one count")

    def _assign(self, totals: Totals) -> None:
        # Values are replaced, never reset: another thread may be writing these families out.
        for key in [key for key in self._merged if key not in totals.cells]:
            del self._merged[key]
        for key, cells in totals.cells.items():
            family = self._merged.get(key)
            if family is None or family.definition != totals.definitions[key]:
                family = self._merged[key] = _family(totals.definitions[key])
            family.keep_only(cells)
            for values, total in cells.items():
                _set(family.cell(*values), total)

    def _fold(self) -> None:
        if self._folder is None or self._file is None:
            return
        try:
            self._folding.fold(self._folder, self._file.path.name)
        except OSError as error:
            # All files stay, and are read as they are.
            self._report(error)

    def drop(self, gone: Callable[[FamilyKey, tuple[str, ...]], bool]) -> None:
        """Take label sets out of what workers that have ended had counted; those of this process are dropped
        by `Family.keep_only`, and leave its file with the next `Store.share`.

        Args:
            gone: told of the key of a family and of label values, whether these go.
        """
        with self._lock:
            if self._folder is None or self._file is None:
                return
            try:
                self._folding.drop(self._folder, self._file.path.name, gone)
            except OSError as error:
                self._report(error)

    def state(self) -> State:
        """Look after the file of this process; anything but `State.GOOD` asks for `Store.share`."""
        with self._lock:
            file, folder = self._file, self._folder
            if file is None or folder is None or self._user != os.geteuid():
                return State.LOST
            if not file.touch():
                return self._why_gone(folder, file)
            for path in (folder / FOLDED, *folder.glob("ledger-*")):
                with contextlib.suppress(OSError):
                    keep_fresh(path)
            return State.LOST if self._keeps_aside and file.has_room() else State.GOOD

    def _why_gone(self, folder: Path, file: WorkerFile) -> State:
        with contextlib.suppress(OSError):
            if self._reader.has_folded(folder, file.path.name):
                return State.FOLDED
        self._report(f"{file.path} is gone; what workers that have ended had counted may be lost")
        return State.LOST

    def close(self) -> None:
        """Count no longer; what was counted is added up by those who go on."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def ledger(self, book: str) -> Ledger:
        """Return where it is written which part of `book` belongs to which track."""
        with self._lock:
            if self._folder is None:
                return MEMORY_LEDGER
            if book not in self._ledgers:
                self._ledgers[book] = FileLedger(self._folder / f"ledger-{book}", self._report)
            return self._ledgers[book]

    def publish_app(self) -> None:
        """Write down what the app's own metrics are now; does nothing where it has none.

        Of a collector that raises, which is reported, stays what it had before.

        Raises:
            OSError: it cannot be written.
        """
        if app_metrics.is_multiprocess() or not app_metrics.has_own_metrics(self._registry):
            return
        # Not the lock of the files: what a collector of the app may ask for could want that.
        with self._publishing:
            self._registered = app_metrics.own_metrics(self._registry, self._report, self._registered)
            mine = self._registered.since(self._inherited)
            file = self._file
            if file is not None and file.is_published and file.pid == os.getpid():
                replace_file(file.path.with_suffix(app_metrics.APP), mine.as_bytes())

    def app_metrics(self) -> list[Metric]:
        """Return the app's own metrics of all workers, those of this one as they are now.

        Raises:
            OSError: the folder cannot be read.
            Exception: whatever a collector of the app raises.
        """
        platform = (
            [PLATFORM_COLLECTOR] if app_metrics.is_registered(self._registry, PLATFORM_COLLECTOR) else []
        )
        same = [metric for collector in platform for metric in collector.collect()]
        if app_metrics.is_multiprocess():
            return [*same, *app_metrics.multiprocess_metrics()]
        self.publish_app()
        return [*same, *self._app_metrics_of_all()]

    def _app_metrics_of_all(self) -> list[Metric]:
        with self._lock:
            folder, file = self._folder, self._file
            if folder is None or file is None:
                return []
            for _ in range(ATTEMPTS):
                before = folded_token(folder)
                view = self._reader.look(folder, file.path.name)
                alive: list[app_metrics.Published] = []
                gone = folded_app(view.folded)
                for worker in view.workers:
                    found = app_metrics.read((folder / worker.name).with_suffix(app_metrics.APP))
                    if found is not None:
                        (alive if worker.is_alive else gone).append(found)
                if before == folded_token(folder):
                    break
            return list(app_metrics.merged(alive, gone))


def _aside(definition: Definition) -> NumberCell | HistogramCell:
    return HistogramCell(definition.bounds) if definition.kind is Kind.HISTOGRAM else NumberCell()


class _Allocator:
    def __init__(self, folder: SharedFolder, book: str) -> None:
        self._folder = folder
        self._book = book

    def number(self, definition: Definition, values: tuple[str, ...]) -> NumberCell:
        return cast(NumberCell, self._folder.add(self._book, definition, values))

    def histogram(self, definition: Definition, values: tuple[str, ...]) -> HistogramCell:
        return cast(HistogramCell, self._folder.add(self._book, definition, values))


def _family(definition: Definition) -> Family[Any]:
    d = definition
    if d.kind is Kind.COUNTER:
        return CounterFamily(d.name, d.documentation, d.label_names, sys.maxsize)
    if d.kind is Kind.GAUGE:
        return GaugeFamily(d.name, d.documentation, d.label_names, sys.maxsize, d.merge)
    return HistogramFamily(d.name, d.documentation, d.label_names, d.bounds, sys.maxsize)


def _set(cell: Any, total: Total) -> None:
    if total.counts:
        cell.counts = total.counts
        cell.sum = total.number
        for exemplar in total.exemplars.values():
            cell.exemplify(exemplar)
    else:
        cell.value = total.number
