"""What workers that have ended have counted goes into one file, and theirs are removed.

Nothing counts twice and nothing is lost if that is cut off anywhere: the sum names the files that are in it,
and takes the place of the old sum in one rename, before any of them is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rolloutobs.telemetry import app_metrics
from rolloutobs.telemetry.folder import (
    ABANDONED_SECONDS,
    FOLDED,
    LOCK,
    FolderReader,
    WorkerView,
)
from rolloutobs.telemetry.records import FamilyKey, file_bytes, note_record
from rolloutobs.telemetry.shared_files import UNFINISHED, locked, replace_file
from rolloutobs.telemetry.totals import Totals, records_of
from rolloutobs.telemetry.worker_file import CELLS

__all__ = ["Folding", "folded_app"]


@dataclass(frozen=True, slots=True)
class Folding:
    """How a folder is folded.

    Args:
        reader: of the folder.
        most: label sets per family that are kept of workers that have ended.
        ended: called with the process id of each.
    """

    reader: FolderReader
    most: int
    ended: Callable[[int], None]

    def fold(self, folder: Path, own: str) -> None:
        """Fold what is dead in `folder`; does nothing while another worker does it.

        Raises:
            OSError: the sum cannot be written; all files stay.
        """
        with locked(folder / LOCK, fcntl.LOCK_EX, 0.0) as got:
            if not got:
                return
            _remove_abandoned(folder)
            view = self.reader.look(folder, own)
            for name in view.counted:
                # The one who has folded them was stopped before this.
                _remove(folder, name)
            with _owned(folder, [w for w in view.workers if w.is_dead]) as dead:
                if not dead:
                    return
                alive = [worker for worker in view.workers if worker not in dead]
                replace_file(folder / FOLDED, self._sum(folder, view.folded, dead, _sum_of(alive)))
                for worker in dead:
                    _remove(folder, worker.name)
        self._tell(dead)

    def drop(self, folder: Path, own: str, gone: Callable[[FamilyKey, tuple[str, ...]], bool]) -> None:
        """Take label sets out of the sum of workers that have ended; does nothing while it is being made.

        Args:
            folder: of the server.
            own: name of the file of this process.
            gone: told of the key of a family and of label values, whether these go.

        Raises:
            OSError: the sum cannot be written; it stays as it was.
        """
        with locked(folder / LOCK, fcntl.LOCK_EX, 0.0) as got:
            folded = self.reader.look(folder, own).folded if got else None
            if folded is None:
                return
            totals = _sum_of([folded])
            for key, cells in totals.cells.items():
                for values in [values for values in cells if gone(key, values)]:
                    del cells[values]
            notes = [note_record(note) for note in folded.layout.notes]
            replace_file(folder / FOLDED, file_bytes(0, [*records_of(totals), *notes]))

    def _tell(self, dead: list[WorkerView]) -> None:
        for worker in dead:
            pid = worker.name.partition("-")[0]
            if pid.isdecimal():
                self.ended(int(pid))

    def _sum(self, folder: Path, folded: WorkerView | None, dead: list[WorkerView], in_use: Totals) -> bytes:
        # The newest definition of a family counts; folded last, as when it is read.
        totals = _sum_of([*dead, *(() if folded is None else (folded,))])
        totals.cap(self.most, in_use)
        published = [app_metrics.read(_app_file(folder, worker.name)) for worker in dead]
        app = app_metrics.additive([*folded_app(folded), *(p for p in published if p is not None)])
        note = note_record({"ids": [worker.name for worker in dead], "app": app.as_json()})
        return file_bytes(0, [*records_of(totals), note])


def _sum_of(workers: list[WorkerView]) -> Totals:
    totals = Totals()
    for worker in workers:
        totals.add(worker.data, worker.layout.entries, gauges=False)
    return totals


def folded_app(folded: WorkerView | None) -> list[app_metrics.Published]:
    """Return the app's own metrics of workers that have ended; at most one."""
    notes = [] if folded is None else folded.layout.notes
    found = [app_metrics.Published.from_json(note.get("app")) for note in notes if isinstance(note, dict)]
    return [published for published in found if published is not None]


@contextlib.contextmanager
def _owned(folder: Path, workers: list[WorkerView]) -> Iterator[list[WorkerView]]:
    """Hold the locks of files whose owner is gone, so that it cannot come back meanwhile."""
    with contextlib.ExitStack() as stack:
        owned = []
        for worker in workers:
            try:
                descriptor = os.open(folder / worker.name, os.O_RDWR | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            owned.append(worker)
        yield owned


def _app_file(folder: Path, name: str) -> Path:
    return folder / (name.removesuffix(CELLS) + app_metrics.APP)


def _remove(folder: Path, name: str) -> None:
    for path in (_app_file(folder, name), folder / name):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _remove_abandoned(folder: Path) -> None:
    """Remove what was never finished, and metrics without a worker."""
    now = time.time()
    for path in folder.iterdir():
        is_lone = path.suffix == app_metrics.APP and not path.with_suffix(CELLS).exists()
        if path.suffix == UNFINISHED or is_lone:
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()
