"""The folder that the workers of one server share: who is alive in it, what they have counted, and the sum of
those who are gone.

Files in it::

    1234-9f...cells   what process 1234 counts (`rolloutobs.telemetry.worker_file`); locked while it lives
    1234-9f...app     what its own prometheus_client metrics were a moment ago (`.app_metrics`)
    folded            the sum of workers that have ended, and the names of the files that are in it
    ledger-app0       which part of the counts belongs to which track (`.file_ledger`)
    lock              held while `folded` is replaced

Files of others are read, never mapped: one that somebody cuts short would kill who has mapped it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rolloutobs.telemetry.records import HEADER_BYTES, DamagedError, Layout, token_of, used_bytes
from rolloutobs.telemetry.shared_files import is_locked
from rolloutobs.telemetry.worker_file import CELLS

__all__ = ["ABANDONED_SECONDS", "FOLDED", "LOCK", "FolderReader", "FolderView", "WorkerView", "folded_token"]

FOLDED = "folded"
LOCK = "lock"
ATTEMPTS = 5
ABANDONED_SECONDS = 60.0
"""After that, an unfinished file without an owner is removed; making one takes milliseconds."""
_READING = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """The file of one worker, or `FOLDED`, as it was a moment ago."""

    name: str
    data: bytes
    layout: Layout
    is_alive: bool
    is_ours: bool = True
    """Whether it begins as our files do."""

    @property
    def is_dead(self) -> bool:
        """Whether a worker that has ended has left it."""
        return self.is_ours and not self.is_alive


@dataclass(frozen=True, slots=True)
class FolderView:
    """All files of a folder that belong together."""

    workers: tuple[WorkerView, ...]
    """Those whose counts are not in `folded`; the reader's own comes first."""
    folded: WorkerView | None
    counted: frozenset[str]
    """Names of files that are in `folded`, and not removed yet."""

    @property
    def has_dead(self) -> bool:
        """Whether there is something to fold."""
        return bool(self.counted) or any(worker.is_dead for worker in self.workers)


@dataclass(slots=True)
class FolderReader:
    """Reads a folder; remembers what is where in each file, so that only numbers are read again.

    Files that are not ours, damaged or cut short are reported once each; what was read before the damage
    counts.
    """

    report: Callable[[BaseException | str], None]
    _layouts: dict[str, tuple[int | None, Layout]] = field(default_factory=dict)
    _reported: set[tuple[str, int]] = field(default_factory=set)

    def look(self, folder: Path, own: str) -> FolderView:
        """Return what is in `folder`; `own` is the name of the file of this process.

        Raises:
            OSError: the folder cannot be read.
        """
        for _ in range(ATTEMPTS):
            before = folded_token(folder)
            view, is_whole = self._look_once(folder, own)
            if is_whole and before == folded_token(folder):
                break
            # Somebody folds just now: what is gone from its file is in the sum that comes.
        return view

    def has_folded(self, folder: Path, name: str) -> bool:
        """Return whether the counts of file `name` are in `folded`, and the file was removed or will be."""
        folded = self._read(folder / FOLDED, is_own=False)
        return name in _ids(folded)

    def _look_once(self, folder: Path, own: str) -> tuple[FolderView, bool]:
        names = [path.name for path in folder.iterdir() if path.suffix == CELLS]
        names.sort(key=lambda name: (name != own, name))
        folded = self._read(folder / FOLDED, is_own=False)
        counted = frozenset(_ids(folded)).intersection(names)
        found = [
            (name, self._read(folder / name, is_own=name == own)) for name in names if name not in counted
        ]
        for name in set(self._layouts).difference(names, [FOLDED]):
            del self._layouts[name]
        workers = tuple(view for _, view in found if view is not None)
        return FolderView(workers, folded, counted), len(workers) == len(found)

    def _read(self, path: Path, *, is_own: bool) -> WorkerView | None:
        try:
            descriptor = os.open(path, _READING)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A link, or somebody else's.
            self._damaged(path.name, 0, error)
            return WorkerView(path.name, b"", Layout(), is_alive=False, is_ours=False)
        try:
            # First whether it is alive: what is read from one that is not is final.
            is_alive = is_own or is_locked(descriptor)
            return self._parse(path.name, descriptor, is_alive=is_alive)
        finally:
            os.close(descriptor)

    def _parse(self, name: str, descriptor: int, *, is_alive: bool) -> WorkerView:
        found = os.fstat(descriptor)
        known = self._layouts.get(name)
        layout, data, is_ours = Layout(), b"", False
        token = None
        try:
            head = os.pread(descriptor, HEADER_BYTES, 0)
            token, used = token_of(head), used_bytes(head)
            if known is not None and known[0] == token:
                layout = known[1]
            is_ours = True
            # With the header from before: the one that is there by now may speak of more.
            data = head + os.pread(descriptor, min(used, found.st_size) - HEADER_BYTES, HEADER_BYTES)
            if layout.end > len(data):
                layout = Layout()
            layout.extend(data)
        except (OSError, DamagedError) as error:
            layout = layout if layout.end <= len(data) else Layout()
            self._damaged(name, found.st_ino, error)
        self._layouts[name] = (token, layout)
        return WorkerView(name, data, layout, is_alive, is_ours)

    def _damaged(self, name: str, inode: int, error: Exception) -> None:
        if (name, inode) not in self._reported:
            self._reported.add((name, inode))
            self.report(f"{name} is left out of the sum of all workers: {error}")


def _ids(folded: WorkerView | None) -> list[str]:
    notes = [] if folded is None else folded.layout.notes
    return [name for note in notes if isinstance(note, dict) for name in note.get("ids", ())]


def folded_token(folder: Path) -> int | None:
    """Return what changes whenever something is folded; ``None`` where nothing was."""
    try:
        with (folder / FOLDED).open("rb") as file:
            return token_of(file.read(HEADER_BYTES))
    except OSError:
        return None
