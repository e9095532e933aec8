"""How long a body may take, for a fraction of what a timer for each one costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

__all__ = ["Deadlines"]


class Deadlines:
    """Tasks that read a body, and when they have begun; whoever sweeps cancels those that are late.

    A context manager around the reading; it raises ``TimeoutError`` in a task that was late.
    ``asyncio.timeout`` does the same for 5 us per body, which is a tenth of what a whole one takes.

    Args:
        seconds: how long a body may take; up to one sweep longer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many bodies are being read."""
        return len(self._began)

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._began[task] = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        if self._began.pop(task, None) is None and task in self._late:
            self._late.discard(task)
            if kind is asyncio.CancelledError and task.uncancel() == 0:
                raise TimeoutError

    def sweep(self) -> None:
        """Cancel the reading of what is late."""
        latest = time.monotonic() - self._seconds
        for task, began in tuple(self._began.items()):
            if began < latest:
                del self._began[task]
                self._late.add(task)
                task.cancel()
