"""Counts what could not be done, by where."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final

__all__ = ["WHERES", "Failures"]

WHERES: Final = ("cluster", "look", "notify", "state", "tokens", "traces", "workloads")
"""Annotations cannot be read; a workload cannot be followed; a decision was not posted; the state cannot be
written; tokens or workloads cannot be read again; a decision was not sent as a span."""


class Failures:
    """Counts, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counter(dict.fromkeys(WHERES, 0))

    def count(self, where: str) -> None:
        """Add one; `where` is one of `WHERES`."""
        with self._lock:
            self._counts[where] += 1

    def totals(self) -> Mapping[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)
