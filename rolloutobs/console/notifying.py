"""Posts decisions and overrides to where a workload's entry says, from a thread of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

from rolloutobs.analysis._http import Http, Retries, host_of
from rolloutobs.analysis.model import Decision
from rolloutobs.console import wire
from rolloutobs.console.failures import Failures
from rolloutobs.console.model import Happening, Status
from rolloutobs.console.standing import standing
from rolloutobs.errors import SourceError

__all__ = ["Notifier"]

_MOST_WAITING: Final = 200
_SECONDS: Final = 20.0
"""For one notification, all attempts together."""
_ATTEMPTS: Final = 4
_ENDING_SECONDS: Final = 3.0

logger: Final = logging.getLogger("rolloutobs.serve")


class Notifier:
    """Takes what happens and posts what a person wants to know; what cannot be posted is told and counted.

    Args:
        failures: counts.
        clock: Unix time.
    """

    def __init__(self, failures: Failures, clock: Callable[[], float]) -> None:
        self._failures, self._clock = failures, clock
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="rolloutobs-notifier", daemon=True)

    def start(self) -> None:
        """Begin to post."""
        self._thread.start()

    def close(self) -> None:
        """Post what is left, for a few seconds."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_ENDING_SECONDS)

    def __call__(self, status: Status, happening: Happening) -> None:
        """Take in what has happened."""
        url = status.workload.notify
        if not url or happening.kind not in ("verdict", "override"):
            return
        found = standing(status, self._clock())
        if happening.kind == "verdict" and found.decision is Decision.HOLD and not found.is_page:
            return
        try:
            self._waiting.put_nowait((url, json.dumps(self._body(status, happening))))
        except queue.Full:
            self._failures.count("notify")

    def _body(self, status: Status, happening: Happening) -> dict[str, Any]:
        plain = wire.verdict(status, self._clock(), None)
        workload, owner = status.workload, status.rails.owner
        by = f", by {happening.by}" if happening.by else ""
        text = f"{owner + ': ' if owner else ''}{workload.name} in {workload.namespace}: {happening.text}{by}"
        left_out = ("log", "evidence")
        return {"event": happening.kind, "text": text} | {k: v for k, v in plain.items() if k not in left_out}

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                asyncio.run(self._post(*item))
            except Exception:
                # A proxy in the environment that is none, for one; the next may be posted all the same.
                self._failures.count("notify")
                logger.exception("%s was not notified", host_of(item[0]))

    async def _post(self, url: str, body: str) -> None:
        retries = Retries(_ATTEMPTS, first_seconds=1.0)
        async with Http(_SECONDS, trust_env=True, retries=retries) as http:
            try:
                await http.post(url, body)
            except SourceError as error:
                self._failures.count("notify")
                logger.error("%s was not notified: %s", host_of(url), error)
