"""``app_errors_total``: which errors a version has, and how often each.

An error is an exception that nobody handled, or a log record of level error or above. Usually the two are
one: a framework logs the exception that it is about to answer with a 500, or a server logs the one that came
through. An exception is therefore marked when it is counted, and not counted again until it is raised anew.
"""

from __future__ import annotations

import logging
import sys
import weakref
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Span, get_current_span

from rolloutobs import semconv
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.store import Store

if TYPE_CHECKING:
    from rolloutobs.telemetry.fingerprints import Error

__all__ = ["ErrorCounts", "errors_of", "exception_of", "record_exception"]

_logger = logging.getLogger("rolloutobs.errors")
MAX_FINGERPRINTS: Final = 200
"""Different errors per process; what comes after is one series, ``_other``. Each is a series per version."""
_SLACK: Final = 32
"""Threads that find the last place free at once, and ``_other`` itself."""


class ErrorCounts:
    """Counts errors by fingerprint, and writes down once what each one says."""

    def __init__(self, store: Store, limit: int = MAX_FINGERPRINTS) -> None:
        self._family = store.counter(
            semconv.APP_ERRORS_TOTAL,
            "Unhandled exceptions and log records of level error or above, by kind of error.",
            (semconv.LABEL_FINGERPRINT, semconv.LABEL_TYPE),
            max_sets=limit + _SLACK,
        )
        self._limit = limit
        self._seen: dict[str, object] = {}

    def exception(self, error: BaseException, span: Span | None = None) -> str:
        """Count an exception that nobody handled, once; return its fingerprint.

        Args:
            error: what is no `Exception` (a cancelled task, an exit) is no error: the empty string.
            span: gets the fingerprint; ``None``: the current one.
        """
        if not _is_error(error):
            return ""
        # With the first error, here and below: half of what the start would cost.
        from rolloutobs.telemetry.error_marks import counted, mark
        from rolloutobs.telemetry.fingerprints import of_exception

        span = get_current_span() if span is None else span
        trace = span.get_span_context().trace_id
        fingerprint = counted(error, trace, by_boundary=True)
        if not fingerprint:
            fingerprint = self._count(of_exception(error))
            mark(error, fingerprint, trace, by_boundary=True)
        _put_on(span, fingerprint)
        return fingerprint

    def message(self, logger: str, template: object, error: BaseException | None) -> str:
        """Count an error message, once with the exception that it tells of; return its fingerprint.

        Args:
            logger: its name.
            template: the message before its arguments are put in.
            error: the exception that is logged along.
        """
        from rolloutobs.telemetry.error_marks import counted, mark
        from rolloutobs.telemetry.fingerprints import of_message

        if error is None and isinstance(template, BaseException):
            error = template
        span = get_current_span()
        trace = span.get_span_context().trace_id
        fingerprint = "" if error is None else counted(error, trace, by_boundary=False)
        if not fingerprint:
            fingerprint = self._count(of_message(logger, template, error))
            if error is not None:
                mark(error, fingerprint, trace, by_boundary=False)
        _put_on(span, fingerprint)
        return fingerprint

    def _count(self, error: Error) -> str:
        fingerprint = error.fingerprint
        if fingerprint not in self._seen:
            if len(self._seen) >= self._limit:
                self._family.cell(semconv.FINGERPRINT_OTHER, semconv.FINGERPRINT_OTHER).inc()
                return fingerprint
            ours = object()
            # Of two threads that come at once, one.
            if self._seen.setdefault(fingerprint, ours) is ours:
                _say(error)
        self._family.cell(fingerprint, error.type).inc()
        return fingerprint


def _say(error: Error) -> None:
    # Of our own logger, so that it is neither counted nor an error itself.
    _logger.warning(
        "first %s in this process, fingerprint %s, at %s: %s",
        error.type,
        error.fingerprint,
        error.place or "an unknown place",
        error.sample,
        extra={"error_fingerprint": error.fingerprint, "error_type": error.type},
    )


def _put_on(span: Span, fingerprint: str) -> None:
    is_held = getattr(getattr(span, "_lock", None), "locked", None)
    if is_held is not None and is_held():
        # Perhaps by this thread: a finalizer that logs runs in the middle of anything, and the lock that the
        # SDK has for a span is not reentrant. The log record has the fingerprint.
        return
    if span.is_recording():
        span.set_attribute(semconv.ATTR_ERROR_FINGERPRINT, fingerprint)


def _is_error(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_error, error.exceptions))
    return isinstance(error, Exception)


_by_store: weakref.WeakKeyDictionary[Store, ErrorCounts] = weakref.WeakKeyDictionary()


def errors_of(hub: Hub) -> ErrorCounts:
    """Return the counts of the process of `hub`, made on first use."""
    found = _by_store.get(hub.store)
    return _by_store.setdefault(hub.store, ErrorCounts(hub.store)) if found is None else found


def exception_of(exc_info: object) -> BaseException | None:
    """Return the exception of an ``exc_info``: one itself, a tuple, or true for the one handled now."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) > 1 and isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def record_exception(error: BaseException, hub: Hub, span: Span | None = None) -> str:
    """Count an exception that came out of a request or an operation; never raises.

    It gets a fingerprint in ``app_errors_total``, unless it was logged as an error on its way; the log record
    that a server makes of it afterwards is not counted again. Cancelled tasks, exits and interrupts are no
    errors. Works whether or not log records are counted.

    Args:
        error: what was raised, with its traceback.
        hub: of the app.
        span: of the request, whether or not it is recorded; ``None``: the current one.

    Returns:
        the fingerprint; the empty string if `error` is no error, or could not be counted.
    """
    try:
        return errors_of(hub).exception(error, span)
    except Exception as failure:
        hub.failures.record(Where.LOGS, failure)
        return ""
