"""Which of the workers that share a folder does what only one of them may do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where nothing is shared
    fcntl = None  # type: ignore[assignment]

__all__ = ["Leadership"]

_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Leadership:
    """The right to do something for all workers, until `close` or the end of the process, however it ends.

    Holds a text for whoever comes next.
    """

    folder: Path
    _file: int

    @classmethod
    def take(cls, folder: Path, name: str) -> Leadership | None:
        """Return the right to do `name`; ``None`` while another worker has it.

        Raises:
            OSError: the folder cannot be written to.
        """
        file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError:
            os.close(file)
            raise
        return cls(folder, file)

    def holds(self, folder: Path | None) -> bool:
        """Return whether this is about `folder` as it is now: one that was removed and made again has another
        leader."""
        return folder == self.folder and os.fstat(self._file).st_nlink > 0

    def read(self) -> str:
        """Return what the last leader wrote; empty if there was none."""
        return os.pread(self._file, os.fstat(self._file).st_size, 0).decode("utf-8", "replace")

    def write(self, text: str) -> None:
        """Leave `text` for the next leader; one that is torn by a crash is for the reader to notice.

        Raises:
            OSError: the disk is full.
        """
        content = text.encode("utf-8")
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))

    def close(self) -> None:
        """Give the right back. In a forked child this only closes the child's share of it."""
        os.close(self._file)
