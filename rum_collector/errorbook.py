"""The messages behind fingerprints: which errors there are, in which version, and where they were thrown.

A line of JSON per error where counts are kept in a folder: a killed worker leaves its lines to the others.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily

from rolloutobs import semconv
from rolloutobs.telemetry.shared_files import replace_file
from rum_collector.admission import Release

__all__ = ["ErrorBook", "Known"]

_MAX_READ_BYTES: Final = 16 << 20
"""Far above what the bounds of the admission let through."""


class Known(NamedTuple):
    """One error of one version."""

    app: str
    version: str
    fingerprint: str
    message: str
    location: str
    """In the source where there is a source map; empty where nothing is known."""


class ErrorBook:
    """Errors by app, version and fingerprint; the first message and place of each stay.

    Args:
        report: told what goes wrong with the file; what is known in memory stays.
    """

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report
        self._known: dict[tuple[str, str, str], Known] = {}
        self._path: Path | None = None
        self._read_file = self._read_bytes = 0
        """Number of the file that was read last, and how much of it."""
        self._reading = threading.RLock()

    def keep_in(self, path: Path) -> None:
        """Keep everything in a file from now on, and take over what others have written there."""
        self._path = path
        mine = list(self._known.values())
        self.refresh()
        self._append(mine)

    def add(self, error: Known) -> None:
        """Keep an error, if it is the first of its fingerprint in its version."""
        if self._known.setdefault(error[:3], error) is error:
            self._append([error])

    def known(self) -> list[Known]:
        """Return all errors that are known."""
        return list(self._known.values())

    def place(self, app: str, version: str, fingerprint: str) -> str:
        """Return where an error was first thrown; empty where nothing is known."""
        found = self._known.get((app, version, fingerprint))
        return "" if found is None else found.location

    def forget(self, release: Release) -> None:
        """Drop the errors of an app and version."""
        with self._reading:
            # What others have written since is theirs: it must not go with the file.
            self.refresh()
            self._known = {key: error for key, error in self._known.items() if key[:2] != release}
            if self._path is not None:
                try:
                    replace_file(self._path, b"".join(map(_line, self._known.values())))
                except OSError as error:
                    self._report(error)

    def refresh(self) -> None:
        """Take over what other workers have written since. A scrape does it in a thread of its own."""
        with self._reading:
            if self._path is not None:
                self._refresh(self._path)

    def _refresh(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                # Another worker may have put another file in its place.
                if found.st_ino != self._read_file or found.st_size < self._read_bytes:
                    self._read_file, self._read_bytes = found.st_ino, 0
                file.seek(self._read_bytes)
                data = file.read(_MAX_READ_BYTES)
        except FileNotFoundError:
            return
        except OSError as problem:
            self._report(problem)
            return
        whole = data.rpartition(b"\n")[0]
        self._read_bytes += len(whole) + bool(whole)
        for line in whole.splitlines():
            error = _parsed(line)
            if error is not None:
                self._known.setdefault(error[:3], error)

    def _append(self, errors: list[Known]) -> None:
        if self._path is None or not errors:
            return
        try:
            # One write each, so that the lines of several workers do not mix (POSIX, O_APPEND).
            with self._path.open("ab", buffering=0) as file:
                for error in errors:
                    file.write(_line(error))
        except OSError as error:
            self._report(error)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is known as metrics that are always 1."""
        self.refresh()
        release = [semconv.LABEL_APP, semconv.LABEL_VERSION, semconv.LABEL_FINGERPRINT]
        messages = GaugeMetricFamily(
            semconv.RUM_JS_ERROR_INFO,
            "Always 1: the scrubbed message behind a fingerprint.",
            labels=[*release, semconv.LABEL_MESSAGE],
        )
        places = GaugeMetricFamily(
            semconv.RUM_JS_ERROR_LOCATION_INFO,
            "Always 1: where an error was first thrown.",
            labels=[*release, semconv.LABEL_LOCATION],
        )
        for app, version, fingerprint, message, location in list(self._known.values()):
            messages.add_metric([app, version, fingerprint, message], 1.0)
            if location:
                places.add_metric([app, version, fingerprint, location], 1.0)
        yield messages
        yield places


def _line(error: Known) -> bytes:
    return json.dumps(error).encode() + b"\n"


def _parsed(line: bytes) -> Known | None:
    try:
        found = json.loads(line)
    except ValueError:
        # The end of a write that was cut off: the next error of that fingerprint writes it again.
        return None
    if isinstance(found, list) and len(found) == 5 and all(isinstance(part, str) for part in found):
        return Known(*found)
    return None
