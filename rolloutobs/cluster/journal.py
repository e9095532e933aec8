"""What has happened, kept beyond the hour for which Kubernetes keeps events: in memory, and in files."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from rolloutobs.cluster.model import Change, ChangeKind
from rolloutobs.cluster.records import record
from rolloutobs.errors import ConfigurationError

__all__ = ["Journal"]

_LOG: Final = logging.getLogger("rolloutobs.cluster")
_NAME: Final = "changes.jsonl"
MOST_RECORDS: Final = 20_000
"""In memory; of 500 bytes each, 10 MB as text and about 30 MB as Python has them."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one file."""
FILES: Final = 4
"""Files that are kept, the one that is written among them."""


class Journal:
    """A sink that keeps changes, each once, and finds them again.

    Files are JSON lines; a full one becomes ``changes.jsonl.1``, that one ``changes.jsonl.2``, and so on.

    Args:
        folder: for files; ``None``: they are kept in memory only, until the process ends.
        most_records: kept in memory.
        most_bytes: of one file.
        files: that are kept.

    Raises:
        ConfigurationError: `folder` cannot be written to.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        most_records: int = MOST_RECORDS,
        most_bytes: int = MOST_BYTES,
        files: int = FILES,
    ) -> None:
        self.failures = 0
        """Changes that could not be written."""
        self._folder, self._most_records = folder, most_records
        self._most_bytes, self._files = most_bytes, files
        self._records: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._file: IO[str] | None = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._load(folder)
                self._file = (folder / _NAME).open("a", encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(f"cannot keep changes in {str(folder)!r}: {error}") from None

    def is_known(self, key: str) -> bool:
        """Return whether the change with this key is kept."""
        return key in self._records

    def started(self, rollout: str) -> float | None:
        """Return when the rollout with this id began; ``None``: it is not kept."""
        found = self._records.get(f"{rollout}/{ChangeKind.STARTED}/")
        return None if found is None else float(found["time"])

    def find(
        self, namespace: str = "", workload: str = "", since: float = 0.0, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Return what happened since a time in seconds since the epoch, newest first; no word matches all."""
        found = [
            plain
            for plain in self._records.values()
            if plain.get("time", 0.0) >= since
            and namespace in ("", plain.get("namespace"))
            and workload in ("", plain.get("workload"))
        ]
        return sorted(found, key=lambda plain: plain["time"], reverse=True)[:limit]

    async def take(self, change: Change) -> None:
        """Keep a change, unless it is kept already."""
        if self.is_known(change.key):
            return
        plain = record(change)
        self._keep(plain)
        if self._folder is None:
            return
        try:
            self._write(self._folder, json.dumps(plain, separators=(",", ":")) + "\n")
        except OSError as error:
            if not self.failures:
                _LOG.warning("a change could not be written: %s", error)
            self.failures += 1

    async def close(self) -> None:
        """Close the file."""
        self._end_file()

    def _write(self, folder: Path, line: str) -> None:
        if self._file is None:
            self._file = (folder / _NAME).open("a", encoding="utf-8")
        self._file.write(line)
        self._file.flush()
        if self._file.tell() >= self._most_bytes:
            # A disk that refuses one of these is asked again with the next change.
            self._end_file()
            self._rotate(folder)
            self._file = (folder / _NAME).open("a", encoding="utf-8")

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _keep(self, plain: dict[str, Any]) -> None:
        self._records[plain["key"]] = plain
        while len(self._records) > self._most_records:
            self._records.popitem(last=False)

    def _load(self, folder: Path) -> None:
        for number in range(self._files - 1, -1, -1):
            for plain in _lines(_numbered(folder, number)):
                self._keep(plain)
        current = folder / _NAME
        if current.exists() and not _ends_whole(current):
            # A process that was killed has left half a line, which must not swallow the next one.
            with current.open("a", encoding="utf-8") as file:
                file.write("\n")

    def _rotate(self, folder: Path) -> None:
        for number in range(self._files - 2, -1, -1):
            old = _numbered(folder, number)
            if old.exists():
                old.replace(_numbered(folder, number + 1))


def _numbered(folder: Path, number: int) -> Path:
    return folder / (f"{_NAME}.{number}" if number else _NAME)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() == 0:
            return True
        file.seek(-1, 2)
        return file.read() == b"\n"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                plain = json.loads(line) if line.strip() else None
            except ValueError:
                _LOG.warning("%s, line %d is no JSON and is left out", path, number)
                continue
            if isinstance(plain, dict) and "key" in plain and isinstance(plain.get("time"), int | float):
                yield plain
