"""SIGTERM waits until what was counted has been read once more, for a bounded time.

Where counts are kept in a folder the successor goes on with them; without one, this is what is not lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from types import FrameType
from typing import Any, Final

from rum_collector.upkeep import Upkeep

__all__ = ["LastScrape"]

_LOOK_SECONDS: Final = 0.2

_logger = logging.getLogger("rum_collector")


class LastScrape:
    """Stands before the server's own handler of SIGTERM; a second signal goes straight through.

    Args:
        upkeep: knows what was scraped.
        seconds: how long it waits at most.
    """

    def __init__(self, upkeep: Upkeep, seconds: float) -> None:
        self._upkeep = upkeep
        self._seconds = seconds
        self._before: Any = None
        self._asked_at = 0.0
        self._deadline = 0.0

    def install(self) -> None:
        """Take the place of the handler that is there; in the main thread of a running loop."""
        self._loop = asyncio.get_running_loop()
        self._before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked_at or not self._upkeep.has_news():
            self._pass_on()
            return
        self._asked_at, self._deadline = time.time(), time.monotonic() + self._seconds
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        is_read = not self._upkeep.has_news() or self._upkeep.scraped_at() >= self._asked_at
        if is_read or time.monotonic() >= self._deadline:
            if not is_read:
                _logger.warning("ends without a last scrape, after %g seconds", self._seconds)
            self._pass_on()
            return
        self._loop.call_later(_LOOK_SECONDS, self._look)

    def _pass_on(self) -> None:
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
