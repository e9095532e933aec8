"""Log records on their way out over OTLP, where that is configured and nobody else does it.

The record of every logger is sent after its handlers have had it, with no handler of ours in between: one at
the root would make the app's ``logging.basicConfig()`` do nothing, would be lost with its next
``dictConfig()``, and would not see loggers that do not propagate. Filters of loggers apply, levels and
filters of handlers do not.

Everything about the exporter itself (endpoint, headers, compression, batch sizes) is left to the ``OTEL_*``
variables that OpenTelemetry defines.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider, set_logger_provider
from opentelemetry.context import get_current
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)

from rolloutobs import semconv
from rolloutobs.errors import MissingExtraError
from rolloutobs.settings import Settings
from rolloutobs.telemetry.callers import caller_of
from rolloutobs.telemetry.current import current
from rolloutobs.telemetry.export import FLUSH_SECONDS, resource_of
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.log_records import FINGERPRINT_FIELD
from rolloutobs.telemetry.log_values import exception, extras, message, stamps, text

__all__ = [
    "CountedLogBatches",
    "CountedLogExporter",
    "Sender",
    "StampLogProcessor",
    "set_exporting_logger_provider",
    "stamp_logs_of",
]

_logger = logging.getLogger("rolloutobs")
_HTTP = "opentelemetry.exporter.otlp.proto.http._log_exporter"
_GRPC = "opentelemetry.exporter.otlp.proto.grpc._log_exporter"
# Source: OpenTelemetry logs data model, "Displaying severity".
_SEVERITIES: Final = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.DEBUG, SeverityNumber.DEBUG),
    (1, SeverityNumber.TRACE),
)
_SEVERITY_TEXTS: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}
# Source: OpenTelemetry semantic conventions, exceptions in logs.
_EXCEPTION: Final = ("exception.type", "exception.message", "exception.stacktrace")
_here = threading.local()
"""``busy`` while this thread sends or exports: what is logged meanwhile is about that, and not sent."""


class CountedLogExporter(LogRecordExporter):
    """Counts the batches that `inner` could not send; what it logs meanwhile is not sent in turn."""

    def __init__(self, inner: LogRecordExporter, failures: Failures) -> None:
        self._inner = inner
        self._failures = failures

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export with the inner exporter."""
        _here.busy = True
        try:
            result = self._inner.export(batch)
            if result is not LogRecordExportResult.SUCCESS:
                self._failures.record(Where.EXPORT, f"{len(batch)} log records were not accepted")
            return result
        except Exception as error:
            self._failures.record(Where.EXPORT, error)
            return LogRecordExportResult.FAILURE
        finally:
            _here.busy = False

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


class CountedLogBatches(BatchLogRecordProcessor):
    """The SDK's batches; counts every record that falls out of a full queue, and its shut-down ends."""

    def __init__(self, exporter: LogRecordExporter, failures: Failures) -> None:
        super().__init__(exporter)
        self._failures = failures

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue a record."""
        batch = self._batch_processor
        if len(batch._queue) >= batch._max_queue_size:
            self._failures.record(Where.EXPORT, "the queue is full, the oldest log record was dropped")
        super().on_emit(log_record)

    def shutdown(self) -> None:
        """Send what is queued, for a few seconds at most."""
        self._batch_processor.shutdown(timeout_millis=int(FLUSH_SECONDS * 1000))


class StampLogProcessor(LogRecordProcessor):
    """Puts ``app.version``, ``rolloutobs.track`` and the caller on every log record, whoever emits it."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Stamp a record with the identity of the request that it belongs to, else of the process."""
        record = log_record.log_record
        attributes: Any = record.attributes
        context = record.context
        stamp = current(context)
        if stamp is not None:
            for name, value in stamp.attributes.items():
                attributes[name] = value
        caller = caller_of(context)
        if caller is not None:
            for name, value in caller.attributes.items():
                attributes[name] = value

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing to do."""
        return True


# By identity: not every provider can be hashed (Logfire's is a dataclass that compares).
_stamped: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def stamp_logs_of(provider: object) -> None:
    """Add a `StampLogProcessor` to `provider`, once; a provider that takes no processors is left as it is."""
    add = getattr(provider, "add_log_record_processor", None)
    if not callable(add) or id(provider) in _stamped:
        return
    _stamped[id(provider)] = provider
    add(StampLogProcessor())
    multi = getattr(provider, "_multi_log_record_processor", None)
    processors = getattr(multi, "_log_record_processors", None)
    if multi is not None and isinstance(processors, tuple):
        # First, so that a processor that exports at once has the stamp too.
        multi._log_record_processors = (*processors[-1:], *processors[:-1])


def set_exporting_logger_provider(settings: Settings, failures: Failures) -> LoggerProvider | None:
    """Set a global logger provider that exports over OTLP, and return it; ``None`` where that is not wanted.

    It is not wanted when a provider is set already, or no exporter is configured. An exporter that is not
    installed is logged with its ``pip install`` line.
    """
    if not settings.export_logs or is_set():
        return None
    try:
        exporter = _exporter(settings)
    except MissingExtraError as error:
        failures.record(Where.EXPORT, error)
        return None
    provider = LoggerProvider(resource=resource_of(settings), shutdown_on_exit=False)
    stamp_logs_of(provider)
    provider.add_log_record_processor(CountedLogBatches(CountedLogExporter(exporter, failures), failures))
    # Here and not before: exit functions that are registered later run earlier, and what they log is sent.
    atexit.register(provider.shutdown)
    set_logger_provider(provider)
    return provider


def is_set() -> bool:
    """Return whether there is a global logger provider."""
    # The API does not export the class of its stand-in.
    return type(get_logger_provider()).__name__ != "ProxyLoggerProvider"


def _exporter(settings: Settings) -> LogRecordExporter:
    module = _GRPC if settings.otlp_logs_grpc else _HTTP
    try:
        exporter: LogRecordExporter = import_module(module).OTLPLogExporter()
    except ModuleNotFoundError as error:
        if settings.otlp_logs_grpc:
            _logger.warning("pip install opentelemetry-exporter-otlp-proto-grpc, or use OTLP over HTTP")
        raise MissingExtraError("otlp", "sending log records over OTLP", error.name or module) from error
    return exporter


class Sender:
    """Sends the records of `logging` to a provider, from `start` to `stop`."""

    def __init__(self, provider: LoggerProvider, failures: Failures) -> None:
        self._provider = provider
        self._failures = failures
        self._active = False
        self._ours: Callable[..., None] | None = None
        self._original: Callable[..., None] = logging.Logger.callHandlers

    def start(self) -> None:
        """Send every record once its handlers have had it."""
        self._active = True
        if self._ours is None:
            self._original = logging.Logger.callHandlers
            self._ours = _calling(self._original, self._send)
            logging.Logger.callHandlers = self._ours  # type: ignore[method-assign]

    def stop(self) -> None:
        """Send no more."""
        self._active = False
        if self._ours is not None and logging.Logger.callHandlers is self._ours:
            logging.Logger.callHandlers = self._original  # type: ignore[method-assign]
            self._ours = None

    def _send(self, record: logging.LogRecord) -> None:
        if not self._active or getattr(_here, "busy", False) or _sent_by_others():
            return
        _here.busy = True
        try:
            self._provider.get_logger(text(record.name)).emit(_translated(record))
        except Exception as error:
            self._failures.record(Where.EXPORT, error)
        finally:
            _here.busy = False


def _calling(original: Callable[..., None], send: Callable[[logging.LogRecord], None]) -> Callable[..., None]:
    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        try:
            original(self, record)
        finally:
            send(record)

    # Handlers that look for whoever has logged (loguru's recipe) skip the frames of this file.
    code = call_handlers.__code__.replace(co_filename=logging.Logger.handle.__code__.co_filename)
    call_handlers.__code__ = code
    return call_handlers


def _sent_by_others() -> bool:
    """Return whether OpenTelemetry's own handler is at the root, by now; it sends everything already."""
    return any(type(handler).__module__.startswith("opentelemetry.") for handler in logging.root.handlers)


def _translated(record: logging.LogRecord) -> LogRecord:
    level = record.levelno
    severity = next((number for least, number in _SEVERITIES if level >= least), SeverityNumber.UNSPECIFIED)
    attributes = {name: value for name, value in extras(record).items() if value is not None}
    fingerprint = stamps(record).get(FINGERPRINT_FIELD)
    if fingerprint:
        attributes[semconv.ATTR_ERROR_FINGERPRINT] = fingerprint
    raised = exception(record)
    if raised is not None:
        attributes.update(zip(_EXCEPTION, raised, strict=True))
    return LogRecord(
        timestamp=int(record.created * 1e9),
        context=get_current(),
        severity_text=_SEVERITY_TEXTS.get(record.levelname, text(record.levelname)),
        severity_number=severity,
        body=message(record),
        attributes=attributes,
    )
