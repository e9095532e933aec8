"""The fields of log records, for structlog; nothing is imported from it."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Final

from rolloutobs.telemetry import logs
from rolloutobs.telemetry.error_counts import exception_of
from rolloutobs.telemetry.log_records import FINGERPRINT_FIELD, stamp_fields
from rolloutobs.telemetry.log_values import stamps

__all__ = ["structlog_processor"]

EventDict = MutableMapping[str, Any]
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "err": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
STRUCTLOG: Final = "structlog"
"""Stands for the logger of events that name none."""


def structlog_processor(logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
    """Add the fields of what runs now to `event_dict`, those with a value; what it has already stays.

    ``service_name``, ``service_version``, ``track``, ``trace_id``, ``span_id``, ``caller_service``,
    ``caller_version``, and ``error_fingerprint`` of errors. Put it before the renderer and after whatever
    drops events, but before what formats ``exc_info``::

        structlog.configure(processors=[merge_contextvars, structlog_processor, ..., JSONRenderer()])

    An event is counted here where structlog writes it itself; where it hands it to `logging`, it is counted
    there. In the ``foreign_pre_chain`` of a ``ProcessorFormatter`` it adds what the record carries. Never
    raises.

    Args:
        logger: that structlog has wrapped.
        method_name: name of the method that was called: the level.
        event_dict: the event; changed in place.

    Returns:
        `event_dict`.
    """
    try:
        record = event_dict.get("_record")
        if isinstance(record, logging.LogRecord):
            fields = stamps(record)
        else:
            fields = stamp_fields()
            if not isinstance(logger, logging.Logger):
                fields[FINGERPRINT_FIELD] = _count(logger, method_name, event_dict)
        for name, value in fields.items():
            if value:
                event_dict.setdefault(name, value)
    except Exception as error:
        logs.failed(error)
    return event_dict


def _count(logger: Any, method_name: str, event_dict: EventDict) -> str:
    level = _LEVELS.get(method_name, logging.NOTSET)
    name = event_dict.get("logger") or getattr(logger, "name", None) or STRUCTLOG
    event = event_dict.get("event", "")
    error = exception_of(event_dict.get("exc_info", method_name == "exception"))
    return logs.count(level, str(name), event, error)
