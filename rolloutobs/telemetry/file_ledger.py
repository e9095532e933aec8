"""A ledger in the folder that workers share."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rolloutobs.telemetry.generations import Generations
from rolloutobs.telemetry.ledger import restore, to_json
from rolloutobs.telemetry.shared_files import FileState, locked, replace_file, state_of

__all__ = ["FileLedger"]

WAIT_SECONDS = 2.0
"""How long a lock is waited for: whoever has it needs milliseconds, unless it was stopped in the middle."""


class FileLedger:
    """In a file of a shared folder.

    Args:
        path: of the file; its folder may come and go.
        report: told what goes wrong; each worker then goes by what it has noticed itself.
    """

    def __init__(self, path: Path, report: Callable[[BaseException | str], None]) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._report = report
        self._known: FileState | None = None

    def reading(self) -> AbstractContextManager[object]:
        """Hold off changes for a moment."""
        return locked(self._lock_path, fcntl.LOCK_SH, WAIT_SECONDS)

    def writing(self) -> AbstractContextManager[object]:
        """Be the only one for a moment."""
        return locked(self._lock_path, fcntl.LOCK_EX, WAIT_SECONDS)

    def take_over(self, generations: Generations) -> bool:
        """Bring `generations` up to the file; return whether it was written by another worker since."""
        try:
            state = state_of(self._path)
            if state is None or state == self._known:
                return False
            restore(generations, json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return False
        except Exception as error:
            # Nothing in a file can make it look like another track: what is known already goes on.
            self._report(f"{self._path.name} cannot be read: {error!r}")
            return False
        self._known = state
        return True

    def write(self, generations: Generations) -> None:
        """Write `generations` down; where that fails it is reported."""
        try:
            replace_file(self._path, json.dumps(to_json(generations), separators=(",", ":")).encode())
            self._known = state_of(self._path)
        except OSError as error:
            self._report(error)
