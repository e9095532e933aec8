"""The guard: telemetry that fails is counted and logged, and never reaches the app."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum

from rolloutobs import semconv
from rolloutobs.telemetry.cells import CounterFamily
from rolloutobs.telemetry.store import Store

__all__ = ["Failures", "Where"]

_logger = logging.getLogger("rolloutobs")
LOG_INTERVAL_SECONDS = 60.0


class Where(StrEnum):
    """The part that failed: the label ``where`` of ``rolloutobs_internal_errors_total``."""

    REQUEST = "request"
    """Recording one request: its metrics, its span or its ``Server-Timing``."""
    START = "start"
    """Starting a part of the telemetry, which is then missing; the rest and the app go on."""
    METRICS = "metrics"
    """Answering ``/metrics``, for example a collector of the app that raised."""
    PROPAGATION = "propagation"
    """Writing who calls into the headers of a call, or judging what a caller says."""
    EXPORT = "export"
    """Sending spans, metrics or log records; counted per batch that was lost."""
    TRACK = "track"
    """Reading the pod's labels: a file that cannot be read, or a value that is no track."""
    OPERATION = "operation"
    """Recording one operation: its metrics, its span, or reading who asked for it."""
    PUSH = "push"
    """Pushing metrics to a Pushgateway; counted per push that was lost."""
    SERVE = "serve"
    """Serving metrics on a port of their own."""
    LOGS = "logs"
    """Stamping or counting a log record, or taking the fingerprint of an error."""
    STORE = "store"
    """The folder that workers share: it cannot be written, or another worker's file in it is damaged."""


class Failures:
    """Counts failures of telemetry by place, and logs at most one a minute with its traceback."""

    def __init__(self, store: Store | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.family: CounterFamily = (store or Store()).counter(
            semconv.INTERNAL_ERRORS_TOTAL,
            "Failures of telemetry itself; the app was not affected.",
            (semconv.LABEL_WHERE,),
        )
        # From zero, so that rate() and increase() see the first failure.
        for where in Where:
            self.family.cell(where.value)
        self._clock = clock
        self._silent_until = float("-inf")

    def record(self, where: Where, error: BaseException | str) -> None:
        """Count one failure; never raises."""
        self.family.cell(where.value).inc()
        now = self._clock()
        if now < self._silent_until:
            return
        self._silent_until = now + LOG_INTERVAL_SECONDS
        try:
            _logger.error(
                "telemetry failed (%s): %s; the app is not affected, further failures are counted in %s",
                where.value,
                error,
                semconv.INTERNAL_ERRORS_TOTAL,
                exc_info=error if isinstance(error, BaseException) else None,
            )
        except Exception:  # noqa: S110 - a logging handler that raises must not break a request, and is counted above
            pass
