"""The log records of a process: stamped, counted by level, and the errors among them by fingerprint.

A record is counted when it is made, that is when its logger is enabled for its level: what handlers and
filters do with it afterwards differs between environments, the number of errors should not.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final

from rolloutobs import semconv
from rolloutobs.telemetry import export, log_records
from rolloutobs.telemetry.cells import CounterFamily
from rolloutobs.telemetry.error_counts import errors_of, exception_of, record_exception
from rolloutobs.telemetry.export import FLUSH_SECONDS
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider

    from rolloutobs.telemetry.export_logs import Sender

__all__ = ["LEVELS", "count", "disable", "enable", "failed", "flush", "record_exception"]

LEVELS: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}
OTHER: Final = "other"
"""A level of the app's own."""
FROM_ZERO: Final = ("warning", "error", "critical")
"""Exposed at 0 from the start: else the first error of a version is no increase to Prometheus."""


class _Counting:
    """Counts each record, and the errors among them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._records: CounterFamily = hub.store.counter(
            semconv.LOG_RECORDS_TOTAL,
            "Log records of enabled loggers, whether or not a handler writes them.",
            (semconv.LABEL_LEVEL,),
        )
        for level in FROM_ZERO:
            self._records.cell(level)

    def observe(self, record: logging.LogRecord) -> str:
        """Count `record`; return the fingerprint if it is an error."""
        if record.levelno < logging.ERROR:
            return self.count(record.levelno, record.name, record.msg, None)
        # structlog keeps it in the event that it hands over as the message.
        told = record.exc_info or (record.msg.get("exc_info") if isinstance(record.msg, dict) else None)
        return self.count(record.levelno, record.name, record.msg, exception_of(told))

    def count(self, level: int, logger: str, template: object, error: BaseException | None) -> str:
        self._records.cell(LEVELS.get(level, OTHER)).inc()
        if level < logging.ERROR:
            return ""
        return errors_of(self.hub).message(logger, template, error)

    def failed(self, error: Exception) -> None:
        self.hub.failures.record(Where.LOGS, error)


_counting: _Counting | None = None


def enable(hub: Hub) -> None:
    """Stamp and count every log record of this process; called again for another app, it changes nothing.

    ``log_records_total{level}`` and ``app_errors_total{fingerprint,type}`` belong to the process: every app's
    ``/metrics`` shows them. Records of our own loggers are stamped, and not counted. Where log records are to
    be exported and no logger provider is set, one is set here.
    """
    global _counting
    if _counting is None or _counting.hub.store is not hub.store:
        _counting = _Counting(hub)
    log_records.observe_with(_counting.observe, _counting.failed)
    if hub.settings.export_logs and _Sending.sender is None:
        _send(hub)
    if _stamp_exported not in hub.before_collect:
        hub.before_collect.append(_stamp_exported)
    _stamp_exported()


def disable() -> None:
    """Undo `enable`, for tests; a logger provider that it has set remains set."""
    global _counting
    _counting = None
    log_records.uninstall()
    if _Sending.sender is not None:
        _Sending.sender.stop()
    _Sending.sender = _Sending.provider = None


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Send what is queued, for at most `seconds`; does nothing where nothing is sent."""
    if _Sending.provider is not None:
        export.flush(_Sending.provider, seconds)


class _Sending:
    """What goes out over OTLP."""

    sender: Sender | None = None
    provider: LoggerProvider | None = None


def _send(hub: Hub) -> None:
    # Imported only where it is used: it is most of the SDK for log records.
    from rolloutobs.telemetry.export_logs import Sender, set_exporting_logger_provider

    provider = set_exporting_logger_provider(hub.settings, hub.failures)
    if provider is not None:
        hub.flushed.append(provider)
        _Sending.provider = provider
        _Sending.sender = Sender(provider, hub.failures)
        _Sending.sender.start()


def _stamp_exported() -> None:
    """Stamp what others send as well; they may have set their provider later than we were enabled."""
    if "opentelemetry.sdk._logs" in sys.modules:
        from opentelemetry._logs import get_logger_provider

        from rolloutobs.telemetry.export_logs import stamp_logs_of

        stamp_logs_of(get_logger_provider())


def count(level: int, logger: str, template: object, error: BaseException | None) -> str:
    """Count a record that does not go through `logging`; return the fingerprint if it is an error.

    Does nothing where `enable` was not called; never raises.
    """
    counting = _counting
    if counting is None or log_records.is_ours(logger):
        return ""
    try:
        return counting.count(level, logger, template, error)
    except Exception as failure:
        failed(failure)
        return ""


def failed(error: Exception) -> None:
    """Count a failure of ours where records are counted; elsewhere there is nobody to tell."""
    if _counting is not None:
        _counting.failed(error)
